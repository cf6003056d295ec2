"""Exact mode: the same bits in every backend, and in a run that changes backend on its way."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rnn_scratch import api, exact, registry
from rnn_scratch.check.whole import built_in_text
from rnn_scratch.contract import Options, RNNScratchError, Update
from rnn_scratch.initial import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.settings import make
from rnn_scratch.text import minibatches, vocabulary

# The clip acts in some of these updates, and not in others: a test below counts.
SETTINGS = {
    "corpus": "tide-clock", "exact": True, "num_hiddens": 48, "batch_size": 8, "num_steps": 12,
    "max_tokens": 2_000, "sigma": 0.05, "theta": 0.6,
}  # fmt: skip


def trained(backend, folder, epochs, **changed):
    run = api.train(backend, run=folder, num_epochs=epochs, **{**SETTINGS, **changed})
    return exact.digest(run.arrays)


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_all_backends_end_with_the_same_bits(asked_backends, tmp_path, sampling):
    digests = {
        name: trained(name, tmp_path / name, 30, sampling=sampling) for name in asked_backends
    }
    assert len(set(digests.values())) == 1, digests


def test_concise_models_end_with_the_same_bits(candidate, tmp_path):
    reference = trained("numpy", tmp_path / "numpy", 10)
    assert trained(candidate, tmp_path / candidate, 10, model="concise") == reference


def test_the_clip_acts_in_some_updates_of_this_training():
    settings = make({k: v for k, v in SETTINGS.items() if k != "corpus"})
    tokens, _ = built_in_text(0)
    tokens = tokens[: settings.max_tokens]
    reference = registry.load("numpy")
    model = reference.scratch(
        initial(28, settings.num_hiddens, settings.sigma, 0), Options("tanh", "float64")
    )
    acted = []
    for epoch in range(1, 31):
        state = None
        for X, Y in minibatches.of_epoch(
            tokens, settings.batch_size, settings.num_steps, "sequential", 0, epoch
        ):
            state = state or model.state(len(X), settings.num_hiddens, model.options)
            _, grads, state = reference.gradients(model, X, Y, state)
            grads, norm = reference.clip(grads, settings.theta)
            reference.update(model.params, grads, 1.0, exact.GRID)
            acted.append(norm > settings.theta)
    assert 0.1 < np.mean(acted) < 0.9


def test_a_run_that_changes_backend_ends_with_the_same_bits(asked_backends, tmp_path):
    # With four backends twelve pairs: each writes a checkpoint that each other goes on from.
    expected = trained("numpy", tmp_path / "never-changed", 8)
    for first in asked_backends:
        trained(first, tmp_path / first, 4)
    for first, second in itertools.permutations(asked_backends, 2):
        folder = tmp_path / f"{first}-{second}"
        shutil.copytree(tmp_path / first, folder)
        run = api.resume(folder, 8, backend=second)
        assert exact.digest(run.arrays) == expected, (first, second)
        assert checkpoint.load(folder / checkpoint.FILE).epoch == 8
        assert [row.backend for row in run.history] == [first] * 4 + [second] * 4


def test_float32_is_refused():
    with pytest.raises(RNNScratchError, match="float64 in exact mode"):
        make({"exact": True, "dtype": "float32"})
    assert make({"exact": True}).dtype == "float64"


def test_the_parameters_move_on_the_grid():
    reference = registry.load("numpy")
    arrays = {name: np.zeros_like(values) for name, values in initial(5, 3, 1.0, 0).items()}
    model = reference.scratch(arrays, Options("tanh", "float64"))
    batches = [(np.array([[1, 2, 3]]), np.array([[2, 3, 4]]))]
    reference.train_epoch(model, batches, Update(0.7, None, exact.GRID), True)
    moved = np.concatenate([values.ravel() for values in model.params.values()]) / exact.GRID
    assert np.any(moved)
    np.testing.assert_array_equal(moved, np.round(moved))


def test_digests_tell_one_bit():
    arrays = initial(5, 3, 1.0, 0)
    before = exact.digest(arrays)
    assert exact.digest({name: values.copy() for name, values in arrays.items()}) == before
    arrays["b_q"][2] = np.nextafter(arrays["b_q"][2], 1)
    assert exact.digest(arrays) != before
    arrays["b_q"][2] = 0
    assert exact.digest(arrays) == before
    assert exact.digest({n: v.astype(np.float32) for n, v in arrays.items()}) != before


def test_vocabulary_of_the_built_in_text_is_what_this_file_thinks():
    tokens, _ = built_in_text(0)
    assert len(vocabulary.build("".join(map(chr, tokens)))) == 28


def test_check_exact_at_the_command_line(asked_backends, capsys):
    from rnn_scratch.cli.main import main

    # A text too long for a command line, as a book is.
    Path("long.txt").write_text("it was a long and quiet winter. " * 8_000, encoding="utf-8")
    small = ["--text", "long.txt", "--num-hiddens", "16", "--epochs", "4", "--every", "2"]
    with pytest.raises(SystemExit) as left:
        main(["check", *asked_backends, "--exact", "--json", *small])
    found = json.loads(capsys.readouterr().out)
    assert left.value.code == 0
    assert found["equal"]
    assert sorted(found["backends"]) == sorted(asked_backends)
    for rows in found["backends"].values():
        assert [row["epoch"] for row in rows] == [0, 2, 4]
        assert len({row["digest"] for row in rows}) == 3
