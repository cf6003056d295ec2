"""The page's JavaScript computes the same numbers as the Python code: `nox -s browser`."""

import hashlib
import itertools
import json
import re

import javascript
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import CLONE, RECORDS
from measure import digests

from rnn_scratch import api, contract, exact, registry
from rnn_scratch.check import draws, functions, runner
from rnn_scratch.cli.train import train
from rnn_scratch.contract import Options
from rnn_scratch.parameters import initial, trained_arrays
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches, vocabulary
from rnn_scratch.training import loop as training
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

RECORD = RECORDS / "digests.json"
STORY = books.load(books.BUILT_IN).content
# The story in Greek letters, with a character that UTF-16 encodes as a surrogate pair.
OTHER = "".join(chr(0x3B1 + ord(c) - ord("a")) if c.islower() else c for c in STORY)
OTHER = OTHER.replace("\n", " 🜚\r\n")
FIXED = {"num_hiddens": 16, "num_epochs": 3, "exact": True}
TRAIN = """(settings, text) => {
    const training = begin({ ...FIXED, ...settings }, text), digests = [];
    while (digests.length < settings.num_epochs) {
        if (!advance(training)) continue;
        digests.push(digest(trained_arrays(training.model)));
        begin_epoch(training);
    }
    return digests;
}"""


@pytest.fixture(scope="module")
def process():
    process = javascript.start()
    yield process
    process.stdin.close()
    assert process.wait(10) == 0


@pytest.fixture
def call(process):
    return lambda name, *values: javascript.call(process, name, *values)[0]


def page_settings(settings):
    """Return the settings that the page offers, as a dict."""
    names = (*FIXED, "cell", "optimizer", "lr", "theta", "sampling", "normalize", "seed")
    return {name: getattr(settings, name) for name in names}


def write(folder, text):
    """Write `text` to a file, as a user would; return the text that the core reads from it."""
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return books.read_file(path)


def test_script_defines_only_numpy_functions():
    source = javascript.SCRIPTS[1].read_text(encoding="utf-8")
    folder = CLONE / "backends" / "numpy"
    files = (folder / f"{name}.py" for name in ("scratch", "cells", "deep"))
    numpy = "".join(path.read_text(encoding="utf-8") for path in files)
    expected = re.findall(r"^def (\w+)", numpy, re.MULTILINE)
    # Helper functions of `step`, which handles all networks.
    extra = {"activation", "slope", "linear_backward"}
    assert set(re.findall(r"^function (\w+)", source, re.MULTILINE)) <= {*expected, *extra}
    assert len(source.splitlines()) <= 350


def test_scripts_pass_the_check(process):
    backend, rows = javascript.backend(process), []
    omitted = (functions.tensor, functions.make_exact)
    checks = [check for check in runner.CHECKS["scratch"] if check not in omitted]
    for draw in draws.draw_all():
        if draw.options.dtype == "float64":
            case = draws.make_case("javascript", backend, "scratch", draw)
            rows += [row for check in checks for row in case.run(check)]
    assert len(rows) > 400
    assert [row for row in rows if not row.passed] == []


@pytest.mark.parametrize("cell", contract.CELLS)
@pytest.mark.parametrize("layers", [{}, {"num_layers": 2, "embedding": 5}])
def test_influence_of_a_character_is_a_derivative(call, cell, layers):
    options = Options(9, 6, cell, dtype="float64", **layers)
    numpy, arrays = registry.load("numpy"), initial(options, 0.5, 3)
    tokens, token, change = [1, 4, 4, 0, 8, 2], 5, 1e-6

    def logit(scales):
        state = numpy.scratch.state(1, options)
        for earlier_token, scale in zip(tokens, scales):
            x = scale * numpy.scratch.encode(np.array([earlier_token]), arrays)
            logits, state = numpy.deep.deep_step(x, state, arrays, options)
        return logits[0, token]

    scales = 1 + change * np.eye(len(tokens))
    expected = [(logit(row) - logit(2 - row)) / (2 * change) for row in scales]
    influence = """(tokens, token, count, params, options) =>
        influence(read(tokens, { params, options }), token, count, { params, options })"""
    for count in (100, 4):
        values = call(influence, tokens, token, count, arrays, options)
        np.testing.assert_allclose(values, expected[-count:], rtol=1e-6, atol=1e-9)
    assert np.abs(expected).min() > 1e-5


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_minibatches_and_masks_match_the_core(call, sampling):
    settings = Settings(sampling=sampling, num_hiddens=3, num_layers=2, dropout=0.3, seed=2**32 - 1)
    tokens = np.arange(5000)
    expected = list(minibatches.epoch_batches(tokens, settings, 2))
    names = ("batch_size", "num_steps", "seed", "sampling", "dropout", "num_layers", "num_hiddens")
    values = {name: getattr(settings, name) for name in names}
    batches = call("epoch_batches", tokens, values, 2)
    assert len(batches) == len(expected) > 2
    for batch, script_batch in zip(expected, batches):
        assert script_batch["X"] == batch.X.tolist()
        assert script_batch["Y"] == batch.Y.tolist()
        masks = np.array(script_batch["masks"])
        np.testing.assert_array_equal(masks.astype(np.float32), batch.masks)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 1000])
def test_sha256_matches_hashlib(call, length):
    text = "".join(chr(33 + n % 90) for n in range(length))
    digest = call("(text) => sha256([new TextEncoder().encode(text)])", text)
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_texts_and_vocabularies_match_the_core(call, tmp_path):
    for text in (STORY, OTHER, "\ufeffOne\r two\r\n\n  THREE 4! ﬁ🜚"):
        content = write(tmp_path, text).content
        for mode in ("chapter", "none"):
            expected = vocabulary.normalize(content, mode)
            assert call("normalize", text, mode) == expected
            assert call("vocabulary", expected) == vocabulary.build(expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize(
    ("text", "seed"), [(STORY, 0), (OTHER, 0), (STORY, 2**32 - 1)], ids=["story", "other", "seed"]
)
def test_exact_training_ends_at_the_numpy_digest(call, tmp_path, text, seed, cell, optimizer):
    changes = {"cell": cell, "optimizer": optimizer, "seed": seed}
    changes["normalize"] = "chapter" if text is STORY else "none"
    settings = Settings(**changes, **FIXED)
    setup = prepare_run(settings, Runtime("numpy", threads=1), write(tmp_path, text))
    epochs = training.epochs(setup)
    expected = [exact.digest(trained_arrays(setup.model)) for _ in epochs]
    assert call(TRAIN, page_settings(settings), text) == expected


def test_recorded_digests_match_numpy():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record["offered"] == {name: [*values] for name, values in digests.OFFERED.items()}
    every = itertools.product(*digests.OFFERED.values())
    assert [*record["digests"]] == [" ".join(map(str, values)) for values in every]
    assert {len(row) for row in record["digests"].values()} == {digests.EPOCHS}
    values = {"cell": "gru-after", "num_hiddens": 16, "optimizer": "adam", "sampling": "random"}
    assert digests.digests(**values) == record["digests"][" ".join(map(str, values.values()))]


def test_command_matches_the_page_settings(call, monkeypatch):
    received = {}
    monkeypatch.setattr(api, "train", lambda **kwargs: received.update(kwargs))
    for changes in (
        {"corpus": "tide-clock"},
        {"cell": "gru-after", "optimizer": "adam", "lr": 0.002, "normalize": "none"},
        {"lr": 0.25, "theta": None, "sampling": "random", "num_hiddens": 64, "seed": 7},
    ):
        settings = Settings(**{**FIXED, **{n: v for n, v in changes.items() if n != "corpus"}})
        line = call("command", {**page_settings(settings), "corpus": changes.get("corpus")}, 7)
        received.clear()
        CliRunner().invoke(train, line.split()[2:], catch_exceptions=False)
        text = {name: received.pop(name) for name in ("corpus", "text") if name in received}
        expected = {"corpus": "tide-clock"} if "corpus" in changes else {"text": "text.txt"}
        assert {name: str(value) for name, value in text.items()} == expected
        assert received.pop("backend") == "numpy"
        for name in ("report", "workers", "run"):
            received.pop(name, None)
        assert Settings(**received) == Settings(**{**page_settings(settings), "num_epochs": 7})


def test_invalid_texts_get_error_messages(call):
    begin = """(settings, text) => {
        try { begin({ ...FIXED, ...settings }, text, []); } catch (error) { return error.message; }
    }"""
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))
    for text, changes, expected in (
        ("", {}, "There is no text."),
        (" \n", {}, "There is no text."),
        ("1893", {}, "no letters from a to z"),
        ("a" * 1154, {}, "The text has 1,154 characters to train on"),
        ("a" * (10**6 + 1), {}, "at most 1,000,000"),
        (many, {"normalize": "none", "num_hiddens": 128}, "5,001 different characters"),
    ):
        message = call(begin, page_settings(Settings(**{**FIXED, **changes})), text)
        assert expected in message, message
    assert call(begin, page_settings(Settings(**FIXED)), STORY) is None
    prefix = """() => {
        try { encode_prefix("", ["<unk>", "a"]); } catch (error) { return error.message; }
    }"""
    assert "at least one character" in call(prefix)
