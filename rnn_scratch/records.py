"""The README's figures, made from the records of runs: `python -m rnn_scratch.records`.

Run in the folder of the clone. The records lie under ``notebooks/records``, a run's folder each;
what is made of them stands in the README between two marks, and a test fails when it differs.
"""

import json
import math
import re
import statistics
from pathlib import Path

from . import figures, runs
from .exact import GRID

RECORDS = Path("notebooks/records")
FIGURE = Path("notebooks/figures/perplexity.png")
README = Path("README.md")
START, END = "<!-- results: made from records -->", "<!-- end of results -->"


def table(records: Path) -> str:
    """Results as Markdown: a row for each run in the folder, samples, and what exact mode gave."""
    rows, samples = [], []
    folders = sorted(path.parent for path in records.glob(f"*/{runs.RECORD}"))
    if not folders:
        raise FileNotFoundError(f"there are no records of runs in {records}: nox -s records")
    for folder in folders:
        record, history = runs.read(folder), runs.history(folder)
        settings, session = record["settings"], record["sessions"][-1]
        seconds = sum(row.seconds for row in history)
        speed = statistics.median(row.tokens / row.seconds for row in history)
        rows.append(
            f"| {session['backend']} | {session['model']} | {settings['sampling']} "
            f"| {history[-1].epoch} | {history[-1].perplexity:.3f} | {speed:,.0f} "
            f"| {seconds / 60:.1f} min |"
        )
        if session["model"] == "scratch" and settings["sampling"] == "sequential":
            versions = f"{session['backend']} {session['environment'][session['backend']]}"
            samples.append(f"- {versions}: *{session['predictions'][0].strip()}*")
        where = f"{session['machine']['processor']}, {session['device']}, threads: "
    head = (
        "| backend | model | sampling | epochs | perplexity | tokens/s | training time |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    machine = f"Measured on: {where}{session['threads']}."
    return "\n".join([head + "\n".join(rows), "", machine, "", *samples, "", exact(records)])


def exact(records: Path) -> str:
    """What the exact training of all backends gave, and the odds that it would not have."""
    found = json.loads((records / "exact.json").read_text(encoding="utf-8"))
    odds = json.loads((records / "odds.json").read_text(encoding="utf-8"))
    ends = {name: rows[-1] for name, rows in found["backends"].items()}
    digests = sorted({row["digest"] for row in ends.values()})
    last = next(iter(ends.values()))
    grid = f"2**{math.log2(GRID):.0f}"
    chance = odds["expected partings in one training, NumPy and PyTorch"][grid]
    acted = odds["updates in which the clip acted"][grid]
    perplexity = odds["perplexity after the last epoch"]
    return (
        f"Exact mode, {found['settings']['num_hiddens']} hidden units, {last['epoch']} epochs: "
        f"{', '.join(ends)} end with parameters of the digest {' and '.join(digests)}. The clip "
        f"acted in {acted} updates. Perplexity is {perplexity[grid]:.4f}, and in plain float64 "
        f"{perplexity['no grid']:.4f}. The odds that two backends part in such a training, "
        f"measured: 1 in {1 / chance:,.0f}."
    )


def figure(records: Path, path: Path) -> None:
    """The perplexity curves of the scratch runs with sequential partitioning, one picture."""
    curves = {}
    for name in ("numpy", "torch", "tensorflow", "mxnet"):
        if (folder := records / f"{name}-scratch-sequential").exists():
            curves[name] = runs.history(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    figures.perplexity_curve(path, curves)


def updated(text: str, results: str) -> str:
    """A README with these results between the marks."""
    block = f"{START}\n{results}\n{END}"
    between = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    found = between.subn(lambda _: block, text)
    if found[1] != 1:
        raise ValueError(f"the README has {found[1]} places for results, not one")
    return found[0]


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8"), table(RECORDS)), encoding="utf-8")
    figure(RECORDS, FIGURE)
