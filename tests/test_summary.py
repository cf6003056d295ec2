"""The figures of a comparison, on a record small enough to reckon by head."""

from rnn_scratch.compare import summary, words
from rnn_scratch.compare.summary import Spread

SETTINGS = {"batch_size": 4, "num_steps": 5}  # 20 characters in a minibatch


def one(number, minibatch, products, layer=None, memory=2**20):
    beside = {"beside": {"minibatches": [[1.0, 9.0], [2.0, 2.0 * layer], [4.0, 4.0 * layer]],
                         "generation": [[1.0, layer + 1]]}} if layer else {}  # fmt: skip
    return {
        **beside,
        "round": number, "import": 1.0, "first": 2.0, "minibatches": [9.0, minibatch, minibatch],
        "products": [products], "generation": [0.5], "memory": memory,
        "device_memory": None,
    }  # fmt: skip


def record(*candidates, vary=None):
    return {
        "settings": SETTINGS,
        "plan": {"vary": vary, "backends": ["numpy", "torch"]},
        "candidates": [
            {"backend": backend, "model": model, "state": "measured", "trainings": [],
             "speed": [{"value": None, "state": "measured", "rounds": rounds}]}
            for backend, model, rounds in candidates
        ],
    }  # fmt: skip


FOUND = record(
    ("numpy", "scratch", [one(0, 2.0, 1.0), one(1, 4.0, 2.0)]),
    ("torch", "scratch", [one(0, 1.0, 0.5, 2), one(1, 1.0, 0.25, 4), one(2, 1.0, 0.5)]),
    ("torch", "concise", [one(0, 2.0, 0.5), one(1, 4.0, 0.5)]),
)


def test_speeds():
    numpy, torch, concise = summary.speeds(FOUND)
    assert numpy.train == Spread(7.5, 5, 10)  # 20 characters in 2 and in 4 s
    assert torch.train == Spread(20, 20, 20)
    assert numpy.ratio == Spread(1, 1, 1)
    assert torch.ratio == Spread(3, 2, 4)  # round by round; the third has nothing beside it
    assert torch.own_layer == Spread(3, 2, 4)  # of each process the median of its turns
    assert torch.generate_own_layer == Spread(4, 3, 5)
    assert (numpy.own_layer, concise.own_layer) == (None, None)
    assert torch.products == Spread(40, 40, 80)
    assert numpy.of_own_limit == Spread(0.5, 0.5, 0.5)
    assert torch.of_own_limit == Spread(0.5, 0.25, 0.5)
    assert numpy.of_machine_limit == 7.5 / 40
    assert torch.memory == 1.0
    assert torch.device_memory is None


def test_a_candidate_without_a_round_has_a_row_without_figures():
    found = record(("numpy", "scratch", [one(0, 2.0, 1.0)]), ("torch", "scratch", []))
    found["candidates"][1] |= {"state": "failed", "reason": "it was killed"}
    _, torch = summary.speeds(found)
    assert (torch.train, torch.ratio, torch.reason) == (None, None, "it was killed")
    cells = words.speed_cells(found)
    assert cells[2][:2] == ["torch", "it was killed"]


def test_several_seeds():
    found = record(("numpy", "scratch", []))
    found["candidates"][0]["trainings"] = [
        {"seed": seed, "perplexity": [9.0, end], "parameters": "a", "minibatches seen": "b",
         "samples": ["text"]}
        for seed, end in enumerate((1.0, 2.0, 3.0))
    ]  # fmt: skip
    (row,) = summary.qualities(found)
    assert row.perplexity == Spread(2, 1, 3)
    assert (row.deviation, row.seeds) == (1.0, 3)


def test_a_training_that_was_cut_off_counts_for_nothing():
    found = record(("numpy", "scratch", []))
    found["candidates"][0]["trainings"] = [{"seed": 0, "perplexity": [9.0]}]
    (row,) = summary.qualities(found)
    assert row.perplexity is None


def test_against():
    old = record(("numpy", "scratch", [one(0, 4.0, 1.0)]), ("mxnet", "scratch", [one(0, 1, 1)]))
    (row,) = summary.against(FOUND, old)
    assert (row["candidate"], row["ratio"]) == ("numpy", 1.5)


def test_other_threads_than_asked_for_are_told():
    found = record(("numpy", "scratch", [one(0, 2.0, 1.0)]), ("torch", "scratch", []))
    found |= {"outcome": "finished", "load": 0.0}
    found["plan"] |= {"threads": 2, "repeats": 1}
    for candidate, threads in zip(found["candidates"], (1, 2)):
        candidate["speed"][0]["threads"] = threads
    notes = words.notes(found)
    assert notes[0] == "numpy computed with 1 threads, and 2 were asked for."
    assert not any("torch" in note for note in notes)


def test_what_float64_shows_is_said_from_the_record():
    found = record(("numpy", "scratch", []), ("torch", "scratch", []))
    assert words.float64_sentence(found) == ""
    found["candidates"][1]["float64"] = {"differences": [2e-16] * 10 + [1e-3, 4e-5]}
    sentence = words.float64_sentence(found)
    assert all(words in sentence for words in ("2e-16", "4e-05", "0.001", "chaotic"))
    found["candidates"][1]["float64"] = {"differences": [2e-16] * 10 + [5e-16, 0.0]}
    sentence = words.float64_sentence(found)
    assert "5e-16" in sentence
    assert "chaotic" not in sentence
