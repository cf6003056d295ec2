"""By how much a small difference in the state grows, which decides whether exact mode can hold.

Frameworks differ by rounding. Exact mode rounds such differences away after each minibatch, but
within one they grow from time step to time step where the weights are large: the network is
chaotic. The larger they are in the end, the likelier one of them is not rounded away.
"""

from collections.abc import Callable

import numpy as np

from ..contract import Arrays
from ..randomness import generator
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings
from ..text import books, minibatches

DISTANCE = 1e-6  # of two states, small enough for tanh to be linear and large against rounding
DOUBTFUL = 1e3  # runs in which frameworks differed had 8e3 and more in the end
UNLIKELY = 1e5  # in the record growth.json all frameworks are equal below it, and none above 5e7


@np.errstate(all="ignore")  # a model may be about to diverge
def growth(setup: Setup) -> float:
    """Return by what factor a small difference in the state grows over T steps of a minibatch.

    The logarithm of this factor, divided by T, estimates the largest Lyapunov exponent, with
    Benettin's rescaling (Benettin et al., 1980).

    The model, of a float64 setup with a text, reads the first minibatch of the first epoch from a
    state of zeros, and then again, from the state (B, H) in which that ended and from one at
    DISTANCE from it, in a direction that is drawn. The factor of a step is the norm of the
    difference after it, over all elements of the state, divided by the norm before it; after each
    step the difference is scaled to DISTANCE again. Returned is the product of the T factors.
    """
    model, machine, device = setup.model, setup.backend.machine, setup.runtime.device
    X = next(minibatches.epoch_batches(setup.dataset.train, setup.settings, 1)).X

    def read(tokens: np.ndarray, state: np.ndarray) -> np.ndarray:
        tensors = tuple(machine.tensor(each, device) for each in state)
        _, last = model.forward(machine.tensor(tokens, device), tensors)
        return np.stack([machine.array(each) for each in last])

    zeros = np.zeros((model.options.num_states, len(X), model.options.num_hiddens))
    state = read(X, zeros)
    difference, product = generator(0, "growth").normal(size=state.shape), 1.0
    for t in range(X.shape[1]):
        difference *= DISTANCE / np.linalg.norm(difference)
        tokens = X[:, t : t + 1]
        other, state = read(tokens, state + difference), read(tokens, state)
        difference = other - state
        factor = float(np.linalg.norm(difference)) / DISTANCE
        if factor == 0:
            return 0.0
        product *= factor
    return product


def doubt(settings: Settings, text: books.Text, arrays: Arrays) -> list[str]:
    """Return a sentence if the growth with these parameters makes their digest doubtful."""
    found = growth(set_up(settings, Runtime("numpy", device="cpu"), text, arrays))
    if found < DOUBTFUL:
        return []
    return [
        "Another framework may not reach this digest: within a minibatch a difference in the "
        f"state grows {found:.0e}-fold."
    ]


def warn(settings: Settings, text: books.Text, say: Callable[[str], object]) -> None:
    """Warn where the growth before training is so large that exact mode is unlikely to hold."""
    found = growth(set_up(settings, Runtime("numpy", device="cpu"), text))
    if not found < UNLIKELY:  # or not a number
        say(
            "Exact mode is unlikely to hold: within a minibatch, a difference in the state grows "
            f"{found:.0e}-fold. Use a smaller `--sigma`, fewer `--num-steps` or `--cell lstm`."
        )
