"""The site's pages as they are written, before a site is made of them; and the command `site`."""

import html
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from helpers import here, other_packages, start, there
from make import chapter, site, site_chapter, site_code, site_prose
from make.site_code import Code, Output

from rnn_scratch import registry
from rnn_scratch.cli import source_code
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings

CLONE = Path(__file__).parent.parent
FIELDS = Settings.__dataclass_fields__


@pytest.fixture(autouse=True)
def _in_the_clone(monkeypatch):
    monkeypatch.chdir(CLONE)


def plainly(latex, display):
    """Formulas as they are written, so that nothing else need be installed."""
    return f"[{latex}]"


@pytest.fixture(scope="module")
def written():
    before = Path.cwd()
    os.chdir(CLONE)
    try:
        return site.pages(plainly)
    finally:
        os.chdir(before)


def code_of(page):
    """The code in a page's panels, by framework."""
    found = {}
    panels = re.findall(
        r'<div class="panel" data-for="([^"]*)"><p class="name">.*?</p>'
        r'<div class="highlight">(.*?)</div>', page, re.DOTALL,
    )  # fmt: skip
    for names, block in panels:
        text = html.unescape(re.sub(r"<[^>]*>", "", block))
        for name in names.split():
            found.setdefault(name, []).append(text.rstrip("\n"))
    return found


@pytest.mark.parametrize("backend", registry.OURS)
def test_the_pages_show_the_shipped_source_and_all_cells_of_the_notebook(written, backend):
    whole = "".join(written[f"{name}.md"].decode() for name in site_chapter.PAGES)
    code = "\n".join(code_of(whole)[backend])
    for piece in ("params", "state", "encode", "step", "forward", "clip", "train_epoch", "predict"):
        assert source_code.find(backend, piece)[0].source in code
    everything = html.unescape(re.sub(r"<[^>]*>", "", whole))
    for cell in chapter.cells(chapter.parse(chapter.TEXTS / "chapter.md"), backend):
        if cell.kind == "code":
            assert cell.source in everything, cell.source


def test_what_cells_gave_is_there_once_where_it_is_the_same(written):
    page = written["chapter.md"].decode()
    assert page.count("time-major:  [ 1  6  2  7  3  8  4  9  5 10]") == 1
    for backend in registry.OURS:
        assert page.count(f"backend: {backend} ") == 1
    pictures = set(re.findall(r'src="(figures/\w+\.png)"', page))
    assert len(pictures) >= 3
    assert all(written[picture].startswith(b"\x89PNG") for picture in pictures)
    assert "perplexity against epoch" in page


def test_the_reference_has_every_setting(written):
    page = written["reference.md"].decode()
    assert all(f"| `{name}` | `{each.default!r}` |" in page for name, each in FIELDS.items())


def test_a_changed_line_of_a_backend_changes_the_page(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    for folder, copy in {"rnn_scratch": "rnn_scratch", "backends": "rnn_scratch/backends",
                         "notebooks": "notebooks"}.items():  # fmt: skip
        shutil.copytree(CLONE / folder, tmp_path / copy, ignore=ignored)
    (tmp_path / "tests").mkdir()
    shutil.copy(CLONE / chapter.SABOTAGES, tmp_path / "tests")

    def told():
        program = "from make import site_chapter as s; print(s.told(lambda l, d: l))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                              encoding="utf-8", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = told()
    file = tmp_path / "rnn_scratch" / "backends" / "torch" / "scratch.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("(H,) = state\n", "(H,) = state  # changed\n", 1))
    after = told()
    assert "# changed" not in before
    assert after.count("# changed") == 2  # the step, and a bug that is made from it
    file.write_text(text, encoding="utf-8")
    assert told() == before


def test_like_lines_stand_on_the_same_row():
    assert site_code.levels([["a = 1", "b = 2"]]) == [[0, 1]]
    rows = site_code.levels([
        ["def f(x):", "    return x + 1"],
        ["@compiled", "def f(x):", "    return x + 1.0"],
        ["def f(x):", "    # why", "    return x + 1"],
    ])  # fmt: skip
    assert rows == [[1, 3], [0, 1, 3], [1, 2, 3]]


def test_every_line_of_every_framework_has_a_row_of_its_own(written):
    for panel in re.findall(r"<pre.*?</pre>", written["chapter.md"].decode()):
        rows = [int(row) for row in re.findall(r"--row:(\d+)", panel)]
        assert rows == sorted(set(rows))
        assert not rows or panel.count('class="line"') == len(rows)


def test_code_is_escaped_and_no_line_is_lost():
    found = site_code.block(Code('a < b and """x\n\n&y"""\n'))
    assert "\n" not in found
    assert re.sub(r"<[^>]*>", "", found).count("&#10;") == 4
    assert "&lt;" in found
    assert "&amp;y" in found


def test_outputs_are_grouped_by_what_they_say():
    gave = {"numpy": [Output("1\n")], "torch": [Output("2")], "mxnet": [Output("1\n")]}
    found = site_code.outputs(gave, registry.OURS, "")
    assert re.findall(r'data-for="(.*?)"', found) == ["numpy mxnet", "torch"]
    same = {name: [Output("<1>")] for name in registry.OURS}
    assert site_code.outputs(same, registry.OURS, "").count("&lt;1&gt;") == 1
    assert site_code.outputs({"numpy": []}, registry.OURS, "") == ""


def test_formulas_and_names_in_prose():
    text = (
        "# At $(T \\cdot B)$, in {framework}\n\n`a$b$` and `{backend}` $x_1$\n\n```text\n$y$\n```"
    )
    found = site_prose.told(text, ["numpy", "mxnet"], plainly)
    assert found.startswith("# At (T·B)\n")
    assert "`a$b$`" in found
    assert "<span>[x_1]</span>" in found
    assert 'data-mxnet="mxnet">numpy / mxnet</span></code>' in found
    assert "```text\n$y$\n```" in found
    assert site_prose.told("in {framework}", ["torch"], plainly) == "in PyTorch"


def test_pages_of_records_that_are_not_there_say_so(tmp_path):
    from make import site_comparison

    text, pictures = site_comparison.compared(tmp_path)
    assert text.count("has not been measured yet") == 3
    assert pictures == {}


def blocks(kind):
    """The blocks of the page on a fifth backend, under each of its steps."""
    page = (site.WRITTEN / "backend.md").read_text(encoding="utf-8")
    for step in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        yield re.findall(
            rf'^```{kind}(?: title="(.*?)")?\n(.*?)^```', step, re.DOTALL | re.MULTILINE
        )


def test_the_page_on_a_fifth_backend_makes_one(tmp_path):
    """Followed step by step: what the page writes is written, what it runs is run."""
    installed = tmp_path / "site"
    env = other_packages(installed, {"plain": ""})
    env |= {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    (((title, project),), *_) = blocks("toml")
    assert title == "pyproject.toml"
    entry = (installed / "plain_rnn-1.0.dist-info" / "entry_points.txt").read_text()
    assert '[project.entry-points."rnn_scratch.backends"]\nplain = "plain_rnn"' in project
    assert entry == "[rnn_scratch.backends]\nplain = plain_rnn\n"
    said, files = [], {}
    for sources, commands in zip(blocks("python"), blocks("bash")):
        for title, source in sources:
            whole = f"{files[title]}\n\n{source}" if title.endswith("scratch.py") and \
                title in files else source  # fmt: skip
            files[title] = whole
            (installed / title).write_text(whole, encoding="utf-8")
        lines = "".join(lines for _, lines in commands).splitlines() or ["rnn-scratch check plain"]
        for number, line in enumerate(lines):
            program, *arguments = line.split()
            assert program == "rnn-scratch"
            if arguments[0] == "train":
                arguments += ["--run", tmp_path / f"run{number}"]
            said.append(there(*arguments, env=env))
    first, second, third, fourth, fifth, *others = said
    assert "lacks params, state, encode" in first.out + first.err
    assert "lacks params, state, encode" in second.out + second.err
    assert "devices" in first.out
    assert "devices" not in second.out
    assert "lacks" in third.out
    for done in (fourth, fifth, *others):
        assert done.code == 0, (done.out, done.err)
    assert "lacks" not in fourth.out
    assert len(others) == 3


def test_a_site_that_is_not_built_says_how_to_build_it(capsys, tmp_path, monkeypatch):
    from rnn_scratch import cli_site

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_site, "SITE", Path("build", "nowhere"))
    here(capsys, "site").refused("not built", "nox -s site")


def test_the_site_is_served_here_until_ctrl_c(tmp_path):
    built = tmp_path / "build" / "site"
    built.mkdir(parents=True)
    (built / "index.html").write_text("the site")
    with start("site", "--port", "0", cwd=tmp_path, env={"PYTHONUNBUFFERED": "1"}) as process:
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        assert urlopen(address).read() == b"the site"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_told(tmp_path, capsys, monkeypatch):
    built = tmp_path / "build" / "site"
    built.mkdir(parents=True)
    (built / "index.html").write_text("the site")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        here(capsys, "site", "--port", port).refused(f"--port {port}", "--port 0")


def test_what_is_missing_to_write_pages_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "latex2mathml", None)
    with pytest.raises(RNNScratchError, match="pip install -e"):
        site_prose.mathml("x", "inline")
