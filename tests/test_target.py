"""`compare --target`: trainings that end at a perplexity of held-out text."""

import csv
import math
from pathlib import Path

import pytest
from helpers import here, there

from rnn_scratch.compare import metrics, sentences, tables
from rnn_scratch.compare.record import read

SMALL = (
    "--num-hiddens=16",
    "--num-steps=8",
    "--batch-size=8",
    "--max-tokens=2000",
    "--valid-tokens=400",
    "--repeats=1",
)
SHORT = ("--backends=numpy", "--corpus=tide-clock", *SMALL)


def test_a_training_ends_when_the_target_is_reached():
    arguments = ("--target", "15", "--seeds", "2", "--epochs", "60")
    done = there("compare", *SHORT, *arguments, "--output", "out")
    assert done.code == 0, (done.out, done.err)
    record = read(Path("out"))
    (candidate,) = record.candidates
    assert not candidate.differences
    for training in candidate.trainings:
        *before, last = [epoch.held_out for epoch in training.epochs]
        assert last <= 15 < min(before)
        assert len(training.epochs) < 60
    (row,) = metrics.qualities(record)
    ends = [training.epochs[-1].held_out for training in candidate.trainings]
    assert row.held_out.mean == pytest.approx(sum(ends) / 2)
    assert row.bits_per_character == pytest.approx(sum(map(math.log2, ends)) / 2)
    times = [sum(epoch.seconds for epoch in each.epochs) for each in candidate.trainings]
    assert row.target_seconds.mean == pytest.approx(sum(times) / 2)
    assert row.target_reached == 2
    heading, cells = tables.quality_cells(record)
    assert "seconds to 15" in heading
    assert "±" in cells[heading.index("seconds to 15")]
    note = next(line for line in sentences.notes(record) if line.startswith("Held out are the 400"))
    assert f"{record.unigram:.2f}" in note
    assert 10 < record.unigram < 20
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        (columns,) = csv.DictReader(file)
    assert float(columns["target_seconds_mean"]) == row.target_seconds.mean
    assert float(columns["held_out_deviation"]) == row.held_out.deviation
    assert (columns["target_reached"], columns["seeds"]) == ("2", "2")


def test_targets_that_make_no_sense(capsys):
    here(capsys, "compare", *SHORT, "--target", "1").refused("--target is 1", "above 1")
    here(capsys, "compare", *SHORT, "--target", "nan").refused("--target is nan")
    without = ("--target", "5", "--valid-tokens", "0")
    here(capsys, "compare", *SHORT, *without).refused("--target is 5", "--valid-tokens N")
