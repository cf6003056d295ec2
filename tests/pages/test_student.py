"""The student's copies: what is written in them is graded, and an empty one works and says so."""

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
from pathlib import Path

import grading
import numpy as np
import pytest
from helpers import CLONE, python_path
from make import lessons, notebooks
from matplotlib import pyplot as plt
from student import EDIT, GRADING, TRAINING, solutions, written

from rnn_scratch import registry
from rnn_scratch.check.inputs import PLAIN, make_case
from rnn_scratch.check.mistakes import MISTAKES, changed

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

# A mistake in each function, a known one, and the first result that it makes wrong.
TYPICAL = {
    "encode": ("one vector for all characters", "vectors"),
    "rnn": ("W_hh transposed in the step", "state"),
    "rnn_back": ("no slope of the activation in the gradient", "W_xh"),
    "step": ("the output layer without its bias", "logits"),
    "loss": ("targets not transposed", "mean"),
    "loss_back": ("gradient of a sum instead of a mean", "W_xh"),
    "through_time": ("gradients of one time step instead of the sum", "W_xh"),
    "predict": ("warm-up left out: only the last token of the prefix is read", "logits"),
    "clip": ("clip by the norm of one parameter instead of all", "norm, θ half the norm"),
    "sgd": ("learning rate applied twice", "learning rate 0.3"),
    "lstm": ("input gate and forget gate exchanged", "state"),
    "adam": ("means without the correction of their bias", "learning rate 0.3"),
}
# A mistake in each function that no backend has, and words about it.
ALONE = {
    "best_run": ((".valid_loss", ".loss"), "has the lowest loss of the training text"),
    "seconds": (("return min", "return sum"), "their sum"),
}
NUMBERS = itertools.count()
# Three updates by the notebook's functions.
TRAIN = """rates = Rates(numpy.array(1.0))
losses, _ = train_epoch(build(small, double), [Batch(X, Y, rates=rates)] * 3, Update(), True)"""
CHANGES = {mistake.name: mistake.changes for mistake in MISTAKES}


@pytest.fixture(autouse=True)
def _figures(_in_the_clone):
    plt.switch_backend("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def execute(source, names):
    """Run a cell among these names; what it prints."""
    file = f"<cell {next(NUMBERS)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, file, "exec"), names)
    return printed.getvalue()


@functools.cache
def cells(backend):
    """The cells of a student's copy up to its training."""
    parts = lessons.text_of("build")
    last = next(n for n, part in enumerate(parts) if TRAINING in part.content)
    return lessons.cells(parts[: last + 1], backend, student=True)


def run(backend, write):
    """Run a student's copy up to its training, and a short one; what its cells print, and names.

    With `write` its functions are written.
    """
    names, printed = {}, {}
    for source in (cell.source for cell in cells(backend) if cell.kind == "code"):
        source = source.split(f"\n{TRAINING}")[0]
        # In the tests' process the number of threads is fixed.
        source = source.replace("threads=1", "threads=None")
        printed[source] = execute(written(source, backend) if write else source, names)
    execute(TRAIN, names)
    return printed, names


def grade(name, source, names):
    """Run the function's cell and the one that grades it; what the latter prints."""
    execute(source, names)
    return execute(f"{name} = {GRADING}installed, {name})", names)


def mistaken(name, source, backend):
    """The function with a typical mistake, and what is printed about it."""
    if name in ALONE:
        change, words = ALONE[name]
        return changed(source, change), words
    mistake, _ = TYPICAL[name]
    return changed(source, CHANGES[mistake][backend]), f"a known mistake: {mistake}."


def gradings(printed):
    """What the cells that grade a function print, by the function."""
    return {
        source.partition(" = ")[0]: text.strip()
        for source, text in printed.items()
        if GRADING in source
    }


def test_written_functions_pass_and_mistakes_are_named(own_name):
    functions = solutions(own_name)
    printed, names = run(own_name, write=True)
    passed = gradings(printed)
    assert list(passed) == list(functions)
    for name, text in passed.items():
        equal = name + r": equal to the reference, in \d+ comparisons\."
        assert re.fullmatch(f"{equal}\nThe cells below use your {name}\\.", text), text
    # A mistake in each of them. The function stays, so that its effect can be seen.
    losses = names["losses"]
    for name, (mistake, result) in TYPICAL.items():
        if name not in functions:
            continue
        _, source = functions[name]
        change = CHANGES[mistake][own_name]
        text = grade(name, changed(source, change), names)
        where = re.escape(f"The first is {result!r} (float64 rnn")
        assert re.match(rf"{name}: \d+ of \d+ comparisons with the reference fail\.", text), text
        first, diagnosis, what = text.splitlines()
        assert re.search(where + r".*\): .+ is \S+ instead of \S+\.$", first), text
        piece = grading.graded_in(name)
        assert (f"of `{piece}`, run with your `{name}`" in first) == (piece != name)
        assert diagnosis == f"These are the numbers of a known mistake: {mistake}."
        assert what == f"The cells below use your {name}, although it is not right yet."
        assert inspect.unwrap(names[name]).__code__.co_filename.startswith("<cell")
        execute(source, names)
    # An edit reaches the curve.
    text = grade("rnn", functions["rnn"][1].replace(*EDIT), names)
    assert "comparisons with the reference fail" in text
    execute(f"CELLS['rnn'] = rnn\n{TRAIN}", names)
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3
    # A step that is right is not blamed for the cell.
    assert grade("step", functions["step"][1], names).strip() == passed["step"]


def test_an_empty_copy_says_so_and_works(own_name):
    printed, names = run(own_name, write=False)
    texts = gradings(printed)
    assert list(texts) == list(solutions(own_name))
    for name, text in texts.items():
        assert text == (
            f"{name} is not written yet.\nFor now, the cells below use the project's own {name}."
        )
    losses = names["losses"]
    assert losses[-1] < losses[0]
    # They are still the notebook's: what is edited in it has its effect.
    edited = "def clip(grads, theta):\n    return {n: 0 * g for n, g in grads.items()}, 0"
    execute(f"{edited}\n\n\n{TRAIN}", names)
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3
    # Nor is it mistaken for the reader's, when it is graded once more.
    text = execute(f"loss = {GRADING}installed, loss)", names)
    assert text.startswith("loss is still the project's function. Write your own")
    text = execute("print(grading.verdict(installed, step=step))", names)
    assert text.startswith("step is still the project's function. Write your own")


FAULTY = {
    "raises NameError: name 'lables' is not defined, in `return lables`": ("loss", "return lables"),
    "loss returns None, as without a `return` at its end.\n": ("loss", "logits.mean()"),
    "loss returns float64 (48,) instead of a float64 array without axes.": (
        "loss",
        "return logits[:, 0]",
    ),
    "loss returns a number instead of a float64 array": ("loss", "return float(logits.mean())"),
    "clip returns float64 (2, 13) instead of float64 (11, 13) in `result[0]['W_xh']`.": (
        "clip",
        "return {name: grad[:2] for name, grad in grads.items()}, numpy.float64(1)",
    ),
    "clip returns a dict of 0 instead of a dict of W_xh, W_hh, b_h, W_hq, b_q in `result[0]`.": (
        "clip",
        "return {0: 1}, numpy.float64(1)",
    ),
    "rnn returns float64 (13, 12) instead of float64 (12, 13) in `result[0]`, axes swapped.": (
        "rnn",
        "return (numpy.tanh(x @ params['W_xh'] + state[0] @ params['W_hh'] + params['b_h']).T,)",
    ),
    "rnn returns float64 (12, 13) instead of a tuple of 1: float64 (12, 13)": (
        "rnn",
        "return numpy.tanh(x @ params['W_xh'])",
    ),
    "comparisons with the reference fail": ("predict", "return [3] * (len(prefix) + num_preds)"),
    "is 't' instead of 'j'": ("predict", "return [3] * (len(prefix) + num_preds)"),
    "'mean' (float64 rnn):  nan": ("loss", "return numpy.float64('nan')"),
    "returns float64 (12, 4, 11) instead of float32": ("encode", "return numpy.eye(11)[tokens]"),
}


@pytest.mark.parametrize("words", FAULTY)
def test_what_is_no_result_is_explained(words):
    name, line = FAULTY[words]
    installed = registry.load("numpy")
    names = {**vars(installed.scratch), "numpy": installed.scratch.np}
    names |= {"installed": installed, "grading": grading}
    _, source = solutions("numpy")[name]
    end = source.index('"""\n') + 4
    text = grade(name, f"{source[:end]}    {line}\n", names)
    assert words in text
    replaced = "For now" in text
    assert replaced == (names[name].__code__ is getattr(installed.scratch, name).__code__)
    assert replaced == (f"The cells below use your {name}" not in text)


@pytest.mark.parametrize(
    ("name", "right", "wrong", "mistake"),
    [
        # Two equal mistakes divide by zero alike.
        ("clip", "np.minimum(theta / norm, 1)", "theta / norm", "small gradients scaled up to θ"),
        ("rnn_back", "h_before.T @ dz", "dz.T @ h_before", "axes swapped"),
    ],
)
def test_numbers_that_are_known(name, right, wrong, mistake):
    installed = registry.load("numpy")
    names = {**vars(installed.scratch), "installed": installed, "grading": grading}
    source = changed(solutions("numpy")[name][1], (right, wrong))
    with np.errstate(all="ignore"):
        assert f"a known mistake: {mistake}." in grade(name, source, names)
    points = grading.points(name)  # nbgrader reads a number, and a notebook displays words
    assert (repr(points), points._repr_html_()) == ("0", "0 of 1 point")


def test_the_functions_of_the_other_lessons(own_name, monkeypatch):
    installed = registry.load(own_name)
    names = {"installed": installed, "grading": grading, "time": time}
    for file in (installed.scratch, installed.cells, installed.deep):
        names |= vars(file)
    functions = {}
    for lesson in lessons.LESSONS[1:]:
        functions |= solutions(own_name, lesson)
    assert {*functions} == {"lstm", "adam", *ALONE}
    for name, (_, source) in functions.items():
        wrong, words = mistaken(name, source, own_name)
        assert words in grade(name, wrong, names)
        if name in TYPICAL:  # the lesson puts it into the project's table: NumPy's is the reference
            table = installed.scratch.CELLS if name == "lstm" else installed.scratch.OPTIMIZERS
            monkeypatch.setitem(table, name, names[name])
        assert words in grade(name, wrong, names)
        assert grade(name, source, names).startswith(f"{name}: equal to the reference")
        assert grading.points(name) == 1


def test_exact_mode_is_left_to_the_project_and_time_has_one_clock(own_name):
    installed = registry.load(own_name)
    names = {**vars(installed.scratch), **vars(installed.deep), "time": time}
    names |= {"installed": installed, "grading": grading, "rounded": lambda values, grid: values}
    functions = solutions(own_name) | solutions(own_name, "learn") | solutions(own_name, "fast")
    for name in ("sgd", "adam"):
        text = grade(name, functions[name][1], names)
        assert text.startswith(f"{name}: equal to the reference"), text
    text = grade("seconds", functions["seconds"][1].replace("perf_counter", "time"), names)
    assert (
        "measure with `time.perf_counter`, not with `time.time`, in `start = time.time()`" in text
    )


def test_each_function_to_write_has_a_hint_and_a_mistake():
    for backend in registry.OURS:
        functions, sources = {}, []
        for lesson in lessons.LESSONS:
            functions |= solutions(backend, lesson)
            copy = lessons.cells(lessons.text_of(lesson), backend, student=True)
            sources += [cell.source for cell in copy]
        for name, (stub, _) in functions.items():
            (number,) = (n for n, source in enumerate(sources) if stub in source)
            task, hint = sources[number + 1].split("<summary>Hint</summary>")
            assert task.startswith(f"**Write `{name}`.**")
            assert len(hint.split()) > 10
            line, points = sources[number + 2].splitlines()
            assert line == f"{name} = {GRADING}installed, {name})"
            assert points == f"grading.points({name!r})"
            assert notebooks.metadata(sources[number])["nbgrader"]["grade_id"] == f"write-{name}"
            assert notebooks.metadata(sources[number + 2])["nbgrader"]["points"] == 1
        missing = {*TYPICAL} - {*functions}
        assert missing == (
            set() if backend == "numpy" else {"rnn_back", "loss_back", "through_time"}
        )
    assert set(TYPICAL) == set(grading.GRADED_BY)
    assert set(ALONE) == set(grading.ALONE)


def test_each_result_that_is_explained_is_one_of_the_check():
    case = make_case("numpy", registry.load("numpy"), "scratch", PLAIN, short=True)
    results = {row.result for row in case.rows(grading.GRADED_BY["loss_back"])}
    assert {*grading.EXPLAINED} <= results


# nbgrader grades a class: three submissions, one right, one wrong and one empty.

# Functions with a mistake in the second one.
WRONG = ("encode", "rnn", "loss", "lstm", "adam", "seconds")
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
    env = {**os.environ, **notebooks.ENVIRONMENT, **python_path(CLONE / "notebooks")}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])  # of alembic
    program = ("-c", "from nbgrader.apps.nbgraderapp import main; main()")
    command = [sys.executable, *program, *arguments]
    done = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.student
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lesson", lessons.LESSONS)
def test_three_submissions_are_graded(own_name, lesson, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    import nbformat
    from nbgrader.api import Gradebook

    name = f"{own_name}-{lesson}{notebooks.STUDENT}"
    functions = solutions(own_name, lesson)
    wrong = [name for name in functions if name in WRONG]
    shutil.copy(CLONE / "notebooks" / "nbgrader_config.py", tmp_path)
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
                text = written(text, own_name, lesson)
                for function in wrong if student == "wrong" else ():
                    right = functions[function][1]
                    text = text.replace(right, mistaken(function, right, own_name)[0])
            cell["source"] = text
        submitted.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader(tmp_path, "autograde", lesson, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        scores = {
            student: gradebook.find_submission(lesson, student).score
            for student in ("right", "wrong", "empty")
        }
    whole = tmp_path / "autograded" / "right" / lesson / released.name
    assert '"output_type": "error"' not in whole.read_text(encoding="utf-8")
    most = len(functions)
    assert scores == {"right": most, "wrong": most - len(wrong), "empty": 0}
