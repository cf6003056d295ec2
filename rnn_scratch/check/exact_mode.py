"""Exact mode's check: models compared after every update, and a certificate of their equality.

Each model is trained in a process of its own. The reference's steps are observed in every update,
and those of all models in a sample of epochs over the whole run.

If models diverge, `divergence` trains the reference (or else the first model) and one that differs
from it once more, up to the first update after which they differ.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from .. import exact, registry
from ..contract import VARIANTS, RNNScratchError
from ..runs import training
from ..settings import Settings
from ..system import processes
from ..system.schema import length
from ..text import corpus
from ..workers import groups
from .certificate import Closest, Record, Sample, save, sentence
from .observation import AfterUpdate, last_steps, set_up_observed

TIMEOUT = 24 * 3600.0  # seconds for one epoch
SAMPLE = 10  # epochs


@dataclasses.dataclass
class Run:
    """The training of one model."""

    backend: str
    model: str
    cell: str
    workers: int = 1
    outcome: str = "trained"  # or "failed" or "not offered"
    reason: str = ""
    epochs: list[Record] = dataclasses.field(default_factory=list)  # from epoch 0 on
    digests: list[str] = dataclasses.field(default_factory=list)  # after each update, from 0 on
    steps: Record = dataclasses.field(default_factory=dict)  # what the observation records

    @property
    def title(self) -> str:
        """The backend, with variant, cell and workers if they are not the default ones."""
        workers = f"{self.workers} workers" if self.workers > 1 else ""
        defaults = {self.model: VARIANTS[0], self.cell: Settings.cell, workers: ""}
        more = ", ".join(name for name, default in defaults.items() if name != default)
        return f"{self.backend} ({more})" if more else self.backend

    def record(self, epochs: Sequence[int]) -> Record:
        """What is kept of it, with the digests after these epochs."""
        return {
            "backend": self.backend,
            "model": self.model,
            "workers": self.workers,
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
    # The result of the observation; sent after the last epoch.
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
    workers: int = 1,
) -> Run:
    """Train a model in exact mode, and add its steps to the sample."""
    run = Run(name, model, settings.cell, workers)
    where, what = (name, model, device), (dataclasses.asdict(settings), list(text))
    with tempfile.TemporaryDirectory() as folder:
        try:
            for answer in groups.ask_all(
                groups.calls(workers, _train, *where, *what, folder), TIMEOUT
            ):
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
    rank: int,
    addresses: list[str],
    name: str,
    model: str,
    device: str,
    values: Record,
    text: list[str],
    folder: str,
) -> Iterator[Record]:
    try:
        setup, observed = set_up_observed(name, model, device, values, text, rank, addresses)
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
        if epoch in sample and rank == 0:
            save(Path(folder, f"{epoch}.npz"), last_steps(setup, epoch))

    keep_digest()
    yield _Epoch(0, None, digests)._asdict()
    before(1)
    report = AfterUpdate(keep_digest)
    for epoch, _ in training.epochs(observed.setup if observed else setup, report):
        yield _Epoch(epoch.epoch, epoch.perplexity, digests)._asdict()
        before(epoch.epoch + 1)
    if observed:
        yield _Steps(observed.closest, observed.clipped)._asdict()
    if setup.team is not None:
        setup.backend.workers.leave()


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
