"""The record ``exact.json`` of the parity page: digests in exact mode, and the safety factor.

Models stay equal as long as no midpoint between grid points lies between their values of a rounded
element. Frameworks sum the clipped gradients and the carried states in different orders; from equal
gradients, optimizers compute equal numbers. So two numbers determine the safety of an element of
the gradients and states: its distance from a midpoint, and the difference between a model and the
first model. The safety factor is the smallest ratio of these numbers, among the elements that the
first model recorded in each update.

`train_minibatch`, which a framework may compile, does not return the clipped gradients. But they
can be observed bit for bit: it is called with plain gradient descent and the learning rate 2**200.
The parameters vanish in the rounding of such large steps, and a multiplication by a power of two is
exact. Then the parameters are restored, and the update is made.
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
    State,
    Update,
    WorkerGroup,
)
from rnn_scratch.errors import NotOffered
from rnn_scratch.parameters import trained_arrays
from rnn_scratch.registry import BUILTIN_BACKENDS
from rnn_scratch.settings import Settings
from rnn_scratch.system import processes, records
from rnn_scratch.system.records import Record
from rnn_scratch.text import books
from rnn_scratch.training import loop as training
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import Setup, set_up
from rnn_scratch.workers import groups

NUM_DIGESTS = 20  # digests per model, plus the digest of the initial parameters
GRADIENT = "gradient "  # prefix of the names of gradients
LR = 2.0**200
CLOSEST = 64  # recorded elements of a tensor in an update: those closest to a midpoint
SAMPLE = 16  # further recorded elements, at equal indices in every update
ELEMENT = np.dtype([("index", np.int64), ("value", np.float64)])


class Closest(Record):
    """The element that came closest to being rounded differently."""

    tensor: str  # gradient of a parameter, or a carried state
    index: list[int]
    update: int
    distance: float  # distance from the nearest midpoint
    difference: float | None  # between the model and the first model; None for the first model

    @property
    def factor(self) -> float | None:
        """The distance, divided by the difference; None if the models do not differ."""
        return self.distance / self.difference if self.difference else None


class Certificate(Record):
    """The observations of all updates."""

    updates: int
    clipped: int  # updates in which the gradient was clipped
    kept: int  # recorded elements of each gradient and state in each update
    closest: Closest | None
    factor: float | None
    divergence: None = None
    sentence: str = ""


class Certified(Record):
    """The record: models that ended equal, and their safety factor."""

    settings: Settings
    text: str  # its sha256
    models: list[ExactModel]
    equal: bool
    certificate: Certificate


Observed = tuple[AfterEpoch, int, Closest | None]  # the number counts clipped updates


def certify(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, every: int = 1
) -> Certified:
    """Train these models, first the first model alone, and observe all updates."""
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
    text = (
        f"Closest call: in update {closest.update:,} the {closest.tensor}{closest.index} was "
        f"{closest.distance:.1e} from a rounding boundary"
    )
    reach = (
        f"{certificate.kept} elements of each gradient and state in each of "
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
    group: WorkerGroup | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    compares: bool,
    folder: str,
) -> Iterator[Observed]:
    """Train a model in a child process; yield an answer before the first and after each epoch."""
    observer = Observer(set_up(settings, runtime, text, group=group), Path(folder), compares)

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
    """Observes a model's updates by a replacement of its `train_minibatch`.

    The first model writes elements to files in a folder, with which the other models compare.
    """

    def __init__(self, setup: Setup, folder: Path, compares: bool) -> None:
        """Observe the updates from now on."""
        self.setup, self.folder, self.compares = setup, folder, compares
        self.updates = self.clipped = 0
        self.closest: Closest | None = None
        self.least = math.inf, math.inf  # ratio of distance and difference; distance
        scratch = setup.backend.scratch
        self.train_minibatch = scratch.train_minibatch

        def observed(model: Model, batch: Batch, state: State, update: Update):
            self.updates += 1
            params = self._params()
            values = self._gradients_and_state(batch, state, update)
            self._restore(params)
            grads = [array for name, array in values.items() if name.startswith(GRADIENT)]
            norm = np.sqrt(sum((grad**2).sum() for grad in grads))
            self.clipped += bool(norm >= update.theta * (1 - 2.0**-30))
            for name, array in values.items():
                self._compare(name, array)
            return self.train_minibatch(model, batch, state, update)

        scratch.train_minibatch = observed

    def _gradients_and_state(self, batch: Batch, state: State, update: Update) -> Arrays:
        # The values that are rounded. The parameters become the gradients times -LR.
        model, plain = self.setup.model, update._replace(optimizer="sgd", lr=LR)
        _, state = self.train_minibatch(model, batch, state, plain)
        arrays = model.to_arrays(model.params)
        grads = {GRADIENT + name: array / -LR for name, array in arrays.items()}
        return grads | carried(self.setup, state)

    def _params(self) -> Arrays:
        # The parameters in the model's layout: a tensor may contain several parameters.
        array = self.setup.backend.machine.array
        return {name: array(param).copy() for name, param in self.setup.model.params.items()}

    def _restore(self, params: Arrays) -> None:
        # First zeros, because p - (p - a) is not always a.
        tensor, device = self.setup.backend.machine.tensor, self.setup.runtime.device
        for steps in (self._params(), {name: -array for name, array in params.items()}):
            tensors = {name: tensor(array, device) for name, array in steps.items()}
            self.setup.backend.scratch.sgd(self.setup.model, tensors, Update(lr=1.0))

    def _compare(self, name: str, array: np.ndarray) -> None:
        # Record elements of a tensor, or compare them with the first model's elements. Keep the
        # element with the smallest ratio of distance and difference, or with the smallest distance
        # if the models are equal.
        flat, path = array.ravel(), self.folder / name
        has_slots = bool(OPTIMIZERS[self.setup.settings.optimizer].slots)
        gradient_grid = exact.FINE_GRID if has_slots else exact.GRID
        grid = gradient_grid if name.startswith(GRADIENT) else exact.STATE_GRID
        size = min(CLOSEST, flat.size) + min(SAMPLE, flat.size)
        if self.compares:
            begin = (self.updates - 1) * size * ELEMENT.itemsize
            elements = np.fromfile(path, ELEMENT, size, offset=begin)
        else:
            elements = _select(flat, grid)
            with path.open("ab") as file:
                elements.tofile(file)
        pair = flat[elements["index"]], elements["value"]
        distance = np.min([distances(values, grid) for values in pair], axis=0)
        differ, ratio = np.abs(pair[0] - pair[1]), np.full(size, np.inf)
        np.divide(distance, differ, out=ratio, where=differ > 0)
        at = np.lexsort([distance, ratio])[0]
        if (ratio[at], distance[at]) < self.least:
            self.least = float(ratio[at]), float(distance[at])
            self.closest = Closest(
                tensor=name,
                index=[int(i) for i in np.unravel_index(elements["index"][at], array.shape)],
                update=self.updates,
                distance=float(distance[at]),
                difference=float(differ[at]) if self.compares else None,
            )


def distances(values: np.ndarray, grid: float) -> np.ndarray:
    """Return the distances of values from the nearest midpoint between multiples of the grid."""
    # These operations are exact: the grid is a power of two.
    multiples = np.abs(values) / grid
    return np.abs(multiples - np.floor(multiples) - 0.5) * grid


def _select(flat: np.ndarray, grid: float) -> np.ndarray:
    # The recorded elements of a tensor in an update: index and value.
    number = min(CLOSEST, flat.size)
    closest = np.argpartition(distances(flat, grid), number - 1)[:number]
    sample = np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(np.int64)
    elements = np.empty(number + len(sample), ELEMENT)
    elements["index"] = np.concatenate([closest, sample])
    elements["value"] = flat[elements["index"]]
    return elements


def main(file: str, epochs: str = "500") -> None:
    """Make the record of all models of all backends, with the chapter's settings."""
    runtimes = [
        Runtime(name, model, "cpu", threads=1) for name in BUILTIN_BACKENDS for model in VARIANTS
    ]
    text = books.load("time-machine")
    every = max(1, int(epochs) // NUM_DIGESTS)
    record = certify(runtimes, Settings(num_epochs=int(epochs), exact=True), text, every)
    records.write(Path(file), record)
