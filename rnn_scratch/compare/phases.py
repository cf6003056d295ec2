"""A comparison, phase by phase: training, training in float64, rounds of timing.

One child process runs at a time. First every candidate is checked and trained; then each trains in
float64; then all are timed, in rounds, in an order that is rotated by one from round to round. A
failure is recorded with its reason, and the others continue.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
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

# By seed or value: of whom, and its two digests.
Beginnings = dict[int | None, tuple[str, str, str]]
Tell = Callable[[str, str], None]  # receives a step of the comparison, and how far it is
Ask = Callable[..., AbstractContextManager[Iterator[Any]]]  # `_ask` for one comparison


def run(
    record: Comparison, text: books.Text, pythons: Mapping[str, str], folder: Path, tell: Tell
) -> None:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    `pythons` are paths of interpreters, as in `plan.new_record`. The outcome is ``finished`` or,
    after a Ctrl-C, ``interrupted``.
    """
    ask = partial(_ask, record, pythons, tell)
    try:
        for phase in (trials, float64, rounds):
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
    digests: Beginnings = {}
    for candidate in record.candidates:
        for seed in range(first, first + plan.seeds):
            step = f"{candidate.name}: training" + (f", seed {seed}" if plan.seeds > 1 else "")
            tell(step, "starting")
            candidate.trials.append(Trial(seed))  # in the record even after a Ctrl-C
            settings, runtime = replace(record.settings, seed=seed), _runtime(record, candidate)
            call = partial(tasks.train, settings, runtime, text, plan, check=seed == first)
            with ask(candidate, runtime, [call], "training") as answers:
                for answer in answers:
                    _receive(record, candidate, digests, partial(tell, step), answer)
            yield
            if candidate.failure("training"):
                break


def float64(record: Comparison, text: books.Text, ask: Ask, tell: Tell) -> Iterator[None]:
    """Train in float64, to compare the losses of each candidate with those of NumPy.

    NumPy is the first, wherever it is among the candidates. Not with a target, with which each run
    ends when it has reached it.
    """
    if record.plan.target is not None:
        return
    settings = replace(record.settings, dtype="float64")
    reference: list[float] = []
    for candidate in sorted(record.candidates, key=lambda each: each.backend != "numpy"):
        if candidate.failure("training") or not (reference or candidate.backend == "numpy"):
            continue
        step, losses = f"{candidate.name}: training in float64", list[float]()
        tell(step, "starting")
        runtime = _runtime(record, candidate)
        call = partial(tasks.losses, settings, runtime, text)
        with ask(candidate, runtime, [call], "float64") as answers:
            for answer in answers:
                losses += answer
                tell(step, f"update {len(losses)}")
        failure = candidate.failure("float64")
        if failure is None:
            reference = reference or losses
            for loss, expected in zip(losses, reference):
                # A loss may be 0: then the difference itself. Below float's limit: it is recorded.
                relative = min(abs(loss - expected) / (abs(expected) or 1), 1e300)
                candidate.differences.append(float(f"{relative:.2e}"))
        elif failure.kind == "not started":  # a device need not have float64
            failure.kind = "not offered"
        yield


def rounds(record: Comparison, text: books.Text, ask: Ask, tell: Tell) -> Iterator[None]:
    """Time each candidate in turn, in an order that is rotated by one from round to round."""
    plan = record.plan
    turns = [
        (candidate, value)
        for candidate in record.candidates
        for value in plan.points
        if not candidate.failure("training")
    ]
    digests: Beginnings = {}
    for number in range(plan.repeats):
        first = number % max(len(turns), 1)
        for candidate, value in turns[first:] + turns[:first]:
            if candidate.failure("timing", value):
                continue
            step = f"timing, round {number + 1}/{plan.repeats}"
            tell(step, plan.labelled(candidate.name, value))
            settings, threads, workers = plans.sized(plan, record.settings, value)
            runtime = _runtime(record, candidate, threads, workers)
            own_layer = _has_layer(record, candidate, value)
            calls = groups.calls(workers, timing.measure, settings, runtime, text, plan, own_layer)
            # Which of both has failed, the next round will show.
            phase = "layer" if own_layer else "timing"
            with ask(candidate, runtime, calls, phase, value) as answers:
                for answer in answers:
                    _require_same(candidate, answer, digests, value)
                    candidate.rounds.append(replace(answer, number=number, value=value))
            yield


def _receive(
    record: Comparison,
    candidate: Candidate,
    digests: Beginnings,
    tell: Callable[[str], None],
    answer: Ready | EpochResult | Trial,
) -> None:
    # What a child sends about the last trial of a candidate.
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
        _require_same(candidate, answer, digests, answer.seed)
        candidate.trials[-1] = replace(answer, epochs=trial.epochs)


def _require_same(
    candidate: Candidate, result: Trial | Round, digests: Beginnings, key: int | None
) -> None:
    # Results are comparable only if they began with the same numbers and the same text.
    found = (candidate.name, result.parameters, result.minibatches_seen)
    first, *expected = digests.setdefault(key, found)
    for what, digest, other in zip(("starting parameters", "minibatches"), found[1:], expected):
        if digest != other:
            raise RNNScratchError(f"its {what} differ from those of {first}")


def _has_layer(record: Comparison, candidate: Candidate, value: int | None) -> bool:
    # Whether the framework's own layer is in the comparison, passed its check, and has not failed
    # in timing, be it alone or in turns with this candidate.
    if candidate.model == "concise" or candidate.failure("layer", value):
        return False
    return any(
        not (other.failure("training") or other.failure("timing", value))
        for other in record.candidates
        if (other.place, other.model) == (candidate.place, "concise")
    )


def _runtime(
    record: Comparison, candidate: Candidate, threads: int | None = None, workers: int = 1
) -> Runtime:
    plan = record.plan
    threads = threads or plan.threads
    return Runtime(candidate.backend, candidate.model, plan.device, threads, workers=workers)


@contextlib.contextmanager
def _ask(
    record: Comparison,
    pythons: Mapping[str, str],
    tell: Tell,
    candidate: Candidate,
    runtime: Runtime,
    calls: Sequence[partial[Iterator[Any]]],
    phase: Phase,
    value: int | None = None,
) -> Iterator[Iterator[Any]]:
    # A child's answers, up to one that is a failure. That, or an error until the end, is recorded.
    # The child has ended then: were it left to a destructor to end it, a Ctrl-C meanwhile would be
    # lost.
    python = plans.python_of(candidate, pythons) or sys.executable
    environment = dict.fromkeys(THREAD_VARIABLES, str(runtime.threads))
    failures: list[Failure] = []

    def until_failure(asked: Iterator[Any]) -> Iterator[Any]:
        for answer in asked:
            if isinstance(answer, Failure):
                failures.append(answer)
                return
            yield answer

    try:
        asked = groups.ask_all(calls, record.plan.timeout, environment, python)
        with contextlib.closing(asked):
            yield until_failure(asked)
    except RNNScratchError as error:
        failures.append(Failure(processes.one_line(str(error))))
    for failure in failures:
        failure.phase, failure.value = phase, value
        candidate.failures.append(failure)
        tell(f"{candidate.name}: {failure.reason}", "")
