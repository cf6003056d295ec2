"""Writes the README's results from the records: `python -m make.readme`.

It runs in the folder of the clone. Records of runs are in ``notebooks/records``, those of
comparisons in ``notebooks/comparisons``. The results are between marks in the README, and a test
fails when they differ from the records.
"""

import re
from pathlib import Path
from typing import Any

import msgspec

from rnn_scratch import registry
from rnn_scratch.check.certificate import ExactResult
from rnn_scratch.compare import metrics, pictures, sentences, tables
from rnn_scratch.compare import record as comparison
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.system import files

from .prose import TEMPLATES

RECORDS = Path("notebooks/records")
FIGURE = Path("notebooks/figures/perplexity.png")
COMPARISONS = Path("notebooks/comparisons")
README = Path("README.md")
# The picture of each comparison that the README includes.
PICTURES = {"speed": "speed.png"}
# The comparisons with a target, by cell, and those whose runs in float64 diverge.
TARGETS = ("target-rnn", "target-lstm")
CURVES = ("curves", "curves-story")


def speed() -> dict[str, Any]:
    """The speeds of training with the fewest threads, and how they were measured."""
    record = comparison.read(COMPARISONS / "speed")
    head, *rows = tables.speed_cells(record)
    fewest = rows[0][1]
    # It names the kind of processor for which the library has chosen its kernels.
    ready = record.candidates[0].ready
    blas = ready.versions.get("blas", "unknown") if ready else "unknown"
    return {
        "cells": [[row[0], *row[2:]] for row in [head, *(row for row in rows if row[1] == fewest)]],
        "threads": "one thread" if fewest == "1" else f"{fewest} threads",
        "processor": record.machine.processor,
        "blas": blas.replace(" for ", " with kernels for "),
        "command": record.command.split(" --output")[0],
        "repeats": record.plan.repeats,
    }


def target() -> dict[str, Any]:
    """Seconds and epochs of training until the target of held-out perplexity."""
    read = [comparison.read(COMPARISONS / name) for name in TARGETS]
    head, rows = [""], {each.name: [each.name] for each in read[0].candidates}
    for record in read:
        cell = record.settings.cell
        head += [f"{cell}: seconds", f"{cell}: epochs"]
        for row in metrics.qualities(record):
            rows[row.candidate.name] += tables.target_cells(row)
    return {"cells": [head, *rows.values()], "record": read[0]}


def divergence() -> str:
    """When losses in float64 begin to differ, and when by a percent, on each of the texts."""
    parts = []
    for name in CURVES:
        record = comparison.read(COMPARISONS / name)
        curves = [each.differences for each in record.candidates if each.differences]
        worst = [max(updates) for updates in zip(*curves)]
        epochs = record.settings.num_epochs
        begins, percent = (
            1 + next(n for n, value in enumerate(worst) if value > bound) * epochs // len(worst)
            for bound in (sentences.GROWN, 0.01)
        )
        where = f"in epoch {begins} and by 1% in epoch {percent}"
        parts.append(f"on `{record.text.corpus}` {where}")
    return (
        "How soon the losses of the frameworks in float64 diverge depends on the text. They first "
        f"differ by a relative {sentences.GROWN:g} {'; '.join(parts)}."
    )


def exact(folder: Path) -> dict[str, Any]:
    """The record of exact mode, its trained variants and backends, and where all of them end."""
    result = msgspec.json.decode((folder / "exact.json").read_bytes(), type=ExactResult)
    result.models = [model for model in result.models if model.outcome == "trained"]
    models: dict[str, list[str]] = {}
    for model in result.models:
        models.setdefault(model.model, []).append(model.backend)
    ends = [model.digests[-1] for model in result.models]
    digests = sorted({end.digest for end in ends})
    return {"exact": result, "models": models, "end": ends[0], "digests": digests}


def presets() -> dict[str, Any]:
    """What the presets of `train` reach, and a sample of each."""
    found: dict[str, Any] = msgspec.json.decode((RECORDS / "presets.json").read_bytes())
    return found


def histories(folder: Path) -> dict[str, list[run_folder.Epoch]]:
    """The epochs of ordinary training, with sequential partitioning, by backend."""
    return {
        name: run_folder.history(folder / f"{name}-scratch-sequential") for name in registry.OURS
    }


def readme(text: str) -> str:
    """A README with all results of the records between their marks."""
    text = replace(text, "presets", part("presets", presets()))
    text = replace(text, "exact", part("exact", exact(RECORDS)))
    text = replace(text, "speed", part("speed", speed()))
    text = replace(text, "target", part("target", target()))
    return replace(text, "divergence", divergence())


def part(mark: str, values: dict[str, Any]) -> str:
    """The part of that name, with these values."""
    return TEMPLATES.get_template(f"{mark}.md").render(values).strip()


def replace(text: str, mark: str, content: str) -> str:
    """A README with this content between the marks of that name."""
    start, end = f"<!-- {mark}: made from records -->", f"<!-- end of {mark} -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, number = between.subn(lambda _: f"{start}\n{content}\n{end}", text)
    if number != 1:
        raise ValueError(f"the README has {number} places for {mark}, not one")
    return text


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURE.write_bytes(curve.picture(histories(RECORDS)))
    for folder, picture in PICTURES.items():
        images = pictures.draw(comparison.read(COMPARISONS / folder), [picture])
        files.replace(COMPARISONS / folder / picture, images[picture])
