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

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import registry
from ..contract import OPTIMIZERS, Arrays, Batch, Model, State, Tensor, Update
from ..parameters import trained_arrays
from ..runs import exchange
from ..runs.setup import Setup
from ..settings import Settings
from ..text import minibatches
from . import growth
from .certificate import GRADIENT, Divergence
from .kept import LARGEST, Kept, differing, digests, distances

SCALE = 2.0**200
SUBTRACTION = Update(lr=1.0, theta=None)  # subtracts what it is given
UNCHANGED = 16  # one in so many updates is made by `train_minibatch` as it is, from the first on
EPSILON = 2.0**-52  # of rounding, relative
TRIALS = 3  # of what rounding changes
# Rounding is the reason of a difference that is not as many times as large as the one that it was
# measured to make: it may make a larger one in another framework.
MARGIN = 1000


def states(settings: Settings, number: int) -> list[str]:
    """Names of the tensors in the state; none where it is not carried."""
    if not minibatches.carries(settings.sampling):
        return []
    return ["state"] if number == 1 else [f"state {each}" for each in range(number)]


class Observer:
    """Observes a model's updates, by a function in the place of its `train_minibatch`.

    The first model leaves digests and elements in a folder, with which the others are compared.
    With several workers, each has an observer.
    """

    def __init__(self, setup: Setup, title: str, first: str, folder: Path) -> None:
        """Observe the updates from now on; `first` is the first model's title, "" in itself."""
        self.setup, self.title, self.first = setup, title, first
        keeps = not first and (setup.team is None or setup.team.rank == 0)
        self.kept = Kept(folder, bool(first), keeps)
        # For each parameter the name of what is rounded: its step, or its gradient.
        start = GRADIENT if OPTIMIZERS[setup.settings.optimizer].slots else ""
        self.names = {name: start + name for name in setup.model.options.shapes()}
        self.updates = self.clipped = 0
        self.divergence: Divergence | None = None
        self._minibatches = 0
        self._end_update()
        self._original: Callable[[Model, Batch, State, Update], tuple[Tensor, State]]
        self._original = setup.backend.scratch.train_minibatch
        setup.backend.scratch.train_minibatch = self._train_minibatch

    def _train_minibatch(
        self, model: Model, batch: Batch, state: State, how: Update
    ) -> tuple[Tensor, State]:
        # The same update, observed: digests and elements are kept or compared.
        scratch = self.setup.backend.scratch
        before, arrays = self._own(), trained_arrays(model)
        mean, after, values = self._probe(batch, state, how)
        found = self._tensors({name: array / -SCALE for name, array in self._own().items()})
        self._put(before)
        self.updates += 1
        unchanged = self.updates % UNCHANGED == 1
        if unchanged:
            mean, after = self._original(model, batch, state, how)
        else:
            if OPTIMIZERS[how.optimizer].slots:
                scratch.update(model, found, how, batch.rates)
            else:  # steps, with learning rate and weight decay in them
                scratch.update(model, found, SUBTRACTION._replace(grid=how.grid))
            after = tuple(scratch.rounded(each, how.state_grid) for each in after)
        now = digests(trained_arrays(model) | self._joined(after))
        self.clipped += self._is_clipped(arrays, values, batch, how)
        apart = {name: self.kept.apart(self.updates, name, array) for name, array in values.items()}
        own = unchanged and differing(digests(self._made(arrays, values, batch, how)), now)
        differ = self.kept.differing(self.updates, now)
        if (names := own or differ) and self.divergence is None:
            end, moved = self._own(), self._moved(values, before, batch, state, how)
            self._put(before)
            grows = float(np.nan_to_num(growth.growth(self.setup), nan=LARGEST))
            self._put(end)
            self.divergence = self._explained(names, values, apart, moved, grows)
            if own:
                self.divergence.models[0] = f"{self.title}'s own steps"
        return mean, after

    def minibatch(self, batch: Batch) -> None:
        """The update has been made; where another function made it, there are digests only."""
        self._minibatches += 1
        if self.updates < self._minibatches:
            self.updates += 1
            self._end_update()

    def _end_update(self) -> None:
        # Compare the digests of an update that was not observed, or of before the first.
        names = self.kept.differing(self.updates, digests(trained_arrays(self.setup.model)))
        if names and self.divergence is None:
            self.divergence = Divergence([self.first, self.title], self.updates, names)

    def _explained(
        self,
        names: list[str],
        values: Arrays,
        apart: dict[str, float],
        moved: dict[str, float],
        grows: float,
    ) -> Divergence:
        # Whether rounding explains what was rounded differently, steps, gradients or states, and
        # the differences of all that were kept.
        bases = [name.partition(".")[2] or name for name in names]
        tensors = list(dict.fromkeys(self.names.get(name, name) for name in bases))
        least = {name: float(distances(name, array).min()) for name, array in values.items()}
        scores = {
            name: max(least[name] if name in tensors else 0.0, apart[name]) / moved[name]
            for name in values
        }
        explained = max(scores.values()) <= MARGIN
        # Of all that do not fit, the worst one; else of those that were rounded differently.
        tensor = max(tensors if explained else scores, key=scores.__getitem__)
        figures = least[tensor], apart[tensor], moved[tensor], grows
        models = [self.first, self.title]
        return Divergence(models, self.updates, tensors, explained, tensor, *figures)

    def _made(self, arrays: Arrays, values: Arrays, batch: Batch, how: Update) -> Arrays:
        # What NumPy makes of the values: parameters, what the optimizer remembers, and states.
        numpy, options = registry.load("numpy"), self.setup.model.options._replace(device="cpu")
        model = registry.build("numpy", numpy, "scratch", arrays, options, how.optimizer)
        found = {name: values[value] for name, value in self.names.items()}
        if OPTIMIZERS[how.optimizer].slots:
            rates = batch.map(self.setup.backend.machine.array).rates
            numpy.scratch.update(model, found, how, rates)
        else:
            numpy.scratch.update(model, found, SUBTRACTION._replace(grid=how.grid))
        made = trained_arrays(model)
        for name in values.keys() - set(self.names.values()):  # states
            made[name] = numpy.scratch.rounded(values[name], how.state_grid)
        return {name: array + 0.0 for name, array in made.items()}

    def _is_clipped(self, arrays: Arrays, values: Arrays, batch: Batch, how: Update) -> bool:
        if how.theta is None:
            return False
        found, scale = {name: values[value] for name, value in self.names.items()}, 1.0
        if not OPTIMIZERS[how.optimizer].slots:  # from the steps back to the gradients
            rates = batch.rates
            scale = how.lr if rates is None else float(self.setup.backend.machine.array(rates.lr))
            decay = scale * how.weight_decay
            found = {name: step - decay * arrays[name] for name, step in found.items()}
        norm = np.sqrt(sum((array**2).sum() for array in found.values()))
        return bool(norm >= scale * how.theta * (1 - 2.0**-30))

    def _probe(self, batch: Batch, state: State, how: Update) -> tuple[Tensor, State, Arrays]:
        # The loss, the state, and all that is to be rounded. It leaves no parameters but the steps,
        # or the gradients, times -SCALE.
        if OPTIMIZERS[how.optimizer].slots:
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
