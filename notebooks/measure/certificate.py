"""Make the record ``exact.json`` for the parity page: digests in exact mode, and a safety factor.

Models stay equal as long as, for each rounded element, no midpoint between grid points lies between
the models' values. In clipped gradients and carried states, frameworks add terms in different
orders; from equal gradients, optimizers compute equal parameters. So two numbers determine how safe
an element of a gradient or state is: its distance from the nearest midpoint, and the difference
between its values in a model and in the first model. The safety factor is the smallest ratio of
distance to difference among the elements that the first model recorded at each update.

`train_minibatch`, which a framework may compile, does not return the clipped gradients. To observe
the gradients bit for bit, `Observer` calls it with plain gradient descent and learning rate 2**200:
rounding removes the old parameters next to such large steps, and scaling by a power of two is
exact. Then `Observer` restores the parameters and makes the actual update.
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rnn_scratch import contract, exact
from rnn_scratch.check import exact_mode
from rnn_scratch.check.exact_mode import EpochDigest, ExactModel, carried
from rnn_scratch.contract import OPTIMIZERS, VARIANTS, Arrays, Batch, State, Update
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
CLOSEST = 64  # number of elements recorded per tensor and update: those closest to a midpoint
SAMPLE = 16  # number of further recorded elements, at the same indices at every update
ELEMENT = np.dtype([("index", np.int64), ("value", np.float64)])


class Closest(Record):
    """The element that came closest to being rounded differently."""

    tensor: str  # name of a parameter's gradient or of a carried state
    index: list[int]
    update: int
    distance: float  # distance from the nearest midpoint
    difference: float | None  # between the model and the first model; None for the first model

    @property
    def factor(self) -> float | None:
        """The distance divided by the difference, or None if the models do not differ."""
        return self.distance / self.difference if self.difference else None


class Certificate(Record):
    """A summary of the observations at all updates."""

    updates: int
    clipped: int  # number of updates with clipped gradients
    num_recorded: int  # number of elements recorded per gradient or state and update
    closest: Closest | None
    factor: float | None
    sentence: str = ""


class Certified(Record):
    """The record: models with equal digests, and their safety factor."""

    settings: Settings
    text: str  # SHA-256 digest of the text
    models: list[ExactModel]
    equal: bool
    certificate: Certificate


Observed = tuple[EpochDigest, int, Closest | None]  # int: the number of clipped updates


def certify(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, every: int = 1
) -> Certified:
    """Train the first model, then the others; observe all updates. Exit if digests differ."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def train(runtime: Runtime, compares: bool) -> tuple[ExactModel, int, Closest | None]:
            model = ExactModel(
                backend=runtime.backend,
                model=runtime.model,
                workers=runtime.workers,
                outcome="trained",
                reason="",
                digests=[],
            )
            task = runtime, settings, text, compares, folder
            try:
                answers = list(groups.ask(observe, 1, *task, timeout=exact_mode.EPOCH_TIMEOUT))
            except NotOffered as error:
                model.outcome, model.reason = "not offered", processes.one_line(error.problem)
                return model, 0, None
            model.digests = [result for result, _, _ in answers]
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
        num_recorded=CLOSEST + SAMPLE,
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
    """Return a sentence that describes the closest element and the safety factor."""
    closest = certificate.closest
    assert closest is not None
    text = (
        f"Closest call: in update {closest.update:,} the {closest.tensor}{closest.index} was "
        f"{closest.distance:.1e} from a rounding boundary"
    )
    reach = (
        f"{certificate.num_recorded} elements of each gradient and state in each of "
        f"{certificate.updates:,} updates"
    )
    if closest.factor is None:
        return f"{text}; the models do not differ in {reach}."
    text += f", and the models differ by {closest.difference:.1e} in it"
    factor = f"{closest.factor:{',.0f' if closest.factor >= 10 else '.1f'}}"
    return f"{text}: a safety factor of {factor}, the smallest of {reach}."


def observe(
    group: contract.WorkerGroup | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    compares: bool,
    folder: str,
) -> Iterator[Observed]:
    """Train a model in a child process; yield observations before training and after each epoch."""
    observer = Observer(set_up(settings, runtime, text, group=group), Path(folder), compares)

    def answer(epoch: int, perplexity: float | None) -> Observed:
        digest = exact.digest(trained_arrays(observer.setup.model))
        result = EpochDigest(
            epoch=epoch, perplexity=perplexity, updates=observer.updates, digest=digest
        )
        return result, observer.clipped, observer.closest

    yield answer(0, None)
    for epoch in training.epochs(observer.setup):
        yield answer(epoch.epoch, epoch.perplexity)


class Observer:
    """An observer of a model's updates that replaces the backend's `train_minibatch`.

    The first model's observer writes elements to files in `folder`; other observers read the files.
    """

    def __init__(self, setup: Setup, folder: Path, compares: bool) -> None:
        """Replace `train_minibatch`, so that the observer sees all further updates."""
        self.setup, self.folder, self.compares = setup, folder, compares
        self.updates = self.clipped = 0
        self.closest: Closest | None = None
        self.least = math.inf, math.inf  # ratio of distance to difference; distance
        scratch = setup.backend.scratch
        self.train_minibatch = scratch.train_minibatch

        def observed(model, batch, state, update):
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
        # Return the values to be rounded. This turns the parameters into the gradients times -LR.
        model, plain = self.setup.model, update._replace(optimizer="sgd", lr=LR)
        _, state = self.train_minibatch(model, batch, state, plain)
        arrays = model.to_arrays(model.params)
        grads = {GRADIENT + name: array / -LR for name, array in arrays.items()}
        return grads | carried(self.setup, state)

    def _params(self) -> Arrays:
        # Copy the parameters in the model's layout, where a tensor may contain several parameters.
        array = self.setup.backend.machine.array
        return {name: array(param).copy() for name, param in self.setup.model.params.items()}

    def _restore(self, params: Arrays) -> None:
        # Set the parameters to zero first, because p - (p - a) is not always a.
        tensor, device = self.setup.backend.machine.tensor, self.setup.runtime.device
        for steps in (self._params(), {name: -array for name, array in params.items()}):
            tensors = {name: tensor(array, device) for name, array in steps.items()}
            self.setup.backend.scratch.sgd(self.setup.model, tensors, Update(lr=1.0))

    def _compare(self, name: str, array: np.ndarray) -> None:
        # Record elements of a tensor, or compare them with the first model's elements. Keep the
        # element with the smallest ratio of distance to difference, or with the smallest distance
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
    """Return each value's distance from the nearest midpoint between multiples of `grid`."""
    # These operations are exact, because the grid is a power of two.
    multiples = np.abs(values) / grid
    return np.abs(multiples - np.floor(multiples) - 0.5) * grid


def _select(flat: np.ndarray, grid: float) -> np.ndarray:
    # Return the indices and values of the elements of a tensor to record at one update.
    number = min(CLOSEST, flat.size)
    closest = np.argpartition(distances(flat, grid), number - 1)[:number]
    sample = np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(np.int64)
    elements = np.empty(number + len(sample), ELEMENT)
    elements["index"] = np.concatenate([closest, sample])
    elements["value"] = flat[elements["index"]]
    return elements


def main(file: str, epochs: str = "500") -> None:
    """Write the record of all variants of all backends, with the chapter's settings."""
    runtimes = [
        Runtime(name, model, "cpu", threads=1) for name in BUILTIN_BACKENDS for model in VARIANTS
    ]
    text = books.load("time-machine")
    every = max(1, int(epochs) // NUM_DIGESTS)
    record = certify(runtimes, Settings(num_epochs=int(epochs), exact=True), text, every)
    records.write(Path(file), record)
