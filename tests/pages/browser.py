"""A browser, and pages of the site in it: the machine's own Chromium, or Playwright's."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import SITE
from playwright.sync_api import sync_playwright

SHOTS = SITE.parent / "screenshots"
# Every width and both schemes, but not each with each: colors do not depend on the width.
LOOKS = pytest.mark.parametrize(
    ("width", "scheme"), [(390, "dark"), (1024, "light"), (1440, "light")]
)


def assert_accessible(page):
    # Without loading the style sheets, which a page in a folder may not read as text.
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    worst = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert not worst, [
        (e["id"], e["help"], [n["html"][:200] for n in e["nodes"][:5]]) for e in worst
    ]


def assert_legible(page, name, controls=None):
    """The page fits its window, as do these controls, and axe finds nothing; with a picture."""
    width, scheme = page.viewport_size["width"], page.locator("html").get_attribute("data-theme")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if controls:
        boxes = (
            "all => all.map(each => each.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        edges = [edge for box in page.locator(controls).evaluate_all(boxes) for edge in box]
        assert min(edges) >= 0
        assert max(edges) <= width
    page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    if width != 1024:  # axe takes long for a large page
        assert_accessible(page)


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    own = next(filter(None, map(shutil.which, names)), None)  # or else Playwright's
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=own)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page, of the site or at a path or address; all was there, without a warning."""
    messages, requests, contexts, own = [], [], [], ["file:", "data:", "blob:"]

    def visit(name, width=1280, **more):
        query = f"?framework={more.pop('framework')}" if "framework" in more else ""
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "log" or messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        address = str(name)
        if not address.startswith("http:"):
            address = (SITE / f"{name}.html" if isinstance(name, str) else name).as_uri() + query
        own.append(address)
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert messages == []
    assert requests
    assert [url for url in requests if not url.startswith(tuple(own))] == []
