"""The report of a comparison in a real browser: `nox -s browser`."""

import shutil

import pytest
from browser import SHOTS
from helpers import CLONE, there

pytest_plugins = ["browser"]  # for the fixtures


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the record of speeds, with all tables, and all pictures but one."""
    folder = tmp_path_factory.mktemp("comparison")
    shutil.copy(CLONE / "notebooks" / "comparisons" / "speed" / "comparison.json", folder)
    there("report", folder).ended()
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_reads_well(visit, report, width):
    page = visit(report, width)

    def visible_tables():
        return sum(table.is_visible() for table in page.locator("table").all())

    resources = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert [url for url in resources if not url.startswith("data:")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3
    assert min(widths) > 0
    assert {"Speed of training", "Notes"} <= set(page.locator("h2").all_inner_texts())
    folded = page.locator("summary").all_inner_texts()
    assert {"Quality", "How it was measured"} <= set(folded)
    for summary in page.locator("summary").all():
        summary.click()
    assert visible_tables() >= 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=SHOTS / f"report-{width}.png", full_page=True)
    page.reload()
    assert visible_tables() == 1
    page.emulate_media(media="print")  # what is folded is printed
    assert visible_tables() >= 3
    assert page.pdf(format="A4").startswith(b"%PDF")
