"""Writes the README's results from the records: `python -m make.records`.

It runs in the folder of the clone. Records of runs are in ``notebooks/records``, those of
comparisons in ``notebooks/comparisons``. The results are between marks in the README, and a test
fails when they differ from the records.
"""

import json
import re
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.compare import comparison, pictures, results, words
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.system import files

RECORDS = Path("notebooks/records")
FIGURE = Path("notebooks/figures/perplexity.png")
COMPARISONS = Path("notebooks/comparisons")
README = Path("README.md")
# The picture of each comparison that the README includes.
PICTURES = {"speed": "speed.png", "curves": "divergence.png", "scaling": "scaling.png"}


def table(records: Path) -> str:
    """Results as Markdown: a row for each run in the folder, samples, the result of exact mode."""
    rows, samples = [], []
    folders = sorted(path.parent for path in records.glob(f"*/{run_folder.RECORD}"))
    if not folders:
        raise FileNotFoundError(f"there are no records of runs in {records}: nox -s records")
    for folder in folders:
        record, history = run_folder.read(folder), run_folder.history(folder)
        settings, session = record["settings"], record["sessions"][-1]
        cell = settings.get("cell", "rnn")  # which older records do not name
        rows.append(
            [
                session["backend"],
                session["model"],
                cell,
                settings["sampling"],
                str(history[-1].epoch),
                f"{history[-1].perplexity:.3f}",
            ]
        )
        if session["model"] != "concise" and (settings["sampling"], cell) == ("sequential", "rnn"):
            versions = f"{session['backend']} {session['environment'][session['backend']]}"
            samples.append(f"- {versions}: *{session['predictions'][0].strip()}*")
    head = ["backend", "model", "cell", "sampling", "epochs", "perplexity"]
    return "\n".join([markdown([head, *rows]), "", *samples, "", exact(records)])


def comparison_tables(comparisons: Path) -> str:
    """The tables of the comparison of speeds as Markdown, and how they were measured."""
    record = comparison.read(comparisons / "speed")
    machine, plan = record["machine"], record["plan"]
    how = (
        f"Made by `{record['command'].split(' --output')[0]}` on {machine['processor']}, "
        f"{machine['cores']} cores; medians of {plan['repeats']} processes, in brackets the "
        "lowest and the highest."
    )
    tables = (results.speed_cells(record), results.other_cells(record))
    sentence = words.float64_sentence(comparison.read(comparisons / "curves"))
    return "\n\n".join([*map(markdown, tables), how, sentence])


def markdown(cells: results.Cells) -> str:
    """A table, of which the first row is the head, as Markdown."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([head, "|" + "---|" * len(cells[0]), *rows])


def read_exact(path: Path) -> dict[str, Any]:
    """The record of exact mode: settings, certificate, and the runs that were trained."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    record["runs"] = [run for run in record["runs"] if run["outcome"] == "trained"]
    return record


def candidates(exact: dict[str, Any]) -> str:
    """The trained variants and backends in words."""
    backends: dict[str, list[str]] = {}
    for run in exact["runs"]:
        backends.setdefault(run["model"], []).append(run["backend"])
    return "; ".join(f"`{model}` in {', '.join(names)}" for model, names in backends.items())


def exact(records: Path) -> str:
    """The result of training all backends in exact mode, with its certificate."""
    result = read_exact(records / "exact.json")
    ends = [run["digests"][-1] for run in result["runs"]]
    digests = sorted({end["digest"] for end in ends})
    certificate = result["certificate"]
    return (
        f"Exact mode, {result['settings']['num_hiddens']} hidden units, {ends[0]['epoch']} epochs: "
        f"{candidates(result)} end with parameters of the digest {' and '.join(digests)} and "
        f"perplexity {ends[0]['perplexity']:.4f}. Gradients were clipped in "
        f"{certificate['clipped']:,} of {certificate['updates']:,} updates. "
        f"{certificate['sentence']}"
    )


def figure(records: Path, path: Path) -> None:
    """Draw the perplexity curves of the runs with sequential partitioning as one picture."""
    curves = {}
    for name in registry.OURS:
        if (folder := records / f"{name}-scratch-sequential").exists():
            curves[name] = run_folder.history(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    curve.perplexity_curve(path, curves)


def replace(text: str, name: str, results: str) -> str:
    """A README with these results between the marks of that name."""
    start, end = f"<!-- {name}: made from records -->", f"<!-- end of {name} -->"
    block = f"{start}\n{results}\n{end}"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, number = between.subn(lambda _: block, text)
    if number != 1:
        raise ValueError(f"the README has {number} places for {name}, not one")
    return text


def readme(text: str) -> str:
    """A README with all results of the records."""
    text = replace(text, "results", table(RECORDS))
    return replace(text, "comparison", comparison_tables(COMPARISONS))


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    figure(RECORDS, FIGURE)
    for name, picture in PICTURES.items():
        images = pictures.draw(comparison.read(COMPARISONS / name))
        files.replace(COMPARISONS / name / picture, images[picture])
