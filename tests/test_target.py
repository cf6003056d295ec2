"""`compare --target`: trainings that end at a perplexity of held-out text."""

import csv
import math
import statistics
from pathlib import Path

import pytest
from helpers import there

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
    for trial in candidate.trials:
        *before, last = [epoch.held_out for epoch in trial.epochs]
        assert last <= 15 < min(before)
        assert len(trial.epochs) < 60
    (row,) = metrics.qualities(record)
    ends = [trial.epochs[-1].held_out for trial in candidate.trials]
    assert row.held_out == ends
    assert row.bits_per_character == pytest.approx(sum(map(math.log2, ends)) / 2)
    times = [sum(epoch.seconds for epoch in each.epochs) for each in candidate.trials]
    assert row.target_seconds == times
    assert row.target_reached == 2
    heading, cells = tables.quality_cells(record)
    assert "seconds to 15" in heading
    assert "±" in cells[heading.index("seconds to 15")]
    note = next(line for line in sentences.notes(record) if line.startswith("Held out are the 400"))
    assert f"{record.unigram:.2f}" in note
    assert 10 < record.unigram < 20
    with Path("out/comparison.csv").open(newline="", encoding="utf-8") as file:
        (columns,) = csv.DictReader(file)
    assert float(columns["target_seconds_mean"]) == statistics.fmean(times)
    assert float(columns["held_out_deviation"]) == statistics.stdev(ends)
    assert (columns["target_reached"], columns["seeds"]) == ("2", "2")
