"""The three parts of a comparison: training, training in float64, rounds of timing.

Each yields a candidate when one of its workers has ended.
"""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

from ..contract import RNNScratchError
from ..settings import Settings
from ..system import processes
from ..workers import groups
from . import events, tasks
from .events import Event
from .plan import Candidate, Plan, Progress, Record, at_value, name, python_of, spec_of
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
# What the record keeps of a worker's events.
PLACE = ("device", "threads", "libraries", "machine", "environment")
DIGESTS = {"parameters": "parameters", "minibatches_seen": "minibatches seen"}
TIMES = (
    "first",
    "minibatches",
    "without_exchange",
    "products",
    "generation",
    "memory",
    "device_memory",
    "conditions",
)

WithDigests = events.Trained | events.Timed
Digests = dict[Any, tuple[str, WithDigests]]  # by seed or value: of the first candidate
Text = dict[str, str]  # the fields of a `corpus.Text`


def trainings(
    record: Record, plan: Plan, settings: Settings, text: Text, progress: Progress
) -> Iterator[Candidate]:
    """Check and train each candidate, with one random seed after another."""
    digests: Digests = {}
    for candidate in record["candidates"]:
        for seed in range(settings.seed, settings.seed + plan.seeds):
            if candidate["state"] != "waiting":
                break
            activity = f"training, seed {seed}" if plan.seeds > 1 else "training"
            seeded = dataclasses.replace(settings, seed=seed)
            task = _task(candidate, plan, plan.threads, seeded, text, check=seed == settings.seed)
            try:
                _train(candidate, plan, task, progress, activity, digests)
            except RNNScratchError as error:
                candidate |= {"state": "failed", "reason": str(error)}
            yield candidate


def float64(
    record: Record, plan: Plan, settings: Settings, text: Text, progress: Progress
) -> Iterator[Candidate]:
    """Train in float64, to compare the losses of each candidate with those of NumPy.

    NumPy is the first, wherever it is among the candidates. Not with a target, with which each run
    ends when it has reached it.
    """
    if plan.target is not None:
        return
    doubled = dataclasses.replace(settings, dtype="float64")
    reference: list[float] = []
    digests: Digests = {}
    for candidate in sorted(record["candidates"], key=lambda each: each["backend"] != "numpy"):
        losses = candidate["trainings"][0].pop("losses", []) if candidate["trainings"] else []
        if candidate["state"] != "waiting" or not (reference or candidate["backend"] == "numpy"):
            continue
        progress.activity(candidate, "training in float64")
        try:
            if settings.dtype != "float64":
                task = _task(candidate, plan, plan.threads, doubled, text)
                with _run("train", candidate, task, plan) as received:
                    for event in received:
                        if isinstance(event, events.Epoch):
                            losses += event.losses
                            activity = f"training in float64: epoch {event.number}"
                            progress.activity(candidate, activity)
                        elif isinstance(event, events.Trained):
                            _require_same(candidate, event, digests, None)
        except events.Unavailable as error:
            candidate["float64"] = {"state": "not offered", "reason": str(error)}
        except RNNScratchError as error:
            candidate["float64"] = {"state": "failed", "reason": str(error)}
        else:
            reference = reference or losses
            relative = (_relative(a, b) for a, b in zip(losses, reference))
            candidate["float64"] = {"differences": [float(f"{value:.2e}") for value in relative]}
        yield candidate


def rounds(
    record: Record, plan: Plan, settings: Settings, text: Text, progress: Progress
) -> Iterator[Candidate]:
    """Time each candidate in turn, in an order that is rotated by one from round to round."""
    turns = [
        (candidate, speed)
        for candidate in record["candidates"]
        for speed in candidate["speed"]
        if candidate["state"] == "waiting"
    ]
    digests: Digests = {}
    for number in range(plan.repeats):
        first = number % max(len(turns), 1)
        for candidate, speed in turns[first:] + turns[:first]:
            if speed["state"] == "failed":
                continue
            activity = f"timing, round {number + 1}/{plan.repeats}"
            if plan.vary:
                activity += f", {plan.vary[0]} {speed['value']}"
            progress.activity(candidate, activity)
            sized = at_value(plan, settings, speed["value"])
            own_layer = _has_layer(candidate, speed, record)
            what = (sized.threads, sized.settings, text)
            task = _task(candidate, plan, *what, own_layer=own_layer)
            task = task._replace(workers=sized.workers)
            _time(candidate, speed, plan, task, number, digests)
            yield candidate


PARTS = (trainings, float64, rounds)


def _train(
    candidate: Candidate,
    plan: Plan,
    task: Task,
    progress: Progress,
    activity: str,
    digests: Digests,
) -> None:
    progress.activity(candidate, "starting" if task.check else activity)
    settings = task.settings
    training: dict[str, Any] = {"seed": settings["seed"], "perplexity": []}
    candidate["trainings"].append(training)  # so that what there is of it outlasts a kill
    with _run("train", candidate, task, plan) as received:
        for event in received:
            if isinstance(event, events.NotOffered):
                reason = processes.one_line(event.reason)
                candidate |= {"state": "not offered", "reason": reason, "trainings": []}
            elif isinstance(event, events.Ready) and task.check:
                candidate |= {key: getattr(event, key) for key in PLACE}
                progress.activity(candidate, "checking")
            elif isinstance(event, events.Checked):
                _require_passed(candidate, event)
            elif isinstance(event, events.Epoch):
                _add_epoch(training, event)
                if task.check and settings["dtype"] == "float64" and plan.target is None:
                    training["losses"] = training.get("losses", []) + event.losses
                words = f"{activity}: epoch {event.number}/{settings['num_epochs']}"
                if event.held_out is not None:
                    words += f", held out {event.held_out:.2f}"
                progress.activity(candidate, words)
            elif isinstance(event, events.Trained):
                if event.reached != _has_reached(plan.target, training):
                    claim = "has" if event.reached else "has not"
                    raise RNNScratchError(
                        f"its perplexities contradict that it {claim} reached the target"
                    )
                training |= {"samples": event.samples, "reached": event.reached, **_digests(event)}
                if plan.target is None:  # with one, each trains as long as it needs
                    _require_same(candidate, event, digests, settings["seed"])


def _require_passed(candidate: Candidate, event: events.Checked) -> None:
    failures = [processes.one_line(failure) for failure in event.failures]
    candidate["check"] = {"comparisons": event.comparisons, "failures": failures}
    if failures:
        raise RNNScratchError(
            f"its check failed in {len(failures)} of {event.comparisons} comparisons; "
            f"the first: {failures[0]}"
        )


def _add_epoch(training: dict[str, Any], event: events.Epoch) -> None:
    perplexity = math.exp(min(sum(event.losses) / len(event.losses), 700))
    training["perplexity"].append(perplexity)
    training.setdefault("held_out", []).append(event.held_out)
    training.setdefault("seconds", []).append(event.seconds)


def _has_reached(target: float | None, training: dict[str, Any]) -> bool:
    last = training["held_out"][-1]
    return target is not None and last is not None and last <= target


def _time(
    candidate: Candidate,
    speed: dict[str, Any],
    plan: Plan,
    task: Task,
    number: int,
    digests: Digests,
) -> None:
    measurement: dict[str, Any] = {"round": number}
    try:
        with _run("measure", candidate, task, plan) as received:
            for event in received:
                if isinstance(event, events.Ready):
                    speed["threads"], measurement["import"] = event.threads, event.importing
                elif isinstance(event, events.Timed):
                    _require_same(candidate, event, digests, speed["value"])
                    times = {key: getattr(event, key) for key in TIMES}
                    measurement |= {**_digests(event), **times}
                    speed["rounds"].append(measurement)
                    speed["state"] = "measured"
                elif isinstance(event, events.OwnLayer):
                    measurement["own_layer"] = event._asdict()
    except RNNScratchError as error:
        if task.own_layer and "minibatches" in measurement:
            speed["own_layer_failure"] = str(error)  # what was timed before it remains valid
        else:
            speed |= {"state": "failed", "reason": str(error)}


def _digests(event: WithDigests) -> dict[str, str]:
    return {key: getattr(event, field) for field, key in DIGESTS.items()}


def _require_same(candidate: Candidate, event: WithDigests, digests: Digests, key: Any) -> None:
    # Results are comparable only if they began with the same numbers and the same text.
    first, expected = digests.setdefault(key, (name(candidate), event))
    words = {"parameters": "starting parameters", "minibatches_seen": "minibatches"}
    for field in DIGESTS:
        if getattr(event, field) != getattr(expected, field):
            raise RNNScratchError(f"its {words[field]} differ from those of {first}")


def _relative(loss: float, expected: float) -> float:
    # A loss may be 0: then the difference itself. Below float's limit, because it is recorded.
    difference = abs(loss - expected)
    return min(difference / (abs(expected) or 1), 1e300)


def _has_layer(candidate: Candidate, speed: dict[str, Any], record: Record) -> bool:
    # Whether the framework's own layer is in the comparison, passed its check, and has not failed
    # in timing, be it alone or in turns with this candidate.
    if candidate["model"] == "concise" or "own_layer_failure" in speed:
        return False
    return any(
        other["state"] == "waiting" and layer["state"] != "failed"
        for other in record["candidates"]
        if spec_of(other) == spec_of(candidate)._replace(model="concise")
        for layer in other["speed"]
        if layer["value"] == speed["value"]
    )


def _task(
    candidate: Candidate,
    plan: Plan,
    threads: int,
    settings: Settings,
    text: Text,
    check: bool = False,
    own_layer: bool = False,
) -> Task:
    return Task(
        backend=candidate["backend"],
        model=candidate["model"],
        device=plan.device,
        threads=threads,
        tf32=plan.tf32,
        settings=dataclasses.asdict(settings),
        text=text,
        check=check,
        own_layer=own_layer,
        target=plan.target,
    )


@contextlib.contextmanager
def _run(function: str, candidate: Candidate, task: Task, plan: Plan) -> Generator[Iterator[Event]]:
    # A worker's events; RNNScratchError if it fails. It has ended when the context is left: were it
    # left to a destructor to end it, a Ctrl-C meanwhile would be lost.
    python = python_of(plan, spec_of(candidate)) or sys.executable
    order: Sequence[type]
    if function == "train":
        order = events.TRAINING_AFTER_CHECK if task.check else events.TRAINING
    else:
        order = events.TIMING_WITH_LAYER if task.own_layer else events.TIMING
    addresses = groups.addresses(task.workers)
    team = [task._replace(rank=rank, addresses=addresses) for rank in range(task.workers)]
    work = tasks.train if function == "train" else tasks.measure
    calls = [partial(work, worker._asdict()) for worker in team]
    environment = dict.fromkeys(THREADS, str(task.threads))
    with contextlib.closing(groups.ask_all(calls, plan.timeout, environment, python)) as answers:
        yield events.receive(answers, order, task.settings["num_epochs"])
