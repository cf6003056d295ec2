"""Run folders that contain modified or malicious files, or files from another run."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from helpers import (
    SMALL,
    history_lines,
    history_without_times,
    linux,
    raised_message,
    run_in_process,
    run_subprocess,
)
from msgspec.structs import replace

import rnn_scratch
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.runs.run_folder import HISTORY, RUN_FILE
from rnn_scratch.system import records
from rnn_scratch.system.files import LOCK, CorruptedFileError

SETTINGS = {**SMALL, "valid_share": 0.2}
RESUME = ("train", "--resume", "runs/r", "--num-epochs", 8)
NOT_OF_THE_CHECKPOINT = "does not belong to the checkpoint next to it"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train two runs that differ only in their seeds; return their parent folder."""
    parent = tmp_path_factory.mktemp("trained") / "runs"
    for seed, name in enumerate(("r", "other")):
        rnn_scratch.train("numpy", output=parent / name, num_epochs=6, seed=seed, **SETTINGS)
    return parent


@pytest.fixture(autouse=True)
def _copies(trained):
    shutil.copytree(trained, "runs")


def contents():
    return {path.name: path.read_bytes() for path in Path("runs/r").iterdir()}


@pytest.mark.parametrize("file", [RUN_FILE, HISTORY, checkpoint.FILE])
def test_file_of_another_run_is_refused(capsys, file):
    shutil.copy(f"runs/other/{file}", f"runs/r/{file}")
    files = contents()
    run_in_process(capsys, *RESUME).assert_error(NOT_OF_THE_CHECKPOINT)
    assert contents() == files
    # Prediction needs only the checkpoint.
    run_in_process(capsys, "predict", "runs/r", "--best").assert_exit()
    result = run_in_process(capsys, "runs").assert_exit()
    assert (f"runs/r/{HISTORY} is damaged" in result.err) == (file != RUN_FILE)
    # Once all files are replaced, the folder is a copy of the other run.
    for name in os.listdir("runs/other"):
        shutil.copy(f"runs/other/{name}", f"runs/r/{name}")
    run_in_process(capsys, *RESUME).assert_exit()
    rnn_scratch.resume("runs/other", 8)
    assert history_without_times("runs/r") == history_without_times("runs/other")


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows[:2], rows[2].replace(b'"loss":', b'"loss": '), *rows[3:]],
        lambda rows: rows[1:],
        lambda rows: rows[:5],
        lambda rows: [],
    ],
)
def test_changed_history_is_refused(capsys, change):
    path = Path("runs/r", HISTORY)
    path.write_bytes(b"".join(line + b"\n" for line in change(history_lines("runs/r"))))
    files = contents()
    problem = f"{path} is damaged: it {NOT_OF_THE_CHECKPOINT}"
    assert problem in run_in_process(capsys, "runs").err
    run_in_process(capsys, *RESUME).assert_error(problem, "rnn-scratch predict")
    assert contents() == files


def test_older_checkpoint_is_resumed():
    files = contents()
    uninterrupted = rnn_scratch.resume("runs/r", 12)
    Path("runs/r", checkpoint.FILE).write_bytes(files[checkpoint.FILE])
    resumed = rnn_scratch.resume("runs/r", 12)
    assert [row.loss for row in resumed.history] == [row.loss for row in uninterrupted.history]
    # A history shorter than the checkpoint's is rejected.
    Path("runs/r", HISTORY).write_bytes(files[HISTORY])
    with pytest.raises(CorruptedFileError, match=NOT_OF_THE_CHECKPOINT):
        rnn_scratch.resume("runs/r", 14)
    Path("runs/r", HISTORY).unlink()
    with pytest.raises(CorruptedFileError, match="does not exist"):
        rnn_scratch.resume("runs/r", 14)


@pytest.mark.parametrize(("part", "name"), [("settings", "seed"), ("text", "train_tokens")])
def test_record_that_differs_from_the_checkpoint_is_refused(capsys, part, name):
    path = Path("runs/r", RUN_FILE)
    record = json.loads(path.read_bytes())
    record[part][name] += 1
    path.write_text(json.dumps(record))
    run_in_process(capsys, *RESUME).assert_error(f"{path} is damaged", NOT_OF_THE_CHECKPOINT)


# Program that reads a run's files and prints any errors and the increase in peak memory, in MiB.
READ = """
from pathlib import Path
from rnn_scratch.compare.tasks import peak_memory
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import run_folder
initial = peak_memory()
for read in (run_folder.read, run_folder.read_history):
    try:
        read(Path("runs/r"))
    except RNNScratchError as error:
        print(error.problem)
print((peak_memory() - initial) // 2**20)
"""


@linux
@pytest.mark.parametrize(
    ("file", "content"),
    [
        (HISTORY, b"12\n" * 2**24),
        (RUN_FILE, b'{"format":[' + b"[1]," * 2**23 + b"1]}"),
    ],
    ids=["history", "record"],
)
def test_crafted_file_takes_little_memory(file, content):
    Path("runs/r", file).write_bytes(content)
    *problems, megabytes = run_subprocess(program=("-c", READ)).assert_exit(err="").out.splitlines()
    assert any(f"runs/r/{file}" in problem for problem in problems)
    assert int(megabytes) < 150


@pytest.mark.parametrize("origin", [r"\\host\share\t.txt", "//host/share/t.txt"])
def test_text_on_another_computer_is_not_opened(monkeypatch, origin):
    saved, record = checkpoint.load("runs/r"), run_folder.read(Path("runs/r"))
    text = replace(saved.text, corpus="file", origin=origin)
    checkpoint.save(Path("runs/r", checkpoint.FILE), replace(saved, text=text))
    records.write(Path("runs/r", RUN_FILE), replace(record, text=text))
    monkeypatch.setattr("rnn_scratch.text.books.read_file", pytest.fail)
    for call in (partial(rnn_scratch.evaluate, "runs/r"), partial(rnn_scratch.resume, "runs/r", 8)):
        message = raised_message(call)
        assert "which is not on this computer" in message
        assert "If you have this text elsewhere" in message
    assert len(rnn_scratch.resume("runs/r", 8, corpus="tide-clock").history) == 8


def test_link_in_a_run_is_not_followed():
    history, lock = Path("runs/r", HISTORY), Path("runs/r", LOCK)
    content = history.read_bytes()
    history.rename("victim")
    history.symlink_to("../../victim")
    rnn_scratch.resume("runs/r", 8)
    lock.unlink()
    lock.symlink_to("../../victim")
    rnn_scratch.resume("runs/r", 9)  # prints a warning, and trains without a lock
    assert Path("victim").read_bytes() == content
