"""The contract that a backend implements: types and function signatures.

The function docstrings below are the specification. A backend is a package that is
registered in the ``rnn_scratch.backends`` entry-point group and contains these modules:

``scratch``  a single-layer network and its training functions, from `init_params` on: *Build it*
``cells``    additional cells for the CELLS table in ``scratch``: *Gates*
``deep``     several layers, an embedding, dropout and optimizers: *Make it learn well*
``exact``    rounding for exact mode, in which all frameworks agree bit for bit
``fast``     the model optimized by hand, with its own `init_params` and `build`: *Make it fast*
``concise``  the model using the framework's built-in layers, with its own `init_params` and `build`
``machine``  devices, threads, array conversion and compilation, from `devices` to `jit`

Lesson titles are in italics. A backend needs ``scratch`` and three functions in ``machine``:
`devices`, `tensor` and `array`. Everything else is optional; functions with a body are defaults.
In ``fast`` and ``concise``, parameters and slots may be laid out differently, for example in one
matrix for all gates. If a built-in layer has a bias that the cell lacks, it stays zero and is not
trained. `rnn-scratch check` tests a backend against this contract.

Functions return what they compute. A function that updates parameters or slots may do so in place
and return the same dict, or return new tensors; its caller no longer uses the arguments.

To read a backend, start with `step` in ``scratch``. Sizes: B batch, T time steps, V vocabulary,
L layers, H hidden units per layer, N learnable embedding. Tokens are integers from 0 to V-1.

Function docstrings don't repeat these shared arguments:

``arrays``   initial values as NumPy arrays, with names and shapes from ``options.shapes()``
``options``  the model configuration
``params``   parameters by name, as tensors; ``grads`` contains a gradient for each parameter
``tokens``   integers (B, T)
``state``    the state before the first time step: tensors (B, H), layer by layer
``masks``    dropout masks, as in `Batch`, when training with dropout; otherwise None
``model``    parameters, slots, configuration, and the functions of a variant
``slots``    an optimizer's tensors: for each slot, a dict like ``params``
``batch``    a minibatch of tensors; ``minibatches`` yields minibatches of NumPy arrays
``update``   the hyperparameters for one update

Tensors are framework tensors, and functions return them on the model's device. A device name
is "cpu", "cuda", "mps" or, for any other kind of device, the framework's name for it. The name has
no index and refers to the first device of its kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from .errors import RNNScratchError as RNNScratchError

Tensor = Any  # the framework's tensor type
Arrays = dict[str, np.ndarray]
Params = dict[str, Tensor]
State = tuple[Tensor, ...]
Slots = dict[str, Params]
Gradients = tuple[Tensor, Params, State]  # mean loss, gradients and next state

VARIANTS = ("scratch", "fast", "concise")  # model variants, default first
VERBOSE = "RNN_SCRATCH_VERBOSE"  # environment variable; if set, framework messages are shown


Functions = Mapping[str, Callable[[], Any]]  # see `Cell.functions`


class Cell(NamedTuple):
    """A cell declaration; the equations are in ``scratch`` or ``cells``.

    Another package declares a cell in the entry-point group ``rnn_scratch.cells``.
    """

    gates: tuple[str, ...]  #: gate names; gate g has the parameters W_xg, W_hg and b_g
    num_states: int = 1  #: number of state tensors (B, H); the first tensor is the output
    recurrent_biases: tuple[str, ...] = ()  #: gates g that also have b_hg, added to h W_hg
    biases: Mapping[str, float] = {}  #: initial b_g by gate; 0 for all other gates
    #: In another package: for each backend, a function without arguments that imports the
    #: framework and returns the cell or, for a backend with a table CELL_BACKWARD, the cell and its
    #: backward pass.
    functions: Functions = {}


CELLS = {
    "rnn": Cell(gates=("h",)),
    "gru": Cell(gates=("z", "r", "h")),
    "gru-after": Cell(gates=("z", "r", "h"), recurrent_biases=("h",)),
    "lstm": Cell(gates=("i", "f", "o", "c"), num_states=2),
    "rnn-relu": Cell(gates=("h",)),
}


class ModelConfig(NamedTuple):
    """The model configuration, which determines the equations and parameter shapes."""

    vocab_size: int  #: number of tokens, V
    num_hiddens: int  #: number of hidden units, H
    cell: str = "rnn"  #: key in CELLS
    embedding: int = 0  #: size of the learnable embedding, N; 0 for one-hot vectors
    num_layers: int = 1  #: number of stacked layers, L
    dropout: float = 0.0  #: probability of zeroing each element of a layer's output during training
    dtype: str = "float32"  #: "float32" or "float64"
    device: str = "cpu"  #: device name

    @property
    def gates(self) -> tuple[str, ...]:
        """The cell's gate names, in parameter order."""
        return CELLS[self.cell].gates

    @property
    def num_states(self) -> int:
        """The total number of state tensors across all layers."""
        return CELLS[self.cell].num_states * self.num_layers

    @property
    def needs_deep(self) -> bool:
        """Whether the network needs ``deep`` because of several layers, an embedding or dropout."""
        return self.num_layers > 1 or self.embedding > 0 or self.dropout > 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return parameter shapes by name, in the order in which initial values are drawn.

        Each gate g has W_xg (V, H), W_hg (H, H) and b_g (H,). Recurrent biases b_hg (H,) follow the
        gates, and then W_hq (H, V) and b_q (V,). With a learnable embedding, W_e (V, N) comes
        first, and W_xg is (N, H). The parameters of additional layers come before W_hq and have a
        suffix, as in W_xg_2 (H, H).
        """
        V, H, N = self.vocab_size, self.num_hiddens, self.embedding
        shapes: dict[str, tuple[int, ...]] = {"W_e": (V, N)} if N else {}
        for layer in range(self.num_layers):
            size, suffix = (N or V, "") if layer == 0 else (H, f"_{layer + 1}")
            for gate in self.gates:
                names = f"W_x{gate}{suffix}", f"W_h{gate}{suffix}", f"b_{gate}{suffix}"
                shapes |= zip(names, ((size, H), (H, H), (H,)))
            shapes |= {f"b_h{gate}{suffix}": (H,) for gate in CELLS[self.cell].recurrent_biases}
        return shapes | {"W_hq": (H, V), "b_q": (V,)}


class Optimizer(NamedTuple):
    """An optimizer declaration; the equations are in ``scratch`` or ``deep``.

    Another package declares an optimizer in the entry-point group ``rnn_scratch.optimizers``.
    """

    lr: float  #: default learning rate
    slots: tuple[str, ...] = ()  #: slot names; each slot has one tensor per parameter
    bias_correction: bool = False  #: whether the optimizer uses `c_m` and `c_v` from `UpdateRule`
    weight_decay: bool = True  #: whether the optimizer supports weight decay
    hyperparameters: Mapping[str, float] = {}  #: default values by name, one of HYPERPARAMETERS
    functions: Functions = {}  #: in another package: the optimizer for each backend, as in `Cell`

    @property
    def settings(self) -> set[str]:
        """The settings that apply only to some optimizers, including this one."""
        return {*self.hyperparameters, *["weight_decay"] * self.weight_decay}


HYPERPARAMETERS = ("beta1", "beta2", "epsilon")  # names in `UpdateRule` and in a run's settings
OPTIMIZERS = {  # the first optimizer is the default
    "sgd": Optimizer(lr=1.0, weight_decay=False),
    "momentum": Optimizer(lr=0.1, slots=("m",), hyperparameters={"beta1": 0.9}),
    "adam": Optimizer(
        lr=0.002,
        slots=("m", "v"),
        bias_correction=True,
        hyperparameters={"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    ),
}


class UpdateRule(NamedTuple):
    """The hyperparameters for one update; lr, c_m and c_v may differ between updates."""

    lr: float = 1.0  #: learning rate
    theta: float = 1.0  #: maximum gradient norm; infinity disables clipping
    optimizer: str = "sgd"  #: key in the backend's OPTIMIZERS
    weight_decay: float = 0.0  #: each update also subtracts lr * weight_decay * p from parameter p
    beta1: float = 0.9  #: decay rate of slot m
    beta2: float = 0.999  #: decay rate of slot v
    epsilon: float = 1e-8  #: small number ε in a denominator; Adam's is outside the square root
    c_m: float = 1.0  #: bias correction for m: 1 - beta1**t at update t = 1, 2, ...
    c_v: float = 1.0  #: bias correction for v: 1 - beta2**t


class Batch(NamedTuple):
    """A minibatch of arrays or tensors."""

    X: Any  #: integer tokens (B, T)
    Y: Any  #: targets (B, T): the next token for each token in X
    masks: Any = None  #: dropout masks (T, L, B, H): 0 or 1 / (1 - dropout); None without dropout

    def map(self, function: Callable[..., Any], *arguments: Any) -> "Batch":
        """Return a minibatch with each array replaced by `function(array, *arguments)`."""
        return Batch(*(None if x is None else function(x, *arguments) for x in self))


@dataclass(eq=False)
class Model:
    """A network's parameters and the functions of its variant (the chapter's RNNModelScratch).

    Training replaces `params` and `slots`. Exact mode and data-parallel training replace
    `train_minibatch`.
    """

    params: Params  #: parameters by name
    options: ModelConfig  #: configuration
    forward: Callable[..., tuple[Tensor, State]]  #: the variant's `forward`
    gradients: Callable[..., Gradients]  #: the variant's `gradients`
    #: Function that copies parameters, gradients or a slot to arrays named as in
    #: `ModelConfig.shapes`.
    to_arrays: Callable[[Params], Arrays]
    #: Training step, such as `train_minibatch` in ``scratch``.
    train_minibatch: Callable[..., tuple[Tensor, Params, Slots, State]]
    slots: Slots = field(default_factory=dict)  #: optimizer state, by slot


@dataclass(frozen=True)
class Backend:
    """A backend: a framework's implementation of this contract. Missing modules are None."""

    name: str  #: registered name
    package: str  #: name of the package that contains the modules
    scratch: Any
    machine: Any  #: the module's functions, with defaults for missing functions
    cells: Any = None
    deep: Any = None
    exact: Any = None
    fast: Any = None
    concise: Any = None

    @property
    def variants(self) -> tuple[str, ...]:
        """The model variants that the backend implements."""
        return tuple(variant for variant in VARIANTS if getattr(self, variant))


class Scratch(Protocol):
    """The functions in ``scratch``, in source order."""

    CELLS: dict[str, Callable[[Tensor, State, Params], State]]  #: cells by name
    OPTIMIZERS: dict[str, Callable[[Params, Params, Slots, UpdateRule], tuple[Params, Slots]]]

    def init_params(self, arrays: Arrays, options: ModelConfig) -> Params:
        """Create trainable tensors of ``options.dtype`` that share no memory with the arrays."""

    def init_state(self, batch_size: int, options: ModelConfig) -> State:
        """Return the initial state: zeros (B, H) for each state tensor of each layer."""

    def encode(self, tokens: Tensor, params: Params) -> Tensor:
        """Encode tokens (...) as one-hot vectors (..., V) with the dtype of the parameters."""

    def step(
        self, x: Tensor, state: State, params: Params, options: ModelConfig
    ) -> tuple[Tensor, State]:
        """Compute logits (B, V) and the next state from one-hot vectors x (B, V)."""

    def forward(
        self, tokens: Tensor, state: State, params: Params, options: ModelConfig
    ) -> tuple[Tensor, State]:
        """Run all time steps; return time-major logits (T*B, V) and the last state."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of time-major logits (T*B, V), targets (B, T)."""

    def detach(self, state: State) -> State:
        """Detach the state from the graph so that no gradient flows back through it."""

    def gradients(
        self, params: Params, batch: Batch, state: State, options: ModelConfig
    ) -> Gradients:
        """Return a minibatch's mean loss in nats, its gradients, and the detached last state.

        Gradients are dense tensors with the names and shapes of the parameters. In a framework
        with automatic differentiation, the function has another argument: the `forward` of the
        variant, by default the one in ``scratch``.
        """

    def clip(self, grads: Params, theta: float) -> tuple[Params, Tensor]:
        """Scale gradients by min(1, theta/norm); return them and their global norm before scaling.

        The norm adds the squares of all gradients in the order of their sorted names.
        """

    def sgd(
        self, params: Params, grads: Params, slots: Slots, update: UpdateRule
    ) -> tuple[Params, Slots]:
        """Apply one gradient-descent step, p <- p - lr g; return parameters and slots."""

    def train_minibatch(
        self,
        params: Params,
        slots: Slots,
        batch: Batch,
        state: State,
        update: UpdateRule,
        options: ModelConfig,
        gradients: Callable[..., Gradients],
    ) -> tuple[Tensor, Params, Slots, State]:
        """Update the parameters on a minibatch, with the `gradients` of a variant.

        Returns the mean loss in nats, parameters, slots, and the detached last state.
        """

    def train_epoch(
        self,
        model: Model,
        minibatches: Iterable[Batch],
        updates: Iterable[UpdateRule],
        carry: bool,
        state: State | None = None,
    ) -> tuple[list[float], State]:
        """Train on minibatches; return their mean losses in nats and the last state.

        If `carry` is true (sequential partitioning), the state is carried from minibatch to
        minibatch, starting from `state` or zeros. Otherwise (random sampling), every minibatch
        starts from zeros. To continue the epoch, pass the last state to the next call. `updates`
        may be infinite. Without minibatches, the losses are empty, and `state` is returned.
        """

    def evaluate(self, model: Model, minibatches: Iterable[Batch]) -> tuple[float, int]:
        """Return the total loss in nats on sequential minibatches, and the number of tokens."""

    def predict(
        self,
        model: Model,
        prefix: Sequence[int],
        num_preds: int,
        choose_token: Callable[[np.ndarray], int],
    ) -> list[int]:
        """Return `prefix` (at least one token) followed by `num_preds` predicted tokens.

        `choose_token` chooses the next token from a NumPy array of logits (V,).
        """

    def build(self, arrays: Arrays, options: ModelConfig) -> Model:
        """Build a model; raise RNNScratchError if the variant does not support these options."""


class Deep(Protocol):
    """The functions in ``deep``, in source order."""

    def deep_step(
        self,
        x: Tensor,
        state: State,
        params: Params,
        options: ModelConfig,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Compute logits (B, V) and the next state of all layers from one-hot vectors x (B, V).

        The first layer reads x or, with a learnable embedding, x W_e (B, N); additional layers read
        the previous layer's h_t. The time step's masks (L, B, H) multiply the layers' outputs.
        """

    def deep_forward(
        self,
        tokens: Tensor,
        state: State,
        params: Params,
        options: ModelConfig,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run all time steps, like `forward`, but with several layers, an embedding or dropout."""

    def deep_gradients(
        self, params: Params, batch: Batch, state: State, options: ModelConfig
    ) -> Gradients:
        """Return the results of `gradients` for `deep_forward` with the minibatch's masks."""

    def momentum(
        self, params: Params, grads: Params, slots: Slots, update: UpdateRule
    ) -> tuple[Params, Slots]:
        """Apply SGD with momentum: m <- beta1 m + g, and p <- p - lr (m + decay p)."""

    def adam(
        self, params: Params, grads: Params, slots: Slots, update: UpdateRule
    ) -> tuple[Params, Slots]:
        """Apply Adam (Kingma and Ba, 2015, Algorithm 1) with decoupled weight decay.

        m <- beta1 m + (1 - beta1) g and v <- beta2 v + (1 - beta2) g^2, and then
        p <- p - lr (m/c_m / (sqrt(v/c_v) + epsilon) + decay p).
        """

    def build_deep(self, arrays: Arrays, options: ModelConfig) -> Model:
        """Build a model with several layers, an embedding or dropout."""


class Exact(Protocol):
    """The functions in ``exact``, in source order."""

    def round_to_grid(self, values: Tensor, grid: float) -> Tensor:
        """Round each value to the nearest multiple of `grid`, with ties to even."""

    def round_to_float32(self, values: Tensor) -> Tensor:
        """Round float64 values to float32 precision; flush magnitudes below 2**-100 to zero."""

    def make_exact(self, optimizer: Callable) -> Callable:
        """Wrap an optimizer for exact mode so that it rounds gradients, parameters and slots."""


class BuiltVariant(Protocol):
    """The functions in ``fast`` and ``concise``."""

    def init_params(self, arrays: Arrays, options: ModelConfig) -> Params:
        """Create trainable tensors in the variant's layout."""

    def build(self, arrays: Arrays, options: ModelConfig) -> Model:
        """Build a model; raise RNNScratchError if the variant does not support these options."""


class Machine(Protocol):
    """The functions in ``machine``, in source order; those with a body are defaults."""

    def devices(self, dtype: str) -> list[str]:
        """Return the devices that support this dtype, best first."""

    def set_threads(self, threads: int | None) -> int:
        """Set the number of threads (None: the framework's default); return the number in use.

        Raises:
            RNNScratchError: If it is too late to change the number, or after an unsafe fork.
        """
        return threads or 1

    def set_eager(self, eager: bool) -> None:
        """Disable (True) or enable (False) compilation; call before building a model."""
        return None

    def synchronize(self, tensors: Sequence[Tensor], device: str) -> None:
        """Block until the device has computed these tensors or, in some frameworks, all tensors."""
        return None

    def versions(self) -> dict[str, str]:
        """Return the versions of the framework, under the backend's name, and of its libraries."""
        return {}

    def tensor(self, array: np.ndarray, device: str) -> Tensor:
        """Convert an array to a tensor of the same dtype or kind; the two may share memory."""

    def array(self, tensor: Tensor) -> np.ndarray:
        """Convert a tensor to a NumPy array of the same dtype."""

    def jit(self, function: Callable) -> Callable:
        """Compile a function of tensors, whose `options` and `gradients` are constants."""
        return function


# The settings that every backend knows. To add a field to `ModelConfig` or `UpdateRule`, implement
# it in a variant, and name it in the tuple SETTINGS of the variant's module; all other variants
# then refuse values other than the default.
SETTINGS = (
    *("vocab_size", "num_hiddens", "cell", "embedding", "num_layers", "dropout", "dtype", "device"),
    *("lr", "theta", "optimizer", "weight_decay", *HYPERPARAMETERS, "c_m", "c_v"),
)


def list_functions(protocol: type) -> list[Callable[..., Any]]:
    """Return a protocol's functions in source order."""
    return [f for name, f in vars(protocol).items() if callable(f) and not name.startswith("_")]


# Each module's functions.
MODULES = {
    "scratch": list_functions(Scratch),
    "cells": [],
    "deep": list_functions(Deep),
    "exact": list_functions(Exact),
    "machine": list_functions(Machine),
    **dict.fromkeys(VARIANTS[1:], list_functions(BuiltVariant)),
}
MACHINE_DEFAULTS = "set_threads", "set_eager", "synchronize", "versions", "jit"
