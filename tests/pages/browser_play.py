"""The playground's trained networks, opened from a folder in a browser (`nox -s browser`)."""

import functools
import re

import msgspec
import numpy as np
import pytest
from browser import LOOKS, assert_legible
from helpers import CLONE
from make import play
from playwright.sync_api import expect

import rnn_scratch
from rnn_scratch.parameters import shapes
from rnn_scratch.runs import checkpoint, inference
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text import vocabulary
from rnn_scratch.text.dataset import TextRecord
from rnn_scratch.training.runtime import Runtime

NETWORKS = play.read(CLONE / play.SCRIPT)
PREFIX = "she looked at the dial and "
CELLS = list(NETWORKS)
pytest_plugins = ["browser"]  # defines the fixtures


@pytest.fixture
def open_page(open_page):
    return functools.partial(open_page, "play")


@pytest.fixture(scope="module", params=CELLS)
def network(request, tmp_path_factory):
    """Return the cell and checkpoint path of each network on the page."""
    saved = NETWORKS[request.param]
    path = tmp_path_factory.mktemp(request.param) / checkpoint.FILE
    settings, text = Settings(**saved["settings"]), msgspec.convert(saved["text"], TextRecord)
    every = shapes(model_options(settings, len(saved["vocab"])), settings.optimizer)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in every.items()}
    arrays |= play.arrays(saved)  # optimizer slots stay zero
    epochs = settings.num_epochs
    metadata = {"vocab": saved["vocab"], "settings": settings, "epoch": epochs, "text": text}
    metadata["runtime"] = Runtime("numpy")
    checkpoint.save(path, checkpoint.Checkpoint(**metadata, arrays=arrays))
    return request.param, path


def computed(path, text):
    """Return the NumPy backend's logits (T, V) for a text, and the state after each character."""
    net = inference.load(path, backend="numpy")
    model, logits, states = net.model, [], []
    state = net.backend.scratch.init_state(1, model.options)
    for token in vocabulary.encode(text, net.checkpoint.vocab):
        outputs, state = model.forward(np.array([[token]]), state, model.params, model.options)
        logits.append(outputs[0])
        states.append([tensor[0] for tensor in state])
    return np.array(logits), states


def use(page, cell, temperature=0.5):
    """Select the network with this cell, set the temperature, and type the prefix."""
    page.get_by_role("radio", name=cell.upper()).check()
    page.get_by_label("Prefix", exact=True).fill(PREFIX)
    page.get_by_label("Temperature").fill(str(temperature))


def step(page, count):
    page.get_by_role("button", name="Step").focus()
    for _ in range(count):
        page.keyboard.press("Enter")


def shades(text):
    """Return the values represented by the colors of an element's children."""
    values = text.evaluate(
        "text => [...text.children].map(each => [each.dataset.sign, "
        "each.style.getPropertyValue('--strength')])"
    )
    return [float(strength) * (-1 if sign == "minus" else 1) for sign, strength in values]


def text_of(page):
    return page.locator("#play-text").text_content()


def test_weights_reproduce_the_recorded_logits(network):
    cell, path = network
    expected = NETWORKS[cell]["expected"]
    logits, _ = computed(path, expected["prefix"])
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5)
    length = len(expected["greedy"]) - len(expected["prefix"])
    assert rnn_scratch.predict(path, expected["prefix"], length) == expected["greedy"]


def test_bars_show_probabilities_that_samples_follow(open_page, network):
    cell, path = network
    page = open_page()
    use(page, cell, temperature=1.5)
    logits, _ = computed(path, PREFIX)
    weights = np.exp(logits[-1].astype(float) / 1.5)
    shares = weights / weights.sum()
    bars = page.locator("#play-next button").all()
    order = np.argsort(-shares)[: len(bars)]
    assert len(bars) == 8
    assert [int(bar.get_attribute("value")) for bar in bars] == order.tolist()
    drawn = [
        bar.locator("i").evaluate("bar => bar.style.getPropertyValue('--share')") for bar in bars
    ]
    np.testing.assert_allclose(
        [float(share_text) for share_text in drawn], shares[order], atol=1e-5
    )
    samples = page.evaluate(
        "([logits, n]) => Array.from({ length: n }, () => sample(logits, 1.5))",
        [logits[-1].tolist(), 20_000],
    )
    counts = np.bincount(samples, minlength=len(shares))
    errors = np.sqrt(20_000 * shares * (1 - shares))
    assert np.all(np.abs(counts - 20_000 * shares) < 5 * errors + 1)
    bars[2].click()  # append the third most likely character
    assert text_of(page) == PREFIX + NETWORKS[cell]["vocab"][order[2]]


def test_colors_show_the_values_of_the_units(open_page, network):
    cell, path = network
    page = open_page()
    use(page, cell)
    _, states = computed(path, PREFIX)
    grids = page.get_by_role("radiogroup", name="Units of").all()
    assert len(grids) == len(states[0])
    for index, grid in enumerate(grids):
        shown_value = np.tanh if index else np.asarray  # C is shown as tanh(C)
        np.testing.assert_allclose(shades(grid), shown_value(states[-1][index]), atol=1e-3)
        grid.get_by_role("radio", name="Unit 37:").click()
        assert page.locator("#play-unit").text_content() == f"unit 37 of {'HC'[index]}"
        values = [shown_value(state[index][37]) for state in states]
        np.testing.assert_allclose(shades(page.locator("#play-text")), values, atol=1e-3)
        story = page.locator("#play-story")
        passage = story.text_content()
        assert passage == NETWORKS[cell]["passage"]
        _, read = computed(path, passage)
        values = np.array([shown_value(state[index][37]) for state in read])
        np.testing.assert_allclose(shades(story), values, atol=1e-3)
        letters = np.array([*passage])
        means = {
            {" ": "space", "\n": "line"}.get(letter, letter): values[letters == letter].mean()
            for letter in set(passage)
        }
        rows = [row.split() for row in page.locator("#play-means li").all_inner_texts()]
        shown = {name: float(text.replace("−", "-")) for name, text in rows}
        assert shown == pytest.approx(means, abs=6e-3)
        assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_page_writes_once_by_itself(open_page):
    page = open_page()
    page.clock.install()
    page.reload()
    assert page.locator("#play-play").get_by_role("button", name="Stop").is_visible()
    page.clock.run_for(60_000)
    assert len(text_of(page)) == 200
    assert page.get_by_role("button", name="Run").is_visible()
    page = open_page(reduced_motion="reduce")
    page.wait_for_timeout(300)
    assert text_of(page) == NETWORKS["lstm"]["expected"]["prefix"]


def test_run_writes_until_it_is_stopped(open_page):
    page = open_page(reduced_motion="reduce")
    page.get_by_role("button", name="Run").click()
    page.wait_for_function("document.querySelector('#play-text').children.length > 20")
    page.locator("#play-play").get_by_role("button", name="Stop").click()
    length = len(text_of(page))
    page.wait_for_timeout(400)
    assert len(text_of(page)) == length
    page.get_by_role("button", name="Back to the prefix").click()
    step(page, 1)
    expect(page.locator("#play-status")).to_have_text(re.compile(r"Next character: \S+"))
    assert len(text_of(page)) < 20
    page.get_by_role("button", name="Run").click()
    page.get_by_label("Prefix", exact=True).fill("a")  # typing also stops the run
    assert page.get_by_role("button", name="Run").is_visible()
    page.wait_for_timeout(300)
    assert text_of(page) == "a"


def test_page_shows_differences_and_held_out_perplexities(open_page):
    page = open_page()
    difference = page.locator("#play-difference").text_content()
    assert re.fullmatch(r"\d · 10−[5-9]", difference), difference
    for saved in NETWORKS.values():
        row = page.get_by_role("row", name="Perplexity on held-out text")
        assert f"{saved['valid_perplexity']:.2f}" in row.text_content()


@LOOKS
def test_page_is_legible_and_accessible(open_page, width, scheme):
    page = open_page(width, color_scheme=scheme, has_touch=width < 500)
    use(page, "lstm", temperature=0)  # the LSTM's view contains all elements of the other views
    step(page, 30)
    page.get_by_role("radio", name="Unit 20:").last.click()
    for size in ("width", "height"):  # large enough for a finger or a mouse pointer
        unit = page.get_by_role("radio", name="Unit 20:").first.bounding_box()
        assert unit[size] >= (20 if width < 500 else 16)
        assert page.locator("#play-next button").first.bounding_box()[size] >= 24
    assert_legible(page, "play", ".play :is(button, input)")
