"""Training: what goes on exactly goes on exactly, and what diverges stops in words."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    SETTINGS,
    SMALL,
    assert_same,
    figures,
    here,
    hidden_files,
    history,
    options,
    parameters,
)

import rnn_scratch
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.text import corpus

STORY = corpus.load("tide-clock", print).content


def train(backend_name, num_epochs, **more):
    return rnn_scratch.train(backend_name, num_epochs=num_epochs, **{**SMALL, **more})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_four_epochs_and_four_more_are_eight(backend_name, sampling, dtype):
    # The clip acts in many updates: its norm is a sum over all parameters, in whatever order.
    how = {"sampling": sampling, "dtype": dtype, "valid_tokens": 60, "threads": 1,
           "num_hiddens": 24, "max_tokens": 1200, "theta": 0.1}  # fmt: skip
    whole = train(backend_name, 8, **how)
    parts = train(backend_name, 4, **how)
    done = rnn_scratch.resume(parts, 8, threads=1)
    assert done.folder == parts.folder
    assert_same(parameters(done), parameters(whole))
    assert_same(done.arrays, whole.arrays)
    assert figures(done.folder) == figures(whole.folder)
    assert len(done.history) == 8
    assert [s["to_epoch"] for s in done.record["sessions"]] == [4, 8]
    assert done.record["sessions"][-1]["predictions"] == whole.record["sessions"][-1]["predictions"]
    # Had the epochs been alike, the offsets and the shuffles would not have been tried.
    assert len({row["loss"] for row in history(whole.folder)}) == 8


def test_concise_models_go_on_as_exactly(candidate):
    whole = train(candidate, 4, model="concise")
    parts = train(candidate, 2, model="concise")
    done = rnn_scratch.resume(parts, 4)
    assert done.record["sessions"][-1]["model"] == "concise"
    assert_same(parameters(done), parameters(whole))
    # What it saved is the contract's, and so any other backend's.
    assert rnn_scratch.predict(done, "the ", 8, backend="numpy").startswith("the ")


@pytest.mark.parametrize("numpy_first", [True, False])
def test_a_run_goes_on_in_another_backend(candidate, numpy_first):
    first, second = ("numpy", candidate) if numpy_first else (candidate, "numpy")
    how = {"dtype": "float64", "sigma": 0.1}
    expected = train(first, 6, **how)
    done = rnn_scratch.resume(train(first, 3, **how), 6, backend=second)
    for name, values in parameters(expected).items():
        np.testing.assert_allclose(parameters(done)[name], values, rtol=0, atol=1e-12)
    assert [row["backend"] for row in history(done.folder)] == [first] * 3 + [second] * 3
    texts = {rnn_scratch.predict(done, "the ", 30, backend=name) for name in (first, second)}
    assert len(texts) == 1


def test_what_lies_beyond_the_checkpoint_is_cut(backend_name):
    whole, parts = train(backend_name, 6), train(backend_name, 3)
    path = parts.folder / "history.jsonl"
    # As after a kill between the two writes, and in the middle of one.
    beyond = (whole.folder / "history.jsonl").read_bytes().splitlines(keepends=True)[3]
    path.write_bytes(path.read_bytes() + beyond + b'{"epoch": 5, "lo')
    (parts.folder / ".checkpoint.safetensors.abcdef.part").write_bytes(b"half")
    done = rnn_scratch.resume(parts.folder, 6)
    assert figures(done.folder) == figures(whole.folder)
    assert_same(parameters(done), parameters(whole))
    assert hidden_files(done.folder) == []


@pytest.mark.parametrize(("setting", "value"), [
    ("lr", 0.5), ("theta", None), ("theta", 2.0), ("seed", 1), ("num_hiddens", 13),
    ("sampling", "random"), ("dtype", "float64"), ("normalize", "none"), ("max_tokens", 0),
    ("valid_tokens", 5), ("batch_size", 5), ("num_steps", 5), ("sigma", 0.1),
    ("activation", "relu"),
])  # fmt: skip
def test_other_settings_are_refused(run_of_two, setting, value):
    before = {path.name: path.read_bytes() for path in run_of_two.iterdir()}
    with pytest.raises(RNNScratchError) as caught:
        rnn_scratch.resume(run_of_two, 4, **{setting: value})
    was = getattr(checkpoint.load(checkpoint.find(run_of_two)).settings, setting)
    option = f"--{setting.replace('_', '-')}"
    assert f"{option}: {was} before, {value} now" in str(caught.value)
    assert {path.name: path.read_bytes() for path in run_of_two.iterdir()} == before


@pytest.fixture
def run_of_two():
    return train("numpy", 2).folder


def test_the_same_settings_may_be_said_again(run_of_two):
    assert len(rnn_scratch.resume(run_of_two, 3, corpus="tide-clock", **SETTINGS).history) == 3


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_no_more_epochs_than_there_are(run_of_two, num_epochs):
    with pytest.raises(RNNScratchError, match=rf"2 epochs already; --epochs {num_epochs} asks"):
        rnn_scratch.resume(run_of_two, num_epochs)


@pytest.mark.parametrize("num_epochs", [0, -1, 2.5, None])
def test_a_number_of_epochs_that_is_none(run_of_two, num_epochs):
    with pytest.raises(RNNScratchError, match=f"--epochs is {num_epochs}"):
        rnn_scratch.resume(run_of_two, num_epochs)


def test_an_unknown_setting(run_of_two):
    with pytest.raises(RNNScratchError, match="no setting speed"):
        rnn_scratch.resume(run_of_two, 4, speed=1)
    with pytest.raises(RNNScratchError, match="no setting speed"):
        rnn_scratch.train("numpy", speed=1)


def test_a_text_that_moved(tmp_path):
    text, moved = tmp_path / "text.txt", tmp_path / "moved.txt"
    text.write_text(STORY)
    parts = rnn_scratch.train("numpy", text=text, num_epochs=2, **SETTINGS)
    whole = rnn_scratch.train("numpy", text=text, num_epochs=4, **SETTINGS)
    shutil.move(text, moved)
    with pytest.raises(RNNScratchError, match=r"Cannot read .*text.txt: No such file"):
        rnn_scratch.resume(parts, 4)
    assert_same(parameters(rnn_scratch.resume(parts, 4, text=moved)), parameters(whole))


def test_a_text_that_changed(tmp_path):
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(STORY)
    run = rnn_scratch.train("numpy", text=text, num_epochs=2, **SETTINGS)
    text.write_text(STORY + "!")  # which its normalisation would take away
    other.write_text(STORY.lower())
    for given in ({}, {"text": text}, {"text": other}):
        with pytest.raises(RNNScratchError, match="not the one that the run was started with"):
            rnn_scratch.resume(run, 4, **given)
    # What counts is what it says, and not where it is.
    assert len(rnn_scratch.resume(run, 3, corpus="tide-clock").history) == 3


@pytest.mark.parametrize("content", [STORY.replace("e", "x"), STORY + "!"])
def test_a_checkpoint_of_another_text(run_of_two, tmp_path, content):
    text = tmp_path / "text.txt"
    text.write_text(content)  # with another vocabulary; with the same one
    other = rnn_scratch.train("numpy", text=text, num_epochs=2, **SETTINGS)
    shutil.copy(checkpoint.find(other.folder), checkpoint.find(run_of_two))
    with pytest.raises(RNNScratchError, match="comes from another text"):
        rnn_scratch.resume(run_of_two, 4)


def test_a_run_s_checkpoint_is_no_run(run_of_two, tmp_path):
    for path in (run_of_two / "checkpoint.safetensors", tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RNNScratchError, match="is not the folder of a run"):
            rnn_scratch.resume(path, 4)


# NumPy warns of each overflow; it is told in our words, and only once.
quietly = pytest.mark.filterwarnings("error")
DIVERGING = {"lr": 1e6, "activation": "relu", "sigma": 10.0}


@quietly
def test_divergence_stops_with_what_to_try(capfd, backend_name):
    done = here(capfd, "train", "--backend", backend_name, "--no-clip",
                *options(run="r", num_epochs=3, **SMALL, **DIVERGING))  # fmt: skip
    assert done.code == 1
    assert done.err.startswith("Error: The loss is no longer finite in epoch 1")
    for word in ("--lr than 1e+06", "leave out --no-clip", "--sigma than 10", "epoch 0 is kept"):
        assert word in done.err
    assert checkpoint.load(checkpoint.find("r")).epoch == 0
    session = run_folder.read(Path("r"))["sessions"][0]
    assert session["outcome"] == "failed"
    assert "no longer finite" in session["reason"]


@quietly
def test_divergence_in_the_held_out_text_alone(capfd, backend_name):
    # One minibatch in the epoch: its loss is finite, and after it nothing is any more.
    settings = {**SMALL, **DIVERGING, "batch_size": 50, "valid_tokens": 100}
    done = here(capfd, "train", "--backend", backend_name, "--no-clip",
                *options(run="r", num_epochs=3, **settings))  # fmt: skip
    assert done.code == 1
    assert "no longer finite in epoch 1" in done.err
    assert history("r") == []


@quietly
def test_the_last_good_checkpoint_is_kept(backend_name):
    # Each epoch multiplies the parameters; a few are still finite.
    settings = {**SMALL, "lr": 3e3, "activation": "relu", "sigma": 0.5, "batch_size": 30}
    with pytest.raises(RNNScratchError) as caught:
        rnn_scratch.train(backend_name, num_epochs=500, run="r", theta=None, **settings)
    epoch = int(re.search(r"checkpoint of epoch (\d+) is kept", str(caught.value))[1])
    assert caught.value.exit_code == 1
    assert epoch >= 1
    saved = checkpoint.load(checkpoint.find("r"))
    assert saved.epoch == epoch == history("r")[-1]["epoch"]
    assert all(np.isfinite(array).all() for array in saved.arrays.values())


@quietly
def test_a_perplexity_too_large_for_a_number(capfd):
    settings = {**SMALL, "lr": 0.01, "activation": "relu", "sigma": 9.0, "dtype": "float64"}
    done = here(capfd, "train", "--backend", "numpy", *options(run="r", num_epochs=1, **settings))
    assert (done.code, done.err) == (0, "")
    assert done.out.count("perplexity above 1e300") == 2
    assert history("r")[0]["perplexity"] is None
    assert history("r")[0]["loss"] > 700
    listed = here(capfd, "runs", ".")
    assert "above 1e300" in listed.out


def test_clipping_and_its_absence_both_count(backend_name):
    clipped, loosely, not_at_all = (
        parameters(train(backend_name, 2, theta=theta)) for theta in (0.01, 1e9, None)
    )
    assert_same(loosely, not_at_all)
    assert not np.array_equal(clipped["W_hq"], loosely["W_hq"])


def test_seeds_and_samplings_train_different_models(backend_name):
    digests = {
        parameters(train(backend_name, 1, seed=seed, sampling=sampling))["W_hh"].tobytes()
        for seed in (0, 1)
        for sampling in ("sequential", "random")
    }
    assert len(digests) == 4


def test_the_number_of_threads_is_recorded():
    run = train("numpy", 1, threads=1)
    assert run_folder.read(run.folder)["sessions"][0]["threads"] == 1
    for threads in (0, -2):
        with pytest.raises(RNNScratchError, match=f"--threads is {threads}"):
            train("numpy", 1, threads=threads)
