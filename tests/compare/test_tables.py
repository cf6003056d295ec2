"""Intervals, verdicts, tables and reports from small records, and errors for corrupted records."""

import json
import re
from math import inf
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers import COMPARISONS, run_in_process
from small_records import make_candidate, make_record

from rnn_scratch.compare import pictures, report, tables
from rnn_scratch.compare.record import read
from rnn_scratch.compare.tables import Estimate

CYCLES = range(1, 10)


def small_record():
    """Make a record in which each cycle is slower than the last, and numpy has one cycle fewer."""
    return make_record(
        make_candidate("numpy", *(120 / cycle for cycle in CYCLES[:-1]), memory=2**20),
        make_candidate("torch", *(240 / cycle for cycle in CYCLES), perplexities=(9.0, 8.0)),
        make_candidate("torch fast", *(60 / cycle for cycle in CYCLES)),
        make_candidate("torch concise", *(240 * (0.9, 1.1)[c % 2] / c for c in CYCLES)),
    )


def cells_of(record, title):
    (table,) = (table for table in tables.tables(record) if table.title == title)
    return table.cells


def test_ratios_are_formed_within_cycles():
    record = small_record()
    numpy, torch, fast, concise = (tables.metrics(record, c) for c in record.candidates)
    assert torch["training"].median == 240 / 5
    assert torch["vs_baseline"] == Estimate(2, 2, 2)  # both speeds vary by a factor of 9
    assert fast["vs_scratch"] == Estimate(0.25, 0.25, 0.25)
    low, high = fast["vs_builtin_layer"][1:]
    assert (low, high) == pytest.approx((0.25 / 1.1, 0.25 / 0.9))
    assert not {"vs_baseline", "vs_scratch", "vs_builtin_layer"} & numpy.keys()
    assert "vs_builtin_layer" not in concise
    assert (numpy["memory"], torch["perplexity"]) == (1, 8)


@pytest.mark.parametrize("num_cycles", [8, 25])
def test_interval_contains_the_true_median(num_cycles):
    rng = np.random.RandomState(1)
    estimates = [tables.estimate(rng.lognormal(0, 0.2, num_cycles)) for _ in range(1000)]
    assert 0.94 < np.mean([low <= 1 <= high for _, low, high in estimates]) < 0.985
    # The interval is ±2.3 standard errors; a median's error is about 1.25 times a mean's.
    widths = [high - low for _, low, high in estimates]
    assert np.mean(widths) == pytest.approx(4.6 * 1.25 * 0.2 / num_cycles**0.5, rel=0.2)


def test_few_cycles_have_no_interval():
    assert tables.estimate([1.0, 2.0, 4.0]) == Estimate(2, 0, inf)
    assert f"{tables.estimate([1.0, 2.0, 4.0]):.2f}" == "2.00"
    record = make_record(make_candidate("numpy", 2, 2), make_candidate("torch", 1, 1))
    assert tables.widest_interval(record) == inf
    assert tables.verdicts(record) == ["Compared with numpy, no difference shown: torch."]
    assert any("larger `--seconds`" in line for line in report.lines("notes", record))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.01, 1.2, "faster"),
        (0.8, 0.99, "slower"),
        (0.99, 1.01, "no difference shown"),
        (1.004, 1.2, "no difference shown"),  # printed as 1.00
    ],
)
def test_verdict_depends_on_the_interval(low, high, verdict):
    assert Estimate(1.05, low, high).verdict == verdict


def test_widest_interval_is_relative_to_the_ratio():
    record = small_record()
    record.candidates.pop()
    assert tables.widest_interval(record) == 0
    noisy = make_candidate("jax", *((1.2, 0.8)[c % 2] / c for c in CYCLES))
    record.candidates.append(noisy)
    estimate = tables.metrics(record, noisy)["vs_baseline"]
    half_width = (estimate.high - estimate.low) / 2 / estimate.median
    assert tables.widest_interval(record) == half_width > 0.1


def test_tables_round_and_omit_empty_columns():
    heading, numpy, torch, *_ = cells_of(small_record(), "Speed")
    assert heading[1:3] == ["characters/s", "× numpy"]
    assert heading[3:] == ["× scratch", "× built-in layer", "generated characters/s"]
    assert numpy == ["numpy", "27", "", "", "", "270"]
    assert torch[:3] == ["torch", "48", "2.00 (2.00–2.00)"]
    (slow,) = cells_of(make_record(make_candidate("numpy", 1234567.0)), "Speed")[1:]
    assert slow[1] == "1,200,000"


def test_values_are_compared_with_each_other():
    candidates = [make_candidate("numpy", *[value] * 8, value=value) for value in (4, 8)]
    record = make_record(*candidates, sweep="batch_size", values=[4, 8])
    heading, *rows = cells_of(record, "Speed")
    assert heading == ["", "batch_size", "characters/s", "× batch_size 4", "generated characters/s"]
    assert [row[1:4] for row in rows] == [["4", "4", ""], ["8", "8", "2.00 (2.00–2.00)"]]
    assert tables.verdicts(record) == ["Compared with batch_size 4, faster: numpy, batch_size 8."]
    assert set(pictures.draw(record)) == {"speed"}


def test_failed_candidate_shows_the_reason():
    record = make_record(
        make_candidate("plain fast", failure="no fast model", is_supported=False),
        make_candidate("numpy", *CYCLES),
        make_candidate("<torch>", *CYCLES[:3], failure="it was <killed>"),
    )
    heading, _, row = cells_of(record, "Speed")
    assert (row[0], row[heading.index("failed")]) == ("<torch>", "it was <killed>")
    assert (record.has_failed, row[2]) == (True, "1.00")  # relative to numpy
    assert tables.widest_interval(record) < inf  # ignores the failed candidate
    assert "it was <killed>" in tables.spreadsheet(record)
    assert report.lines("notes", record) == ["plain fast: not supported: no fast model"]
    page = report.page(record, pictures.draw(record))
    assert "it was &lt;killed&gt;" in page
    assert not re.search("<(torch|killed)>", page)


def test_unplanned_number_of_threads_is_a_note():
    fewer = make_candidate("numpy", *CYCLES, threads=1)
    planned = make_candidate("numpy fast", *CYCLES, threads=2)
    notes = report.lines("notes", make_record(fewer, planned, threads=2))
    assert notes == ["numpy: number of threads: 1, instead of 2."]


def test_huge_perplexity_and_formulas_are_drawn():
    candidate = make_candidate(r"$\x$", perplexities=(9.0, 1e304, None))
    record = make_record(candidate)
    (row,) = cells_of(record, "Quality")[1:]
    assert row[1] == "inf"
    assert set(pictures.draw(record)) == {"perplexity"}


@pytest.mark.parametrize("folder", sorted(COMPARISONS.iterdir()), ids=lambda folder: folder.name)
def test_committed_record_makes_a_complete_report(folder):
    record = read(folder)
    page = report.page(record, pictures.draw(record))
    assert page.count("<table") == len(tables.tables(record))
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", page[page.index("<main>") :])


@pytest.mark.parametrize(
    ("part", "field", "value", "problem"),
    [
        ("plan", "vary", "lr", "at `$.plan.vary`"),
        ("settings", "lr", -1.0, "at `$.settings.lr`"),
        ("machine", "cores", "2", "Expected `int`, got `str` - at `$.machine.cores`"),
        ("machine", "color", 1, "unknown field `color` - at `$.machine`"),
    ],
)
def test_report_names_the_damaged_field(capsys, part, field, value, problem):
    record = msgspec.to_builtins(make_record(make_candidate("numpy")))
    record[part][field] = value
    write(json.dumps(record))
    result = run_in_process(capsys, "report", "damaged")
    result.assert_error("damaged/comparison.json", problem, "Restore it from a backup")


def test_report_refuses_other_files_and_formats(capsys):
    run_in_process(capsys, "report", "nowhere").assert_error("nowhere", "comparison.json")
    for content in ("", "[]", "{}", "{"):
        write(content)
        run_in_process(capsys, "report", "damaged").assert_error("comparison.json is damaged")
    for version in ("9", "99", '"10"'):
        write(f'{{"format": {version}, "something": "else"}}')
        result = run_in_process(capsys, "report", "damaged")
        result.assert_error("comparison.json was written by another version of rnn-scratch.")


def write(text):
    Path("damaged").mkdir(exist_ok=True)
    Path("damaged/comparison.json").write_text(text, encoding="utf-8")
