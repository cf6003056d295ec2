"""Make the notebooks from the master texts and backends: `python -m make.notebooks`.

Run it from the repository root. The arguments name the notebooks to make; without names, it makes
all notebooks whose frameworks are installed. It executes a notebook if its code or the records that
it quotes have changed, or with ``--execute``; otherwise, it only refreshes text and comments.
"""

import base64
import hashlib
import html
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.show import source_code
from rnn_scratch.support import grading

from . import lessons, site_code
from .lessons import LESSONS, STUDENT, Cell, Part, notebook_path
from .readme import RECORDS

# Notebooks that use several backends and have their own master texts.
MULTI_BACKEND = {"side_by_side": ("torch", "tensorflow"), "comparison": ("numpy", "torch")}
ALL = (
    *(
        f"{b}-{lesson}{end}"
        for end in ("", STUDENT)
        for b in registry.BUILTIN_BACKENDS
        for lesson in LESSONS
    ),
    *MULTI_BACKEND,
)
RECORD = re.compile(r'lesson\.record\(\\"([\w-]+)')  # a record name in JSON-dumped cells
EXECUTE = "--execute"  # option that executes all notebooks
STUB = re.compile(  # matches a function, up to the placeholder for its body
    rf"^def (\w+)\((?:(?!^def ).)*raise NotImplementedError\(.{grading.TO_WRITE}.\)", re.M | re.S
)
GRADED = re.compile(r"^(\w+) = grading\.graded\(")
FOLDED = {"jupyter": {"source_hidden": True, "outputs_hidden": True}}  # metadata of solutions
# Use one thread, so that every machine adds numbers in the same order.
VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")
ENVIRONMENT = dict.fromkeys(VARIABLES, "1")


def used_backends(name: str) -> tuple[str, ...]:
    """Return the names of the backends that a notebook uses."""
    return MULTI_BACKEND.get(name, (name.partition("-")[0],))


def read_notebook_parts(name: str) -> list[Part]:
    """Return the parts of a notebook's master text; raise RNNScratchError for an unknown name."""
    if name not in ALL:
        raise RNNScratchError(f"Unknown notebook {name!r}.\nThe notebooks are: {', '.join(ALL)}.")
    return lessons.read_parts(name if name in MULTI_BACKEND else name.split("-")[1])


def cells(name: str) -> list[Cell]:
    """Return a notebook's cells, without outputs."""
    parts, backend = read_notebook_parts(name), used_backends(name)[0]
    return lessons.cells(parts, backend, student=name.endswith(STUDENT))


def fingerprint(name: str) -> str:
    """Return a digest of a notebook's code: code cells, backend files in use, and quoted records.

    The digest excludes prose, comments and docstrings, so rewording them requires no execution. It
    also excludes outputs, because measured times vary from run to run.
    """
    parts = cells(name)
    sources = [cell.source for cell in parts if cell.kind == "code"]
    files = [path for backend in used_backends(name) for path in source_code.files(backend)]
    if name == "side_by_side" or name.partition("-")[2].startswith("build"):
        files = [path for path in files if path.name in ("scratch.py", "machine.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    # This notebook displays the files' text.
    texts = texts if name == "side_by_side" else [lessons.syntax(text) for text in texts]
    content = hashlib.sha256(json.dumps([*map(lessons.syntax, sources), *texts]).encode())
    text = json.dumps(parts)
    names = {*RECORD.findall(text)} | ({"presets"} if "lesson.sample(" in text else set())
    records = [RECORDS / f"{record}.json" for record in sorted(names)]
    if "lesson.run(" in text:
        for folder in ("chapter", "learn"):
            records += sorted(RECORDS.glob(f"{folder}/*/*.json*"))
    for path in records:
        content.update(path.read_text(encoding="utf-8").encode())
    return content.hexdigest()


def is_stale(name: str) -> bool:
    """Return whether a notebook is missing or its code has changed since it was executed."""
    current = fingerprint(name)
    try:
        notebook = json.loads(notebook_path(name).read_text(encoding="utf-8"))
        return bool(notebook["metadata"]["rnn_scratch"]["made_from"] != current)
    except (FileNotFoundError, ValueError, KeyError):
        return True


def rebuild_command(name: str) -> str:
    """Return the command that rebuilds a notebook, in an environment with its frameworks."""
    return f"nox -s 'notebooks({name if name in MULTI_BACKEND else used_backends(name)[0]})'"


def compose(name: str) -> Any:
    """Return a notebook without outputs."""
    from nbformat import v4

    kinds = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    # Number the cells, because random ids would change every time.
    parts = [
        kinds[kind](source, id=f"cell-{n}", metadata=FOLDED if is_folded else metadata(source))
        for n, (kind, source, is_folded) in enumerate(cells(name))
    ]
    return v4.new_notebook(
        cells=parts,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "rnn_scratch": {"made_from": fingerprint(name)},
        },
    )


def refresh(name: str) -> str:
    """Return a notebook's file content with the current text and comments, and its old outputs.

    The notebook must not be stale.
    """
    import nbformat

    notebook, old = compose(name), nbformat.read(notebook_path(name), as_version=4)
    code, old_code = ([c for c in n.cells if c.cell_type == "code"] for n in (notebook, old))
    for cell, old_cell in zip(code, old_code, strict=True):
        cell.outputs, cell.execution_count = old_cell.outputs, old_cell.execution_count
        _describe_pictures(cell)
    return write(notebook)


def execute(name: str) -> str:
    """Execute a notebook and return its file content.

    Raise RNNScratchError if a cell fails or an output is unfit for publication.
    """
    import nbformat

    # Import this now, because a machine's first import prints a message unfit for a notebook.
    from matplotlib import font_manager  # noqa: F401
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = compose(name)
    os.environ.update(ENVIRONMENT)
    try:
        with tempfile.TemporaryDirectory() as folder:  # a notebook must run from any folder
            NotebookClient(
                notebook,
                timeout=600,
                resources={"metadata": {"path": folder}},
                record_timing=False,
                coalesce_streams=True,
            ).execute()
    except CellExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        raise RNNScratchError(f"{name}.ipynb: a cell failed.\n{message}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _reduce_colors(output.data["image/png"])
        _describe_pictures(cell)
    notebook.metadata["language_info"] = {"name": "python"}  # omit the version
    if faults := find_faults(json.loads(nbformat.writes(notebook)), name):
        raise RNNScratchError("\n".join(f"{name}.ipynb: {fault}" for fault in faults))
    return write(notebook)


def write(notebook: Any) -> str:
    """Return a notebook's file content."""
    import nbformat

    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def metadata(source: str) -> dict[str, Any]:
    """Return nbgrader metadata for a cell that has a stub or grades a function, otherwise {}."""
    values: dict[str, Any] = {"schema_version": 3, "cell_type": "code", "task": False}
    if written := STUB.search(source):
        values["grade_id"] = f"write-{written[1]}"
        return {"nbgrader": values | {"solution": True, "grade": False, "locked": False}}
    if graded := GRADED.match(source):
        values |= {"grade_id": f"points-{graded[1]}", "points": 1}
        return {"nbgrader": values | {"solution": False, "grade": True, "locked": True}}
    return {}


def find_faults(notebook: dict[str, Any], name: str) -> list[str]:
    """Return the faults in a notebook's outputs, such as errors, warnings and local paths."""
    faults, text = [], ""
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and cell["execution_count"] is None:
            faults.append(f"cell {number} was not executed")
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error" or output.get("name") == "stderr":
                faults.append(f"cell {number} prints {''.join(output.get('text', 'an error'))}")
            data = output.get("data", {})
            texts = [output.get("text", ""), *(data[kind] for kind in data if "text/" in kind)]
            text += "".join(map("".join, texts))
    for place in (str(Path.cwd()), str(Path.home()), sys.prefix, tempfile.gettempdir()):
        if len(place) > 1 and place in text:
            faults.append(f"an output contains a path of this machine, {place}")
    for backend in used_backends(name):
        if f"backend: {backend}" not in text:
            faults.append(f"no output names the backend {backend}")
    return faults


def main() -> None:
    """Make the notebooks named on the command line, or all whose frameworks are installed."""
    names = [argument for argument in sys.argv[1:] if argument != EXECUTE]
    loadable = set() if names else {*registry.list_loadable(print)}
    try:
        for name in names or [n for n in ALL if loadable.issuperset(used_backends(n))]:
            if name.endswith(STUDENT):  # students execute it
                action, text = "wrote", write(compose(name))
            elif EXECUTE in sys.argv or is_stale(name):
                action, text = "executed", execute(name)
            else:
                action, text = "refreshed", refresh(name)
            notebook_path(name).write_text(text, encoding="utf-8")
            print(f"{action} {notebook_path(name)}")
    except RNNScratchError as error:
        sys.exit(f"Error: {error}")


def _describe_pictures(cell: Any) -> None:
    """Describe a cell's pictures with the comment that captions its figure."""
    for output in cell.get("outputs", ()):
        if "image/png" in output.get("data", {}):
            description = html.unescape(site_code.alt_text(cell.source))
            output.data["text/plain"] = description  # fallback if the picture cannot be shown
            output.metadata.setdefault("image/png", {})["alt"] = description


def _reduce_colors(figure: str) -> str:
    """Reduce a PNG to 64 colors and 5 levels of opacity, so that it compresses better."""
    from PIL import Image  # installed with Matplotlib

    image, reduced_image = Image.open(io.BytesIO(base64.b64decode(figure))), io.BytesIO()
    image.putalpha(image.getchannel("A").point(lambda alpha: round(4 * alpha / 255) * 255 // 4))
    image.quantize(64, Image.Quantize.FASTOCTREE).save(reduced_image, "png", optimize=True)
    return base64.b64encode(reduced_image.getvalue()).decode()


if __name__ == "__main__":
    main()
