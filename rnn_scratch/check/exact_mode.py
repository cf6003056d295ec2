"""Check exact mode: compare each model with the first model after every update.

Each model is trained in its own process or processes, the reference first, if selected. After every
update, digests of parameters and carried state are compared with the first model's.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import exact, registry
from ..contract import VARIANTS, Arrays, Batch, Model, State, Update
from ..errors import NotSupportedError, RNNScratchError, truncate
from ..parameters import trained_arrays
from ..settings import Settings
from ..system import processes
from ..system.processes import one_line
from ..system.records import Record
from ..system.terminal import LogLine
from ..text import books, minibatches
from ..training import loop
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from .growth import MAX_GROWTH, describe, measure_growth

EPOCH_TIMEOUT = 24 * 3600.0  # seconds to wait for one epoch
NUM_DIGESTS = 10  # about this many per model, plus the digest of the initial parameters

Digests = dict[str, str]  # digests, keyed by the name of a parameter, optimizer slot or state


class EpochDigest(Record):
    """The digest of a model at the end of an epoch, or of the initial parameters for epoch 0."""

    epoch: int
    perplexity: float | None  # None for epoch 0, or if it is not finite
    updates: int  # number of updates so far
    digest: str  # digest of all parameters and optimizer slots


class ExactModel(Record):
    """The outcome of training a model."""

    backend: str
    model: str
    outcome: str  # "trained", "failed" or "not supported"
    reason: str  # reason for an outcome other than "trained"
    digests: list[EpochDigest]  # selected epochs, from epoch 0 onward

    @property
    def title(self) -> str:
        """The backend and, unless it is the default, the variant."""
        return self.backend + f" ({self.model})" * (self.model != VARIANTS[0])


class ExactResult(Record):
    """The result of an exact-mode check, which `check --exact --json` prints."""

    settings: Settings
    text: str  # SHA-256 digest of the text
    models: list[ExactModel]
    equal: bool  # whether models trained, none failed, and all were equal after every update


def compare(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, log: LogLine
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
        reports = processes.ask(_train, *task, timeout=EPOCH_TIMEOUT)
        try:
            for epoch_digest, new_digests in reports:
                digests += new_digests
                if epoch_digest.epoch % interval == 0 or epoch_digest.epoch == settings.num_epochs:
                    model.digests.append(epoch_digest)
        except RNNScratchError as error:
            is_supported = not isinstance(error, NotSupportedError)
            model.outcome = "failed" if is_supported else "not supported"
            model.reason = one_line(str(error))
        else:
            if not first_title:
                first_title, expected = model.title, digests
    equal = bool(first_title) and all(m.outcome in ("trained", "not supported") for m in models)
    return ExactResult(settings=settings, text=text.sha256, models=models, equal=equal)


def _train(
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    first_title: str,
    expected: list[Digests],
) -> Iterator[tuple[EpochDigest, list[Digests]]]:
    # Run in a child process. Before the first epoch and after each epoch, yield the epoch's digest
    # and the new digests. Raise an error at the first digest that differs from `expected`.
    setup = prepare_run(settings, runtime, text)
    digests, num_sent = list[Digests](), 0
    advice = f"To check each function, run: rnn-scratch check {runtime.backend}"

    def compare_digests(state: State) -> str:
        """Append the digests after an update; return the names of the tensors that differ."""
        arrays, update = trained_arrays(setup.model) | carried_arrays(setup, state), len(digests)
        digests.append({name: exact.digest({name: array}) for name, array in arrays.items()})
        pairs = expected[update].items() if update < len(expected) else ()
        names = [name for name, digest in pairs if digests[-1].get(name, digest) != digest]
        return truncate(", ".join(names), 80)

    def watched_step(model: Model, batch: Batch, state: State, update: Update) -> Any:
        arrays = trained_arrays(setup.model) if expected else {}
        loss, last_state = setup.model.training_step(model, batch, state, update)
        if names := compare_digests(last_state):
            # The parameters before the update determine how much errors grew within it.
            previous = registry.build(setup.backend, runtime.model, arrays, setup.model.options)
            X, *start = map(setup.backend.machine.array, (batch.X, *state))
            factor = measure_growth(setup._replace(model=previous), X, np.stack(start))
            place = f"after update {len(digests) - 1:,}, in {names}. {describe(factor)}"
            hint = advice if factor < MAX_GROWTH else ""
            raise RNNScratchError(f"It differs from {first_title} {place}", hint)
        return loss, last_state

    if names := compare_digests(()):
        raise RNNScratchError(f"It differs from {first_title} from the start, in {names}.", advice)
    watched_setup = setup._replace(model=replace(setup.model, training_step=watched_step))
    epochs = ((epoch.epoch, epoch.perplexity) for epoch in loop.epochs(watched_setup))
    for epoch, perplexity in itertools.chain([(0, None)], epochs):
        digest = exact.digest(trained_arrays(setup.model))
        yield EpochDigest(epoch, perplexity, len(digests) - 1, digest), digests[num_sent:]
        num_sent = len(digests)


def carried_arrays(setup: RunContext, state: State) -> Arrays:
    """Return the carried state's arrays by name, with 0 in place of -0."""
    if not state or not minibatches.carries_state(setup.settings.sampling):
        return {}
    arrays = [setup.backend.machine.array(tensor) + 0.0 for tensor in state]
    return {f"state {index}": array for index, array in enumerate(arrays)}
