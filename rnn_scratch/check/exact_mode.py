"""Exact mode's check: models compared after every update, and a certificate of their equality.

Each model is trained in a process of its own, the reference first, and all of its updates are
observed and compared with those of the first.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import exact
from ..contract import Team
from ..errors import NotOffered, RNNScratchError
from ..parameters import trained_arrays
from ..runs import training
from ..runs.runtime import Runtime
from ..runs.setup import set_up
from ..settings import Settings
from ..text import books
from ..workers import groups
from .certificate import (
    AfterEpoch,
    Certificate,
    Closest,
    Divergence,
    ExactModel,
    ExactResult,
    sentence,
)
from .kept import CLOSEST, SAMPLE
from .observation import Observer

EPOCH_TIMEOUT = 24 * 3600.0  # seconds for one epoch

Notify = Callable[[ExactModel, int], None]  # called at the start and after each epoch
# What a child sends before the first epoch and after each: with the number of updates that were
# clipped so far, the closest element of all, and the first divergence.
Updates = tuple[AfterEpoch, int, Closest | None, Divergence | None]


def compare(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, progress: Notify
) -> ExactResult:
    """Train these models in exact mode, and compare their parameters after every update."""
    models = [
        ExactModel(each.backend, each.model, each.workers, "trained", "", [], settings.cell)
        for each in runtimes
    ]
    pairs = sorted(zip(runtimes, models), key=lambda pair: not pair[1].is_reference)
    first, ends = "", list[tuple[ExactModel, Updates]]()
    with tempfile.TemporaryDirectory() as parent:
        for runtime, model in pairs:
            if not first:
                folder = tempfile.mkdtemp(dir=parent)
            progress(model, 0)
            task = runtime, settings, text, model.title, first, folder
            answers = groups.ask_all(groups.calls(runtime.workers, _train, *task), EPOCH_TIMEOUT)
            end = None
            try:
                for answer in answers:
                    if isinstance(answer, str):
                        model.outcome, model.reason = "not offered", answer
                    else:
                        end = answer
                        model.digests.append(end[0])
                        progress(model, end[0].epoch)
            except RNNScratchError as error:
                model.outcome, model.reason = "failed", str(error)
            if end is not None:
                ends.append((model, end))
                first = first or (model.title if model.outcome == "trained" else "")
    found = certificate(ends)
    complete = bool(ends) and all(model.outcome != "failed" for model in models)
    return ExactResult(settings, text.sha256, models, complete and not found.divergence, found)


def certificate(ends: Sequence[tuple[ExactModel, Updates]]) -> Certificate:
    """What was observed of models, from the last that each has sent; that of the first is first."""
    trained = [(model, end[2]) for model, end in ends if model.outcome == "trained"]
    unobserved = [model.title for model, closest in trained if closest is None]
    divergences = [end[3] for _, end in ends if end[3] is not None]
    # The first of all, but rather one that rounding does not explain.
    divergence = min(divergences, key=lambda a: (bool(a.explained), a.update), default=None)
    closest = None
    if trained and not (unobserved or divergence):
        # The first model differs from none.
        closest = min([each for _, each in trained if each][len(trained) > 1 :], key=_order)
    updates = max((end[0].updates for _, end in ends), default=0)
    clipped = max((end[1] for _, end in ends), default=0)
    factor = closest.factor if closest else None
    kept = CLOSEST + SAMPLE
    found = Certificate(updates, clipped, kept, closest, factor, divergence, "", unobserved)
    found.sentence = sentence(found)
    return found


def _order(closest: Closest) -> tuple[float, float]:
    return math.inf if closest.factor is None else closest.factor, closest.distance


def _train(
    rank: int,
    addresses: list[str],
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    title: str,
    first: str,
    folder: str,
) -> Iterator[str | Updates]:
    team = Team(rank, tuple(addresses)) if addresses else None
    try:
        setup = set_up(settings, runtime, text, team=team)
    except NotOffered as error:
        yield str(error).splitlines()[0]
        return
    observer = Observer(setup, title, first, Path(folder))

    def updates(epoch: int, perplexity: float | None) -> Updates:
        digest = exact.digest(trained_arrays(setup.model))
        after = AfterEpoch(epoch, perplexity, observer.updates, digest)
        return after, observer.clipped, observer.kept.closest, observer.divergence

    yield updates(0, None)
    for epoch, _ in training.epochs(setup, observer.minibatch):
        yield updates(epoch.epoch, epoch.perplexity)
    if team is not None:
        setup.backend.workers.leave()
