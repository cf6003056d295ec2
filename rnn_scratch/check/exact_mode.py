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
from ..parameters import trained_arrays
from ..runs import exchange, training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings
from ..system.records import Record
from ..text import books, minibatches
from . import candidates
from .candidates import Failure
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
    outcome: str  # "trained", or the kind of a `Failure`
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

    @property
    def is_reference(self) -> bool:
        """Whether it is the one that the others are compared with."""
        return (self.backend, self.model, self.workers) == ("numpy", VARIANTS[0], 1)


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
) -> ExactResult:
    """Train these models in exact mode, and compare their parameters after every update.

    `progress` is called with the model and the epoch at the start and after each epoch.
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
    pairs = sorted(zip(runtimes, models), key=lambda pair: not pair[1].is_reference)
    first, divergences = "", list[Divergence]()
    with tempfile.TemporaryDirectory() as folder:
        for number, (runtime, model) in enumerate(pairs):
            if not first:
                file = str(Path(folder, str(number)))
            progress(model, 0)
            task = runtime, settings, text, model.title, first, file
            end = None
            for answer in candidates.run(_train, *task, timeout=EPOCH_TIMEOUT):
                if isinstance(answer, Failure):
                    model.outcome, model.reason = answer.kind, answer.reason
                else:
                    after, end = answer
                    model.digests.append(after)
                    progress(model, after.epoch)
            divergences += [end] if end else []
            first = first or (model.title if model.outcome == "trained" else "")
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
    observed = _Updates(setup, [first, title], Path(file))

    def answer(epoch: int, perplexity: float | None) -> tuple[AfterEpoch, Divergence | None]:
        after = AfterEpoch(
            epoch=epoch,
            perplexity=perplexity,
            updates=observed.count,
            digest=exact.digest(trained_arrays(setup.model)),
        )
        return after, observed.divergence

    yield answer(0, None)
    for epoch, _ in training.epochs(setup, observed.after):
        yield answer(epoch.epoch, epoch.perplexity)
    if team is not None:
        setup.backend.workers.leave()


class _Updates:
    """The digests of a model after every update: kept if it is the first, or else compared."""

    def __init__(self, setup: Setup, models: list[str], file: Path) -> None:
        self.setup, self.models, self.file = setup, models, file
        self.count = 0
        self.divergence: Divergence | None = None
        self.compares = bool(models[0])
        self.keeps = not self.compares and (setup.team is None or setup.team.rank == 0)
        lines = file.read_bytes().splitlines() if self.compares else []
        self.expected = [msgspec.json.decode(line, type=Digests) for line in lines]
        self.state: State = ()
        scratch = setup.backend.scratch
        train_minibatch = scratch.train_minibatch

        def watched(model: Model, batch: Batch, state: State, how: Update) -> tuple[Tensor, State]:
            mean, self.state = train_minibatch(model, batch, state, how)
            return mean, self.state

        scratch.train_minibatch = watched
        self._compare()

    def after(self, batch: Batch) -> None:
        """Keep or compare the digests after an update."""
        self.count += 1
        self._compare()

    def _compare(self) -> None:
        arrays = trained_arrays(self.setup.model) | carried(self.setup, self.state)
        digests = {name: exact.digest({name: array}) for name, array in arrays.items()}
        if self.keeps:
            with self.file.open("ab") as file:
                file.write(msgspec.json.encode(digests) + b"\n")
        if self.divergence is not None or self.count >= len(self.expected):
            return
        expected = self.expected[self.count]
        tensors = [name for name in digests if expected.get(name, digests[name]) != digests[name]]
        if tensors:
            grows = float(np.nan_to_num(growth(self.setup), nan=LARGEST))
            self.divergence = Divergence(
                models=self.models, update=self.count, tensors=tensors, growth=grows
            )


def carried(setup: Setup, state: State) -> Arrays:
    """Return the carried state by name, with the rows of all workers; no zero has a sign."""
    if not state or not minibatches.carries(setup.settings.sampling):
        return {}
    arrays = [setup.backend.machine.array(tensor) + 0.0 for tensor in state]
    if setup.team is not None:
        arrays = [*exchange.join_rows(setup.backend, setup.runtime.device, arrays)]
    numbered = len(arrays) > 1
    return {f"state {i}" if numbered else "state": array for i, array in enumerate(arrays)}
