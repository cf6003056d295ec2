"""Exact mode: the same bits in every backend, and in a run that changes its backend."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import skip_without, variants

from rnn_scratch import api, exact, registry
from rnn_scratch.check.whole import built_in_text
from rnn_scratch.cli.main import main
from rnn_scratch.contract import VARIANTS, Options, RNNScratchError, Update
from rnn_scratch.initial import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.settings import make
from rnn_scratch.text import minibatches, vocabulary

# Some of these updates are clipped, and others are not: a test below counts them.
SETTINGS = {
    "corpus": "tide-clock",
    "exact": True,
    "num_hiddens": 48,
    "batch_size": 8,
    "num_steps": 12,
    "max_tokens": 2_000,
    "sigma": 0.05,
    "theta": 0.6,
}


def trained(backend, folder, epochs, **changes):
    run = api.train(backend, run=folder, num_epochs=epochs, **{**SETTINGS, **changes})
    return exact.digest(run.arrays)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """A function that returns the reference's digest, which it trains for once."""
    digests = {}

    def reference(epochs, **changes):
        key = (epochs, *changes.items())
        if key not in digests:
            digests[key] = trained(
                "numpy", tmp_path_factory.mktemp("numpy") / "run", epochs, **changes
            )
        return digests[key]

    return reference


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_every_backend_ends_with_the_same_bits(
    backend_name, device, tmp_path, sampling, references
):
    skip_without(registry.load(backend_name), device, "float64")
    digest = trained(backend_name, tmp_path / "run", 15, sampling=sampling, device=device)
    assert digest == references(15, sampling=sampling)


@pytest.mark.parametrize("model", VARIANTS[1:])
def test_every_variant_ends_with_the_same_bits(backend_name, device, tmp_path, model, references):
    skip_without(registry.load(backend_name), device, "float64")
    try:
        digest = trained(backend_name, tmp_path / "run", 10, model=model, device=device)
    except registry.NotOffered:
        pytest.skip(f"{backend_name} has no {model} model")
    assert digest == references(10)


def test_some_updates_of_this_training_are_clipped_and_others_are_not():
    settings = make({name: value for name, value in SETTINGS.items() if name != "corpus"})
    tokens, _ = built_in_text(0)
    scratch = registry.load("numpy").scratch
    arrays = initial(28, settings.num_hiddens, settings.sigma, 0)
    model = scratch.build(arrays, Options(settings.num_hiddens, dtype="float64"))
    clipped = []
    for epoch in range(1, 16):
        state = None
        for X, Y in minibatches.of_epoch(tokens[: settings.max_tokens], settings, epoch):
            state = state or model.state(len(X))
            _, grads, state = scratch.gradients(model, X, Y, state)
            grads, norm = scratch.clip(grads, settings.theta)
            scratch.update(model.params, grads, 1.0, exact.GRID)
            clipped.append(norm > settings.theta)
    assert 0.1 < np.mean(clipped) < 0.9


def test_a_run_that_changes_its_backend_ends_with_the_same_bits(
    backend_names, tmp_path, references
):
    # With four backends twelve pairs: each writes a checkpoint that each other one continues.
    for first in backend_names:
        trained(first, tmp_path / first, 4)
    for first, second in itertools.permutations(backend_names, 2):
        folder = tmp_path / f"{first}-{second}"
        shutil.copytree(tmp_path / first, folder)
        run = api.resume(folder, 8, backend=second)
        assert exact.digest(run.arrays) == references(8), (first, second)
        assert checkpoint.load(folder / checkpoint.FILE).epoch == 8
        assert [row.backend for row in run.history] == [first] * 4 + [second] * 4


def test_float32_is_refused():
    with pytest.raises(RNNScratchError, match="float64 in exact mode"):
        make({"exact": True, "dtype": "float32"})
    assert make({"exact": True}).dtype == "float64"


def test_the_parameters_move_on_the_grid():
    scratch = registry.load("numpy").scratch
    arrays = {name: np.zeros_like(values) for name, values in initial(5, 3, 1.0, 0).items()}
    model = scratch.build(arrays, Options(3, dtype="float64"))
    batches = [(np.array([[1, 2, 3]]), np.array([[2, 3, 4]]))]
    scratch.train_epoch(model, batches, Update(0.7, None, exact.GRID), True)
    moved = np.concatenate([values.ravel() for values in model.params.values()]) / exact.GRID
    assert np.any(moved)
    np.testing.assert_array_equal(moved, np.round(moved))


def test_a_digest_depends_on_every_bit():
    arrays = initial(5, 3, 1.0, 0)
    before = exact.digest(arrays)
    assert exact.digest({name: values.copy() for name, values in arrays.items()}) == before
    arrays["b_q"][2] = np.nextafter(arrays["b_q"][2], 1)
    assert exact.digest(arrays) != before
    arrays["b_q"][2] = 0
    assert exact.digest(arrays) == before
    assert exact.digest({n: v.astype(np.float32) for n, v in arrays.items()}) != before


def test_vocabulary_of_the_built_in_text_is_what_this_file_assumes():
    tokens, _ = built_in_text(0)
    assert len(vocabulary.build("".join(map(chr, tokens)))) == 28


def check_exact(capsys, *arguments):
    # A text too long for a command line, as a book is.
    Path("long.txt").write_text("it was a long and quiet winter. " * 8_000, encoding="utf-8")
    small = ["--text", "long.txt", "--num-hiddens", "16", "--epochs", "4", "--every", "2"]
    with pytest.raises(SystemExit) as done:
        main(["check", *arguments, "--exact", "--json", *small])
    return done.value.code, json.loads(capsys.readouterr().out)


def test_check_exact_compares_backends(backend_names, capsys):
    code, answer = check_exact(capsys, *backend_names)
    assert code == 0
    assert answer["equal"]
    assert [run["backend"] for run in answer["runs"]] == list(backend_names)
    assert {run["model"] for run in answer["runs"]} == {"scratch"}
    for run in answer["runs"]:
        assert [row["epoch"] for row in run["digests"]] == [0, 2, 4]
        assert len({row["digest"] for row in run["digests"]}) == 3
    assert len({json.dumps(run["digests"][-1]["digest"]) for run in answer["runs"]}) == 1


def test_check_exact_compares_variants_and_runs_on_a_device(backend_name, device, capsys):
    skip_without(registry.load(backend_name), device, "float64")
    models = [argument for model in VARIANTS for argument in ("--model", model)]
    code, answer = check_exact(capsys, backend_name, *models, "--device", device)
    assert (code, answer["equal"]) == (0, True)
    outcomes = {run["model"]: run["outcome"] for run in answer["runs"]}
    offered = variants(backend_name)
    assert outcomes == {m: "trained" if m in offered else "not offered" for m in VARIANTS}


def test_check_exact_fails_where_nothing_can_be_trained(capsys):
    code, answer = check_exact(capsys, "numpy", "--model", "concise")
    assert (code, answer["equal"]) == (1, False)
    (run,) = answer["runs"]
    assert (run["outcome"], run["digests"]) == ("not offered", [])
