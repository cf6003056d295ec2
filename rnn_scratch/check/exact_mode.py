"""Exact mode's check: models compared after every update, and a certificate of their equality.

Each model is trained in a process of its own. The reference's steps are observed in every update,
and those of all models in a sample of epochs over the whole training.

If models diverge, the reference (or else the first model) and one that differs from it are trained
once more, up to the first update after which they differ.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from .. import exact, registry
from ..contract import VARIANTS, Arrays, Params, RNNScratchError, State, Tensor
from ..runs import training
from ..runs.setup import Place, Setup, set_up
from ..settings import Settings
from ..system import processes
from ..system.schema import length
from ..text import corpus, minibatches
from .certificate import Closest, Record, Sample, element, load, save, sentence, shapes

TIMEOUT = 24 * 3600.0  # seconds for one epoch
REFERENCE = ("numpy", "scratch")  # its backward pass is a function, in which steps can be observed
SAMPLE = 10  # epochs


@dataclasses.dataclass
class Run:
    """The training of one model."""

    backend: str
    model: str
    cell: str
    outcome: str = "trained"  # or "failed" or "not offered"
    reason: str = ""
    epochs: list[Record] = dataclasses.field(default_factory=list)  # from epoch 0 on
    digests: list[str] = dataclasses.field(default_factory=list)  # after each update, from 0 on
    steps: Record = dataclasses.field(default_factory=dict)  # what `_Observed` records

    @property
    def title(self) -> str:
        """The backend, with the variant and the cell if they are not the default ones."""
        defaults = {self.model: VARIANTS[0], self.cell: Settings.cell}
        more = ", ".join(name for name, default in defaults.items() if name != default)
        return f"{self.backend} ({more})" if more else self.backend

    def record(self, epochs: Sequence[int]) -> Record:
        """What is kept of it, with the digests after these epochs."""
        return {
            "backend": self.backend,
            "model": self.model,
            "outcome": self.outcome,
            "reason": self.reason,
            "digests": [row for row in self.epochs if row["epoch"] in epochs],
        }


class _NotOffered(NamedTuple):
    # The backend lacks the variant; the only thing that its worker sends.
    reason: str


class _Epoch(NamedTuple):
    # What a worker sends before the first epoch and after each.
    epoch: int
    perplexity: float | None
    digests: Annotated[list[str], length(1, 10**9)]  # after each update


class _Steps(NamedTuple):
    # What `_Observed` has found; sent after the last epoch.
    closest: Closest
    clipped: int


Progress = Callable[[Run, int], None]  # called after each epoch


def train(
    name: str,
    model: str,
    device: str,
    settings: Settings,
    text: corpus.Text,
    sample: Sample,
    progress: Progress,
) -> Run:
    """Train a model in exact mode, and add its steps to the sample."""
    run = Run(name, model, settings.cell)
    what = (name, model, device, dataclasses.asdict(settings), list(text))
    with tempfile.TemporaryDirectory() as folder:
        try:
            for answer in processes.ask(f"{__name__}:_train", *what, folder, timeout=TIMEOUT):
                event = _event(answer)
                if isinstance(event, _NotOffered):
                    run.outcome, run.reason = "not offered", event.reason
                elif isinstance(event, _Steps):
                    run.steps = event._asdict()
                else:
                    _add(run, event)
                    progress(run, event.epoch)
            if run.outcome == "trained" and len(run.epochs) != settings.num_epochs + 1:
                raise RNNScratchError("it ended before the last epoch")
            sample.add(Path(folder))
        except RNNScratchError as error:
            run.outcome, run.reason = "failed", str(error)
    return run


def _event(answer: Any) -> "_NotOffered | _Epoch | _Steps":
    for kind in (_NotOffered, _Epoch, _Steps):
        if isinstance(answer, dict) and kind._fields[0] in answer:
            return processes.verified(kind, answer)
    raise RNNScratchError("it sent a wrong answer")


def _add(run: Run, event: "_Epoch") -> None:
    if event.epoch != len(run.epochs):
        raise RNNScratchError(f"it sent epoch {event.epoch} instead of {len(run.epochs)}")
    run.digests += event.digests
    row = {"epoch": event.epoch, "perplexity": event.perplexity}
    run.epochs.append({**row, "updates": len(run.digests) - 1, "digest": run.digests[-1]})


def _train(
    name: str, model: str, device: str, values: Record, text: list[str], folder: str
) -> Iterator[Record]:
    try:
        setup, observed = _set_up(name, model, device, values, text)
    except registry.NotOffered as error:
        yield _NotOffered(str(error).splitlines()[0])._asdict()
        return
    num_epochs = setup.settings.num_epochs
    sample = set(np.linspace(1, num_epochs, SAMPLE).round())
    digests: list[str] = []

    def keep_digest() -> None:
        digests.append(exact.digest(setup.model.to_arrays(setup.model.params)))

    def before(epoch: int) -> None:
        digests.clear()
        if epoch in sample:
            save(Path(folder, f"{epoch}.npz"), _last_steps(setup, epoch))

    keep_digest()
    yield _Epoch(0, None, digests)._asdict()
    before(1)
    report = _AfterUpdate(keep_digest)
    for epoch, _ in training.epochs(observed.setup if observed else setup, report):
        yield _Epoch(epoch.epoch, epoch.perplexity, digests)._asdict()
        before(epoch.epoch + 1)
    if observed:
        yield _Steps(observed.closest, observed.clipped)._asdict()


class _AfterUpdate(training.Report):
    """Calls a function after each update."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def minibatch(self, X: np.ndarray, Y: np.ndarray) -> None:
        self.function()


class _Observed:
    """A setup of the reference whose backward pass keeps an account of the steps."""

    def __init__(self, setup: Setup) -> None:
        self.inner = setup
        self.setup = setup._replace(model=dataclasses.replace(setup.model, backward=self.backward))
        self.steps: Arrays = {}  # of the last update
        self.closest: Closest = {"distance": exact.GRID, "update": 0, "parameter": "", "index": []}
        self.updates = self.clipped = 0

    def backward(self, X: Tensor, Y: Tensor, state: State) -> tuple[Tensor, Params, State]:
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


def _set_up(
    name: str, model: str, device: str, values: Record, text: list[str]
) -> tuple[Setup, _Observed | None]:
    setup = set_up(Settings(**values), Place(name, model, device), corpus.Text(*text))
    return setup, _Observed(setup) if (name, model) == REFERENCE else None


def _steps(setup: Setup, grads: Params) -> tuple[Arrays, bool]:
    # And whether the gradients were clipped.
    theta = setup.settings.theta
    grads, norm = setup.backend.scratch.clip(grads, theta)
    arrays = setup.model.to_arrays(grads)
    steps = {name: setup.settings.lr * grad for name, grad in arrays.items()}
    return steps, theta is not None and float(norm) > theta


def _last_steps(setup: Setup, epoch: int) -> Arrays:
    # Of the last minibatch, after a state that is carried through the epoch: it carries the
    # differences along. The parameters stay those before the epoch.
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


def first_difference(runs: Sequence[Run]) -> tuple[Run, Run, int] | None:
    """A model, the one that is the first to differ from it, and after which update it does."""
    started = [run for run in runs if run.digests]
    started.sort(key=lambda run: (run.backend, run.model) != REFERENCE)
    differences = [
        (started[0], run, update)
        for run in started[1:]
        for update, digests in enumerate(zip(started[0].digests, run.digests))
        if len(set(digests)) > 1
    ]
    return min(differences, key=lambda each: each[2], default=None)


def locate(
    base: Run,
    other: Run,
    update: int,
    device: str,
    settings: Settings,
    text: corpus.Text,
    progress: Progress,
) -> Record:
    """Where two models differ after an update: both are trained once more up to there."""
    divergence: Record = {"models": [base.title, other.title], "update": update}
    what = (device, dataclasses.asdict(settings), list(text), update)
    with tempfile.TemporaryDirectory() as parent:
        for number, run in enumerate((base, other)):
            folder = Path(parent, str(number))
            folder.mkdir()
            arguments = (run.backend, run.model, *what, str(folder))
            try:
                for answer in processes.ask(f"{__name__}:_retrain", *arguments, timeout=TIMEOUT):
                    progress(run, processes.verified(int, answer))
            except RNNScratchError as error:
                return {**divergence, "reason": f"{run.title} failed: {error}"}
        expected, actual = (load(Path(parent, number, "params.npz")) for number in "01")
        steps = load(Path(parent, "0", "steps.npz"))
    if shapes(expected) != shapes(actual):
        return {**divergence, "reason": "their parameters differ in name or shape"}
    differences = {name: np.abs(expected[name] - actual[name]) for name in expected}
    name = max(differences, key=lambda name: differences[name].max())
    place = np.unravel_index(np.argmax(differences[name]), differences[name].shape)
    if not differences[name][place]:
        return {**divergence, "reason": "there was no difference"}
    return {
        **divergence,
        **element(name, place),
        "difference": float(differences[name][place]),
        "elements": sum(int(np.count_nonzero(array)) for array in differences.values()),
        "distance": float(exact.distances(steps[name])[place]) if steps else None,
    }


def _retrain(
    name: str,
    model: str,
    device: str,
    values: Record,
    text: list[str],
    last: int,
    folder: str,
) -> Iterator[int]:
    setup, observed = _set_up(name, model, device, values, text)
    update = 0

    def keep() -> None:
        if update == last:
            save(Path(folder, "params.npz"), setup.model.to_arrays(setup.model.params))
            save(Path(folder, "steps.npz"), observed.steps if observed else {})

    def count() -> None:
        nonlocal update
        update += 1
        keep()

    keep()
    epochs = training.epochs(observed.setup if observed else setup, _AfterUpdate(count))
    while update < last:
        yield next(epochs)[0].epoch


def certificate(runs: Sequence[Run], sample: Sample, divergence: Record | None) -> Record:
    """What was observed of the steps, and the sentence that says it.

    After a divergence the models' steps are those of different parameters, and not compared.
    """
    trained = [run for run in runs if run.outcome == "trained"]
    result: Record = {"updates": None, "clipped": None, "closest": None, "compared": None}
    for run in trained:
        if run.steps:
            result |= {"updates": run.epochs[-1]["updates"], **run.steps}
    if len(trained) > 1:
        starts = {epoch: trained[0].epochs[epoch - 1]["updates"] for epoch in sorted(sample.bounds)}
        epochs = [e for e in starts if divergence is None or starts[e] < divergence["update"]]
        if epochs:
            result["compared"] = {**sample.largest(epochs), "epochs": epochs}
    difference = result["compared"] and result["compared"]["difference"]
    safe = result["closest"] and difference and divergence is None
    result["factor"] = result["closest"]["distance"] / difference if safe else None
    result["divergence"] = divergence
    return {**result, "sentence": sentence(result) if trained else ""}
