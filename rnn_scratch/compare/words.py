"""A comparison in words: what was compared, the notes to its tables, and how it was measured."""

import math
import statistics
from collections.abc import Iterator

from . import certainty
from .conclusions import GROWN, float64_curves
from .plan import Candidate, Record, name, spec_of

DESCRIPTIONS = {
    "scratch": "plain code",
    "fast": "optimized by hand",
    "concise": "the framework's own layers",
}
BUSY = 0.5  # running processes in the minute before the comparison began


def setting_lines(record: Record) -> list[str]:
    """What was compared, and where: a few lines."""
    plan, settings, machine = record["plan"], record["settings"], record["machine"]
    threads = f"threads: {plan['threads']}"
    if plan["vary"]:
        threads += (
            f"; timed with {plan['vary']['name']} {', '.join(map(str, plan['vary']['values']))}"
        )
    tf32 = ", TF32 allowed" if plan["tf32"] else ""
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}",
        f"device: {_devices(record)}; {settings['dtype']}{tf32}; {threads}",
        f"cell {settings.get('cell', 'rnn')}, {settings['num_hiddens']} hidden units; minibatches "
        f"of {settings['batch_size']} rows and {settings['num_steps']} time steps; a vocabulary of "
        f"{record['text']['vocabulary']}; {settings['sampling']} sampling of "
        f"{record['text']['train_tokens']:,} characters of {record['text']['corpus']}; "
        f"epochs: {settings['num_epochs']}",
        f"models: {'; '.join(f'{model}: {DESCRIPTIONS[model]}' for model in plan['models'])}",
        *(f"{backend}: {versions}" for backend, versions in _versions(record).items()),
        f"started {record['started']}, {record['outcome']}; {record['command']}",
    ]


def notes(record: Record) -> list[str]:
    """What a reader needs to know to judge the tables."""
    lines = []
    if record["outcome"] == "interrupted":
        lines.append("Interrupted: this is what was measured until then.")
    for candidate in record["candidates"]:
        lines += _failures(record, candidate)
    if "against" in record:
        older = record["against"]
        if older["differences"]:
            lines.append(f"The older comparison differs in: {'; '.join(older['differences'])}.")
        if not older["speeds"]:
            lines.append(
                "The two comparisons have no speed in common: of the same candidate, with the same "
                "settings, device and number of threads."
            )
        lines.append(
            f"A candidate is called {certainty.FASTER} or {certainty.SLOWER} {certainty.RULE}. "
            + certainty.YARDSTICK
        )
    if (record["load"] or 0) > BUSY:
        lines.append(
            f"The machine was busy at the start: {record['load']:.1f} running processes in the "
            "minute before. On an idle machine, times may be shorter."
        )
    return [
        *lines,
        *_about_unstable(record),
        *_about_held_out(record),
        *_about_workers(record),
    ]


def how_measured(record: Record) -> list[str]:
    """How the figures were measured."""
    numbers = {  # of processes; fewer than planned after an interruption or a failure
        len(speed["rounds"])
        for candidate in record["candidates"]
        for speed in candidate["speed"]
        if speed["rounds"]
    }
    fewest, most = min(numbers, default=0), max(numbers, default=0)
    processes = f"{fewest} to {most} processes" if fewest < most else f"{most} processes"
    if most == 1:
        processes = "one process"
    interval = (
        "The brackets give the lowest and the highest of them, an interval that contains the "
        f"median of all such processes with a confidence of {certainty.coverage(fewest):.0%}"
        f"{'.' if fewest == most else ' or more.'}"
        if fewest > 1
        else "With one process, there is no spread, and the brackets repeat the speed."
    )
    layers = any(
        "own_layer" in measurement
        for candidate in record["candidates"]
        for speed in candidate["speed"]
        for measurement in speed["rounds"]
    )
    in_turns = ", those to its own layer with both in one process, in turns" if layers else ""
    return [
        f"Speeds are medians of {processes}, each the median of several turns of training after a "
        f"warm-up; the clock stops only when the results have been computed. {interval} "
        "Processes ran one at a time, in an order that was rotated by one each round. "
        f"Ratios to another framework are taken round by round{in_turns}. The brackets cover "
        "what changes from process to process, not what changes from one hour to the next: for "
        "that, compare again with --against.",
        "The limit is the speed of training that does nothing but its indispensable matrix "
        "products: those of the cell for each step, those of the output layer for all "
        "steps at once, forward and backward, and those for the gradients of their weights, timed "
        "in the same process in turns. The best limit is that of the framework that multiplies "
        "fastest here. A framework can exceed its own limit where it computes several products at "
        "a time.",
        "Import is the time that the framework adds to a Python that has NumPy; the first "
        "minibatch includes compilation. Memory is the most that the process had at once: "
        "interpreter, libraries, text and model.",
    ]


def float64_sentence(record: Record) -> str:
    """What the picture of the divergence shows."""
    curves = float64_curves(record)
    if not curves:
        return ""
    early = max(max(curve[:10]) for curve in curves)
    last = max(curve[-1] for curve in curves)
    worst = max(max(curve) for curve in curves)
    rounding = (
        "The same training runs in float64, and the relative difference of each update's loss to "
        f"that of NumPy. In the first ten updates it is {early:.2g} at most, which is the rounding "
        "of float64: the frameworks compute the same function, and add its terms in another order."
    )
    if worst < GROWN:
        return f"{rounding} In the whole run it is {worst:.2g} at most."
    return (
        f"{rounding} At the last update it is {last:.2g}, and at most {worst:.2g} in between. "
        "What grows is that rounding: where the loss surface is steep, an update magnifies the "
        "differences left by the one before, as in any chaotic system, until the runs diverge, on "
        "different paths to the same perplexity. It is not a defect of any framework."
    )


def _failures(record: Record, candidate: Candidate) -> Iterator[str]:
    # What could not be measured of a candidate, or not as planned.
    key, vary = name(candidate), record["plan"]["vary"]
    if candidate["state"] in ("failed", "not offered"):
        yield f"{key}: {candidate['state']}: {candidate['reason']}"
    if "reason" in candidate.get("float64", {}):
        yield f"{key}: no training in float64: {candidate['float64']['reason']}"
    for speed in candidate["speed"]:
        planned = record["plan"]["threads"]
        if vary and vary["name"] == "threads":
            planned = speed["value"]
        if speed.get("threads", planned) != planned:
            yield f"{key}: number of threads: {speed['threads']}, instead of {planned}."
        size = f" with {vary['name']} {speed['value']}" if vary else ""
        if speed["state"] == "failed":
            yield f"{key}{size} failed in timing: {speed['reason']}"
        if "own_layer_failure" in speed:
            yield f"{key}{size}: its own layer failed in timing: {speed['own_layer_failure']}"


def _about_unstable(record: Record) -> Iterator[str]:
    # Candidates whose times vary so much that little can be said, and the likely reason.
    vary = record["plan"]["vary"]
    for candidate in record["candidates"]:
        for speed in candidate["speed"]:
            times = [statistics.median(each["minibatches"]) for each in speed["rounds"]]
            deviation = certainty.deviation(times)
            if deviation is None or deviation <= certainty.UNSTABLE:
                continue
            conditions = [each["conditions"] for each in speed["rounds"] if "conditions" in each]
            size = f" with {vary['name']} {speed['value']}" if vary else ""
            yield (
                f"{name(candidate)}{size} is unstable: its times vary by {deviation:.0%} from "
                "process to process (standard deviation): "
                + certainty.reason(conditions, record["machine"])
            )


def _about_held_out(record: Record) -> Iterator[str]:
    # What the perplexity of the held-out text is to be compared with.
    if "baselines" not in record:
        return
    unigram, uniform = (record["baselines"][name] for name in ("unigram", "uniform"))
    yield (
        f"Held out are the {record['text']['valid_tokens']:,} characters after those that are "
        f"trained on. With each as likely as it is frequent there, their perplexity is "
        f"{unigram:.2f} ({math.log2(unigram):.2f} bits for each character); with all "
        f"{uniform:.0f} equally likely, {uniform:.0f} ({math.log2(uniform):.2f} bits)."
    )
    if record["plan"].get("target"):
        yield (
            f"Each training run ends with the first epoch after which the held-out perplexity is "
            f"{record['plan']['target']:g} or below, and after {record['settings']['num_epochs']} "
            "epochs at the latest. The seconds are those of training alone, with compilation and "
            "without evaluation; ± is the standard deviation over the random seeds."
        )


def _about_workers(record: Record) -> Iterator[str]:
    # What several workers on one machine can show.
    vary = record["plan"]["vary"]
    if not vary or vary["name"] != "workers":
        return
    cores = record["machine"]["cores"]
    needed = max(vary["values"]) * record["plan"]["threads"]
    if record["plan"]["device"] == "cpu" and needed > cores:
        yield (
            f"{max(vary['values'])} workers with {record['plan']['threads']} threads each on a "
            f"machine with {cores} cores take turns on them: that they compute the same shows "
            "correctness, and their times show nothing about speed."
        )
    yield (
        f"Workers share the {record['settings']['batch_size']} rows of each minibatch, so that the "
        "total work is that of one worker. The speed-up is relative to the fewest workers, round "
        "by round; the efficiency is the speed-up divided by the factor by which the number of "
        "workers has grown. The exchange is the time of a minibatch "
        "less that of one in which each worker goes on by itself, in turns: what is sent, and the "
        "time that workers wait for each other. Times, memory and the limit are those of the "
        "first worker; its limit is that of its own rows."
    )


def _devices(record: Record) -> str:
    # One for all, or each backend's.
    devices = {spec_of(c).place: c["device"] for c in record["candidates"] if "device" in c}
    if len(set(devices.values())) > 1:
        return ", ".join(f"{device} ({backend})" for backend, device in devices.items())
    return next(iter(devices.values()), record["plan"]["device"])


def _versions(record: Record) -> dict[str, str]:
    versions: dict[str, str] = {}
    for candidate in record["candidates"]:
        if "environment" in candidate:
            libraries = [f"{key} {value}" for key, value in candidate["environment"].items()]
            python = f"Python {candidate['machine']['python']}"
            versions[spec_of(candidate).place] = ", ".join([*libraries, python])
    return versions
