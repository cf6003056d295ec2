"""The site in a real browser, from a folder and without a network: `nox -s browser`."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import SITE

from rnn_scratch import registry

pytest_plugins = ["browser"]  # for the fixtures
SHOTS = SITE.parent / "screenshots"
PAGES = (
    "index",
    "chapter",
    "exercises",
    "bugs",
    "errata",
    "parity",
    "comparison",
    "reference",
    "backend",
)
LAST = registry.FRAMEWORKS[registry.OURS[-1]]  # on the last tab
TABS = ".pieces:not([hidden]) [role=tab][aria-selected=true]"


def choose(page, what):
    page.locator(".switch label", has_text=what).first.click()


def selected(page):
    """The selected tabs of a page."""
    return set(page.locator(TABS).all_text_contents())


def test_a_selection_applies_to_every_tab_and_page_and_is_stored(visit):
    page = visit("chapter")
    assert selected(page) == {"NumPy"}
    page.get_by_role("tab", name="TensorFlow").first.click()
    assert selected(page) == {"TensorFlow"}
    assert page.locator(TABS).count() > 15
    panels = page.locator(".pieces > .panel:visible")
    assert {each.get_attribute("data-for") for each in panels.all()} == {"tensorflow"}
    page.reload()
    assert selected(page) == {"TensorFlow"}
    page.locator(".md-footer__link--next").click()
    page.wait_for_url("**/exercises.html*")
    assert "?" not in page.url
    # Prose has the names of frameworks too.
    assert "rnn-scratch train --backend tensorflow" in page.locator("article").inner_text()
    page.locator(".md-footer__link--next").click()
    page.wait_for_url("**/bugs.html*")
    assert selected(page) == {"TensorFlow"}


def test_the_address_opens_a_framework_and_follows_the_selection(visit):
    page = visit("chapter", framework="mxnet")
    assert selected(page) == {"MXNet"}
    choose(page, "PyTorch")
    assert selected(page) == {"PyTorch"}
    page.reload()
    assert selected(page) == {"PyTorch"}
    page.goto(page.url.split("?")[0] + "?framework=nonsense")
    assert selected(page) == {"PyTorch"}


def test_tabs_work_with_the_keyboard(visit):
    page = visit("chapter")
    page.locator("[role=tab][aria-selected=true]").first.focus()
    page.keyboard.press("ArrowRight")
    assert selected(page) == {"PyTorch"}
    page.keyboard.press("End")
    assert selected(page) == {LAST}
    assert page.evaluate("document.activeElement.textContent") == LAST
    page.keyboard.press("Tab")  # on into the panel, not to the next tab
    assert page.evaluate("document.activeElement.closest('.panel, .tabs').className") == "panel"


@pytest.mark.parametrize(
    ("words", "columns", "width"), [("two", 2, 1280), ("all", len(registry.OURS), 1440)]
)
def test_corresponding_lines_are_aligned(visit, words, columns, width):
    page = visit("chapter", width)
    choose(page, words)
    groups = page.evaluate("""
        [...document.querySelectorAll(".pieces:not([hidden])")].map(group =>
            [...group.querySelectorAll(":scope > .panel:not([hidden]) .line")].map(line => {
                const {top, left, width, height} = line.getBoundingClientRect();
                return {row: line.style.getPropertyValue("--row"), top, left, width, height,
                        text: line.textContent, differs: line.classList.contains("differs")};
            }))""")
    assert len(groups) > 15
    most = 0
    for lines in groups:
        rows = {}
        for line in lines:
            rows.setdefault(line["row"], []).append(line)
        for row in rows.values():
            assert len({round(line["top"], 1) for line in row}) == 1
            assert len({line["left"] for line in row}) == len(row)
            most = max(most, len(row))
            texts = {line["text"] for line in row}
            differs = len(texts) > 1 or len(row) < columns
            if texts != {"\n"}:
                assert {line["differs"] for line in row} <= {differs, len(lines) == len(row)}
        tops = [rows[row][0]["top"] for row in sorted(rows, key=int)]
        assert tops == sorted(tops)
    assert most == columns
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=SHOTS / f"chapter-{columns}-columns.png")
    page.set_viewport_size({"width": 800, "height": 900})  # too narrow: tabs again
    assert selected(page) == {"NumPy"}
    assert page.locator(".pieces > .panel:visible").count() == page.locator(TABS).count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_legible_and_accessible(visit, name, width, scheme):
    page = visit(name, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.evaluate("""() => Promise.all([...document.images].map(async image => {
        image.loading = "eager";
        await image.decode();
        return image.naturalWidth;
    }))""")
    assert all(widths)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    # Without loading the style sheets, which a page in a folder may not read as text.
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    worst = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert not worst, [
        (e["id"], e["help"], [n["html"][:200] for n in e["nodes"][:5]]) for e in worst
    ]


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_without_a_script(visit, width):
    page = visit("chapter", width, java_script_enabled=False)
    for name in registry.OURS:
        panels = page.locator(f".pieces > .panel[data-for={name}]")
        assert panels.count() > 15
        assert panels.first.is_visible()
        assert panels.first.locator(".name").is_visible()
    assert page.locator("[role=tab]").count() == 0
    page.screenshot(path=SHOTS / f"chapter-{width}-no-script.png")


def test_solutions_are_closed_and_it_prints(visit):
    page = visit("exercises")
    solutions = page.locator("details.solution")
    assert solutions.count() == 6
    assert solutions.evaluate_all("all => all.every(each => !each.open)")
    page = visit("chapter", framework="torch")
    page.emulate_media(media="print")
    assert not page.locator(".switch").is_visible()
    assert page.pdf(path=SHOTS / "chapter.pdf", format="A4").startswith(b"%PDF")
