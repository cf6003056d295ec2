"""The lessons and the notebooks built from them are complete, current and publishable."""

import functools
import json
import re
import shutil
import sys
import tempfile

import pytest
from helpers import CLONE, require_tested
from make import lessons, notebooks, optimizations, prose
from student import GRADING, written

from rnn_scratch import contract, registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.show import source_code

TAUGHT = [f.__name__ for file in ("scratch", "deep") for f in contract.MODULES[file]]
TAUGHT += [name.replace("-", "_") for name in contract.CELLS]

# For each notebook, alternating code fragments and replacements. The replacements shorten the tests
# by training on less text, for fewer epochs, or with fewer repetitions.
SMALLER = {
    "build": ("[:10_000]", "[:3_000]", "num_epochs=4", "num_epochs=1"),
    "gates": ("num_epochs=40", "num_epochs=1", "(100, 300, 1000)", "(1, 2)", "(50, 100)", "(1, 2)"),
    "learn": sum(((f"num_epochs={n}", "num_epochs=1") for n in (40, 30, 15)), ()),
    "fast": (),
    "side_by_side": ('"--epochs", "40"', '"--epochs", "40", "--max-tokens", "2000"'),
    "comparison": ('"--epochs", "20", "--seconds", "60"', '"--epochs", "2", "--seconds", "2"'),
}

CELLS = functools.cache(notebooks.cells)  # takes several seconds to build


@pytest.fixture(autouse=True)
def _cells(monkeypatch, _in_the_clone):
    monkeypatch.setattr(notebooks, "cells", CELLS)


def read(name):
    return json.loads((CLONE / lessons.notebook_path(name)).read_text(encoding="utf-8"))


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(notebook):
    return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def extras_of(name):
    """Return the pip extras named in a notebook's first cells."""
    extras = {"side_by_side": "torch,tensorflow,notebooks", "numpy": "notebooks"}
    backend = name.partition("-")[0]
    return {**extras, "comparison": "torch,notebooks"}.get(backend, f"{backend},notebooks")


@pytest.mark.parametrize("name", notebooks.ALL)
def test_notebook_is_up_to_date_and_publishable(name):
    assert not notebooks.is_stale(name), f"make it again: {notebooks.rebuild_command(name)}"
    notebook = read(name)
    current = [cell.source for cell in notebooks.cells(name) if cell.kind == "code"]
    executed = sources(notebook, "code")
    assert list(map(lessons.syntax, executed)) == list(map(lessons.syntax, current))
    text = json.dumps(notebook)
    if name.endswith(notebooks.STUDENT):
        assert not any(cell.get("outputs") for cell in notebook["cells"])
    else:
        assert notebooks.find_faults(notebook, name) == []
        assert "image/png" in text or "image/svg+xml" in text or "<svg" in text
    assert tempfile.gettempdir() not in text
    assert len(text) < 400_000
    if "gates" not in name and "learn" not in name and "fast" not in name:  # first lessons only
        (line,) = set(re.findall("pip install -e '[^']*'", "".join(notebook["cells"][0]["source"])))
        assert line == f"pip install -e '.[{extras_of(name)}]'"


# By default, only the NumPy notebooks are executed.
EXECUTED = [
    pytest.param(name, marks=() if name.startswith("numpy") else pytest.mark.notebooks)
    for name in notebooks.ALL
    if notebooks.STUDENT not in name
]


@pytest.mark.parametrize("name", EXECUTED)
def test_notebook_runs_on_the_real_framework(name, backend_names, monkeypatch):
    require_tested(backend_names, *notebooks.used_backends(name))
    lesson = name.partition("-")[2]
    for variable, value in notebooks.ENVIRONMENT.items():  # monkeypatch restores the old values
        monkeypatch.setenv(variable, value)
    change, text = SMALLER[lesson or name], "".join(sources(read(name), "code"))
    assert all(part in text for part in change[::2]), f"{name} lacks a fragment: adapt SMALLER"

    def smaller(source):
        for text, replacement in zip(change[::2], change[1::2]):
            source = source.replace(text, replacement)
        return source

    code = [smaller(cell.source) for cell in CELLS(name) if cell.kind == "code"]
    cells = [cell._replace(source=smaller(cell.source)) for cell in CELLS(name)]
    monkeypatch.setattr(notebooks, "cells", lambda name: cells)
    notebook = json.loads(notebooks.execute(name))
    assert sources(notebook, "code") == code
    assert notebooks.find_faults(notebook, name) == []


@pytest.mark.parametrize("backend", registry.FRAMEWORKS)
def test_first_code_cell_names_a_missing_framework(backend, monkeypatch):
    notebooks = [CELLS(f"{backend}-{lesson}") for lesson in lessons.LESSONS]
    for module in [name for name in sys.modules if name.startswith(registry.find(backend))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, backend, None)  # its import fails
    for cells in notebooks:
        code = next(cell.source for cell in cells if cell.kind == "code")
        with pytest.raises(RNNScratchError, match=f"The {backend} backend needs"):
            exec(code, {})


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_lessons_contain_the_source_of_the_backend(backend):
    cells = [cell for lesson in lessons.LESSONS for cell in CELLS(f"{backend}-{lesson}")]
    for piece in TAUGHT:
        source = source_code.find(backend, piece)[0].source
        assert any(source in cell.source for cell in cells if cell.kind == "code"), piece
    # Each framework's notebooks have the same sections as the PyTorch notebooks.
    headings = headings_of(cells)
    title = f"# Build it: a recurrent language model, in {prose.framework(backend)}"
    assert headings[0] == title
    torch = [cell for lesson in lessons.LESSONS for cell in CELLS(f"torch-{lesson}")]
    assert [heading.partition(", in ")[0] for heading in headings] == [
        heading.partition(", in ")[0] for heading in headings_of(torch)
    ]
    assert len(headings) > 40


@pytest.mark.parametrize("name", notebooks.ALL)
def test_notebook_links_lead_to_existing_targets(name):
    cells = CELLS(name)
    text = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    links = re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))?(?:#([\w-]+))?\)", text)
    for file, heading in links:
        is_notebook = file.endswith(".ipynb")
        assert not file or (CLONE / lessons.notebook_path(name).parent / file).exists(), file
        assert not is_notebook or (notebooks.STUDENT in file) == (notebooks.STUDENT in name)
        assert file or f"# {heading.replace('-', ' ')}" in text
    assert links or name.partition("-")[0] in notebooks.MULTI_BACKEND


def headings_of(cells):
    """Return the headings in a notebook's Markdown cells."""
    text = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    return re.findall(r"^#+ .*", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
@pytest.mark.parametrize(
    ("lesson", "num_functions", "num_answers", "answer"),
    [
        ("build", 5, 11, "numpy.add.at"),
        ("gates", 3, 4, "The candidate is added in full, not in the proportion"),
        ("learn", 4, 4, "Two numbers per character"),
        ("fast", 1, 1, "map(seconds, products"),
    ],
)
def test_student_copy_omits_only_the_solutions(backend, lesson, num_functions, num_answers, answer):
    solved, student = (CELLS(f"{backend}-{lesson}{end}") for end in ("", notebooks.STUDENT))
    assert student.count(lessons.Cell("code", lessons.CODE)) == num_functions
    assert student.count(lessons.Cell("markdown", lessons.ANSWER)) == num_answers
    text = "\n".join(cell.source for cell in student)
    assert any(answer in cell.source for cell in solved if cell.is_folded or cell[0] == "markdown")
    assert answer not in text
    if lesson != "fast":  # a diff in `fast` shows how to use the framework's compiler
        assert "```diff" not in text  # a diff would reveal a solution
    code = [written(cell.source, backend, lesson) for cell in student if cell.kind == "code"]
    unchanged = [source for source in code if source != lessons.CODE and GRADING not in source]
    assert [cell.source for cell in solved if cell.source in unchanged] == unchanged
    for part in (lessons.CODE, lessons.ANSWER, GRADING, "<summary>Hint", "NotImplementedError"):
        assert not any(part in cell.source for cell in solved)


def test_changed_sources_make_notebooks_stale(tmp_path, monkeypatch):
    fingerprints = {name: notebooks.fingerprint(name) for name in notebooks.ALL}

    def changed():
        return {name for name in fingerprints if notebooks.fingerprint(name) != fingerprints[name]}

    files, copy = source_code.files, tmp_path / "scratch.py"
    (scratch,) = (path for path in files("torch") if path.name == copy.name)
    monkeypatch.setattr(
        source_code, "files", lambda name: [copy if p == scratch else p for p in files(name)]
    )
    ours = {name for name in notebooks.ALL if name.startswith("torch-")}
    text = scratch.read_text(encoding="utf-8")
    for addition, stale in (
        ("CHANGED = 1\n", {*ours, "side_by_side", "comparison"}),
        ("# changed\n", {"side_by_side"}),  # it displays the files' text
    ):
        copy.write_text(text + addition, encoding="utf-8")
        assert changed() == stale
    assert notebooks.rebuild_command("torch-build-student") == "nox -s 'notebooks(torch)'"


def test_reworded_text_is_refreshed_without_execution(monkeypatch, tmp_path):
    name = "numpy-build"
    changes = ("The", "Their"), ("# Figure", "# Reworded.\n# Figure")

    def reword(cell):
        return cell._replace(source=cell.source.replace(*changes[cell.kind == "code"]))

    cells = list(map(reword, CELLS(name)))
    executed, file = read(name), tmp_path / "build.ipynb"
    shutil.copy(lessons.notebook_path(name), file)
    monkeypatch.setattr(notebooks, "notebook_path", lambda name: file)
    monkeypatch.setattr(notebooks, "cells", lambda name: cells)
    monkeypatch.setattr(notebooks, "execute", lambda name: pytest.fail("executed"))
    monkeypatch.setattr(sys, "argv", ["notebooks", name])
    notebooks.main()
    refreshed = json.loads(file.read_text(encoding="utf-8"))
    assert ["".join(cell["source"]) for cell in refreshed["cells"]] == [c.source for c in cells]
    assert sources(refreshed, "code") != sources(executed, "code")
    assert outputs(refreshed) == outputs(executed)
    cells[-1] = lessons.Cell("code", "changed = 1")
    assert notebooks.is_stale(name)


def test_syntax_ignores_comments_and_docstrings():
    source = 'def f(x):\n    """{}"""\n    return x + 1  # {}\n'
    assert lessons.syntax(source.format("A", "B")) == lessons.syntax(source.format("C", "D"))
    assert lessons.syntax(source) != lessons.syntax(source.replace("1", "2"))
    assert lessons.syntax("x = None") != lessons.syntax("x = 0") != lessons.syntax("x = False")


def test_unpublishable_outputs_are_named():
    def notebook(*outputs, count=1):
        cell = {"cell_type": "code", "source": "", "execution_count": count, "outputs": outputs}
        return {"cells": [cell]}

    def printed(text, stream="stdout"):
        return {"output_type": "stream", "name": stream, "text": [text]}

    good = printed("backend: torch 2.0\n")
    assert notebooks.find_faults(notebook(good), "torch-build-student") == []
    assert notebooks.find_faults(notebook(printed("backend: mxnet")), "torch")
    assert notebooks.find_faults(notebook(good, count=None), "torch") == ["cell 0 was not executed"]
    warned = notebooks.find_faults(notebook(good, printed("careful", "stderr")), "torch")
    assert warned == ["cell 0 prints careful"]
    assert notebooks.find_faults(notebook(good, {"output_type": "error"}), "torch")
    assert "path" in notebooks.find_faults(notebook(good, printed(sys.prefix)), "torch")[0]


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_optimizations_are_explained(backend):
    cells = CELLS(f"{backend}-fast")
    section = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    names = optimizations.names(backend)
    for name in names:
        assert re.search(rf"^\| \*\*{name}\*\*: .{{20,}}\. \| \d", section, re.MULTILINE), name
    for name in ("Embedding lookup", "Batched output layer", "Batched weight gradient"):
        assert f"```python\n# {name}: " in section.split(f"### {name}")[1]
