"""The contract of a backend: its types, and its functions with their signatures.

The functions below are the specification: they have documentation, but no body. A backend is a
package, registered under the entry-point group ``rnn_scratch.backends``, with these modules:

``scratch``  a network of one layer and its training, from `params` to `build`: *Build it*
``cells``    more cells for the table CELLS of ``scratch``: *Gates*
``deep``     several layers, an embedding, dropout and optimizers: *Make it learn well*
``exact``    optimizers that round, so that all frameworks agree bit for bit
``fast``     the same model, optimized by hand: a separate `build`: *Make it fast*
``concise``  the same model on the framework's built-in layers: a separate `build`
``machine``  devices, threads and the conversion of arrays, from `devices` to `array`
``workers``  communication between the processes of a training run, from `join` to `leave`

The lessons about them are in italics. A backend from another package may lack ``fast``, ``concise``
and ``workers``. `rnn-scratch check` compares a backend with this specification.

Sizes: B batch size, T number of time steps, V vocabulary size, L number of layers, H number of
hidden units per layer, N size of a learnable embedding. Tokens are integers from 0 to V-1. A tensor
has the framework's own type; `tensor` and `array` convert from NumPy and back.

Devices have names: "cpu", "cuda", "mps", or the framework's name for another kind, without a
number: the first device of its kind. Functions return tensors on the device of their model.
"""

# mypy: disable-error-code="empty-body"

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .errors import RNNScratchError as RNNScratchError

Tensor = Any  # the framework's tensor type
Arrays = dict[str, np.ndarray]
Params = dict[str, Tensor]
State = tuple[Tensor, ...]
Backend = ModuleType  # a package with the modules above

VARIANTS = ("scratch", "fast", "concise")  # variants of the model; the first is the default
VERBOSE = "RNN_SCRATCH_VERBOSE"  # environment variable: show messages of the frameworks


class Cell(NamedTuple):
    """The declaration of a cell; its equations are in ``scratch`` or ``cells``.

    Attributes:
        gates: Names of the gates; gate g has the parameters W_xg, W_hg and b_g.
        products: Number of gates that each sequential matrix product of a state computes.
        num_states: Number of tensors (B, H) in the state; the first is the output.
    """

    gates: tuple[str, ...]
    products: tuple[int, ...]
    num_states: int = 1


CELLS = {
    "rnn": Cell(gates=("h",), products=(1,)),
    "gru": Cell(gates=("z", "r", "h"), products=(2, 1)),
    "gru-after": Cell(gates=("z", "r", "h"), products=(3,)),
    "lstm": Cell(gates=("i", "f", "o", "c"), products=(4,), num_states=2),
    "rnn-relu": Cell(gates=("h",), products=(1,)),
}


class Options(NamedTuple):
    """The configuration of a model: it determines the equations and the parameters' shapes.

    Attributes:
        vocab_size: Number of tokens, V.
        num_hiddens: Number of hidden units, H.
        cell: Name in CELLS.
        embedding: Size of a learnable embedding, N; 0 for one-hot vectors.
        num_layers: Number of stacked cells, L.
        dropout: Probability of dropping an output of a layer in training.
        dtype: "float32" or "float64".
        device: Name of the device.
    """

    vocab_size: int
    num_hiddens: int
    cell: str = "rnn"
    embedding: int = 0
    num_layers: int = 1
    dropout: float = 0.0
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates of the cell, in the order of their parameters."""
        return CELLS[self.cell].gates

    @property
    def num_states(self) -> int:
        """The number of tensors in the state of all layers."""
        return CELLS[self.cell].num_states * self.num_layers

    @property
    def deep(self) -> bool:
        """Whether the network needs ``deep``: several layers, an embedding or dropout."""
        return self.num_layers > 1 or self.embedding > 0 or self.dropout > 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name, in the order of their random draws."""
        V, H, N = self.vocab_size, self.num_hiddens, self.embedding
        shapes: dict[str, tuple[int, ...]] = {"W_e": (V, N)} if N else {}
        for layer in range(self.num_layers):
            size, suffix = (N or V, "") if layer == 0 else (H, f"_{layer + 1}")
            for gate in self.gates:
                names = f"W_x{gate}{suffix}", f"W_h{gate}{suffix}", f"b_{gate}{suffix}"
                shapes |= zip(names, ((size, H), (H, H), (H,)))
        return shapes | {"W_hq": (H, V), "b_q": (V,)}


class Optimizer(NamedTuple):
    """The declaration of an optimizer; its equations are in ``scratch`` or ``deep``.

    Attributes:
        lr: Default learning rate.
        slots: Names of its state: each slot has one tensor for every parameter.
        corrects: Whether it uses `c_m` or `c_v` of `Update`.
        decays: Whether it has weight decay.
    """

    lr: float
    slots: tuple[str, ...] = ()
    corrects: bool = False
    decays: bool = True


OPTIMIZERS = {  # the first is the default
    "sgd": Optimizer(lr=1.0, decays=False),
    "momentum": Optimizer(lr=0.1, slots=("m",)),
    "adam": Optimizer(lr=0.002, slots=("m", "v"), corrects=True),
}


class Update(NamedTuple):
    """The hyperparameters of one update; lr, c_m and c_v may change from update to update.

    Attributes:
        lr: Learning rate.
        theta: Largest gradient norm; infinity disables clipping.
        optimizer: Name in the backend's OPTIMIZERS.
        weight_decay: Decoupled weight decay: an update subtracts lr times this value times p.
        beta1: Decay rate of the slot m.
        beta2: Decay rate of the slot v.
        epsilon: Adam's ε, outside the square root.
        c_m: Bias correction of m: 1 - beta1**t in update t = 1, 2, ...
        c_v: Bias correction of v: 1 - beta2**t.
    """

    lr: float = 1.0
    theta: float = 1.0
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    c_m: float = 1.0
    c_v: float = 1.0

    def split_static(self) -> tuple["Update", dict[str, float]]:
        """Split into constants, which a compiler may build in, and numbers that change.

        Returns:
            The same record with 1.0 in place of the changing numbers, and these by name.
        """
        numbers = {"lr": self.lr, "c_m": self.c_m, "c_v": self.c_v}
        return self._replace(lr=1.0, c_m=1.0, c_v=1.0), numbers


class Batch(NamedTuple):
    """A minibatch.

    Attributes:
        X: Tokens (B, T): an integer array or tensor.
        Y: Targets (B, T): the tokens that follow.
        masks: Dropout masks (T, L, B, H) with values 0 or 1 / (1 - dropout); None without dropout.
    """

    X: Any
    Y: Any
    masks: Any = None

    @property
    def extras(self) -> dict[str, Any]:
        """Further keyword arguments of `forward`: the dropout masks, if any."""
        return {} if self.masks is None else {"masks": self.masks}

    @property
    def step_extras(self) -> list[dict[str, Any]]:
        """The `extras` of each time step, keyword arguments of a step."""
        if self.masks is None:
            return [{}] * self.X.shape[1]
        return [{"masks": step_masks} for step_masks in self.masks]

    def map(self, function: Callable[..., Any], *arguments: Any) -> "Batch":
        """Apply `function` with these further arguments to all arrays of the minibatch."""
        return Batch(*(None if x is None else function(x, *arguments) for x in self))


class WorkerGroup(NamedTuple):
    """The processes of a data-parallel training run, as one of them sees the group.

    Attributes:
        rank: Index of this worker, from 0.
        addresses: HOST:PORT of all workers by rank, for the communication library.
    """

    rank: int
    addresses: tuple[str, ...]

    @property
    def host(self) -> str:
        """This worker's host, on which its communication library listens."""
        return self.addresses[self.rank].rpartition(":")[0]


@dataclass(frozen=True, eq=False)
class Model:
    """The parameters of a network, and the functions bound to them: a ``RNNModelScratch``.

    Attributes:
        params: Parameters by name. An optimizer replaces or modifies the tensors in this dict, and
            `forward` reads them at every call.
        options: Configuration of the model.
        forward: Function of tokens, state and, with dropout, masks. If the framework differentiates
            with respect to arguments, as JAX does, it also has a keyword `params`.
        state: Function of the batch size that returns the initial state.
        to_arrays: Function that copies parameters, their gradients or a slot to NumPy arrays in the
            contract's shapes, independent of their layout in the model.
        backward: Hand-written backward pass, a function of a minibatch and a state, or None.
        slots: Optimizer state: for each slot a dict like `params`, created by the core.
    """

    params: Params
    options: Options
    forward: Callable[..., tuple[Tensor, State]]
    state: Callable[[int], State]
    to_arrays: Callable[[Params], Arrays]
    backward: Callable[[Batch, State], tuple[Tensor, Params, State]] | None = None
    slots: dict[str, Params] = field(default_factory=dict)


def bind(
    params: Params,
    options: Options,
    forward: Callable,
    state: Callable,
    to_arrays: Callable,
    backward: Callable | None = None,
) -> Model:
    """Return a model of functions that take `params` and `options` by name.

    Args:
        params: Parameters by name.
        options: Configuration of the model.
        forward: Function of tokens, state, params and options.
        state: Function of the batch size and options.
        to_arrays: Function that copies parameters to NumPy arrays.
        backward: Hand-written backward pass, if there is one: a function of a minibatch, a state,
            params and options that returns the results of `gradients`.
    """
    forward = partial(forward, params=params, options=options)
    backward = backward and partial(backward, params=params, options=options)
    return Model(params, options, forward, partial(state, options=options), to_arrays, backward)


# The functions of ``scratch``, in order.


def params(arrays: Arrays, options: Options) -> Params:
    """Create trainable tensors from initial values.

    Args:
        arrays: Initial values with the names and shapes of ``options.shapes()``: for each gate g of
            the cell W_xg (V, H), W_hg (H, H) and b_g (H,); then W_hq (H, V) and b_q (V,). With a
            learnable embedding, W_e (V, N) comes first, and W_xg is (N, H). The parameters of
            further layers come before W_hq and have a number, such as W_xg_2 (H, H).
        options: Configuration of the model.

    Returns:
        Tensors of ``options.dtype`` on ``options.device`` that share no memory with `arrays`.
    """


def state(batch_size: int, options: Options) -> State:
    """Return the initial state: zeros (B, H) for each state tensor of each layer."""


def encode(tokens: Tensor, params: Params) -> Tensor:
    """One-hot encode tokens (...) to (..., V), in the dtype of the parameters."""


def step(x: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """Compute one time step.

    The cell computes the next state, for ``rnn`` h_t = tanh(x W_xh + h_{t-1} W_hh + b_h), and the
    output layer computes the logits, h_t W_hq + b_q.

    Args:
        x: One-hot vectors (B, V).
        state: Current state: tensors (B, H).
        params: Parameters by name.
        options: Configuration of the model.

    Returns:
        Logits (B, V), and the next state.
    """


def forward(tokens: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """Run all time steps: a loop over ``step(encode(...))``, or an equal computation.

    Args:
        tokens: Integers (B, T).
        state: State before the first time step.
        params: Parameters by name.
        options: Configuration of the model.

    Returns:
        Time-major logits (T*B, V), and the last state.
    """


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats.

    Args:
        logits: Time-major logits (T*B, V).
        targets: Integers (B, T), to be transposed before they are flattened.
    """


def detach(state: State) -> State:
    """Return the state detached from its gradient history."""


def gradients(model: Model, batch: Batch, state: State) -> tuple[Tensor, Params, State]:
    """Compute the loss of a minibatch and its gradients.

    Args:
        model: Model; its `forward` gets the tokens, the state and the `extras` of the minibatch.
        batch: Minibatch of tensors.
        state: State before the minibatch.

    Returns:
        The mean loss in nats, the gradients, and the detached state after the minibatch. Gradients
        are dense, have the shapes of their parameters, and are in the order of ``model.params``.
    """


def clip(grads: Params, theta: float) -> tuple[Params, Tensor]:
    """Scale gradients by min(1, theta/norm).

    Args:
        grads: Gradients by name.
        theta: Largest norm; infinity leaves the gradients unchanged.

    Returns:
        The scaled gradients, and the norm of all gradients together before scaling.
    """


def sgd(model: Model, grads: Params, update: Update) -> None:
    """Apply one gradient-descent step to ``model.params``: p <- p - lr g.

    The other optimizers, in ``deep``, are functions of the same arguments.
    """


def train_minibatch(
    model: Model, batch: Batch, state: State, update: Update
) -> tuple[Tensor, State]:
    """Update the parameters on one minibatch.

    Computes the gradients, clips them and applies the optimizer. A framework that compiles may
    compile this function as a whole.

    Args:
        model: Model to train; its `params` and `slots` are updated.
        batch: Minibatch of tensors.
        state: State before the minibatch.
        update: Hyperparameters of the update.

    Returns:
        The mean loss in nats, a scalar tensor, and the detached state after the minibatch.
    """


def train_epoch(
    model: Model,
    minibatches: Iterable[Batch],
    updates: Iterable[Update],
    carry: bool,
    state: State | None = None,
) -> tuple[list[float], State]:
    """Train on all minibatches of an epoch, or on the rest of it.

    Args:
        model: Model to train.
        minibatches: Minibatches of arrays.
        updates: Hyperparameters for each minibatch.
        carry: Whether to carry the state from minibatch to minibatch (sequential partitioning)
            instead of starting each with zeros (random sampling).
        state: State before the first minibatch; None for zeros.

    Returns:
        The mean loss of each minibatch in nats, and the last state, from which another call can
        continue the epoch.
    """


def evaluate(model: Model, minibatches: Iterable[Batch]) -> tuple[float, int]:
    """Evaluate the model on sequential minibatches without training.

    Args:
        model: Model to evaluate.
        minibatches: Minibatches of arrays; the state is carried from the first, which starts with
            zeros, to the last.

    Returns:
        The summed loss in nats, and the number of tokens.
    """


def predict(
    model: Model, prefix: Sequence[int], num_preds: int, choose_token: Callable[[np.ndarray], int]
) -> list[int]:
    """Generate tokens after a prefix.

    Args:
        model: Model that generates.
        prefix: At least one token; it warms up the state.
        num_preds: Number of tokens to generate.
        choose_token: Function that chooses a token from the logits, an array (V,).

    Returns:
        The prefix and the generated tokens.
    """


def build(arrays: Arrays, options: Options) -> Model:
    """Build a model from initial values; ``fast`` and ``concise`` have separate functions.

    A second bias of a built-in layer stays zero and is not trained.

    Args:
        arrays: Initial values, as for `params`.
        options: Configuration of the model.

    Raises:
        RNNScratchError: If the framework has no layer for these options.
    """


# The functions of ``deep``, in order.


def deep_step(
    x: Tensor, state: State, params: Params, options: Options, masks: Tensor | None = None
) -> tuple[Tensor, State]:
    """Compute one time step of all layers.

    With a learnable embedding, the first layer reads x W_e (B, N) instead of x. Each further layer
    reads the h_t of the layer below, and the output layer reads the h_t of the last layer.

    Args:
        x: One-hot vectors (B, V).
        state: Current state of all layers.
        params: Parameters by name.
        options: Configuration of the model.
        masks: Dropout masks (L, B, H), by which the outputs of the layers are multiplied.

    Returns:
        Logits (B, V), and the next state.
    """


def deep_forward(
    tokens: Tensor, state: State, params: Params, options: Options, masks: Tensor | None = None
) -> tuple[Tensor, State]:
    """Run all time steps: `forward` for several layers, an embedding or dropout.

    Args:
        tokens: Integers (B, T).
        state: State before the first time step.
        params: Parameters by name.
        options: Configuration of the model.
        masks: Dropout masks (T, L, B, H) in training with dropout.

    Returns:
        Time-major logits (T*B, V), and the last state.
    """


def momentum(model: Model, grads: Params, update: Update) -> None:
    """Apply SGD with momentum: m <- beta1 m + g, and p <- p - lr (m + decay p)."""


def adam(model: Model, grads: Params, update: Update) -> None:
    """Apply Adam (Kingma and Ba, 2015, Algorithm 1) with decoupled weight decay.

    m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2, and then
    p <- p - lr (m/c_m / (sqrt(v/c_v) + epsilon) + decay p).
    """


# The functions of ``exact``, in order.


def round_to_grid(values: Tensor, grid: float) -> Tensor:
    """Round to the nearest multiple of the grid, ties to even.

    This removes differences in the order of summation, unless a midpoint lies between two values.
    """


def round_to_float32(values: Tensor) -> Tensor:
    """Round to the nearest float32 number, as float64; replace values below 2**-100 by zero.

    The product of two such numbers is exact, so it does not matter whether a processor rounds it
    before adding it.
    """


def make_exact(optimizer: Callable[..., None]) -> Callable[..., None]:
    """Return the optimizer for exact mode: with rounded gradients, parameters and slots."""


# The functions of ``machine``, in order.


def devices(dtype: str) -> list[str]:
    """Return the devices that support this dtype, best first."""


def set_threads(threads: int | None) -> int:
    """Set the number of threads before the first computation; some frameworks fix it then.

    Args:
        threads: Number of threads; None for the framework's default.

    Returns:
        The number in use.

    Raises:
        RNNScratchError: If the framework can no longer change the number, or if this process was
            forked from a process that has computed, in which the framework would wait forever.
    """


def set_eager(eager: bool) -> None:
    """Disable (True) or enable (False) compilation; called before a model is built."""


def set_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 matrix products on NVIDIA GPUs (10 of 23 mantissa bits).

    A backend forbids TF32 initially, so that its results equal the other backends'.
    """


def synchronize(tensors: Sequence[Tensor], device: str) -> None:
    """Block until these tensors, and all other work on the device, are computed.

    An asynchronous framework may only be able to wait for given tensors, so code that stops a clock
    passes its results.
    """


def environment() -> dict[str, str]:
    """Return the versions of the framework (under the backend's name) and of its libraries."""


def peak_memory(device: str) -> int | None:
    """Return the peak memory of tensors on the device in bytes, or None if it is unknown."""


def chain_matmul(h: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply h (N, K) by the matrices in turn; an upper bound on training speed.

    Args:
        h: Left factor.
        matrices: Right factors; a matrix that occurs several times is the same tensor.

    Returns:
        The last product.
    """


def tensor(array: np.ndarray, device: str) -> Tensor:
    """Convert an array to a tensor of the same dtype on the device; they may share memory.

    Integers may get fewer bits, if this is the framework's default.
    """


def array(tensor: Tensor) -> np.ndarray:
    """Convert a tensor to a NumPy array of the same dtype."""


# The functions of ``workers``, in order.


def join(group: WorkerGroup) -> None:
    """Connect to the other workers; return when all have joined.

    It is called once, after `set_threads` and before the first computation. The library listens on
    the group's hosts only: addresses of the loopback interface, unless the user names others.

    Raises:
        RNNScratchError: If a library is missing, or the workers do not find each other.
    """


def all_gather(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gather each tensor from all workers.

    It can be called within `train_minibatch`, compiled or not, and alone. It waits for the other
    workers. If a worker has ended, it may wait forever: the process that started the workers must
    end them.

    Args:
        tensors: Tensors with equal shapes and dtypes in all workers.

    Returns:
        For each tensor, the copies of all workers in rank order, bit for bit.
    """


def all_reduce(mean: Tensor, grads: Params) -> tuple[Tensor, Params]:
    """Average the loss and the gradients over all workers, adding in rank order.

    All workers have the same number of rows of the minibatch, and get the same result.
    """


def train_minibatch_distributed(
    model: Model, batch: Batch, state: State, update: Update
) -> tuple[Tensor, State]:
    """Train like `train_minibatch`, on the workers' averaged gradients.

    Each worker has its rows of the minibatch and of the state.
    """


def leave() -> None:
    """Disconnect from the other workers after training; every worker must call this."""


def _between(first: Callable, last: Callable) -> tuple[Callable[..., Any], ...]:
    # Return these two functions of this module, and all functions between them.
    names = list(globals())
    names = names[names.index(first.__name__) : names.index(last.__name__) + 1]
    return tuple(globals()[name] for name in names)


# The functions of each module, in the order above.
MODULES = {
    "scratch": _between(params, build),
    "cells": (),
    "deep": _between(deep_step, adam),
    "exact": _between(round_to_grid, make_exact),
    "machine": _between(devices, array),
    "workers": _between(join, leave),
    **dict.fromkeys(VARIANTS[1:], (build,)),
}
