"""A comparison, phase by phase: training, training in float64, rounds of timing.

One child process runs at a time. First every candidate is checked and trained; then each trains in
float64; then all are timed, in rounds, in an order that is rotated by one from round to round. A
failure is recorded with its reason, and the others continue.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from ..contract import RNNScratchError
from ..runs.runtime import Runtime
from ..settings import Settings
from ..system import processes
from ..text import corpus
from ..workers import groups
from . import plan as plans
from . import tasks
from .record import Candidate, Comparison, Epoch, Failure, Ready, Round, Timing, Training, write
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
Tell = Callable[[str, str], None]  # receives a step of the comparison, and how far it is


class Job(NamedTuple):
    """A comparison while it is made."""

    record: Comparison
    text: corpus.Text
    pythons: Mapping[str, str]  # paths of interpreters, as in `plan.new_record`
    tell: Tell


def run(
    record: Comparison, text: corpus.Text, pythons: Mapping[str, str], folder: Path, tell: Tell
) -> None:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    Its outcome is ``finished`` or, after a Ctrl-C, ``interrupted``.
    """
    job = Job(record, text, pythons, tell)
    try:
        for phase in (trainings, float64, rounds):
            for _ in phase(job):
                write(folder, record)
    except KeyboardInterrupt:
        record.outcome = "interrupted"
    else:
        record.outcome = "finished"
    # Before anything is shown: after a SIGHUP there may be no terminal.
    write(folder, record)


def trainings(job: Job) -> Iterator[None]:
    """Check and train each candidate, with one random seed after another."""
    plan, settings = job.record.plan, job.record.settings
    digests: Digests = {}
    for candidate in job.record.candidates:
        for seed in range(settings.seed, settings.seed + plan.seeds):
            if candidate.failure is not None:
                break
            step = "training" + (f", seed {seed}" if plan.seeds > 1 else "")
            task = _task(job, candidate, replace(settings, seed=seed))
            task.check = seed == settings.seed
            candidate.failure, _ = _train(job, candidate, task, step, digests, candidate.trainings)
            yield


def float64(job: Job) -> Iterator[None]:
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
        task, step = _task(job, candidate, doubled), "training in float64"
        failure, losses = _train(job, candidate, task, step, digests, [])
        if failure is None:
            reference = reference or losses
            relative = (_relative(a, b) for a, b in zip(losses, reference))
            candidate.differences = [float(f"{value:.2e}") for value in relative]
        candidate.float64_failure = failure
        yield


def rounds(job: Job) -> Iterator[None]:
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
            step = f"timing, round {number + 1}/{plan.repeats}"
            job.tell(step, plan.labelled(candidate.name, timing.value))
            _time(job, candidate, timing, number, digests)
            yield


def _train(
    job: Job,
    candidate: Candidate,
    task: Task,
    step: str,
    digests: Digests,
    trainings: list[Training],
) -> tuple[Failure | None, list[float]]:
    # The failure, if it failed, and the losses. Adds a training run to these, from its beginning,
    # so that it outlasts a Ctrl-C.
    epochs: list[Epoch] = []
    losses: list[float] = []
    trainings.append(Training(task.settings.seed, epochs))

    def receive(answer: Ready | Epoch | Training) -> None:
        if isinstance(answer, Ready):
            if task.check:
                candidate.ready = answer
                job.tell(step, "checking")
        elif isinstance(answer, Epoch):
            losses.extend(answer.losses)
            answer.losses = []
            epochs.append(answer)
            words = f"epoch {len(epochs)}/{task.settings.num_epochs}"
            held_out = "" if answer.held_out is None else f", held out {answer.held_out:.2f}"
            job.tell(step, words + held_out)
        else:
            # With a target, each trains as long as it needs, and sees as many minibatches.
            if task.plan.target is None:
                _require_same(candidate, answer, digests, answer.seed)
            answer.epochs = epochs
            trainings[-1] = answer

    step = f"{candidate.name}: {step}"
    job.tell(step, "starting")
    return _ask(job, candidate, task, [partial(tasks.train, task)], receive), losses


def _time(job: Job, candidate: Candidate, timing: Timing, number: int, digests: Digests) -> None:
    settings, threads, workers = plans.sized(job.record.plan, job.record.settings, timing.value)
    task = _task(job, candidate, settings, threads, workers)
    task.own_layer = _has_layer(job.record, candidate, timing)
    before = list(timing.rounds)

    def receive(answer: Round) -> None:
        _require_same(candidate, answer, digests, timing.value)
        answer.number = number
        timing.rounds = [*before, answer]

    calls = groups.calls(workers, tasks.measure, task)
    failure = _ask(job, candidate, task, calls, receive)
    if task.own_layer and len(timing.rounds) > len(before):
        timing.layer_failure = failure  # what was timed before it remains valid
    else:
        timing.failure = failure


def _require_same(
    candidate: Candidate, result: Training | Round, digests: Digests, key: int | None
) -> None:
    # Results are comparable only if they began with the same numbers and the same text.
    found = (candidate.name, result.parameters, result.minibatches_seen)
    first, *expected = digests.setdefault(key, found)
    for what, digest, other in zip(("starting parameters", "minibatches"), found[1:], expected):
        if digest != other:
            raise RNNScratchError(f"its {what} differ from those of {first}")


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
    runtime = Runtime(candidate.backend, candidate.model, plan.device, threads, workers=workers)
    return Task(settings, runtime, job.text, plan)


def _ask(
    job: Job,
    candidate: Candidate,
    task: Task,
    calls: Sequence[partial[Iterator[Any]]],
    receive: Callable[[Any], None],
) -> Failure | None:
    # Passes on a child's answers, until one is a failure or it fails. It has ended when this
    # returns: were it left to a destructor to end it, a Ctrl-C meanwhile would be lost.
    python = plans.python_of(candidate, job.pythons) or sys.executable
    environment = dict.fromkeys(THREADS, str(task.runtime.threads))
    failure = None
    with contextlib.closing(groups.ask_all(calls, task.plan.timeout, environment, python)) as asked:
        try:
            for answer in asked:
                if isinstance(answer, Failure):
                    failure = answer
                    break
                if answer is not None:
                    receive(answer)
        except RNNScratchError as error:
            failure = Failure(processes.one_line(str(error)))
    if failure is not None:
        job.tell(f"{candidate.name}: {failure.reason}", "")
    return failure
