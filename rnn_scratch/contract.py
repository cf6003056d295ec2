"""What every backend must have: types, and the functions with their signatures.

The functions below are the specification: they have documentation and no body. A backend is a
package, registered under the entry-point group ``rnn_scratch.backends``, with these modules, each
in a file of its name:

``scratch``  a network of one layer and its training, from `params` to `build`: *Build it*
``cells``    more cells for the table CELLS of ``scratch``: *Gates*
``deep``     several layers, an embedding, dropout, optimizers and evaluation: *Make it learn well*
``fast``     the same model optimized by hand: its own `build`, all else as above: *Make it fast*
``concise``  the same model on the framework's own layers: its own `build`, likewise
``machine``  devices, threads and the conversion of arrays, from `devices` to `array`
``workers``  the framework's engine for training in several processes, from `join` to `engine`

In italics are the lessons about them. ``fast``, ``concise`` and ``workers`` may be absent in a
backend from another package. `rnn-scratch check` holds a backend to this page.

Sizes, here and everywhere: B batch size, T number of time steps, V vocabulary size, L number of
layers, H number of hidden units of each, N size of a learnable embedding. Tokens are integers from
0 to V-1. A tensor is of the framework's own type; `tensor` and `array` convert from NumPy and back.

Devices are named "cpu", "cuda", "mps" or as the framework calls others, without a number: the
first of its kind. Tensors that a function returns are on the device of its model.
"""

# mypy: disable-error-code="empty-body"

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .errors import RNNScratchError as RNNScratchError

Tensor = Any  # the framework's own type
Arrays = dict[str, np.ndarray]
Params = dict[str, Tensor]
State = tuple[Tensor, ...]
Backend = ModuleType  # a package with the modules above

VARIANTS = ("scratch", "fast", "concise")  # of the model, the default first
VERBOSE = "RNN_SCRATCH_VERBOSE"  # environment variable: let frameworks print their own messages


class Cell(NamedTuple):
    """What the core knows of a cell; its mathematics is in ``scratch`` or ``cells``."""

    gates: tuple[str, ...]  # gate g has the parameters W_xg, W_hg and b_g
    products: tuple[int, ...]  # of a state with the weights of this many gates, one after another
    num_states: int = 1  # tensors (B, H) in its state, of which the first is the output


CELLS = {
    "rnn": Cell(gates=("h",), products=(1,)),
    "gru": Cell(gates=("z", "r", "h"), products=(2, 1)),
    "gru-after": Cell(gates=("z", "r", "h"), products=(3,)),
    "lstm": Cell(gates=("i", "f", "o", "c"), products=(4,), num_states=2),
    "rnn-relu": Cell(gates=("h",), products=(1,)),
}


class Options(NamedTuple):
    """What determines the mathematics of a model, and the shapes of its parameters."""

    vocab_size: int  # V
    num_hiddens: int  # H
    cell: str = "rnn"  # a name in CELLS
    embedding: int = 0  # N, the size of a learnable embedding; 0: one-hot vectors
    num_layers: int = 1  # L, cells on top of one another
    dropout: float = 0.0  # the probability that an output of a layer is dropped in training
    dtype: str = "float32"  # or "float64"
    device: str = "cpu"

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates of the cell, in the order of their parameters."""
        return CELLS[self.cell].gates

    @property
    def num_states(self) -> int:
        """The number of tensors in the state: those of the cell, layer after layer."""
        return CELLS[self.cell].num_states * self.num_layers

    @property
    def deep(self) -> bool:
        """Whether the network needs what ``deep`` has: layers, an embedding or dropout."""
        return self.num_layers > 1 or self.embedding > 0 or self.dropout > 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters by name, in the order in which they are drawn."""
        V, H, N = self.vocab_size, self.num_hiddens, self.embedding
        shapes: dict[str, tuple[int, ...]] = {"W_e": (V, N)} if N else {}
        for layer in range(self.num_layers):
            size, end = (N or V, "") if layer == 0 else (H, f"_{layer + 1}")
            for gate in self.gates:
                names = f"W_x{gate}{end}", f"W_h{gate}{end}", f"b_{gate}{end}"
                shapes |= zip(names, ((size, H), (H, H), (H,)))
        return shapes | {"W_hq": (H, V), "b_q": (V,)}


class Optimizer(NamedTuple):
    """What the core knows of an optimizer; its mathematics is in ``scratch`` or ``deep``."""

    lr: float  # the learning rate that `Settings` implies
    slots: tuple[str, ...] = ()  # its state: for each name, a tensor beside every parameter
    needs_rates: bool = False  # whether it uses c_m or c_v of `Rates`
    decays: bool = True  # whether it has weight decay


OPTIMIZERS = {  # the default first
    "sgd": Optimizer(lr=1.0, decays=False),
    "momentum": Optimizer(lr=0.1, slots=("m",)),
    "adam": Optimizer(lr=0.002, slots=("m", "v"), needs_rates=True),
}


class Update(NamedTuple):
    """How gradient descent changes the parameters."""

    theta: float = 1.0  # largest norm of the gradients; infinite: no clipping
    grid: float | None = None  # exact mode: round steps to multiples of it; None: don't
    state_grid: float | None = None  # likewise the state that a minibatch passes on to the next
    optimizer: str = "sgd"  # a name in OPTIMIZERS
    weight_decay: float = 0.0  # by how much of itself, times lr, a parameter becomes smaller
    grad_grid: float | None = None  # exact mode, like `grid`: clipped gradients that are remembered
    beta1: float = 0.9  # how much of the slot m is kept
    beta2: float = 0.999  # how much of the slot v is kept
    epsilon: float = 1e-8  # Adam's ε, outside the root


class Rates(NamedTuple):
    """What changes from update to update t = 1, 2, ...: numbers without axes, arrays or tensors."""

    lr: Any  # the learning rate
    c_m: Any = None  # 1 - beta1**t, by which Adam divides m; None: the optimizer has no use for it
    c_v: Any = None  # 1 - beta2**t, by which it divides v


class Batch(NamedTuple):
    """A minibatch: the tokens X and the targets Y, which are the tokens that follow them."""

    X: Any  # integers (B, T): arrays, or tensors
    Y: Any
    masks: Any = None  # of dropout, (T, L, B, H): 0, or 1 / (1 - dropout); None: no dropout
    rates: Rates | None = None  # of the update, in training

    @property
    def inputs(self) -> Any:
        """What `forward` reads: the tokens X, or with dropout the pair of X and its masks."""
        return self.X if self.masks is None else (self.X, self.masks)

    def map(self, function: Callable[..., Any], *arguments: Any) -> "Batch":
        """Return a batch of what `function` makes of everything in it, with these arguments."""

        def mapped(value: Any) -> Any:
            return None if value is None else function(value, *arguments)

        rates = self.rates and Rates(*map(mapped, self.rates))
        return Batch(mapped(self.X), mapped(self.Y), mapped(self.masks), rates)


class Team(NamedTuple):
    """The processes that train together, each a worker, as one of them sees it."""

    rank: int  # of this worker, from 0
    addresses: tuple[str, ...]  # of all workers by rank, HOST:PORT, for the engine to use

    @property
    def host(self) -> str:
        """This worker's own host, on which its engine listens."""
        return self.addresses[self.rank].rpartition(":")[0]


@dataclass(frozen=True, eq=False)
class Model:
    """The parameters of a network, and the functions bound to them: a ``RNNModelScratch``.

    The dict `params` is what changes in training: an optimizer replaces or changes its tensors,
    and `forward` reads them from it at every call. So does `slots`: what the optimizer remembers,
    for each of its names in OPTIMIZERS a dict like `params`; the core makes them. Where a framework
    differentiates functions of their arguments, as JAX does, `forward` takes other parameters as a
    keyword `params`. `to_arrays` copies parameters, or their gradients, or a slot, to NumPy arrays
    in the contract's shapes, whatever the layout in which a layer keeps them.
    """

    params: Params
    options: Options
    forward: Callable[..., tuple[Tensor, State]]  # of inputs and state
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
    """Return a model of functions that take `params` and `options` as arguments of these names.

    `backward`, if given, is a hand-written backward pass: what `gradients` returns, from a
    minibatch and the state.
    """
    forward = partial(forward, params=params, options=options)
    backward = backward and partial(backward, params=params, options=options)
    return Model(params, options, forward, partial(state, options=options), to_arrays, backward)


# The functions of ``scratch``, in their order there.


def params(arrays: Arrays, options: Options) -> Params:
    """Return trainable tensors that start at these arrays, named as in ``options.shapes()``.

    For each gate g of the cell W_xg (V, H), W_hg (H, H) and b_g (H,); then W_hq (H, V) and
    b_q (V,), named as in the chapter. With a learnable embedding there is W_e (V, N) before them,
    and W_xg is (N, H). Further layers, before W_hq, have the same with a number, such as W_xg_2
    (H, H). All are in ``options.dtype`` on ``options.device``, and share no memory with
    `arrays`.
    """


def state(batch_size: int, options: Options) -> State:
    """Return the state before the first token: zeros (B, H), those of the cell in each layer."""


def encode(tokens: Tensor, params: Params) -> Tensor:
    """Return the one-hot vectors of tokens: (...) to (..., V), in the parameters' dtype."""


def step(x: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """Compute one time step: x (B, V) to logits (B, V), and the new state.

    The cell makes the new state, for ``rnn`` h_t = tanh(x W_xh + h_{t-1} W_hh + b_h), and the
    output layer its logits, h_t W_hq + b_q.
    """


def forward(tokens: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """Compute all time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state.

    A loop over ``step(encode(...))``; in ``fast`` and ``concise``, equal to that loop.
    """


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats: logits (T*B, V) against targets (B, T).

    The targets are transposed before they are flattened, so that they are in the logits' order.
    """


def detach(state: State) -> State:
    """Return the same values without their history: no gradient flows back through them."""


def gradients(model: Model, batch: Batch, state: State) -> tuple[Tensor, Params, State]:
    """Return the loss of a minibatch, the gradient of every parameter, and the detached state.

    The model's `forward` reads the `inputs` of the minibatch. The state is detached. Gradients are
    dense, shaped like their parameters, and in the order of `model.params`, whatever order the
    framework returns.
    """


def clip(grads: Params, theta: float) -> tuple[Params, Tensor]:
    """Return the gradients scaled by min(1, theta/norm), and the norm over all parameters.

    With an infinite theta they stay as they are.
    """


def rounded(values: Tensor, grid: float | None) -> Tensor:
    """Return the nearest multiples of the grid, halves rounded to even; without one, the values.

    Differences in the order of summation vanish in it, unless a midpoint lies between them.
    """


def sgd(model: Model, grads: Params, how: Update, rates: Rates) -> None:
    """Take one step of gradient descent, in the model's `params`: p <- p - lr g.

    With a grid, the step lr g is first `rounded` to it. The other optimizers, in ``deep``, are
    functions of the same arguments.
    """


def train_minibatch(model: Model, batch: Batch, state: State, how: Update) -> tuple[Tensor, State]:
    """Update the parameters once, from a minibatch; return its loss and the detached state.

    Gradients, `clip`, and the optimizer that `how` names, with the rates of the minibatch. With a
    grid for states, the returned state is `rounded` to it. A framework that compiles can compile it
    as a whole.
    """


def train_epoch(
    model: Model,
    minibatches: Iterable[Batch],
    how: Update,
    carry: bool,
    state: State | None = None,
) -> tuple[list[float], State]:
    """Train on all minibatches of an epoch, whose X and Y are integer arrays (B, T).

    They become tensors by `tensor`. With `carry` the state is carried from minibatch to minibatch
    (sequential partitioning), from `state` on, or zeros if it is None; without it every minibatch
    starts from zeros (random sampling). Returns each minibatch's mean loss in nats, and the last
    state, from which another call goes on with the rest of an epoch.
    """


def predict(
    model: Model, prefix: Sequence[int], num_preds: int, choose: Callable[[np.ndarray], int]
) -> list[int]:
    """Return the prefix and `num_preds` generated tokens after it.

    The state is warmed up on the prefix, which has one token at least; from then on `choose` picks
    each token from the logits (V,).
    """


def build(arrays: Arrays, options: Options) -> Model:
    """Return a model that starts at these arrays; ``fast`` and ``concise`` have their own.

    Raises RNNScratchError where the framework has no such layer, or the layer cannot do what the
    options ask. A second bias of a layer stays zero and untrained.
    """


# The functions of ``deep``, in their order there.


def deep_step(
    inputs: tuple[Tensor, Tensor | None], state: State, params: Params, options: Options
) -> tuple[Tensor, State]:
    """Compute one time step of all layers: x (B, V), and masks or None, to logits (B, V) and state.

    With a learnable embedding the first layer reads x W_e (B, N) in place of x. Each further layer
    reads the h_t of the one below. With masks (L, B, H) of dropout, what a layer passes upwards is
    multiplied by its mask.
    """


def deep_forward(
    inputs: Any, state: State, params: Params, options: Options
) -> tuple[Tensor, State]:
    """Compute all time steps: `inputs` to logits (T*B, V), time-major, and the last state.

    A loop over ``deep_step(encode(...))``, with masks (T, L, B, H) in training with dropout.
    """


def momentum(model: Model, grads: Params, how: Update, rates: Rates) -> None:
    """Take one step of Polyak's heavy ball: m <- beta1 m + g, and p <- p - lr (m + decay p).

    With a `grad_grid` the gradient is first `rounded` to it, and with a grid the step.
    """


def adam(model: Model, grads: Params, how: Update, rates: Rates) -> None:
    """Take one step of Adam (Kingma and Ba, 2015, Algorithm 1), with decoupled weight decay.

    m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2, and then
    p <- p - lr (m/rates.c_m / (sqrt(v/rates.c_v) + epsilon) + decay p), rounded as in `momentum`.
    """


def evaluate(model: Model, minibatches: Iterable[Batch]) -> tuple[float, int]:
    """Return the summed loss in nats and the number of tokens of the minibatches; train nothing.

    The state is carried from minibatch to minibatch, from zeros on.
    """


# The functions of ``machine``.


def devices(dtype: str) -> list[str]:
    """Return the devices that can compute in this dtype here and now, the best first."""


def set_threads(threads: int | None) -> int:
    """Compute with this number of threads (None: the framework's own choice), and return it.

    It is called before anything is computed: some frameworks fix the number then. Raises
    RNNScratchError for a number that the framework can no longer change, and in a process that was
    forked from one that has computed, where the framework would wait forever.
    """


def set_eager(eager: bool) -> None:
    """Run functions uncompiled, to debug them, or compiled; called before a model is built."""


def set_tf32(allowed: bool) -> None:
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23.

    A backend starts with it off, so that its numbers are those of the others.
    """


def synchronize(tensors: Sequence[Tensor], device: str) -> None:
    """Return when these tensors are computed, and all other work of the device.

    A framework that computes asynchronously may be able to wait only for tensors it is given, so
    code that stops a clock passes the results that it timed.
    """


def environment() -> dict[str, str]:
    """Return the versions of the framework (under the backend's name) and of its libraries."""


def memory(device: str) -> int | None:
    """Return the peak memory of tensors on the device in bytes, or None if it is unknown."""


def multiply(h: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply h (N, K) by these matrices, one after another: a bound on training speed.

    Nothing else, as fast as the framework multiplies such matrices. A matrix that occurs many times
    is the same tensor. Returns the last product, so that it can be waited for.
    """


def tensor(array: np.ndarray, device: str) -> Tensor:
    """Return the array as a tensor of the same dtype on the device, which may share its memory.

    Tokens may become integers of fewer bits, where those are the framework's own choice.
    """


def array(tensor: Tensor) -> np.ndarray:
    """Return the tensor as a NumPy array of the same dtype."""


# The functions of ``workers``.


def join(team: Team) -> None:
    """Join the other workers of a training run: returns when all have.

    It is called once, after `set_threads` and before anything is computed. The engine listens on
    the hosts of the team only, which are addresses of the loopback interface unless the user names
    others; of `team.addresses`, it uses as many as it needs. Raises RNNScratchError if a library
    is missing or the workers do not find each other.
    """


def all_gather(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return, for each of these tensors, those of all workers in the order of their ranks.

    Every worker calls it with tensors of the same shapes and dtype, and gets the same result, in
    which every bit is as it was sent. It can be called within `train_minibatch`, compiled or not,
    and by itself. It waits for the other workers; if one has ended, it may wait forever, and the
    process that started the workers has to end them.
    """


def all_reduce(mean: Tensor, grads: Params) -> tuple[Tensor, Params]:
    """Return the means over all workers, two or more, of the loss and of each gradient.

    Every worker calls it, with the loss and gradients of its own rows of the minibatch, as many as
    every other one has, and gets the same result: added in the order of the workers' ranks.
    """


def train_together(model: Model, batch: Batch, state: State, how: Update) -> tuple[Tensor, State]:
    """Train like `train_minibatch`, on the gradients of all workers' minibatches.

    Each worker has its own rows of a minibatch and of the state.
    """


def leave() -> None:
    """Leave the other workers, at the end of a training run: every worker calls it."""


def engine() -> str:
    """Return the engine's name and version, such as "Gloo of PyTorch 2.13.0"."""


def _between(first: Callable, last: Callable) -> tuple[Callable[..., Any], ...]:
    # These two functions of this page, and all between them.
    names = list(globals())
    names = names[names.index(first.__name__) : names.index(last.__name__) + 1]
    return tuple(globals()[name] for name in names)


# The functions of each module, in their order above.
MODULES = {
    "scratch": _between(params, build),
    "cells": (),
    "deep": _between(deep_step, evaluate),
    "machine": _between(devices, array),
    "workers": _between(join, engine),
    **dict.fromkeys(VARIANTS[1:], (build,)),
}
