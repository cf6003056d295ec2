"""Observes training in exact mode: its steps, and how close each was to a rounding boundary."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .. import exact
from ..contract import Arrays, Params, State, Team, Tensor
from ..runs import training
from ..runs.setup import Place, Setup, set_up
from ..settings import Settings
from ..text import corpus, minibatches
from .certificate import Closest, Record

REFERENCE = ("numpy", "scratch")  # its backward pass is a function, in which steps can be observed


class AfterUpdate(training.Report):
    """Calls a function after each update."""

    def __init__(self, function: Callable[[], None]) -> None:
        """Call this function."""
        self.function = function

    def minibatch(self, X: np.ndarray, Y: np.ndarray) -> None:
        """A minibatch has ended, and with it an update."""
        self.function()


class Observed:
    """A setup of the reference whose backward pass keeps an account of the steps."""

    def __init__(self, setup: Setup) -> None:
        """Observe the backward pass of this setup."""
        self.inner = setup
        self.setup = setup._replace(model=dataclasses.replace(setup.model, backward=self.backward))
        self.steps: Arrays = {}  # of the last update
        self.closest: Closest = {"distance": exact.GRID, "update": 0, "parameter": "", "index": []}
        self.updates = self.clipped = 0

    def backward(self, X: Tensor, Y: Tensor, state: State) -> tuple[Tensor, Params, State]:
        """The backward pass; it keeps the steps, and the closest one so far."""
        assert self.inner.model.backward is not None
        loss, grads, state = self.inner.model.backward(X, Y, state)
        self.steps, is_clipped = _steps(self.inner, grads)
        self.updates, self.clipped = self.updates + 1, self.clipped + is_clipped
        for name, step in self.steps.items():
            distances = exact.distances(step)
            place = np.unravel_index(np.argmin(distances), distances.shape)
            if distances[place] < self.closest["distance"]:
                self.closest = {
                    "distance": float(distances[place]),
                    "update": self.updates,
                    "parameter": name,
                    "index": [int(each) for each in place],
                }
        return loss, grads, state


def set_up_observed(
    name: str,
    model: str,
    device: str,
    values: Record,
    text: list[str],
    rank: int = 0,
    addresses: Sequence[str] = (),
) -> tuple[Setup, Observed | None]:
    """The setup, and its observation if it is that of the reference, training by itself.

    With the addresses of several workers it is that of the one with this rank.
    """
    team = Team(rank, tuple(addresses)) if addresses else None
    place = Place(name, model, device, workers=len(team.addresses) if team else 1)
    setup = set_up(Settings(**values), place, corpus.Text(*text), team=team)
    is_observed = (name, model) == REFERENCE and team is None
    return setup, Observed(setup) if is_observed else None


def _steps(setup: Setup, grads: Params) -> tuple[Arrays, bool]:
    # And whether the gradients were clipped.
    theta = setup.settings.theta
    grads, norm = setup.backend.scratch.clip(grads, theta)
    arrays = setup.model.to_arrays(grads)
    steps = {name: setup.settings.lr * grad for name, grad in arrays.items()}
    return steps, theta is not None and float(norm) > theta


def last_steps(setup: Setup, epoch: int) -> Arrays:
    """The steps for the last minibatch of an epoch, with the parameters before the epoch.

    The state before it is carried through the epoch, and carries differences along.
    """
    settings, scratch, model = setup.settings, setup.backend.scratch, setup.model
    batches = list(minibatches.of_epoch(setup.text.train, settings, epoch))
    if not minibatches.carries(settings.sampling):
        batches = batches[-1:]
    state = model.state(settings.batch_size)
    with np.errstate(all="ignore"):  # the training may be about to diverge
        for batch in batches:
            X, Y = (setup.backend.machine.tensor(array, setup.place.device) for array in batch)
            _, grads, state = scratch.gradients(model, X, Y, state)
        return _steps(setup, grads)[0]
