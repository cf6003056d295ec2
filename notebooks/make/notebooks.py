"""The notebooks, made from the master texts and the backends: `python -m make.notebooks`.

Run in the folder of the clone, with the names of the notebooks to make, or none for all that this
environment can. With ``--check`` nothing is made: it says which one is stale, and exits with 1.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.cli import source_code
from rnn_scratch.contract import RNNScratchError

from . import chapter
from .chapter import TEXTS, Cell
from .records import RECORDS

# Those with a master text of their own, and the backends that they set beside each other.
OWN = {"side_by_side": ("torch", "tensorflow"), "comparison": ("numpy", "torch")}
STUDENT = "-student"
ALL = (*registry.OURS, *(name + STUDENT for name in registry.OURS), *OWN)
# One thread, so that sums are taken in the same order on every machine.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def backends_of(name: str) -> tuple[str, ...]:
    """The backends that a notebook computes with."""
    return OWN.get(name, (name.removesuffix(STUDENT),))


def cells(name: str) -> list[Cell]:
    """The cells of a notebook, before anything is computed."""
    if name not in ALL:
        raise RNNScratchError(
            f"There is no notebook {name!r}.\nThe notebooks are: {', '.join(ALL)}."
        )
    parts = chapter.parse(TEXTS / f"{name if name in OWN else 'chapter'}.md")
    return chapter.cells(parts, backends_of(name)[0], name.endswith(STUDENT))


def made_from(name: str) -> str:
    """A hash of all that a notebook is made from: cells, files of its backends, quoted records.

    Not of what it measures as it runs, which is another time each time.
    """
    content = hashlib.sha256(json.dumps(cells(name)).encode())
    files = [path for backend in backends_of(name) for path in source_code.files(backend)]
    if name not in OWN:
        files += [RECORDS / "exercises.json"]
        files += sorted(RECORDS.glob(f"{backends_of(name)[0]}-scratch-*/*.json*"))
    for path in files:
        content.update(path.read_text(encoding="utf-8").encode())
    return content.hexdigest()


def stale(name: str) -> bool:
    """Whether a notebook is not there, or not made from the text and the code as they are now."""
    wanted = made_from(name)
    try:
        notebook = json.loads(_path(name).read_text(encoding="utf-8"))
        return bool(notebook["metadata"]["rnn_scratch"]["made_from"] != wanted)
    except (FileNotFoundError, ValueError, KeyError):
        return True


def remedy(name: str) -> str:
    """The command that makes a notebook again, with its frameworks and no others installed."""
    return f"nox -s 'notebooks({name.removesuffix(STUDENT)})'"


def make(name: str) -> None:
    """Execute a notebook's cells, and write it with what came out.

    Nothing is written where a cell fails, or an output is not fit to be kept.
    """
    _path(name).write_text(executed(name), encoding="utf-8")


def executed(name: str) -> str:
    """A notebook with what its cells gave, as a file has it.

    RNNScratchError where a cell fails, or an output is not fit to be kept.
    """
    # Only here, so that what is stale can be told without them.
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from nbformat import v4
    except ModuleNotFoundError as error:
        raise RNNScratchError(
            f"To make a notebook takes {error.name}, which is not installed.\n"
            "Install it, in the folder of the clone: pip install -e '.[notebooks]'"
        ) from error
    # A machine's first import of this takes a while and says so: better here than in a notebook.
    from matplotlib import font_manager  # noqa: F401

    kinds = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    # Numbered: ids drawn at random would differ in every commit.
    parts = [kinds[kind](source, id=f"cell-{n}") for n, (kind, source) in enumerate(cells(name))]
    notebook = v4.new_notebook(cells=parts, metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "rnn_scratch": {"made_from": made_from(name)},
    })  # fmt: skip
    os.environ.update(ENVIRONMENT)
    where = {"metadata": {"path": str(TEXTS)}}
    try:
        NotebookClient(
            notebook, timeout=600, resources=where, record_timing=False, coalesce_streams=True
        ).execute()
    except CellExecutionError as error:
        words = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        raise RNNScratchError(f"{name}.ipynb: a cell failed.\n{words}") from error
    notebook.metadata["language_info"] = {"name": "python"}  # its version is nobody's business
    if faults := unfit(json.loads(nbformat.writes(notebook)), name):
        raise RNNScratchError("\n".join(f"{name}.ipynb: {fault}" for fault in faults))
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def unfit(notebook: dict[str, Any], name: str) -> list[str]:
    """What is wrong with a notebook's outputs: errors, warnings, paths of this machine."""
    faults = []
    printed = ""
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and cell["execution_count"] is None:
            faults.append(f"cell {number} was not executed")
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error" or output.get("name") == "stderr":
                faults.append(f"cell {number} gives {''.join(output.get('text', 'an error'))}")
            shown = output.get("data", {})
            texts = [output.get("text", ""), *(shown[kind] for kind in shown if "text/" in kind)]
            printed += "".join(map("".join, texts))
    for place in (str(Path.cwd()), str(Path.home()), sys.prefix, tempfile.gettempdir()):
        if len(place) > 1 and place in printed:
            faults.append(f"an output has a path of this machine, {place}")
    for backend in backends_of(name):
        if f"backend: {backend}" not in printed:
            faults.append(f"no output says that {backend} computed it")
    return faults


def main() -> None:
    """Make what is asked for, or say what is stale."""
    parser = argparse.ArgumentParser(prog="python -m make.notebooks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--check", action="store_true", help="only say which are stale")
    asked = parser.parse_args()
    try:
        for name in asked.names or [name for name in ALL if asked.check or _can_be_made(name)]:
            if not asked.check:
                make(name)
                print(f"made {_path(name)}")
            elif stale(name):
                sys.exit(f"{_path(name)} is stale. Make it again: {remedy(name)}")
    except RNNScratchError as error:
        sys.exit(f"Error: {error}")


def _can_be_made(name: str) -> bool:
    return all(registry.probe(backend)["ready"] for backend in backends_of(name))


def _path(name: str) -> Path:
    return TEXTS / f"{name}.ipynb"


if __name__ == "__main__":
    main()
