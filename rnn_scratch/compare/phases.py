"""A comparison, phase by phase: a check and training of every candidate, then rounds of timing.

One child process runs at a time. In the rounds, the order of the candidates is rotated by one from
round to round. A failure is recorded with its reason, and the other candidates continue.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..errors import RNNScratchError
from ..runs.runtime import Runtime
from ..system import processes
from ..text import books
from ..workers import groups
from . import plan as plans
from . import tasks, timing
from .record import Candidate, Comparison, EpochResult, Failure, Phase, Ready, Round, Trial, write

# Libraries that read their number of threads from the environment, before any call can set it.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

Tell = Callable[[str, str], None]  # receives a step of the comparison, and how far it is
Receive = Callable[[Any], None]  # takes an answer; RNNScratchError if it makes no sense
Ask = Callable[..., None]  # `_ask` for one comparison
# Name and digests of the first candidate, by the seed or the varied value.
Starts = dict[int | None, tuple[str, str, str]]


def run(
    record: Comparison, text: books.Text, pythons: Mapping[str, str], folder: Path, tell: Tell
) -> None:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    `pythons` are paths of interpreters, as in `plan.new_record`. The outcome is ``finished`` or,
    after a Ctrl-C, ``interrupted``.
    """
    ask = partial(_ask, record, pythons, tell)
    try:
        for phase in (trials, rounds):
            for _ in phase(record, text, ask, tell):
                write(folder, record)
    except KeyboardInterrupt:
        record.outcome = "interrupted"
    else:
        record.outcome = "finished"
    # Before anything is shown: after a SIGHUP there may be no terminal.
    write(folder, record)


def trials(record: Comparison, text: books.Text, ask: Ask, tell: Tell) -> Iterator[None]:
    """Check and train each candidate, with one random seed after another."""
    plan, first = record.plan, record.settings.seed
    starts: Starts = {}
    for candidate in record.candidates:
        for seed in range(first, first + plan.seeds):
            step = f"{candidate.name}: training" + (f", seed {seed}" if plan.seeds > 1 else "")
            tell(step, "starting")
            candidate.trials.append(Trial(seed))  # in the record even after a Ctrl-C
            settings, runtime = replace(record.settings, seed=seed), _runtime(record, candidate)
            call = partial(tasks.train, settings, runtime, text, plan, check=seed == first)
            receive = partial(_receive_trial, record, candidate, starts, partial(tell, step))
            ask(candidate, runtime, [call], receive, "training")
            yield
            if candidate.failure("training"):
                break


def rounds(record: Comparison, text: books.Text, ask: Ask, tell: Tell) -> Iterator[None]:
    """Time each candidate in turn, in an order that is rotated by one from round to round."""
    plan = record.plan
    trained = [candidate for candidate in record.candidates if not candidate.failure("training")]
    turns = [(candidate, value) for candidate in trained for value in plan.points]
    layers = {candidate.place for candidate in trained if candidate.model == "concise"}
    starts: Starts = {}
    for number in range(plan.repeats):
        first = number % max(len(turns), 1)
        for candidate, value in turns[first:] + turns[:first]:
            if candidate.failure("timing", value):
                continue
            step = f"timing, round {number + 1}/{plan.repeats}"
            tell(step, plan.label(candidate.name, value))
            settings, threads, workers = plans.sized(plan, record.settings, value)
            runtime = _runtime(record, candidate, threads, workers)
            own_layer = candidate.place in layers and candidate.model != "concise"
            calls = groups.calls(workers, timing.measure, settings, runtime, text, plan, own_layer)
            receive = partial(_receive_round, candidate, starts, number, value)
            ask(candidate, runtime, calls, receive, "timing", value)
            yield


def _receive_trial(
    record: Comparison,
    candidate: Candidate,
    starts: Starts,
    tell: Callable[[str], None],
    answer: Ready | EpochResult | Trial,
) -> None:
    trial = candidate.trials[-1]
    if isinstance(answer, Ready):
        if candidate.ready is None:
            candidate.ready = answer
            tell("checking")
    elif isinstance(answer, EpochResult):
        trial.epochs.append(answer)
        held_out = "" if answer.held_out is None else f", held out {answer.held_out:.2f}"
        tell(f"epoch {len(trial.epochs)}/{record.settings.num_epochs}{held_out}")
    else:
        _require_same_start(candidate, answer, starts, answer.seed)
        candidate.trials[-1] = replace(answer, epochs=trial.epochs)


def _receive_round(
    candidate: Candidate, starts: Starts, number: int, value: int | None, answer: Round
) -> None:
    _require_same_start(candidate, answer, starts, value)
    candidate.rounds.append(replace(answer, number=number, value=value))


def _require_same_start(
    candidate: Candidate, result: Trial | Round, starts: Starts, key: int | None
) -> None:
    # Results are comparable only if they began with the same numbers and the same text.
    start = (candidate.name, result.parameters, result.minibatches_seen)
    first, *expected = starts.setdefault(key, start)
    for what, digest, other in zip(("starting parameters", "minibatches"), start[1:], expected):
        if digest != other:
            raise RNNScratchError(f"its {what} differ from those of {first}")


def _runtime(
    record: Comparison, candidate: Candidate, threads: int | None = None, workers: int = 1
) -> Runtime:
    plan = record.plan
    threads = threads or plan.threads
    return Runtime(candidate.backend, candidate.model, plan.device, threads, workers=workers)


def _ask(
    record: Comparison,
    pythons: Mapping[str, str],
    tell: Tell,
    candidate: Candidate,
    runtime: Runtime,
    calls: Sequence[partial[Iterator[Any]]],
    receive: Receive,
    phase: Phase,
    value: int | None = None,
) -> None:
    # Receive a child's answers, up to one that is a failure, which is recorded.
    python = plans.python_of(candidate, pythons) or sys.executable
    environment = dict.fromkeys(THREAD_VARIABLES, str(runtime.threads))
    failure = None
    try:
        answers = groups.ask_all(calls, record.plan.timeout, environment, python)
        with contextlib.closing(answers):  # the child has ended then, also after a Ctrl-C
            for answer in answers:
                if isinstance(answer, Failure):
                    failure = answer
                    break
                receive(answer)
    except RNNScratchError as error:
        failure = Failure(processes.one_line(str(error)))
    if failure:
        candidate.failures.append(replace(failure, phase=phase, value=value))
        tell(f"{candidate.name}: {failure.reason}", "")
