"""Writes the README's results from the records: `python -m make.readme`.

It runs in the folder of the clone. Records of runs are in ``notebooks/records``, those of
comparisons in ``notebooks/comparisons``. The results are between marks in the README, and a test
fails when they differ from the records.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from measure.certificate import Certified
from rich.console import Console

from rnn_scratch import registry
from rnn_scratch.compare import record as comparison
from rnn_scratch.compare import summary
from rnn_scratch.contract import VARIANTS
from rnn_scratch.runs import run_folder
from rnn_scratch.runs.run import begun
from rnn_scratch.show import columns, source_code

from .prose import TEMPLATES

RECORDS = Path("notebooks/records")
COMPARISONS = Path("notebooks/comparisons")
README = Path("README.md")
STEP = Path("notebooks/figures/step.svg")


def speed() -> dict[str, Any]:
    """Return the training speed of each variant, by backend: a table for each number of threads."""
    record = comparison.read(COMPARISONS / "speed")
    speeds: dict[tuple[int, str], dict[str, str]] = {}
    for row in summary.timed(record):
        variants = speeds.setdefault((row.value or record.plan.threads, row.candidate.backend), {})
        variants[row.candidate.model] = f"{row.figures['train'].median:,.0f}"
    tables = {
        threads: [[f"characters per second, {threads} thread{'s' * (threads > 1)}", *VARIANTS]]
        for threads, _ in speeds
    }
    for (threads, name), variants in speeds.items():
        tables[threads].append([name, *(variants.get(model, "") for model in VARIANTS)])
    return {"tables": tables.values(), "record": record}


def exact(folder: Path) -> dict[str, Any]:
    """Return the record of exact mode, its trained variants and backends, and where they end."""
    result = msgspec.json.decode((folder / "exact.json").read_bytes(), type=Certified)
    result.models = [model for model in result.models if model.outcome == "trained"]
    models: dict[str, list[str]] = {}
    for model in result.models:
        models.setdefault(model.model, []).append(model.backend)
    ends = [model.digests[-1] for model in result.models]
    digests = sorted({end.digest for end in ends})
    return {"exact": result, "models": models, "end": ends[0], "digests": digests}


def presets() -> dict[str, Any]:
    """Return what the presets of `train` reach, with samples."""
    record: dict[str, Any] = msgspec.json.decode((RECORDS / "presets.json").read_bytes())
    return record


def recorded(folder: Path) -> Iterator[tuple[Path, run_folder.RunRecord, list[run_folder.Epoch]]]:
    """Yield the recorded runs in a folder: path, record, history. They have no checkpoints."""
    for path, record in begun(folder):
        yield path, record, run_folder.history(path)


def histories(folder: Path) -> dict[str, list[run_folder.Epoch]]:
    """Return the epochs of ordinary training, with sequential partitioning, by backend."""
    return {
        name: run_folder.history(folder / f"{name}-scratch-sequential") for name in registry.OURS
    }


def step() -> bytes:
    """Return a picture of one time step in two frameworks, as `show` prints it."""
    pieces = {
        name: [source_code.find(name, function)[0] for function in ("rnn", "step")]
        for name in ("numpy", "torch")
    }
    screen = Console(record=True, width=150, file=io.StringIO(), force_terminal=True)
    columns.show(screen, "one time step", pieces, marked=True)
    picture = screen.export_svg(title="rnn-scratch show", unique_id="step")
    return re.sub(
        r"@font-face {.*?}\s*", "", picture, flags=re.DOTALL
    ).encode()  # nothing is loaded


def readme(text: str) -> str:
    """Put the results of the records between their marks in a README."""
    for mark, values in {
        "sample": presets(),
        "speed": speed(),
        "presets": presets(),
        "exact": exact(RECORDS),
    }.items():
        text = replace(text, mark, part(mark, values))
    return text


def part(mark: str, values: dict[str, Any]) -> str:
    """Fill the part of this name with values."""
    return TEMPLATES.get_template(f"{mark}.md").render(values).strip()


def replace(text: str, mark: str, content: str) -> str:
    """Put content between the marks of this name in a README."""
    start, end = f"<!-- {mark}: made from records -->", f"<!-- end of {mark} -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, number = between.subn(lambda _: f"{start}\n{content}\n{end}", text)
    if number != 1:
        raise ValueError(f"the README has {number} places for {mark}, not one")
    return text


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    STEP.write_bytes(step())
