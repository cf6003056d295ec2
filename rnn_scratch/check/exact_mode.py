"""Exact mode's check: models compared after every update, and a certificate of their equality.

Each model is trained in a process of its own. The reference's steps are observed in every update,
and those of all models in a sample of epochs over the whole run.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from .. import exact, registry
from ..contract import Arrays, Batch, Params, RNNScratchError, State, Team, Tensor
from ..runs import training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings
from ..system.records import Record
from ..text import corpus, minibatches
from ..workers import groups
from .certificate import (
    REFERENCE,
    AfterEpoch,
    Closest,
    Digests,
    Result,
    Run,
    Training,
    certificate,
)

TIMEOUT = 24 * 3600.0  # seconds for one epoch
SAMPLE = 10  # epochs

Progress = Callable[[Run, int], None]  # called at the start and after each epoch


class _NotOffered(Record, tag=True):
    # The backend lacks the variant; the only thing that its child sends.
    reason: str


class _Epoch(Record, tag=True):
    # What a child sends before the first epoch and after each.
    epoch: int
    perplexity: float | None
    digest: str
    digests: Annotated[list[Digests], Meta(min_length=1)]  # after each update


class _Steps(Record, tag=True):
    # The result of the observation; sent after the last epoch.
    closest: Closest
    updates: int = 0
    clipped: int = 0  # of them


_Event = _NotOffered | _Epoch | _Steps


def compare(
    runtimes: Sequence[Runtime], settings: Settings, text: corpus.Text, progress: Progress
) -> Result:
    """Train these models in exact mode, and compare their parameters after every update."""
    with tempfile.TemporaryDirectory() as parent:
        trainings = []
        for number, runtime in enumerate(runtimes):
            run = Run(
                runtime.backend, runtime.model, runtime.workers, "trained", "", [], settings.cell
            )
            trainings.append(Training(run, Path(parent, str(number))))
            progress(run, 0)
            try:
                _receive(trainings[-1], runtime, settings, text, progress)
            except RNNScratchError as error:
                run.outcome, run.reason = "failed", str(error)
        found = certificate(trainings)
    runs = [each.run for each in trainings]
    complete = any(run.digests for run in runs) and all(run.outcome != "failed" for run in runs)
    return Result(settings, text.sha256, runs, complete and not found.divergence, found)


def _receive(
    training: Training, runtime: Runtime, settings: Settings, text: corpus.Text, progress: Progress
) -> None:
    run = training.run
    training.folder.mkdir()
    calls = groups.calls(runtime.workers, _train, runtime, settings, text, str(training.folder))
    for event in groups.ask_all(calls, TIMEOUT):
        if isinstance(event, _NotOffered):
            run.outcome, run.reason = "not offered", event.reason
        elif isinstance(event, _Steps):
            training.closest, training.clipped = event.closest, event.clipped
        else:
            training.digests += event.digests
            after = (event.perplexity, len(training.digests) - 1, event.digest)
            run.digests.append(AfterEpoch(event.epoch, *after))
            progress(run, event.epoch)


def _train(
    rank: int,
    addresses: list[str],
    runtime: Runtime,
    settings: Settings,
    text: corpus.Text,
    folder: str,
) -> Iterator[_Event]:
    team = Team(rank, tuple(addresses)) if addresses else None
    try:
        setup = set_up(settings, runtime, text, team=team)
    except registry.NotOffered as error:
        yield _NotOffered(str(error).splitlines()[0])
        return
    is_reference = (runtime.backend, runtime.model, runtime.workers) == REFERENCE
    steps = _Steps(Closest("", [], exact.GRID, 0))
    sample = set(np.linspace(1, settings.num_epochs, SAMPLE).round())
    digests: list[Digests] = []

    def arrays() -> Arrays:
        return setup.model.to_arrays(setup.model.params)

    def keep_digests() -> None:
        digests.append({name: exact.digest({name: array}) for name, array in arrays().items()})

    def before(epoch: int) -> None:
        digests.clear()
        if epoch in sample and rank == 0:
            last: dict[str, Any] = dict(_last_steps(setup, epoch))  # a bool, NumPy 2 expects
            np.savez(Path(folder, f"{epoch}.npz"), **last)

    keep_digests()
    yield _Epoch(0, None, exact.digest(arrays()), digests)
    before(1)
    observed = _observed(setup, steps) if is_reference else setup
    for epoch, _ in training.epochs(observed, _Report(keep_digests)):
        yield _Epoch(epoch.epoch, epoch.perplexity, exact.digest(arrays()), digests)
        before(epoch.epoch + 1)
    if is_reference:
        yield steps
    if team is not None:
        setup.backend.workers.leave()


class _Report(training.Report):
    # Calls a function after each update.
    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def minibatch(self, batch: Batch) -> None:
        self.function()


def _observed(setup: Setup, found: _Steps) -> Setup:
    # The setup with a backward pass that keeps an account of the steps.
    def backward(batch: Batch, state: State) -> tuple[Tensor, Params, State]:
        assert setup.model.backward is not None
        loss, grads, state = setup.model.backward(batch, state)
        steps, is_clipped = _steps(setup, grads)
        found.updates, found.clipped = found.updates + 1, found.clipped + is_clipped
        for name, step in steps.items():
            distances = exact.distances(step)
            place = np.unravel_index(np.argmin(distances), distances.shape)
            if distances[place] < found.closest.distance:
                index = [int(each) for each in place]
                found.closest = Closest(name, index, float(distances[place]), found.updates)
        return loss, grads, state

    return setup._replace(model=dataclasses.replace(setup.model, backward=backward))


def _steps(setup: Setup, grads: Params) -> tuple[Arrays, bool]:
    # And whether the gradients were clipped.
    theta = setup.settings.theta
    grads, norm = setup.backend.scratch.clip(grads, theta)
    arrays = setup.model.to_arrays(grads)
    steps = {name: setup.settings.lr * grad for name, grad in arrays.items()}
    return steps, theta is not None and float(norm) > theta


def _last_steps(setup: Setup, epoch: int) -> Arrays:
    # The steps for the last minibatch of an epoch, with the parameters before the epoch. The state
    # before it is carried through the epoch, and carries differences along.
    settings, scratch, model = setup.settings, setup.backend.scratch, setup.model
    batches = list(minibatches.of_epoch(setup.text.train, settings, epoch))
    if not minibatches.carries(settings.sampling):
        batches = batches[-1:]
    state = model.state(settings.batch_size)
    with np.errstate(all="ignore"):  # the training may be about to diverge
        for batch in batches:
            tensors = batch.map(setup.backend.machine.tensor, setup.runtime.device)
            _, grads, state = scratch.gradients(model, tensors, state)
            state = tuple(scratch.rounded(each, exact.STATE_GRID) for each in state)
        return _steps(setup, grads)[0]
