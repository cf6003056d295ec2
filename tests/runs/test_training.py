"""Training: a resumed run equals an uninterrupted one, and divergence stops with a message."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    SETTINGS,
    SMALL,
    assert_same,
    assert_same_run,
    history,
    options,
    parameters,
    raised_message,
    run_in_process,
    skip_without,
)

import rnn_scratch
from rnn_scratch.check import results
from rnn_scratch.contract import VARIANTS
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.registry import NotOffered
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.text import books

STORY = books.load("tide-clock").content


def train(backend_name, num_epochs, **more):
    return rnn_scratch.train(backend_name, num_epochs=num_epochs, **{**SMALL, **more})


def assert_same_on(device, run, expected):
    """Compare bit for bit on the CPU; other devices may add in another order."""
    if device == "cpu":
        assert_same_run(run, expected)
    else:
        dtype = run.record.settings.dtype
        assert_same(
            parameters(run), parameters(expected), results.scale_tolerance(1e-12, dtype, device)
        )


# By default NumPy and PyTorch do it in both ways.
RANDOM = pytest.param(
    *("random", "float64"), marks=pytest.mark.frameworks(by_default=("numpy", "torch"))
)


@pytest.mark.parametrize(("sampling", "dtype"), [("sequential", "float32"), RANDOM])
def test_two_epochs_and_two_more_are_four(backend, backend_name, device, sampling, dtype):
    skip_without(backend, device, dtype)
    # Many gradients are clipped: their norm depends on the order of the parameters.
    settings = {
        "sampling": sampling,
        "dtype": dtype,
        "valid_tokens": 60,
        "threads": 1,
        "device": device,
        "num_hiddens": 24,
        "embedding": 5,
        "max_tokens": 1200,
        "theta": 0.1,
    }
    whole = train(backend_name, 4, **settings)
    half = train(backend_name, 2, **settings)
    result = rnn_scratch.resume(half, 4, threads=1)
    assert result.folder == half.folder
    assert_same_on(device, result, whole)
    assert_same(result.arrays, parameters(result))
    assert len(result.history) == 4
    assert [s.to_epoch for s in result.record.sessions] == [2, 4]
    runtimes = [session.runtime for session in result.record.sessions]
    assert [(each.device, each.threads) for each in runtimes] == [(device, 1)] * 2
    predictions = [run.record.sessions[-1].predictions for run in (result, whole)]
    assert predictions[0] == predictions[1] or device != "cpu"
    # Otherwise offsets and shuffles would not have been tested.
    assert len({row["loss"] for row in history(whole.folder)}) == 4


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("model", VARIANTS)
def test_every_variant_can_run_uncompiled(request, backend, backend_name, model):
    request.addfinalizer(lambda: backend.machine.set_eager(False))
    # Few operations, because each operation takes JAX a millisecond uncompiled.
    small = {"model": model, "dtype": "float64", "sigma": 0.1, "num_steps": 3, "max_tokens": 60}
    try:
        compiled = train(backend_name, 2, **small)
    except NotOffered as error:
        pytest.skip(str(error))
    eager = train(backend_name, 2, **small, eager=True)
    assert eager.record.sessions[0].runtime.eager
    assert_same(parameters(eager), parameters(compiled), 1e-12)


def test_other_settings_are_refused(small_run):
    others = {"lr": 0.5, "theta": None, "num_hiddens": 13, "cell": "lstm", "valid_tokens": 5}
    others |= {"optimizer": "momentum", "dropout": 0.3}
    before = {path.name: path.read_bytes() for path in small_run.iterdir()}
    message = raised_message(rnn_scratch.resume, small_run, 4, **others)
    settings = checkpoint.load(small_run).settings
    for name, value in others.items():
        assert f"`{name}`: {getattr(settings, name)} before, {value} now" in message
    assert {path.name: path.read_bytes() for path in small_run.iterdir()} == before


def test_a_text_that_moved_or_changed(tmp_path):
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(STORY)
    run = rnn_scratch.train("numpy", text=text, num_epochs=2, **SETTINGS)
    shutil.move(text, other)
    text.write_text(STORY + "!")  # normalization removes punctuation
    other.write_text(STORY.lower())
    for arguments in ({}, {"text": text}, {"text": other}):
        message = raised_message(rnn_scratch.resume, run, 4, **arguments)
        assert "not the text that the run was started with" in message
    # The content counts, not the name.
    assert len(rnn_scratch.resume(run, 3, corpus="tide-clock").history) == 3


def test_a_checkpoint_file_is_not_a_run(small_run, tmp_path):
    for path in (small_run / "checkpoint.safetensors", tmp_path, tmp_path / "nowhere"):
        assert "is not the folder of a run" in raised_message(rnn_scratch.resume, path, 4)


# NumPy warns of each overflow; the project reports one error.
without_warnings = pytest.mark.filterwarnings("error")
DIVERGING = {"lr": 1e6, "cell": "rnn-relu", "sigma": 10.0}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@without_warnings
@pytest.mark.parametrize(
    "more",
    # In the second case the only minibatch has a finite loss, and its update diverges.
    [{}, {"batch_size": 50, "valid_tokens": 100}],
    ids=["training text", "held-out text alone"],
)
def test_divergence_stops_with_what_to_try(capfd, backend_name, more):
    settings = {**SMALL, **DIVERGING, **more, "num_epochs": 3, "theta": "none", "run": "r"}
    result = run_in_process(
        capfd, "train", "--backend", backend_name, *options(**settings)
    ).assert_exit(1)
    assert result.err.startswith("Error: The loss is not finite in epoch 1")
    kept = f"The checkpoint of {checkpoint.load('r').position} is kept."
    advice = ("`lr` (1e+06)", "omit `theta`", "`sigma` (10)", kept)
    assert all(words in result.err for words in advice)
    assert checkpoint.load("r").epoch == len(history("r")) == 0
    (session,) = run_folder.read(Path("r")).sessions
    assert session.outcome == "failed"
    assert "not finite" in session.reason


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@without_warnings
def test_the_last_good_checkpoint_is_kept(backend_name):
    # Each epoch multiplies the parameters; a few are still finite.
    settings = {**SMALL, "lr": 3e3, "cell": "rnn-relu", "sigma": 0.5, "batch_size": 30}
    with pytest.raises(RNNScratchError) as caught:
        rnn_scratch.train(backend_name, num_epochs=500, run="r", theta=None, **settings)
    epoch = int(re.search(r"checkpoint of epoch (\d+) is kept", str(caught.value))[1])
    assert caught.value.exit_code == 1
    assert epoch >= 1
    saved = checkpoint.load("r")
    assert saved.epoch == epoch == history("r")[-1]["epoch"]
    assert all(np.isfinite(array).all() for array in saved.arrays.values())
