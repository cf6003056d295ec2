"""Insert recorded results into the README, between pairs of markers.

``notebooks/records`` holds training records; ``notebooks/comparisons`` holds comparison records.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rnn_scratch.compare import tables
from rnn_scratch.compare.record import Comparison, read
from rnn_scratch.compare.tables import Estimate
from rnn_scratch.registry import BUILTIN_BACKENDS as BACKENDS

from .prose import TEMPLATES, framework

RECORDS = Path("notebooks/records")
COMPARISONS = Path("notebooks/comparisons")
NETWORKS = {"RNN": "speed", "LSTM": "preset"}  # folders of their comparisons
PAIRS = "`fast` / `scratch`", "`fast` / built-in layer"  # speed ratios in the tables
Key = tuple[str, str, int]  # backend, variant and number of threads


def collect_estimates(record: Comparison) -> dict[Key, dict[str, Estimate]]:
    """Return estimates by backend, variant and number of threads, and then by metric."""
    values = {}
    for candidate in record.supported:
        key = candidate.backend, candidate.variant, candidate.value or record.plan.threads
        metrics = tables.metrics(record, candidate)
        values[key] = {n: value for n, value in metrics.items() if isinstance(value, Estimate)}
    return dict(sorted(values.items(), key=lambda item: BACKENDS.index(item[0][0])))


def ratios_of_fast(
    speeds: Mapping[Key, Mapping[str, Estimate]], backend: str, threads: int
) -> list[str]:
    """Format the speed of `fast` relative to `scratch` and to the built-in layer, if any."""
    ratios = speeds[backend, "fast", threads]
    kinds = ("vs_scratch", "vs_builtin_layer")
    return [f"{ratios[kind]:.2f}" if kind in ratios else "" for kind in kinds]


def speed() -> dict[str, Any]:
    """Return the single-threaded speed table, and the records of its RNN and its LSTM."""
    records = {name: read(COMPARISONS / folder) for name, folder in NETWORKS.items()}
    speeds = {name: collect_estimates(record) for name, record in records.items()}
    cells = [["", *(f"{name} / {other}" for name in NETWORKS for other in ("`scratch`", "layer"))]]
    for backend in BACKENDS:
        ratios = (ratios_of_fast(speeds[name], backend, 1) for name in NETWORKS)
        cells.append([framework(backend), *itertools.chain(*ratios)])
    return {"cells": cells, "rnn": records["RNN"], "lstm": records["LSTM"]}


def exact(folder: Path) -> dict[str, Any]:
    """Return the exact-mode record, the trained backends by variant, and the final digests."""
    record = msgspec.json.decode((folder / "exact.json").read_bytes())
    trained = [model for model in record["models"] if model["outcome"] == "trained"]
    variants: dict[str, list[str]] = {}
    for model in trained:
        variants.setdefault(model["variant"], []).append(model["backend"])
    ends = [model["digests"][-1] for model in trained]
    digests = sorted({end["digest"] for end in ends})
    exact = {**record, "models": trained}
    return {"exact": exact, "models": variants, "end": ends[0], "digests": digests}


def readme(text: str) -> str:
    """Return a README's text with the recorded results inserted between the markers."""
    presets = msgspec.json.decode((RECORDS / "presets.json").read_bytes())
    for mark, values in {
        "sample": presets,
        "speed": speed(),
        "presets": presets
        | {"counting": presets["n-grams"]["shakespeare"], "novel": presets["n-grams"]["minute"]},
        "exact": exact(RECORDS),
    }.items():
        content = TEMPLATES.get_template(f"{mark}.md").render(values).strip()
        text = replace(text, mark, content)
    return text


def replace(text: str, mark: str, content: str) -> str:
    """Put `content` between the markers named `mark`; raise ValueError unless each occurs once."""
    start, end = f"<!-- {mark}: made from records -->", f"<!-- end of {mark} -->"
    section = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, count = section.subn(lambda _: f"{start}\n{content}\n{end}", text)
    if count != 1:
        raise ValueError(f"the README must have one section {mark!r} (it has {count})")
    return text
