"""Writes the README's results from the records: `python -m make.readme`.

It runs in the folder of the clone. Records of runs are in ``notebooks/records``, those of
comparisons in ``notebooks/comparisons``. The results are between marks in the README, and a test
fails when they differ from the records.
"""

import json
import re
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.compare import comparison, conclusions, pictures, results, summary
from rnn_scratch.compare.plan import name
from rnn_scratch.runs import curve
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.system import files

RECORDS = Path("notebooks/records")
FIGURE = Path("notebooks/figures/perplexity.png")
COMPARISONS = Path("notebooks/comparisons")
README = Path("README.md")
# The picture of each comparison that the README includes.
PICTURES = {"speed": "speed.png"}
# The comparisons with a target, by cell, and those whose runs in float64 diverge.
TARGETS = ("target-rnn", "target-lstm")
CURVES = ("curves", "curves-story")


def table(records: Path) -> str:
    """Results as Markdown: a row for each run in the folder, and samples."""
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
    return "\n".join([markdown([head, *rows]), "", *samples])


def speed_table(comparisons: Path) -> str:
    """The speeds of training with the fewest threads as Markdown, and how they were measured."""
    record = comparison.read(comparisons / "speed")
    machine, plan = record["machine"], record["plan"]
    head, *rows = results.speed_cells(record)
    fewest = rows[0][1]
    cells = [[row[0], *row[2:]] for row in [head, *(row for row in rows if row[1] == fewest)]]
    number = "one thread" if fewest == "1" else f"{fewest} threads"
    # It names the kind of processor for which the library has chosen its kernels.
    blas = record["candidates"][0]["environment"].get("blas", "unknown")
    blas = blas.replace(" for ", " with kernels for ")
    how = (
        f"With {number} on {machine['processor']} (BLAS of NumPy: {blas}), by "
        f"`{record['command'].split(' --output')[0]}`: medians of {plan['repeats']} processes, in "
        "brackets the lowest and the highest."
    )
    return "\n\n".join([markdown(cells), how])


def target_table(comparisons: Path) -> str:
    """Seconds and epochs of training until the target of held-out perplexity, as Markdown."""
    read = [comparison.read(comparisons / name) for name in TARGETS]
    head, rows = [""], {name(each): [name(each)] for each in read[0]["candidates"]}
    for record in read:
        cell = record["settings"]["cell"]
        head += [f"{cell}: seconds", f"{cell}: epochs"]
        for row in summary.qualities(record):
            rows[row.candidate] += results.target_cells(row)
    plan, text = read[0]["plan"], read[0]["text"]
    settings = read[0]["settings"]
    how = (
        f"With {settings['num_hiddens']} hidden units and one thread, trained on "
        f"{text['train_tokens']:,} characters until the perplexity of the next "
        f"{text['valid_tokens']:,} is {plan['target']:g} or below: means of {plan['seeds']} random "
        "seeds, ± their standard deviation."
    )
    return "\n\n".join([markdown([head, *rows.values()]), how])


def divergence(comparisons: Path) -> str:
    """When training runs in float64 diverge, on each of the texts that have a record."""
    folders = [comparisons / each for each in CURVES]
    records = [comparison.read(each) for each in folders if (each / comparison.RECORD).exists()]
    return conclusions.divergence(records)


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
    for backend in registry.OURS:
        if (folder := records / f"{backend}-scratch-sequential").exists():
            curves[backend] = run_folder.history(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    curve.perplexity_curve(path, curves)


def replace(text: str, mark: str, content: str) -> str:
    """A README with this content between the marks of that name."""
    start, end = f"<!-- {mark}: made from records -->", f"<!-- end of {mark} -->"
    block = f"{start}\n{content}\n{end}"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    text, number = between.subn(lambda _: block, text)
    if number != 1:
        raise ValueError(f"the README has {number} places for {mark}, not one")
    return text


def readme(text: str) -> str:
    """A README with all results of the records."""
    text = replace(text, "exact", exact(RECORDS))
    text = replace(text, "speed", speed_table(COMPARISONS))
    text = replace(text, "target", target_table(COMPARISONS))
    return replace(text, "divergence", divergence(COMPARISONS))


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    figure(RECORDS, FIGURE)
    for folder, picture in PICTURES.items():
        images = pictures.draw(comparison.read(COMPARISONS / folder))
        files.replace(COMPARISONS / folder / picture, images[picture])
