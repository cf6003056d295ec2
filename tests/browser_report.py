"""The report of a comparison in a real browser: `nox -s browser`."""

import pytest
from browser import executable
from helpers import options, there
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a small comparison with all tables, and all pictures but one."""
    folder = tmp_path_factory.mktemp("comparison")
    small = options(num_hiddens=12, num_steps=6, batch_size=4, max_tokens=400, corpus="tide-clock")
    for name, more in (("old", ()), ("new", ("--against", folder / "old"))):
        done = there(
            *("compare", "--backends", "numpy,torch", "--models", "scratch,fast,concise"),
            *(*small, "--epochs", "3", "--repeats", "2", "--seeds", "2", "--vary", "threads=1,2"),
            *("--output", folder / name, *more),
        )
        assert done.code == 0, (done.out, done.err)
    return folder / "new" / "report.html"


def visible_tables(page):
    """How many of the tables are shown."""
    return sum(table.is_visible() for table in page.locator("table").all())


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_reads_well(report, width):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable())
        page = browser.new_page(viewport={"width": width, "height": 900})
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        assert messages == []
        assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) >= 4
        assert min(widths) > 0
        assert {"Speed of training", "Notes"} <= set(page.locator("h2").all_inner_texts())
        folded = page.locator("summary").all_inner_texts()
        assert {"Quality", "How it was measured"} <= set(folded)
        page.screenshot(path=report.with_name(f"report-{width}.png"), full_page=True)
        for summary in page.locator("summary").all():
            summary.click()
        assert visible_tables(page) >= 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=report.with_name(f"unfolded-{width}.png"), full_page=True)
        page.reload()
        assert visible_tables(page) == 1
        page.emulate_media(media="print")  # what is folded is printed
        assert visible_tables(page) >= 3
        assert page.pdf(format="A4").startswith(b"%PDF")
        browser.close()
