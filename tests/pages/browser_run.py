"""The page that `rnn-scratch play RUN` writes, opened in a real browser (`nox -s browser`)."""

import numpy as np
import pytest
from browser import SHOTS, assert_accessible
from browser_play import shades, step, text_of
from click.testing import CliRunner

import rnn_scratch
from rnn_scratch import contract, registry
from rnn_scratch.cli.inference import play
from rnn_scratch.contract import ModelConfig
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.play.page import encode, network

pytest_plugins = ["browser"]  # defines the fixtures
SMALL = {"num_hiddens": 4, "num_epochs": 1, "corpus": "tide-clock"}
MODELS = [{"cell": "rnn"}, {"cell": "lstm", "num_layers": 2}]  # the vectors check every cell
PREFIX = "The tide"
INFLUENCE = """([tokens, token, count, saved]) => {
    const model = load(saved);
    return influence(read(tokens, model), token, count, model);
}"""


def write_page(path):
    """Write a run's page with `rnn-scratch play`; return the page's path."""
    CliRunner().invoke(play, [str(path), "--no-browser"], catch_exceptions=False)
    return path / "play.html"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: "-".join(map(str, model.values())))
def test_page_generates_the_text_of_predict(open_page, tmp_path, model):
    settings = {"num_hiddens": 24, "num_epochs": 40, "optimizer": "adam", "lr": 0.02, "sigma": 0.2}
    settings |= {"normalize": "none", "embedding": 7, "output": tmp_path / "run"}
    run = rnn_scratch.train("numpy", corpus="tide-clock", **settings, **model)
    page = open_page(write_page(run.folder), color_scheme="dark", width=390)
    page.get_by_label("Prefix").fill(f"{PREFIX}é")
    assert page.get_by_text('The training text does not contain "é".').is_visible()
    page.get_by_label("Temperature").fill("0")
    step(page, 200)
    text = text_of(page)
    assert text == rnn_scratch.predict(run, PREFIX, 200)
    assert len(set(text[len(PREFIX) :])) > 3
    page.get_by_label("which characters the next one depends on").check()
    values = shades(page.locator("#play-text"))
    assert max(map(abs, values[-100:])) == 1
    assert not any(values[:-100])
    tensors = run.record.settings.num_layers * (2 if model["cell"] == "lstm" else 1)
    grids = page.get_by_role("radiogroup", name="Units of")
    assert grids.count() == tensors
    grids.last.get_by_role("radio", name="Unit 3:").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.screenshot(path=SHOTS / f"run-{'-'.join(map(str, model.values()))}.png")
    assert_accessible(page)


def logit(token, tokens, scales, arrays, options):
    """Return NumPy's logit for `token` after `tokens`, with input vectors scaled by `scales`."""
    numpy = registry.load("numpy")
    state = numpy.scratch.init_state(1, options)
    for earlier_token, scale in zip(tokens, scales):
        x = scale * numpy.scratch.encode(np.array([earlier_token]), arrays)
        logits, state = numpy.deep.deep_step(x, state, arrays, options)
    return logits[0, token]


def test_prefix_is_normalized_like_the_training_text(open_page, tmp_path):
    page = open_page(
        write_page(rnn_scratch.train("numpy", output=tmp_path / "run", **SMALL).folder)
    )
    assert page.locator("#play-story").is_hidden()  # only the site's networks have a passage
    page.get_by_label("Prefix", exact=True).fill("  The “Clock”, 1893!")
    assert text_of(page) == "the clock "
    page.get_by_label("Prefix", exact=True).fill("1893 ")
    assert text_of(page) == ""
    assert page.get_by_text("at least one letter").is_visible()
    assert page.get_by_role("button", name="Step").is_disabled()
    assert page.locator("#play-next button").first.is_hidden()
    page.get_by_label("Prefix", exact=True).fill("a")
    assert page.get_by_role("button", name="Step").is_enabled()
    assert page.get_by_text("at least one letter").is_hidden()


@pytest.mark.parametrize("layers", [{}, {"num_layers": 2, "embedding": 5}])
def test_influence_of_a_character_is_a_derivative(open_page, tmp_path, layers):
    page = open_page(
        write_page(rnn_scratch.train("numpy", output=tmp_path / "run", **SMALL).folder)
    )
    token, tokens, change = 5, [1, 4, 4, 0, 8, 2], 1e-6
    changes = change * np.eye(len(tokens))
    for cell in contract.CELLS:
        options = ModelConfig(9, 6, cell, dtype="float64", **layers)
        biased = {name: array + 0.1 for name, array in draw_parameters(options, 0.5, 3).items()}
        network = biased, options
        expected = [
            (logit(token, tokens, 1 + row, *network) - logit(token, tokens, 1 - row, *network))
            / (2 * change)
            for row in changes
        ]
        assert np.abs(expected).min() > 1e-5
        model = {"options": {**options._asdict(), "num_states": options.num_states}}
        model["params"] = {name: encode(array) for name, array in network[0].items()}
        for count in (100, 4):
            values = page.evaluate(INFLUENCE, [tokens, token, count, model])
            np.testing.assert_allclose(values, expected[-count:], rtol=1e-6, atol=1e-9)


def test_page_reports_an_unknown_cell(open_page, tmp_path, monkeypatch):
    run = rnn_scratch.train("numpy", output=tmp_path / "run", **SMALL)
    custom = {"options": {"cell": "mine", "num_states": 1}}
    monkeypatch.setattr("rnn_scratch.play.page.network", lambda saved: network(saved) | custom)
    page = open_page(write_page(run.folder))
    assert page.get_by_text('The page has no cell "mine"').is_visible()
    assert page.get_by_role("button", name="Step").is_hidden()
