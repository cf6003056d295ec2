"""The three parts of a comparison: trainings, trainings in float64, rounds of timing.

Each yields a candidate when one of its workers has ended.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ..contract import RNNScratchError
from ..settings import Settings
from ..system import processes
from .plan import Candidate, Plan, Progress, Record, at_value, name
from .tasks import Event, Task

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
DIGESTS = ("parameters", "minibatches seen")
TIMES = ("first", "minibatches", "products", "generation", "memory", "device_memory")
PAIRS = ("minibatches", "generation")

Digests = dict[Any, tuple[str, Event]]  # by seed or value: the first candidate with its digests


def trainings(
    record: Record, plan: Plan, settings: Settings, text: list[str], progress: Progress
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
    record: Record, plan: Plan, settings: Settings, text: list[str], progress: Progress
) -> Iterator[Candidate]:
    """Train in float64, to compare the losses of each candidate with those of NumPy."""
    doubled = dataclasses.replace(settings, dtype="float64")
    reference: list[float] = []
    digests: Digests = {}
    for candidate in record["candidates"]:
        if candidate["state"] != "waiting" or not (reference or candidate["backend"] == "numpy"):
            continue
        progress.activity(candidate, "training in float64")
        losses = candidate["trainings"][0].pop("losses", [])
        try:
            if settings.dtype != "float64":
                task = _task(candidate, plan, plan.threads, doubled, text)
                for event in _run("train", task, plan):
                    if event["event"] == "epoch":
                        losses += event["losses"]
                        progress.activity(candidate, f"training in float64: epoch {event['epoch']}")
                    elif event["event"] == "trained":
                        _require_same(candidate, event, digests, None)
        except RNNScratchError as error:
            candidate["float64"] = {"reason": str(error)}
        else:
            reference = reference or losses
            relative = (abs(a - b) / b for a, b in zip(losses, reference))
            candidate["float64"] = {"differences": [float(f"{value:.2e}") for value in relative]}
        yield candidate


def rounds(
    record: Record, plan: Plan, settings: Settings, text: list[str], progress: Progress
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
            sized, threads = at_value(plan, settings, speed["value"])
            own_layer = _has_layer(candidate, speed, record)
            task = _task(candidate, plan, threads, sized, text, own_layer=own_layer)
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
    for event in _run("train", task, plan):
        if event["event"] == "not offered":
            candidate |= {"state": "not offered", "reason": event["reason"], "trainings": []}
        elif event["event"] == "ready" and task.check:
            candidate |= {key: event[key] for key in PLACE}
            progress.activity(candidate, "checking")
        elif event["event"] == "checked":
            candidate["check"] = {key: event[key] for key in ("comparisons", "failures")}
            if failures := event["failures"]:
                raise RNNScratchError(
                    f"its check failed in {len(failures)} of {event['comparisons']} comparisons; "
                    f"the first: {failures[0]}"
                )
        elif event["event"] == "epoch":
            losses = event["losses"]
            training["perplexity"].append(math.exp(min(sum(losses) / len(losses), 700)))
            if task.check and settings["dtype"] == "float64":
                training["losses"] = training.get("losses", []) + losses
            progress.activity(
                candidate, f"{activity}: epoch {event['epoch']}/{settings['num_epochs']}"
            )
        elif event["event"] == "trained":
            training |= {key: event[key] for key in (*DIGESTS, "samples")}
            _require_same(candidate, event, digests, settings["seed"])


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
        for event in _run("measure", task, plan):
            if event["event"] == "ready":
                speed["threads"], measurement["import"] = event["threads"], event["import"]
            elif event["event"] == "timed":
                _require_same(candidate, event, digests, speed["value"])
                measurement |= {key: event[key] for key in (*DIGESTS, *TIMES)}
                speed["rounds"].append(measurement)
                speed["state"] = "measured"
            elif event["event"] == "own layer":
                measurement["own_layer"] = {key: event[key] for key in PAIRS}
    except RNNScratchError as error:
        if task.own_layer and "minibatches" in measurement:
            speed["own_layer_failure"] = str(error)  # what was timed before it remains valid
        else:
            speed |= {"state": "failed", "reason": str(error)}


def _require_same(candidate: Candidate, event: Event, digests: Digests, key: Any) -> None:
    # Results are comparable only if they began with the same numbers and the same text.
    first, expected = digests.setdefault(key, (name(candidate), event))
    for what, words in (("parameters", "starting parameters"), ("minibatches seen", "minibatches")):
        if event[what] != expected[what]:
            raise RNNScratchError(f"its {words} differ from those of {first}")


def _has_layer(candidate: Candidate, speed: dict[str, Any], record: Record) -> bool:
    # Whether the framework's own layer is in the comparison, passed its check, and has not failed
    # in timing, be it alone or in turns with this candidate.
    if candidate["model"] == "concise" or "own_layer_failure" in speed:
        return False
    return any(
        other["state"] == "waiting" and layer["state"] != "failed"
        for other in record["candidates"]
        if (other["backend"], other["model"]) == (candidate["backend"], "concise")
        for layer in other["speed"]
        if layer["value"] == speed["value"]
    )


def _task(
    candidate: Candidate,
    plan: Plan,
    threads: int,
    settings: Settings,
    text: list[str],
    check: bool = False,
    own_layer: bool = False,
) -> Task:
    return Task(
        candidate["backend"],
        candidate["model"],
        plan.device,
        threads,
        plan.tf32,
        dataclasses.asdict(settings),
        text,
        check,
        own_layer,
    )


def _run(function: str, task: Task, plan: Plan) -> Iterator[Event]:
    # A worker's events; RNNScratchError if it fails.
    python = plan.pythons.get(task.backend)
    for event in processes.ask(
        f"{Task.__module__}:{function}",
        *task,
        timeout=plan.timeout,
        environment=dict.fromkeys(THREADS, str(task.threads)),
        **({"python": python} if python else {}),
    ):
        if event["event"] == "failed":
            raise RNNScratchError(event["reason"])
        yield event
