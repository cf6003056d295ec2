"""Measure how much rounding errors in the state grow, which decides whether exact mode can hold.

Frameworks round differently. Exact mode rounds such differences away after each minibatch, but
within a minibatch they grow from time step to time step if the weights are large: the network is
chaotic. The larger they become, the likelier one of them crosses a midpoint of the grid.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..contract import Arrays
from ..exact import GRID
from ..parameters import trained_arrays
from ..randomness import generator
from ..settings import Settings
from ..text import books, minibatches
from ..training.runtime import Runtime
from ..training.setup import Setup, set_up

DISTANCE = 1e-6  # relative distance of two states: small for a linear tanh, large for rounding
DOUBTFUL = 1e3  # runs in which frameworks differed finally had 8e3 and more
UNLIKELY = 1e5  # growth.json: all frameworks are equal below 1e5, and no frameworks above 5e7
UNTRAINED = (
    "No parameter has changed: each step was below half of the grid of exact mode. "
    "Use a larger `lr`."
)


class Growth(NamedTuple):
    """The growth of a small difference in the state over the time steps of a minibatch."""

    factor: float  # 0: the difference vanished; not finite: it is unknown
    largest: float  # absolute element of the state

    @property
    def errors(self) -> float:
        """The growth of rounding errors relative to 2**-52, which are larger in large states."""
        return self.factor * max(1.0, self.largest)

    @property
    def is_unlikely_to_hold(self) -> bool:
        """Whether frameworks probably differ, or the growth is unknown."""
        return not self.errors < UNLIKELY

    @property
    def is_doubtful(self) -> bool:
        """Whether frameworks may differ, or the growth is unknown."""
        return not self.errors < DOUBTFUL

    @property
    def sentence(self) -> str:
        """The growth in words."""
        if self.factor == 0:
            return "the measured difference in the state vanished"
        states = f" of up to {self.largest:.0e}" if self.largest > 10 else ""
        return f"within a minibatch, a difference in the state{states} grows {self.factor:.0e}-fold"


@np.errstate(all="ignore")  # a model may be about to diverge
def growth(setup: Setup) -> Growth:
    """Return the factor by which a small difference in the state grows over a minibatch.

    The logarithm of this factor, divided by T, estimates the largest Lyapunov exponent, with
    Benettin's rescaling (Benettin et al., 1980).

    The float64 model reads the first epoch's first minibatch from a zero state. Then it reads this
    minibatch again, from the last state (B, H) and from a state at a small distance in a random
    direction. The distance is DISTANCE times the mean size of the state, or DISTANCE if the state
    is small. A step's factor is the norm of the difference after the step, divided by the norm
    before the step. After each step the difference is scaled to the distance again.
    """
    model, machine, device = setup.model, setup.backend.machine, setup.runtime.device
    X = next(minibatches.epoch_batches(setup.dataset.train, setup.settings, 1)).X

    def read(tokens: np.ndarray, state: np.ndarray) -> np.ndarray:
        tensors = tuple(machine.tensor(array, device) for array in state)
        _, last = model.forward(machine.tensor(tokens, device), tensors)
        return np.stack([machine.array(tensor) for tensor in last])

    zeros = np.zeros((model.options.num_states, len(X), model.options.num_hiddens))
    state = read(X, zeros)
    difference, product, largest = generator(0, "growth").normal(size=state.shape), 1.0, 0.0
    for t in range(X.shape[1]):
        distance = DISTANCE * max(1.0, float(np.linalg.norm(state)) / state.size**0.5)
        difference *= distance / np.linalg.norm(difference)
        tokens = X[:, t : t + 1]
        other, state = read(tokens, state + difference), read(tokens, state)
        difference = other - state
        largest = max(largest, float(np.abs(state).max()))
        product *= float(np.linalg.norm(difference)) / distance
        if product == 0:
            break
    return Growth(product, largest)


def is_untrained(start: Arrays, arrays: Arrays) -> bool:
    """Return whether no parameter has changed, except that the first update rounded it."""
    params = [name for name in start if "." not in name]
    return all(np.abs(start[name] - arrays[name]).max() < GRID for name in params)


def doubt(settings: Settings, text: books.Text, arrays: Arrays) -> list[str]:
    """Return a sentence if the digest of these parameters is doubtful, or if none was trained."""
    runtime = Runtime("numpy", device="cpu")
    if is_untrained(trained_arrays(set_up(settings, runtime, text).model), arrays):
        return [UNTRAINED]
    found = growth(set_up(settings, runtime, text, arrays))
    if not found.is_doubtful:
        return []
    return [f"Another framework may not reach this digest: {found.sentence}."]


def warn(settings: Settings, text: books.Text, log: Callable[[str], object]) -> None:
    """Warn if the growth before training is so large that exact mode is unlikely to hold."""
    found = growth(set_up(settings, Runtime("numpy", device="cpu"), text))
    if found.is_unlikely_to_hold:
        log(
            f"Exact mode is unlikely to hold: {found.sentence}. "
            "Use a smaller `sigma`, fewer `num_steps` or the cell lstm."
        )
