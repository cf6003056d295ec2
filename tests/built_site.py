"""The built site, read from its files: `nox -s site` builds it, and runs these tests."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parent.parent / "build" / "site"
PAGES = sorted(path.name for path in SITE.glob("*.html"))
LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
NO_LOADS = ("canonical", "prev", "next", "index", "search")  # links in a page's head
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """A page's links, what it loads, and the targets in it that links can have."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.tags = [], [], set(), []
        self.open, self.wrong = [], []  # elements that are open, and ends that are none of theirs
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADS.get(tag)) and values.get("rel") not in NO_LOADS:
            self.loads.append(values[LOADS[tag]])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open = self.open if tag in VOID else self.open[:-1]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in VOID:
            self.wrong.append((self.getpos(), tag, self.open[-3:]))


@pytest.fixture(scope="module")
def pages():
    return {name: Page(SITE / name) for name in PAGES}


def test_all_pages_are_there():
    assert {
        "index.html",
        "chapter.html",
        "exercises.html",
        "bugs.html",
        "errata.html",
        "parity.html",
        "comparison.html",
        "workers.html",
        "reference.html",
        "backend.html",
    } <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(pages, name):
    for link in pages[name].links:
        parts = urlsplit(link)
        assert not parts.scheme, f"{name} links to {link}"
        target = unquote(parts.path) or name
        target = "index.html" if target in ("", ".") else target
        assert (SITE / target).exists(), f"{name} links to {link}"
        if parts.fragment and target in pages:
            assert unquote(parts.fragment) in pages[target].ids, f"{name} links to {link}"


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_other_servers(pages, name):
    for load in pages[name].loads:
        assert not urlsplit(load).scheme, f"{name} loads {load}"
        assert not urlsplit(load).netloc, f"{name} loads {load}"
        assert (SITE / unquote(urlsplit(load).path)).exists(), load


@pytest.mark.parametrize("name", PAGES)
def test_every_element_ends_where_it_should(pages, name):
    assert pages[name].wrong == []
    assert pages[name].open == []


def test_the_site_is_small():
    sizes = [path.stat().st_size for path in SITE.rglob("*") if path.is_file()]
    assert sum(sizes) < 10e6


def test_no_style_loads_from_other_servers():
    for path in SITE.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(@import\s*|url\()['\"]?(https?:)?//", text), path


def test_formulas_need_no_script(pages):
    assert pages["chapter.html"].tags.count("math") > 30
    for name in ("chapter.html", "exercises.html", "bugs.html"):
        text = (SITE / name).read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|script|style|code|dt)\b.*?</\1>", "", text, flags=re.S)
        assert not re.search(r"\$[^$<>]+\$|\\[a-z]+\{", re.sub(r"<[^>]*>", "", prose))


def test_no_markdown_is_left():
    for name in PAGES:
        text = (SITE / name).read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|script|style|code|dt)\b.*?</\1>", "", text, flags=re.S)
        words = re.sub(r"<[^>]*>", "", prose)
        assert "**" not in words, name
        assert "```" not in words, name
        assert ":::" not in words, name
        assert "{backend}" not in words, name
