"""Fixtures for browser tests, which use installed Chromium or Chrome, or Playwright's Chromium."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import SITE
from playwright.sync_api import sync_playwright

SHOTS = SITE.parent / "screenshots"
# All widths and both color schemes, but not all combinations, because colors don't depend on width.
LOOKS = pytest.mark.parametrize(
    ("width", "scheme"), [(390, "dark"), (1024, "light"), (1440, "light")]
)


def assert_accessible(page):
    # Do not preload style sheets, because scripts on file:// pages cannot read them as text.
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    violations = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert not violations, [
        (v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:5]]) for v in violations
    ]


def assert_legible(page, name, controls=None):
    """Check that the page and `controls` fit the width and are accessible; save a screenshot."""
    width, scheme = page.viewport_size["width"], page.locator("html").get_attribute("data-theme")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if controls:
        boxes = (
            "elements => elements.map(element => element.getBoundingClientRect())"
            ".map(box => [box.left, box.right])"
        )
        edges = [edge for box in page.locator(controls).evaluate_all(boxes) for edge in box]
        assert min(edges) >= 0
        assert max(edges) <= width
    page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    if width != 1024:  # axe is slow on large pages
        assert_accessible(page)


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)  # None for Playwright's Chromium
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page, given its name on the site, a path or a URL.

    After the test, check that no page logged a warning or an error, or requested another origin.
    """
    messages, requests, contexts, allowed = [], [], [], ["file:", "data:", "blob:"]

    def open_page(name, width=1280, **kwargs):
        query = f"?framework={kwargs.pop('framework')}" if "framework" in kwargs else ""
        context = browser.new_context(viewport={"width": width, "height": 900}, **kwargs)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "log" or messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        address = str(name)
        if not address.startswith("http:"):
            address = (SITE / f"{name}.html" if isinstance(name, str) else name).as_uri() + query
        allowed.append(address)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []
    assert requests
    assert [url for url in requests if not url.startswith(tuple(allowed))] == []
