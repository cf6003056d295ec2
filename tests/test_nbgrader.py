"""nbgrader grades a class: three submissions, one right, one wrong and one empty."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import CLONE
from make import notebooks
from tools.sabotages import SABOTAGES
from tools.student import changed, solutions, written

from rnn_scratch import registry

pytestmark = pytest.mark.student

WRONG = {  # a mistake in each of these functions
    "encode": "one vector for all characters",
    "rnn": "the previous state left out of the step",
    "loss": "targets not transposed",
}


KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def unexecuted(name):
    """A student's notebook, without outputs."""
    from nbformat import v4

    kinds = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    cells = [
        kinds[kind](source, id=f"cell-{n}", metadata=notebooks.metadata(source))
        for n, (kind, source) in enumerate(notebooks.cells(name))
    ]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def nbgrader(course, *arguments):
    """Run nbgrader in a course's folder."""
    paths = [str(CLONE / "notebooks"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, **notebooks.ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])  # of alembic
    program = ("-c", "from nbgrader.apps.nbgraderapp import main; main()")
    command = [sys.executable, *program, *arguments]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.timeout(1800)
def test_three_submissions_are_graded(backend_name, tmp_path, monkeypatch):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    if backend_name not in registry.OURS:
        pytest.skip("there are notebooks of this project's backends only")
    import nbformat
    from nbgrader.api import Gradebook

    monkeypatch.chdir(CLONE)
    name = f"{backend_name}{notebooks.STUDENT}"
    functions = solutions(backend_name)
    by_mistake = {each.mistake: each.changes.get(backend_name) for each in SABOTAGES}
    changes = {function: by_mistake[mistake] for function, mistake in WRONG.items()}
    shutil.copy(CLONE / "notebooks" / "nbgrader_config.py", tmp_path)
    source = tmp_path / "source" / "build"
    source.mkdir(parents=True)
    nbformat.write(unexecuted(name), source / f"{name}.ipynb")
    nbgrader(tmp_path, "generate_assignment", "build", "--create")
    released = tmp_path / "release" / "build" / f"{name}.ipynb"
    assert "raise NotImplementedError" in released.read_text(encoding="utf-8")
    for student in ("right", "wrong", "empty"):
        submitted = tmp_path / "submitted" / student / "build" / released.name
        submitted.parent.mkdir(parents=True)
        notebook = json.loads(released.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if student != "empty" and cell["cell_type"] == "code":
                text = written(text, backend_name)
                for each, change in changes.items() if student == "wrong" else ():
                    right = functions[each][1]
                    text = text.replace(right, changed(right, change))
            cell["source"] = text
        submitted.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader(tmp_path, "autograde", "build", "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        scores = {
            student: gradebook.find_submission("build", student).score
            for student in ("right", "wrong", "empty")
        }
    most = len(functions)
    assert scores == {"right": most, "wrong": most - len(WRONG), "empty": 0}
