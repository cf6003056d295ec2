"""The site, opened from a folder in a real browser without network access (`nox -s browser`)."""

import shutil

import pytest
from browser import LOOKS, SHOTS, assert_legible
from helpers import COMPARISONS, SITE, run_subprocess

from rnn_scratch import registry

pytest_plugins = ["browser"]  # defines the fixtures
PAGES = sorted(path.stem for path in SITE.glob("*.html") if path.stem != "play")
LAST = registry.FRAMEWORKS[registry.BUILTIN_BACKENDS[-1]]  # title of the last tab
TABS = ".pieces:not([hidden]) [role=tab][aria-selected=true]"
# Script that returns the visible lines of each group, with their positions and marked words.
LINES = """
    [...document.querySelectorAll(".pieces:not([hidden])")].map(group =>
        [...group.querySelectorAll(":scope > .panel:not([hidden])")].flatMap((panel, column) =>
            [...panel.querySelectorAll(".line")].map(line => {
                const {top, left, height} = line.getBoundingClientRect();
                const words = [...line.children]
                    .filter(word => word.matches(":not(.w, [class^=c], .sd, .gd, .gi)"))
                    .map(word => [word.textContent, word.classList.contains("differs")]);
                return {row: line.style.getPropertyValue("--row"), column, top, left, height,
                        text: line.textContent, words, alone: line.classList.contains("alone")};
            })))
"""


def choose(page, label):
    page.locator(".switch label", has_text=label).first.click()


def selected(page):
    return set(page.locator(TABS).all_text_contents())


def test_selection_applies_to_all_pages(open_page):
    page = open_page("build")
    assert selected(page) == {"NumPy"}
    page.get_by_role("tab", name="TensorFlow").first.click()
    assert selected(page) == {"TensorFlow"}
    assert page.locator(TABS).count() > 15
    panels = page.locator(".pieces > .panel:visible")
    assert {panel.get_attribute("data-for") for panel in panels.all()} == {"tensorflow"}
    page.reload()
    assert selected(page) == {"TensorFlow"}
    page.goto((SITE / "learn.html").as_uri())
    # The prose also names the selected framework.
    assert "rnn-scratch train --backend tensorflow" in page.locator("article").inner_text()
    page.locator(".right-next").click()
    page.wait_for_selector("h1:has-text('Make it fast')")
    assert selected(page) == {"TensorFlow"}
    assert "?" not in page.url


def test_address_selects_a_framework(open_page):
    page = open_page("build", framework="mxnet")
    assert selected(page) == {"MXNet"}
    choose(page, "PyTorch")
    assert selected(page) == {"PyTorch"}
    page.reload()
    assert selected(page) == {"PyTorch"}
    page.goto(page.url.split("?")[0] + "?framework=nonsense")
    assert selected(page) == {"PyTorch"}


def test_tabs_work_with_the_keyboard(open_page):
    page = open_page("build")
    page.locator("[role=tab][aria-selected=true]").first.focus()
    page.keyboard.press("ArrowRight")
    assert selected(page) == {"PyTorch"}
    page.keyboard.press("End")
    assert selected(page) == {LAST}
    assert page.evaluate("document.activeElement.textContent") == LAST
    page.keyboard.press("Tab")  # moves into the panel, not to the next tab
    assert page.evaluate("document.activeElement.closest('.panel, .tabs').className") == "panel"


@pytest.mark.parametrize(
    ("label", "columns"), [("two", 2), ("all", len(registry.BUILTIN_BACKENDS))]
)
def test_columns_align_lines_and_mark_differences(open_page, label, columns):
    page = open_page("build", 1440)
    choose(page, label)
    groups = page.evaluate(LINES)
    assert len(groups) > 15
    most, marked = 0, 0
    for lines in groups:
        present = len({line["column"] for line in lines})
        rows = {}
        for line in lines:
            rows.setdefault(line["row"], []).append(line)
        for row in rows.values():
            assert len({round(line["top"], 1) for line in row}) == 1
            assert len({line["left"] for line in row}) == len(row)
            most = max(most, len(row))
            sets = [{word for word, _ in line["words"]} for line in row]
            for line in row:
                assert line["alone"] == (len(row) < present and bool(line["words"]))
                for word, differs in line["words"]:
                    lacking = sum(word not in line_words for line_words in sets)
                    assert differs == (lacking > 0 and 2 * lacking >= len(row) - 1), word
                    marked += differs
        tops = [rows[row][0]["top"] for row in sorted(rows, key=int)]
        assert tops == sorted(tops)
        places = {(line["text"].split("(")[0], line["row"]) for line in lines}
        functions = [name for name, _ in places if name.startswith("def ")]
        assert len(functions) == len(set(functions))  # functions with the same name share a row
    assert most == columns
    assert marked > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.screenshot(path=SHOTS / f"build-{columns}-columns.png")
    page.set_viewport_size({"width": 800, "height": 900})  # too narrow for columns, so tabs appear
    assert selected(page) == {"NumPy"}
    shown = page.locator(".pieces:not([hidden]) > .panel:not([hidden])")
    assert shown.count() == page.locator(TABS).count()


@LOOKS
@pytest.mark.parametrize("name", PAGES)
def test_page_is_legible_and_accessible(open_page, name, width, scheme):
    page = open_page(name, width, color_scheme=scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    pictures = page.evaluate("""() => Promise.all([...document.images].map(async image => {
        image.loading = "eager";
        await image.decode();
        const narrow = image.clientWidth < Math.min(500, 0.8 * image.naturalWidth);
        return [image.naturalWidth > 0, !image.offsetParent || !narrow];
    }))""")
    for is_complete, is_wide in pictures:
        assert is_complete
        assert is_wide, "its letters are too small"
    tables = page.evaluate(
        """[...document.querySelectorAll(".pst-scrollable-table-container")]
            .filter(box => box.scrollWidth > box.clientWidth + 1)
            .map(box => box.textContent.slice(0, 80))"""
    )
    assert tables == []
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert_legible(page, name)


def test_index_page_writes_until_it_is_paused(open_page):
    page = open_page("index", 1440)
    text, button = page.locator("#start-text"), page.locator("#start-run")
    page.wait_for_function("document.getElementById('start-text').textContent.length > 20")
    button.click()
    written = text.text_content()
    assert written.startswith("The tide clock ")
    shares = page.locator("#start-next span").all_text_contents()
    assert 50 <= sum(int(share.rstrip(" %")) for share in shares) <= 103
    button.click()
    page.wait_for_function(
        f"document.getElementById('start-text').textContent.length > {len(written)}"
    )
    assert text.text_content().startswith(written)
    page = open_page("index", 1440, reduced_motion="reduce")
    assert page.get_by_role("button", name="Write").is_visible()
    assert len(page.locator("#start-text").text_content()) < 20


# A comparison report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write the report for the recorded speed comparison; return its path."""
    folder = tmp_path_factory.mktemp("comparison")
    shutil.copy(COMPARISONS / "speed" / "comparison.json", folder)
    run_subprocess("report", folder).assert_exit()
    return folder / "report.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_report_fits_and_folds_its_tables(open_page, report, width):
    page = open_page(report, width)

    def visible_tables():
        return sum(table.is_visible() for table in page.locator("table").all())

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 0
    assert {"Speed", "Notes"} <= set(page.locator("h2").all_inner_texts())
    folded = page.locator("summary").all_inner_texts()
    assert {"Quality", "How it was measured"} <= set(folded)
    for summary in page.locator("summary").all():
        summary.click()
    assert visible_tables() >= 3
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=SHOTS / f"report-{width}.png", full_page=True)
    page.reload()
    assert visible_tables() == 1
    page.emulate_media(media="print")  # all tables are expanded when printing
    assert visible_tables() >= 3
