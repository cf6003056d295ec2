"""What a model's process observes of every update in exact mode: values before they are rounded.

A backend makes an update in one function, which a framework may compile, and which returns no
steps. They are observed all the same, every bit of them, and nothing is computed twice:
`train_minibatch` is called without grids and with a learning rate 2**200 times as large. Beside
such steps the parameters vanish in rounding, so that it leaves the steps alone, and a
multiplication by a power of two is exact. Then the parameters are put back, and `update` and
`rounded` do the rest.

An optimizer that remembers is given rounded gradients, and what it remembers of them takes sums and
products that IEEE 754 defines to the last bit. So for these it is the gradients that are observed,
as the steps of plain gradient descent, and some updates are computed once more with NumPy. Its
steps are rounded, too, and not observed: they can differ only where a compiler has rearranged
Adam's quotient, in the last bit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import exact, registry
from ..contract import OPTIMIZERS, Arrays, Batch, Model, Options, State, Tensor, Update
from ..parameters import everything
from ..runs import growth, training
from ..runs.setup import Setup
from ..settings import Settings
from ..system.records import Record
from ..text import minibatches
from ..workers import exchange

Digests = dict[str, str]  # of each parameter, and of each carried state

GRADIENT = "gradient "  # with which the name of a parameter's gradient begins
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
    """What a tensor is rounded to multiples of: a parameter's step, a gradient, a carried state."""
    grids = {"state": exact.STATE_GRID, GRADIENT.strip(): exact.FINE_GRID}
    return grids.get(name.partition(" ")[0], exact.GRID)


def observed(options: Options, optimizer: str) -> dict[str, str]:
    """For each parameter the name of what is rounded: its step, or its gradient."""
    start = GRADIENT if OPTIMIZERS[optimizer] else ""
    return {name: start + name for name in options.shapes()}


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
        self.digests = [digests(everything(setup.model))]  # from before the first update on
        self.names = observed(setup.model.options, setup.settings.optimizer)
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
        before, arrays = self._own(), everything(model)
        mean, after, values = self._probe(batch, state, how)
        found = self._tensors({name: array / -SCALE for name, array in self._own().items()})
        self._put(before)
        number = len(self.digests)
        unchanged = number % UNCHANGED == 1
        if unchanged:
            mean, after = self._original(model, batch, state, how)
        else:
            if OPTIMIZERS[how.optimizer]:
                scratch.update(model, found, how, batch.rates)
            else:  # steps, with learning rate and weight decay in them
                scratch.update(model, found, SUBTRACTION._replace(grid=how.grid))
            after = tuple(scratch.rounded(each, how.state_grid) for each in after)
        now = digests(everything(model) | self._joined(after))
        self.digests.append(now)
        self._keep(values)
        self.clipped += self._is_clipped(arrays, values, batch, how)
        own = unchanged and differing(digests(self._made(arrays, values, batch, how)), now)
        names = own or (number < len(self.expected) and differing(self.expected[number], now))
        if names and self.parting is None:
            # What was rounded differently: a step, a gradient, or a state.
            bases = [name.partition(".")[2] or name for name in names]
            names = list(dict.fromkeys(self.names.get(name, name) for name in bases))
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
            self.digests.append(digests(everything(self.setup.model)))

    def _made(self, arrays: Arrays, values: Arrays, batch: Batch, how: Update) -> Arrays:
        # What NumPy makes of the values: parameters, what the optimizer remembers, and states.
        numpy, options = registry.load("numpy"), self.setup.model.options._replace(device="cpu")
        model = registry.build("numpy", numpy, "scratch", arrays, options, how.optimizer)
        found = {name: values[value] for name, value in self.names.items()}
        if OPTIMIZERS[how.optimizer]:
            rates = batch.map(self.setup.backend.machine.array).rates
            numpy.scratch.update(model, found, how, rates)
        else:
            numpy.scratch.update(model, found, SUBTRACTION._replace(grid=how.grid))
        made = everything(model)
        for name in values.keys() - set(self.names.values()):  # states
            made[name] = numpy.scratch.rounded(values[name], how.state_grid)
        return {name: array + 0.0 for name, array in made.items()}

    def _is_clipped(self, arrays: Arrays, values: Arrays, batch: Batch, how: Update) -> bool:
        if how.theta is None:
            return False
        found, scale = {name: values[value] for name, value in self.names.items()}, 1.0
        if not OPTIMIZERS[how.optimizer]:  # from the steps back to the gradients
            rates = batch.rates
            scale = how.lr if rates is None else float(self.setup.backend.machine.array(rates.lr))
            decay = scale * how.weight_decay
            found = {name: step - decay * arrays[name] for name, step in found.items()}
        norm = np.sqrt(sum((array**2).sum() for array in found.values()))
        return bool(norm >= scale * how.theta * (1 - 2.0**-30))

    def _probe(self, batch: Batch, state: State, how: Update) -> tuple[Tensor, State, Arrays]:
        # The loss, the state, and all that is to be rounded. It leaves no parameters but the steps,
        # or the gradients, times -SCALE.
        if OPTIMIZERS[how.optimizer]:
            how = Update(SCALE, how.theta, workers=how.workers)
            batch = batch._replace(rates=None)
        else:
            how = how._replace(lr=how.lr * SCALE, grid=None, state_grid=None)
            if batch.rates is not None:
                batch = batch._replace(rates=batch.rates._replace(lr=batch.rates.lr * SCALE))
        model = self.setup.model
        mean, state = self._original(model, batch, state, how)
        arrays = model.to_arrays(model.params)
        found = {self.names[name]: array / -SCALE for name, array in arrays.items()}
        return mean, state, found | self._joined(state)

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
