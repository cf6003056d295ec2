"""The best epoch on held-out text, and early stopping with `patience`."""

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import (
    SMALL,
    assert_same,
    epoch_row,
    history,
    history_without_times,
    options,
    parameters,
    run_in_process,
)

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.text import books, vocabulary

# A held-out loss that rises and falls. In which epochs depends on the processor's rounding, so the
# tests read from a run's history what they expect.
SETTINGS = {**SMALL, "lr": 2.0, "valid_share": 0.2, "threads": 1}
EPOCHS = 40


class Curve(NamedTuple):
    """The losses of an uninterrupted run, and two of its epochs better than all earlier ones."""

    seed: int
    losses: list[float]
    first: int
    second: int  # the next and last better epoch, long after `first`

    def best_until(self, epoch):
        """Return the epoch with the lowest loss among the first ones up to `epoch`."""
        return self.losses.index(min(self.losses[:epoch])) + 1

    def end(self, patience, start=1):
        """Return the first epoch after `start` that ends training with this patience."""
        epochs = range(start, EPOCHS)
        return next((n for n in epochs if n - self.best_until(n) >= patience), EPOCHS)


def best_of(run):
    """Return the best epoch and the parameters after that epoch."""
    saved = checkpoint.load(run)
    return saved.best_epoch, saved.best


def losses(run):
    return [row["valid_loss"] for row in history(run)]


@pytest.fixture
def curve():
    """Train until the last improvement of a run, in the folder `whole`, took by far the longest."""
    for seed in range(100):
        rnn_scratch.train("numpy", num_epochs=EPOCHS, output="whole", **SETTINGS, seed=seed)
        values = losses("whole")
        better = [n for n, loss in enumerate(values, 1) if loss == min(values[:n])]
        *gaps, gap = [0, *(second - first for first, second in pairwise(better))]
        if gap >= max(5, *(g + 2 for g in gaps)) and better[-1] + gap + 1 < EPOCHS:
            return Curve(seed, values, *better[-2:])
        shutil.rmtree("whole")
    raise AssertionError("no run has such losses")


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_best_checkpoint_has_the_lowest_held_out_loss(backend_name):
    # With this patience, training ends after the first epoch that is not better than the previous.
    settings = {**SETTINGS, "seed": 29}
    run = rnn_scratch.train(backend_name, num_epochs=EPOCHS, patience=1, output="r", **settings)
    epoch = len(run.history) - 1
    assert losses("r").index(min(losses("r"))) + 1 == epoch
    assert run.best == run.history[epoch - 1]
    # The best parameters match a run that ends at this epoch and reproduce its held-out loss.
    rnn_scratch.train(backend_name, num_epochs=epoch, output="until", **settings)
    best_epoch, best = best_of("r")
    assert best_epoch == epoch
    assert_same(best, parameters("until"))
    text = vocabulary.normalize(books.load("tide-clock").content, "chapter")
    Path("end.txt").write_text(text[320:400])
    held_out = rnn_scratch.evaluate(run, text="end.txt", best=True)
    assert held_out.loss == pytest.approx(min(losses("r")), rel=1e-6)
    assert held_out.loss < rnn_scratch.evaluate(run, text="end.txt").loss
    assert held_out.perplexity == math.exp(held_out.loss)
    sampling = dict(length=300, temperature=1.0)
    texts = [rnn_scratch.predict(run_name, "the ", **sampling) for run_name in ("r", "until")]
    assert rnn_scratch.predict("r", "the ", best=True, **sampling) == texts[1] != texts[0]


def test_best_epoch_survives_resuming(curve):
    settings = {**SETTINGS, "seed": curve.seed}
    run = rnn_scratch.train("numpy", num_epochs=1, output="r", **settings)
    first, second = curve.first, curve.second
    for num_epochs in (first, first + 1, second - 1, second, second + 2, EPOCHS):
        if num_epochs > len(history("r")):
            run = rnn_scratch.resume("r", num_epochs)
        assert best_of("r")[0] == run.best.epoch == (first if num_epochs < second else second)
    assert history_without_times("r") == history_without_times("whole")
    assert_same(best_of("r")[1], best_of("whole")[1])


def test_patience_ends_training_in_every_session(capsys, curve):
    # The first ends training two epochs before the second better one, so that another session can
    # add an epoch; the other reaches it.
    patience, more = curve.second - curve.first - 2, curve.second - curve.first + 1
    settings = {**SETTINGS, "seed": curve.seed, "backend": "numpy", "num_epochs": EPOCHS}
    arguments = options(output="r", **settings, patience=patience)
    result = run_in_process(capsys, "train", *arguments)
    last_epoch = curve.first + patience
    assert last_epoch == curve.end(patience)
    reason = f"no improvement since epoch {curve.first} (`patience` {patience})"
    starts = ("early stopping", "The training text has", "best: epoch")
    lines = result.out.splitlines()
    notice, hint, best = (next(n for n in lines if n.startswith(start)) for start in starts)
    assert hint.startswith("The training text has 320 characters. For fewer misspelled")
    printed_reason = reason.replace("patience", "--patience")
    assert notice == f"early stopping after epoch {last_epoch}: {printed_reason}"
    loss = min(losses("r"))
    metrics = f"{loss:.3f} nats, {loss / math.log(2):.3f} bits per character"
    assert best == f"best: epoch {curve.first}  {metrics}, perplexity {math.exp(loss):.2f}"
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason, session.to_epoch) == ("finished", reason, last_epoch)
    assert history_without_times("r") == history_without_times("whole")[:last_epoch]

    # Resume with the same patience, more patience and unlimited patience.
    resume = ("train", "--resume", "r", "--num-epochs", EPOCHS)
    run_in_process(capsys, *resume).assert_exit()
    assert len(history("r")) == last_epoch + 1
    run_in_process(capsys, *resume, "--patience", more).assert_exit()
    assert len(history("r")) == curve.end(more, last_epoch + 2) > curve.second
    run_in_process(capsys, *resume, "--patience", 0).assert_exit()
    assert history_without_times("r") == history_without_times("whole")
    patiences = [session.patience for session in run_folder.read(Path("r")).sessions]
    assert patiences == [patience, patience, more, 0]
    assert best_of("r")[0] == curve.second


def test_only_short_texts_have_a_hint(capsys):
    settings = dict(num_hiddens=1, batch_size=1000, num_steps=50, lr=1e-30, valid_tokens=1000)
    arguments = options(backend="numpy", corpus="tide-clock", patience=1, epochs=5, **settings)
    for max_tokens, hints in ((90_000, 0), (89_999, 1)):
        result = run_in_process(capsys, "train", *arguments, "--max-tokens", max_tokens)
        assert "early stopping after epoch 2" in result.out
        assert result.out.count("misspelled words") == hints


def test_options_without_held_out_text_are_refused(capsys):
    rnn_scratch.train("numpy", num_epochs=1, output="r", **SMALL)
    result = run_in_process(capsys, "evaluate", "r", "--best")
    result.assert_error("r has no best epoch", "Omit `--best`", "`--valid-share`")
    with pytest.raises(RNNScratchError, match=r"`patience` 3\) requires held-out text"):
        rnn_scratch.resume("r", 2, patience=3)
    assert "patience" not in json.loads(Path("r/run.json").read_bytes())["sessions"][0]


def test_first_of_equal_epochs_is_the_best():
    rows = [epoch_row(n, valid_loss=loss) for n, loss in enumerate((3.0, 2.0, None, 2.0), 1)]
    assert run_folder.find_best_epoch(rows) is rows[1]
    assert run_folder.find_best_epoch([None, rows[2]]) is None
