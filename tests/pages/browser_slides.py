"""The slides of the lessons, opened in a real browser: the content of every slide fits."""

import pytest
from helpers import SITE
from make import slides

from rnn_scratch import registry

pytest_plugins = ["browser"]  # defines the fixtures
pytestmark = pytest.mark.usefixtures("_in_the_clone")
MISFITS = """sections => sections.filter(section => {
    document.body.className = "";
    location.hash = section.id;
    show();
    const sizes = [...section.querySelectorAll("img")].map(image => image.clientHeight);
    const fits = section.scrollHeight <= 720 && section.scrollWidth <= 1280;
    return !fits || Math.min(...sizes, 999) < 200;
}).map(section => section.id)"""


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
@pytest.mark.parametrize("lesson", slides.LESSONS)
def test_content_of_every_slide_fits(open_page, backend, lesson):
    page = open_page(slides.make(f"{backend}-{lesson}").absolute())
    page.set_viewport_size({"width": 1280, "height": 720})
    assert page.locator("section").evaluate_all(MISFITS) == []
    page.screenshot(path=SITE.parent / "slides" / f"{backend}-{lesson}.png")


def test_keys_change_the_slide_and_show_notes(open_page):
    page = open_page(slides.make("numpy-build").absolute())
    current, notes = page.locator("section.shown"), page.locator("aside:visible")
    num_slides = page.locator("section").count()
    for key, slide in (
        ("ArrowRight", 2),
        ("End", num_slides),
        ("ArrowLeft", num_slides - 1),
        ("Home", 1),
    ):
        page.keyboard.press(key)
        assert current.get_attribute("id") == str(slide)
    assert notes.count() == 0
    page.keyboard.press("s")
    assert "adjustable numbers" in notes.inner_text()
    page.reload()
    page.mouse.click(1000, 300)
    assert current.get_attribute("id") == "2"
