"""The checkpoint: exact bit for bit, verified when read, and never incomplete."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import raised_message, safetensors_parts, write_safetensors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from rnn_scratch.parameters import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.checkpoint import Checkpoint
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text.dataset import TextRecord
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
    values = {name: v.astype(dtype) for name, v in initial(OPTIONS, 1.0, epoch).items()}
    about = {"vocab": VOCAB, "settings": settings, "epoch": epoch, "text": TEXT}
    about |= {"history_size": 7, "history_sha256": "1" * 64}
    runtime = Runtime("numpy", "scratch", "cpu", threads=1)
    return Checkpoint(**{**about, "runtime": runtime, "arrays": values, **fields})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / checkpoint.FILE
    checkpoint.save(path, make())
    return path


def refused(path, *words):
    error = raised_message(checkpoint.load, path)
    assert [word for word in (str(path), *words) if word not in error] == []
    assert len(error) < 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(st.data())
def test_round_trip_to_the_last_bit(tmp_path_factory, dtype, data):
    path = tmp_path_factory.getbasetemp() / f"round-trip-{dtype}"
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=int(dtype[5:]))
    values = {
        name: data.draw(arrays(dtype, shape, elements=numbers))
        for name, shape in OPTIONS.shapes().items()
    }
    before = make(dtype=dtype, arrays=values, best_epoch=2, best=values)
    checkpoint.save(path, before)
    after = checkpoint.load(path)
    for read in (after.arrays, after.best):
        assert {n: v.tobytes() for n, v in read.items()} == {
            n: v.tobytes() for n, v in values.items()
        }
    assert all(array.dtype == dtype for array in after.arrays.values())
    assert list(after.arrays) == list(OPTIONS.shapes())
    for name in ("vocab", "settings", "epoch", "text", "runtime", "best_epoch"):
        assert getattr(after, name) == getattr(before, name)


def test_others_can_read_it(saved):
    arrays = load_file(saved)
    assert {name: array.shape for name, array in arrays.items()} == OPTIONS.shapes()
    metadata = safetensors_parts(saved)[0]["__metadata__"]
    assert sorted(metadata) == ["checkpoint", "format", "sha256"]
    about = json.loads(metadata["checkpoint"])
    assert (about["vocab"], about["settings"]["theta"], about["epoch"]) == (VOCAB, None, 3)


def test_it_is_read_by_folder_or_by_file(saved):
    for path in (saved.parent, str(saved)):
        assert checkpoint.load(path).epoch == 3
    Path("empty").mkdir()
    for path in ("nowhere", "empty"):
        assert f"no checkpoint at {path}" in raised_message(checkpoint.load, path)


def test_a_file_cut_anywhere_or_with_a_flipped_bit_is_detected(saved):
    whole = saved.read_bytes()
    flips = [bytearray(whole) for _ in whole]
    for position, flipped in enumerate(flips):
        flipped[position] ^= 1 << position % 8
    ends = [*range(0, len(whole), 17), 1, 7, 8, 9, len(whole) - 1]
    for damaged in (*flips, *(whole[:end] for end in ends), whole + b"\0"):
        saved.write_bytes(damaged)
        refused(saved)
    saved.write_bytes(whole)
    assert checkpoint.load(saved).epoch == 3


def test_parameters_that_do_not_fit_the_settings(saved):
    values = {n: v.astype("float32") for n, v in initial(OPTIONS, 1.0, 0, "adam").items()}
    right = make(settings=Settings(num_hiddens=5, optimizer="adam"), arrays=values)
    checkpoint.save(saved, right)
    assert checkpoint.load(saved).arrays.keys() > {"W_hh", "m.W_hh", "v.W_hh"}
    without = {name: array for name, array in values.items() if name != "v.W_hh"}
    for tensors, words in ((without, "v.W_hh"), (values | {"W_hh": values["b_h"]}, "do not fit")):
        checkpoint.save(saved, replace(right, arrays=tensors))
        refused(saved, words)


BAD = [
    ({"settings": {"clipping": 1}}, "clipping"),
    ({"settings": {"lr": 10**400}}, "out of range"),
    ({"settings": {"num_hiddens": 6}}, "do not fit"),
    ({"epoch": -1}, "epoch"),
    ({"runtime": {"threads": 0}}, "threads"),
    ({"vocab": "x" * 10**6}, "vocab"),
]


@pytest.mark.parametrize(("change", "word"), BAD, ids=lambda value: str(value)[:40])
def test_metadata_that_does_not_fit(saved, change, word):
    header, numbers = safetensors_parts(saved)
    about = {**json.loads(header["__metadata__"]["checkpoint"]), **change}
    header["__metadata__"]["checkpoint"] = json.dumps(about)
    write_safetensors(saved, header, numbers)
    refused(saved, word)


OTHERS = [
    *({key: text} for key in ("checkpoint", "format") for text in ("", "x" * 2**22)),
    {"checkpoint": "[" * 10**5},
    {"format": "rnn-scratch 99"},
]


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: str(change)[:20])
def test_a_checkpoint_of_another_program_or_version(saved, change):
    header, numbers = safetensors_parts(saved)
    header["__metadata__"] |= change
    write_safetensors(saved, header, numbers)
    refused(saved, "damaged, or not a checkpoint that this version", "the version that wrote it")
    save_file({"weight": np.zeros(3, np.float16)}, saved, change)
    refused(saved, "damaged, or not a checkpoint that this version")


def test_other_files(saved):
    for content in (b"", b"not a checkpoint\n" * 50, b"\xff" * 100, b"\0" * 100):
        saved.write_bytes(content)
        refused(saved, "damaged, or not a checkpoint")
    saved.unlink()
    saved.mkdir()
    refused(saved)


@pytest.mark.timeout(60)  # against a hang
def test_a_crafted_header_is_refused_at_once(saved):
    header, numbers = safetensors_parts(saved)
    whole = saved.read_bytes()
    saved.write_bytes(struct.pack("<Q", 2**25) + whole[8:] + bytes(2**25))
    refused(saved, "its header is too large")
    for name, value in (("data_offsets", [0, 10**11]), ("shape", [10**18] * 20_000)):
        crafted = {**header, "b_q": {**header["b_q"], name: value}}
        write_safetensors(saved, crafted, numbers)
        refused(saved, "damaged")


def test_a_vocabulary_of_all_characters(saved):
    """Read a vocabulary of all assigned characters except rare ideographs."""
    points = (*range(1, 0xD800), *range(0xE000, 0x30000))
    vocab = ["<unk>", *map(chr, points)]
    settings = Settings(num_hiddens=1)
    shapes = model_options(settings, len(vocab)).shapes()
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    checkpoint.save(saved, make(vocab=vocab, settings=settings, arrays=values))
    assert checkpoint.load(saved).vocab == vocab
