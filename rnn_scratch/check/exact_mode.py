"""Check exact mode: compare each model with the first model after every update.

Each model is trained in its own process or processes, the reference first, if selected. After every
update, digests of parameters and carried state are compared with the first model's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .. import exact
from ..contract import VARIANTS, Arrays, Batch, Model, State, Tensor, Update
from ..errors import NotSupportedError, RNNScratchError
from ..parameters import trained_arrays
from ..settings import Settings
from ..system import processes
from ..system.processes import one_line
from ..system.records import Record
from ..system.terminal import LogLine
from ..text import books, minibatches
from ..training import loop as training
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from .growth import UNCHANGED_WARNING, describe, is_untrained, measure_growth

EPOCH_TIMEOUT = 24 * 3600.0  # seconds to wait for one epoch
NUM_DIGESTS = 10  # about this many per model, plus the digest of the initial parameters

Digests = dict[str, str]  # digests, keyed by the name of a parameter, optimizer slot or state


class EpochDigest(Record):
    """The digest of a model at the end of an epoch.

    Attributes:
        epoch: Number of the epoch; 0 for the initial parameters.
        perplexity: Training perplexity of the epoch; None for epoch 0, or if it is not finite.
        updates: Number of updates so far.
        digest: Digest of all parameters and optimizer slots.
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
        outcome: "trained", "different", "failed" or "not offered".
        reason: Reason for an outcome other than "trained", or a note that no parameter changed.
        digests: Digests of selected epochs, from epoch 0 onward.
    """

    backend: str
    model: str
    outcome: str
    reason: str
    digests: list[EpochDigest]

    @property
    def title(self) -> str:
        """The backend and, unless it is the default, the variant."""
        return self.backend + f" ({self.model})" * (self.model != VARIANTS[0])


class ExactResult(Record):
    """The result of an exact-mode check, which `check --exact --json` prints.

    Attributes:
        settings: Settings of the training runs.
        text: SHA-256 digest of the text.
        models: Outcomes of the models.
        equal: Whether models were trained, none failed, and all were equal after every update.
    """

    settings: Settings
    text: str
    models: list[ExactModel]
    equal: bool


def compare(
    runtimes: Sequence[Runtime],
    settings: Settings,
    text: books.Text,
    log: LogLine,
) -> ExactResult:
    """Train a model for each runtime in exact mode, and compare parameters after every update.

    `log` receives one line for each model.
    """
    # The reference comes first, if `runtimes` contains it.
    runtimes = sorted(runtimes, key=lambda r: r != Runtime("numpy", device=r.device))
    models, first_title, expected = list[ExactModel](), "", list[Digests]()
    interval = max(1, settings.num_epochs // NUM_DIGESTS)
    for runtime in runtimes:
        model = ExactModel(runtime.backend, runtime.model, "trained", "", [])
        models.append(model)
        log(f"training {model.title} ...")
        digests, task = list[Digests](), (runtime, settings, text, first_title, expected)
        answers = processes.ask(_train, *task, timeout=EPOCH_TIMEOUT)
        try:
            for epoch_digest, new_digests, model.outcome, model.reason in answers:
                digests += new_digests
                if epoch_digest.epoch % interval == 0 or epoch_digest.epoch == settings.num_epochs:
                    model.digests.append(epoch_digest)
        except NotSupportedError as error:
            model.outcome, model.reason = "not offered", one_line(error.problem)
        except RNNScratchError as error:
            if model.outcome != "different":  # the difference probably caused the failure
                model.outcome, model.reason = "failed", one_line(str(error))
        else:
            if not first_title:
                first_title, expected = model.title, digests
    equal = bool(first_title) and all(m.outcome in ("trained", "not offered") for m in models)
    return ExactResult(settings=settings, text=text.sha256, models=models, equal=equal)


def _train(
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    first_title: str,
    expected: list[Digests],
) -> Iterator[tuple[EpochDigest, list[Digests], str, str]]:
    # Run in a child process. Before the first epoch and after each epoch, yield the epoch's digest,
    # the new digests, the outcome and its reason. Compare digests with those expected, if any.
    setup = prepare_run(settings, runtime, text)
    start, digests, num_sent = trained_arrays(setup.model), list[Digests](), 0
    difference = ""

    def watch(state: State) -> None:
        nonlocal difference
        arrays, update = trained_arrays(setup.model) | carried_arrays(setup, state), len(digests)
        digests.append({name: exact.digest({name: array}) for name, array in arrays.items()})
        if not difference and update < len(expected):
            pairs = ((name, expected[update].get(name)) for name in digests[update])
            names = [name for name, digest in pairs if digest not in (None, digests[-1][name])]
            if names:
                moment = f"after update {update:,}" if update else "from the start"
                difference = (
                    f"It differs from {first_title} {moment}, in {', '.join(names)}. "
                    f"{describe(measure_growth(setup))} "
                    f"To check each function, run: rnn-scratch check {runtime.backend}"
                )

    def watched_step(
        model: Model, batch: Batch, state: State, update: Update
    ) -> tuple[Tensor, State]:
        loss, state = setup.model.training_step(model, batch, state, update)
        watch(state)
        return loss, state

    def epochs() -> Iterator[tuple[int, float | None]]:
        watch(())
        yield 0, None
        model = replace(setup.model, training_step=watched_step)
        for epoch in training.epochs(setup._replace(model=model)):
            yield epoch.epoch, epoch.perplexity

    for epoch, perplexity in epochs():
        arrays = trained_arrays(setup.model)
        epoch_digest = EpochDigest(epoch, perplexity, len(digests) - 1, exact.digest(arrays))
        reason = difference or (UNCHANGED_WARNING if is_untrained(start, arrays) else "")
        outcome = "different" if difference else "trained"
        yield epoch_digest, digests[num_sent:], outcome, reason
        num_sent = len(digests)


def carried_arrays(setup: RunContext, state: State) -> Arrays:
    """Return the carried state's arrays by name, with 0 in place of -0."""
    if not state or not minibatches.carries_state(setup.settings.sampling):
        return {}
    arrays = [setup.backend.machine.array(tensor) + 0.0 for tensor in state]
    has_several = len(arrays) > 1
    return {f"state {i}" if has_several else "state": array for i, array in enumerate(arrays)}
