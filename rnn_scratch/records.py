"""The README's figures, made from the records of runs: `python -m rnn_scratch.records`.

Run in the folder of the clone. The records lie under ``notebooks/records``, a run's folder each;
what is made of them stands in the README between two marks, and a test fails when it differs.
"""

import re
import statistics
from pathlib import Path

from . import figures, runs

RECORDS = Path("notebooks/records")
FIGURE = Path("notebooks/figures/perplexity.png")
README = Path("README.md")
START, END = "<!-- results: made from records -->", "<!-- end of results -->"


def table(records: Path) -> str:
    """The results of all recorded runs as a Markdown table, and a sample from each scratch run."""
    rows, samples = [], []
    for folder in sorted(path.parent for path in records.glob(f"*/{runs.RECORD}")):
        record, history = runs.read(folder), runs.history(folder)
        settings, session = record["settings"], record["sessions"][-1]
        seconds = sum(row.seconds for row in history)
        speed = statistics.median(row.tokens / row.seconds for row in history)
        mode = "exact" if settings["exact"] else settings["dtype"]
        rows.append(
            f"| {session['backend']} | {session['model']} | {settings['sampling']} | {mode} "
            f"| {history[-1].epoch} | {history[-1].perplexity:.3f} | {speed:,.0f} "
            f"| {seconds / 60:.1f} min |"
        )
        if session["model"] == "scratch" and settings["sampling"] == "sequential":
            versions = f"{session['backend']} {session['environment'][session['backend']]}"
            samples.append(f"- {versions}: *{session['predictions'][0].strip()}*")
        where = f"{session['machine']['processor']}, {session['device']}, threads: "
    head = (
        "| backend | model | sampling | mode | epochs | perplexity | tokens/s | training time |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    machine = f"Measured on: {where}{session['threads']}."
    return "\n".join([head + "\n".join(rows), "", machine, "", *samples])


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
