"""Results in the README, each between two markers, and the records that contain the results.

Records of training runs are in ``notebooks/records``; records of comparisons are in
``notebooks/comparisons``.
"""

import re
import statistics
from pathlib import Path
from typing import Any

import msgspec

from rnn_scratch.compare import record as comparison
from rnn_scratch.compare import summary
from rnn_scratch.contract import VARIANTS

from . import site_code
from .prose import TEMPLATES

RECORDS = Path("notebooks/records")
COMPARISONS = Path("notebooks/comparisons")


def speed() -> dict[str, Any]:
    """Return tables of speeds by backend and variant, one per thread count, with the record."""
    record = comparison.read(COMPARISONS / "speed")
    speeds: dict[tuple[int, str], dict[str, str]] = {}
    ratios = []  # highest speed divided by lowest speed
    for row in summary.timed_rows(record):
        ratios.append(row.figures["train"].high / row.figures["train"].low)
        variants = speeds.setdefault((row.value or record.plan.threads, row.candidate.backend), {})
        variants[row.candidate.model] = f"{row.figures['train'].median:,.0f}"
        if row.candidate.model == VARIANTS[0]:
            variants["generation"] = f"{row.figures['generate'].median:,.0f}"
    columns = (*VARIANTS, "generation")
    tables = {
        threads: [[f"characters per second, {threads} thread{'s' * (threads > 1)}", *columns]]
        for threads, _ in speeds
    }
    for (threads, name), variants in speeds.items():
        tables[threads].append([name, *(variants.get(column, "") for column in columns)])
    return {"tables": tables.values(), "record": record, "ratio": statistics.median(ratios)}


def exact(folder: Path) -> dict[str, Any]:
    """Return the record of exact mode, trained backends by variant, and the final digests."""
    record = msgspec.json.decode((folder / "exact.json").read_bytes())
    trained = [model for model in record["models"] if model["outcome"] == "trained"]
    variants: dict[str, list[str]] = {}
    for model in trained:
        variants.setdefault(model["model"], []).append(model["backend"])
    ends = [model["digests"][-1] for model in trained]
    digests = sorted({end["digest"] for end in ends})
    exact = {**record, "models": trained}
    return {"exact": exact, "models": variants, "end": ends[0], "digests": digests}


def step() -> dict[str, Any]:
    """Return the code of a time step in two frameworks, without docstrings and comments."""
    codes = site_code.find_code(("numpy", "torch"), "rnn", "step")
    omitted = re.compile(r'^    """.*"""\n|  # .*$', re.MULTILINE)
    return {"codes": {name: omitted.sub("", code.source) for name, code in codes.items()}}


def readme(text: str) -> str:
    """Return a README's text with the recorded results inserted between the markers."""
    presets = msgspec.json.decode((RECORDS / "presets.json").read_bytes())
    for mark, values in {
        "sample": presets,
        "step": step(),
        "speed": speed(),
        "presets": presets,
        "exact": exact(RECORDS),
    }.items():
        content = TEMPLATES.get_template(f"{mark}.md").render(values).strip()
        text = replace(text, mark, content)
    return text


def replace(text: str, mark: str, content: str) -> str:
    """Put `content` between the markers named `mark`; raise ValueError unless they occur once."""
    start, end = f"<!-- {mark}: made from records -->", f"<!-- end of {mark} -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, number = between.subn(lambda _: f"{start}\n{content}\n{end}", text)
    if number != 1:
        raise ValueError(f"the README has {number} places for {mark}, not one")
    return text
