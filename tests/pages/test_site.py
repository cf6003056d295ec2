"""The source of the site, and the numbers that its pages quote from records."""

import html
import json
import re

import pytest
from helpers import CLONE
from make import (
    lessons,
    prose,
    readme,
    site,
    site_workers,
)
from msgspec.structs import asdict

import rnn_scratch
from rnn_scratch import contract, registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.show import source_code

pytestmark = pytest.mark.usefixtures("_in_the_clone")


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CLONE)
        return site.pages()


def code_of(page):
    """Return a dict that maps each framework to the code blocks in its panels on a page."""
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
def test_pages_contain_all_code_of_the_notebooks(pages, backend):
    markdown = "".join(pages[f"{name}.md"].decode() for name in lessons.LESSONS)
    visible_text = html.unescape(re.sub(r"<[^>]*>", "", markdown))
    assert source_code.find(backend, "step")[0].source in "\n".join(code_of(markdown)[backend])
    for lesson in lessons.LESSONS:
        parts = [part for part in lessons.read_parts(lesson) if part.kind != "notebook"]
        for cell in lessons.cells(parts, backend):
            read = re.findall(r"```(?:python|diff)\n(.*?)\n```", cell.source, re.DOTALL)
            for source in [cell.source] if cell.kind == "code" else read:
                assert source in visible_text, source


def test_equal_outputs_are_shown_once(pages):
    page = pages["build.md"].decode()
    assert page.count("time-major:  [ 1  6  2  7  3  8  4  9  5 10]") == 1
    for backend in registry.BUILTIN_BACKENDS:
        assert page.count(f"backend: {backend} ") == 1
    pictures = set(re.findall(r'src="(_static/figures/\w+\.png)"', page))
    assert len(pictures) >= 3
    assert all(pages[picture].startswith(b"\x89PNG") for picture in pictures)
    for lesson in lessons.LESSONS:
        text = pages[f"{lesson}.md"].decode()
        descriptions = re.findall(r'<img [^>]*alt="([^"]*)"', text)
        assert all(len(text.split()) > 10 for text in descriptions)
        places = re.findall(r'class="place" id="figure-([\w-]+)" href="#figure-\1"', text)
        assert len(places) == len({*places}) > 0


def test_site_replaces_pictures_and_notebook_links(pages):
    content = "".join(pages[name].decode() for name in pages if name.endswith(".md"))
    assert not re.search(r"<!-- site:|<picture>|\]\([^)]*\.ipynb", content)
    play = pages["play.md"].decode()
    assert all(f'id="{name}"' in play for name in ("play-text", "play-difference"))
    assert "](build.md#training)" in pages["teaching.md"].decode()
    assert "](security.md)" in pages["contributing.md"].decode() + pages["workers.md"].decode()
    assert b"def train_minibatch(" in pages["files/notebooks/programs/torch_rnn.py"]


def test_link_to_a_missing_heading_raises():
    heading = re.search(r"^## (.*)$", (CLONE / prose.LESSONS / "build.md").read_text(), re.M)[1]
    linked = prose.linked(f"[x](build.md#{prose.slug(heading)})")
    assert linked == f"[x](../lessons/torch/build.ipynb#{heading.replace(' ', '-')})"
    with pytest.raises(RNNScratchError, match="no heading with the anchor 'nothing'"):
        prose.linked("[x](build.md#nothing)")


def test_reference_documents_every_public_name():
    page = (CLONE / "notebooks/site/reference.md").read_text(encoding="utf-8")
    defaults = asdict(Settings()).items()
    assert all(f"| `{name}` | `{default!r}` |" in page for name, default in defaults)
    functions = [f.__name__ for module in contract.MODULES.values() for f in module]
    for name in {*rnn_scratch.__all__, *functions} - {"Settings", "PRESETS"}:
        assert re.search(rf"^####? {name}$", page, re.MULTILINE), name


def test_prose_renders_formulas_and_backend_names():
    text = (
        "# At $(T \\cdot B)$, in {framework}\n\n`a$b$` and `{backend}` $x_1$\n\n```text\n{x}\n```"
    )
    written = prose.render(text, ["numpy", "mxnet"])
    assert written.startswith("# At (T·B)\n")
    assert "`a$b$`" in written
    assert "$x_1$" in written
    assert 'data-mxnet="mxnet">numpy / mxnet</span></code>' in written
    assert "```text\n{x}\n```" in written
    assert prose.render("in {framework}", ["torch"]) == "in PyTorch"


# The page on workers


def render(folder):
    page, pictures = site_workers.render(folder)
    assert set(pictures) == {site_workers.EXCHANGE}
    return page


def record():
    text = (CLONE / readme.RECORDS / site_workers.RECORD).read_text(encoding="utf-8")
    return json.loads(text)


def write(folder, content):
    (folder / site_workers.RECORD).write_text(json.dumps(content), encoding="utf-8")


def test_workers_page_quotes_its_record(tmp_path):
    content = record()
    engine = content["workers"]["engines"]["torch"]
    engine["exchanges"][0]["gather"]["median"] = 0.0321  # time to exchange one number
    engine["sums"][-1]["own"] = 987
    content["workers-exact"]["trainings"][0]["models"][0]["digests"][-1]["perplexity"] = 4.5678
    write(tmp_path, content)
    original, page = render(readme.RECORDS), render(tmp_path)
    for quote in ("| PyTorch | 0.0321 |", "| 987 of 1,000 |", "the perplexity is 4.5678 "):
        assert quote in page
        assert quote not in original


def test_exchange_size_matches_hand_computed_values():
    # W_xh (3, 2), W_hh (2, 2), b_h (2,), W_hq (2, 3), b_q (3,); three more gates in an LSTM.
    assert site_workers.parameters(2, 3) == 6 + 4 + 2 + 6 + 3
    assert site_workers.parameters(2, 3, "lstm") == 4 * (6 + 4 + 2) + 6 + 3


def test_speedup_of_two_workers_includes_the_exchange():
    minibatches = [
        {"num_hiddens": 2, "batch_size": rows, "median": milliseconds}
        for rows, milliseconds in ((16, 6), (32, 11), (128, 40))  # 64 rows were not measured
    ]
    exchanges = [{"numbers": size, "all_reduce": {"median": size / 4}} for size in (1, 22)]
    engines = {"torch": {"minibatches": minibatches, "exchanges": exchanges}}
    measured = {"settings": {"vocabulary": 3}, "engines": engines}
    # The gradients and the loss consist of 22 numbers.
    assert site_workers.speedups(measured) == {("torch", 2, 32): 11 / (6 + 5.5)}
