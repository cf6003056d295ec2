"""The comparison as a whole, and its record.

One worker runs at a time, each in a process of its own. First every candidate, a variant of a
backend's model, is checked and trained; then each trains in float64; then all are timed, in
rounds, in an order that is rotated by one from round to round. A failure is recorded with its
reason, and the others continue.
"""

import dataclasses
import datetime
import json
from pathlib import Path

import msgspec

from ..contract import RNNScratchError
from ..runs import inference
from ..settings import Settings
from ..system import files, host
from ..text import corpus, dataset
from ..text.dataset import Prepared
from . import formats, parts
from .plan import (
    MOST_CANDIDATES,
    MOST_VALUES,
    Plan,
    Progress,
    Record,
    at_value,
    python_of,
    record_of,
    values,
)

RECORD = "comparison.json"
LONGEST = 1_000_000  # seconds to wait for a worker
HIGHEST = 1e300  # target, which is a perplexity


def validate(plan: Plan, settings: Settings, text: corpus.Text) -> None:
    """Raise RNNScratchError for a plan that cannot be carried out, before anything is run."""
    places = list(dict.fromkeys(spec.place for spec in plan.specs))
    environments = {spec.environment for spec in plan.specs}
    if unused := sorted(set(plan.pythons) - set(places) - environments):
        raise RNNScratchError(
            f"--python names {', '.join(unused)}, which is not compared.\n"
            f"The backends of this comparison are: {', '.join(places)}."
        )
    unknown = [spec for spec in plan.specs if spec.environment and not python_of(plan, spec)]
    if unknown:
        first = min(spec.place for spec in unknown)
        raise RNNScratchError(
            f"The environment of {first} is unknown: which Python does it have?\n"
            f"Name it: --python {first}=PATH"
        )
    if not 0 < plan.timeout <= LONGEST:
        raise RNNScratchError(
            f"--timeout is {plan.timeout:g}; it must be a number of seconds above 0, and at most "
            f"{LONGEST:,}."
        )
    if plan.target is not None and not (1 < plan.target < HIGHEST and settings.valid_tokens):
        raise RNNScratchError(
            f"--target is {plan.target:g}; it must be a perplexity above 1 and below {HIGHEST:g}, "
            "of held-out text: --valid-tokens N holds out N characters."
        )
    for what, number, most in (
        ("candidates", len(plan.specs), MOST_CANDIDATES),
        ("values in --vary", len(values(plan)), MOST_VALUES),
    ):
        if not 0 < number <= most:
            raise RNNScratchError(f"There are {number} {what}; there must be 1 to {most}.")
    dataclasses.replace(settings, seed=settings.seed + plan.seeds - 1)  # the last one, if valid
    for value in values(plan):
        dataset.prepare(text, at_value(plan, settings, value).settings)


def run(
    plan: Plan,
    settings: Settings,
    text: corpus.Text,
    folder: Path,
    command: str,
    progress: Progress,
) -> Record:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    Its ``outcome`` is ``finished`` or, after a Ctrl-C, ``interrupted``. Each failure has a reason.
    """
    prepared = dataset.prepare(text, settings)
    record: Record = {
        "format": formats.FORMAT,
        "command": command,
        "started": _now(),
        "outcome": "running",
        "machine": msgspec.to_builtins(host.describe()),
        "load": host.load(),
        "plan": record_of(plan),
        "settings": dataclasses.asdict(settings),
        "text": msgspec.to_builtins(dataset.describe(text, prepared)),
        **({"baselines": _baselines(prepared)} if len(prepared.valid) else {}),
        "candidates": [
            {
                "backend": spec.backend,
                "model": spec.model,
                **({"at": spec.environment} if spec.environment else {}),
                "state": "waiting",
                "trainings": [],
                "speed": [
                    {"value": value, "state": "waiting", "rounds": []} for value in values(plan)
                ],
            }
            for spec in plan.specs
        ],
    }
    try:
        progress.start(record)
        try:
            for part in parts.PARTS:
                for candidate in part(record, plan, settings, text._asdict(), progress):
                    write(folder, record)
                    progress.end(candidate)
        except KeyboardInterrupt:
            record["outcome"] = "interrupted"
        else:
            record["outcome"] = "finished"
            for candidate in record["candidates"]:
                if candidate["state"] == "waiting":
                    candidate["state"] = "measured"
        # Before anything is shown: after a SIGHUP there may be no terminal.
        record["ended"] = _now()
        write(folder, record)
    finally:
        progress.stop()
    return record


def _baselines(prepared: Prepared) -> dict[str, float]:
    uniform, unigram = inference.baselines(prepared.valid, prepared.vocab)
    return {"uniform": uniform, "unigram": unigram}


def write(folder: Path, record: Record) -> None:
    """Write the record; the old one stays until the new one is complete."""
    content = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    files.replace(folder / RECORD, content.encode() + b"\n")


def read(folder: Path) -> Record:
    """The record in a folder; RNNScratchError where there is none or it is damaged.

    One of a former format is converted to the present one.
    """
    absence = (
        f"{folder} is not the folder of a comparison: it has no {RECORD}.\n"
        "To make one: rnn-scratch compare --output FOLDER"
    )
    try:
        return files.read_record(folder / RECORD, formats.FORMATS, formats.prepare, absence)
    except files.Damaged as error:
        raise RNNScratchError(
            f"{error}\nTake it from a backup, or compare again: rnn-scratch compare --output FOLDER"
        ) from error


def failed(record: Record) -> bool:
    """Whether anything that was to be measured could not be."""
    return any(
        candidate["state"] == "failed"
        or candidate.get("float64", {}).get("state") == "failed"
        or any(
            speed["state"] == "failed" or "own_layer_failure" in speed
            for speed in candidate["speed"]
        )
        for candidate in record["candidates"]
    )


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
