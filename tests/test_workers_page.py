"""The site's page on several workers: what it quotes, and what it computes."""

import json
import re

import pytest
from helpers import CLONE
from make import exchange, readme, site_workers
from make.exchange import Exchange

from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.show import source_code
from rnn_scratch.workers import rendezvous, supervisor


@pytest.fixture(autouse=True)
def _in_the_clone(monkeypatch):
    monkeypatch.chdir(CLONE)


def render(folder):
    page, pictures = site_workers.render(folder, registry.OURS, lambda latex, display: latex)
    assert set(pictures) == {site_workers.EXCHANGE}
    return page


def record():
    text = (CLONE / readme.RECORDS / site_workers.RECORD).read_text(encoding="utf-8")
    return json.loads(text)


def write(folder, content, name=site_workers.RECORD):
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_the_page_quotes_its_record(tmp_path):
    content = record()
    engine = content["workers"]["engines"]["torch"]
    engine["exchanges"][0]["gather"]["median"] = 0.0321  # of one number
    engine["sums"][-1]["own"] = 987
    content["workers-exact"]["trainings"][0]["models"][0]["digests"][-1]["perplexity"] = 4.5678
    write(tmp_path, content)
    before, page = render(readme.RECORDS), render(tmp_path)
    for words in ("| PyTorch | 0.0321 |", "| 987 of 1,000 |", "the perplexity is 4.5678 "):
        assert words in page
        assert words not in before


def test_the_page_has_the_code_and_the_constants():
    page = render(readme.RECORDS)
    text = re.sub(r"<[^>]*>", "", page)
    for backend in registry.OURS:
        assert f'data-for="{backend}"' in page
        (first, *_) = source_code.find(backend, "gather")
        assert first.source.split("\n")[0] in text
    assert (
        f"worker 0 waits for it, and so do those that have started | {rendezvous.WAIT:g} s |"
        in text
    )
    assert f"no sign of life from it | {supervisor.WORKER_SILENCE:g} s |" in text
    assert "the version of the backend" in text
    assert "every setting, from `--batch-size` to `--seed`" in text
    prose = re.sub(r'<div class="pieces">.*', "", page)
    assert not re.search(r"\{\w+\}", prose)


def test_digests_that_differ_are_counted(tmp_path):
    content = record()
    training = content["workers-exact"]["trainings"][0]
    number = len(training["models"])
    assert f"all {number} training runs end with the same parameters" in render(readme.RECORDS)
    training["models"][-1]["digests"][-1]["digest"] = "0123456789abcdef"
    write(tmp_path, content)
    page = render(tmp_path)
    assert f"the {number} training runs end with 2 different digests" in page
    assert "| `0123456789abcdef` |" in page


@pytest.mark.parametrize(
    "place",
    [
        ("workers-exact",),
        ("workers", "engines", "jax", "exchanges", 2),  # of the chapter's size
        ("workers", "engines", "mxnet", "minibatches", slice(None, None, 5)),  # half of the rows
        ("workers", "engines", "numpy", "sums"),
        ("workers", "machine", "processor"),
    ],
)
def test_a_record_that_lacks_what_the_page_quotes_is_refused(tmp_path, place):
    with pytest.raises(RNNScratchError, match=site_workers.RECORD):  # without any
        render(tmp_path)
    content = part = record()
    *outer, last = place
    for each in outer:
        part = part[each]
    del part[last]
    write(tmp_path, content)
    with pytest.raises(RNNScratchError, match=r"lacks what the page quotes(.|\n)*nox -s records"):
        render(tmp_path)


def test_kills_are_on_the_page_where_they_were_tried(tmp_path):
    def trial(kind, backend, seconds, problem=None):
        fields = {"kind": kind, "backend": backend, "name": "", "seconds": seconds}
        return {**fields, "problem": problem}

    write(tmp_path, record())
    assert "nox -s team" not in render(tmp_path)
    trials = [trial("kill", "mxnet", seconds) for seconds in (1.0, 6.0, 2.0)]
    trials += [trial("kill", "jax", 3.0, "a process is left"), trial("resume", "jax", None)]
    write(tmp_path, {"seed": 1, "trials": trials}, site_workers.FAULTS)
    page = render(tmp_path)
    assert "| a process is killed | MXNet | 3 | 0 | 2.0 | 6.0 |" in page
    assert "| a process is killed | JAX | 1 | 1 | 3.0 | 3.0 |" in page
    assert "| JAX | 1 | 0 |  |  |" in page


def test_the_numbers_and_the_bytes_of_an_exchange():
    # W_xh (3, 2), W_hh (2, 2), b_h (2,), W_hq (2, 3), b_q (3,); three more gates in an LSTM.
    assert exchange.parameters(2, 3) == 6 + 4 + 2 + 6 + 3
    assert exchange.parameters(2, 3, "lstm") == 4 * (6 + 4 + 2) + 6 + 3
    assert exchange.received(10, 2, "float32") == 40
    assert exchange.received(10, 4, "float64") == 3 * 80
    # 32 bits are two integers of at most 22 bits, and 64 are three; each is a float32.
    assert exchange.received_from_server(10, 2, "float32") == 2 * 2 * 40
    assert exchange.received_from_server(10, 4, "float64") == 4 * 3 * 40
    # Vectors travel in both directions at once; a server needs all before it sends the sum.
    assert exchange.transferred_in_turn("torch", 10) == 40
    assert exchange.transferred_in_turn("mxnet", 10) == 2 * 160


def test_a_line_through_exchanges():
    exact = exchange.fit([(4, 2.004), (1000, 3), (100_000, 102)])  # 2 ms, and 1 for 1000 bytes
    assert exact.latency == pytest.approx(2)
    assert exact.per_byte == pytest.approx(1e-3)
    assert exact.of(5000) == pytest.approx(7)
    # Errors are relative: a large exchange that is a tenth off hardly changes the latency.
    rough = exchange.fit([(4, 2.004), (50_000, 52), (100_000, 92)])
    assert rough.latency == pytest.approx(2, rel=0.05)


def test_the_gain_of_two_workers():
    # A row takes 1 ms and an exchange 5: with 10 rows two workers are as fast as one.
    assert exchange.gain(10, 5, 5) == 1
    assert exchange.smallest(1, 5) == 12
    assert exchange.smallest(1, 4.9) == 10
    minibatches = [
        {"num_hiddens": 2, "batch_size": rows, "median": milliseconds}
        for rows, milliseconds in ((16, 6), (32, 11), (128, 40))  # of 64 rows nothing is known
    ]
    engines = {"torch": {"minibatches": minibatches}}
    measured = {"settings": {"vocabulary": 3}, "engines": engines}
    # 22 float32, the loss among them, are 88 bytes: 3 + 88 / 44 ms.
    fits = {"torch": Exchange(3, 1 / 44)}
    assert exchange.payoff(measured, fits) == {("torch", 2, 32): pytest.approx(11 / (6 + 5))}
