"""Long epochs: progress within them, and checkpoints from which training goes on exactly."""

import contextlib
import io
import itertools
import re

import pytest
from helpers import SMALL, assert_same, assert_same_run, figures, parameters, variants

import rnn_scratch
from rnn_scratch.cli.screen import Screen
from rnn_scratch.cli.train import BarReport
from rnn_scratch.contract import VARIANTS
from rnn_scratch.runs import checkpoint, schedule, sessions, training
from rnn_scratch.runs.events import Report
from rnn_scratch.system import signals

pytestmark = pytest.mark.faults(by_default=("numpy", "torch"))

# One epoch has 16 minibatches or 15, depending on where it starts.
LONG = {**SMALL, "cell": "lstm", "valid_tokens": 50, "num_layers": 2, "dropout": 0.3}
LONG |= {"optimizer": "adam", "schedule": "cosine", "warmup": 5}


@contextlib.contextmanager
def stop_after(number):
    """Ask for a stop, as a signal does, in the minibatch with this number."""
    request, original, count = signals.Request(), schedule.with_rates, itertools.count(1)

    def counted(*arguments):
        for batch in original(*arguments):
            if next(count) == number:
                request.number = 15
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "deferred", lambda: contextlib.nullcontext(request))
        patch.setattr(schedule, "with_rates", counted)
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
    (first, done), *others = where
    assert first == 1
    assert done > 0
    assert others == [(1, done + 1), (1, done + 4)]
    assert_same_run("r", whole)


def test_a_stop_in_the_last_minibatch_keeps_the_whole_epoch(backend_name):
    whole = rnn_scratch.train(backend_name, num_epochs=2, run="whole", **LONG)
    steps = LONG["batch_size"] * LONG["num_steps"]
    first, second = (epoch.tokens // steps for epoch in whole.history)
    for number, trained in ((1, first), (2, first + second)):
        run = str(number)
        with stop_after(trained), pytest.raises(signals.Stopped):
            rnn_scratch.train(backend_name, num_epochs=2, run=run, **LONG)
        assert figures(run) == figures(whole.folder)[:number]
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
    monkeypatch.setattr(sessions, "SHARE", 1 / 64)
    monkeypatch.setattr(training, "PART", 1e9)
    rnn_scratch.train("numpy", num_epochs=35, run="r", report=clock, **SMALL)
    # The first minibatch is a part of its own, after which a checkpoint is written; then every
    # eight seconds, 64 times what that takes; and at the end.
    assert clock.saved == [0, 9, 17, 25, 33, 35]
    monkeypatch.setattr(sessions, "LEAST_OFTEN", 4.0)
    rnn_scratch.resume("r", 43, report=clock)
    assert clock.saved[6:] == [40, 43]


def test_progress_within_an_epoch_is_printed_without_a_terminal(monkeypatch):
    monkeypatch.setattr("rnn_scratch.runs.progress.QUIET", 0.0)
    monkeypatch.setattr(training, "PART", 0.0)
    lines = []
    rnn_scratch.train("numpy", num_epochs=2, report=lines.append, **LONG)
    within = [line for line in lines if "minibatches" in line]
    pattern = (
        r"epoch [12]: (\d+) of 1\d minibatches  perplexity \d+\.\d+ so far  [\d,]+ tokens/s  "
        r"time left \d:\d\d:\d\d"
    )
    done = [int(re.fullmatch(pattern, line)[1]) for line in within if " 0 of " not in line]
    assert done[:10] == list(range(1, 11))
    assert any(line.startswith("training text  ") for line in lines)


def test_the_bar_moves_and_the_time_left_is_known_within_the_first_epoch(monkeypatch):
    monkeypatch.setattr(training, "PART", 0.0)
    screen = Screen(file=io.StringIO(), force_terminal=True, width=120)
    positions, texts = [], []

    class Watched(BarReport):
        def progress(self, progress):
            super().progress(progress)
            (task,) = self.bar.tasks
            positions.append(task.completed)
            texts.append("{numbers}{left}".format(**task.fields))

    rnn_scratch.train("numpy", num_epochs=1, report=Watched(screen), **LONG)
    assert positions == sorted(positions)
    assert 0 == positions[0] < positions[1] < 0.1
    assert positions[-1] > 0.9
    pattern = r"perplexity \d+\.\d+ so far  [\d,]+ tokens/s  time left \d:\d\d:\d\d"
    assert re.fullmatch(pattern, texts[-1])
