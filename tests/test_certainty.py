"""How certain a comparison's times are: unstable ones, and verdicts."""

import itertools

import msgspec
import pytest
from small_records import MACHINE, READY, candidate_of, record_of, round_of

from rnn_scratch.compare import certainty, changes, sentences
from rnn_scratch.compare.certainty import EQUAL, FASTER, SLOWER, TOO_FEW


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
