"""Files of another run, and files that were changed, in the folder of a run."""

import json
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest
from helpers import SMALL, history_lines, history_without_times, run_in_process, run_subprocess

import rnn_scratch
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.run_folder import HISTORY, RUN_FILE
from rnn_scratch.system.files import Damaged

SETTINGS = {**SMALL, "valid_share": 0.2}
MORE = ("train", "--resume", "runs/r", "--num-epochs", 8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Create two runs of a text that differ only in their seeds."""
    parent = tmp_path_factory.mktemp("trained") / "runs"
    for seed, name in enumerate(("r", "other")):
        rnn_scratch.train("numpy", run=parent / name, num_epochs=6, seed=seed, **SETTINGS)
    return parent


@pytest.fixture(autouse=True)
def _copies(folders):
    shutil.copytree(folders, "runs")


def contents(folder="runs/r"):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("file", [RUN_FILE, HISTORY, checkpoint.FILE])
def test_a_file_of_another_run_is_refused_and_nothing_is_changed(capsys, file):
    shutil.copy(f"runs/other/{file}", f"runs/r/{file}")
    before = contents()
    run_in_process(capsys, *MORE).assert_error("does not belong to the checkpoint beside it")
    assert contents() == before
    # The model needs the checkpoint alone.
    run_in_process(capsys, "predict", "runs/r", "--best").assert_exit()
    listed = run_in_process(capsys, "runs").assert_exit()
    assert (f"runs/r/{HISTORY} is damaged" in listed.err) == (file != RUN_FILE)
    # All its files together are that run.
    for name in os.listdir("runs/other"):
        shutil.copy(f"runs/other/{name}", f"runs/r/{name}")
    run_in_process(capsys, *MORE).assert_exit()
    rnn_scratch.resume("runs/other", 8)
    assert history_without_times("runs/r") == history_without_times("runs/other")


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:2], rows[2].replace(b'"numpy"', b'"torch"'), *rows[3:]],
        lambda rows: [*rows[:2], rows[2].replace(b'"loss":', b'"loss": '), *rows[3:]],
        lambda rows: rows[1:],
        lambda rows: [*rows[:3], *rows[4:]],
        lambda rows: rows[:5],
        lambda rows: [],
        None,
    ],
)
def test_a_changed_history_is_noticed(capsys, change):
    path, rows = Path("runs/r", HISTORY), history_lines("runs/r")
    if change is None:
        path.unlink()
    else:
        path.write_bytes(b"".join(line + b"\n" for line in change(rows)))
    before = contents()
    words = f"{path} is damaged: it does not belong to the checkpoint beside it"
    assert words in run_in_process(capsys, "runs").err
    run_in_process(capsys, *MORE).assert_error(words, "rnn-scratch predict")
    assert contents() == before


def test_an_older_checkpoint_of_the_run_goes_on_from_there():
    older = contents()
    whole = rnn_scratch.resume("runs/r", 12)
    Path("runs/r", checkpoint.FILE).write_bytes(older[checkpoint.FILE])
    again = rnn_scratch.resume("runs/r", 12)
    assert [each.loss for each in again.history] == [each.loss for each in whole.history]
    # But a history that another continuation of the run has extended is rejected.
    Path("runs/r", HISTORY).write_bytes(older[HISTORY])
    with pytest.raises(Damaged, match="does not belong to the checkpoint"):
        rnn_scratch.resume("runs/r", 14)


@pytest.mark.parametrize(("part", "name"), [("settings", "seed"), ("text", "train_tokens")])
def test_a_record_that_says_something_else_than_the_checkpoint(capsys, part, name):
    path = Path("runs/r", RUN_FILE)
    record = json.loads(path.read_bytes())
    record[part][name] += 1
    path.write_text(json.dumps(record))
    run_in_process(capsys, *MORE).assert_error(
        f"{path} is damaged", "does not belong to the checkpoint"
    )


# Crafted files that would take many times their size if they were read as any JSON.
READ = """
from pathlib import Path
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.system import host
before = host.peak_memory()
for read in (run_folder.read, run_folder.history, checkpoint.load):
    try:
        read(Path("runs/r"))
    except RNNScratchError as error:
        print(error.problem)
print((host.peak_memory() - before) // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="unknown on other systems")
@pytest.mark.parametrize(
    ("file", "content"),
    [
        (HISTORY, b"12\n" * 2**24),
        (RUN_FILE, b'{"format":[' + b"[1]," * 2**23 + b"1]}"),
        (RUN_FILE, b'{"format":5,"sessions":[' + b"{}," * 2**21 + b"{}]}"),
        (checkpoint.FILE, struct.pack("<Q", 2**25) + b'{"a":[' + b"[1]," * 2**23 + b"1]}"),
    ],
    ids=["history", "record", "sessions", "header"],
)
def test_a_crafted_file_takes_little_memory(file, content):
    Path("runs/r", file).write_bytes(content)
    *problems, megabytes = run_subprocess(program=("-c", READ)).assert_exit(err="").out.splitlines()
    assert any(f"runs/r/{file}" in problem for problem in problems)
    assert int(megabytes) < 150
