"""Check exact mode: compare models with the first model after every update.

Each model is trained in its own process, NumPy's first if it is chosen. The digests of parameters
and carried state after every update are compared with the first model's.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .. import exact
from ..contract import VARIANTS, Arrays, State, WorkerGroup
from ..errors import NotOffered, RNNScratchError
from ..parameters import trained_arrays
from ..settings import Settings
from ..system.processes import one_line
from ..system.records import Record
from ..text import books, minibatches
from ..training import exchange
from ..training import loop as training
from ..training.runtime import Runtime
from ..training.setup import Setup, set_up
from ..workers import groups
from .growth import Growth, growth, is_untrained

EPOCH_TIMEOUT = 24 * 3600.0  # seconds for one epoch
LARGEST = float(np.finfo(np.float64).max)  # replaces infinity and NaN, which JSON cannot represent

Digests = dict[str, str]  # digests, keyed by parameter, optimizer slot or carried state


class AfterEpoch(Record):
    """The digest of a model after an epoch.

    Attributes:
        epoch: Number of the epoch; 0 before the first.
        perplexity: Perplexity; None before the first epoch, and if it is not finite.
        updates: Updates so far.
        digest: Digest of all parameters.
    """

    epoch: int
    perplexity: float | None
    updates: int
    digest: str


class ExactModel(Record):
    """The outcome of training a model.

    Attributes:
        backend: Name of the backend.
        model: Variant of the model.
        workers: Number of workers.
        outcome: "trained", "failed" or "not offered".
        reason: Reason of another outcome than "trained".
        digests: Digests from epoch 0 on.
        cell: Recurrent cell.
        untrained: Whether no parameter has changed, except that it was rounded.
    """

    backend: str
    model: str
    workers: int
    outcome: str
    reason: str
    digests: list[AfterEpoch]
    cell: str = Settings().cell
    untrained: bool = False

    @property
    def title(self) -> str:
        """The backend, with variant, cell and workers if they are not the default ones."""
        workers = f"{self.workers} workers" if self.workers > 1 else ""
        defaults = {self.model: VARIANTS[0], self.cell: Settings().cell, workers: ""}
        more = ", ".join(name for name, default in defaults.items() if name != default)
        return f"{self.backend} ({more})" if more else self.backend


class Divergence(Record):
    """The first update after which two models differ.

    Attributes:
        models: Titles of the two models.
        update: Number of the update; 0 before the first.
        tensors: Parameters and states that differ.
        growth: Growth of a difference in the state over the time steps of a minibatch.
        largest: Largest absolute element of the state.
    """

    models: list[str]
    update: int
    tensors: list[str]
    growth: float
    largest: float = 1.0

    @property
    def sentence(self) -> str:
        """Report the difference, whether rounding is a likely reason, and the next command."""
        base, other = self.models
        when = f"after update {self.update:,}" if self.update else "from the start"
        growth = Growth(self.growth, self.largest)
        verb = "is unlikely to be the"
        if growth.is_unlikely_to_hold:
            verb = "is the likely"
        elif growth.is_doubtful or growth.factor == 0:
            verb = "may be the"
        explained = f"{growth.sentence}, so rounding {verb} reason".capitalize()
        return (
            f"{other} differs from {base} {when}, in {', '.join(self.tensors)}. {explained}. To "
            f"check each function, run: rnn-scratch check {other.partition(' ')[0]}"
        )


class ExactResult(Record):
    """The result of an exact-mode check, which `check --exact --json` prints.

    Attributes:
        settings: Settings of the training.
        text: SHA-256 of the text.
        models: Outcomes of the models.
        equal: Whether all models have equal parameters after every update.
        divergence: The earliest divergence, if there is one.
    """

    settings: Settings
    text: str
    models: list[ExactModel]
    equal: bool
    divergence: Divergence | None


def compare(
    runtimes: Sequence[Runtime],
    settings: Settings,
    text: books.Text,
    log: Callable[[str], object],
    every: int = 1,
) -> ExactResult:
    """Train these models in exact mode, and compare their parameters after every update.

    `log` is called with a line for each model. The result has the digests after every `every`
    epochs and after the last epoch.
    """
    models = [
        ExactModel(
            runtime.backend, runtime.model, runtime.workers, "trained", "", [], settings.cell
        )
        for runtime in runtimes
    ]
    # The reference first, if it is among them.
    pairs = sorted(
        zip(runtimes, models), key=lambda pair: pair[0] != Runtime("numpy", device=pair[0].device)
    )
    first, expected, divergences = "", list[Digests](), dict[str, Divergence]()
    for runtime, model in pairs:
        log(f"training {model.title} ...")
        digests, task = list[Digests](), (runtime, settings, text, expected)
        answers = groups.ask(_train, runtime.workers, *task, timeout=EPOCH_TIMEOUT)
        try:
            for after, new_digests, model.untrained, difference in answers:
                digests += new_digests
                if difference is not None:
                    divergences[model.title] = Divergence([first, model.title], *difference)
                if after.epoch % every == 0 or after.epoch == settings.num_epochs:
                    model.digests.append(after)
        except NotOffered as error:
            model.outcome, model.reason = "not offered", one_line(error.problem)
        except RNNScratchError as error:
            model.outcome, model.reason = "failed", one_line(str(error))
        else:
            if not first:
                first, expected = model.title, digests
    return ExactResult(
        settings=settings,
        text=text.sha256,
        models=models,
        equal=bool(first) and not divergences and all(m.outcome != "failed" for m in models),
        divergence=min(divergences.values(), key=lambda one: one.update, default=None),
    )


# The answer of a model's process before the first epoch and after each epoch: the new digests,
# whether the parameters are still the initial parameters, and the fields of a new `Divergence`.
Answer = tuple[AfterEpoch, list[Digests], bool, tuple[int, list[str], float, float] | None]


def _train(
    group: WorkerGroup | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    expected: list[Digests],
) -> Iterator[Answer]:
    # In a child: compare with the expected digests, if there are any.
    setup = set_up(settings, runtime, text, group=group)
    start, digests, sent = trained_arrays(setup.model), list[Digests](), 0
    divergence: tuple[int, list[str], float, float] | None = None

    def watch(state: State) -> None:
        nonlocal divergence
        arrays, update = trained_arrays(setup.model) | carried(setup, state), len(digests)
        digests.append({name: exact.digest({name: array}) for name, array in arrays.items()})
        if divergence is None and update < len(expected):
            pairs = ((name, expected[update].get(name, own)) for name, own in digests[-1].items())
            if differ := [name for name, other in pairs if other != digests[-1][name]]:
                factor, size = (float(np.nan_to_num(n, nan=LARGEST)) for n in growth(setup))
                divergence = update, differ, factor, size

    def answer(epoch: int, perplexity: float | None) -> Answer:
        arrays = trained_arrays(setup.model)
        after = AfterEpoch(epoch, perplexity, len(digests) - 1, exact.digest(arrays))
        return after, digests[sent:], is_untrained(start, arrays), divergence

    watch(())
    yield answer(0, None)
    sent = len(digests)
    for epoch in training.epochs(setup._replace(watch=watch)):
        yield answer(epoch.epoch, epoch.perplexity)
        sent = len(digests)
    if group is not None:
        setup.backend.workers.leave()


def carried(setup: Setup, state: State) -> Arrays:
    """Return the carried state by name, with the rows of all workers; no zero has a sign."""
    if not state or not minibatches.carries(setup.settings.sampling):
        return {}
    arrays = [setup.backend.machine.array(tensor) + 0.0 for tensor in state]
    arrays = [*exchange.join_rows(setup.group, setup.backend, setup.runtime.device, arrays)]
    numbered = len(arrays) > 1
    return {f"state {i}" if numbered else "state": array for i, array in enumerate(arrays)}
