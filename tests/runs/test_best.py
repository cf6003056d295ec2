"""The best epoch on held-out text, and training that ends when no epoch is better."""

import json
import math
import re
from pathlib import Path

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
from rnn_scratch.text import books

# The held-out loss is lowest after epoch 7; epoch 14 is better again, and no later one.
SETTINGS = {**SMALL, "lr": 2.0, "seed": 2, "valid_share": 0.2, "threads": 1}
FIRST, SECOND, PATIENCE, MORE = 7, 14, 5, 8


def best_of(run):
    """Return the best epoch and the parameters after it."""
    saved = checkpoint.load(run)
    return saved.best_epoch, saved.best


def losses(run):
    return [row["valid_loss"] for row in history(run)]


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_the_best_checkpoint_is_that_of_the_epoch_with_the_lowest_held_out_loss(backend_name):
    run = rnn_scratch.train(backend_name, num_epochs=12, run="r", **SETTINGS)
    epoch = losses("r").index(min(losses("r"))) + 1
    assert 1 < epoch < 12
    assert run.best == run.history[epoch - 1]
    # Its parameters are those after this epoch, whose loss on the held-out text is in the history.
    rnn_scratch.train(backend_name, num_epochs=epoch, run="until", **SETTINGS)
    number, best = best_of("r")
    assert number == epoch
    assert_same(best, parameters("until"))
    whole = books.load("tide-clock").content
    letters = "".join(re.sub("[^A-Za-z]+", " ", line).strip() for line in whole.split("\n")).lower()
    Path("end.txt").write_text(letters[320:400])
    held_out = rnn_scratch.evaluate(run, text="end.txt", best=True)
    assert held_out.loss == pytest.approx(min(losses("r")), rel=1e-6)
    assert held_out.loss < rnn_scratch.evaluate(run, text="end.txt").loss
    assert held_out.perplexity == math.exp(held_out.loss)
    texts = [rnn_scratch.predict(each, "the ", 40) for each in ("r", "until")]
    assert rnn_scratch.predict("r", "the ", 40, best=True) == texts[1] != texts[0]


def test_after_resuming_the_best_epoch_so_far_stays_the_best():
    whole = rnn_scratch.train("numpy", num_epochs=SECOND + 4, run="whole", **SETTINGS)
    rnn_scratch.train("numpy", num_epochs=3, run="r", **SETTINGS)
    for last in (FIRST + 1, FIRST + 3, SECOND + 1, SECOND + 4):
        run = rnn_scratch.resume("r", last)
        assert best_of("r")[0] == run.best.epoch == (FIRST if last < SECOND else SECOND)
    assert history_without_times("r") == history_without_times("whole")
    assert_same(best_of("r")[1], best_of(whole.folder)[1])


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_patience(capsys, backend_name):
    """Check that patience ends training, in one session and in several sessions."""
    rnn_scratch.train(backend_name, num_epochs=40, run="whole", **SETTINGS)
    settings = {**SETTINGS, "backend": backend_name, "num_epochs": 40, "patience": PATIENCE}
    result = run_in_process(capsys, "train", *options(run="r", **settings))
    last = FIRST + PATIENCE
    reason = f"{PATIENCE} epochs no better than epoch {FIRST} (`patience` {PATIENCE})"
    said, _, _, _, best, _ = result.out.splitlines()[2:]
    assert said == f"training ends after epoch {last}: {reason}"
    loss = min(losses("r"))
    numbers = f"{loss:.3f} nats, {loss / math.log(2):.3f} bits per character"
    assert best == f"best: epoch {FIRST}  {numbers}, perplexity {math.exp(loss):.2f}"
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason, session.to_epoch) == ("finished", reason, last)
    assert history_without_times("r") == history_without_times("whole")[:last]

    # Resume with the same patience, more patience and unlimited patience.
    resume = ("train", "--resume", "r", "--num-epochs", 40)
    run_in_process(capsys, *resume).assert_exit()
    assert len(history("r")) == last + 1
    run_in_process(capsys, *resume, "--patience", MORE).assert_exit()
    assert len(history("r")) == SECOND + MORE
    run_in_process(capsys, *resume, "--patience", 0).assert_exit()
    assert history_without_times("r") == history_without_times("whole")
    patiences = [session.patience for session in run_folder.read(Path("r")).sessions]
    assert patiences == [PATIENCE, PATIENCE, MORE, 0]
    assert best_of("r")[0] == SECOND


def test_what_needs_held_out_text(capsys):
    rnn_scratch.train("numpy", num_epochs=1, run="r", **SMALL)
    for command in ("predict", "evaluate"):
        result = run_in_process(capsys, command, "r", "--best")
        result.assert_error("r has no best epoch", "Omit `best`", "`valid_share` 0.1")
    with pytest.raises(RNNScratchError, match=r"`patience` 3 needs held-out text.*\n.*omit"):
        rnn_scratch.resume("r", 2, patience=3)
    assert "patience" not in json.loads(Path("r/run.json").read_bytes())["sessions"][0]


def test_of_equally_good_epochs_the_first_is_the_best():
    rows = [epoch_row(n, valid_loss=loss) for n, loss in enumerate((3.0, 2.0, None, 2.0), 1)]
    assert run_folder.best(rows) is rows[1]
    assert run_folder.best([None, rows[2]]) is None
