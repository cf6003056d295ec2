"""Long epochs: progress within them, and checkpoints from which training continues exactly."""

import contextlib
import itertools
import re

import pytest
from helpers import SMALL, assert_same, assert_same_run, history_without_times, parameters, variants

import rnn_scratch
from rnn_scratch.contract import VARIANTS
from rnn_scratch.runs import checkpoint, sessions
from rnn_scratch.system import signals
from rnn_scratch.training import loop as training
from rnn_scratch.training import schedule
from rnn_scratch.training.events import Report

pytestmark = pytest.mark.faults(by_default=("numpy", "torch"))

# One epoch has 16 minibatches or 15, depending on its start in the text.
LONG = {**SMALL, "cell": "lstm", "valid_tokens": 50, "num_layers": 2, "dropout": 0.3}
LONG |= {"optimizer": "adam", "schedule": "cosine", "warmup": 5}


@contextlib.contextmanager
def stop_after(number):
    """Request a stop, like a signal, in the minibatch with this number."""
    request, original, count = signals.Request(), schedule.each_update, itertools.count(1)

    def counted(*arguments):
        for batch in original(*arguments):
            if next(count) == number:
                request.number = 15
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "deferred", lambda: contextlib.nullcontext(request))
        patch.setattr(schedule, "each_update", counted)
        patch.setattr(training, "CHUNK_SECONDS", 0.0)  # a minibatch per chunk
        yield


@pytest.mark.parametrize("sampling", ["sequential", "random"])
@pytest.mark.parametrize("model", VARIANTS)
def test_a_stop_within_an_epoch_is_resumed_exactly(backend_name, model, sampling):
    if model not in variants(backend_name):
        pytest.skip(f"{backend_name} has no {model} model")
    settings = {**LONG, "model": model, "sampling": sampling}
    whole = rnn_scratch.train(backend_name, num_epochs=3, run="whole", threads=1, **settings)
    where = []
    with stop_after(20), pytest.raises(signals.Stopped):
        rnn_scratch.train(backend_name, num_epochs=3, run="r", threads=1, **settings)
    for minibatches_more in (1, 3, 1000):
        saved = checkpoint.load("r")
        where.append((saved.epoch, len(saved.incomplete.losses)))
        assert len(saved.incomplete.state) == (4 if sampling == "sequential" else 0)
        with stop_after(minibatches_more), contextlib.suppress(signals.Stopped):
            rnn_scratch.resume("r", 3)
    (first, result), *others = where
    assert first == 1
    assert result > 0
    assert others == [(1, result + 1), (1, result + 4)]
    assert_same_run("r", whole)


def test_a_stop_in_the_last_minibatch_keeps_the_whole_epoch(backend_name):
    whole = rnn_scratch.train(backend_name, num_epochs=2, run="whole", **LONG)
    steps = LONG["batch_size"] * LONG["num_steps"]
    first, second = (epoch.tokens // steps for epoch in whole.history)
    for number, trained in ((1, first), (2, first + second)):
        run = str(number)
        with stop_after(trained), pytest.raises(signals.Stopped):
            rnn_scratch.train(backend_name, num_epochs=2, run=run, **LONG)
        assert history_without_times(run) == history_without_times(whole.folder)[:number]
        assert checkpoint.load(run).epoch == number


def test_it_is_resumed_in_another_backend(backend_names):
    first, *others = ["numpy", *backend_names]
    exact = {**LONG, "exact": True}
    whole = rnn_scratch.train(first, num_epochs=2, run="whole", **exact)
    with stop_after(7), pytest.raises(signals.Stopped):
        rnn_scratch.train(first, num_epochs=2, run="r", **exact)
    for name in others:
        with stop_after(2), pytest.raises(signals.Stopped):
            rnn_scratch.resume("r", 2, backend=name)
    rnn_scratch.resume("r", 2, backend="numpy")
    assert_same(parameters("r"), parameters(whole))


class Clock(Report):
    """A clock on which an epoch takes a second and a checkpoint an eighth, and nothing else any."""

    def __init__(self, monkeypatch):
        self.now, self.saved = 0.0, []
        monkeypatch.setattr(sessions, "time", self)
        self.save = checkpoint.save
        monkeypatch.setattr(checkpoint, "save", self.slow)

    def perf_counter(self):
        return self.now

    def slow(self, path, saved, *verify):
        self.save(path, saved, *verify)
        if not saved.incomplete.losses:
            self.saved.append(saved.epoch)
        self.now += 1 / 8

    def epoch(self, epoch):
        self.now += 1


def test_checkpoints_are_written_as_often_as_costs_little(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(sessions, "CHECKPOINT_TIME_FRACTION", 1 / 64)
    monkeypatch.setattr(training, "CHUNK_SECONDS", 1e9)
    rnn_scratch.train("numpy", num_epochs=35, run="r", report=clock, **SMALL)
    # A checkpoint is written after the first minibatch, which is a separate part; then every
    # eight seconds, 64 times the time for writing it; and at the end.
    assert clock.saved == [0, 9, 17, 25, 33, 35]
    monkeypatch.setattr(sessions, "MAX_CHECKPOINT_INTERVAL", 4.0)
    rnn_scratch.resume("r", 43, report=clock)
    assert clock.saved[6:] == [35, 40, 43]


def test_progress_within_an_epoch_is_printed_without_a_terminal(monkeypatch):
    monkeypatch.setattr("rnn_scratch.runs.progress.QUIET", 0.0)
    monkeypatch.setattr(training, "CHUNK_SECONDS", 0.0)
    lines = []
    rnn_scratch.train("numpy", num_epochs=2, report=lines.append, **LONG)
    within = [line for line in lines if "minibatches" in line]
    pattern = (
        r"epoch [12]: (\d+) of 1\d minibatches  perplexity \d+\.\d+ so far  [\d,]+ tokens/s  "
        r"time left \d:\d\d:\d\d"
    )
    result = [int(re.fullmatch(pattern, line)[1]) for line in within if " 0 of " not in line]
    assert result[:10] == list(range(1, 11))
    assert any(line.startswith("training text  ") for line in lines)
