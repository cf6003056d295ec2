"""The figures of a comparison, on a record small enough to compute by hand."""

from pathlib import Path

import pytest

from rnn_scratch.compare import changes, comparison, pictures, results, summary, words
from rnn_scratch.compare.summary import Spread
from rnn_scratch.contract import VARIANTS
from rnn_scratch.registry import OURS

SETTINGS = {"batch_size": 4, "num_steps": 5}  # 20 characters in a minibatch


def times(number, minibatch, products, layer=None):
    """What a record has of one process; its own layer takes `layer` times as long."""
    measurement = {
        "round": number,
        "import": 1.0,
        "first": 2.0,
        "minibatches": [9.0, minibatch, minibatch],
        "products": [products] * 3,
        "generation": [0.5],
        "memory": 2**20,
        "device_memory": None,
    }
    if layer:
        measurement["own_layer"] = {
            "minibatches": [
                {"model": model, "layer": model * times}
                for model, times in ((1.0, 9.0), (2.0, layer), (4.0, layer))
            ],
            "generation": [{"model": 1.0, "layer": layer + 1}],
        }
    return measurement


def make_record(*candidates):
    return {
        "settings": SETTINGS,
        "machine": {"processor": "one", "cores": 2},
        "plan": {"vary": None, "threads": 1, "device": "cpu", "tf32": False},
        "text": {"vocabulary": 28},
        "outcome": "finished",
        "load": 0.0,
        "candidates": [
            {
                "backend": backend,
                "model": model,
                "state": "measured",
                "trainings": [],
                "speed": [{"value": None, "state": "measured", "rounds": rounds}],
            }
            for backend, model, rounds in candidates
        ],
    }


RECORD = make_record(
    ("numpy", "scratch", [times(0, 2.0, 1.0), times(1, 4.0, 2.0)]),
    ("torch", "scratch", [times(0, 1.0, 0.5, 2), times(1, 1.0, 0.25, 4), times(2, 1.0, 0.5)]),
    ("torch", "fast", [times(0, 0.5, 0.5, 6)]),
    ("torch", "concise", [times(0, 2.0, 0.5), times(1, 4.0, 0.5)]),
)


def test_every_variant_and_backend_has_its_words_and_its_style():
    for table in (words.DESCRIPTIONS, pictures.SHADES, pictures.LINES):
        assert tuple(table) == VARIANTS
    assert set(pictures.HATCHES) <= set(VARIANTS)
    assert tuple(pictures.COLORS) == OURS


def test_speeds():
    numpy, torch, fast, concise = summary.speeds(RECORD)
    assert [row.candidate for row in (torch, fast, concise)] == [
        "torch",
        "torch fast",
        "torch concise",
    ]
    assert numpy.train == Spread(7.5, 5, 10)  # 20 characters in 2 and in 4 s
    assert torch.train == Spread(20, 20, 20)
    assert numpy.ratio == Spread(1, 1, 1)
    assert torch.ratio == Spread(3, 2, 4)  # round by round; the baseline has no third
    assert torch.own_layer == Spread(3, 2, 4)  # the median of each process's turns
    assert fast.own_layer == Spread(6, 6, 6)
    assert torch.generate_own_layer == Spread(4, 3, 5)
    assert (numpy.own_layer, concise.own_layer) == (None, None)
    assert torch.products == Spread(40, 40, 80)
    assert numpy.of_own_limit == Spread(0.5, 0.5, 0.5)
    assert torch.of_own_limit == Spread(0.5, 0.25, 0.5)
    assert numpy.of_machine_limit == 7.5 / 40
    assert torch.memory == 1.0
    assert torch.device_memory is None


def test_a_candidate_without_a_round_has_a_row_without_figures():
    record = make_record(("numpy", "scratch", [times(0, 2.0, 1.0)]), ("torch", "fast", []))
    record["candidates"][1] |= {"state": "failed", "reason": "it was killed"}
    _, torch = summary.speeds(record)
    assert (torch.train, torch.ratio, torch.reason) == (None, None, "it was killed")
    assert results.speed_cells(record)[2][:2] == ["torch fast", "it was killed"]


def test_a_table_without_rows_is_left_out():
    record = make_record(("numpy", "scratch", []))
    record["candidates"][0] |= {"state": "failed", "reason": "it was killed"}
    assert list(results.tables(record)) == ["Speed of training", "Quality"]


def test_several_seeds():
    record = make_record(("numpy", "scratch", []))
    record["candidates"][0]["trainings"] = [
        {
            "seed": seed,
            "perplexity": [9.0, end],
            "parameters": "a",
            "minibatches seen": "b",
            "samples": ["text"],
        }
        for seed, end in enumerate((1.0, 2.0, 3.0))
    ]
    (row,) = summary.qualities(record)
    assert row.perplexity == Spread(2, 1, 3)
    assert (row.deviation, row.seeds) == (1.0, 3)


def test_a_training_that_was_interrupted_does_not_count():
    record = make_record(("numpy", "scratch", []))
    record["candidates"][0]["trainings"] = [{"seed": 0, "perplexity": [9.0]}]
    (row,) = summary.qualities(record)
    assert row.perplexity is None


def test_against():
    old = make_record(
        ("numpy", "scratch", [times(0, 4.0, 1.0)]), ("torch", "fast", [times(0, 4.0, 1.0)])
    )
    speeds = changes.against(RECORD, old)
    ratios = {row["candidate"]: row["ratio"] for row in speeds}
    assert ratios == {"numpy": 1.5, "torch fast": 8}


def test_one_number_of_threads_is_found_among_several():
    several, one = (make_record(("numpy", "scratch", [times(0, 4.0, 1.0)])) for _ in range(2))
    (speed,) = several["candidates"][0]["speed"]
    several["plan"]["vary"] = {"name": "threads", "values": [2, 1]}
    several["candidates"][0]["speed"] = [
        {**speed, "value": 2, "rounds": [times(0, 2.0, 1.0)]},
        {**speed, "value": 1},
    ]
    (row,) = changes.against(one, several)
    assert (row["value"], row["ratio"]) == (None, 1)
    (row,) = changes.against(several, one)
    assert (row["value"], row["ratio"]) == (1, 1)
    one["plan"]["threads"] = 2
    (row,) = changes.against(one, several)
    assert row["ratio"] == 0.5
    one["plan"]["threads"] = 4
    assert changes.against(one, several) == []


WORK = [
    lambda record: record["settings"].update(num_hiddens=64),
    lambda record: record["settings"].update(dtype="float64"),
    lambda record: record["settings"].update(cell="lstm"),
    lambda record: record["plan"].update(tf32=True),
    lambda record: record["plan"].update(device="cuda"),
    lambda record: record["candidates"][0].update(device="cuda"),
    lambda record: record["text"].update(vocabulary=60),
    lambda record: (
        record["plan"].update(vary={"name": "workers", "values": [2]})
        or record["candidates"][0]["speed"][0].update(value=2)
    ),
]


@pytest.mark.parametrize("change", WORK)
def test_speeds_of_other_work_are_not_compared(change):
    old, new = (make_record(("numpy", "scratch", [times(0, 4.0, 1.0)])) for _ in range(2))
    for record in (old, new):
        record["settings"] = {**SETTINGS, "lr": 1.0}
    new["settings"]["lr"] = 2.0  # which costs the same
    assert len(changes.against(new, old)) == 1
    change(new)
    assert changes.against(new, old) == []


def test_a_size_is_found_among_several_of_the_same_setting_only():
    old = make_record(("numpy", "scratch", [times(0, 4.0, 1.0)]))
    (speed,) = old["candidates"][0]["speed"]
    old["plan"]["vary"] = {"name": "num_hiddens", "values": [64, 4]}
    old["candidates"][0]["speed"] = [{**speed, "value": 64}, {**speed, "value": 4}]
    new = make_record(("numpy", "scratch", [times(0, 4.0, 1.0)]))
    assert changes.against(new, old) == []  # 512 units
    new["settings"] = {**SETTINGS, "num_hiddens": 64}
    (row,) = changes.against(new, old)
    assert (row["value"], row["ratio"]) == (None, 1)
    new["settings"] = {**SETTINGS, "batch_size": 64}
    assert changes.against(new, old) == []


def test_what_two_comparisons_differ_in():
    def described(**more):
        record = make_record(("numpy", "scratch", []), ("torch", "fast", []))
        record["text"] |= {"corpus": "time-machine", "sha256": "0123456789"}
        for candidate in record["candidates"]:
            candidate["environment"] = {"numpy": "1.26", "blas": "OpenBLAS"}
            candidate["machine"] = {"python": "3.11"}
        return record

    old, new = described(), described()
    new["settings"] = {**SETTINGS, "cell": "rnn"}  # which older records lack, and is the default
    assert changes.differences(new, old) == []
    new["plan"] |= {"tf32": True, "vary": {"name": "threads", "values": [1, 2]}}
    new["text"]["sha256"] = "9876543210"
    new["settings"]["cell"] = "lstm"
    new["candidates"][1] |= {"environment": {"numpy": "2.4"}, "machine": {"python": "3.13"}}
    assert changes.differences(new, old) == [
        "TF32: False before, True now",
        "vary: nothing before, threads=1,2 now",
        "text: time-machine (01234567) before, time-machine (98765432) now",
        "--cell: rnn before, lstm now",
        "numpy of torch: 1.26 before, 2.4 now",
        "Python of torch: 3.11 before, 3.13 now",
    ]


def test_the_record_of_speeds_has_those_of_the_default_comparison():
    # The README shows how to put one's own figures beside these.
    folder = Path(__file__).parent.parent / "notebooks" / "comparisons" / "speed"
    record = comparison.read(folder)
    scratch = [each for each in record["candidates"] if each["model"] == "scratch"]
    for candidate in scratch:
        candidate["speed"] = [
            {**speed, "value": None} for speed in candidate["speed"] if speed["value"] == 1
        ]
    plan = {**record["plan"], "vary": None, "threads": 1}
    default = {**record, "plan": plan, "candidates": scratch}
    rows = changes.against(default, comparison.read(folder))
    assert [row["candidate"] for row in rows] == list(OURS)
    assert {row["ratio"] for row in rows} == {1}
    assert all(row["corrected"] for row in rows)


def test_ratios_are_taken_to_the_first_candidate_that_is_offered():
    record = make_record(("numpy", "concise", []), ("torch", "fast", [times(0, 1.0, 1.0)]))
    record["candidates"][0]["state"] = "not offered"
    assert summary.baseline(record) == "torch fast"
    (row,) = summary.speeds(record)
    assert row.ratio == Spread(1, 1, 1)


def test_another_number_of_threads_than_planned_is_a_note():
    record = make_record(("numpy", "scratch", [times(0, 2.0, 1.0)]), ("torch", "scratch", []))
    record["plan"]["threads"] = 2
    for candidate, threads in zip(record["candidates"], (1, 2)):
        candidate["speed"][0]["threads"] = threads
    notes = words.notes(record)
    assert notes[0] == "numpy: number of threads: 1, instead of 2."
    assert not any("torch" in note for note in notes)


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
    rounds = [[times(n, 1.0, 1.0) for n in range(number)] for number in numbers]
    note = words.how_measured(make_record(*(("numpy", "scratch", each) for each in rounds)))[0]
    assert processes in note
    assert interval in note


def test_the_sentence_about_float64_comes_from_the_record():
    record = make_record(("numpy", "scratch", []), ("torch", "scratch", []))
    assert words.float64_sentence(record) == ""
    record["candidates"][1]["float64"] = {"differences": [2e-16] * 10 + [1e-3, 4e-5]}
    sentence = words.float64_sentence(record)
    assert all(word in sentence for word in ("2e-16", "4e-05", "0.001", "chaotic"))
    record["candidates"][1]["float64"] = {"differences": [2e-16] * 10 + [5e-16, 0.0]}
    sentence = words.float64_sentence(record)
    assert "5e-16" in sentence
    assert "chaotic" not in sentence
