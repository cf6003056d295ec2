"""The formats of a comparison's record: the former ones are converted to the present one."""

from typing import Any

from . import layout
from .plan import Record

FORMAT = 4  # as written
FORMATS = (1, 2, 3, FORMAT)  # that can be read


def prepare(record: Record) -> None:
    """Convert a former format; an error of some kind if a value is missing or impossible."""
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
