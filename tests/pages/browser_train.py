"""Training on the play page, opened from a folder in a real browser: `nox -s browser`."""

import json
import re

import pytest
from browser import LOOKS, assert_legible
from browser_scratch import OTHER, RECORD
from helpers import run_in_process
from playwright.sync_api import expect

from rnn_scratch.text import books

pytest_plugins = ["browser"]  # defines the fixtures
DIGESTS = json.loads(RECORD.read_text(encoding="utf-8"))["digests"]
MINUTES = 3 * 60_000  # milliseconds for a training run on a busy machine


@pytest.fixture
def open_page(open_page):
    """Return a function that opens the page and selects a small network and few epochs."""

    def visit_page(*arguments, **kwargs):
        page = open_page("play", *arguments, **kwargs)
        choose(page, Cell="rnn", Optimizer="sgd", Units="16", Epochs="5")
        return page

    return visit_page


def choose(page, **options):
    for label, option in options.items():
        page.locator("#train-settings").get_by_label(label).select_option(option)


def begin(page):
    """Begin a long training run and wait for its first epoch."""
    choose(page, Epochs="100")
    page.get_by_role("button", name="Train").click()
    expect(page.locator("#train-samples li").first).to_be_visible(timeout=MINUTES)


def train(page):
    page.get_by_role("button", name="Train").click()
    expect(page.locator("#train-status")).to_have_text("Trained for 5 epochs.", timeout=MINUTES)


def wait_for_sample(page):
    """Wait for another sample, which the page adds after each epoch."""
    num_samples = page.locator("#train-samples li").count()
    page.wait_for_function(
        f"document.querySelectorAll('#train-samples li').length > {num_samples}", timeout=MINUTES
    )


def enter_text(page, text):
    """Select the user's own text and set it without typing, whatever its length."""
    page.get_by_label("your own").check()
    page.locator("#train-text").evaluate("(area, text) => { area.value = text; }", text)


@pytest.mark.parametrize(
    ("cell", "optimizer", "sampling"), [("rnn", "sgd", "sequential"), ("lstm", "adam", "random")]
)
def test_training_ends_at_the_recorded_digest(open_page, cell, optimizer, sampling):
    page = open_page()
    choose(page, Cell=cell, Optimizer=optimizer, Sampling=sampling)
    train(page)
    digest = DIGESTS[f"{cell} 16 {optimizer} {sampling}"][4]
    assert page.locator("#train-digest").text_content() == digest
    recorded = f"NumPy's, in the project's records: {digest}, equal bit for bit."
    assert page.locator("#train-recorded").text_content() == recorded
    samples = page.locator("#train-samples li").all_text_contents()
    assert [int(re.match(r"epoch (\d), perplexity \d+", text)[1]) for text in samples] == [
        *(5, 4, 3, 2, 1)
    ]
    assert all("the tide clock" in text for text in samples)
    points = page.locator("#train-curve polyline").get_attribute("points").split()
    heights = [float(text.split(",")[1]) for text in points]
    assert len(heights) == 5
    assert heights == sorted(heights)  # y increases downward: the perplexity falls
    for name in ("state", "value", "gradient"):
        assert page.locator(f"#train-{name}").evaluate("""canvas => canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data.some(each => each > 100)""")
    assert page.get_by_role("button", name="Go on").is_disabled()


def test_command_reproduces_the_page_digest(open_page, capsys):
    page = open_page()
    enter_text(page, OTHER)
    page.get_by_label("all its characters").check()
    choose(page, Cell="lstm")
    train(page)
    assert page.locator("#train-recorded").text_content() == ""
    with page.expect_download() as download:
        page.locator("#train-file").click()
    download.value.save_as("text.txt")
    command = page.locator("#train-command").text_content().split()
    result = run_in_process(capsys, *command[1:], "--run", "r").assert_exit()
    assert f"\ndigest {page.locator('#train-digest').text_content()}\n" in result.out
    assert books.read_file("text.txt").content == OTHER.replace("\r\n", "\n")


def test_training_resumes_with_changed_rate_and_weight(open_page):
    page = open_page()
    begin(page)
    page.get_by_role("button", name="Stop").click()
    page.get_by_label("Parameter").select_option("b_q")  # takes effect once training has stopped
    expect(page.locator("#train-value")).to_have_attribute("aria-label", "Values of b_q")
    stopped = page.locator("#train-status").text_content()
    page.wait_for_timeout(500)
    assert page.locator("#train-status").text_content() == stopped
    assert page.get_by_label("Row", exact=True).is_disabled()
    page.get_by_label("Parameter").select_option("W_hh")
    expect(page.locator("#train-value")).to_have_attribute("aria-label", "Values of W_hh")
    page.locator("#train-value").click(position={"x": 2, "y": 2})
    page.get_by_label("Column", exact=True).fill("3")
    page.get_by_label("Value", exact=True).fill("7.5")
    page.get_by_role("button", name="Change").click()
    page.get_by_label("Column", exact=True).fill("4")
    page.get_by_label("Column", exact=True).fill("3")
    expect(page.get_by_label("Value", exact=True)).to_have_value("7.50000")
    rate = page.get_by_label("Learning rate")
    for value in ("1e308", "1"):  # the initial rate is a change, too
        rate.fill(value)
        rate.blur()
    page.get_by_role("button", name="Go on").click()
    wait_for_sample(page)
    page.get_by_role("button", name="Stop").click()
    rate.fill("1e308")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#train-problem")).to_contain_text("training has diverged")


def test_changes_replace_the_command(open_page):
    page = open_page()
    begin(page)
    page.get_by_label("Value", exact=True).fill("0.5")
    page.get_by_role("button", name="Change").click()
    page.get_by_label("Learning rate").fill("0.25")
    page.get_by_label("Prefix of the samples").focus()  # leave the field to apply the rate
    wait_for_sample(page)
    message = "No command trains this network: you have changed a weight and the learning rate."
    assert page.locator("#train-same").text_content() == message
    assert page.locator("#train-command").is_hidden()
    assert page.locator("#train-recorded").text_content() == ""


def test_invalid_input_is_explained(open_page):
    page = open_page()
    problem = page.locator("#train-problem")

    def refused(message):
        page.get_by_role("button", name="Train").click()
        expect(problem).to_contain_text(message)

    enter_text(page, "")
    refused("There is no text.")
    expect(page.get_by_role("button", name="Go on")).to_be_disabled()
    page.get_by_role("radio", name="the story").check()
    page.get_by_label("Prefix of the samples").fill("Ж")
    refused("The training text does not contain “Ж”")
    page.get_by_label("Prefix of the samples").fill("the ")
    for name, value in (("Learning rate", "fast"), ("Clipping θ", "-1")):
        default = page.get_by_label(name).input_value()
        page.get_by_label(name).fill(value)
        refused(f"is “{value}”; it must be a number above 0.")
        page.get_by_label(name).fill(default)
    page.get_by_label("Learning rate").fill("1e308")
    page.get_by_label("Clipping θ").fill("none")
    page.get_by_label("exact mode").uncheck()
    refused("training has diverged")
    page.get_by_label("Learning rate").fill("1")
    train(page)
    assert problem.text_content() == ""
    assert page.locator("#train-exact").is_hidden()
    page.get_by_label("Column", exact=True).fill("99")
    expect(problem).to_contain_text("W_hq has the shape (16, 28)")
    page.get_by_label("Column", exact=True).fill("2")
    page.get_by_label("Value", exact=True).fill("x")
    page.get_by_role("button", name="Change").click()
    expect(problem).to_contain_text("The value is “x”; it must be a number.")


@LOOKS
def test_training_is_legible_and_accessible(open_page, width, scheme):
    page = open_page(width, color_scheme=scheme, has_touch=width < 500)
    enter_text(page, "")
    page.get_by_role("radio", name="the story").check()
    choose(page, Cell="lstm")
    train(page)
    assert_legible(page, "train", "#train-train :is(button, input, select, canvas, svg)")
