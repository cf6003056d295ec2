"""Lesson slides in a real browser: they fit, are legible, and respond to keys and clicks."""

import pytest
from helpers import SITE
from make import slides

from rnn_scratch import registry

pytest_plugins = ["browser"]  # defines the fixtures
pytestmark = pytest.mark.usefixtures("_in_the_clone")
MISFITS = """sections => sections.filter(section => {
    location.replace(`#${section.id}`);
    const elements = [...section.querySelectorAll("*")].filter(e => !e.closest("math"));
    const sizes = elements.map(element => parseFloat(getComputedStyle(element).fontSize));
    const heights = [...section.querySelectorAll("img")].map(image => image.clientHeight);
    const fits = section.scrollHeight <= 720 && section.scrollWidth <= 1280;
    return !fits || Math.min(...sizes) < 20 || Math.min(...heights, 999) < 300;
}).map(section => section.id)"""


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
@pytest.mark.parametrize("lesson", slides.lessons.LESSONS)
def test_content_of_every_slide_fits(open_page, backend, lesson):
    page = open_page(slides.make(f"{backend}-{lesson}").absolute())
    page.set_viewport_size({"width": 1280, "height": 720})
    assert page.locator("section").evaluate_all(MISFITS) == []
    page.screenshot(path=SITE.parent / "slides" / f"{backend}-{lesson}.png")


def test_keys_and_clicks_change_the_slide(open_page):
    page = open_page(slides.make("numpy-build").absolute())
    visible, num_slides = page.locator("section:visible"), page.locator("section").count()
    assert visible.get_attribute("id") == "1"
    for key, slide in (
        ("ArrowRight", 2),
        ("End", num_slides),
        ("ArrowLeft", num_slides - 1),
        ("Home", 1),
    ):
        page.keyboard.press(key)
        assert visible.get_attribute("id") == str(slide)
    page.mouse.click(1000, 300)
    assert visible.get_attribute("id") == "2"
