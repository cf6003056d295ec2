"""Test the files of the built site; `nox -s site` builds the site and runs these tests.

The browser tests verify that pages load nothing from other origins.
"""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from helpers import SITE

PAGES = sorted(path.name for path in SITE.glob("*.html"))
FORMULAS = [f"{name}.html" for name in ("build", "gates", "learn", "fast")]  # pages with formulas


class Page(HTMLParser):
    """Parser that collects a page's links and the IDs that links can target."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def pages():
    return {name: Page(SITE / name) for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_existing_targets(pages, name):
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
def test_prose_has_no_unrendered_markup(name):
    text = (SITE / name).read_text(encoding="utf-8")
    prose = re.sub(r"<(pre|script|style|code|dt)\b.*?</\1>", "", text, flags=re.S)
    visible_text = re.sub(r"<[^>]*>", "", prose)
    assert not re.search(r"\*\*|```|:::|\{backend\}", visible_text)
    if name in FORMULAS:
        assert not re.search(r"\$[^$<>]+\$|\\[a-z]+\{", visible_text)


def test_site_is_small():
    sizes = {path: path.stat().st_size for path in SITE.rglob("*") if path.is_file()}
    assert 0 < sum(size for path, size in sizes.items() if path.parent.name == "play") < 5e6
    assert sum(sizes.values()) < 12e6
