"""Exact mode's check: models compared with the first one after every update.

Each model is trained in a process of its own. The first one, NumPy's if it is among them, leaves a
file with the digests of its parameters and carried state after every update.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from .. import exact
from ..contract import VARIANTS, Arrays, Batch, Model, State, Team, Tensor, Update
from ..errors import NotOffered, RNNScratchError
from ..parameters import trained_arrays
from ..runs import exchange, training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings
from ..system.processes import one_line
from ..system.records import Record
from ..text import books, minibatches
from ..workers import groups
from .growth import UNLIKELY, growth

EPOCH_TIMEOUT = 24 * 3600.0  # seconds for one epoch
LARGEST = float(np.finfo(np.float64).max)  # in place of what JSON cannot say

Digests = dict[str, str]  # of each parameter, of the optimizer's state, and of each carried state


class AfterEpoch(Record):
    """How far a model is after an epoch."""

    epoch: int
    perplexity: float | None  # None before the first epoch, and where it is not finite
    updates: int  # so far
    digest: str  # of all parameters


class ExactModel(Record):
    """A model that was trained, or was to be."""

    backend: str
    model: str
    workers: int
    outcome: str  # "trained", "failed" or "not offered"
    reason: str
    digests: list[AfterEpoch]  # from epoch 0 on
    cell: str = Settings().cell

    @property
    def title(self) -> str:
        """The backend, with variant, cell and workers if they are not the default ones."""
        workers = f"{self.workers} workers" if self.workers > 1 else ""
        defaults = {self.model: VARIANTS[0], self.cell: Settings().cell, workers: ""}
        more = ", ".join(name for name, default in defaults.items() if name != default)
        return f"{self.backend} ({more})" if more else self.backend


class Divergence(Record):
    """The first update after which two models differ; 0: before the first."""

    models: list[str]
    update: int
    tensors: list[str]  # parameters and states that differ
    growth: float  # of a difference in the state, over the time steps of a minibatch

    @property
    def sentence(self) -> str:
        """Say what differs, whether rounding is likely to be the reason, and what to do."""
        base, other = self.models
        when = f"after update {self.update:,}" if self.update else "from the start"
        likely = "the likely reason" if self.growth >= UNLIKELY else "unlikely to be the reason"
        return (
            f"{other} differs from {base} {when}, in {', '.join(self.tensors)}. Over a minibatch a "
            f"difference in the state grows {self.growth:.0e}-fold, so rounding is {likely}. To "
            f"check each function, run: rnn-scratch check {other.partition(' ')[0]}"
        )


class ExactResult(Record):
    """What `check --exact --json` prints."""

    settings: Settings
    text: str  # its sha256
    models: list[ExactModel]
    equal: bool
    divergence: Divergence | None  # the first of all


def compare(
    runtimes: Sequence[Runtime],
    settings: Settings,
    text: books.Text,
    progress: Callable[[ExactModel, int], None],
    every: int = 1,
) -> ExactResult:
    """Train these models in exact mode, and compare their parameters after every update.

    `progress` is called with the model and the epoch at the start and after each epoch; the result
    has the digests after every `every` epochs and after the last one.
    """
    models = [
        ExactModel(
            backend=runtime.backend,
            model=runtime.model,
            workers=runtime.workers,
            outcome="trained",
            reason="",
            digests=[],
            cell=settings.cell,
        )
        for runtime in runtimes
    ]
    # The reference first, if it is among them.
    pairs = sorted(
        zip(runtimes, models), key=lambda pair: pair[0] != Runtime("numpy", device=pair[0].device)
    )
    first, divergences = "", list[Divergence]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (runtime, model) in enumerate(pairs):
            if not first:
                file = str(Path(folder, str(number)))
            progress(model, 0)
            task = runtime, settings, text, model.title, first, file
            answers = groups.ask(_train, runtime.workers, *task, timeout=EPOCH_TIMEOUT)
            try:
                for after, divergence in answers:
                    divergences += [divergence] if divergence else []
                    if after.epoch % every == 0 or after.epoch == settings.num_epochs:
                        model.digests.append(after)
                    progress(model, after.epoch)
            except NotOffered as error:
                model.outcome, model.reason = "not offered", one_line(error.problem)
            except RNNScratchError as error:
                model.outcome, model.reason = "failed", one_line(str(error))
            else:
                first = first or model.title
    return ExactResult(
        settings=settings,
        text=text.sha256,
        models=models,
        equal=bool(first) and not divergences and all(m.outcome != "failed" for m in models),
        divergence=min(divergences, key=lambda one: one.update, default=None),
    )


def _train(
    team: Team | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    title: str,
    first: str,
    file: str,
) -> Iterator[tuple[AfterEpoch, Divergence | None]]:
    # In a child: an answer before the first epoch and after each, with the divergence so far.
    setup = set_up(settings, runtime, text, team=team)
    module = setup.backend.scratch if team is None else setup.backend.workers
    name = "train_minibatch" if team is None else "train_together"
    train = getattr(module, name)
    lines = Path(file).read_bytes().splitlines() if first else []
    expected = [msgspec.json.decode(line, type=Digests) for line in lines]
    keeps = not first and (team is None or team.rank == 0)
    updates, divergence = 0, None

    def watched(model: Model, batch: Batch, state: State, how: Update) -> tuple[Tensor, State]:
        nonlocal updates
        mean, state = train(model, batch, state, how)
        updates += 1
        observe(state)
        return mean, state

    def observe(state: State) -> None:
        # Keep the digests if it is the first model, or else compare them.
        nonlocal divergence
        arrays = trained_arrays(setup.model) | carried(setup, state)
        digests = {name: exact.digest({name: array}) for name, array in arrays.items()}
        if keeps:
            with open(file, "ab") as kept:
                kept.write(msgspec.json.encode(digests) + b"\n")
        if divergence is None and updates < len(expected):
            known = expected[updates]
            differ = [name for name in digests if known.get(name, digests[name]) != digests[name]]
            if differ:
                grows = float(np.nan_to_num(growth(setup), nan=LARGEST))
                divergence = Divergence(
                    models=[first, title], update=updates, tensors=differ, growth=grows
                )

    def answer(epoch: int, perplexity: float | None) -> tuple[AfterEpoch, Divergence | None]:
        digest = exact.digest(trained_arrays(setup.model))
        after = AfterEpoch(epoch=epoch, perplexity=perplexity, updates=updates, digest=digest)
        return after, divergence

    observe(())
    setattr(module, name, watched)
    yield answer(0, None)
    for epoch in training.epochs(setup):
        yield answer(epoch.epoch, epoch.perplexity)
    if team is not None:
        setup.backend.workers.leave()


def carried(setup: Setup, state: State) -> Arrays:
    """Return the carried state by name, with the rows of all workers; no zero has a sign."""
    if not state or not minibatches.carries(setup.settings.sampling):
        return {}
    arrays = [setup.backend.machine.array(tensor) + 0.0 for tensor in state]
    if setup.team is not None:
        arrays = [*exchange.join_rows(setup.backend, setup.runtime.device, arrays)]
    numbered = len(arrays) > 1
    return {f"state {i}" if numbered else "state": array for i, array in enumerate(arrays)}
