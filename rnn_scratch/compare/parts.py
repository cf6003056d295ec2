"""The three parts of a comparison: trainings, trainings in float64, rounds of taking times.

Each yields a candidate when one of its workers has ended.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ..contract import RNNScratchError
from ..settings import Settings
from ..system import processes
from .plan import Candidate, Plan, Record, Watch, name, varied
from .tasks import Event, Task

# Libraries that read the number of their threads from the environment, before anything can tell
# them otherwise.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
           "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS")  # fmt: skip
# What is kept of a worker that has taken times, and of every worker.
TIMES = ("first", "minibatches", "products", "generation", "memory", "device_memory")
DIGESTS = ("parameters", "minibatches seen")
BESIDE = ("minibatches", "generation")


def trainings(
    record: Record, plan: Plan, settings: Settings, text: list[str], watch: Watch
) -> Iterator[Candidate]:
    """Check and train each, with one seed after another."""
    seen: dict[Any, Any] = {}
    for candidate in record["candidates"]:
        for seed in range(settings.seed, settings.seed + plan.seeds):
            if candidate["state"] != "waiting":
                break
            seeded = dataclasses.replace(settings, seed=seed)
            asked = seed == settings.seed
            doing = f"training, seed {seed}" if plan.seeds > 1 else "training"
            try:
                _train(candidate, plan, seeded, text, watch, doing, asked, seen)
            except RNNScratchError as error:
                candidate |= {"state": "failed", "reason": str(error)}
            yield candidate


def float64(
    record: Record, plan: Plan, settings: Settings, text: list[str], watch: Watch
) -> Iterator[Candidate]:
    """Train in float64, to see how far the losses of each are from those of NumPy."""
    doubled = dataclasses.replace(settings, dtype="float64")
    reference: list[float] = []
    seen: dict[Any, Any] = {}
    for candidate in record["candidates"]:
        if candidate["state"] != "waiting" or not (reference or candidate["backend"] == "numpy"):
            continue
        watch.busy(candidate, "training in float64")
        losses = candidate["trainings"][0].pop("losses", [])
        try:
            if settings.dtype != "float64":
                for event in _ask(candidate, "train", plan, plan.threads, doubled, text, False):
                    if event["event"] == "epoch":
                        losses += event["losses"]
                        watch.busy(candidate, f"training in float64: epoch {event['epoch']}")
                    elif event["event"] == "trained":
                        _require_same(event, seen, None, candidate)
        except RNNScratchError as error:
            candidate["float64"] = {"reason": str(error)}
        else:
            reference = reference or losses
            apart = (abs(a - b) / b for a, b in zip(losses, reference))
            candidate["float64"] = {"differences": [float(f"{value:.2e}") for value in apart]}
        yield candidate


def rounds(
    record: Record, plan: Plan, settings: Settings, text: list[str], watch: Watch
) -> Iterator[Candidate]:
    """Take times of each in turn, in an order that moves on by one from round to round."""
    turns = [(candidate, speed) for candidate in record["candidates"]
             for speed in candidate["speed"] if candidate["state"] == "waiting"]  # fmt: skip
    seen: dict[Any, Any] = {}
    for number in range(plan.repeats):
        first = number % max(len(turns), 1)
        for candidate, speed in turns[first:] + turns[:first]:
            if speed["state"] == "failed":
                continue
            chosen, threads = varied(plan, settings, speed["value"])
            doing = f"timing, round {number + 1}/{plan.repeats}"
            if plan.vary:
                doing += f", {plan.vary[0]} {speed['value']}"
            watch.busy(candidate, doing)
            try:
                found: Event = {"round": number}
                beside = _has_layer(candidate, speed, record)
                for event in _ask(
                    candidate, "take_times", plan, threads, chosen, text, False, beside
                ):
                    if event["event"] == "ready":
                        speed["threads"], found["import"] = event["threads"], event["import"]
                    elif event["event"] == "timed":
                        _require_same(event, seen, speed["value"], candidate)
                        found |= {key: event[key] for key in (*DIGESTS, *TIMES)}
                        speed["rounds"].append(found)
                        speed["state"] = "measured"
                    elif event["event"] == "beside":
                        found["beside"] = {key: event[key] for key in BESIDE}
            except RNNScratchError as error:
                if beside and "minibatches" in found:
                    speed["beside"] = str(error)  # which takes nothing from what was timed before
                else:
                    speed |= {"state": "failed", "reason": str(error)}
            yield candidate


def _train(
    candidate: Candidate, plan: Plan, settings: Settings, text: list[str], watch: Watch,
    doing: str, check: bool, seen: dict[Any, Any],
) -> None:  # fmt: skip
    watch.busy(candidate, "starting" if check else doing)
    training: dict[str, Any] = {"seed": settings.seed, "perplexity": []}
    candidate["trainings"].append(training)  # what there is of it, if the worker is killed
    for event in _ask(candidate, "train", plan, plan.threads, settings, text, check):
        if event["event"] == "ready" and check:
            keep = ("device", "threads", "libraries", "machine", "environment")
            candidate |= {key: event[key] for key in keep}
            watch.busy(candidate, "checking")
        elif event["event"] == "checked":
            candidate["check"] = {key: event[key] for key in ("comparisons", "off")}
            if event["off"]:
                raise RNNScratchError(
                    f"its check is off in {len(event['off'])} of {event['comparisons']} "
                    f"comparisons, first in: {event['off'][0]}"
                )
        elif event["event"] == "not offered":
            candidate |= {"state": "not offered", "reason": event["reason"], "trainings": []}
        elif event["event"] == "epoch":
            losses = event["losses"]
            training["perplexity"].append(math.exp(min(sum(losses) / len(losses), 700)))
            if check and settings.dtype == "float64":
                training["losses"] = training.get("losses", []) + losses
            watch.busy(candidate, f"{doing}: epoch {event['epoch']}/{settings.num_epochs}")
        elif event["event"] == "trained":
            training |= {key: event[key] for key in (*DIGESTS, "samples")}
            _require_same(event, seen, settings.seed, candidate)


def _require_same(found: Event, seen: dict[Any, Any], key: Any, candidate: Candidate) -> None:
    # Nothing is compared that did not begin with the same numbers and see the same text.
    first, expected = seen.setdefault(key, (name(candidate), found))
    for what, words in (("parameters", "starting parameters"), ("minibatches seen", "minibatches")):
        if found[what] != expected[what]:
            raise RNNScratchError(f"its {words} are not those of {first}")


def _has_layer(candidate: Candidate, speed: dict[str, Any], record: Record) -> bool:
    # Whether this one is from scratch, and the same on the framework's own layer was found right
    # and has not failed in timing, be it alone or beside this one.
    if candidate["model"] != "scratch" or "beside" in speed:
        return False
    return any(
        other["state"] == "waiting" and layer["state"] != "failed"
        for other in record["candidates"]
        if (other["backend"], other["model"]) == (candidate["backend"], "concise")
        for layer in other["speed"]
        if layer["value"] == speed["value"]
    )


def _ask(
    candidate: Candidate, function: str, plan: Plan, threads: int,
    settings: Settings, text: list[str], check: bool, beside: bool = False,
) -> Iterator[Event]:  # fmt: skip
    backend = candidate["backend"]
    task = Task(backend, candidate["model"], plan.device, threads, plan.tf32,
                dataclasses.asdict(settings), text, check, beside)  # fmt: skip
    where = {"python": plan.pythons[backend]} if backend in plan.pythons else {}
    yield from processes.ask(
        f"rnn_scratch.compare.tasks:{function}", *task, timeout=plan.timeout,
        environment=dict.fromkeys(THREADS, str(threads)), **where,
    )  # fmt: skip


PARTS = (trainings, float64, rounds)
