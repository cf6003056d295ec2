"""The figures of a comparison, on a record small enough to compute by hand, and their certainty."""

import itertools

import msgspec
import pytest
from helpers import CLONE
from small_records import MACHINE, READY, candidate_of, record_of, round_of, trial_of

from rnn_scratch.compare import certainty, changes, metrics, pictures, sentences, tables
from rnn_scratch.compare.certainty import EQUAL, FASTER, SLOWER, TOO_FEW
from rnn_scratch.compare.metrics import Spread
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.contract import VARIANTS
from rnn_scratch.registry import OURS


def with_layer(number, times):
    """A round in which the own layer takes so many times as long, but for the first turn."""
    own_layer = [9.0, times, times]
    return round_of(number, 1.0, 0.25 if number else 0.5, own_layer=own_layer)


def small_record():
    return record_of(
        candidate_of("numpy", "scratch", round_of(0, 2.0, 1.0), round_of(1, 4.0, 2.0)),
        candidate_of(
            "torch", "scratch", with_layer(0, 2.0), with_layer(1, 4.0), round_of(2, 1.0, 0.5)
        ),
        candidate_of("torch", "fast", round_of(0, 0.5, 0.5, own_layer=[6.0])),
        candidate_of("torch", "concise", round_of(0, 2.0, 0.5), round_of(1, 4.0, 0.5)),
    )


def test_every_variant_and_backend_has_its_words_and_its_style():
    for table in (sentences.DESCRIPTIONS, pictures.SHADES, pictures.LINES):
        assert tuple(table) == VARIANTS
    assert set(pictures.HATCHES) <= set(VARIANTS)
    assert tuple(pictures.COLORS) == OURS


def test_speeds():
    numpy, torch, fast, concise = metrics.speeds(small_record())
    names = [row.candidate.name for row in (numpy, torch, fast, concise)]
    assert names == ["numpy", "torch", "torch fast", "torch concise"]
    assert numpy.train == Spread(7.5, 5, 10)  # 20 characters in 2 and in 4 s
    assert torch.train == Spread(20, 20, 20)
    assert numpy.ratio == Spread(1, 1, 1)
    assert torch.ratio == Spread(3, 2, 4)  # round by round; the baseline has no third
    assert torch.own_layer == Spread(3, 2, 4)  # the median of each process's turns
    assert fast.own_layer == Spread(6, 6, 6)
    assert (numpy.own_layer, concise.own_layer) == (None, None)
    assert torch.products == Spread(40, 40, 80)
    assert numpy.of_own_limit == Spread(0.5, 0.5, 0.5)
    assert torch.of_own_limit == Spread(0.5, 0.25, 0.5)
    assert (torch.peak, torch.of_peak) == (4, 1 / 4)  # 1e9 operations in 1 s
    assert (torch.memory, torch.device_memory) == (1.0, None)


def test_a_varied_size_changes_the_characters_of_a_minibatch():
    rounds = (round_of(0, 2.0, value=4), round_of(0, 2.0, value=8))
    plan = {"vary": "batch_size", "values": [4, 8]}
    speeds = metrics.speeds(record_of(candidate_of("numpy", "scratch", *rounds), plan=plan))
    assert [row.train.median for row in speeds] == [10, 20]


def test_a_candidate_without_a_round_has_a_row_with_the_reason():
    failure = Failure("it was killed")
    record = record_of(
        candidate_of("numpy", "scratch", round_of()),
        candidate_of("torch", "fast", failures=[failure]),
    )
    assert [row.candidate.name for row in metrics.speeds(record)] == ["numpy"]
    assert tables.speed_cells(record)[2][:2] == ["torch fast", "it was killed"]
    record.candidates = record.candidates[1:]  # and a table without rows is left out
    assert list(tables.tables(record)) == ["Speed of training", "Quality"]
    record.candidates[0].failures = []  # it was interrupted, and a row has nothing but the name
    assert tables.tables(record) == {}


def test_ratios_are_taken_to_the_first_candidate_that_is_offered():
    missing = Failure("The plain backend has no fast model.", "not offered")
    lacking = candidate_of("plain", "fast", failures=[missing])
    record = record_of(lacking, candidate_of("plain", "scratch", round_of()))
    (row,) = metrics.speeds(record)
    assert (row.candidate.name, row.ratio.median) == ("plain", 1)
    assert sentences.notes(record) == [f"plain fast: not offered: {missing.reason}"]
    assert not record.has_failed


def test_several_seeds():
    ends = (1.0, 2.0, 3.0)
    trials = [trial_of(9.0, end, seed=seed) for seed, end in enumerate(ends)]
    trials.append(trial_of(9.0, 9.0, seed=3))
    trials[-1].samples = []  # it was interrupted, and does not count
    record = record_of(candidate_of("numpy", "scratch", trials=trials), epochs=2)
    (row,) = metrics.qualities(record)
    assert row.perplexity == [1, 2, 3]
    assert row.seeds == 3
    assert tables.quality_cells(record)[1][2] == "2 ± 1 (3 seeds)"


@pytest.mark.parametrize(
    ("held_out", "cells"),
    [
        ((4.0,), ("3.0", "1")),
        ((4.0, 5.0), ("3.0 ± 0.0", "1.0 ± 0.0")),
        ((4.0, 6.0), ("3.0 (reached by 1 of 2 seeds)", "1")),
        ((6.0,), ("not reached", "")),
    ],
)
def test_seconds_and_epochs_to_a_target(held_out, cells):
    trials = [trial_of(9.0, held_out=each, seconds=3.0) for each in held_out]
    candidate = candidate_of("numpy", "scratch", trials=trials)
    record = record_of(candidate, epochs=1, plan={"target": 5.0})
    (row,) = metrics.qualities(record)
    assert tables.target_cells(row) == cells
    heading, values = tables.quality_cells(record)
    assert values[heading.index("seconds to 5")] == cells[0]


def against(new, old):
    return changes.speeds(msgspec.structs.replace(new, against=old))


def one_speed(**more):
    return record_of(candidate_of("numpy", "scratch", round_of(0, 4.0)), **more)


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
    assert (row.now.value, row.ratio) == (None, 1)
    (row,) = against(several, one)
    assert (row.now.value, row.ratio) == (values[1], 1)

    def other(value):
        of_plan = {"plan": {vary: value}} if vary == "threads" else {"settings": {vary: value}}
        return one_speed(**of_plan)

    (row,) = against(other(values[0]), several)
    assert row.ratio == 0.5
    assert against(other(3), several) == []


WORK = [
    {"settings": {"activation": "relu"}},
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
    assert against(new, old) == []


def test_what_two_comparisons_differ_in():
    def described(values, **more):
        names, plan = (("numpy", "scratch"), ("torch", "fast")), more.pop("plan", {})
        return record_of(
            *(candidate_of(*each) for each in names),
            plan={"vary": "threads", "values": values, **plan},
            **more,
        )

    old = described([1])
    assert changes.differences(described([1], against=old)) == []
    new = described([1, 2], settings={"cell": "lstm"}, plan={"tf32": True}, against=old)
    new.text = msgspec.structs.replace(new.text, sha256="9876543210")
    machine = msgspec.structs.replace(MACHINE, python="3.13")
    versions = {"numpy": "2.4", "blas": "OpenBLAS"}  # the last one the other lacks
    new.candidates[1].ready = msgspec.structs.replace(READY, machine=machine, versions=versions)
    assert changes.differences(new) == [
        "TF32: False before, True now",
        "vary: threads=1 before, threads=1,2 now",
        "text: file (01234567) before, file (98765432) now",
        "--cell: rnn before, lstm now",
        "numpy of torch: 1.26 before, 2.4 now",
        "Python of torch: 3.11 before, 3.13 now",
    ]


def test_the_record_of_speeds_has_those_of_the_default_comparison():
    # The README shows how to put one's own figures beside these.
    folder = CLONE / "notebooks" / "comparisons" / "speed"
    default = read(folder)
    default.plan.vary, default.plan.values = None, []
    default.candidates = [each for each in default.candidates if each.model == "scratch"]
    for candidate in default.candidates:
        candidate.rounds = [
            msgspec.structs.replace(each, value=None) for each in candidate.rounds_at(1)
        ]
    rows = against(default, read(folder))
    assert [row.now.candidate.name for row in rows] == list(OURS)
    assert {row.ratio for row in rows} == {1}
    assert all(row.corrected for row in rows)


def test_another_number_of_threads_than_planned_is_a_note():
    fewer, planned = (
        candidate_of(name, "fast", round_of(threads=threads))
        for name, threads in (("numpy", 1), ("torch", 2))
    )
    notes = sentences.notes(record_of(fewer, planned, plan={"threads": 2}))
    assert notes == ["numpy fast: number of threads: 1, instead of 2."]


@pytest.mark.parametrize(
    ("numbers", "processes", "interval"),
    [
        ((1,), "of one process,", "no spread"),
        ((3,), "of 3 processes,", "with a confidence of 75%."),
        ((5, 0), "of 5 processes,", "with a confidence of 94%."),
        ((5, 2), "of 2 to 5 processes,", "with a confidence of 50% or more."),
    ],
)
def test_the_number_of_processes(numbers, processes, interval):
    candidates = [
        candidate_of("numpy", "scratch", *map(round_of, range(number))) for number in numbers
    ]
    text = sentences.method(record_of(*candidates))[0]
    assert processes in text
    assert interval in text


# How certain the times are


def test_coverage_is_that_of_counting():
    for number in (2, 3, 5):
        sides = list(itertools.product((-1, 1), repeat=number))  # of the median
        between = [each for each in sides if len(set(each)) > 1]
        assert certainty.coverage(number) == len(between) / len(sides)


def test_p_value_is_that_of_counting():
    for n, m in ((2, 2), (3, 4), (5, 5)):
        places = [set(each) for each in itertools.combinations(range(n + m), n)]  # of the first
        for exceptions in range(3):
            extreme = 0
            for first in places:
                second = set(range(n + m)) - first
                larger = sum(a > b for a in first for b in second)
                extreme += (larger <= exceptions) + (n * m - larger <= exceptions)
            expected = min(1, extreme / len(places))
            assert certainty.p_value(n, m, exceptions) == pytest.approx(expected)


def test_p_value_of_many_processes_is_approximated(monkeypatch):
    exact = certainty.p_value(20, 20, 120)
    monkeypatch.setattr(certainty, "MANY_TIMES", 19)
    assert certainty.p_value(20, 20, 120) == pytest.approx(exact, rel=0.05)
    assert 0 < certainty.p_value(1000, 1000, 450_000) < 1e-3


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([100, 101, 102, 103, 104], [110, 111, 112, 113, 114], FASTER),
        ([110, 111, 112, 113, 114], [100, 101, 102, 103, 104], SLOWER),
        ([100, 101, 102, 103, 108], [107, 111, 112, 113, 114], FASTER),  # 1 of 25 pairs
        ([100, 101, 102, 109, 110], [108, 111, 112, 113, 114], EQUAL),  # 2 of them
        ([107, 111, 112, 113, 114], [100, 101, 102, 103, 107], SLOWER),  # two equal
        ([107, 107, 112, 113, 114], [100, 101, 102, 103, 107], EQUAL),  # twice
        ([100.0, 100.1, 100.2, 100.3, 100.4], [102, 102.1, 102.2, 102.3, 102.4], EQUAL),
        ([100, 101, 102], [110, 111, 112], TOO_FEW),
        ([100], [200], TOO_FEW),
        ([], [], TOO_FEW),
    ],
)
def test_verdicts(before, now, expected):
    assert certainty.verdict(before, now) == expected


def test_unstable_times_are_a_note():
    rounds = [round_of(n, each) for n, each in enumerate((1.0, 1.0, 1.5))]
    record = record_of(candidate_of("numpy", "fast", *rounds))
    (note,) = sentences.notes(record)
    assert note.startswith("numpy fast is unstable: its times vary by 25% from process to process")
    rounds[-1].minibatches = [1.1]
    assert sentences.notes(record) == []


TIMES = [2.0, 2.02, 2.04, 2.06, 2.08]


def verdict(time, product, processor="one", numpy="1.26"):
    """Of a candidate whose times and whose products have been multiplied by these factors."""

    def record(time, product):
        rounds = [round_of(n, time * a, product * a / 2) for n, a in enumerate(TIMES)]
        return record_of(candidate_of("numpy", "fast", *rounds))

    before, now = record(1, 1), record(time, product)
    now.machine = msgspec.structs.replace(MACHINE, processor=processor)
    now.candidates[0].ready = msgspec.structs.replace(READY, versions={"numpy": numpy})
    now.against = before
    (row,) = changes.speeds(now)
    return row.verdict, row.corrected


def test_a_machine_that_is_slower_today_does_not_count():
    assert verdict(2, 2) == (EQUAL, True)
    assert verdict(0.5, 0.5) == (EQUAL, True)
    assert verdict(1.1, 1) == (SLOWER, True)
    assert verdict(0.9, 1) == (FASTER, True)
    # What has changed for the yardstick alone is no change of the candidate.
    assert verdict(0.99, 0.9) == (EQUAL, True)
    assert verdict(1.01, 1.1) == (EQUAL, True)
    # On another processor, or with another version, there is no such yardstick.
    assert verdict(2, 2, processor="another") == (SLOWER, False)
    assert verdict(0.5, 0.5, numpy="3") == (FASTER, False)
