"""Write pages in ``notebooks/site`` and the README's results: `python -m make.pages`.

Run it from the repository root. The pages are plain Markdown with numbers, tables and figures. A
page is generated if it has a template in ``notebooks/make/pages``; its data come from the code and
the records. The other pages are edited by hand.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnn_scratch.check.draws import NUM_DRAWS
from rnn_scratch.runs import run_folder
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.settings import Settings, annotations, declaration

from . import figures, lab, play, prose, readme, reference, site_code, site_comparison, site_parity
from .readme import COMPARISONS, RECORDS

FOLDER = Path("notebooks/site")
README = Path("README.md")
RUN = RECORDS / "chapter/sequential"  # the run whose samples the start page shows
EPOCHS = (10, 150, 400, 500)
# Results of a comparison with the reference that needs no change to it.
EQUAL, FLOAT32 = "equal", "equal in float32 precision"
ONLY_FLOAT32, UNEXPLAINED = "equal in float32; fails in float64", "not explained"


def pages() -> dict[str, bytes]:
    """Return the content of generated pages and figures, keyed by path relative to FOLDER."""
    texts: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    for name, (text, drawn) in {
        "parity": site_parity.render(RECORDS),
        "comparison": site_comparison.render(COMPARISONS),
    }.items():
        texts[f"{name}.md"] = text
        pictures |= drawn
    values = {
        "settings": {n: declaration(kind) for n, kind in annotations(Settings).items()},
        "defaults": Settings(),
        "presets": json.loads((RECORDS / "presets.json").read_bytes())["presets"],
        "workers": json.loads((RECORDS / "workers.json").read_bytes()),
        "arguments_of_presets": PRESETS,
        "num_seeds": NUM_DRAWS,
        "reference": reference,
        **step(),
        "characters": run_folder.read(RUN).text.train_tokens,
        "samples": [
            row for row in run_folder.read_history(RUN) if row.epoch in EPOCHS and row.sample
        ],
        "lab": lab,
        "networks": play.read(),
        "measured": frameworks(json.loads((RECORDS / "frameworks.json").read_bytes())),
        "programs": programs(json.loads((RECORDS / "programs.json").read_bytes())),
        "arrays": play.arrays,
    }
    for path in sorted(prose.PAGES.glob("*.md")):
        if path.name not in texts:
            texts[path.name] = prose.page(path.name, values)
    files = {name: prose.linked(text).encode() for name, text in texts.items()}
    return files | pictures


def step() -> dict[str, Any]:
    """Return code for one time step in two frameworks, without docstrings or comments."""
    codes = site_code.find_code(("numpy", "torch"), "rnn", "step")
    omitted = re.compile(r'^    """.*"""\n|  # .*$', re.MULTILINE)
    return {"codes": {name: omitted.sub("", code.source) for name, code in codes.items()}}


def programs(record: dict[str, Any]) -> dict[str, Any]:
    """Return tables of the trainings and speeds of the programs in other languages."""
    trained = [["", "command", "compiler or interpreter", "epochs", "CPU seconds", "digest"]]
    for row in record["trainings"]:
        command, numbers = f"`{row['command']}`", (str(row["epochs"]), str(row["cpu_seconds"]))
        trained.append([row["program"], command, row["compiler"], *numbers, f"`{row['digest']}`"])
    names = [*record["builds"], "numpy", "torch"]
    speeds = [["hidden units", "dtype", *map(prose.framework, names)]]
    for row in record["milliseconds"]:
        times = [f"{row[name]:.3g}" for name in names]
        speeds.append([str(row["num_hiddens"]), row["dtype"], *times])
    ratios = {
        row["num_hiddens"]: row["C, optimized"] / row["numpy"]
        for row in record["milliseconds"]
        if row["dtype"] == "float32"
    }
    machine = record["machine"]["processor"]
    return {
        "trainings": trained,
        "builds": record["builds"],
        "speeds": speeds,
        "ratios": ratios,
        "processor": machine,
    }


def frameworks(record: dict[str, Any]) -> dict[str, Any]:
    """Return tables of how the frameworks' functions differ from the reference, and counts."""
    grouped: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for framework in record["frameworks"]:
        alike: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for row in framework["rows"]:
            layer = f"`{short_name(row['layer'])}`: " if row["layer"] and row["item"] else ""
            rows = alike.setdefault((row["kind"], layer, describe(row)), [])
            rows.append(row | {"framework": framework["name"]})
        for (kind, layer, explanation), rows in alike.items():
            what = layer + ", ".join(list_items(rows))
            grouped.setdefault((kind, what, explanation), []).extend(rows)
    tables: dict[str, list[list[str]]] = {}
    for (kind, what, explanation), rows in grouped.items():
        names = ", ".join(dict.fromkeys(row["framework"] for row in rows))
        keys = ["difference", "remaining"] if rows[0]["explanation"] else ["difference"]
        numbers = [f"{max(row[key] for row in rows):.2g}" for key in keys]
        header = ["Framework", "Function", "Difference", "Explanation", "Remaining"]
        cells = [names, what, numbers[0], explanation, *numbers[1:], ""]
        tables.setdefault(kind, [header]).append(cells[: len(header)])
    onnx = [["Operator", "Vectors", "Mistakes", "Not detected", "Not detected by this project's"]]
    for row in record["onnx_vectors"]:
        missed = (", ".join(row[key]) or "none" for key in ("undetected", "undetected_here"))
        onnx.append([row["operator"], str(row["cases"]), str(row["mistakes"]), *missed])
    texts = [describe(row) for framework in record["frameworks"] for row in framework["rows"]]
    versions = {p for framework in record["frameworks"] for p in framework["versions"].items()}
    return {
        "tables": tables,
        "total": len(texts),
        "counts": {text: texts.count(text) for text in (EQUAL, FLOAT32, ONLY_FLOAT32, UNEXPLAINED)},
        "versions": [f"{name} {version}" for name, version in sorted(versions)],
        "date": record["date"],
        "onnx": onnx,
    }


def list_items(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of layers or, if there are any, of items, such as "Adam (absent tokens)"."""
    items: dict[str, list[str]] = {}
    for row in rows:
        name, _, tokens = (row["item"] or f"`{short_name(row['layer'])}`").partition(", ")
        items.setdefault(name, []).append(tokens)
    return [
        f"{name} ({tokens[0]})" if tokens[0] and len(tokens) == 1 else name
        for name, tokens in items.items()
    ]


def short_name(layer: str) -> str:
    """Return the name of a layer or function without its module."""
    return layer.split(".")[-1]


def describe(row: dict[str, Any]) -> str:
    """Return what a row says about the difference."""
    if row["explanation"] is None:
        return UNEXPLAINED
    if "error" in row and not row["explanation"]:
        return ONLY_FLOAT32
    if row["explanation"]:
        return row["explanation"] + ("" if row["is_precise"] else "; in float32 precision")
    return EQUAL if row["is_precise"] else FLOAT32


def write() -> None:
    """Replace the generated pages and figures, and update the README."""
    files = pages()  # compute all files before deleting any
    shutil.rmtree(FOLDER / figures.FOLDER, ignore_errors=True)
    (FOLDER / figures.FOLDER).mkdir()
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)
    README.write_text(readme.readme(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
