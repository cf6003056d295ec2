"""Training: a resumed run matches an uninterrupted run, and a diverging run stops with advice."""

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
    require_cell,
    run_in_process,
    skip_without,
)

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check import results
from rnn_scratch.contract import VARIANTS
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.registry import NotSupportedError
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.text import books
from rnn_scratch.training import loop

STORY = books.load("tide-clock").content


def train(backend_name, num_epochs, **changes):
    return rnn_scratch.train(backend_name, num_epochs=num_epochs, **{**SMALL, **changes})


def assert_same_on(device, run, expected):
    """Compare two runs: bit for bit on the CPU, within a tolerance on other devices."""
    if device == "cpu":
        assert_same_run(run, expected)
    else:
        dtype = run.record.settings.dtype
        assert_same(
            parameters(run), parameters(expected), results.scale_tolerance(1e-12, dtype, device)
        )


# The second case of the next test; by default, only NumPy and PyTorch run it.
RANDOM = pytest.param(
    *("random", "float64"), marks=pytest.mark.frameworks(by_default=("numpy", "torch"))
)


@pytest.mark.parametrize(("sampling", "dtype"), [("sequential", "float32"), RANDOM])
def test_resumed_run_equals_an_uninterrupted_run(backend, backend_name, device, sampling, dtype):
    skip_without(backend, device, dtype)
    # Use a small theta to clip many gradients, because their norm depends on the parameter order.
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
    uninterrupted = train(backend_name, 4, **settings)
    half = train(backend_name, 2, **settings)
    result = rnn_scratch.resume(half, 4, threads=1)
    assert result.folder == half.folder
    assert_same_on(device, result, uninterrupted)
    assert_same(result.arrays, parameters(result))
    assert len(result.history) == 4
    assert [s.to_epoch for s in result.record.sessions] == [2, 4]
    runtimes = [session.runtime for session in result.record.sessions]
    assert [(runtime.device, runtime.threads) for runtime in runtimes] == [(device, 1)] * 2
    predictions = [run.record.sessions[-1].predictions for run in (result, uninterrupted)]
    assert predictions[0] == predictions[1] or device != "cpu"
    # If the losses were equal, the offsets and shuffles would not have been tested.
    assert len({row["loss"] for row in history(uninterrupted.folder)}) == 4


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_uncompiled_variants_train_equally(request, monkeypatch, backend, backend_name, variant):
    request.addfinalizer(lambda: backend.machine.set_eager(False))
    # Keep this small: each uncompiled operation takes JAX about a millisecond.
    small = {"variant": variant, "dtype": "float64", "sigma": 0.1, "num_steps": 3, "max_tokens": 60}
    try:
        compiled = train(backend_name, 2, **small)
    except NotSupportedError as error:
        pytest.skip(str(error))
    calls, clip = [], backend.scratch.clip
    monkeypatch.setattr(backend.scratch, "clip", lambda *args: calls.append(args) or clip(*args))
    eager = train(backend_name, 2, **small, eager=True)
    assert len(calls) >= 8  # a compiled update would call `clip` only during tracing
    assert eager.record.sessions[0].runtime.eager
    assert_same(parameters(eager), parameters(compiled), 1e-12)


def test_changed_settings_are_refused(small_run):
    changes = {"lr": 0.5, "theta": None, "num_hiddens": 13, "cell": "lstm", "valid_tokens": 5}
    changes |= {"optimizer": "momentum", "dropout": 0.3}
    contents = {path.name: path.read_bytes() for path in small_run.iterdir()}
    message = raised_message(rnn_scratch.resume, small_run, 4, **changes)
    settings = checkpoint.load(small_run).settings
    for name, value in changes.items():
        assert f"`{name}`: {getattr(settings, name)} before, {value} now" in message
    assert {path.name: path.read_bytes() for path in small_run.iterdir()} == contents


def test_failed_first_update_leaves_no_checkpoint(monkeypatch, capsys):
    monkeypatch.setattr(registry.load("numpy").scratch, "clip", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_in_process(capsys, "train", "--backend", "numpy", *options(**SMALL))
    assert "Checkpoint" not in capsys.readouterr().out
    run_in_process(capsys, "predict", "last").assert_error("No checkpoint found at runs")


def test_resuming_with_a_changed_text_is_refused(tmp_path):
    text, moved_text = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(STORY)
    run = rnn_scratch.train("numpy", text=text, num_epochs=2, **SETTINGS)
    shutil.move(text, moved_text)
    text.write_text(STORY + "!")  # normalization removes punctuation
    moved_text.write_text(STORY.lower())
    changed, other = "has changed since the run was started", "differs from the run's text"
    for arguments, problem in (
        ({}, changed),
        ({"text": text}, changed),
        ({"text": moved_text}, other),
    ):
        assert problem in raised_message(rnn_scratch.resume, run, 4, **arguments)
    # Only the content must match; the name may differ.
    assert len(rnn_scratch.resume(run, 3, corpus="tide-clock").history) == 3


def test_checkpoint_file_alone_is_not_resumed(small_run, tmp_path):
    for path in (small_run / "checkpoint.safetensors", tmp_path, tmp_path / "nowhere"):
        assert "is not the folder of a run" in raised_message(rnn_scratch.resume, path, 4)


# Expect the project's one error, not NumPy's overflow warnings.
without_warnings = pytest.mark.filterwarnings("error")
DIVERGING = {"lr": 1e6, "cell": "rnn-relu", "sigma": 10.0}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@without_warnings
@pytest.mark.parametrize(
    "case",
    # In the second case, the only minibatch has a finite loss, but its update diverges.
    [{}, {"batch_size": 50, "valid_tokens": 100}],
    ids=["training text", "held-out text alone"],
)
def test_divergence_stops_with_advice(capfd, monkeypatch, backend_name, case):
    require_cell(backend_name, DIVERGING["cell"])
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)  # a checkpoint after each minibatch
    settings = {**SMALL, **DIVERGING, **case, "num_epochs": 3, "theta": "none", "output": "r"}
    result = run_in_process(
        capfd, "train", "--backend", backend_name, *options(**settings)
    ).assert_exit(1)
    assert result.err.startswith("Error: Training diverged in epoch 1")
    advice = ("`--lr` (1e+06)", "omit `--theta`", "`--sigma` (10)")
    assert all(hint in result.err for hint in advice)
    has_trained = not case
    assert ("Checkpoint saved at minibatch" in result.err) == has_trained
    assert Path("r", checkpoint.FILE).exists() == has_trained
    assert history("r") == []
    (session,) = run_folder.read(Path("r")).sessions
    assert session.outcome == "failed"
    assert "not finite" in session.reason


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@without_warnings
def test_divergence_keeps_a_finite_checkpoint(backend_name):
    require_cell(backend_name, "rnn-relu")
    # Each epoch enlarges the parameters, which stay finite for a few epochs.
    settings = {**SMALL, "lr": 3e3, "cell": "rnn-relu", "sigma": 0.5, "batch_size": 30}
    with pytest.raises(RNNScratchError) as caught:
        rnn_scratch.train(backend_name, num_epochs=500, output="r", theta=None, **settings)
    epoch = int(re.search(r"Checkpoint saved at epoch (\d+)", str(caught.value))[1])
    assert caught.value.exit_code == 1
    assert epoch >= 1
    saved = checkpoint.load("r")
    assert saved.epoch == epoch == history("r")[-1]["epoch"]
    assert all(np.isfinite(array).all() for array in saved.arrays.values())
