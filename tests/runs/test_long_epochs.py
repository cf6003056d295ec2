"""Long epochs: progress within an epoch, and checkpoints from which training resumes exactly."""

import contextlib
import itertools
import re

import pytest
from helpers import SMALL, assert_same, assert_same_run, history_without_times, parameters, variants

import rnn_scratch
from rnn_scratch.contract import VARIANTS
from rnn_scratch.runs import checkpoint, run_writer
from rnn_scratch.system import signals
from rnn_scratch.training import loop, schedule
from rnn_scratch.training.events import Report

pytestmark = pytest.mark.faults(by_default=("numpy", "torch"))

# An epoch has 15 or 16 minibatches, depending on its offset in the text.
LONG = {**SMALL, "cell": "lstm", "valid_tokens": 50, "num_layers": 2, "dropout": 0.3}
LONG |= {"optimizer": "adam", "schedule": "cosine", "warmup": 5}


@contextlib.contextmanager
def stop_after(index):
    """Simulate a signal at update `index` of a session, counted from 1."""
    request, original, count = signals.StopRequest(), schedule.each_update, itertools.count(1)

    def counted(*arguments):
        for update in original(*arguments):
            if next(count) == index:
                request.number = 15
            yield update

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "deferred", lambda: contextlib.nullcontext(request))
        patch.setattr(schedule, "each_update", counted)
        patch.setattr(loop, "REPORT_SECONDS", 0.0)  # one minibatch per report
        yield


@pytest.mark.parametrize(
    ("variant", "sampling"),
    [*((variant, "sequential") for variant in VARIANTS), ("scratch", "random")],
)
def test_training_stopped_within_an_epoch_resumes_exactly(backend_name, variant, sampling):
    if variant not in variants(backend_name):
        pytest.skip(f"{backend_name} has no {variant} model")
    settings = {**LONG, "variant": variant, "sampling": sampling}
    uninterrupted = rnn_scratch.train(
        backend_name, num_epochs=3, output="whole", threads=1, **settings
    )
    positions = []
    with stop_after(20), pytest.raises(signals.Stopped):
        rnn_scratch.train(backend_name, num_epochs=3, output="r", threads=1, **settings)
    for num_more in (1, 3, 1000):
        saved = checkpoint.load("r")
        positions.append((saved.epoch, len(saved.incomplete.losses)))
        assert len(saved.incomplete.state) == (4 if sampling == "sequential" else 0)
        with stop_after(num_more), contextlib.suppress(signals.Stopped):
            rnn_scratch.resume("r", 3)
    (epoch, num_losses), *later_positions = positions
    assert epoch == 1
    assert num_losses > 0
    assert later_positions == [(1, num_losses + 1), (1, num_losses + 4)]
    assert_same_run("r", uninterrupted)


def test_stop_in_the_last_minibatch_keeps_the_epoch():
    uninterrupted = rnn_scratch.train("numpy", num_epochs=2, output="whole", **LONG)
    steps = LONG["batch_size"] * LONG["num_steps"]
    first_count, second_count = (epoch.tokens // steps for epoch in uninterrupted.history)
    for num_epochs, trained in ((1, first_count), (2, first_count + second_count)):
        run = str(num_epochs)
        with stop_after(trained), pytest.raises(signals.Stopped):
            rnn_scratch.train("numpy", num_epochs=2, output=run, **LONG)
        assert (
            history_without_times(run) == history_without_times(uninterrupted.folder)[:num_epochs]
        )
        assert checkpoint.load(run).epoch == num_epochs


def test_incomplete_epoch_is_resumed_in_another_backend(backend_names):
    backend_name, *other_names = ["numpy", *backend_names]
    # Use one layer of the plain cell, because compiling a two-layer LSTM takes many seconds.
    exact = {**SMALL, "valid_tokens": 50, "optimizer": "adam", "exact": True}
    uninterrupted = rnn_scratch.train(backend_name, num_epochs=2, output="whole", **exact)
    with stop_after(7), pytest.raises(signals.Stopped):
        rnn_scratch.train(backend_name, num_epochs=2, output="r", **exact)
    for name in other_names:
        with stop_after(2), pytest.raises(signals.Stopped):
            rnn_scratch.resume("r", 2, backend=name)
    rnn_scratch.resume("r", 2, backend="numpy")
    assert_same(parameters("r"), parameters(uninterrupted))


class Clock(Report):
    """A simulated clock: an epoch takes a second, and a checkpoint takes an eighth of a second."""

    def __init__(self, monkeypatch):
        self.now, self.saved = 0.0, []
        monkeypatch.setattr(run_writer, "time", self)
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


def test_checkpoints_take_a_small_fraction_of_time(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(run_writer, "CHECKPOINT_TIME_FRACTION", 1 / 64)
    monkeypatch.setattr(loop, "REPORT_SECONDS", 1e9)
    rnn_scratch.train("numpy", num_epochs=35, output="r", report=clock, **SMALL)
    # Checkpoints are written at the start, then every eight seconds (64 times the write time), and
    # at the end.
    assert clock.saved == [0, 9, 17, 25, 33, 35]
    monkeypatch.setattr(run_writer, "MAX_CHECKPOINT_INTERVAL", 4.0)
    rnn_scratch.resume("r", 43, report=clock)
    assert clock.saved[6:] == [35, 40, 43]


def test_progress_within_an_epoch_is_printed(monkeypatch):
    monkeypatch.setattr("rnn_scratch.runs.progress.LineReport.interval", 0.0)
    monkeypatch.setattr(loop, "REPORT_SECONDS", 0.0)
    lines = []
    rnn_scratch.train("numpy", num_epochs=2, report=lines.append, **LONG)
    pattern = r"epoch 1: (\d+) of 1\d minibatches  perplexity .* time left \d:\d\d:\d\d"
    matches = filter(None, (re.fullmatch(pattern, line) for line in lines))
    assert [int(match[1]) for match in matches][:10] == list(range(1, 11))
