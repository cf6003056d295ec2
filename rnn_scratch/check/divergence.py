"""Where models diverge in exact mode: the update, the parameter and the element."""

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .. import exact
from ..contract import RNNScratchError
from ..runs import training
from ..settings import Settings
from ..system import processes
from ..text import corpus
from ..workers import groups
from .certificate import Record, element, load, save, shapes
from .exact_mode import TIMEOUT, Progress, Run
from .observation import REFERENCE, AfterUpdate, set_up_observed


def first_difference(runs: Sequence[Run]) -> tuple[Run, Run, int] | None:
    """A model, the one that is the first to differ from it, and after which update it does."""
    started = [run for run in runs if run.digests]
    started.sort(key=lambda run: (run.backend, run.model, run.workers) != (*REFERENCE, 1))
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
    what = (dataclasses.asdict(settings), list(text), update)
    with tempfile.TemporaryDirectory() as parent:
        for number, run in enumerate((base, other)):
            folder = Path(parent, str(number))
            folder.mkdir()
            where = (run.backend, run.model, device)
            calls = groups.calls(run.workers, _retrain, *where, *what, str(folder))
            try:
                for answer in groups.ask_all(calls, TIMEOUT):
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
    rank: int,
    addresses: list[str],
    name: str,
    model: str,
    device: str,
    values: Record,
    text: list[str],
    last: int,
    folder: str,
) -> Iterator[int]:
    setup, observed = set_up_observed(name, model, device, values, text, rank, addresses)
    update = 0

    def keep() -> None:
        if update == last and rank == 0:
            save(Path(folder, "params.npz"), setup.model.to_arrays(setup.model.params))
            save(Path(folder, "steps.npz"), observed.steps if observed else {})

    def count() -> None:
        nonlocal update
        update += 1
        keep()

    keep()
    epochs = training.epochs(observed.setup if observed else setup, AfterUpdate(count))
    while update < last:
        yield next(epochs)[0].epoch
    if setup.team is not None:
        setup.backend.workers.leave()
