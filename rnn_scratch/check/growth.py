"""Measure how much rounding errors in the state grow; if they grow too much, exact mode fails.

Frameworks round differently. Exact mode rounds these differences away after each minibatch, but
within a minibatch they grow at each time step if the weights are large, because the network is then
chaotic. The larger a difference, the more likely it is to cross a rounding boundary of the grid.
"""

import math

import numpy as np

from ..contract import Arrays
from ..randomness import generator
from ..settings import Settings
from ..text import books, minibatches
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run

DISTANCE = 1e-6  # relative distance of states: above rounding errors, but tanh stays nearly linear
MAX_GROWTH = 1e3  # growth was at least 8e3 in runs whose final digests differed between frameworks


@np.errstate(all="ignore")  # a model may be about to diverge
def measure_growth(
    setup: RunContext, X: np.ndarray | None = None, start: np.ndarray | None = None
) -> float:
    """Return the factor by which rounding errors grow over a minibatch; infinity if it is unknown.

    Its logarithm, divided by T, estimates the largest Lyapunov exponent (Benettin et al., 1980).
    The model reads the tokens `X` (B, T) from the states `start` (n, B, H) and from states at a
    small distance. By default, `X` is the first minibatch, and `start` is the state after reading
    it. After each step, the difference is rescaled to the distance, or replaced if it is zero.
    Rounding errors are proportional to the state, so its largest element above 1 is a factor, too.
    """
    model, machine, device = setup.model, setup.backend.machine, setup.runtime.device
    if X is None:
        X = next(minibatches.epoch_batches(setup.dataset.train, setup.settings, 1)).X

    def read(tokens: np.ndarray, state: np.ndarray) -> np.ndarray:
        tensors = tuple(machine.tensor(array, device) for array in state)
        _, last = model.forward(machine.tensor(tokens, device), tensors)
        return np.stack([machine.array(tensor) for tensor in last])

    zeros = np.zeros((model.options.num_states, len(X), model.options.num_hiddens))
    state, rng = read(X, zeros) if start is None else start, generator(0, "growth")
    difference, product, largest = rng.normal(size=state.shape), 1.0, 1.0
    for t in range(X.shape[1]):
        if not difference.any():
            difference, product = rng.normal(size=state.shape), 1.0
        distance = DISTANCE * max(1.0, float(np.linalg.norm(state)) / state.size**0.5)
        difference *= distance / np.linalg.norm(difference)
        tokens = X[:, t : t + 1]
        shifted_state, state = read(tokens, state + difference), read(tokens, state)
        difference = shifted_state - state
        largest = max(largest, float(np.abs(state).max()))
        product *= float(np.linalg.norm(difference)) / distance
    return product * largest if math.isfinite(product * largest) else math.inf


def describe(factor: float) -> str:
    """Describe the growth of rounding errors, and whether digests may differ between frameworks."""
    sentence = f"Within a minibatch, rounding errors in the state grow by a factor of {factor:.0e}."
    if factor < MAX_GROWTH:
        return sentence
    return (
        f"{sentence} Therefore, frameworks may end with different digests in exact mode. "
        "To reduce this growth, use a smaller `sigma` or `num_steps`, or the cell lstm."
    )


def digest_warnings(
    settings: Settings, text: books.Text, arrays: Arrays | None = None
) -> list[str]:
    """Return a list with one message if a training run's digest is doubtful, else an empty list.

    `arrays` are the trained parameters; without them, the initial parameters are examined.
    """
    factor = measure_growth(prepare_run(settings, Runtime("numpy", device="cpu"), text, arrays))
    return [] if factor < MAX_GROWTH else [describe(factor)]
