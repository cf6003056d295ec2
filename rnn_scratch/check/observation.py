"""What a model's process observes of every update in exact mode: values before they are rounded.

A backend makes an update in one function, which a framework may compile, and which returns no
steps. They are observed all the same, every bit of them, and nothing is computed twice:
`train_minibatch` is called without grids and with a learning rate 2**200 times as large. Beside
such steps the parameters vanish in rounding, so that it leaves the steps alone, and a
multiplication by a power of two is exact. Then the parameters are put back, and `update` and
`rounded` do the rest.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import exact
from ..contract import Arrays, Batch, Model, State, Tensor, Update
from ..runs import growth, training
from ..runs.setup import Setup
from ..settings import Settings
from ..system.records import Record
from ..text import minibatches
from ..workers import exchange

Digests = dict[str, str]  # of each parameter, and of each carried state

SCALE = 2.0**200
SUBTRACTION = Update(lr=1.0, theta=None)  # subtracts what it is given
UNCHANGED = 16  # one in so many updates is made by `train_minibatch` as it is, from the first on
CLOSEST = 64  # elements of each tensor that are kept of each update: the closest to a boundary,
SAMPLE = 16  # and some that are the same ones in every update
KEPT = np.dtype([("index", np.int64), ("value", np.float64)])
EPSILON = 2.0**-52  # of rounding, relative
TRIALS = 3  # of what rounding changes
LARGEST = float(np.finfo(np.float64).max)


class Parting(Record):
    """What a model measures in the first update after which it differs from the first model."""

    update: int
    tensors: list[str]  # parameters and states that differ
    itself: bool  # `train_minibatch` differs from its own steps, rounded
    distances: dict[str, float]  # of each tensor's closest element to a boundary
    moved: dict[str, float]  # the most by which rounding moves an element of each tensor
    growth: float  # of a difference in the state, over the time steps of a minibatch


def grid(name: str) -> float:
    """What a tensor is rounded to multiples of: the step of a parameter, or a carried state."""
    return exact.STATE_GRID if name.startswith("state") else exact.GRID


def distances(name: str, values: np.ndarray) -> np.ndarray:
    """How far values of a tensor are from the nearest boundary of rounding; 0 if not finite."""
    return np.nan_to_num(exact.distances(values, grid(name)), nan=0.0)


def digests(arrays: Arrays) -> Digests:
    """The digest of each of these arrays."""
    return {name: exact.digest({name: array}) for name, array in arrays.items()}


def differing(one: Digests, other: Digests) -> list[str]:
    """The names of those that both have and that are not equal."""
    return [name for name in one if other.get(name, one[name]) != one[name]]


def states(settings: Settings, number: int) -> list[str]:
    """Names of the tensors in the state; none where it is not carried."""
    if not minibatches.carries(settings.sampling):
        return []
    return ["state"] if number == 1 else [f"state {each}" for each in range(number)]


class Observer(training.Report):
    """Observes a model's updates, by a function in the place of its `train_minibatch`.

    With several workers, each has one. `expected` are the digests of the model to compare with. The
    elements go into the folder, a file for each tensor; None: they are not kept.
    """

    def __init__(self, setup: Setup, expected: Sequence[Digests], folder: Path | None) -> None:
        """Observe the updates from now on."""
        self.setup, self.expected, self.folder = setup, expected, folder
        self.digests = [digests(self._params())]  # from before the first update on
        self.clipped = 0  # updates
        self.parting: Parting | None = None
        self._minibatches = 0
        self._original: Callable[[Model, Batch, State, Update], tuple[Tensor, State]]
        self._original = setup.backend.scratch.train_minibatch
        setup.backend.scratch.train_minibatch = self._train_minibatch

    def _train_minibatch(
        self, model: Model, batch: Batch, state: State, how: Update
    ) -> tuple[Tensor, State]:
        # The same update, observed: digests and elements are kept, and compared.
        scratch = self.setup.backend.scratch
        before, params = self._own(), self._params()
        mean, after, values = self._probe(batch, state, how)
        steps = {name: array / -SCALE for name, array in self._own().items()}
        self._put(before)
        number = len(self.digests)
        unchanged = number % UNCHANGED == 1
        if unchanged:
            mean, after = self._original(model, batch, state, how)
        else:
            scratch.update(model, self._tensors(steps), how._replace(lr=1.0))
            after = tuple(scratch.rounded(each, how.state_grid) for each in after)
        now = digests(self._params() | self._joined(after))
        self.digests.append(now)
        self._keep(values)
        if how.theta is not None:
            norm = np.sqrt(sum((values[name] ** 2).sum() for name in params))
            self.clipped += bool(norm >= how.lr * how.theta * (1 - 2.0**-30))
        # The parameters and states that the steps lead to.
        rounded = {name: np.round(a / grid(name)) * grid(name) for name, a in values.items()}
        rounded |= {name: array - rounded[name] for name, array in params.items()}
        made = digests({name: array + 0.0 for name, array in rounded.items()})
        own = unchanged and differing(made, now)
        names = own or (number < len(self.expected) and differing(self.expected[number], now))
        if names and self.parting is None:
            least = {name: float(distances(name, a).min()) for name, a in values.items()}
            end = self._own()
            moved = self._moved(values, before, batch, state, how)
            self._put(before)
            grows = float(np.nan_to_num(growth.growth(self.setup), nan=LARGEST))
            self._put(end)
            self.parting = Parting(number, names, bool(own), least, moved, grows)
        return mean, after

    def minibatch(self, batch: Batch) -> None:
        """The update has been made; where another function made it, there are digests only."""
        self._minibatches += 1
        if len(self.digests) == self._minibatches:  # beside those from before the first update
            self.digests.append(digests(self._params()))

    def _probe(self, batch: Batch, state: State, how: Update) -> tuple[Tensor, State, Arrays]:
        # The loss, the state, and all that is to be rounded. It leaves no parameters but the steps.
        how = how._replace(lr=how.lr * SCALE, grid=None, state_grid=None)
        mean, state = self._original(self.setup.model, batch, state, how)
        steps = {name: array / -SCALE for name, array in self._params().items()}
        return mean, state, steps | self._joined(state)

    def _moved(
        self, values: Arrays, before: Arrays, batch: Batch, state: State, how: Update
    ) -> dict[str, float]:
        # What other last bits of parameters and state make of the values; but at least what
        # rounding does in a sum of numbers as large as the largest of the steps.
        chance = np.random.RandomState(0)
        steps = [array for name, array in values.items() if not name.startswith("state")]
        least = 8 * EPSILON * np.nanmax([np.abs(array).max() for array in steps])
        moved = {name: 8 * EPSILON if name.startswith("state") else least for name in values}

        def other(array: np.ndarray) -> np.ndarray:
            return array * (1 + EPSILON * chance.choice([-1, 1], array.shape))

        for _ in range(TRIALS):
            self._put({name: other(array) for name, array in before.items()})
            others = self._probe(batch, self._changed(state, other), how)[2]
            for name, array in values.items():
                moved[name] = np.fmax(moved[name], np.abs(others[name] - array).max())
        return {name: float(np.nan_to_num(each, nan=LARGEST)) for name, each in moved.items()}

    def _keep(self, values: Arrays) -> None:
        for name, array in values.items():
            if self.folder is not None:
                flat = array.ravel()
                number = min(CLOSEST, flat.size)
                closest = np.argpartition(distances(name, flat), number - 1)[:number]
                sample = np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(np.int64)
                index = np.concatenate([closest, sample])
                kept = np.empty(len(index), KEPT)
                kept["index"], kept["value"] = index, flat[index]
                with (self.folder / name).open("ab") as file:
                    kept.tofile(file)

    def _params(self) -> Arrays:
        return self.setup.model.to_arrays(self.setup.model.params)

    def _own(self) -> Arrays:
        # The parameters as the model keeps them: a layer may have several in one tensor.
        array = self.setup.backend.machine.array
        return {name: array(param).copy() for name, param in self.setup.model.params.items()}

    def _put(self, arrays: Arrays) -> None:
        # First zeros, because p - (p - a) is not always a.
        for changes in (self._own(), {name: -array for name, array in arrays.items()}):
            tensors = self._tensors(changes)
            self.setup.backend.scratch.update(self.setup.model, tensors, SUBTRACTION)

    def _tensors(self, arrays: Arrays) -> dict[str, Tensor]:
        tensor, device = self.setup.backend.machine.tensor, self.setup.runtime.device
        return {name: tensor(array, device) for name, array in arrays.items()}

    def _changed(self, state: State, change: Callable[[np.ndarray], np.ndarray]) -> State:
        array = self.setup.backend.machine.array
        arrays = {str(number): change(array(each)) for number, each in enumerate(state)}
        return tuple(self._tensors(arrays).values())

    def _joined(self, state: State) -> Arrays:
        # The carried state by name, with the rows of all workers; no zero has a sign.
        names = states(self.setup.settings, len(state))
        arrays = [self.setup.backend.machine.array(each) + 0.0 for each in state]
        if self.setup.team is not None and names:
            arrays = [*exchange.join_rows(self.setup.backend, self.setup.runtime.device, arrays)]
        return dict(zip(names, arrays))
