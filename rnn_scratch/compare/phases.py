"""A comparison, phase by phase: training, training in float64, rounds of timing.

One child process runs at a time. First every candidate is checked and trained; then each trains in
float64; then all are timed, in rounds, in an order that is rotated by one from round to round. A
failure is recorded with its reason, and the others continue.
"""

import contextlib
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from ..contract import RNNScratchError
from ..runs.place import Place
from ..settings import Settings
from ..system import processes
from ..text import corpus
from ..workers import groups
from . import plan as plans
from . import tasks
from .record import (
    Candidate,
    Comparison,
    Epoch,
    Failure,
    Ready,
    Round,
    Timing,
    Training,
    write,
)
from .tasks import Task

# Libraries that read their number of threads from the environment, before any call can set it.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

Digests = dict[int | None, tuple[str, str, str]]  # by seed or value: of whom, and its two digests


class Progress:
    """Receives the progress of a comparison; this one ignores it."""

    def start(self, record: Comparison) -> None:
        """The comparison begins."""

    def activity(self, candidate: Candidate, activity: str) -> None:
        """A candidate's child is doing this; reported again as it advances."""

    def end(self, candidate: Candidate) -> None:
        """The candidate's child has ended, and the record is written."""

    def stop(self) -> None:
        """The comparison has ended, whatever the reason."""


class Job(NamedTuple):
    """A comparison while it is made."""

    record: Comparison
    text: corpus.Text
    pythons: Mapping[str, str]  # paths of interpreters, as in `plan.validate`
    progress: Progress
    losses: dict[str, list[float]]  # in float64, by the name of the candidate


def run(
    record: Comparison,
    text: corpus.Text,
    pythons: Mapping[str, str],
    folder: Path,
    progress: Progress,
) -> None:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    Its outcome is ``finished`` or, after a Ctrl-C, ``interrupted``.
    """
    job = Job(record, text, pythons, progress, {})
    try:
        progress.start(record)
        try:
            for phase in PHASES:
                for candidate in phase(job):
                    write(folder, record)
                    progress.end(candidate)
        except KeyboardInterrupt:
            record.outcome = "interrupted"
        else:
            record.outcome = "finished"
        # Before anything is shown: after a SIGHUP there may be no terminal.
        record.ended = plans.now()
        write(folder, record)
    finally:
        progress.stop()


def trainings(job: Job) -> Iterator[Candidate]:
    """Check and train each candidate, with one random seed after another."""
    plan, settings = job.record.plan, job.record.settings
    digests: Digests = {}
    for candidate in job.record.candidates:
        for seed in range(settings.seed, settings.seed + plan.seeds):
            if candidate.failure is not None:
                break
            activity = f"training, seed {seed}" if plan.seeds > 1 else "training"
            task = _task(job, candidate, replace(settings, seed=seed))
            task.check, task.target = seed == settings.seed, plan.target
            candidate.failure = _train(job, candidate, task, activity, digests, candidate.trainings)
            if not candidate.is_offered:
                candidate.trainings = []
            yield candidate


def float64(job: Job) -> Iterator[Candidate]:
    """Train in float64, to compare the losses of each candidate with those of NumPy.

    NumPy is the first, wherever it is among the candidates. Not with a target, with which each run
    ends when it has reached it.
    """
    if job.record.plan.target is not None:
        return
    doubled = replace(job.record.settings, dtype="float64")
    reference: list[float] = []
    digests: Digests = {}
    for candidate in sorted(job.record.candidates, key=lambda each: each.backend != "numpy"):
        if candidate.failure or not (reference or candidate.backend == "numpy"):
            continue
        task, activity = _task(job, candidate, doubled), "training in float64"
        if candidate.name not in job.losses:
            candidate.float64_failure = _train(job, candidate, task, activity, digests, [])
        losses = job.losses.get(candidate.name, [])
        reference = reference or losses
        relative = (_relative(a, b) for a, b in zip(losses, reference))
        candidate.differences = [float(f"{value:.2e}") for value in relative]
        yield candidate


def rounds(job: Job) -> Iterator[Candidate]:
    """Time each candidate in turn, in an order that is rotated by one from round to round."""
    plan = job.record.plan
    turns = [
        (candidate, timing)
        for candidate in job.record.candidates
        for timing in candidate.timings
        if candidate.failure is None
    ]
    digests: Digests = {}
    for number in range(plan.repeats):
        first = number % max(len(turns), 1)
        for candidate, timing in turns[first:] + turns[:first]:
            if timing.failure is not None:
                continue
            activity = f"timing, round {number + 1}/{plan.repeats}"
            job.progress.activity(candidate, plan.labelled(activity, timing.value))
            settings, threads, workers = plans.sized(plan, job.record.settings, timing.value)
            task = _task(job, candidate, settings, threads, workers)
            task.own_layer = _has_layer(job.record, candidate, timing)
            _time(job, candidate, timing, task, number, digests)
            yield candidate


PHASES = (trainings, float64, rounds)


def _train(
    job: Job,
    candidate: Candidate,
    task: Task,
    activity: str,
    digests: Digests,
    trainings: list[Training],
) -> Failure | None:
    # Adds a training run to these, from its beginning, so that it outlasts a Ctrl-C.
    progress, plan, total = job.progress, job.record.plan, task.settings.num_epochs
    progress.activity(candidate, "starting" if task.check else activity)
    training = Training(task.settings.seed)
    trainings.append(training)
    losses: list[float] = []
    result = None
    with _ask(job, candidate, task, [partial(tasks.train, task)]) as answers:
        for answer in answers:
            if isinstance(answer, Failure):
                return answer
            if isinstance(answer, Ready) and task.check:
                candidate.ready = answer
                progress.activity(candidate, "checking")
            elif isinstance(answer, Epoch):
                losses += answer.losses
                answer.losses = []
                training.epochs.append(answer)
                words = f"{activity}: epoch {len(training.epochs)}/{total}"
                if answer.held_out is not None:
                    words += f", held out {answer.held_out:.2f}"
                progress.activity(candidate, words)
            elif isinstance(answer, Training):
                result = answer
    if result is None or candidate.ready is None or (task.check and not result.comparisons):
        return Failure("it ended without the result of its check or of its training")
    expected = plan.expected(training.epochs, total)
    if len(training.epochs) != expected:
        return Failure(f"it trained {len(training.epochs)} epochs instead of {expected}")
    # With a target, each trains as long as it needs, and sees as many minibatches.
    if plan.target is None and (reason := _difference(candidate, result, digests, training.seed)):
        return Failure(reason)
    result.seed, result.epochs = training.seed, training.epochs
    trainings[-1] = result
    if losses:
        job.losses.setdefault(candidate.name, losses)  # those of the first seed
    return None


def _time(
    job: Job, candidate: Candidate, timing: Timing, task: Task, number: int, digests: Digests
) -> None:
    calls = groups.calls(task.place.workers, tasks.measure, task)
    result, failure = None, None
    with _ask(job, candidate, task, calls) as answers:
        for answer in answers:
            if isinstance(answer, Failure):
                failure = answer
                break
            if reason := _difference(candidate, answer, digests, timing.value):
                failure = Failure(reason)
                break
            answer.number = number
            timing.rounds = [*(each for each in timing.rounds if each is not result), answer]
            result = answer
    if failure is None and (result is None or bool(result.own_layer) != task.own_layer):
        failure = Failure("it ended without all of its times")
    if task.own_layer and result is not None:
        timing.layer_failure = failure  # what was timed before it remains valid
    else:
        timing.failure = failure


def _difference(
    candidate: Candidate, result: Training | Round, digests: Digests, key: int | None
) -> str:
    # Results are comparable only if they began with the same numbers and the same text.
    found = (candidate.name, result.parameters, result.minibatches_seen)
    first, *expected = digests.setdefault(key, found)
    for what, digest, other in zip(("starting parameters", "minibatches"), found[1:], expected):
        if digest != other:
            return f"its {what} differ from those of {first}"
    return ""


def _relative(loss: float, expected: float) -> float:
    # A loss may be 0: then the difference itself. Below float's limit, because it is recorded.
    difference = abs(loss - expected)
    return min(difference / (abs(expected) or 1), 1e300)


def _has_layer(record: Comparison, candidate: Candidate, timing: Timing) -> bool:
    # Whether the framework's own layer is in the comparison, passed its check, and has not failed
    # in timing, be it alone or in turns with this candidate.
    if candidate.model == "concise" or timing.layer_failure is not None:
        return False
    return any(
        other.failure is None and other.timing(timing.value).failure is None
        for other in record.candidates
        if (other.place, other.model) == (candidate.place, "concise")
    )


def _task(
    job: Job, candidate: Candidate, settings: Settings, threads: int = 0, workers: int = 1
) -> Task:
    plan = job.record.plan
    threads = threads or plan.threads
    place = Place(candidate.backend, candidate.model, plan.device, threads, workers=workers)
    return Task(settings, place, job.text, plan.tf32)


@contextlib.contextmanager
def _ask(
    job: Job, candidate: Candidate, task: Task, calls: Sequence[partial[Iterator[Any]]]
) -> Generator[Iterator[Any]]:
    # A child's answers but None, and a failure if it fails. It has ended when the context is left:
    # were it left to a destructor to end it, a Ctrl-C meanwhile would be lost.
    python = plans.python_of(candidate, job.pythons) or sys.executable
    environment = dict.fromkeys(THREADS, str(task.place.threads))
    timeout = job.record.plan.timeout
    with contextlib.closing(groups.ask_all(calls, timeout, environment, python)) as answers:
        yield _with_failure(answers)


def _with_failure(answers: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from (answer for answer in answers if answer is not None)
    except RNNScratchError as error:
        yield Failure(processes.one_line(str(error)))
