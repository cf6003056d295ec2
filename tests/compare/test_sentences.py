"""The sentences that say what a comparison has shown, computed from its record."""

import re

import msgspec
import pytest
from helpers import CLONE
from small_records import READY, candidate_of, record_of, round_of, trial_of

from rnn_scratch.compare import changes, metrics, pictures, report, sentences
from rnn_scratch.compare.certainty import EQUAL, FASTER, SLOWER, TOO_FEW
from rnn_scratch.compare.changes import Change
from rnn_scratch.compare.record import read

RECORDS = CLONE / "notebooks" / "comparisons"


def trained(backend, model, perplexity, *rounds, epochs=7, **more):
    return candidate_of(backend, model, *rounds, trials=[trial_of(*[perplexity] * epochs, **more)])


def three(*perplexities, epochs=7):
    rounds = (round_of(0, 4.0), round_of(0, 1.0, own_layer=[2.0]), round_of(0, 2.0))
    names = (("numpy", "scratch"), ("torch", "fast"), ("torch", "concise"))
    each = zip(names, perplexities, rounds)
    return record_of(
        *(trained(*name, end, own, epochs=epochs) for name, end, own in each), epochs=epochs
    )


def test_the_fastest_the_results_and_the_own_layers():
    assert sentences.conclusions(three(2.001, 2.0, 2.0)) == [
        "With one thread and 64 hidden units, PyTorch's `fast` has the highest median speed: 20 "
        "characters per second, 4.0 times that of NumPy's `scratch`.",
        "All end at about the same perplexity: after 7 epochs it is between 2.000 and 2.001.",
        "Compared with the frameworks' own layers, `fast` is 2.00 times as fast.",
    ]
    other = sentences.results(three(3.0, 2.0, 2.0))
    assert other == "After 7 epochs the perplexity is between 2.000 and 3.000."
    assert sentences.results(three(2.0, 2.0, 2.0, epochs=1)).endswith(
        ": after 1 epoch it is 2.000."
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            [(4.0, 5.0), (1.0, 1.25), (1.2, 1.3)],
            "PyTorch's `fast` and JAX's `fast` have the highest median speeds, with no measurable "
            "difference between them: 16 to 18 characters per second, 3.6 to 4.0 times that of "
            "NumPy's `fast`.",
        ),
        (
            [(1.0, 2.0), (1.5, 1.6)],
            "there is no measurable difference between NumPy's `fast` and PyTorch's `fast`: 13 to "
            "15 characters per second.",
        ),
        (
            [(1.0, 1.2), (1.3, 1.4)],
            "NumPy's `fast` has the highest median speed: 18 characters per second.",
        ),
    ],
)
def test_speeds_whose_ranges_overlap_are_not_ranked(times, expected):
    candidates = [
        candidate_of(name, "fast", *(round_of(n, each) for n, each in enumerate(seconds)))
        for name, seconds in zip(("numpy", "torch", "jax"), times)
    ]
    where = "With one thread and 64 hidden units, "
    assert sentences.fastest(record_of(*candidates)) == where + expected


def test_sizes_and_workers():
    sizes = record_of(
        candidate_of("numpy", "scratch", round_of(0, 4.0, value=64), round_of(0, 8.0, value=128)),
        candidate_of("torch", "scratch", round_of(0, 1.0, value=64), round_of(0, 4.0, value=128)),
        plan={"vary": "num_hiddens", "values": [64, 128]},
    )
    assert sentences.conclusions(sizes) == [
        "The fastest candidate is 4.0 times as fast as the slowest with 64 hidden units, and 2.0 "
        "times with 128."
    ]
    together = round_of(0, 2.5, without_exchange=[2.0], value=2)
    workers = record_of(
        candidate_of("numpy", "scratch", round_of(0, 4.0, value=1), together),
        plan={"vary": "workers", "values": [1, 2]},
    )
    assert sentences.conclusions(workers) == [
        "2 workers train 1.60 times as fast as one; of a minibatch, the exchange takes 500.0 ms."
    ]
    assert metrics.speeds(workers)[1].efficiency.median == 0.8
    assert any("take turns" in note for note in sentences.notes(workers)) is False  # two cores
    workers.plan.threads = 2
    assert any("take turns" in note for note in sentences.notes(workers))


def test_what_cannot_be_told_apart_is_called_so():
    def sizes(*seconds):
        rounds = [
            [
                round_of(0, each, value=value)
                for value, times in zip((64, 128), of)
                for each in times
            ]
            for of in seconds
        ]
        candidates = [candidate_of(n, "scratch", *r) for n, r in zip(("numpy", "torch"), rounds)]
        plan = {"vary": "num_hiddens", "values": [64, 128]}
        return sentences.scaling(record_of(*candidates, plan=plan))

    clear, near, close = [4.0, 4.1], [1.0, 1.1], [1.05, 1.2]
    equal = "there is no measurable difference between the candidates"
    fastest = "the fastest candidate is 3.9 times as fast as the slowest"
    assert sizes((near, near), (close, close)) == (
        f"With 64 hidden units {equal}, and with 128 {equal}."
    )
    assert sizes((clear, near), (near, close)) == (
        f"With 64 hidden units {fastest}, and with 128 {equal}."
    )

    def workers(*times):
        rounds = [round_of(n, 2.0, value=1) for n in range(len(times))]
        rounds += [
            round_of(n, each, without_exchange=[1.0], value=2) for n, each in enumerate(times)
        ]
        plan = {"vary": "workers", "values": [1, 2]}
        return sentences.workers(record_of(candidate_of("numpy", "scratch", *rounds), plan=plan))

    assert workers(1.5, 2.3).startswith(
        "There is no measurable difference between the speeds of 2 workers and of one; of a "
    )
    assert workers(1.98, 1.99).startswith("There is no measurable difference")  # below 3 %
    assert workers(1.6, 1.7).startswith("2 workers train 1.21 times as fast as one; of a ")

    def layers(*times):
        rounds = [round_of(n, 2.0, own_layer=[each]) for n, each in enumerate(times)]
        return sentences.own_layers(record_of(candidate_of("torch", "fast", *rounds)))

    start = "Compared with the frameworks' own layers, "
    assert layers(0.95, 1.2) == f"{start}there is no measurable difference with `fast`."
    assert layers(1.3, 1.4) == f"{start}`fast` is 1.35 times as fast."


def test_the_time_to_a_target():
    def ending(*runs, target=5.0):
        # Candidates by backend, and of each training run its seconds, or None if it did not end.
        candidates = []
        for backend, *all_seconds in runs:
            trials = [
                trial_of(4.0, held_out=4.9 if seconds else 6.0, seconds=seconds or 9.0, seed=n)
                for n, seconds in enumerate(all_seconds)
            ]
            candidates.append(candidate_of(backend, "fast", trials=trials))
        return sentences.results(record_of(*candidates, epochs=1, plan={"target": target}))

    reached = "A held-out perplexity of 5 is reached "
    two = reached + "first by PyTorch's `fast` after 3.0 s, last by NumPy's `fast` after 9.0 s of "
    assert ending(("numpy", 9.0), ("torch", 3.0)) == two + "training."
    third = ending(("numpy", 9.0), ("torch", 3.0), ("jax", None))
    assert third == two + "training, and not by JAX's `fast`."
    assert ending(("numpy", None)) == "No candidate has reached a held-out perplexity of 5."
    # Of several seeds, all have to reach it.
    assert ending(("numpy", 8.0, 10.0), ("torch", 3.0, None)) == (
        reached + "by NumPy's `fast` after 9.0 s of training, and not always by PyTorch's `fast`."
    )
    assert ending(("numpy", 9.0, None)).startswith("No candidate has always reached")


def test_the_losses_in_float64():
    def record(differences):
        curves = zip(("numpy", "torch"), ([0.0] * 14, differences))
        return record_of(*(candidate_of(n, "fast", differences=each) for n, each in curves))

    grown = sentences.float64(record([1e-16] * 7 + [2e-11, 1e-12, 1e-4, 0.2, *[1e-12] * 3]))
    for words in ("it is 0.0001 at most", "it is 1e-12, and at most 0.2 in between", "chaotic"):
        assert words in grown
    assert "In the whole run it is 1e-16 at most." in sentences.float64(record([1e-16] * 14))


def test_a_record_with_nothing_to_compare_has_no_sentences():
    record = record_of(trained("numpy", "scratch", 2.0))
    assert sentences.conclusions(record) == []
    assert sentences.float64(record) == ""


@pytest.mark.parametrize("folder", sorted(RECORDS.iterdir()), ids=lambda folder: folder.name)
def test_the_report_begins_with_the_sentences(folder):
    record = read(folder)
    page = report.page(record, pictures.draw(record))
    lines = sentences.conclusions(record)
    assert 1 <= len(lines) <= 3
    shown = re.findall(r'<p class="conclusion">(.*?)</p>', page)
    assert [re.sub("<.*?>", "", line).replace("&#39;", "'") for line in shown] == [
        line.replace("`", "") for line in lines
    ]
    assert page.index("conclusion") < page.index("<table")
    # One table and one picture are open, and the rest is folded.
    start = page.index("<details>")
    assert page[:start].count("<table") == page[:start].count("<img") == 1


CHANGED = "Compared with the comparison of 12:00, "


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (
            [FASTER, SLOWER, EQUAL],
            CHANGED + "NumPy's `scratch` is faster, and PyTorch's `fast` is slower.",
        ),
        ([EQUAL, SLOWER, TOO_FEW], CHANGED + "PyTorch's `fast` is slower."),
        (
            [EQUAL] * 3,
            "No candidate is measurably faster or slower than in the comparison of 12:00.",
        ),
        (
            [TOO_FEW] * 3,
            "There are too few processes to tell what has changed since the comparison of 12:00.",
        ),
    ],
)
def test_what_has_changed_comes_first(monkeypatch, verdicts, expected):
    record = three(2.0, 2.0, 2.0)
    before = sentences.conclusions(record)
    rows = [Change(row, row, each, True) for row, each in zip(metrics.speeds(record), verdicts)]
    monkeypatch.setattr(changes, "speeds", lambda record: rows)
    record.against = three(2.0, 2.0, 2.0)
    assert sentences.conclusions(record) == [expected, *before[:2]]
    rows[1] = rows[1]._replace(now=rows[1].now._replace(value=2))
    record.plan.vary = "threads"
    assert ("PyTorch's `fast` (threads 2)" in sentences.changed(record)) == ("PyTorch" in expected)


def test_each_backend_has_its_device():
    candidates = [candidate_of(name, "fast") for name in ("numpy", "torch")]
    candidates[1].ready = msgspec.structs.replace(READY, device="cuda:0")
    lines = sentences.setting(record_of(*candidates))
    assert lines[1].startswith("device: cpu (numpy), cuda:0 (torch); float32")
