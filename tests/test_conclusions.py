"""The sentences that say what a comparison has shown, computed from its record."""

import itertools
import re
from pathlib import Path

import pytest

from rnn_scratch.compare import certainty, comparison, conclusions, pictures, report, summary
from rnn_scratch.compare.plan import Spec

RECORDS = Path(__file__).parent.parent / "notebooks" / "comparisons"


def measured(seconds, own_layer=None, without_exchange=None):
    """A round whose minibatches take this long."""
    return {
        "round": 0,
        "minibatches": [seconds],
        "products": [seconds / 2],
        "generation": [1.0],
        "first": 1.0,
        "import": 1.0,
        "memory": None,
        "device_memory": None,
        **({"without_exchange": without_exchange} if without_exchange else {}),
        **({"own_layer": own_layer} if own_layer else {}),
    }


def candidate(backend, model, perplexity, *rounds, **training):
    """A candidate with a round for each value."""
    speed = [
        {"value": value, "threads": 1, "state": "measured", "rounds": [each]}
        for value, each in rounds
    ]
    trained = {"seed": 0, "perplexity": [perplexity], "samples": ["text"], **training}
    return {
        "backend": backend,
        "model": model,
        "state": "measured",
        "trainings": [trained],
        "speed": speed,
    }


def record(*candidates, vary=None, **plan):
    return {
        "settings": {"batch_size": 10, "num_steps": 10, "num_hiddens": 64, "num_epochs": 7},
        "plan": {"vary": vary, "threads": 1, **plan},
        "candidates": list(candidates),
    }


def test_the_fastest_the_results_and_the_own_layers():
    pairs = [{"model": 1.0, "layer": 2.0}]
    own = {"minibatches": pairs, "generation": pairs}
    each = record(
        candidate("numpy", "scratch", 2.001, (None, measured(4.0))),
        candidate("torch", "fast", 2.0, (None, measured(1.0, own))),
        candidate("torch", "concise", 2.0, (None, measured(2.0))),
    )
    assert conclusions.sentences(each) == [
        "With one thread and 64 hidden units, PyTorch's `fast` has the highest median speed: 100 "
        "characters per second, 4.0 times that of NumPy's `scratch`.",
        "All end at about the same perplexity: after 7 epochs it is between 2.000 and 2.001.",
        "Compared with the frameworks' own layers, `fast` is 2.00 times as fast.",
    ]
    each["candidates"][0]["trainings"][0]["perplexity"] = [3.0]
    assert conclusions.results(each) == "After 7 epochs the perplexity is between 2.000 and 3.000."
    each["settings"]["num_epochs"] = 1
    for trained in each["candidates"]:
        trained["trainings"][0]["perplexity"] = [2.0]
    assert conclusions.results(each).endswith(": after 1 epoch it is 2.000.")


def test_sizes_and_workers():
    sizes = record(
        candidate("numpy", "scratch", 2.0, (64, measured(4.0)), (128, measured(8.0))),
        candidate("torch", "scratch", 2.0, (64, measured(1.0)), (128, measured(4.0))),
        vary={"name": "num_hiddens", "values": [64, 128]},
    )
    (sentence, *_) = conclusions.sentences(sizes)
    assert (
        "4.0 times as fast as the slowest with 64 hidden units, and 2.0 times with 128" in sentence
    )
    alone, together = measured(4.0), measured(2.5, without_exchange=[2.0])
    workers = record(
        candidate("numpy", "scratch", 2.0, (1, alone), (2, together)),
        vary={"name": "workers", "values": [1, 2]},
    )
    (sentence, *_) = conclusions.sentences(workers)
    assert sentence == (
        "2 workers train 1.60 times as fast as one; of a minibatch, the exchange takes 500.0 ms."
    )
    (_, two) = summary.speeds(workers)
    assert (two.speed_up.median, two.efficiency.median, two.exchange.median) == (1.6, 0.8, 500)


def test_the_time_to_a_target():
    def ending(backend, seconds, reached=True):
        training = {"held_out": [4.9], "seconds": [seconds], "reached": reached}
        return candidate(backend, "fast", 4.0, (None, measured(1.0)), **training)

    each = record(ending("numpy", 9.0), ending("torch", 3.0), target=5.0)
    assert conclusions.results(each) == (
        "A held-out perplexity of 5 is reached first by PyTorch's `fast` after 3.0 s, last by "
        "NumPy's `fast` after 9.0 s of training."
    )
    each["candidates"].append(ending("jax", 9.0, reached=False))
    assert conclusions.results(each).endswith("9.0 s of training, and not by JAX's `fast`.")
    none = record(ending("numpy", 9.0, reached=False), target=5.0)
    assert conclusions.results(none) == "No candidate has reached a held-out perplexity of 5."
    # Of several seeds, all have to reach it.
    each = record(ending("numpy", 9.0), ending("torch", 3.0), target=5.0)
    for trained in each["candidates"]:
        trained["trainings"].append({**trained["trainings"][0], "seed": 1})
    each["candidates"][1]["trainings"][1]["reached"] = False
    assert conclusions.results(each) == (
        "A held-out perplexity of 5 is reached by NumPy's `fast` after 9.0 s of training, and not "
        "always by PyTorch's `fast`."
    )
    each["candidates"][0]["trainings"][0]["reached"] = False
    assert conclusions.results(each).startswith("No candidate has always reached")


def test_when_trainings_in_float64_diverge():
    def trained(corpus, *differences):
        candidates = [candidate(name, "fast", 2.0) for name in ("numpy", "torch", "jax")]
        for each, curve in zip(candidates, [[0.0] * 14, *differences]):
            each["float64"] = {"differences": curve}
        return {**record(*candidates), "text": {"corpus": corpus}}  # of two updates an epoch

    none, grown = [1e-16] * 14, [1e-16] * 7 + [2e-11, 1e-12, 1e-4, 0.2, *[1e-12] * 3]
    texts = [trained("a", none, grown), trained("b", none, none), trained("c", grown[:9] * 2)]
    assert conclusions.divergence(texts) == (
        "How soon the losses of the frameworks in float64 diverge depends on the text. They first "
        "differ by a relative 1e-11 on `a` in epoch 4 and by 1% in epoch 6; on `b` not within 7 "
        "epochs; on `c` in epoch 3 and by 1% not within 7 epochs."
    )
    assert conclusions.divergence([record(candidate("numpy", "fast", 2.0))]) == ""


def test_a_record_with_nothing_to_compare_has_no_sentences():
    assert conclusions.sentences(record(candidate("numpy", "scratch", 2.0))) == []


@pytest.mark.parametrize("folder", sorted(RECORDS.iterdir()), ids=lambda folder: folder.name)
def test_the_report_begins_with_the_sentences(folder):
    each = comparison.read(folder)
    page = report.page(each, pictures.draw(each))
    sentences = conclusions.sentences(each)
    assert 1 <= len(sentences) <= 3
    shown = re.findall(r'<p class="conclusion">(.*?)</p>', page)
    assert [re.sub("<.*?>", "", line).replace("&#39;", "'") for line in shown] == [
        line.replace("`", "") for line in sentences
    ]
    assert page.index("conclusion") < page.index("<table")
    # One table and one picture are open, and the rest is folded.
    start = page.index("<details>")
    assert page[:start].count("<table") == 1
    assert page[:start].count("<img") == 1


def test_a_bar_chart_has_a_gap_between_frameworks():
    rows = [Spec("numpy"), Spec("torch"), Spec("torch", "fast"), Spec("torch", "fast", "new")]
    places = pictures._places(rows)
    assert [b - a for a, b in itertools.pairwise(places)] == [1.5, 1, 1.5]


FASTER, SLOWER, EQUAL = certainty.FASTER, certainty.SLOWER, certainty.EQUAL
CHANGED = "Compared with the comparison of 12:00, "


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (
            [FASTER, SLOWER, EQUAL],
            CHANGED + "NumPy's `scratch` is faster, and PyTorch's `fast` is slower.",
        ),
        (
            [SLOWER] * 3,
            CHANGED + "NumPy's `scratch`, PyTorch's `fast` and JAX's `fast` are slower.",
        ),
        ([EQUAL, SLOWER, certainty.TOO_FEW], CHANGED + "PyTorch's `fast` is slower."),
        (
            [EQUAL] * 3,
            "No candidate is measurably faster or slower than in the comparison of 12:00.",
        ),
        (
            [certainty.TOO_FEW] * 3,
            "There are too few processes to tell what has changed since the comparison of 12:00.",
        ),
    ],
)
def test_what_has_changed_comes_first(verdicts, expected):
    pairs = [{"model": 1.0, "layer": 2.0}]
    own = {"minibatches": pairs, "generation": pairs}
    each = record(
        candidate("numpy", "scratch", 2.001, (None, measured(4.0))),
        candidate("torch", "fast", 2.0, (None, measured(1.0, own))),
        candidate("jax", "fast", 2.0, (None, measured(2.0))),
    )
    before = conclusions.sentences(each)
    assert len(before) == 3
    names = ("numpy", "torch fast", "jax fast")
    rows = [{"candidate": a, "value": None, "verdict": b} for a, b in zip(names, verdicts)]
    each["against"] = {"started": "12:00", "speeds": rows}
    assert conclusions.sentences(each) == [expected, *before[:2]]
    each["plan"]["vary"] = {"name": "threads", "values": [1, 2]}
    rows[1]["value"] = 2
    assert ("PyTorch's `fast` (threads 2)" in conclusions.changes(each)) == ("PyTorch" in expected)
    for row in rows:
        del row["verdict"]  # which older records lack
    assert conclusions.changes(each) == ""
