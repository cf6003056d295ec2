"""What every backend must have: types, one exception, and the pieces with their signatures.

The functions below are the specification: they have documentation and no body. A backend is a
module with functions of the same names and signatures, registered under the entry-point group
``rnn_scratch.backends``; a test holds each backend to this page.

Sizes, here and everywhere: B batch size, T number of time steps, V vocabulary size, H number of
hidden units, N numbers in a learnable embedding. Tokens are integers from 0 to V-1. "Tensor" is the
framework's own type; the only places where a tensor meets a NumPy array are `tensor` and `array`.
"""

# mypy: disable-error-code="empty-body"

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Tensor = Any  # the framework's own type
Arrays = dict[str, np.ndarray]
Params = dict[str, Tensor]
State = tuple[Tensor, ...]
Backend = ModuleType  # a module with the functions below

PARAMETERS = ("W_xh", "W_hh", "b_h", "W_hq", "b_q")  # and W_e, before them, of an embedding


class RNNScratchError(Exception):
    """Something cannot be done: the message says what was asked, what was found, what to do."""

    exit_code = 2  # of the command that meets it; 1 where nothing was wrong with what was asked


class Options(NamedTuple):
    """What shapes the mathematics of a model."""

    activation: str = "tanh"  # or "relu"
    dtype: str = "float32"  # or "float64"
    device: str = "cpu"


class Update(NamedTuple):
    """How parameters move."""

    lr: float = 1.0
    theta: float | None = (
        1.0  # the largest norm a gradient may have; None: gradients are not clipped
    )
    grid: float | None = (
        None  # every step is rounded to a multiple of it (exact mode); None: it is not
    )


class Model(NamedTuple):
    """The chapter's ``RNNModelScratch`` as data: parameters, and the functions that use them.

    `to_arrays` copies parameters, or their gradients, into NumPy arrays in the contract's shapes,
    whatever the layout that a framework's own layer keeps them in.
    """

    params: Params
    num_hiddens: int
    state: Callable[[int, int, Options], State]
    forward: Callable[[Tensor, State, Params, Options], tuple[Tensor, State]]
    to_arrays: Callable[[Params], Arrays]
    options: Options
    backward: Callable[..., Any] | None = None  # its own way back, in place of autograd's


# The pieces, in the order in which a backend tells them.


def params(arrays: Arrays, options: Options) -> Params:
    """Trainable tensors from the starting values.

    W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,): named as in the chapter. With a
    learnable embedding there is W_e (V, N) before them, and W_xh is (N, H). All are in
    ``options.dtype`` on ``options.device``, sharing no memory with `arrays`.
    """


def state(batch_size: int, num_hiddens: int, options: Options) -> State:
    """The hidden state before the first token: zeros, a tuple with one tensor (B, H)."""


def encode(tokens: Tensor, params: Params) -> Tensor:
    """One-hot vectors: tokens (...) to (..., V), in the parameters' dtype.

    Where there is a learnable embedding W_e (V, N), its rows: tokens (...) to (..., N).
    """


def step(x: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state.

    H_t = tanh(x W_xh + H_{t-1} W_hh + b_h), then logits = H_t W_hq + b_q.
    """


def forward(tokens: Tensor, state: State, params: Params, options: Options) -> tuple[Tensor, State]:
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state.

    Equal to a loop over ``step(encode(...))``, which a test proves; it need not be one.
    """


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats: logits (T*B, V) against targets (B, T).

    The targets are transposed before they are flattened, so that they stand in the logits' order.
    """


def detach(state: State) -> State:
    """The same values with their history cut off: no gradient flows back through them."""


def gradients(model: Model, X: Tensor, Y: Tensor, state: State) -> tuple[Tensor, Params, State]:
    """Loss of one minibatch X, Y (B, T), its gradient for every parameter, and the state.

    The state is detached. Gradients are dense and shaped like their parameters.
    """


def clip(grads: Params, theta: float | None) -> tuple[Params, Tensor]:
    """Gradients scaled by min(1, theta/norm), and that norm, taken over all parameters together.

    With theta None the gradients stay as they are.
    """


def update(params: Params, grads: Params, lr: float, grid: float | None) -> None:
    """Plain gradient descent in place: p <- p - lr g.

    With a grid, each element of lr g is first rounded to the nearest multiple of it. Differences
    in the order of summation, 1e-18 to 1e-17 on an element, then vanish, but for the rare element
    that lies that close to the middle between two multiples.
    """


def train_minibatch(
    model: Model, X: Tensor, Y: Tensor, state: State, how: Update
) -> tuple[Tensor, State]:
    """One update of the parameters from X, Y (B, T): its loss, and the state carried on, detached.

    Gradients, clip, update. This is what a framework that compiles compiles as a whole.
    """


def train_epoch(
    model: Model, minibatches: Iterable[tuple[np.ndarray, np.ndarray]], how: Update, carry: bool
) -> tuple[float, int, State]:
    """One pass over the minibatches, pairs (X, Y) of integer arrays (B, T).

    With `carry` the state goes on from minibatch to minibatch (sequential partitioning); without
    it every minibatch starts from zeros (random sampling). Returns the summed loss in nats, the
    number of tokens it was summed over, and the last state.
    """


def evaluate(
    model: Model, minibatches: Iterable[tuple[np.ndarray, np.ndarray]], carry: bool
) -> tuple[float, int]:
    """Summed loss in nats and number of tokens over the minibatches; nothing is trained."""


def predict(
    model: Model, prefix: Sequence[int], num_preds: int, choose: Callable[[np.ndarray], int]
) -> list[int]:
    """The prefix and `num_preds` tokens after it.

    The state is warmed up on the prefix, which has one token at least; from then on `choose` picks
    each token from the logits (V,).
    """


def scratch(arrays: Arrays, options: Options) -> Model:
    """The model made of the pieces above, with parameters that start at `arrays`."""


def concise(arrays: Arrays, options: Options) -> Model:
    """The same model on the framework's own recurrent and output layers.

    It has the same parameters (a second bias of a layer stays zero, untrained), and trains
    with the same `gradients`, `clip` and `update`. Raises RNNScratchError where the framework has
    no such layer, or the layer cannot do what the options ask.
    """


# The machine below: devices, threads, and the crossing between tensors and NumPy.


def devices(dtype: str) -> list[str]:
    """The devices that can compute in this dtype here and now, the best first."""


def set_threads(threads: int | None) -> int:
    """Compute with so many threads from here on (None: its own choice), and say how many."""


def set_eager(eager: bool) -> None:
    """Run the same functions uncompiled, for stepping through them; before a model is made."""


def set_tf32(allowed: bool) -> None:
    """Let a GPU multiply in NVIDIA's TF32, or not: it keeps 10 bits of a float32's 23.

    A backend begins with it off, for the numbers to be those of the others.
    """


def synchronize(device: str) -> None:
    """Return when all that was asked of the device is done: before any clock stops."""


def environment() -> dict[str, str]:
    """The framework's version, and those of the libraries and devices it computes with."""


def memory(device: str) -> int | None:
    """The most bytes that tensors have taken on the device so far; None where it is not told."""


def multiply(h: Tensor, W: Tensor, times: int) -> Tensor:
    """`times` products of h (N, H) and W (H, H), one after another: what limits training.

    Nothing else, in the way in which the framework multiplies such matrices fastest: h becomes h W
    or h W^T.
    """


def tensor(array: np.ndarray, device: str) -> Tensor:
    """The array as a tensor of the same dtype on the device."""


def array(tensor: Tensor) -> np.ndarray:
    """The tensor as a NumPy array of the same dtype."""


PIECES = (
    params, state, encode, step, forward, loss, detach, gradients,
    clip, update, train_minibatch, train_epoch, evaluate, predict, scratch, concise,
)  # fmt: skip
MACHINE = (
    devices, set_threads, set_eager, set_tf32, synchronize, environment, memory, multiply,
    tensor, array,
)  # fmt: skip
