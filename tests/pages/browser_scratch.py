"""The page's implementation in JavaScript, held to the core's numbers: `nox -s browser`."""

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
from rnn_scratch.check import epochs, functions, inputs
from rnn_scratch.cli.train import train
from rnn_scratch.contract import Options
from rnn_scratch.parameters import initial, trained_arrays
from rnn_scratch.runs import training
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches, vocabulary

RECORD = RECORDS / "digests.json"
STORY = books.load(books.BUILT_IN).content
# The story with other letters, one of which UTF-16 needs two numbers for.
OTHER = "".join(chr(0x3B1 + ord(each) - ord("a")) if each.islower() else each for each in STORY)
OTHER = OTHER.replace("\n", " 🜚\r\n")
FIXED = {"num_hiddens": 16, "num_epochs": 3, "exact": True}
TRAIN = """(own, text) => {
    const training = begin({ ...FIXED, ...own }, text), digests = [];
    while (digests.length < own.num_epochs) {
        if (!advance(training)) continue;
        digests.push(digest(everything(training.model)));
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


def own(settings):
    """Settings as the page has them."""
    names = (*FIXED, "cell", "optimizer", "lr", "theta", "sampling", "normalize", "seed")
    return {name: getattr(settings, name) for name in names}


def written(folder, text):
    """A text in a file, as a user has it."""
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return books.read_file(path)


def test_its_functions_are_numpys():
    source = javascript.SCRIPTS[1].read_text(encoding="utf-8")
    folder = CLONE / "backends" / "numpy"
    files = (folder / f"{name}.py" for name in ("scratch", "cells", "deep"))
    numpy = "".join(path.read_text(encoding="utf-8") for path in files)
    expected = re.findall(r"^def (\w+)", numpy, re.MULTILINE)
    # One file is for all networks, with one `step` and one `update` for all of them.
    own = {"activation", "slope", "linear_back", "update"}
    assert set(re.findall(r"^function (\w+)", source, re.MULTILINE)) <= {*expected, *own}
    assert len(source.splitlines()) <= 350


@pytest.mark.parametrize(
    "options",
    [options for options in inputs.cases() if options.dtype == "float64"],
    ids=lambda options: "-".join((options.cell, *["more"] * (options.num_layers > 1))),
)
def test_it_computes_what_numpy_does(process, options):
    case = inputs.make_case("javascript", javascript.backend(process), "scratch", options, True)
    pieces = (*functions.FUNCTIONS, *functions.OF_OPTIMIZERS, *epochs.TRAINING)
    rows = [row for piece in pieces for row in case.rows(piece)]
    assert len(rows) > 50
    assert [row for row in rows if not row.passed] == []


@pytest.mark.parametrize("cell", contract.CELLS)
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "embedding": 5}])
def test_the_influence_of_a_character_is_its_derivative(call, cell, more):
    options = Options(9, 6, cell, dtype="float64", **more)
    numpy, arrays = registry.load("numpy"), initial(options, 0.5, 3)
    tokens, token, change = [1, 4, 4, 0, 8, 2], 5, 1e-6

    def logit(scales):
        state = numpy.scratch.state(1, options)
        for each, scale in zip(tokens, scales):
            x = scale * numpy.scratch.encode(np.array([each]), arrays)
            logits, state = numpy.deep.deep_step((x, None), state, arrays, options)
        return logits[0, token]

    scales = 1 + change * np.eye(len(tokens))
    expected = [(logit(each) - logit(2 - each)) / (2 * change) for each in scales]
    found = """(tokens, token, number, params, options) =>
        influence(read(tokens, { params, options }), token, number, { params, options })"""
    for number in (100, 4):
        values = call(found, tokens, token, number, arrays, options)
        np.testing.assert_allclose(values, expected[-number:], rtol=1e-6, atol=1e-9)
    assert np.abs(expected).min() > 1e-5


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_its_minibatches_and_masks_are_the_cores(call, sampling):
    settings = Settings(sampling=sampling, num_hiddens=3, num_layers=2, dropout=0.3, seed=2**32 - 1)
    tokens = np.arange(5000)
    expected = list(minibatches.epoch_batches(tokens, settings, 2))
    names = ("batch_size", "num_steps", "seed", "sampling", "dropout", "num_layers", "num_hiddens")
    given = {name: getattr(settings, name) for name in names}
    found = call("of_epoch", tokens, given, 2)
    assert len(found) == len(expected) > 2
    for batch, own in zip(expected, found):
        assert (own["X"], own["Y"]) == (batch.X.tolist(), batch.Y.tolist())
        masks = np.array(own["masks"])
        np.testing.assert_array_equal(masks.astype(np.float32), batch.masks)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64, 65, 1000])
def test_its_sha256_is_that_of_every_other(call, length):
    text = "".join(chr(33 + n % 90) for n in range(length))
    found = call("(text) => sha256([new TextEncoder().encode(text)])", text)
    assert found == hashlib.sha256(text.encode()).hexdigest()


def test_its_texts_and_vocabularies_are_the_cores(call, tmp_path):
    for text in (STORY, OTHER, "\ufeffOne\r two\r\n\n  THREE 4! ﬁ🜚"):
        content = written(tmp_path, text).content
        for how in ("chapter", "none"):
            expected = vocabulary.normalize(content, how)
            assert call("normalize", text, how) == expected
            assert call("vocabulary", expected) == vocabulary.build(expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize(
    ("text", "seed"), [(STORY, 0), (OTHER, 0), (STORY, 2**32 - 1)], ids=["story", "other", "seed"]
)
def test_exact_mode_ends_at_numpys_digest(call, tmp_path, text, seed, cell, optimizer):
    how = "chapter" if text is STORY else "none"
    own_settings = {"cell": cell, "optimizer": optimizer, "normalize": how, "seed": seed}
    settings = Settings(**{**own_settings, **FIXED})
    setup = set_up(settings, Runtime("numpy", threads=1), written(tmp_path, text))
    epochs = training.epochs(setup)
    expected = [exact.digest(trained_arrays(setup.model)) for _ in epochs]
    assert call(TRAIN, own(settings), text) == expected


def test_the_recorded_digests_are_those_of_numpy():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert record["offered"] == {name: [*values] for name, values in digests.OFFERED.items()}
    every = itertools.product(*digests.OFFERED.values())
    assert [*record["digests"]] == [" ".join(map(str, values)) for values in every]
    assert {len(each) for each in record["digests"].values()} == {digests.EPOCHS}
    values = {"cell": "gru-after", "num_hiddens": 16, "optimizer": "adam", "sampling": "random"}
    assert digests.digests(**values) == record["digests"][" ".join(map(str, values.values()))]


def test_the_command_trains_the_same_network(call, monkeypatch):
    given = {}
    monkeypatch.setattr(api, "train", lambda **arguments: given.update(arguments))
    for changes in (
        {"corpus": "tide-clock"},
        {"cell": "gru-after", "optimizer": "adam", "lr": 0.002, "normalize": "none"},
        {"lr": 0.25, "theta": None, "sampling": "random", "num_hiddens": 64, "seed": 7},
    ):
        settings = Settings(
            **{**FIXED, **{n: each for n, each in changes.items() if n != "corpus"}}
        )
        line = call("command", {**own(settings), "corpus": changes.get("corpus")}, 7)
        given.clear()
        CliRunner().invoke(train, line.split()[2:], catch_exceptions=False)
        text = {name: given.pop(name) for name in ("corpus", "text") if name in given}
        named = {"corpus": "tide-clock"} if "corpus" in changes else {"text": "text.txt"}
        assert {name: str(each) for name, each in text.items()} == named
        assert given.pop("backend") == "numpy"
        for name in ("report", "workers", "run"):
            del given[name]
        assert Settings(**given) == Settings(**{**own(settings), "num_epochs": 7})


def test_what_cannot_be_trained_gets_a_sentence(call):
    begun = """(own, text) => {
        try { begin({ ...FIXED, ...own }, text, []); } catch (error) { return error.message; }
    }"""
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))
    for text, changes, words in (
        ("", {}, "There is no text."),
        (" \n", {}, "There is no text."),
        ("1893", {}, "no letters from a to z"),
        ("a" * 1154, {}, "The text has 1,154 characters to train on"),
        ("a" * (10**6 + 1), {}, "at most 1,000,000"),
        (many, {"normalize": "none", "num_hiddens": 128}, "5,001 different characters"),
    ):
        message = call(begun, own(Settings(**{**FIXED, **changes})), text)
        assert words in message, message
    assert call(begun, own(Settings(**FIXED)), STORY) is None
    prefix = """() => {
        try { prefix_of("", ["<unk>", "a"]); } catch (error) { return error.message; }
    }"""
    assert "at least one character" in call(prefix)
