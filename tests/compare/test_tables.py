"""Metrics and tables of small comparisons, checked against hand-computed values."""

import re

import pytest
from helpers import COMPARISONS
from matplotlib.figure import Figure
from small_records import make_candidate, make_record, make_round, make_trial

from rnn_scratch.compare import pictures, report, summary, tables
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.compare.summary import Spread


def small_record():
    return make_record(
        make_candidate("numpy", "scratch", make_round(0, 2.0, 1.0), make_round(1, 4.0, 2.0)),
        make_candidate(
            "torch", "scratch", *(make_round(n, 1.0, 0.25 * n or 0.5) for n in range(3))
        ),
        make_candidate("torch", "fast", make_round(0, 0.5, 0.5)),
        make_candidate("torch", "concise", make_round(0, 2.0, 0.5), make_round(1, 4.0, 0.5)),
    )


def cells_of(record, title):
    (table,) = (table for table in tables.tables(record) if table.title.startswith(title))
    return table.cells()


def test_speeds_and_ratios_match_hand_computed_values():
    rows = summary.speeds(small_record())
    names = [row.candidate.name for row in rows]
    assert names == ["numpy", "torch", "torch fast", "torch concise"]
    numpy, torch, fast, concise = (row.figures for row in rows)
    assert numpy["train"] == Spread(7.5, 5, 10)  # 20 characters in 2 s and in 4 s
    assert torch["train"] == Spread(20, 20, 20)
    assert numpy["ratio"] == Spread(1, 1, 1)
    assert torch["ratio"] == Spread(3, 2, 4)  # ratio per round; the baseline has no third round
    assert torch["own_layer"] == Spread(3, 2, 4)  # ratio per round
    assert fast["own_layer"] == Spread(4, 4, 4)
    assert (numpy["own_layer"], concise["own_layer"]) == (None, None)
    assert torch["products"] == Spread(40, 40, 80)
    assert numpy["of_own_limit"] == Spread(0.5, 0.5, 0.5)
    assert torch["of_own_limit"] == Spread(0.5, 0.25, 0.5)
    assert torch["generate"] == Spread(2, 2, 2)
    assert (torch["memory"].median, torch["device_memory"]) == (1.0, None)


def test_table_omits_empty_columns_and_constant_spreads():
    heading, numpy, *_ = cells_of(small_record(), "Speed")
    columns = ["characters/s", "× numpy", "× built-in layer", "of own limit"]
    assert heading == ["", *columns, "generated characters/s"]
    assert numpy == ["numpy", "8 (5–10)", "1.00", "", "50%", "2"]


def test_batch_size_determines_the_characters_per_minibatch():
    rounds = (make_round(0, 2.0, value=4), make_round(0, 2.0, value=8))
    plan = {"vary": "batch_size", "values": [4, 8]}
    record = make_record(make_candidate("numpy", "scratch", *rounds), plan=plan)
    assert [row.figures["train"].median for row in summary.speeds(record)] == [10, 20]
    assert [row[1] for row in cells_of(record, "Speed")] == ["batch_size", "4", "8"]


def test_candidate_without_timings_shows_the_reason():
    record = make_record(
        make_candidate("numpy", "scratch", make_round()),
        make_candidate("torch", "fast", failures=[Failure("it was killed")]),
    )
    heading, _, row = cells_of(record, "Speed")
    assert (row[0], row[heading.index("failed")]) == ("torch fast", "it was killed")
    assert "it was killed" in tables.spreadsheet(record)
    record.candidates = record.candidates[1:]
    assert [table.title for table in tables.tables(record)] == ["Speed", "Quality"]
    record.candidates[0].failures = []  # an interrupted comparison
    assert tables.tables(record) == []


def test_ratios_are_relative_to_the_first_offered_candidate():
    missing = Failure("The plain backend has no fast model.", "not offered")
    lacking = make_candidate("plain", "fast", failures=[missing])
    record = make_record(lacking, make_candidate("plain", "scratch", make_round()))
    (row,) = summary.speeds(record)
    assert (row.candidate.name, row.figures["ratio"].median) == ("plain", 1)
    assert report.lines("notes", record) == [f"plain fast: not offered: {missing.reason}"]
    assert not record.has_failed


def test_seeds_are_summarized_over_finished_training_runs():
    trials = [make_trial(9.0, end, seed=seed) for seed, end in enumerate((1.0, 2.0, 3.0, 9.0))]
    trials[-1].samples = []  # interrupted
    candidate = make_candidate("numpy", "scratch", trials=trials)
    heading, row = cells_of(make_record(candidate, epochs=2, plan={"seeds": 4}), "Quality")
    assert row[heading.index("perplexity")] == "2 (1–3)"
    assert row[heading.index("seeds")] == "3"


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        ((4.0,), ["1 of 1", "3.0", "1"]),
        ((4.0, 6.0), ["1 of 2", "3.0", "1"]),
        ((6.0,), ["0 of 1"]),
    ],
)
def test_table_shows_seconds_and_epochs_to_target(held_out, expected):
    trials = [make_trial(9.0, held_out=perplexity, seconds=3.0) for perplexity in held_out]
    candidate = make_candidate("numpy", "scratch", trials=trials)
    record = make_record(candidate, epochs=1, plan={"target": 5.0})
    heading, row = cells_of(record, "Quality")
    start = heading.index("reached 5")
    assert row[start : start + len(expected)] == expected
    assert ("seconds" in heading) == (len(expected) > 1)


def test_figures_do_not_parse_names_as_math():
    candidate = make_candidate(r"$\x$", "scratch", make_round(), trials=[make_trial(9.0, 8.0)])
    assert set(pictures.draw(make_record(candidate))) == {"speed", "perplexity"}


def test_huge_perplexity_is_shown_and_drawn():
    candidate = make_candidate("numpy", "scratch", trials=[make_trial(9.0, 1e304, None)])
    record, figure = make_record(candidate, epochs=3), Figure()
    heading, row = cells_of(record, "Quality")
    assert row[heading.index("perplexity")] == "above 1e300"
    assert pictures.perplexity(figure, record)
    assert figure.axes[0].get_ylim()[1] < 100
    assert set(pictures.draw(record)) == {"perplexity"}


@pytest.mark.parametrize(("vary", "values"), [("threads", [1, 2]), ("num_hiddens", [4, 8, 16])])
def test_speed_figure_has_panels_and_bars(vary, values):
    names = [("numpy", "scratch"), ("torch", "scratch"), ("torch", "concise")]
    rounds = [make_round(0, 2.0, value=value) for value in values]
    record = make_record(
        *(make_candidate(*name, *rounds) for name in names), plan={"vary": vary, "values": values}
    )
    figure = Figure()
    assert pictures.speed(figure, record)
    assert len(figure.axes) == len(values)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["scratch", "built-in layer"]
    for axes in figure.axes:
        widths = [bar.get_width() for bar in axes.patches if bar.get_width()]
        assert len(widths) == len(names)
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["numpy", "torch"]


def test_unplanned_number_of_threads_is_a_note():
    fewer, planned = (
        make_candidate(name, "fast", make_round(threads=threads))
        for name, threads in (("numpy", 1), ("torch", 2))
    )
    notes = report.lines("notes", make_record(fewer, planned, plan={"threads": 2}))
    assert notes == ["numpy fast: number of threads: 1, instead of 2."]


@pytest.mark.parametrize("folder", sorted(COMPARISONS.iterdir()), ids=lambda folder: folder.name)
def test_committed_record_makes_a_complete_report(folder):
    record = read(folder)
    page = report.page(record, pictures.draw(record))
    start = page.index("<details>")
    assert page[:start].count("<table") == page[:start].count("<img") == 1
    assert page.count("<table") == len(tables.tables(record))
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", page[page.index("<main>") :])


def test_report_escapes_names_and_reasons():
    candidate = make_candidate("<x>", "scratch", failures=[Failure("<script>")])
    page = report.page(make_record(candidate), {})
    assert "&lt;x&gt;" in page
    assert "&lt;script&gt;" in page
    assert not re.search("<(x|script)>", page)
