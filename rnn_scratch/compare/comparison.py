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
from typing import Any

from ..contract import RNNScratchError
from ..runs import inference
from ..settings import Settings, option_of
from ..system import files, host
from ..text import corpus, dataset
from ..text.dataset import Prepared
from . import layout, parts
from .plan import (
    MOST_CANDIDATES,
    MOST_VALUES,
    Plan,
    Progress,
    Record,
    at_value,
    python_of,
    record_of,
    spec_of,
    values,
)

RECORD = "comparison.json"
FORMAT = 4  # of the record, as written
FORMATS = (1, 2, 3, FORMAT)  # that can be read
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
        "format": FORMAT,
        "command": command,
        "started": _now(),
        "outcome": "running",
        "machine": host.describe(),
        "load": host.load(),
        "plan": record_of(plan),
        "settings": dataclasses.asdict(settings),
        "text": dataset.origin(text, prepared),
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
        return files.read_record(folder / RECORD, FORMATS, _prepare, absence)
    except files.Damaged as error:
        raise RNNScratchError(
            f"{error}\nTake it from a backup, or compare again: rnn-scratch compare --output FOLDER"
        ) from error


def differences(new: Record, old: Record) -> list[str]:
    """Lines that say in what two comparisons differ, so that no ratio is misread."""
    now, before = (_conditions(record) for record in (new, old))
    return [
        f"{what}: {before[what]} before, {now[what]} now"
        for what in now
        if what in before and before[what] != now[what]
    ]


def _conditions(record: Record) -> dict[str, Any]:
    # What two comparisons may differ in, with the versions of each backend that was started.
    plan, text, vary = record["plan"], record["text"], record["plan"]["vary"]
    conditions = {
        "processor": record["machine"]["processor"],
        **{"device": plan["device"], "threads": plan["threads"], "TF32": plan["tf32"]},
        "vary": f"{vary['name']}={','.join(map(str, vary['values']))}" if vary else "nothing",
        "text": f"{text['corpus']} ({text['sha256'][:8]})",
        # Older records lack settings that had the same value everywhere.
        **{
            option_of(key): value
            for key, value in dataclasses.asdict(Settings(**record["settings"])).items()
        },
    }
    for candidate in record["candidates"]:
        if "environment" in candidate:
            place = spec_of(candidate).place
            versions = {**candidate["environment"], "Python": candidate["machine"]["python"]}
            conditions |= {f"{key} of {place}": value for key, value in versions.items()}
    return conditions


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


def _prepare(record: Record) -> None:
    # Convert a former format, and raise an error of some kind if a value is missing or impossible.
    record["plan"].setdefault("target", None)  # which older records lack
    for former, convert in enumerate((_convert_1, _convert_2, _convert_3), 1):
        if record["format"] == former:
            convert(record)
            record["format"] = former + 1
    layout.verify(record)


def _convert_1(record: Record) -> None:
    # From format 1, in which "scratch" is the name of the code that is now "fast".
    models = {"scratch": "fast"}
    record["plan"]["models"] = [models.get(model, model) for model in record["plan"]["models"]]
    for candidate in record["candidates"]:
        candidate["model"] = models.get(candidate["model"], candidate["model"])
        if "check" in candidate:
            _rename(candidate["check"], "off", "failures")
        for speed in candidate["speed"]:
            _rename(speed, "beside", "own_layer_failure")
            for measurement in speed["rounds"]:
                _rename(measurement, "beside", "own_layer")
    for row in record.get("against", {}).get("speeds", []):
        if not row["candidate"].endswith(" concise"):
            row["candidate"] += " fast"


def _convert_2(record: Record) -> None:
    # From format 2, in which the times of a turn, of a model and of a layer, had no names.
    for candidate in record["candidates"]:
        for speed in candidate["speed"]:
            for measurement in speed["rounds"]:
                for pairs in measurement.get("own_layer", {}).values():
                    pairs[:] = [{"model": model, "layer": layer} for model, layer in pairs]


def _convert_3(record: Record) -> None:
    # From format 3, in which what is varied, and a median with its spread, were lists.
    if record["plan"]["vary"]:
        name, numbers = record["plan"]["vary"]
        record["plan"]["vary"] = {"name": name, "values": numbers}
    record.get("against", {}).pop("machine", None)
    for row in record.get("against", {}).get("speeds", []):
        for key in ("before", "now", "ratio_to_first_before", "ratio_to_first_now"):
            if row[key]:
                median, low, high = row[key]
                row[key] = {"median": median, "low": low, "high": high}


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    if old in values:
        values[new] = values.pop(old)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
