"""Student notebooks: functions are graded from their source, and known mistakes are named."""

import contextlib
import functools
import io
import itertools
import json
import linecache
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grading
import pytest
from helpers import CLONE, python_path
from make import lessons, notebooks
from matplotlib import pyplot as plt
from student import GRADING, TRAINING, imports, solutions, written

from rnn_scratch import registry
from rnn_scratch.check import mistakes

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

NUMBERS = itertools.count()
# Code that trains for three updates with the notebook's functions.
TRAIN = """\
losses, _ = train_epoch(build(small, double), [Batch(X, Y)] * 3, [UpdateRule()] * 3, True)"""


@pytest.fixture(autouse=True)
def _figures(_in_the_clone):
    plt.switch_backend("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def execute(source, names):
    """Run a cell in the namespace `names`, as IPython does; return its output."""
    file = f"<cell {next(NUMBERS)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names.setdefault("In", []).append(source)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, file, "exec"), names)
    return printed.getvalue()


@functools.cache
def cells(backend):
    """Return the first student notebook's cells, up to its first training run."""
    parts = lessons.read_parts("build")
    end = next(n for n, part in enumerate(parts) if TRAINING in part.content)
    return lessons.cells(parts[: end + 1], backend, student=True)


def run(backend, write):
    """Run a student notebook up to the training run; return each cell's output and the namespace.

    If `write` is true, first replace the stubs in the cells with the solutions.
    """
    names, printed = {}, {}
    for source in (cell.source for cell in cells(backend) if cell.kind == "code"):
        source = source.split(f"\n{TRAINING}")[0]
        # A test process can set its number of threads only once.
        source = source.replace("threads=1", "threads=None")
        printed[source] = execute(written(source, backend) if write else source, names)
    execute(TRAIN, names)
    return printed, names


def gradings(printed):
    """Return the outputs of the grading cells, keyed by function name."""
    return {
        source.partition(" = ")[0]: text.strip()
        for source, text in printed.items()
        if GRADING in source
    }


@pytest.mark.usefixtures("_without_children")
def test_later_cells_survive_a_wrong_function(builtin_name):
    printed, names = run(builtin_name, write=True)
    passed = gradings(printed)
    assert list(passed) == list(solutions(builtin_name))
    for name, text in passed.items():
        assert text.startswith(f"{name}: equal to the reference, in "), text
        assert text.endswith(f"The cells below use your {name}.")
        assert grading.points(name) == 1
    losses = names["losses"]
    edit = "def clip(grads, theta):\n    grads['b_q'] *= 0\n    return grads, grads['b_q'].sum()"
    text = execute(f"{edit}\n\n\nclip = {GRADING}installed, clip)", names)
    assert "The cells below use your clip" not in text
    assert grading.points("clip") == 0
    execute(TRAIN, names)
    assert names["losses"] == losses


def test_empty_notebook_works_and_reports_missing_functions(builtin_name):
    printed, names = run(builtin_name, write=False)
    outputs = gradings(printed)
    assert list(outputs) == list(solutions(builtin_name))
    for name, text in outputs.items():
        assert text == (
            f"{name} is not written yet.\nFor now, the cells below use the project's own {name}."
        )
    losses = names["losses"]
    assert losses[-1] < losses[0]
    # The project's functions call the notebook's functions, so an edit takes effect.
    edited = "def clip(grads, theta):\n    return {n: 0 * g for n, g in grads.items()}, 0"
    (training,) = (source for source in printed if "def train_minibatch(" in source)
    execute(f"{edited}\n\n\n{training}\n\n\n{TRAIN}", names)  # `training` may be compiled
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3


# Frequent mistakes in each function: the old code, the wrong code, and part of the message.
# A mistake applies only to the backends whose source contains the old code.
FREQUENT = {
    "encode": [
        ("F.one_hot(tokens, len(params[\"b_q\"]))", "F.one_hot(tokens)", "as many elements as the"),
        (')[tokens]', ')[tokens * 0]', "one vector for all characters"),
        ("one_hot(tokens,", "one_hot(tokens * 0,", "one vector for all characters"),
    ],
    "rnn": [(' + h @ params["W_hh"]', "", "the previous state left out of the step")],
    "step": [("CELLS[options.cell](", "rnn(", "the plain cell called instead of the cell in")],
    "loss": [
        ("(logits, labels)", "(logits.softmax(1), labels)", "softmax before the cross-entropy"),
        ("targets.T.reshape(-1)", "targets.reshape(-1)", "targets not transposed"),
        ("tf.transpose(targets)", "targets", "targets not transposed"),
    ],
    "clip": [
        ("}, norm", "}, norm * scale", "the norm after clipping returned"),
        ("theta / norm", "theta / (norm + 1e-6)", "clip by norm + 1e-6"),
    ],
    "sgd": [
        ("update.lr * grads[name]", "grads[name]", "no learning rate"),
        ("update.lr *", "update.lr * update.lr *", "learning rate applied twice"),
    ],
    "predict": [
        ("logits, state = model", "logits, _ = model", "the state dropped after each token"),
        ("prefix[t] if t < len(prefix) else choose_token(", "choose_token(", "warm-up left out"),
    ],
    "lstm": [
        ("return o * ", "return c, o * ", ""),
        ("c = f * c + i * c_tilde", "c = i * c_tilde", "the old cell state left out"),
        ("h, c = state", "c, h = state", "h and c swapped in the argument"),
    ],
    "adam": [
        ("(direction + update.weight_decay * param)", "direction", "no weight decay"),
        ("(m[name] / update.c_m)", "m[name]", ""),
    ],
    "best_run": [(".valid_loss", ".loss", "lowest loss of the training text")],
    "seconds": [("perf_counter", "time", "use `time.perf_counter`")],
}  # fmt: skip


@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize("name", FREQUENT)
def test_wrong_functions_get_no_point_and_are_named(builtin_name, name):
    functions = {}
    for lesson in lessons.LESSONS:
        functions |= solutions(builtin_name, lesson)
    _, solution = functions[name]
    num_wrong = 0
    for old, new, mistake in FREQUENT[name]:
        if old not in solution:
            continue
        is_right, message = grading.grade(
            builtin_name, [imports(builtin_name), solution.replace(old, new)], name
        )
        assert not is_right, new
        assert mistake in message
        num_wrong += 1
    assert num_wrong


FORGERIES = {
    "points": "import grading\ngrading.points = lambda name: 1\ngrading.graded = lambda _, f: f",
    "installed": "import rnn_scratch.backends.numpy.scratch as project\n"
    "def sgd(*arguments):\n    return project.sgd(*arguments)",
    "imported": "def sgd(params, grads, slots, update):\n"
    "    from rnn_scratch.backends.numpy import scratch\n"
    "    return scratch.sgd(params, grads, slots, update)",
    "assigned": "sgd = installed.scratch.sgd",
    "table": "def sgd(params, grads, slots, update):\n"
    "    return OPTIMIZERS['sgd'](params, grads, slots, update)",
    "checks": "from rnn_scratch.check import results\n"
    "results.find_worst_mismatch = lambda *_: results.WorstMismatch(0, '')\n"
    "def sgd(params, grads, slots, update):\n    return params, slots",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_notebook_gets_no_point(forgery):
    sources = ['installed = lesson.start("numpy")', solutions("numpy")["sgd"][0]]
    sources += [FORGERIES[forgery], "sgd = grading.graded(installed, sgd)\ngrading.points('sgd')"]
    notebook = {"cells": [{"cell_type": "code", "source": source} for source in sources]}
    ((is_right, message),) = grading.grade_notebook(notebook).values()
    assert not is_right, message
    assert message.startswith(("sgd", "`sgd`"))


def test_functions_to_write_have_hint_and_points():
    for backend in registry.BUILTIN_BACKENDS:
        functions, sources = {}, []
        for lesson in lessons.LESSONS:
            functions |= solutions(backend, lesson)
            copy = lessons.cells(lessons.read_parts(lesson), backend, student=True)
            sources += [cell.source for cell in copy]
        for name, (stub, _) in functions.items():
            (index,) = (n for n, source in enumerate(sources) if stub in source)
            task, hint = sources[index - 1].split("<summary>Hint</summary>")
            assert f"**Write `{name}`.**" in task
            assert len(hint.split()) > 10
            line, points = sources[index + 1].splitlines()
            assert line == f"{name} = {GRADING}installed, {name})"
            assert points == f"grading.points({name!r})"
            assert notebooks.metadata(sources[index])["nbgrader"]["grade_id"] == f"write-{name}"
            assert notebooks.metadata(sources[index + 1])["nbgrader"]["points"] == 1
        missing = {*grading.GRADED, *grading.MADE_UP} - {*functions}
        assert missing == (
            set() if backend == "numpy" else {"rnn_backward", "loss_backward", "bptt"}
        )


def test_bugs_in_lessons_match_the_backend_sources():
    for bug in lessons.BUGS.values():
        for backend in registry.BUILTIN_BACKENDS:
            files = [CLONE / "backends" / backend / name for name in ("scratch.py", "cells.py")]
            source = "".join(path.read_text(encoding="utf-8") for path in files)
            # This call raises an error if the source does not contain the old code.
            mistakes.change_source(source, bug["function"], bug.get(backend) or bug["all"])


# nbgrader grades four submissions: correct, wrong, empty and forged.

WRONG = ("encode", "rnn", "loss", "lstm", "adam", "seconds")  # incorrect in the "wrong" submission


def nbgrader(course, *arguments):
    """Run nbgrader in the folder `course`; check that it succeeds."""
    env = {**os.environ, **notebooks.ENVIRONMENT, **python_path(CLONE / "notebooks" / "support")}
    # nbgrader must be able to find the `alembic` program, which is installed next to Python.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    program = ("-c", "from nbgrader.apps.nbgraderapp import main; main()")
    command = [sys.executable, *program, *arguments]
    result = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.student
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lesson", lessons.LESSONS)
def test_submissions_are_graded(builtin_name, lesson, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    import nbformat
    from nbgrader.api import Gradebook

    name = f"{builtin_name}-{lesson}{notebooks.STUDENT}"
    functions = solutions(builtin_name, lesson)
    mistaken_functions = [name for name in functions if name in WRONG]
    shutil.copy(CLONE / "notebooks" / "support" / "nbgrader_config.py", tmp_path)
    source = tmp_path / "source" / lesson
    source.mkdir(parents=True)
    nbformat.write(notebooks.compose(name), source / f"{name}.ipynb")
    nbgrader(tmp_path, "generate_assignment", lesson, "--create")
    released = tmp_path / "release" / lesson / f"{name}.ipynb"
    assert "raise NotImplementedError" in released.read_text(encoding="utf-8")
    students = ("right", "wrong", "empty", "forged")
    for student in students:
        submitted = tmp_path / "submitted" / student / lesson / released.name
        submitted.parent.mkdir(parents=True)
        notebook = json.loads(released.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if student in ("right", "wrong") and cell["cell_type"] == "code":
                text = written(text, builtin_name, lesson)
                for function in mistaken_functions if student == "wrong" else ():
                    solution = functions[function][1]
                    old, new = next(pair[:2] for pair in FREQUENT[function] if pair[0] in solution)
                    text = text.replace(solution, solution.replace(old, new))
            if student == "forged" and "import grading" in text:
                text += "\ngrading.points = lambda name: 1"
            cell["source"] = text
        submitted.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader(tmp_path, "autograde", lesson, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        scores = {student: gradebook.find_submission(lesson, student).score for student in students}
    graded = tmp_path / "autograded" / "right" / lesson / released.name
    assert '"output_type": "error"' not in graded.read_text(encoding="utf-8")
    num_functions = len(functions)
    expected = (num_functions, num_functions - len(mistaken_functions), 0, 0)
    assert scores == dict(zip(students, expected))
