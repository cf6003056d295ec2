"""The record ``exact.json`` of the parity page: digests in exact mode, and how close it was.

Models stay equal as long as no midpoint of two multiples of the grid lies between their values of
an element, of a step or of a carried state. So two figures say how safe an element was: how close
it came to a midpoint, and by how much a model and the first one differ in it. The smallest ratio of
the two, among the elements that the first model kept of every update, is the safety factor.

A backend makes an update in one function, which a framework may compile, and which returns no
steps. They are observed all the same, every bit of them: `train_minibatch` is called without grids
and with a learning rate 2**200 times as large. Beside such steps the parameters vanish in rounding,
so that it leaves the steps alone, and a multiplication by a power of two is exact. Then the
parameters are put back, and the update is made as it is. With a stateful optimizer it is the
clipped gradients that are observed, as the steps of plain gradient descent.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rnn_scratch import exact
from rnn_scratch.check import exact_mode
from rnn_scratch.check.exact_mode import AfterEpoch, ExactModel, carried
from rnn_scratch.contract import (
    OPTIMIZERS,
    VARIANTS,
    Arrays,
    Batch,
    Model,
    Rates,
    State,
    Team,
    Update,
)
from rnn_scratch.errors import NotOffered
from rnn_scratch.parameters import trained_arrays
from rnn_scratch.registry import OURS
from rnn_scratch.runs import training
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import Setup, set_up
from rnn_scratch.settings import Settings
from rnn_scratch.system import files, processes, records
from rnn_scratch.system.records import Record
from rnn_scratch.text import books
from rnn_scratch.workers import groups

KEPT = 20  # digests of each model, besides the first
GRADIENT = "gradient "  # with which the name of a parameter's gradient begins
SCALE = 2.0**200
CLOSEST = 64  # elements of each tensor that are kept of each update: the closest to a midpoint,
SAMPLE = 16  # and some that are the same ones in every update
ELEMENT = np.dtype([("index", np.int64), ("value", np.float64)])


class Closest(Record):
    """The element that came closest to being rounded differently."""

    tensor: str  # a parameter, of whose step it is, or a carried state
    index: list[int]
    update: int
    distance: float  # from a midpoint
    difference: float | None  # of the model and the first one; None: it is the first

    @property
    def factor(self) -> float | None:
        """The distance, divided by the difference; None where the models do not differ."""
        return self.distance / self.difference if self.difference else None


class Certificate(Record):
    """What was observed in all updates."""

    updates: int
    clipped: int  # of them
    kept: int  # elements of each parameter and state, of each update
    closest: Closest | None
    factor: float | None
    divergence: None = None
    sentence: str = ""


class Certified(Record):
    """The record: models that ended equal, and how safe that was."""

    settings: Settings
    text: str  # its sha256
    models: list[ExactModel]
    equal: bool
    certificate: Certificate


Observed = tuple[AfterEpoch, int, Closest | None]  # with the number of clipped updates


def certify(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, every: int = 1
) -> Certified:
    """Train these models, the first one alone and then the others, and observe all updates."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def train(runtime: Runtime, compares: bool) -> tuple[ExactModel, int, Closest | None]:
            model = ExactModel(
                backend=runtime.backend,
                model=runtime.model,
                workers=runtime.workers,
                outcome="trained",
                reason="",
                digests=[],
                cell=settings.cell,
            )
            task = runtime, settings, text, compares, folder
            try:
                answers = list(groups.ask(observe, 1, *task, timeout=exact_mode.EPOCH_TIMEOUT))
            except NotOffered as error:
                model.outcome, model.reason = "not offered", processes.one_line(error.problem)
                return model, 0, None
            model.digests = [after for after, _, _ in answers]
            print(f"{runtime.backend} {runtime.model}: {model.digests[-1].digest}", flush=True)
            return model, *answers[-1][1:]

        ends = [train(runtimes[0], False)]
        ends += pool.map(lambda runtime: train(runtime, True), runtimes[1:])
    models = [model for model, _, _ in ends]
    closest = [least for _, _, least in ends if least is not None]
    trained = [model for model in models if model.outcome == "trained"]
    equal = len({tuple(end.digest for end in model.digests) for model in trained}) == 1
    if not equal:
        raise SystemExit("The models are not equal: check --exact says where they differ.")
    first = min(closest[1:] or closest, key=_order)
    certificate = Certificate(
        updates=trained[0].digests[-1].updates,
        clipped=ends[0][1],
        kept=CLOSEST + SAMPLE,
        closest=first,
        factor=first.factor,
    )
    certificate.sentence = sentence(certificate)
    last = settings.num_epochs
    for model in models:
        model.digests = [a for a in model.digests if a.epoch % every == 0 or a.epoch == last]
    return Certified(
        settings=settings, text=text.sha256, models=models, equal=equal, certificate=certificate
    )


def _order(closest: Closest) -> tuple[float, float]:
    return math.inf if closest.factor is None else closest.factor, closest.distance


def sentence(certificate: Certificate) -> str:
    """Say which element came closest, and the safety factor."""
    closest = certificate.closest
    assert closest is not None
    kinds = {"state": "", GRADIENT.strip(): "the "}
    value = kinds.get(closest.tensor.partition(" ")[0], "the step of ")
    text = (
        f"Closest call: in update {closest.update:,} {value}{closest.tensor}{closest.index} was "
        f"{closest.distance:.1e} from a rounding boundary"
    )
    reach = (
        f"{certificate.kept} elements of each parameter and state in each of "
        f"{certificate.updates:,} updates"
    )
    if closest.difference is None:
        return f"{text}. For a safety factor, name another model to compare with."
    if closest.factor is None:
        return f"{text}; the models do not differ in {reach}."
    text += f", and the models differ by {closest.difference:.1e} in it"
    if closest.factor < 1:
        return f"{text}, which is more: they are equal by luck."
    factor = f"{closest.factor:{',.0f' if closest.factor >= 10 else '.1f'}}"
    return f"{text}: a safety factor of {factor}, the smallest of {reach}."


def observe(
    team: Team | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    compares: bool,
    folder: str,
) -> Iterator[Observed]:
    """Train a model in a child: an answer before the first epoch and after each."""
    observer = Observer(set_up(settings, runtime, text, team=team), Path(folder), compares)

    def answer(epoch: int, perplexity: float | None) -> Observed:
        digest = exact.digest(trained_arrays(observer.setup.model))
        after = AfterEpoch(
            epoch=epoch, perplexity=perplexity, updates=observer.updates, digest=digest
        )
        return after, observer.clipped, observer.closest

    yield answer(0, None)
    for epoch in training.epochs(observer.setup):
        yield answer(epoch.epoch, epoch.perplexity)


class Observer:
    """Observes a model's updates, by a function in the place of its `train_minibatch`.

    The first model leaves elements in a folder, with which the others compare theirs.
    """

    def __init__(self, setup: Setup, folder: Path, compares: bool) -> None:
        """Observe the updates from now on."""
        self.setup, self.folder, self.compares = setup, folder, compares
        self.updates = self.clipped = 0
        self.closest: Closest | None = None
        self.least = math.inf, math.inf  # its ratio of distance and difference, and its distance
        scratch = setup.backend.scratch
        self.train_minibatch = scratch.train_minibatch

        def observed(model: Model, batch: Batch, state: State, how: Update):
            self.updates += 1
            before, arrays = self._layout(), trained_arrays(model)
            values = self._values(batch, state, how)
            self._put(before)
            self.clipped += self._is_clipped(arrays, values, batch, how)
            for name, array in values.items():
                self._compare(name, array)
            return self.train_minibatch(model, batch, state, how)

        scratch.train_minibatch = observed

    def _values(self, batch: Batch, state: State, how: Update) -> Arrays:
        # All that is to be rounded. It leaves no parameters but the steps, or the gradients, times
        # -SCALE.
        start = ""
        rates = self._rates(SCALE)
        if OPTIMIZERS[how.optimizer].slots:
            how, start = Update(how.theta), GRADIENT
        else:
            how = how._replace(grid=None, state_grid=None)
            rates = self._rates(self._rate(batch) * SCALE)
        batch = batch._replace(rates=rates)
        model = self.setup.model
        _, state = self.train_minibatch(model, batch, state, how)
        arrays = model.to_arrays(model.params)
        values = {start + name: array / -SCALE for name, array in arrays.items()}
        return values | carried(self.setup, state)

    def _is_clipped(self, arrays: Arrays, values: Arrays, batch: Batch, how: Update) -> bool:
        scale, grads = 1.0, [values.get(GRADIENT + name) for name in arrays]
        if not OPTIMIZERS[how.optimizer].slots:  # the steps are the gradients times the rate
            scale, grads = self._rate(batch), [values[name] for name in arrays]
        norm = np.sqrt(sum((array**2).sum() for array in grads if array is not None))
        return bool(norm >= scale * how.theta * (1 - 2.0**-30))

    def _rate(self, batch: Batch) -> float:
        assert batch.rates is not None  # as in all training
        return float(self.setup.backend.machine.array(batch.rates.lr))

    def _rates(self, lr: float) -> Rates:
        # A tensor, as a framework may read one of Python's numbers as text.
        machine, device = self.setup.backend.machine, self.setup.runtime.device
        return Rates(machine.tensor(np.asarray(lr), device))

    def _layout(self) -> Arrays:
        # The parameters as the model keeps them: a layer may have several in one tensor.
        array = self.setup.backend.machine.array
        return {name: array(param).copy() for name, param in self.setup.model.params.items()}

    def _put(self, arrays: Arrays) -> None:
        # First zeros, because p - (p - a) is not always a.
        tensor, device = self.setup.backend.machine.tensor, self.setup.runtime.device
        for changes in (self._layout(), {name: -array for name, array in arrays.items()}):
            tensors = {name: tensor(array, device) for name, array in changes.items()}
            self.setup.backend.scratch.sgd(self.setup.model, tensors, Update(), self._rates(1.0))

    def _compare(self, name: str, array: np.ndarray) -> None:
        # Keep elements of a tensor, or compare them with those of the first model. Remember the one
        # with the smallest ratio of distance and difference or, where none differs, distance.
        flat, path = array.ravel(), self.folder / name
        size = min(CLOSEST, flat.size) + min(SAMPLE, flat.size)
        if self.compares:
            begin = (self.updates - 1) * size * ELEMENT.itemsize
            kept = np.fromfile(path, ELEMENT, size, offset=begin)
        else:
            kept = _chosen(name, flat)
            with path.open("ab") as file:
                kept.tofile(file)
        pair = flat[kept["index"]], kept["value"]
        distance = np.min([distances(name, values) for values in pair], axis=0)
        differ, ratio = np.abs(pair[0] - pair[1]), np.full(size, np.inf)
        np.divide(distance, differ, out=ratio, where=differ > 0)
        at = np.lexsort([distance, ratio])[0]
        if (ratio[at], distance[at]) < self.least:
            self.least = float(ratio[at]), float(distance[at])
            self.closest = Closest(
                tensor=name,
                index=[int(i) for i in np.unravel_index(kept["index"][at], array.shape)],
                update=self.updates,
                distance=float(distance[at]),
                difference=float(differ[at]) if self.compares else None,
            )


def distances(name: str, values: np.ndarray) -> np.ndarray:
    """Return how far values of a tensor are from the nearest midpoint of two multiples."""
    grids = {"state": exact.STATE_GRID, GRADIENT.strip(): exact.FINE_GRID}
    grid = grids.get(name.partition(" ")[0], exact.GRID)
    # Nothing is rounded here: a grid is a power of two, and near a midpoint a difference is exact.
    multiples = np.abs(values) / grid
    return np.abs(multiples - np.floor(multiples) - 0.5) * grid


def _chosen(name: str, flat: np.ndarray) -> np.ndarray:
    # The elements that are kept of a tensor in an update: index and value.
    number = min(CLOSEST, flat.size)
    closest = np.argpartition(distances(name, flat), number - 1)[:number]
    sample = np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(np.int64)
    kept = np.empty(number + len(sample), ELEMENT)
    kept["index"] = np.concatenate([closest, sample])
    kept["value"] = flat[kept["index"]]
    return kept


def main(file: str, epochs: str = "500") -> None:
    """Make the record of all models of all backends, with the chapter's settings."""
    runtimes = [Runtime(name, model, "cpu", threads=1) for name in OURS for model in VARIANTS]
    text = books.load("time-machine")
    every = max(1, int(epochs) // KEPT)
    record = certify(runtimes, Settings(num_epochs=int(epochs), exact=True), text, every)
    files.replace(Path(file), records.encoded(record))
