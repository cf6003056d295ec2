"""The list of runs, and the run folder: record, history, curve and checkpoint."""

import concurrent.futures
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers import SMALL, epoch_row, history, history_lines, run_in_process

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.runs.run import read_runs, resolve_run
from rnn_scratch.system.files import CorruptedFileError
from rnn_scratch.text import books

parse_strictly = partial(json.loads, parse_constant=pytest.fail)  # rejects NaN and infinity


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_run_folder_contains_record_history_and_checkpoint(backend_name, device):
    settings = {"num_epochs": 11, "valid_tokens": 50, **SMALL}
    run = rnn_scratch.train(backend_name, device=device, **settings)
    assert sorted(os.listdir(run.folder)) == [
        ".lock",
        "checkpoint.safetensors",
        "history.jsonl",
        "perplexity.png",
        "run.json",
    ]
    assert re.fullmatch(rf"runs.\d{{4}}-\d\d-\d\d-\d{{6}}-{backend_name}", str(run.folder))

    record = parse_strictly((run.folder / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["num_hiddens"] == SMALL["num_hiddens"]
    assert record["settings"]["lr"] == 1.0
    sha256 = hashlib.sha256(books.load("tide-clock").content.encode()).hexdigest()
    assert record["text"] == {
        "corpus": "tide-clock",
        "origin": "built in",
        "sha256": sha256,
        "vocabulary": 28,
        "train_tokens": 400,
        "valid_tokens": 50,
        "beginning": "there were forty one ",
    }
    (session,) = record["sessions"]
    threads = session["runtime"].pop("threads")
    runtime = {"backend": backend_name, "model": "scratch", "device": device}
    assert session["runtime"] == {**runtime, "eager": False, "workers": 1}
    assert threads >= 1
    assert session["outcome"] == "finished"
    assert (session["from_epoch"], session["to_epoch"]) == (0, 11)
    assert session["machine"]["python"] == platform.python_version()
    if backend_name in registry.BUILTIN_BACKENDS:  # elsewhere, `versions` is optional
        assert session["environment"][backend_name]
    assert [len(line) for line in session["predictions"]] == [71]

    assert (run.folder / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    saved = checkpoint.load(run.folder / "checkpoint.safetensors")
    assert saved.epoch == 11
    assert saved.text == run.record.text
    assert saved.vocab == run.vocab

    # The history has one line of strict JSON per epoch.
    fields = "type epoch loss perplexity valid_loss valid_perplexity tokens seconds backend"
    rows = [parse_strictly(line) for line in history_lines(run.folder)]
    assert [row["epoch"] for row in rows] == list(range(1, 12))
    for row in rows:
        assert list(row) == fields.split() + ["sample"] * (row["epoch"] in (*range(1, 6), 10))
        assert row["perplexity"] == pytest.approx(np.exp(row["loss"]))
        assert row["valid_perplexity"] == pytest.approx(np.exp(row["valid_loss"]))
        assert row["backend"] == backend_name
        assert row["seconds"] > 0
        # Each sequential minibatch has four rows of six tokens.
        assert row["tokens"] % 24 == 0
        assert 400 - 24 - 6 - 4 <= row["tokens"] < 400
    assert rows[9]["sample"].startswith("there were forty one ")
    assert rows[-1]["loss"] < rows[0]["loss"] < np.log(28)


def test_existing_folder_is_not_changed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(RNNScratchError, match=r"already exists.\n.*\n.*--resume mine "):
        rnn_scratch.train("numpy", output="mine", num_epochs=1, **SMALL)
    assert os.listdir("mine") == ["file"]


@pytest.mark.parametrize("folder", ["runs/r", "runs", None])
def test_impossible_folder_is_named(folder):
    Path("runs").write_text("x")
    with pytest.raises(RNNScratchError, match=r"The run folder runs\S* could not be created: "):
        rnn_scratch.train("numpy", output=folder, num_epochs=1, **SMALL)


def test_simultaneous_runs_get_different_folders():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: run_folder.create(None, "numpy"), range(40)))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)


def write_history(folder, *epochs, **fields):
    """Write a history; return its size and digest at the start and after each line."""
    rows = [epoch_row(epoch, **fields) for epoch in epochs]
    content = msgspec.json.Encoder().encode_lines(rows)
    (folder / run_folder.HISTORY).write_bytes(content)
    ends = list(itertools.accumulate(len(msgspec.json.encode(row)) + 1 for row in rows))
    return [(end, hashlib.sha256(content[:end]).hexdigest()) for end in (0, *ends)]


# Multibyte characters, and characters that end a line in Python but not in JSON.
@pytest.mark.parametrize("sample", ["猫の時計", "a\u2028b\u2029c\x85d\x0b\x0ce\r\nf\n"])
def test_truncated_history_loses_only_its_last_line(tmp_path, sample):
    path, marks = tmp_path / run_folder.HISTORY, write_history(tmp_path, 1, 2, 3, sample=sample)
    content = path.read_bytes()
    assert [epoch.sample for epoch in run_folder.read_history(tmp_path)] == [sample] * 3
    for end in range(marks[2][0], len(content) - 1):
        path.write_bytes(content[:end])
        for mark in ((), marks[2]):
            assert [epoch.epoch for epoch in run_folder.read_history(tmp_path, *mark)] == [1, 2]
        with pytest.raises(CorruptedFileError, match="does not belong to the checkpoint"):
            run_folder.read_history(tmp_path, *marks[3])


@pytest.mark.parametrize("prefix", [b"", b"\0" * 99, b"\0\n", b"{"])
def test_history_ends_at_the_checkpoint_epoch(tmp_path, prefix):
    path, marks = tmp_path / run_folder.HISTORY, write_history(tmp_path, 1, 2, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], prefix, lines[2]]))
    assert [epoch.epoch for epoch in run_folder.read_history(tmp_path, *marks[2])] == [1, 2]


@pytest.mark.parametrize(
    ("text", "damaged_text", "message"),
    [
        (b'"epoch":2', b'"epoch"  2', "JSON is malformed"),
        (b'"epoch":2', b'"epoch":"2"', "Expected `int`, got `str`"),
        (b'"epoch":2,', b"", "missing required field `epoch`"),
    ],
)
def test_damaged_line_of_a_history_is_named(tmp_path, text, damaged_text, message):
    path, marks = tmp_path / run_folder.HISTORY, write_history(tmp_path, 1, 2, 3)
    path.write_bytes(path.read_bytes().replace(text, damaged_text))
    for mark in ((), marks[3]):
        with pytest.raises(
            CorruptedFileError, match=rf"Line 2 of .*l is damaged: .*{message}"
        ) as caught:
            run_folder.read_history(tmp_path, *mark)
        assert "from a backup" in str(caught.value)


UNREADABLE = {
    "not UTF-8": b"\xff\xfe\n",
    "nested deeply": b"[" * 100_000 + b"\n",
    "half of a character": b'{"sample": "\\ud800"}\n',
    "another type": b"7\n",
    "zeros": bytes(4096) + b"\n",
    "a number of another format": b'{"format": %b}\n' % (b"9" * 4000),
}


@pytest.mark.parametrize("file", ["run.json", "history.jsonl"])
def test_list_reports_damaged_runs_and_shows_the_rest(capsys, file):
    good_run = rnn_scratch.train("numpy", num_epochs=1, **SMALL).folder
    for name, content in UNREADABLE.items():
        damaged_run = shutil.copytree(good_run, Path("runs", name))
        (damaged_run / file).write_bytes(content)
    result = run_in_process(capsys, "runs").assert_exit()
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [["1", str(good_run)]]
    assert len(result.err.splitlines()) == len(UNREADABLE)
    assert all(str(Path("runs", name)) in result.err for name in UNREADABLE)
    assert max(map(len, result.err.splitlines())) < 1000


def small(name, seed=0):
    return rnn_scratch.train(
        "numpy", output=f"runs/{name}", num_epochs=1, seed=seed, **SMALL
    ).folder


def test_list_begins_with_the_newest_run(capsys):
    folders = [small(name) for name in ("b", "c", "a")]
    result = run_in_process(capsys, "runs").assert_exit()
    head, *rows = result.out.splitlines()
    assert head.split()[:3] == ["run", "folder", "backend"]
    expected = [[name, str(folder)] for name, folder in zip("321", reversed(folders))]
    assert [row.split()[:2] for row in rows] == expected
    assert all("1/1" in row and "finished" in row and "tide-clock" in row for row in rows)


def test_numbers_name_runs_in_the_order_of_creation():
    oldest, deleted, second = (small(name) for name in ("oldest", "z", "y"))
    shutil.rmtree(deleted)
    third = small("x")
    expected = [(oldest, 1), (second, 3), (third, 4)]
    assert [(folder, record.number) for folder, record in read_runs(Path("runs"))] == expected
    assert resolve_run("3") == second
    shutil.copytree(second, "runs/z")  # a copy has the same number
    assert resolve_run("3") == second
    assert small("w") == resolve_run("5") == resolve_run("last")


def test_commands_find_runs_by_number(capsys):
    small("b", seed=1)
    small("a", seed=2)

    def written(name):
        return run_in_process(capsys, "predict", name, "--temperature", 1, "--prefix", "the ").out

    assert written("1") == written("runs/b") != written("runs/a") == written("2") == written("last")
    evaluations = [run_in_process(capsys, "evaluate", name).out for name in ("1", "runs/b")]
    assert evaluations[0] == evaluations[1]
    assert "runs/b" in run_in_process(capsys, "train", "--resume", 1, "--num-epochs", 2).out
    assert [row["epoch"] for row in history("runs/b")] == [1, 2]
    assert rnn_scratch.predict("last", "the ") == rnn_scratch.predict("runs/a", "the ")
    run_in_process(capsys, "predict", "3").assert_error("No run '3' found in runs.")
    # A folder named "last" takes precedence over the shorthand, even if a new run has created it.
    run = rnn_scratch.train("numpy", output="last", num_epochs=1, seed=3, **SMALL)
    assert run.folder == Path("last")
    assert written("last") == written(run.folder.absolute()) != written("2")


def test_missing_runs_are_reported(capsys):
    for command in (("predict", "last"), ("train", "--resume", "last", "--num-epochs", 2)):
        run_in_process(capsys, *command).assert_error("No run 'last' found in runs.")
    result = run_in_process(capsys, "runs")
    assert result.out == "No runs found in runs. Start one: rnn-scratch train\n"
    Path("empty").mkdir()
    run_in_process(capsys, "runs", "empty").assert_exit()


def test_record_of_another_format_is_refused(capsys):
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL).folder
    # Another format may lack any field that this version expects.
    (run / "run.json").write_text('{"format": 99, "settings": {"cells": 2}}')
    result = run_in_process(capsys, "train", "--resume", run, "--num-epochs", 6)
    result.assert_error("run.json was written by another version", "Use the version")
    assert "another version" in run_in_process(capsys, "runs").err
    assert len(history(run)) == 1
