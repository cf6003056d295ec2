"""The same training on several backends: who does what when, and the record of it.

One worker at a time, each in a process of its own. First every candidate, a backend with one of
its models, is checked and trained; then each trains in float64; then all are timed, in rounds, in
an order that moves on by one from round to round. What fails becomes part of the record, with its
reason, and the others go on.
"""

import dataclasses
import datetime
import json
from pathlib import Path

from ..contract import RNNScratchError
from ..settings import Settings, option_of
from ..system import files, host
from ..text import corpus, dataset
from . import parts
from .plan import Plan, Record, Watch, values, varied

RECORD = "comparison.json"


def ready(plan: Plan, settings: Settings, text: corpus.Text) -> None:
    """Raise RNNScratchError for a plan that cannot be carried out, before anything is begun."""
    if stray := sorted(set(plan.pythons) - set(plan.backends)):
        raise RNNScratchError(
            f"--python was given for {', '.join(stray)}; compared are {', '.join(plan.backends)}."
        )
    for value in values(plan):
        dataset.prepare(text, varied(plan, settings, value)[0])


def run(
    plan: Plan, settings: Settings, text: corpus.Text, folder: Path, command: str, watch: Watch
) -> Record:
    """Compare, and keep the record in the folder, which is there, whatever happens.

    Its ``outcome`` is ``finished`` or, after a Ctrl-C, ``interrupted``. What failed has a reason.
    """
    prepared = dataset.prepare(text, settings)
    record: Record = {
        "format": 1,
        "command": command,
        "started": _now(),
        "outcome": "running",
        "machine": host.describe(),
        "load": host.load(),
        "plan": {
            **plan._asdict(),
            "pythons": sorted(plan.pythons),
            "vary": [plan.vary[0], list(plan.vary[1])] if plan.vary else None,
        },
        "settings": dataclasses.asdict(settings),
        "text": dataset.origin(text, prepared),
        "candidates": [
            {"backend": backend, "model": model, "state": "waiting", "trainings": [],
             "speed": [{"value": value, "state": "waiting", "rounds": []}
                       for value in values(plan)]}
            for backend in plan.backends for model in plan.models
        ],
    }  # fmt: skip
    watch.begin(record)
    try:
        for part in parts.PARTS:
            for candidate in part(record, plan, settings, list(text), watch):
                write(folder, record)
                watch.done(candidate)
    except KeyboardInterrupt:
        record["outcome"] = "interrupted"
    else:
        record["outcome"] = "finished"
    for candidate in record["candidates"]:
        if candidate["state"] == "waiting" and record["outcome"] == "finished":
            candidate["state"] = "measured"
    record["ended"] = _now()
    write(folder, record)
    return record


def write(folder: Path, record: Record) -> None:
    """Write the record; the old one stays until the new one is whole."""
    content = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    files.replace(folder / RECORD, content.encode() + b"\n")


def read(folder: Path) -> Record:
    """The record in a folder; RNNScratchError where there is none or it is damaged."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        Settings(**record["settings"])
        for key in ("machine", "plan", "text", "started", "outcome"):
            record[key]
        for candidate in record["candidates"]:
            for key in ("backend", "model", "state", "trainings", "speed"):
                candidate[key]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"{folder} has no {RECORD}: it is not the folder of a comparison.\n"
            "Make one: rnn-scratch compare --output FOLDER"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RNNScratchError) as error:
        raise RNNScratchError(f"{path} could not be read, or is damaged: {error!r}.") from error
    return record


def differences(new: Record, old: Record) -> list[str]:
    """Lines that say in what two comparisons differ, so that a ratio is not taken for another."""
    pairs = [("processor", new["machine"]["processor"], old["machine"]["processor"])]
    pairs += [(key, new["plan"][key], old["plan"][key]) for key in ("device", "threads", "vary")]
    pairs += [(option_of(key), value, old["settings"].get(key))
              for key, value in new["settings"].items()]  # fmt: skip
    return [f"{what}: {before} before, {now} now" for what, now, before in pairs if now != before]


def failed(record: Record) -> bool:
    """Whether anything that was to be measured could not be."""
    return any(
        candidate["state"] == "failed"
        or any(speed["state"] == "failed" or "beside" in speed for speed in candidate["speed"])
        for candidate in record["candidates"]
    )


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
