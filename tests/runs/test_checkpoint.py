"""Checkpoints restore every bit, and corrupted checkpoints are rejected."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same, raised_message, safetensors_parts, write_safetensors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from rnn_scratch.parameters import draw_parameters
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.checkpoint import Checkpoint
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text.dataset import TextRecord
from rnn_scratch.training.events import PartialEpoch
from rnn_scratch.training.runtime import Runtime

VOCAB = ["<unk>", " ", "e", "猫"]
TEXT = TextRecord(
    corpus="file",
    origin="e.txt",
    sha256="0123456789abcdef" * 4,
    vocabulary=4,
    train_tokens=100,
    valid_tokens=0,
)
OPTIONS = model_options(Settings(num_hiddens=5), len(VOCAB))


def make(epoch=3, dtype="float32", **fields):
    settings = Settings(num_hiddens=5, dtype=dtype, theta=None)
    values = {name: v.astype(dtype) for name, v in draw_parameters(OPTIONS, 1.0, epoch).items()}
    metadata = {"vocab": VOCAB, "settings": settings, "epoch": epoch, "text": TEXT}
    metadata |= {"history_size": 7, "history_sha256": "1" * 64}
    runtime = Runtime("numpy", "scratch", "cpu", threads=1)
    return Checkpoint(**{**metadata, "runtime": runtime, "arrays": values, **fields})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / checkpoint.FILE
    checkpoint.save(path, make())
    return path


def assert_refused(path, *messages):
    error = raised_message(checkpoint.load, path)
    assert [message for message in (str(path), *messages) if message not in error] == []
    assert len(error) < 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
def test_checkpoint_restores_every_bit(tmp_path_factory, dtype, data):
    path = tmp_path_factory.getbasetemp() / f"round-trip-{dtype}"
    floats = st.floats(allow_nan=False, allow_infinity=False, width=int(dtype[5:]))
    values = {
        name: data.draw(arrays(dtype, shape, elements=floats))
        for name, shape in OPTIONS.shapes().items()
    }
    columns = {name: np.asfortranarray(array) for name, array in values.items()}
    expected = make(dtype=dtype, arrays=columns, best_epoch=2, best=values)
    checkpoint.save(path, expected)
    loaded = checkpoint.load(path)
    for tensors in (loaded.arrays, loaded.best):
        assert_same(tensors, values)
    assert list(loaded.arrays) == list(OPTIONS.shapes())
    for name in ("vocab", "settings", "epoch", "text", "runtime", "best_epoch"):
        assert getattr(loaded, name) == getattr(expected, name)


def test_safetensors_reads_arrays_and_metadata(saved):
    tensors = load_file(saved)
    assert {name: array.shape for name, array in tensors.items()} == OPTIONS.shapes()
    metadata = safetensors_parts(saved)[0]["__metadata__"]
    assert sorted(metadata) == ["checkpoint", "format", "sha256"]
    record = json.loads(metadata["checkpoint"])
    assert (record["vocab"], record["settings"]["theta"], record["epoch"]) == (VOCAB, None, 3)


def test_load_accepts_a_folder_or_a_file(saved):
    for path in (saved.parent, str(saved)):
        assert checkpoint.load(path).epoch == 3
    Path("empty").mkdir()
    for path in ("nowhere", "empty"):
        assert f"No checkpoint found at {path}" in raised_message(checkpoint.load, path)


def test_truncation_and_flipped_bits_are_detected(saved):
    content = saved.read_bytes()
    flips = [bytearray(content) for _ in content]
    for position, flipped in enumerate(flips):
        flipped[position] ^= 1 << position % 8
    ends = [*range(0, len(content), 17), 1, 7, 8, 9, len(content) - 1]
    for damaged in (*flips, *(content[:end] for end in ends), content + b"\0", b"\n" * 99):
        saved.write_bytes(damaged)
        assert_refused(saved)
    saved.write_bytes(content)
    assert checkpoint.load(saved).epoch == 3


def test_parameters_must_fit_the_settings(saved):
    values = {n: v.astype("float32") for n, v in draw_parameters(OPTIONS, 1.0, 0, "adam").items()}
    settings = Settings(num_hiddens=5, optimizer="adam")
    checkpoint.save(saved, make(settings=settings, arrays=values))
    assert checkpoint.load(saved).arrays.keys() > {"W_hh", "m.W_hh", "v.W_hh"}
    del values["v.W_hh"]
    arrays, partial = make().arrays, PartialEpoch((1.0,), (np.zeros((32, 5), "float32"),))
    for message, changes in (
        ("v.W_hh", {"settings": settings, "arrays": values}),
        ("W_hh", {"arrays": arrays | {"W_hh": arrays["W_hh"][:1]}}),
        ("b_h", {"arrays": arrays | {"b_h": arrays["b_h"].astype("int8")}}),
        ("best.b_q", {"best_epoch": 2, "best": arrays | {"b_q": np.zeros((3, 4), "float32")}}),
        ("state.0", {"incomplete": replace(partial, state=(np.zeros((1, 5), "float32"),))}),
        ("float", {"incomplete": replace(partial, losses=((1.0,),))}),
        ("vocabulary", {"vocab": ["<unk>", "ab", "c", "d"]}),
    ):
        checkpoint.save(saved, make(**changes))
        assert_refused(saved, message)


def write_metadata(path, **changes):
    """Replace entries in a checkpoint's metadata and update the digest."""
    header, data = safetensors_parts(path)
    header["__metadata__"] |= changes
    write_safetensors(path, header, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"clipping": 1}}, "clipping"),
        ({"settings": {"lr": 10**400}}, "out of range"),
        ({"epoch": -1}, "epoch"),
        ({"runtime": {"threads": 1025}}, "threads"),
        ({"vocab": "x" * 10**6}, "vocab"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_metadata_is_named(saved, change, message):
    record = json.loads(safetensors_parts(saved)[0]["__metadata__"]["checkpoint"])
    write_metadata(saved, checkpoint=json.dumps({**record, **change}))
    assert_refused(saved, message)


@pytest.mark.parametrize(
    "change",
    [
        *({"checkpoint": text} for text in ("", "x" * 2**22, "[" * 10**5)),
        *({"format": text} for text in ("", "x" * 10**6, "rnn-scratch 99")),
    ],
    ids=lambda change: str(change)[:20],
)
def test_checkpoint_of_another_version_is_refused(saved, change):
    write_metadata(saved, **change)
    message = "written by another version" if "format" in change else "damaged, or not a checkpoint"
    assert_refused(saved, message)
    save_file({"weight": np.zeros(3, np.float16)}, saved, change)
    assert_refused(saved)
