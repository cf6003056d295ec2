"""The lessons, and the notebooks made from them: complete, up to date, fit for publication."""

import ast
import functools
import json
import re
import shutil
import sys
import tempfile

import pytest
from helpers import CLONE, require_engine, require_tested
from make import lessons, notebooks, optimizations, prose, slides
from student import GRADING, written

from rnn_scratch import contract, registry
from rnn_scratch.show import source_code

TAUGHT = [f.__name__ for file in ("scratch", "deep") for f in contract.MODULES[file]]
TAUGHT += [name.replace("-", "_") for name in contract.CELLS]

# Replacements that the test of a notebook makes, so that its cells train less: on a fifth of the
# text, or with fewer epochs and repetitions.
SMALLER = {
    "build": ("[:10_000]", "[:3_000]"),
    "gates": ("num_epochs=40", "num_epochs=1", "updates=300", "updates=3"),
    "learn": sum(((f"num_epochs={n}", "num_epochs=1") for n in (40, 30, 15)), ()),
    "fast": ("num_epochs=20", "num_epochs=1"),
    "side_by_side": ('"--epochs", "40"', '"--epochs", "40", "--max-tokens", "2000"'),
    "comparison": ('"--epochs", "20", "--repeats", "3"', '"--epochs", "2", "--repeats", "1"'),
}

CELLS = functools.cache(notebooks.cells)  # several tests need the cells, which take seconds


@pytest.fixture(autouse=True)
def _cells(monkeypatch, _in_the_clone):
    monkeypatch.setattr(notebooks, "cells", CELLS)


def read(name):
    return json.loads((CLONE / lessons.notebook_path(name)).read_text(encoding="utf-8"))


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def extras_of(name):
    """Return the extras that a notebook's first cells name."""
    extras = {"side_by_side": "torch,tensorflow,notebooks", "numpy": "notebooks,workers"}
    backend = name.partition("-")[0]
    return {**extras, "comparison": "torch,notebooks"}.get(backend, f"{backend},notebooks")


@pytest.mark.parametrize("name", notebooks.ALL)
def test_a_notebook_is_up_to_date_and_fit_for_publication(name):
    assert not notebooks.stale(name), f"make it again: {notebooks.remedy(name)}"
    notebook = read(name)
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == [tuple(cell) for cell in notebooks.cells(name)]
    assert notebooks.unfit(notebook, name) == []
    text = json.dumps(notebook)
    assert "image/png" in text or "image/svg+xml" in text or "<svg" in text
    assert tempfile.gettempdir() not in text
    assert len(text) < 400_000
    if "gates" not in name and "learn" not in name and "fast" not in name:  # the first says how
        (line,) = set(re.findall("pip install -e '[^']*'", cells[0][1]))
        assert line == f"pip install -e '.[{extras_of(name)}]'"


# Notebooks that are executed by default: NumPy's notebooks, and the notebook of two frameworks.
BY_DEFAULT = ("numpy", "side_by_side")
EXECUTED = [
    pytest.param(name, marks=() if name.startswith(BY_DEFAULT) else pytest.mark.notebooks)
    for name in notebooks.ALL
    if notebooks.STUDENT not in name
]


@pytest.mark.parametrize("name", EXECUTED)
def test_a_notebook_runs_on_the_real_framework(name, backend_names, monkeypatch):
    require_tested(backend_names, *notebooks.backends_of(name))
    backend, _, lesson = name.partition("-")
    if lesson == "fast":
        require_engine(backend)  # a cell trains with two workers
    for variable, value in notebooks.ENVIRONMENT.items():  # restored after the test
        monkeypatch.setenv(variable, value)
    change, text = SMALLER[lesson or name], "".join(sources(read(name), "code"))
    assert all(old in text for old in change[::2]), f"that is not in {name}: change SMALLER"

    def smaller(source):
        for old, new in zip(change[::2], change[1::2]):
            source = source.replace(old, new)
        return source

    code = [smaller(source) for source in sources(read(name), "code")]
    cells = [cell._replace(source=smaller(cell.source)) for cell in CELLS(name)]
    monkeypatch.setattr(notebooks, "cells", lambda name: cells)
    notebook = json.loads(notebooks.execute(name))
    assert sources(notebook, "code") == code
    assert notebooks.unfit(notebook, name) == []


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_the_first_code_is_short_and_says_what_to_install(backend, monkeypatch):
    notebook = [CELLS(f"{backend}-{lesson}") for lesson in lessons.LESSONS]
    for cells in notebook:
        path, code = [cell.source for cell in cells if cell.kind == "code"][:2]
        assert path == notebooks.SUPPORT.format("../").strip()
        assert len(code.splitlines()) <= 5
        for missing in ("rnn_scratch", backend):
            there = {
                name: name != missing or None for name in ("rnn_scratch", "matplotlib", backend)
            }
            monkeypatch.setattr("importlib.util.find_spec", there.get)
            with pytest.raises(SystemExit, match=re.escape(f"{missing} is missing.")) as stop:
                exec(code, {})
            (line,) = str(stop.value).splitlines()
            assert line.endswith(f"pip install -e '.[{extras_of(backend)}]'")


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_the_lessons_have_the_whole_source_of_the_backend(backend):
    cells = [cell for lesson in lessons.LESSONS for cell in CELLS(f"{backend}-{lesson}")]
    for piece in TAUGHT:
        source = source_code.find(backend, piece)[0].source
        assert any(source in cell.source for cell in cells if cell.kind == "code"), piece
    # A framework has the same sections as any other.
    headings = headings_of(cells)
    title = f"# Build it: a recurrent language model, in {prose.framework(backend)}"
    assert headings[0] == title
    torch = [cell for lesson in lessons.LESSONS for cell in CELLS(f"torch-{lesson}")]
    assert [heading.partition(", in ")[0] for heading in headings] == [
        heading.partition(", in ")[0] for heading in headings_of(torch)
    ]
    assert len(headings) > 40


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_build_it_names_all_that_is_in_scratch(backend):
    (path,) = (path for path in source_code.files(backend) if path.stem == "scratch")
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            names |= {node.name, *(argument.arg for argument in node.args.args)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
    assert len(names) > 30
    text = "\n".join(cell.source for cell in CELLS(f"{backend}-build") if cell.kind == "markdown")
    prose_only = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert names - set(re.findall(r"\w+", prose_only)) == set()
    if backend == "torch":
        assert len(prose_only.partition("\n## Exercises")[0].split()) <= 3600


@pytest.mark.parametrize("name", notebooks.ALL)
def test_the_links_of_a_notebook_lead_to_files_and_headings(name):
    cells = CELLS(name)
    text = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    links = re.findall(r"\]\(([\w./-]+\.(?:md|ipynb))?(?:#([\w-]+))?\)", text)
    for file, heading in links:
        made = file.endswith(".ipynb")
        assert not file or (CLONE / lessons.notebook_path(name).parent / file).exists(), file
        assert not made or (notebooks.STUDENT in file) == (notebooks.STUDENT in name)
        assert file or f"# {heading.replace('-', ' ')}" in text
    assert links or name.partition("-")[0] in notebooks.OWN


def test_a_fork_s_notebooks_open_in_colab(monkeypatch):
    name = "torch-gates"
    before = CELLS(name)
    assert not any("colab" in cell.source for cell in before)
    monkeypatch.setattr(notebooks, "cells", CELLS.__wrapped__)
    monkeypatch.setattr(notebooks, "REPOSITORY", "somebody/a-fork")
    first, install, *others = notebooks.cells(name)
    assert others == before[1:]
    address = "https://colab.research.google.com/github/somebody/a-fork/blob/main/notebooks"
    assert first.source.endswith(f"({address}/torch/gates.ipynb)")
    assert '"https://github.com/somebody/a-fork"' in install.source
    assert '".[torch,notebooks]"' in install.source
    exec(install.source, {})  # elsewhere it does nothing


def test_slides_are_full_and_few_and_load_nothing(tmp_path, monkeypatch):
    pytest.importorskip("latex2mathml", reason="slides have formulas")
    monkeypatch.setattr(slides, "SLIDES", tmp_path)
    for name in ("numpy-build", "torch-build", "torch-gates", "jax-learn", "mxnet-fast"):
        made = slides.slides(slides.marked_notebook(name))
        assert len(made) <= 55
        assert all(slide.title and slide.parts for slide in made)
        page = slides.make(name).read_text(encoding="utf-8")
        assert not re.search(r"src=\"(?!data:)|<link|url\((?!data:)", page)
        shown = re.sub("<[^>]*>", "", page.partition("<main>")[2].partition("</main>")[0])
        assert not re.search(r"FORMULA\d|\['|\\n'|\$", shown)


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
@pytest.mark.parametrize("lesson", lessons.LESSONS)
def test_each_section_has_sentences_for_a_slide(backend, lesson):
    pytest.importorskip("latex2mathml", reason="slides have formulas")
    parts = lessons.text_of(lesson)
    cells = [
        {"cell_type": kind, "source": source, "outputs": []}
        for kind, source in lessons.cells(parts, backend, marked=True)
    ]
    pages = slides.slides({"cells": cells})
    said = {page.title for page in pages for part in page.parts if "<p>" in part.content}
    said |= {
        title
        for page in pages
        for part in page.parts
        for title in re.findall("<h2>(.*?)</h2>", part.content)
    }
    headings = {line.lstrip("# ") for line in headings_of(CELLS(f"{backend}-{lesson}"))}
    assert {each for each in headings - said if len(each) > 1} <= {"Summary", "Exercises"}


def test_slides_have_functions_formulas_and_pictures_but_no_answers():
    pytest.importorskip("latex2mathml", reason="slides have formulas")
    image = {"data": {"image/png": "abc="}}
    cells = [
        (
            "markdown",
            "# First\n\nA. *One.*<!--slide--> Two.\n\n$$x$$\n\n```diff\n-a\n+b\n```",
            None,
        ),
        ("code", "def f():\n    pass\n\n\ndef g():\n    pass", []),
        ("code", '# Figure a: Of "f".\nprint(f())', [{"text": ["['a', ", "'b']"]}, image]),
        ("markdown", "The result:<!--output-->", None),
        ("code", "print(1, '<', 2)", [{"text": ["1 < ", "2\n"]}]),
        (
            "markdown",
            "## Empty\n\nB.\n\n## 1. Exercise\n\nWhy?<!--slide-->\n\nSo:<!--output-->",
            None,
        ),
        ("code", "print(3)", [{"text": ["3"]}]),
        ("markdown", "# Last\n\n- a list", None),
    ]
    keys = ("cell_type", "source", "outputs")
    *pages, last = slides.slides({"cells": [dict(zip(keys, cell)) for cell in cells]})
    contents = [
        re.sub("<math.*?</math>|\n|<span[^>]*>|</span>", "", part.content)
        for page in pages
        for part in page.parts
    ]
    assert contents == [
        "<p><em>One.</em></p>",
        "",
        '<div class="code"><pre>def f():    pass</pre></div>',
        '<div class="code"><pre>def g():    pass</pre></div>',
        '<figure><img alt="Of &quot;f&quot;." src="data:image/png;base64,abc="></figure>',
        "<div class=\"code\"><pre>print(1, '&lt;', 2)</pre></div>",
        '<div class="code"><pre>1 &lt; 2</pre></div>',
        "<h2>1. Exercise</h2><p>Why?</p>",
    ]
    assert pages[0].notes == ["A. <em>One.</em> Two.", "The result:"]
    assert (last.title, [part.content for part in last.parts]) == (
        "Last",
        ["<ul>\n<li>a list</li>\n</ul>\n"],
    )


def headings_of(cells):
    """Return the headings of a notebook's text."""
    text = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    return re.findall(r"^#+ .*", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
@pytest.mark.parametrize(
    ("lesson", "codes", "words", "answer"),
    [
        ("build", 5, 11, "numpy.add.at"),
        ("gates", 2, 3, "The candidate is added in full, not in the proportion"),
        ("learn", 2, 3, "Two numbers per character"),
        ("fast", 1, 1, "map(seconds, products"),
    ],
)
def test_a_student_s_copy_lacks_the_solutions_and_nothing_else(
    backend, lesson, codes, words, answer
):
    whole, student = (CELLS(f"{backend}-{lesson}{end}") for end in ("", notebooks.STUDENT))
    assert student.count(("code", lessons.CODE)) == codes
    assert student.count(("markdown", lessons.ANSWER)) == words
    text = "\n".join(cell.source for cell in student)
    assert answer in "\n".join(cell.source for cell in whole)
    assert answer not in text
    if lesson != "fast":  # lesson fast shows optimizations as diffs
        assert "```diff" not in text  # a diff would show a solution
    code = [written(cell.source, backend, lesson) for cell in student if cell.kind == "code"]
    kept = [source for source in code if source != lessons.CODE and GRADING not in source]
    assert [cell.source for cell in whole if cell.source in kept] == kept
    for part in (lessons.CODE, lessons.ANSWER, GRADING, "<summary>Hint", "NotImplementedError"):
        assert not any(part in cell.source for cell in whole)


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS[1:])
def test_not_detaching_fails_where_it_should(backend):
    outputs = [
        output for cell in read(f"{backend}-build")["cells"] for output in cell.get("outputs", ())
    ]
    text = "\n".join("".join(output.get("text", "")) for output in outputs)
    detached, graph = re.search(r"^detached: +(\S+)\nnot detached: (\S+)$", text, re.M).groups()
    assert detached != graph
    raised = "Trying to backward through the graph a second time" in text
    assert raised == (backend == "torch")
    assert raised or f"gradient: {detached}" in text


def test_what_a_notebook_is_made_from_makes_it_stale(tmp_path, monkeypatch):
    before = {name: notebooks.fingerprint(name) for name in notebooks.ALL}

    def changed():
        return {name for name in before if notebooks.fingerprint(name) != before[name]}

    files, copy = source_code.files, tmp_path / "scratch.py"
    (scratch,) = (path for path in files("torch") if path.name == copy.name)
    copy.write_text(scratch.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with monkeypatch.context() as change:
        change.setattr(
            source_code, "files", lambda name: [copy if p == scratch else p for p in files(name)]
        )
        ours = {name for name in notebooks.ALL if name.startswith("torch-")}
        assert changed() == {*ours, "side_by_side", "comparison"}
    assert notebooks.remedy("torch-build-student") == "nox -s 'notebooks(torch)'"
    records_here = shutil.copytree(notebooks.RECORDS, tmp_path / "records")
    with (records_here / "exercises.json").open("a") as record:
        record.write("\n")
    monkeypatch.setattr(notebooks, "RECORDS", records_here)
    ends = ("build", "learn", "learn-student")
    assert changed() == {
        f"{backend}-{end}" for backend in registry.BUILTIN_BACKENDS for end in ends
    }


def test_text_and_code_for_some_backends_only(tmp_path):
    path = tmp_path / "text.md"
    path.write_text(
        "For {framework}.\n\n```python\n{backend}\n```\n```python mxnet\nmx\n```\n::: only torch\n"
        "T\n::: solution\nS\n```python\ns\n```\n:::\n:::\nend\n```text\n```\n",
        encoding="utf-8",
    )
    parts = lessons.parse(path)
    end = ("markdown", "end\n```text\n```")

    def cells(backend, **more):
        return [tuple(cell) for cell in lessons.cells(parts, backend, **more)]

    mxnet = [("markdown", "For MXNet."), ("code", "mxnet"), ("code", "mx"), end]
    torch = [("markdown", "For PyTorch."), ("code", "torch")]
    folded = "<details>\n<summary>Solution</summary>\n\nS\n\n</details>"
    assert cells("mxnet") == mxnet
    assert cells("torch") == [*torch, ("markdown", f"T\n\n{folded}"), ("code", "s"), end]
    assert cells("torch", student=True)[:4] == [*torch, ("markdown", "T"), ("code", lessons.CODE)]


def test_outputs_that_are_not_fit_for_publication():
    def notebook(*outputs, count=1):
        cell = {"cell_type": "code", "source": "", "execution_count": count, "outputs": outputs}
        return {"cells": [cell]}

    def printed(text, stream="stdout"):
        return {"output_type": "stream", "name": stream, "text": [text]}

    good = printed("backend: torch 2.0\n")
    assert notebooks.unfit(notebook(good), "torch-build-student") == []
    assert notebooks.unfit(notebook(printed("backend: mxnet")), "torch")
    assert notebooks.unfit(notebook(good, count=None), "torch") == ["cell 0 was not executed"]
    warned = notebooks.unfit(notebook(good, printed("careful", "stderr")), "torch")
    assert warned == ["cell 0 prints careful"]
    assert notebooks.unfit(notebook(good, {"output_type": "error"}), "torch")
    assert "path" in notebooks.unfit(notebook(good, printed(sys.prefix)), "torch")[0]


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_every_optimization_is_explained_with_a_diff(backend):
    cells = CELLS(f"{backend}-fast")
    section = "\n".join(cell.source for cell in cells if cell.kind == "markdown")
    names = optimizations.names(backend)
    assert len(names) > 5
    for name in names:
        explanation = section.split(f"*{name}.*")[1]
        diff = explanation.split("```diff\n")[1].split("\n```")[0]
        assert f"+# {name}" in diff
        assert all(line[:1] in ("+", "-", " ", "") for line in diff.split("\n"))
    # Each block occurs once, even if it belongs to several optimizations.
    removed = re.findall(r"^-(.*(?:\n-.*)+)", section, re.MULTILINE)
    assert len(removed) == len({*removed}) > 2
    added = re.findall(r"^\+(.*(?:\n\+.*){3,})", section, re.MULTILINE)
    assert not any(one in other for one in added for other in added if one != other)


def test_the_text_explains_no_optimization_that_there_is_not():
    def blocks(parts):
        for part in parts:
            if part.kind == "optimization":
                yield lessons.optimization(part)
            if part.kind in lessons.BLOCKS:
                yield from blocks(part.content)

    names = {name for backend in registry.BUILTIN_BACKENDS for name in optimizations.names(backend)}
    explained = list(blocks(lessons.text_of("fast")))
    assert sorted(name for name, _ in explained) == sorted(names)
    # The functions that they replace exist.
    for _, functions in explained:
        for function in functions:
            assert any(source_code.find(backend, function) for backend in registry.BUILTIN_BACKENDS)


def test_a_diff_of_an_optimization_has_what_it_replaces():
    shown = set()
    diff = optimizations.difference("torch", "One output layer", ["step"], shown).split("\n")
    assert '-return state[0] @ params["W_hq"] + params["b_q"], state' in diff
    assert any(line.startswith("+# One output layer: ") for line in diff)
    assert diff[-1].startswith("+return ")
    # If an inner function has its outer function's name, the outer function comes first.
    diff = optimizations.difference("torch", "Gates in one product", ["rnn", "params"], shown)
    assert "-tensors = {name: torch.tensor(" in diff
    # Lines that were shown are not repeated.
    assert "-return state" not in optimizations.difference(
        "torch", "One output layer", ["step"], shown
    )
