"""The folder of a run: record, history, curve and checkpoint; and the list of runs."""

import concurrent.futures
import hashlib
import json
import os
import platform
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from helpers import (
    SMALL,
    assert_same,
    figures,
    here,
    history,
    lines,
    options,
    parameters,
    start,
    wait_for_epochs,
)

import rnn_scratch
from rnn_scratch import exact
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.text import corpus


@pytest.fixture
def run(backend_name, device):
    return rnn_scratch.train(backend_name, device=device, num_epochs=11, valid_tokens=50, **SMALL)


def strict(text):
    """JSON without NaN and infinity, which Python would accept."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_run_s_folder(run, backend_name, device):
    assert sorted(os.listdir(run.folder)) == [
        ".lock",
        "checkpoint.safetensors",
        "history.jsonl",
        "perplexity.png",
        "run.json",
    ]
    assert re.fullmatch(rf"runs.\d{{4}}-\d\d-\d\d-\d{{6}}-{backend_name}", str(run.folder))

    record = strict((run.folder / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["num_hiddens"] == SMALL["num_hiddens"]
    assert record["settings"]["lr"] == 1.0
    sha256 = hashlib.sha256(corpus.load("tide-clock", print).content.encode()).hexdigest()
    assert record["text"] == {
        "corpus": "tide-clock",
        "origin": "built in",
        "sha256": sha256,
        "vocabulary": 28,
        "train_tokens": 400,
        "valid_tokens": 50,
    }
    (session,) = record["sessions"]
    assert (session["backend"], session["device"]) == (backend_name, device)
    assert (session["model"], session["eager"]) == ("scratch", False)
    assert session["outcome"] == "finished"
    assert (session["from_epoch"], session["to_epoch"]) == (0, 11)
    assert session["threads"] >= 1
    assert session["machine"]["python"] == platform.python_version()
    assert session["machine"]["numpy"] == np.__version__
    assert session["machine"]["cores"] >= 1
    assert session["environment"][backend_name]
    first, second = session["predictions"]
    assert first.startswith("time traveller")
    assert second.startswith("traveller")
    assert [len(line) for line in session["predictions"]] == [64, 59]

    saved = checkpoint.load(run.folder / "checkpoint.safetensors")
    assert sorted(saved.arrays) == ["W_hh", "W_hq", "W_xh", "b_h", "b_q"]
    assert saved.epoch == 11
    assert saved.text["sha256"] == sha256
    assert saved.vocab == run.vocab


def test_history_has_a_line_of_strict_json_for_each_epoch(run, backend_name):
    rows = [strict(line) for line in lines(run.folder)]
    assert [row["epoch"] for row in rows] == list(range(1, 12))
    for row in rows:
        assert list(row) == [
            "epoch",
            "loss",
            "perplexity",
            "valid_loss",
            "valid_perplexity",
            "tokens",
            "seconds",
            "backend",
            "sample",
        ]
        assert row["perplexity"] == pytest.approx(np.exp(row["loss"]))
        assert row["valid_perplexity"] == pytest.approx(np.exp(row["valid_loss"]))
        assert row["backend"] == backend_name
        assert row["seconds"] > 0
        # Sequential: four rows of six steps at a time.
        assert row["tokens"] % 24 == 0
        assert 400 - 24 - 6 - 4 <= row["tokens"] < 400
    samples = [row["epoch"] for row in rows if row["sample"] is not None]
    assert samples == [10]
    assert rows[9]["sample"].startswith("time traveller")
    assert rows[-1]["loss"] < rows[0]["loss"] < np.log(28)


def test_the_curve_is_a_picture(run):
    data = (run.folder / "perplexity.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    image = matplotlib.image.imread(run.folder / "perplexity.png")
    assert image.shape[0] > 300
    assert image.shape[1] > 600
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_a_history_without_held_out_text():
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert history(run.folder)[0]["valid_loss"] is None
    assert history(run.folder)[0]["valid_perplexity"] is None


def test_history_can_be_read_during_the_run():
    with start(
        "train", "--backend", "numpy", *options(run="r", num_epochs=10**6, **SMALL)
    ) as process:
        try:
            for number in (1, 5, 20):
                wait_for_epochs(process, "r", number)
                assert [row["epoch"] for row in history("r")][:number] == list(range(1, number + 1))
            record = json.loads(Path("r/run.json").read_text(encoding="utf-8"))
            assert record["sessions"][0]["outcome"] == "running"
            assert checkpoint.load(checkpoint.find("r")).epoch <= len(lines("r"))
        finally:
            process.kill()


def test_a_folder_that_exists_is_not_changed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(RNNScratchError, match=r"mine exists already.\n.*--resume mine --epochs N"):
        rnn_scratch.train("numpy", run="mine", num_epochs=1, **SMALL)
    assert os.listdir("mine") == ["file"]


@pytest.mark.parametrize("folder", ["file/run", "file"])
def test_a_folder_that_cannot_be_created(tmp_path, folder):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RNNScratchError, match="The run folder file"):
        rnn_scratch.train("numpy", run=folder, num_epochs=1, **SMALL)


def test_runs_that_start_in_the_same_second_get_different_folders():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: run_folder.create(None, "numpy"), range(40)))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)


def test_runs_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("x")
    with pytest.raises(RNNScratchError, match="The run folder runs "):
        rnn_scratch.train("numpy", num_epochs=1, **SMALL)


def row(epoch, sample="x"):
    return run_folder.Epoch(epoch, 1.0, np.e, None, None, 100, 0.1, "numpy", sample)


# Characters of several bytes, and those that end a line for Python but not in JSON.
@pytest.mark.parametrize("sample", ["猫の時計", "a\u2028b\u2029c\x85d\x0b\x0ce\r\nf\n"])
def test_a_history_cut_anywhere_loses_the_last_line_only(tmp_path, sample):
    path = tmp_path / run_folder.HISTORY
    for epoch in (1, 2, 3):
        run_folder.append(tmp_path, row(epoch, sample))
    whole = path.read_bytes()
    assert [epoch.sample for epoch in run_folder.history(tmp_path)] == [sample] * 3
    second = whole.rindex(b"\n", 0, -1) + 1
    for end in range(second, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert [epoch.epoch for epoch in run_folder.history(tmp_path)] == [1, 2]
    assert run_folder.repair_history(tmp_path, 1) == []
    assert [epoch.epoch for epoch in run_folder.history(tmp_path)] == [1]
    assert path.read_bytes() == whole[: len(whole) // 3]


def test_a_line_damaged_in_the_middle_is_an_error(tmp_path):
    for epoch in (1, 2, 3):
        run_folder.append(tmp_path, row(epoch))
    text = (tmp_path / run_folder.HISTORY).read_text().replace('"epoch": 2', '"epoch"  2')
    (tmp_path / run_folder.HISTORY).write_text(text)
    with pytest.raises(RNNScratchError, match=r"Line 2 of .*history.jsonl is damaged.\n.*--resume"):
        run_folder.history(tmp_path)


@pytest.mark.parametrize(
    ("epochs", "lost"),
    [
        ((1, 2, 5, 6), [(3, 4)]),
        ((2, 3, 6), [(1, 1), (4, 5)]),
        ((1, 2, 3), [(4, 6)]),
        ((1, 2, 3, 1, 2, 3, 4, 5, 6), []),
        ((), [(1, 6)]),
    ],
)
def test_a_gap_in_a_history_is_an_error_until_the_history_says_so(tmp_path, epochs, lost):
    for epoch in epochs:
        run_folder.append(tmp_path, row(epoch))
    if epochs not in ((), (1, 2, 3)):  # those that lack only the last epochs
        with pytest.raises(RNNScratchError, match=r"is of epoch \d, where epoch \d is missing"):
            run_folder.history(tmp_path)
    assert run_folder.repair_history(tmp_path, 6) == lost
    kept = sorted(set(epochs))
    assert [epoch.epoch for epoch in run_folder.history(tmp_path)] == kept
    before = (tmp_path / run_folder.HISTORY).read_bytes()
    assert run_folder.repair_history(tmp_path, 6) == [], "what is lost is said once"
    assert (tmp_path / run_folder.HISTORY).read_bytes() == before
    run_folder.append(tmp_path, row(7))
    assert [epoch.epoch for epoch in run_folder.history(tmp_path)] == [*kept, 7]


def test_a_run_with_a_damaged_history_continues_from_its_checkpoint(capsys):
    whole = rnn_scratch.train("numpy", num_epochs=8, **SMALL)
    run = rnn_scratch.train("numpy", num_epochs=6, run="runs/r", **SMALL).folder
    path = run / "history.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"epoch": 3,', b'{"epoch\x00: 3,'))
    damaged = path.read_bytes()
    done = here(capsys, "train", "--resume", run, "--epochs", 8)
    assert (done.code, done.err) == (0, "")
    kept = "history.jsonl.damaged"
    assert f"The history of {run} has lost epoch 3. The run continues from its" in done.out
    assert f"The damaged file is kept as {run / kept}." in done.out
    assert (run / kept).read_bytes() == damaged
    assert_same(parameters(run), parameters(whole))
    expected = [line for line in figures(whole.folder) if line["epoch"] != 3]
    assert [line for line in figures(run) if "lost" not in line] == expected
    assert [line for line in history(run) if "lost" in line] == [{"lost": [3, 3]}]
    assert here(capsys, "runs").out.count("8/8") == 2


UNREADABLE = {
    "a folder": lambda path: path.mkdir(),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "nested deeply": lambda path: path.write_text("[" * 100_000 + "\n"),
    "half of a character": lambda path: path.write_text('{"sample": "\\ud800"}\n'),
    "another type": lambda path: path.write_text("7\n"),
    "zeros": lambda path: path.write_bytes(bytes(4096) + b"\n"),
}


@pytest.mark.parametrize("file", ["run.json", "history.jsonl"])
@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
def test_good_runs_are_listed_whatever_others_contain(capsys, file, damage):
    good, bad = (rnn_scratch.train("numpy", num_epochs=1, **SMALL).folder for _ in range(2))
    (bad / file).unlink()
    damage(bad / file)
    done = here(capsys, "runs")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == [str(good)]
    assert str(bad) in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", ["numpy"]),
        ("outcome", None),
        ("threads", "2"),
        ("started", "2024-05-02"),
        ("x", 1),
    ],
)
def test_sessions_of_other_types_are_reported(capsys, key, value):
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL).folder
    record = json.loads((run / "run.json").read_text())
    record["sessions"][-1][key] = value
    (run / "run.json").write_text(json.dumps(record))
    done = here(capsys, "runs")
    assert done.code == 0
    assert ("damaged" in done.err) == (key != "x")


DAMAGE = {
    "empty": lambda record: "",
    "cut short": lambda record: json.dumps(record)[:-9],
    "not a record": lambda record: "[1, 2]",
    "no sessions": lambda record: json.dumps({**record, "sessions": []}),
    "a missing setting": lambda record: json.dumps(
        {**record, "settings": {k: v for k, v in record["settings"].items() if k != "num_epochs"}}
    ),
    "half of a character": lambda record: json.dumps(
        {**record, "text": {**record["text"], "origin": "\ud800"}}
    ),
    "a bad setting": lambda record: json.dumps({**record, "settings": {"lr": 0}}),
    "a bad time": lambda record: json.dumps(
        {**record, "sessions": [{**record["sessions"][0], "started": "yesterday"}]}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_reported_and_omitted_from_the_list(capsys, damage):
    good, bad = (rnn_scratch.train("numpy", num_epochs=1, **SMALL).folder for _ in range(2))
    record = json.loads((bad / "run.json").read_text())
    (bad / "run.json").write_text(damage(record))
    with pytest.raises(RNNScratchError, match=r"run.json could not be read or is damaged"):
        run_folder.read(bad)
    assert [folder for folder, _, _ in run_folder.listing(run_folder.PARENT)] == [good]
    done = here(capsys, "train", "--resume", bad, "--epochs", 3)
    assert (done.code, done.err) == (0, "")
    assert "damaged" in done.out
    assert f"It is kept as {bad / 'run.json.damaged'}. The run continues" in done.out
    (session,) = run_folder.read(bad)["sessions"]
    assert (session["from_epoch"], session["to_epoch"]) == (1, 3)
    assert_same(parameters(bad), rnn_scratch.resume(good, 3).arrays)


def test_the_list_is_newest_first(capsys):
    folders = [
        rnn_scratch.train("numpy", run=f"runs/{name}", num_epochs=2, **SMALL).folder
        for name in ("b", "c", "a")
    ]
    # In three time zones: later in this order, although the local times are in the reverse order.
    clocks = ["2024-05-02T01:00:00+14:00", "2024-05-01T12:30:00+00:00", "2024-05-01T01:00:00-12:00"]
    for folder, clock in zip(folders, clocks):
        record = json.loads((folder / "run.json").read_text())
        record["sessions"][-1]["started"] = clock
        (folder / "run.json").write_text(json.dumps(record))
    done = here(capsys, "runs")
    assert done.code == 0
    head, *rows = done.out.splitlines()
    assert head.split() == ["run", "started", "backend", "text", "epochs", "perplexity", "state"]
    assert [row.split()[0] for row in rows] == [str(folder) for folder in reversed(folders)]
    assert all("2/2" in row and "finished" in row and "tide-clock" in row for row in rows)


def test_no_runs(capsys):
    assert here(capsys, "runs").out == "There are no runs in runs. Start one: rnn-scratch train\n"
    assert here(capsys, "runs", "elsewhere").code == 0


# A run folder of format 1, written by the version that knew only what is now the variant `fast`.
FORMAT1 = Path(__file__).parent / "data" / "format1"


@pytest.fixture
def format1(tmp_path):
    return Path(shutil.copytree(FORMAT1, tmp_path / "format1"))


def test_a_run_of_format_1_is_resumed_exactly(format1):
    assert exact.digest(parameters(format1)) == "b1c674331c0d9cbe"
    done = rnn_scratch.resume(format1, 6)
    # As the version that wrote it resumed it.
    assert exact.digest(done.arrays) == "bdaca497ceb41c03"
    record = json.loads((format1 / "run.json").read_text())
    assert record["format"] == run_folder.FORMAT
    assert [session["model"] for session in record["sessions"]] == ["fast", "fast"]
    assert [row["epoch"] for row in history(format1)] == [1, 2, 3, 4, 5, 6]


def test_a_run_of_format_1_is_used(format1, capsys):
    expected = here(capsys, "predict", format1, "--prefix", "the ")
    assert (expected.code, expected.err) == (0, "")
    plain = here(capsys, "predict", format1, "--prefix", "the ", "--model", "scratch")
    assert plain.out == expected.out
    assert here(capsys, "evaluate", format1, "--corpus", "tide-clock").code == 0
    assert "numpy (fast)" in here(capsys, "runs", ".").out


def test_a_record_of_a_newer_format_is_refused(format1, capsys):
    # It may lack anything that this version expects.
    (format1 / "run.json").write_text('{"format": 3, "settings": {"cells": 2}}')
    for arguments in (
        ("predict", format1, "--prefix", "the "),
        ("evaluate", format1, "--corpus", "tide-clock"),
        ("train", "--resume", format1, "--epochs", 6),
    ):
        words = "has format 3", "reads formats 1 and 2", "Use the version that wrote it"
        here(capsys, *arguments).refused("run.json", *words)
    assert (format1 / "history.jsonl").read_bytes() == (FORMAT1 / "history.jsonl").read_bytes()
