"""The checkpoint: exact to the last bit, verified when read, and never incomplete."""

import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ENDLESS, error_of, put_together, safetensors_parts
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from rnn_scratch.errors import RNNScratchError
from rnn_scratch.parameters import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.checkpoint import NOTHING, Checkpoint, Incomplete
from rnn_scratch.runs.run_folder import Mark
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.system import files
from rnn_scratch.text.dataset import TextRecord

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
    about |= {"identity": "0" * 32, "history": Mark(7, "1" * 64)}
    runtime = Runtime("numpy", "scratch", "cpu", threads=1)
    return Checkpoint(**{**about, "runtime": runtime, "arrays": values, **fields})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / checkpoint.FILE
    checkpoint.save(path, make())
    return path


def refused(path, *words):
    error = error_of(checkpoint.load, path)
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
        assert f"no checkpoint at {path}" in error_of(checkpoint.load, path)


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


STATE = np.zeros((32, 5), np.float32)
VALUES = {n: v.astype("float32") for n, v in initial(OPTIONS, 1.0, 0, "adam").items()}
WRONG = [
    *((VALUES, (Incomplete((1.0,), (), s)), "incomplete epoch") for s in (0.0, -1.0, np.nan)),
    (VALUES, Incomplete((np.inf,), (), 1.0), "incomplete epoch"),
    (VALUES, Incomplete((1.0,), (STATE[1:],), 1.0), "its tensors are"),
    (VALUES, Incomplete((1.0,), (STATE, STATE), 1.0), "its tensors are"),
    (VALUES, Incomplete((1.0,), (STATE.astype("float64"),), 1.0), "float64"),
    ({**VALUES, "more": STATE}, None, "its tensors are {'more'"),
    ({**VALUES, "W_hh": VALUES["W_hh"][:-1]}, None, "its tensors are {'W_hh': ((4, 5)"),
    ({**VALUES, "b_q": VALUES["b_q"].astype("float16")}, None, "float16"),
    ({**VALUES, "b_h": np.full(5, np.nan, np.float32)}, None, "b_h has values that are not finite"),
    (
        {name: array for name, array in VALUES.items() if name != "v.W_hh"},
        *(None, "its tensors are {} instead of {'v.W_hh': ((5, 5), 'float32')}"),
    ),
]


@pytest.mark.parametrize(("arrays", "incomplete", "words"), WRONG, ids=lambda value: str(value)[:9])
def test_tensors_that_do_not_fit(saved, arrays, incomplete, words):
    right = make(settings=Settings(num_hiddens=5, optimizer="adam"), arrays=VALUES)
    checkpoint.save(saved, right)
    assert checkpoint.load(saved).arrays.keys() > {"W_hh", "m.W_hh", "v.W_hh"}
    checkpoint.save(saved, replace(right, arrays=arrays, incomplete=incomplete or NOTHING))
    refused(saved, words)


BAD = [
    ({"settings": []}, "settings"),
    ({"settings": {"clipping": 1}}, "clipping"),
    ({"settings": {"lr": -1}}, "lr`"),
    ({"settings": {"lr": 10**400}}, "out of range"),
    ({"settings": {"num_hiddens": 6}}, "its tensors are"),
    ({"settings": {"num_hiddens": 5, "dtype": "float64"}}, "float64"),
    ({"epoch": -1}, "epoch"),
    ({"best_epoch": 2}, "its tensors are {} instead of {'best.W_xh'"),
    ({"runtime": {"threads": 0}}, "threads"),
    ({"more": 1}, "more"),
    ({"vocab": ["<unk>", " ", "e"]}, "its tensors are"),
    ({"vocab": "x" * 10**6}, "vocab"),
    ({"vocab": ["<unk>", " ", "e", "x" * 10**6]}, "vocabulary"),
    ({"vocab": ["<unk>", " ", "e", "e"]}, "vocabulary"),
]


@pytest.mark.parametrize(("change", "word"), BAD, ids=lambda value: str(value)[:40])
def test_metadata_that_does_not_fit(saved, change, word):
    header, numbers = safetensors_parts(saved)
    about = {**json.loads(header["__metadata__"]["checkpoint"]), **change}
    header["__metadata__"]["checkpoint"] = json.dumps(about)
    put_together(saved, header, numbers)
    refused(saved, word)


OTHERS = [
    *({key: text} for key in ("checkpoint", "format") for text in ("", "[" * 10**5, "x" * 2**22)),
    {"format": "pt"},
    {"format": "rnn-scratch 99"},
]


@pytest.mark.parametrize("change", OTHERS, ids=lambda change: str(change)[:20])
def test_a_checkpoint_of_another_program_or_version(saved, change):
    header, numbers = safetensors_parts(saved)
    header["__metadata__"] |= change
    put_together(saved, header, numbers)
    refused(saved, "damaged, or not a checkpoint of this version", "the version that wrote it")
    save_file({"weight": np.zeros(3, np.float16)}, saved, change)
    refused(saved, "damaged, or not a checkpoint of this version")


def test_other_files(saved):
    for content in (b"", b"not a checkpoint\n" * 50, b"\xff" * 100, b"\0" * 100):
        saved.write_bytes(content)
        refused(saved, "damaged, or not a checkpoint")
    for make in (*ENDLESS.values(), Path.mkdir):
        saved.unlink()
        make(saved)
        refused(saved)


def test_a_header_that_promises_more_than_the_file_has(saved):
    header, numbers = safetensors_parts(saved)
    saved.write_bytes(struct.pack("<Q", 2**40) + saved.read_bytes()[8:])
    refused(saved, "its header has more than")
    header["b_q"]["data_offsets"][1] += 10**11
    put_together(saved, header, numbers)
    refused(saved, "damaged")
    os.truncate(saved, saved.stat().st_size + 10**11)  # a sparse file has them
    refused(saved, "its size is not that of its tensors")
    header["b_q"]["shape"] = [header["b_q"]["shape"][0] + 10**11 // 4]
    put_together(saved, header, numbers)
    os.truncate(saved, saved.stat().st_size + 10**11)
    refused(saved, "its tensors are")


def test_a_vocabulary_of_all_characters(saved):
    """What can be written can be read: all that Unicode has assigned, but for rare ideographs."""
    points = (*range(1, 0xD800), *range(0xE000, 0x30000))
    vocab = ["<unk>", *map(chr, points)]
    settings = Settings(num_hiddens=1)
    shapes = model_options(settings, len(vocab)).shapes()
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    checkpoint.save(saved, make(vocab=vocab, settings=settings, arrays=values))
    assert checkpoint.load(saved).vocab == vocab


def test_what_could_not_be_read_is_not_written(saved):
    before = saved.read_bytes()
    for change, word in (
        ({"identity": "x" * 2000}, "identity"),
        ({"runtime": Runtime("a\nb")}, "backend"),
        ({"vocab": ["x" * 2**24]}, "more than"),
    ):
        with pytest.raises(
            RNNScratchError, match=f"is not written, .* could not be read: .*{word}"
        ):
            checkpoint.save(saved, make(**change))
    assert saved.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.replace(tmp_path / "x", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~umask
