"""What the child processes of a comparison do: train a candidate, after a check of it.

Those that measure its times (`timing`) begin in the same way, so that what is timed is what was
trained: the same starting values, the same minibatches, the same number of threads.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Literal

import numpy as np
from msgspec.structs import replace

from .. import registry
from ..check import inputs, machine, runner
from ..contract import Team
from ..errors import NotOffered, RNNScratchError
from ..exact import digest
from ..runs import training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings, model_options
from ..system import host, processes
from ..system.processes import Answer
from ..text import books, minibatches
from .record import EpochResult, Failure, Plan, Ready, Trial


def train(
    settings: Settings, runtime: Runtime, text: books.Text, plan: Plan, check: bool
) -> Iterator[Ready | EpochResult | Trial | Failure | None]:
    """Check a candidate and train it: yield where it runs, every epoch, and then the trial.

    A failure is the last answer. None only shows that the check advances.
    """
    return catch_failures(settings, runtime, text, None, partial(_train, plan, check))


def catch_failures(
    settings: Settings,
    runtime: Runtime,
    text: books.Text,
    team: Team | None,
    work: Callable[[Setup, float], Iterator[Answer]],
) -> Iterator[Answer | Failure]:
    """Yield the work's answers, given the setup and the seconds of the import; a failure last."""
    kind: Literal["failed", "not started"] = "not started"
    try:
        start = time.perf_counter()
        registry.load(runtime.backend)
        importing = time.perf_counter() - start
        setup = set_up(settings, runtime, text, team=team)
        kind = "failed"
        yield from work(setup, importing)
    except NotOffered as error:
        yield Failure(processes.one_line(str(error).splitlines()[0]), "not offered")
    except RNNScratchError as error:
        yield Failure(processes.one_line(str(error)), kind)


def _train(
    plan: Plan, check: bool, setup: Setup, importing: float
) -> Iterator[Ready | EpochResult | Trial | None]:
    assert setup.runtime.threads is not None  # now it is the number in use
    yield Ready(
        device=setup.runtime.device,
        threads=setup.runtime.threads,
        machine=host.describe(),
        versions=setup.backend.machine.environment(),
    )
    comparisons = (yield from _check(setup)) if check else 0
    setup.backend.machine.set_tf32(plan.tf32)  # after the check, which is of exact arithmetic
    parameters = digest(setup.model.to_arrays(setup.model.params))
    for trained, losses in training.epochs(setup):
        yield EpochResult(
            perplexity=math.exp(min(sum(losses) / len(losses), 700)),
            held_out=trained.valid_perplexity,
            seconds=trained.seconds,
        )
        if plan.is_reached(trained.valid_perplexity):
            break
    yield Trial(
        seed=setup.settings.seed,
        comparisons=comparisons,
        parameters=parameters,
        minibatches_seen=minibatches_seen(setup),
        samples=training.predictions(setup),
    )


def _check(setup: Setup) -> Generator[None, None, int]:
    # The number of comparisons; RNNScratchError if one failed.
    # Of the settings, because the model's own options may be what is wrong.
    runtime, V, H = setup.runtime, inputs.PLAIN.vocab_size, inputs.PLAIN.num_hiddens
    options = model_options(setup.settings, V, runtime.device)._replace(num_hiddens=H)
    rows = []
    for row in runner.check(
        runtime.backend,
        setup.backend,
        runtime.model,
        cases=[options],
        short=True,
        omit=[machine.set_eager],  # which no comparison uses
    ):
        rows.append(row)
        yield None
    failures = [f"{row.piece} {row.result} in {row.case}" for row in rows if not row.passed]
    if failures:
        raise RNNScratchError(
            f"its check failed in {len(failures)} of {len(rows)} comparisons; the first: "
            f"{failures[0]}"
        )
    return len(rows)


def minibatches_seen(setup: Setup) -> str:
    """Return the digest of the minibatches of the first epoch, without masks, which are large."""
    settings = replace(setup.settings, dropout=0.0)
    batches = minibatches.epoch_batches(setup.dataset.train, settings, 1)
    return digest({"": np.array([(batch.X, batch.Y) for batch in batches])})
