"""The built site, read from its files: `nox -s site` builds it, and runs these tests.

Tests in a browser verify that a page loads nothing from elsewhere.
"""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from helpers import SITE

PAGES = sorted(path.name for path in SITE.glob("*.html"))
FORMULAS = [f"{name}.html" for name in ("build", "gates", "learn", "fast", "bugs")]  # no script
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """A page's links, and the targets in it that links can have."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.open, self.wrong = [], []  # open elements, and end tags that do not match them
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.open += [] if tag in VOID else [tag]
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])

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


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(pages, name):
    for link in pages[name].links:
        parts = urlsplit(link)
        assert parts.scheme in ("", "https"), f"{name} links to {link}"
        if parts.scheme:  # external link
            continue
        target = unquote(parts.path) or name
        target = "index.html" if target in ("", ".") else target
        assert (SITE / target).exists(), f"{name} links to {link}"
        if parts.fragment and target in pages:
            assert unquote(parts.fragment) in pages[target].ids, f"{name} links to {link}"


@pytest.mark.parametrize("name", PAGES)
def test_every_element_ends_where_it_should_and_no_markup_is_left(pages, name):
    assert pages[name].wrong == []
    assert pages[name].open == []
    text = (SITE / name).read_text(encoding="utf-8")
    prose = re.sub(r"<(pre|script|style|code|dt)\b.*?</\1>", "", text, flags=re.S)
    words = re.sub(r"<[^>]*>", "", prose)
    assert not re.search(r"\*\*|```|:::|\{backend\}", words)
    if name in FORMULAS:
        assert not re.search(r"\$[^$<>]+\$|\\[a-z]+\{", words)


def test_the_site_and_the_page_with_networks_are_small():
    sizes = {path: path.stat().st_size for path in SITE.rglob("*") if path.is_file()}
    assert 0 < sum(size for path, size in sizes.items() if path.parent.name == "play") < 5e6
    assert sum(sizes.values()) < 12e6
