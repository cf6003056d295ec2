"""The memory lab, opened from a folder in a browser (`nox -s browser`)."""

import functools
import re

import numpy as np
import pytest
from browser import LOOKS, assert_legible
from helpers import CLONE
from make import lab, play
from playwright.sync_api import expect

from rnn_scratch.contract import Batch

NETWORKS = play.read(CLONE / lab.SCRIPT)
pytest_plugins = ["browser"]  # defines the fixtures
# Script that returns the opacities (H, T) of a panel's canvas, from 0 to 1, and the red values.
PIXELS = """canvas => {
    const { data, width, height } = canvas.getContext("2d").getImageData(
        0, 0, canvas.width, canvas.height);
    const channel = n => Array.from({ length: height }, (_, row) =>
        Array.from({ length: width }, (_, t) => data[4 * (row * width + t) + n]));
    return [channel(3), channel(0)];
}"""


@pytest.fixture
def open_page(open_page):
    return functools.partial(open_page, "lab")


def choose(page, name, attention=False):
    page.locator(f'input[value="{name}"]').check()
    page.get_by_label("the answer looks back").set_checked(attention)


def computed(page, name, is_trained=True):
    """Return NumPy's tokens, states and gradients for the sequence on the page."""
    network = NETWORKS[name]
    tokens = page.evaluate("n => draw_tokens(n, 5)", network["num_fillers"])
    options = lab.configure(name.split()[0])._replace(dtype="float64")
    params, state = lab.arrays(network), lab.scratch.init_state(1, options)
    if not is_trained:
        params = {key: lab.arrays(NETWORKS[options.cell])[key] for key in params}
        if options.cell == "lstm":
            params["b_f"] = params["b_f"] + network["forget_bias"]
    states = lab.read(np.array([tokens]), state, params, options)
    batch = Batch(np.array([tokens]), np.array([tokens[:1]]))
    d_states, _ = lab.backpropagate(batch, states, params, options)
    return tokens, np.array(states)[1:, :, 0], np.array(d_states)[1:, :, 0]


def find_norms(d_states):
    """Return the norm of the gradient with respect to the complete state, at each step."""
    return np.linalg.norm(d_states.reshape(len(d_states), -1), axis=1)


def panel(page, title):
    return page.locator(".panels figure", has_text=title)


@pytest.mark.parametrize("name", ["rnn 0 10", "gru 0 30 attention", "lstm 3 100"])
def test_panels_and_curve_show_what_numpy_computes(open_page, name):
    page = open_page()
    choose(page, name.removesuffix(" attention"), "attention" in name)
    tokens, states, d_states = computed(page, name)
    norms = find_norms(d_states)
    for n in range(states.shape[1]):
        title = ("Hidden state H", "Cell state C")[n]
        alpha, red = page.evaluate(PIXELS, panel(page, title).locator("canvas").element_handle())
        values = (np.tanh if n else np.asarray)(states[:, n].T)
        np.testing.assert_allclose(np.array(alpha) / 255, np.abs(values), atol=0.01)
        visible = np.abs(values) > 0.02  # transparent pixels lose their color
        assert np.all((np.array(red) > 120)[visible] == (values > 0)[visible])
        canvas = panel(page, f"∂loss/∂{'HC'[n]}").locator("canvas").element_handle()
        alpha, _ = page.evaluate(PIXELS, canvas)
        sizes = np.abs(d_states[:, n].T) / norms[-1] + 1e-99
        strengths = 1 + np.log10(sizes) / 8
        np.testing.assert_allclose(np.array(alpha) / 255, strengths.clip(0, 1), atol=0.01)
    curves = ("shown", norms), ("other", find_norms(computed(page, name, is_trained=False)[2]))
    for kind, expected in curves:
        path = page.locator(f"#lab-curve path.{kind}").get_attribute("d")
        points = np.array([point.split() for point in re.split("[ML]", path)[1:]], float)
        np.testing.assert_allclose(points[:, 0], 100 * (np.arange(len(tokens)) + 0.5) / len(tokens))
        exponents = 1.5 - points[:, 1] / 100 * 14.5  # the plot reaches from 10^1.5 to 10^-13
        np.testing.assert_allclose(exponents, np.log10(expected / expected[-1]), atol=1e-9)
    page.locator("#lab-step").fill("4")
    page.locator("#lab-unit").fill("7")
    shown = panel(page, "Hidden state H").locator("output").text_content()
    assert float(shown.replace("−", "-")) == pytest.approx(states[3, 0, 7], rel=0.05)


def test_examples_show_what_their_names_say(open_page):
    page = open_page()
    arrives = {}
    for button in page.locator("#lab-examples button").all():
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        text = page.locator("#lab-training").text_content()
        part = re.search(r"; (\S+) of the query's gradient", text)[1]
        part = part.replace("·10", "e").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
        value = float(part.rstrip("%")) / (100 if "%" in part else 1)
        right = float(re.search(r"new sequences: ([\d.]+)%", text)[1])
        arrives[button.text_content().split(":")[0]] = value, right, "which is right" in text
    assert len(arrives) == 6
    assert arrives["LSTM, bias 3, 100 fillers"][0] > 0.01
    assert arrives["LSTM, bias 3, 100 fillers"][1:] == (99.6, True)
    assert arrives["RNN, 100 fillers"][0] < 1e-13
    assert not arrives["RNN, 100 fillers"][2]
    assert 0.65 < arrives["LSTM, bias 0"][0] ** (1 / 31) < 0.75
    assert arrives["LSTM, bias 5"][0] > 0.05
    assert arrives["GRU, 100 fillers"][1] == 100
    assert arrives["RNN with attention"][0] > 0.05
    page.get_by_role("button", name="New sequence").click()
    assert "begins with C" in page.locator("#lab-training").text_content()


def test_lab_works_with_the_keyboard(open_page):
    page = open_page()
    page.locator("#lab-step").focus()
    page.keyboard.press("End")
    expect(page.locator("#lab-where")).to_have_text("102 of 102: query ?")
    assert page.locator("#lab-gradient").text_content() == "100% at step 102"
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#lab-where")).to_contain_text("101 of 102: filler")
    page.locator('input[value="lstm 3 100"]').focus()
    page.keyboard.press("ArrowRight")
    assert page.locator('input[value="lstm 5 5"]').is_checked()
    expect(page.locator("#lab-where")).to_have_text("1 of 7: symbol B")
    assert page.locator("#lab-tokens").text_content().startswith("B")
    plot = panel(page, "Forget gate").locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.99)
    expect(page.locator("#lab-where")).to_contain_text("4 of 7")
    expect(page.locator("#lab-which")).to_have_text("23 (0 to 23)")


def test_play_shows_both_passes_and_then_stops(open_page):
    page = open_page()
    choose(page, "gru 0 5")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_selector('.lab[data-pass="forward"]')
    page.wait_for_selector('.lab[data-pass="backward"]')
    page.wait_for_selector(".lab:not([data-pass])")
    expect(page.locator("#lab-where")).to_have_text("1 of 7: symbol B")
    page = open_page(reduced_motion="reduce")
    assert page.get_by_role("button", name="Step", exact=True).is_visible()
    assert page.get_by_role("button", name="Play", exact=True).is_hidden()


@LOOKS
def test_page_is_legible_and_accessible(open_page, width, scheme):
    page = open_page(width, color_scheme=scheme, has_touch=width < 500)
    choose(page, "lstm 3 30", attention=True)  # shows all kinds of panels
    assert_legible(page, "lab-30", ".lab :is(button, input, canvas)")
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
