"""The built site, read from its files: `nox -s site` builds it, and runs these tests."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parent.parent / "build" / "site"
PAGES = sorted(path.name for path in SITE.glob("*.html"))
LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}


class Page(HTMLParser):
    """A page's links, what it loads, and the targets in it that links can have."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.tags = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADS.get(tag)) and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(values[LOADS[tag]])


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
        "reference.html",
        "backend.html",
    } <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(pages, name):
    for link in pages[name].links:
        parts = urlsplit(link)
        assert not parts.scheme, f"{name} links to {link}"
        target = unquote(parts.path) or name
        if name == "404.html":
            target = target.lstrip("/")
        target = "index.html" if target in ("", ".") else target
        assert (SITE / target).exists(), f"{name} links to {link}"
        if parts.fragment and target in pages:
            assert unquote(parts.fragment) in pages[target].ids, f"{name} links to {link}"


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_other_servers(pages, name):
    for load in pages[name].loads:
        assert not urlsplit(load).scheme, f"{name} loads {load}"
        assert not urlsplit(load).netloc, f"{name} loads {load}"
        path = unquote(urlsplit(load).path)
        assert (SITE / (path.lstrip("/") if name == "404.html" else path)).exists(), load


def test_no_style_loads_from_other_servers():
    for path in SITE.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", text), path


def test_formulas_need_no_script(pages):
    assert pages["chapter.html"].tags.count("math") > 30
    for name in ("chapter.html", "exercises.html", "bugs.html"):
        text = (SITE / name).read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|script|style)\b.*?</\1>|<code>.*?</code>", "", text, flags=re.S)
        assert not re.search(r"\$[^$<>]+\$|\\[a-z]+\{", re.sub(r"<[^>]*>", "", prose))


def test_no_markdown_is_left():
    for name in PAGES:
        text = (SITE / name).read_text(encoding="utf-8")
        prose = re.sub(r"<(pre|script|style)\b.*?</\1>|<code>.*?</code>", "", text, flags=re.S)
        words = re.sub(r"<[^>]*>", "", prose)
        assert "**" not in words, name
        assert "```" not in words, name
        assert ":::" not in words, name
        assert "{backend}" not in words, name
