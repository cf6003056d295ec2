"""The figures and tables of a comparison, on a record small enough to compute by hand."""

import re
import sys

import msgspec
import pytest
from helpers import CLONE, COMPARISONS, python_path, there
from matplotlib.figure import Figure
from small_records import MACHINE, READY, candidate_of, record_of, round_of, trial_of

from rnn_scratch.compare import pictures, report, summary, tables
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.compare.summary import Spread
from rnn_scratch.registry import OURS


def with_layer(number, times):
    """Return a round with this ratio of the own layer, but for the first turn."""
    own_layer = [9.0, times, times]
    return round_of(number, 1.0, 0.25 if number else 0.5, own_layer=own_layer)


def small_record():
    turns = with_layer(0, 2.0), with_layer(1, 4.0)
    return record_of(
        candidate_of("numpy", "scratch", round_of(0, 2.0, 1.0), round_of(1, 4.0, 2.0)),
        candidate_of("torch", "scratch", *turns, round_of(2, 1.0, 0.5)),
        candidate_of("torch", "fast", round_of(0, 0.5, 0.5, own_layer=[6.0])),
        candidate_of("torch", "concise", round_of(0, 2.0, 0.5), round_of(1, 4.0, 0.5)),
    )


def cells_of(record, title):
    (table,) = (table for table in tables.tables(record) if table.title.startswith(title))
    return table.cells()


def test_speeds():
    rows = summary.speeds(small_record())
    names = [row.candidate.name for row in rows]
    assert names == ["numpy", "torch", "torch fast", "torch concise"]
    numpy, torch, fast, concise = (row.figures for row in rows)
    assert numpy["train"] == Spread(7.5, 5, 10)  # 20 characters in 2 and in 4 s
    assert torch["train"] == Spread(20, 20, 20)
    assert numpy["ratio"] == Spread(1, 1, 1)
    assert torch["ratio"] == Spread(3, 2, 4)  # round by round; the baseline has no third
    assert torch["own_layer"] == Spread(3, 2, 4)  # the median of each process's turns
    assert fast["own_layer"] == Spread(6, 6, 6)
    assert (numpy["own_layer"], concise["own_layer"]) == (None, None)
    assert torch["products"] == Spread(40, 40, 80)
    assert numpy["of_own_limit"] == Spread(0.5, 0.5, 0.5)
    assert torch["of_own_limit"] == Spread(0.5, 0.25, 0.5)
    assert summary.peak(small_record(), None) == 4
    assert torch["of_peak"].median == 1 / 4  # 1e9 operations in 1 s
    assert (torch["memory"].median, torch["device_memory"]) == (1.0, None)


def test_a_table_has_spreads_where_they_show_and_no_empty_column():
    heading, numpy, *_ = cells_of(small_record(), "Speed")
    columns = ["characters/s", "× numpy", "× own layer", "of own limit", "of peak"]
    assert heading == ["", *columns]
    assert numpy == ["numpy", "8 (5–10)", "1.00", "", "50%", "9% (6%–12%)"]


def test_a_varied_size_changes_the_characters_of_a_minibatch():
    rounds = (round_of(0, 2.0, value=4), round_of(0, 2.0, value=8))
    plan = {"vary": "batch_size", "values": [4, 8]}
    record = record_of(candidate_of("numpy", "scratch", *rounds), plan=plan)
    assert [row.figures["train"].median for row in summary.speeds(record)] == [10, 20]
    sizes = [row[1] for row in cells_of(record, "Speed")]
    assert sizes == ["batch_size", "4", "8"]


def test_several_workers():
    rounds = (round_of(0, 4.0, value=1), round_of(0, 2.5, without_exchange=[2.0], value=2))
    plan = {"vary": "workers", "values": [1, 2]}
    record = record_of(candidate_of("numpy", "scratch", *rounds), plan=plan)
    figures = summary.speeds(record)[1].figures
    assert (figures["speed_up"].median, figures["exchange"].median) == (1.6, 500)
    assert not any("take turns" in note for note in report.lines("notes", record))  # two cores
    record.plan.threads = 2
    assert any("take turns" in note for note in report.lines("notes", record))


def test_a_candidate_without_a_round_has_a_row_with_the_reason():
    failure = Failure("it was killed")
    record = record_of(
        candidate_of("numpy", "scratch", round_of()),
        candidate_of("torch", "fast", failures=[failure]),
    )
    heading, _, row = cells_of(record, "Speed")
    assert (row[0], row[heading.index("failed")]) == ("torch fast", "it was killed")
    assert "it was killed" in tables.spreadsheet(record)
    record.candidates = record.candidates[1:]  # and a table without rows is left out
    assert [table.title for table in tables.tables(record)] == ["Speed of training", "Quality"]
    record.candidates[0].failures = []  # it was interrupted, and a row has nothing but the name
    assert tables.tables(record) == []


def test_ratios_are_taken_to_the_first_candidate_that_is_offered():
    missing = Failure("The plain backend has no fast model.", "not offered")
    lacking = candidate_of("plain", "fast", failures=[missing])
    record = record_of(lacking, candidate_of("plain", "scratch", round_of()))
    (row,) = summary.speeds(record)
    assert (row.candidate.name, row.figures["ratio"].median) == ("plain", 1)
    assert report.lines("notes", record) == [f"plain fast: not offered: {missing.reason}"]
    assert not record.has_failed


def test_several_seeds():
    ends = (1.0, 2.0, 3.0)
    trials = [trial_of(9.0, end, seed=seed) for seed, end in enumerate(ends)]
    trials.append(trial_of(9.0, 9.0, seed=3))
    trials[-1].samples = []  # it was interrupted, and does not count
    candidate = candidate_of("numpy", "scratch", trials=trials)
    record = record_of(candidate, epochs=2, plan={"seeds": 4})
    heading, row = cells_of(record, "Quality")
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
def test_seconds_and_epochs_to_a_target(held_out, expected):
    trials = [trial_of(9.0, held_out=perplexity, seconds=3.0) for perplexity in held_out]
    candidate = candidate_of("numpy", "scratch", trials=trials)
    record = record_of(candidate, epochs=1, plan={"target": 5.0})
    heading, row = cells_of(record, "Quality")
    start = heading.index("reached 5")
    assert row[start : start + len(expected)] == expected
    assert ("seconds" in heading) == (len(expected) > 1)


def against(new, old):
    """The rows of a comparison that have a speed in the older one."""
    rows = summary.speeds(msgspec.structs.replace(new, against=old))
    return [row for row in rows if "before" in row.figures]


def one_speed(**more):
    return record_of(candidate_of("numpy", "scratch", round_of(0, 4.0)), **more)


def test_two_comparisons_beside_each_other():
    old, new = (
        record_of(candidate_of("numpy", "fast", *(round_of(n, s) for n, s in enumerate(seconds))))
        for seconds in ((2.0, 4.0, 5.0), (1.0, 2.0, 4.0))
    )
    new.against = old
    heading, row = cells_of(new, "Speed")
    assert heading[1:4] == ["characters/s", "before", "× before"]
    assert row[1:4] == ["10 (5–20)", "5 (4–10)", "2.00 (0.50–5.00)"]
    notes = report.lines("notes", new)
    assert any(note.startswith("Before is the comparison of") for note in notes)


@pytest.mark.parametrize(("vary", "values"), [("threads", [2, 1]), ("num_hiddens", [128, 64])])
def test_one_value_is_found_among_several(vary, values):
    several = record_of(
        candidate_of(
            *("numpy", "scratch"),
            *(round_of(0, time, value=value) for time, value in zip((2.0, 4.0), values)),
        ),
        plan={"vary": vary, "values": values},
    )
    one = one_speed()  # with one thread and 64 units
    (row,) = against(one, several)
    assert (row.value, row.figures["change"].median) == (None, 1)
    (row,) = against(several, one)
    assert (row.value, row.figures["change"].median) == (values[1], 1)

    def other(value):
        of_plan = {"plan": {vary: value}} if vary == "threads" else {"settings": {vary: value}}
        return one_speed(**of_plan)

    (row,) = against(other(values[0]), several)
    assert row.figures["change"].median == 0.5
    assert against(other(3), several) == []


WORK = [
    {"settings": {"cell": "rnn-relu"}},
    {"settings": {"dtype": "float64"}},
    {"settings": {"cell": "lstm"}},
    {"plan": {"tf32": True}},
    {"text": 60},
    {"device": "cuda"},
    {"plan": {"vary": "workers", "values": [2]}},
]


@pytest.mark.parametrize("work", WORK, ids=str)
def test_speeds_of_other_work_are_not_compared(work):
    old = one_speed(settings={"lr": 2.0})  # which costs the same
    assert len(against(one_speed(), old)) == 1
    new = one_speed(**{key: work[key] for key in work.keys() & {"settings", "plan"}})
    new.text = msgspec.structs.replace(new.text, vocabulary=work.get("text", 28))
    (candidate,) = new.candidates
    candidate.ready = msgspec.structs.replace(READY, device=work.get("device", "cpu"))
    candidate.rounds[0].value = new.plan.points[0]
    assert against(new, old) == []


def test_what_two_comparisons_differ_in():
    old, new = (record_of(candidate_of("torch", "fast")) for _ in range(2))
    new.against = old
    said = "The older comparison says: "
    assert not any(note.startswith(said) for note in report.lines("notes", new))
    new.settings = msgspec.structs.replace(new.settings, cell="lstm")
    machine = msgspec.structs.replace(MACHINE, python="3.13")
    new.candidates[0].ready = msgspec.structs.replace(READY, machine=machine)
    first, second = (note for note in report.lines("notes", new) if note.startswith(said))
    assert first.startswith(f"{said}cell rnn, 64 hidden units; ")
    assert second == f"{said}torch: numpy 1.26, Python 3.11"


def test_the_record_of_speeds_has_those_of_the_default_comparison():
    # The README shows how to put one's own figures beside these.
    default = read(COMPARISONS / "speed")
    default.plan.vary, default.plan.values = None, []
    default.candidates = [c for c in default.candidates if c.model == "scratch"]
    for candidate in default.candidates:
        candidate.rounds = [
            msgspec.structs.replace(timed, value=None) for timed in candidate.rounds_at(1)
        ]
    rows = against(default, read(COMPARISONS / "speed"))
    assert [row.candidate.name for row in rows] == list(OURS)
    assert {row.figures["change"].median for row in rows} == {1}


def test_a_name_in_a_record_is_no_mathematics_in_its_pictures():
    candidate = candidate_of("numpy", "scratch", round_of(), trials=[trial_of(9.0, 8.0)])
    candidate.environment = r"$\x$"
    drawn = pictures.draw(record_of(candidate), formats=["svg"])
    assert set(drawn) == {"speed.svg", "perplexity.svg"}


def test_a_perplexity_too_large_for_a_float():
    candidate = candidate_of("numpy", "scratch", trials=[trial_of(9.0, 1e304, None)])
    record, axes = record_of(candidate, epochs=3), Figure().add_subplot()
    heading, row = cells_of(record, "Quality")
    assert row[heading.index("perplexity")] == "above 1e300"
    assert pictures.perplexity(axes, record)
    assert axes.get_ylim()[1] < 100
    assert set(pictures.draw(record, formats=["svg"])) == {"perplexity.svg"}


# A record of 5 MiB, whose drawing once took 700 MiB.
DRAWN = """
from small_records import candidate_of, record_of, trial_of
from rnn_scratch.compare import pictures
from rnn_scratch.system import host
trials = [trial_of(20.0, 18.0, seed=seed) for seed in range(9000)]
pictures.draw(record_of(candidate_of("numpy", "scratch", trials=trials)))
print(host.peak_memory() // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="unknown on other systems")
def test_a_picture_of_many_runs_takes_little_memory():
    env = python_path(CLONE / "tests")
    assert int(there(program=("-c", DRAWN), env=env).ended(err="").out) < 300


def test_another_number_of_threads_than_planned_is_a_note():
    fewer, planned = (
        candidate_of(name, "fast", round_of(threads=threads))
        for name, threads in (("numpy", 1), ("torch", 2))
    )
    notes = report.lines("notes", record_of(fewer, planned, plan={"threads": 2}))
    assert notes == ["numpy fast: number of threads: 1, instead of 2."]


@pytest.mark.parametrize(
    ("numbers", "words"), [([1], "one process"), ([3], "3 processes"), ([5, 2], "2 to 5 processes")]
)
def test_the_number_of_processes(numbers, words):
    candidates = [candidate_of("numpy", "scratch", *map(round_of, range(each))) for each in numbers]
    text = report.lines("method", record_of(*candidates))[0]
    assert f"median of {words}." in text
    assert ("the lowest and the highest process" in text) == (numbers != [1])


def test_each_backend_has_its_device():
    candidates = [candidate_of(name, "fast") for name in ("numpy", "torch")]
    candidates[1].ready = msgspec.structs.replace(READY, device="cuda:0")
    lines = report.lines("setting", record_of(*candidates))
    assert lines[1].startswith("device: cpu (numpy), cuda:0 (torch); float32")


@pytest.mark.parametrize("folder", sorted(COMPARISONS.iterdir()), ids=lambda folder: folder.name)
def test_one_table_and_one_picture_of_a_report_are_open(folder):
    record = read(folder)
    page = report.page(record, pictures.draw(record))
    start = page.index("<details>")
    assert page[:start].count("<table") == page[:start].count("<img") == 1
    assert page.count("<table") == len(tables.tables(record))
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", page[page.index("<main>") :])
