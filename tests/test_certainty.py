"""How certain a comparison's times are: unstable ones with their reason, and verdicts."""

import itertools

import pytest
from helpers import there

from rnn_scratch.compare import certainty, changes, comparison, results, words
from rnn_scratch.system import host

IDLE = {"seconds": 10.0, "waited": 0.0, "stolen": 0.0, "throttled": 0.0}
SHORT = (
    "--backends=numpy",
    "--models=scratch,fast",
    "--corpus=tide-clock",
    "--num-hiddens=64",
    "--max-tokens=4000",
    "--epochs=1",
    "--repeats=5",
)


def test_coverage_is_that_of_counting():
    for number in (2, 3, 5):
        sides = list(itertools.product((-1, 1), repeat=number))  # of the median
        between = [each for each in sides if len(set(each)) > 1]
        assert certainty.coverage(number) == len(between) / len(sides)


def test_chance_is_that_of_counting():
    for n, m in ((2, 2), (3, 4), (5, 5)):
        places = [set(each) for each in itertools.combinations(range(n + m), n)]  # of the first
        for exceptions in range(3):
            extreme = 0
            for first in places:
                second = set(range(n + m)) - first
                larger = sum(a > b for a in first for b in second)
                extreme += (larger <= exceptions) + (n * m - larger <= exceptions)
            expected = min(1, extreme / len(places))
            assert certainty.chance(n, m, exceptions) == pytest.approx(expected)


def test_chance_of_many_processes_is_approximated(monkeypatch):
    exact = certainty.chance(20, 20, 120)
    monkeypatch.setattr(certainty, "MANY", 19)
    assert certainty.chance(20, 20, 120) == pytest.approx(exact, rel=0.05)
    assert 0 < certainty.chance(1000, 1000, 450_000) < 1e-3


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([100, 101, 102, 103, 104], [110, 111, 112, 113, 114], certainty.FASTER),
        ([110, 111, 112, 113, 114], [100, 101, 102, 103, 104], certainty.SLOWER),
        ([100, 101, 102, 103, 108], [107, 111, 112, 113, 114], certainty.FASTER),  # 1 of 25 pairs
        ([100, 101, 102, 109, 110], [108, 111, 112, 113, 114], certainty.EQUAL),  # 2 of them
        ([107, 111, 112, 113, 114], [100, 101, 102, 103, 107], certainty.SLOWER),  # two equal
        ([107, 107, 112, 113, 114], [100, 101, 102, 103, 107], certainty.EQUAL),  # twice
        ([100.0, 100.1, 100.2, 100.3, 100.4], [102, 102.1, 102.2, 102.3, 102.4], certainty.EQUAL),
        ([100, 101, 102], [110, 111, 112], certainty.TOO_FEW),
        ([100], [200], certainty.TOO_FEW),
        ([], [], certainty.TOO_FEW),
    ],
)
def test_verdicts(before, now, expected):
    assert certainty.verdict(before, now) == expected


@pytest.mark.parametrize(
    ("observed", "machine", "word"),
    [
        ({"throttled": 2.0, "stolen": 2.0}, {}, "limit on CPU time held it up for 20%"),
        ({"stolen": 2.0, "waited": 2.0}, {}, "gave its cores to others for 20%"),
        ({"waited": 2.0}, {"governor": "powersave"}, "waited for a core for 20%"),
        ({"waited": None}, {"governor": "powersave"}, "governor powersave"),
        ({}, {"governor": "performance", "numa_nodes": 2}, "several nodes"),
        ({}, {"numa_nodes": 1}, "no cause was found"),
    ],
)
def test_the_likely_reason(observed, machine, word):
    assert word in certainty.reason([{**IDLE, **observed}, {**IDLE, **observed}], machine)


def test_what_the_system_reports_of_waiting_grows():
    first, second = host.waiting(), host.waiting()
    assert first.keys() == second.keys() == IDLE.keys() - {"seconds"}
    for name, value in first.items():
        assert value is None or second[name] >= value >= 0


def test_a_candidate_that_is_much_slower_in_the_second_comparison(copy):
    done = there("compare", *SHORT, "--output", "before", cwd=copy)
    assert done.code == 0, done.err
    file = copy / "backends" / "numpy" / "fast.py"
    source = file.read_text(encoding="utf-8")
    line = "    return bind("
    assert source.count(line) == 1
    slow = (
        "    import time\n"
        "    def slow(batch, state, params, options):\n"
        "        time.sleep(0.02)\n"
        "        return backward(batch, state, params, options)\n"
    )
    slow = source.replace(line, slow + line).replace("to_arrays, backward)", "to_arrays, slow)")
    file.write_text(slow, encoding="utf-8")
    done = there("compare", *SHORT, "--against", "before", "--output", "now", cwd=copy)
    assert done.code == 0, done.err
    record = comparison.read(copy / "now")
    rows = {row["candidate"]: row for row in record["against"]["speeds"]}
    assert all(row["corrected"] for row in rows.values())
    assert rows["numpy fast"]["verdict"] == certainty.SLOWER
    heading, *cells = results.against_cells(record)
    assert {row[0]: row[heading.index("verdict")] for row in cells}["numpy fast"] == "slower"
    conditions = [
        measurement["conditions"]
        for candidate in record["candidates"]
        for measurement in candidate["speed"][0]["rounds"]
    ]
    assert len(conditions) == 10
    assert all(each["seconds"] > 0 for each in conditions)


def test_unstable_times_are_a_note_with_the_reason():
    rounds = [
        {"minibatches": [seconds], "conditions": {**IDLE, "waited": 1.0}}
        for seconds in (1.0, 1.0, 1.5)
    ]
    record = {
        "machine": {},
        "plan": {"vary": None},
        "candidates": [
            {"backend": "numpy", "model": "fast", "speed": [{"value": None, "rounds": rounds}]}
        ],
    }
    (note,) = words._about_unstable(record)
    assert note.startswith("numpy fast is unstable: its times vary by 25% ")
    assert "waited for a core for 10% of the time" in note
    rounds[-1]["minibatches"] = [1.1]
    assert list(words._about_unstable(record)) == []


TIMES, PRODUCTS = [2.0, 2.02, 2.04, 2.06, 2.08], [1.0, 1.01, 1.02, 1.03, 1.04]


def speeds(**factors):
    """A record of these backends: what their times and their products have been multiplied by."""

    def rounds(time, product):
        return [
            {"round": number, "minibatches": [time * a], "products": [product * b]}
            | {"generation": [1.0], "first": 1.0, "import": 1.0}
            | {"memory": None, "device_memory": None}
            for number, (a, b) in enumerate(zip(TIMES, PRODUCTS))
        ]

    return {
        "machine": {"processor": "one"},
        "settings": {"batch_size": 4, "num_steps": 5},
        "plan": {"vary": None, "threads": 1, "device": "cpu", "tf32": False},
        "text": {"vocabulary": 28},
        "candidates": [
            {"backend": backend, "model": "fast", "state": "measured", "trainings": []}
            | {"speed": [{"value": None, "rounds": rounds(*both)}]}
            for backend, both in factors.items()
        ],
    }


def first_verdict(now, before):
    row = changes.against(now, before)[0]
    return row["verdict"], row["corrected"]


def test_a_machine_that_is_slower_today_does_not_count():
    before = speeds(numpy=(1, 1))
    machine, candidate = speeds(numpy=(2, 2)), speeds(numpy=(1.1, 1))
    assert first_verdict(machine, before) == (certainty.EQUAL, True)
    assert first_verdict(candidate, before) == (certainty.SLOWER, True)
    # What has changed for the yardstick alone is no change of the candidate.
    assert first_verdict(speeds(numpy=(0.99, 0.9)), before) == (certainty.EQUAL, True)
    # On another processor, or with another version, there is no such yardstick.
    machine["machine"] = {"processor": "another"}
    assert first_verdict(machine, before) == (certainty.SLOWER, False)
    candidate["candidates"][0]["environment"] = {"numpy": "3"}
    assert first_verdict(candidate, before) == (certainty.SLOWER, False)


@pytest.mark.parametrize(
    ("numpy", "torch", "mxnet", "expected"),
    [
        ((0.97, 0.9), (0.92, 0.92), (0.91, 0.91), certainty.SLOWER),  # and the machine is faster
        ((0.97, 0.9), (0.92, 0.92), (1, 1), certainty.EQUAL),  # only some yardsticks are
        ((0.9, 0.8), (0.95, 0.95), (0.95, 0.95), certainty.EQUAL),  # the machine is, a little
        ((1.03, 1.1), (1.08, 1.08), (1.09, 1.09), certainty.FASTER),  # and the machine is slower
        ((1.03, 1.1), (1.08, 1.08), (1, 1), certainty.EQUAL),
        ((1.1, 1.2), (1.05, 1.05), (1.05, 1.05), certainty.EQUAL),
    ],
)
def test_the_other_backends_show_how_much_the_machine_has_changed(numpy, torch, mxnet, expected):
    before = speeds(numpy=(1, 1), torch=(1, 1), mxnet=(1, 1))
    now = speeds(numpy=numpy, torch=torch, mxnet=mxnet)
    assert first_verdict(now, before) == (expected, True)
    # Another version of a backend may have another limit on the same machine.
    for candidate in now["candidates"][1:]:
        candidate["environment"] = {"version": "3"}
    assert first_verdict(now, before) == (certainty.EQUAL, True)
