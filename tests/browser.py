"""A browser, and pages of the site in it: the machine's own Chromium, or Playwright's."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

SITE = Path(__file__).parent.parent / "build" / "site"


def executable():
    """The path of the machine's own Chromium, or None for Playwright's."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable())
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page; at the end, there were no network requests, errors or warnings."""
    messages, requests, contexts = [], [], []

    def visit(name, width=1280, **more):
        query = f"?framework={more.pop('framework')}" if "framework" in more else ""
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "log" or messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((SITE / f"{name}.html").as_uri() + query)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert messages == []
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
