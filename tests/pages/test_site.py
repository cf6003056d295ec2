"""The site's sources: code, outputs, pictures, links, and the API reference."""

import html
import re

import pytest
from helpers import CLONE
from make import lessons, prose, site, site_code
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
    assert pictures
    assert all(pages[picture].startswith(b"\x89PNG") for picture in pictures)
    for lesson in lessons.LESSONS:
        text = pages[f"{lesson}.md"].decode()
        descriptions = re.findall(r'<img [^>]*alt="([^"]*)"', text)
        assert all(descriptions)
        places = re.findall(r'class="place" id="figure-([\w-]+)" href="#figure-\1"', text)
        assert len(places) == len({*places}) > 0


def test_site_replaces_pictures_and_notebook_links(pages):
    content = "".join(pages[name].decode() for name in pages if name.endswith(".md"))
    assert not re.search(r"<!-- site:|<picture>|\]\([^)]*\.ipynb", content)
    play = pages["play.md"].decode()
    assert all(f'id="{name}"' in play for name in ("play-text", "play-difference"))
    assert "](build.md#training)" in pages["teaching.md"].decode()
    assert "](security.md)" in pages["contributing.md"].decode() + pages["index.md"].decode()
    assert b"def step(" in pages["files/notebooks/programs/torch_rnn.py"]


def test_annotated_program_has_all_code_and_comments(pages):
    program = (CLONE / site.PROGRAM).read_text(encoding="utf-8")
    page = html.unescape(re.sub(r"<[^>]*>", "", pages["program.md"].decode()))
    for prose_text, code in site_code.sections(program):
        assert prose_text in page
        assert code in page
    written = " ".join(sum(site_code.sections(program), ()))
    unmarked = re.sub(r'^# |"""', "", program, flags=re.MULTILINE)
    assert sorted(written.split()) == sorted(unmarked.split())  # nothing is lost or repeated
    with pytest.raises(ValueError, match="neither a comment nor a docstring"):
        site_code.sections('"""A program."""\n\n\ndef step(x):\n    return x\n')


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
