"""The source of the site, and the numbers in rendered pages."""

import html
import json
import re

import pytest
from helpers import CLONE, install_packages, python_path, run_subprocess
from make import (
    exchange,
    lessons,
    prose,
    readme,
    reference,
    site,
    site_comparison,
    site_lessons,
    site_workers,
)
from make import pages as rendering
from make.exchange import Exchange
from msgspec.structs import asdict

import rnn_scratch
from rnn_scratch import contract, registry
from rnn_scratch.compare import summary
from rnn_scratch.compare.record import read
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import run_folder
from rnn_scratch.settings import Settings
from rnn_scratch.show import source_code

pytestmark = pytest.mark.usefixtures("_in_the_clone")


def plain(latex, display):
    """Formulas in LaTeX, so that nothing else needs to be installed."""
    return f"[{latex}]"


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CLONE)
        return site.pages(registry.BUILTIN_BACKENDS, plain)


def code_of(page):
    """Return the code in a page's panels, keyed by framework."""
    codes = {}
    panels = re.findall(
        r'<div class="panel" data-for="([^"]*)"><p class="name">(?:(?!<div).)*</p>'
        r'<div class="highlight">(.*?)</div>',
        page,
        re.DOTALL,
    )
    for names, block in panels:
        text = html.unescape(re.sub(r"<[^>]*>", "", block))
        for name in names.split():
            codes.setdefault(name, []).append(text.rstrip("\n"))
    return codes


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_the_pages_have_all_code_of_the_notebook_to_run_and_to_read(pages, backend):
    whole = "".join(pages[f"{name}.md"].decode() for name in site_lessons.PAGES)
    everything = html.unescape(re.sub(r"<[^>]*>", "", whole))
    assert source_code.find(backend, "step")[0].source in "\n".join(code_of(whole)[backend])
    for lesson in lessons.LESSONS:
        parts = [part for part in lessons.text_of(lesson) if part.kind != "notebook"]
        for cell in lessons.cells(parts, backend):
            read = re.findall(r"```(?:python|diff)\n(.*?)\n```", cell.source, re.DOTALL)
            for source in [cell.source] if cell.kind == "code" else read:
                assert source in everything, source


def test_the_site_s_own_prose_takes_the_place_of_the_notebooks(pages):
    page = pages["build.md"].decode()
    assert "every matrix product is in the code on this page" in page
    for words in ("in a cell below", "run the cell", "find_spec", "To run it yourself"):
        assert words not in page
    text = "".join(cell.source for cell in lessons.cells(lessons.text_of("build"), "torch"))
    assert "in a cell below" in text
    assert "code on this page" not in text


def test_outputs_are_there_once_where_they_are_the_same(pages):
    page = pages["build.md"].decode()
    assert page.count("time-major:  [ 1  6  2  7  3  8  4  9  5 10]") == 1
    for backend in registry.BUILTIN_BACKENDS:
        assert page.count(f"backend: {backend} ") == 1
    pictures = set(re.findall(r'src="(_static/figures/\w+\.png)"', page))
    assert len(pictures) >= 3
    assert all(pages[picture].startswith(b"\x89PNG") for picture in pictures)
    for lesson in lessons.LESSONS:
        text = pages[f"{lesson}.md"].decode()
        words = re.findall(r'<img [^>]*alt="([^"]*)"', text)
        assert all(len(text.split()) > 10 for text in words)
        places = re.findall(r'class="place" id="figure-([\w-]+)" href="#figure-\1"', text)
        assert len(places) == len({*places}) > 0


THEIRS = """import a_framework_that_is_not_installed


def step(x, state, params, options):
    return "<theirs>", state
"""


def test_the_pages_can_have_the_code_of_a_backend_of_another_package(tmp_path):
    install_packages(tmp_path, {"theirs": ""})
    (tmp_path / "theirs_rnn" / "scratch.py").write_text(THEIRS)
    program = (
        "from make import site_lessons\n"
        "pages = site_lessons.render(('numpy', 'theirs'), lambda latex, display: latex)\n"
        "print('\\n'.join(pages.values()))"
    )
    env = python_path(tmp_path, CLONE / "notebooks", CLONE / "notebooks" / "support")
    page = run_subprocess(program=("-c", program), env=env).out
    assert set(code_of(page)) == {"numpy", "theirs"}
    code = "\n".join(code_of(page)["theirs"])
    assert 'return "<theirs>", state' in code
    assert "<b>theirs</b> <span>theirs_rnn/scratch.py, line 4</span>" in page
    assert "import a_framework_that_is_not_installed" in code
    assert "<b>TensorFlow</b>" not in page


def test_the_first_page_has_a_network_samples_and_a_step(pages):
    page = pages["index.md"].decode().partition("\n- ")[0]
    assert 'data-network="long"' in page
    assert "ROMEO:" in page  # readable without a script
    last = run_folder.history(readme.RECORDS / rendering.RUN)[-1]
    assert f"| {last.epoch} | {last.perplexity:.2f} | *{last.sample.strip()}* |" in page
    codes = code_of(page)
    assert set(codes) == {"numpy", "torch"}
    for backend, (code,) in codes.items():
        assert source_code.find(backend, "step")[0].source in code


def test_the_interactive_parts_replace_pictures_and_notebooks_become_pages(pages):
    everything = "".join(pages[name].decode() for name in pages if name.endswith(".md"))
    assert not re.search(r"<!-- site:|<picture>|\]\([^)]*\.ipynb", everything)
    play = pages["play.md"].decode()
    assert all(f'id="{name}"' in play for name in ("play-text", "play-difference", "train-text"))
    assert "](build.md#training)" in pages["teaching.md"].decode()
    assert "](security.md)" in pages["contributing.md"].decode() + pages["workers.md"].decode()
    assert b"def train_minibatch(" in pages["files/notebooks/programs/torch_rnn.py"]


def test_a_lesson_s_links_need_a_heading():
    heading = re.search(r"^## (.*)$", (CLONE / prose.LESSONS / "build.md").read_text(), re.M)[1]
    linked = prose.linked(f"[x](build.md#{prose.slug(heading)})")
    assert linked == f"[x](../torch/build.ipynb#{heading.replace(' ', '-')})"
    with pytest.raises(RNNScratchError, match="no heading with the anchor 'nothing'"):
        prose.linked("[x](build.md#nothing)")


def test_the_comparison_begins_with_the_fastest():
    page, _ = site_comparison.render(readme.COMPARISONS)
    _, first, *_ = page.split("\n\n")
    speed = read(readme.COMPARISONS / "speed")
    rows = [row for row in summary.timed(speed) if row.value == 1]
    fastest = max(rows, key=lambda row: row.figures["train"].median)
    assert f"{fastest.figures['train'].median:,.0f} characters per second" in first
    assert f"`{fastest.candidate.model}`" in first
    assert not re.search(r"nan|inf", first)


def test_the_reference_has_every_setting_public_name_and_contract_function():
    page = (CLONE / "notebooks/site/reference.md").read_text(encoding="utf-8")
    defaults = asdict(Settings()).items()
    assert all(f"| `{name}` | `{default!r}` |" in page for name, default in defaults)
    functions = [f.__name__ for module in contract.MODULES.values() for f in module]
    for name in {*rnn_scratch.__all__, *functions} - {"Settings", "PRESETS"}:
        assert re.search(rf"^####? {name}$", page, re.MULTILINE), name


def test_a_docstring_becomes_markdown():
    text = "Do ``x``.\n\nArgs:\n    a: First,\n        continued.\n\nReturns:\n    b**2."
    assert reference._markdown(text) == (
        "Do `x`.\n\n**Args**\n\n- `a`: First,\n  continued.\n\n**Returns**\n\n`b**2`."
    )


def test_formulas_and_names_in_prose():
    text = (
        "# At $(T \\cdot B)$, in {framework}\n\n`a$b$` and `{backend}` $x_1$\n\n```text\n$y$\n```"
    )
    written = prose.render(text, ["numpy", "mxnet"], plain)
    assert written.startswith("# At (T·B)\n")
    assert "`a$b$`" in written
    assert "<span>[x_1]</span>" in written
    assert 'data-mxnet="mxnet">numpy / mxnet</span></code>' in written
    assert "```text\n$y$\n```" in written
    assert prose.render("in {framework}", ["torch"], plain) == "in PyTorch"
    assert prose.render("in {framework}", ["theirs"], plain) == "in theirs"


# The page on several workers


def render(folder):
    page, pictures = site_workers.render(folder)
    assert set(pictures) == {site_workers.EXCHANGE}
    return page


def record():
    text = (CLONE / readme.RECORDS / site_workers.RECORD).read_text(encoding="utf-8")
    return json.loads(text)


def write(folder, content):
    (folder / site_workers.RECORD).write_text(json.dumps(content), encoding="utf-8")


def test_the_page_quotes_its_record(tmp_path):
    content = record()
    engine = content["workers"]["engines"]["torch"]
    engine["exchanges"][0]["gather"]["median"] = 0.0321  # time for exchanging one number
    engine["sums"][-1]["own"] = 987
    content["workers-exact"]["trainings"][0]["models"][0]["digests"][-1]["perplexity"] = 4.5678
    write(tmp_path, content)
    before, page = render(readme.RECORDS), render(tmp_path)
    for words in ("| PyTorch | 0.0321 |", "| 987 of 1,000 |", "the perplexity is 4.5678 "):
        assert words in page
        assert words not in before


def test_the_page_has_the_code_of_every_framework():
    page = render(readme.RECORDS)
    for backend in registry.BUILTIN_BACKENDS:
        (first, *_) = source_code.find(backend, "all_gather")
        assert f"```python\n{first.source}\n```" in page


def test_digests_that_differ_are_counted(tmp_path):
    content = record()
    training = content["workers-exact"]["trainings"][0]
    number = len(training["models"])
    assert f"all {number} training runs end with the same parameters" in render(readme.RECORDS)
    training["models"][-1]["digests"][-1]["digest"] = "0123456789abcdef"
    write(tmp_path, content)
    page = render(tmp_path)
    assert f"the {number} training runs end with 2 different digests" in page
    assert "| `0123456789abcdef` |" in page


def test_the_numbers_and_the_bytes_of_an_exchange():
    # W_xh (3, 2), W_hh (2, 2), b_h (2,), W_hq (2, 3), b_q (3,); three more gates in an LSTM.
    assert exchange.parameters(2, 3) == 6 + 4 + 2 + 6 + 3
    assert exchange.parameters(2, 3, "lstm") == 4 * (6 + 4 + 2) + 6 + 3
    assert exchange.received(10, 2, "float32") == 40
    assert exchange.received(10, 4, "float64") == 3 * 80


def test_a_line_through_exchanges():
    exact = exchange.fit([(4, 2.004), (1000, 3), (100_000, 102)])  # 2 ms, and 1 for 1000 bytes
    assert exact.latency == pytest.approx(2)
    assert exact.per_byte == pytest.approx(1e-3)
    assert exact.of(5000) == pytest.approx(7)
    # Errors are relative: a large exchange that is a tenth off hardly changes the latency.
    rough = exchange.fit([(4, 2.004), (50_000, 52), (100_000, 92)])
    assert rough.latency == pytest.approx(2, rel=0.05)


def test_the_gain_of_two_workers():
    # A row takes 1 ms and an exchange 5: with 10 rows two workers are as fast as one.
    assert exchange.gain(10, 5, 5) == 1
    assert exchange.smallest(1, 5) == 12
    assert exchange.smallest(1, 4.9) == 10
    minibatches = [
        {"num_hiddens": 2, "batch_size": rows, "median": milliseconds}
        for rows, milliseconds in ((16, 6), (32, 11), (128, 40))  # a time for 64 rows is missing
    ]
    engines = {"torch": {"minibatches": minibatches}}
    measured = {"settings": {"vocabulary": 3}, "engines": engines}
    # 22 float32, the loss among them, are 88 bytes: 3 + 88 / 44 ms.
    fits = {"torch": Exchange(3, 1 / 44)}
    assert exchange.payoff(measured, fits) == {("torch", 2, 32): pytest.approx(11 / (6 + 5))}
