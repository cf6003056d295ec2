"""Student notebooks: grading tests the functions and names known mistakes."""

import contextlib
import functools
import inspect
import io
import itertools
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import grading
import pytest
from helpers import CLONE, python_path
from make import lessons, notebooks
from matplotlib import pyplot as plt
from mistakes import MISTAKES, changed
from student import EDIT, GRADING, TRAINING, solutions, written

from rnn_scratch import registry

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

# The mistakes that teachers see most often.
FREQUENT = {
    "loss": ("targets not transposed", "sum instead of mean"),
    "step": ("softmax in the step", "the plain cell called instead of the cell in the table"),
    "clip": (
        "clip by one norm for each array",
        "clip of each element to the interval from -θ to θ",
        "the norm without the square root",
    ),
    "sgd": ("parameters that do not change", "a step up the gradient instead of down"),
    "predict": ("the most likely token instead of the chosen one",),
}
# Functions that no backend defines, each with a mistake and the message that explains it.
MADE_UP = {
    "best_run": ((".valid_loss", ".loss"), "has the lowest loss of the training text"),
    "seconds": (("perf_counter", "time"), "measure with `time.perf_counter`, not with `time.time`"),
}
NUMBERS = itertools.count()
# Code that trains for three updates with the notebook's functions.
TRAIN = """\
losses, _ = train_epoch(build(small, double), [Batch(X, Y)] * 3, [Update()] * 3, True)"""


@pytest.fixture(autouse=True)
def _figures(_in_the_clone):
    plt.switch_backend("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def execute(source, names):
    """Run a cell in the namespace `names`; return its output."""
    file = f"<cell {next(NUMBERS)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, file, "exec"), names)
    return printed.getvalue()


@functools.cache
def cells(backend):
    """Return the cells of the first student notebook up to its first training run."""
    parts = lessons.read_parts("build")
    end = next(n for n, part in enumerate(parts) if TRAINING in part.content)
    return lessons.cells(parts[: end + 1], backend, student=True)


def run(backend, write):
    """Run a student notebook up to the training run; return outputs by cell, and the namespace.

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


def grade(name, source, names):
    """Run `source`, which defines the function `name`; grade the function and return the output."""
    execute(source, names)
    return execute(f"{name} = {GRADING}installed, {name})", names)


def functions_and_names(backend):
    """Return the solutions of all lessons by function name, and a namespace to grade them in."""
    installed, functions = registry.load(backend), {}
    names = {"installed": installed, "grading": grading, "time": time}
    for file in (installed.scratch, installed.cells, installed.deep):
        names |= vars(file)
    for lesson in lessons.LESSONS:
        functions |= {name: source for name, (_, source) in solutions(backend, lesson).items()}
    return functions, names


def mistaken(name, source, backend):
    """Yield `source` with each recognized mistake in turn, and the message that grading prints."""
    if name in MADE_UP:
        change, message = MADE_UP[name]
        yield changed(source, change), message
        return
    for mistake in grading.recognized_mistakes(name):
        change = mistake.changes.get(backend)
        if change and all(text in source for text in change[::2]):
            yield changed(source, change), f"a known mistake: {mistake.name}."


def gradings(printed):
    """Return the outputs of the grading cells by function name."""
    return {
        source.partition(" = ")[0]: text.strip()
        for source, text in printed.items()
        if GRADING in source
    }


def test_written_functions_pass_and_edits_reach_the_curve(builtin_name):
    functions = solutions(builtin_name)
    printed, names = run(builtin_name, write=True)
    passed = gradings(printed)
    assert list(passed) == list(functions)
    for name, text in passed.items():
        equal = name + r": equal to the reference, in \d+ comparisons\."
        assert re.fullmatch(f"{equal}\nThe cells below use your {name}\\.", text), text
    losses = names["losses"]
    text = grade("rnn", functions["rnn"][1].replace(*EDIT), names)
    result, mistake, notice = text.splitlines()
    assert mistake.endswith("a known mistake: the previous state left out of the step.")
    assert re.search(r"The first is 'state' \(float64 rnn\): .+ is \S+ instead of \S+\.$", result)
    assert notice == "The cells below use your rnn, although it is not right yet."
    assert inspect.unwrap(names["rnn"]).__code__.co_filename.startswith("<cell")
    execute(f"CELLS['rnn'] = rnn\n{TRAIN}", names)
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3
    # Grading does not blame a correct step for the wrong cell.
    assert grade("step", functions["step"][1], names).strip() == passed["step"]


def test_mistakes_are_named_without_warnings(builtin_name, monkeypatch):
    functions, names = functions_and_names(builtin_name)
    installed, messages = names["installed"], {}
    for name, source in functions.items():
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            assert grade(name, source, names).startswith(f"{name}: equal to the reference")
            assert grading.points(name) == 1
            messages[name] = []
            for mistaken_source, message in mistaken(name, source, builtin_name):
                assert message in grade(name, mistaken_source, names)
                assert grading.points(name) == 0
                messages[name].append(message)
        assert not raised, (name, [str(warning.message) for warning in raised])
        assert messages[name]
        if name in ("lstm", "adam"):
            # The lesson puts the function into the project's table, which the reference also uses.
            table = installed.scratch.CELLS if name == "lstm" else installed.scratch.OPTIMIZERS
            monkeypatch.setitem(table, name, names[name])
            assert message in grade(name, mistaken_source, names)
        names[name] = getattr(installed.scratch, name, names[name])
    for name, frequent in FREQUENT.items():
        assert {f"a known mistake: {mistake}." for mistake in frequent} <= {*messages[name]}


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
    execute(f"{edited}\n\n\n{TRAIN}", names)
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3
    # Grading again does not mistake the project's function for the student's.
    text = execute(f"loss = {GRADING}installed, loss)", names)
    assert text.startswith("loss is still the project's function. Write your own")


FAULTY = {
    "raises NameError: name 'lables' is not defined, in `return lables`": ("loss", "return lables"),
    "loss returns None, as without a `return` at its end.\n": ("loss", "logits.mean()"),
    "loss returns a number instead of a float64 array": ("loss", "return float(logits.mean())"),
    "rnn returns float64 (13, 12) instead of float64 (12, 13) in `result[0]`, axes swapped.": (
        "rnn",
        "return (numpy.tanh(x @ params['W_xh'] + state[0] @ params['W_hh'] + params['b_h']).T,)",
    ),
    "comparisons with the reference fail": ("predict", "return [3] * (len(prefix) + num_preds)"),
    "'mean' (float64 rnn):  nan": ("loss", "return numpy.float64('nan')"),
    "returns float64 (12, 4, 11) instead of float32": ("encode", "return numpy.eye(11)[tokens]"),
}


@pytest.mark.parametrize("message", FAULTY)
def test_result_of_the_wrong_form_is_explained(message):
    name, line = FAULTY[message]
    installed = registry.load("numpy")
    names = {**vars(installed.scratch), "numpy": installed.scratch.np}
    names |= {"installed": installed, "grading": grading}
    _, source = solutions("numpy")[name]
    end = source.index('"""\n') + 4
    text = grade(name, f"{source[:end]}    {line}\n", names)
    assert message in text
    replaced = "For now" in text
    assert replaced == (names[name].__code__ is getattr(installed.scratch, name).__code__)
    assert replaced == (f"The cells below use your {name}" not in text)


def test_functions_to_write_have_hint_and_points():
    for backend in registry.BUILTIN_BACKENDS:
        functions, sources = {}, []
        for lesson in lessons.LESSONS:
            functions |= solutions(backend, lesson)
            copy = lessons.cells(lessons.read_parts(lesson), backend, student=True)
            sources += [cell.source for cell in copy]
        for name, (stub, _) in functions.items():
            (index,) = (n for n, source in enumerate(sources) if stub in source)
            task, hint = sources[index + 1].split("<summary>Hint</summary>")
            assert task.startswith(f"**Write `{name}`.**")
            assert len(hint.split()) > 10
            line, points = sources[index + 2].splitlines()
            assert line == f"{name} = {GRADING}installed, {name})"
            assert points == f"grading.points({name!r})"
            assert notebooks.metadata(sources[index])["nbgrader"]["grade_id"] == f"write-{name}"
            assert notebooks.metadata(sources[index + 2])["nbgrader"]["points"] == 1
        missing = {*grading.GRADED_BY, *MADE_UP} - {*functions}
        assert missing == (
            set() if backend == "numpy" else {"rnn_backward", "loss_backward", "bptt"}
        )
    assert set(MADE_UP) == set(grading.MADE_UP)


def test_known_mistakes_match_the_backend_sources():
    for mistake in MISTAKES:
        for backend, change in mistake.changes.items():
            source = (CLONE / "backends" / backend / mistake.file).read_text(encoding="utf-8")
            changed(source, change)  # raises ValueError if the old text is missing


# nbgrader grades three submissions: one correct, one wrong and one empty.

WRONG = ("encode", "rnn", "loss", "lstm", "adam", "seconds")  # wrong in submission "wrong"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def unexecuted(name):
    """Return a student notebook without outputs."""
    from nbformat import v4

    kinds = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    cells = [
        kinds[kind](source, id=f"cell-{n}", metadata=notebooks.metadata(source))
        for n, (kind, source) in enumerate(notebooks.cells(name))
    ]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def nbgrader(course, *arguments):
    """Run nbgrader in the folder `course`; check that it succeeds."""
    env = {**os.environ, **notebooks.ENVIRONMENT, **python_path(CLONE / "notebooks" / "support")}
    # nbgrader must find the program alembic, which is installed next to Python.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    program = ("-c", "from nbgrader.apps.nbgraderapp import main; main()")
    command = [sys.executable, *program, *arguments]
    result = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.student
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lesson", lessons.LESSONS)
def test_three_submissions_are_graded(builtin_name, lesson, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    import nbformat
    from nbgrader.api import Gradebook

    name = f"{builtin_name}-{lesson}{notebooks.STUDENT}"
    functions = solutions(builtin_name, lesson)
    mistaken_functions = [name for name in functions if name in WRONG]
    shutil.copy(CLONE / "notebooks" / "support" / "nbgrader_config.py", tmp_path)
    source = tmp_path / "source" / lesson
    source.mkdir(parents=True)
    nbformat.write(unexecuted(name), source / f"{name}.ipynb")
    nbgrader(tmp_path, "generate_assignment", lesson, "--create")
    released = tmp_path / "release" / lesson / f"{name}.ipynb"
    assert "raise NotImplementedError" in released.read_text(encoding="utf-8")
    for student in ("right", "wrong", "empty"):
        submitted = tmp_path / "submitted" / student / lesson / released.name
        submitted.parent.mkdir(parents=True)
        notebook = json.loads(released.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if student != "empty" and cell["cell_type"] == "code":
                text = written(text, builtin_name, lesson)
                for function in mistaken_functions if student == "wrong" else ():
                    solution = functions[function][1]
                    source, _ = next(mistaken(function, solution, builtin_name))
                    text = text.replace(solution, source)
            cell["source"] = text
        submitted.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader(tmp_path, "autograde", lesson, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        scores = {
            student: gradebook.find_submission(lesson, student).score
            for student in ("right", "wrong", "empty")
        }
    graded = tmp_path / "autograded" / "right" / lesson / released.name
    assert '"output_type": "error"' not in graded.read_text(encoding="utf-8")
    max_score = len(functions)
    assert scores == {"right": max_score, "wrong": max_score - len(mistaken_functions), "empty": 0}
