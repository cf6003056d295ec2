"""The best epoch on held-out text, and early stopping with `patience`."""

import json
import math
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
from rnn_scratch.text import books, vocabulary

# Epoch 7 has the lowest held-out loss until epoch 14, which no later epoch beats.
SETTINGS = {**SMALL, "lr": 2.0, "seed": 29, "valid_share": 0.2, "threads": 1}
FIRST, SECOND, PATIENCE, MORE = 7, 14, 5, 8


def best_of(run):
    """Return the best epoch and the parameters after that epoch."""
    saved = checkpoint.load(run)
    return saved.best_epoch, saved.best


def losses(run):
    return [row["valid_loss"] for row in history(run)]


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_best_checkpoint_has_the_lowest_held_out_loss(backend_name):
    run = rnn_scratch.train(backend_name, num_epochs=12, output="r", **SETTINGS)
    epoch = losses("r").index(min(losses("r"))) + 1
    assert 1 < epoch < 12
    assert run.best == run.history[epoch - 1]
    # The best parameters match a run that ends at this epoch and reproduce its held-out loss.
    rnn_scratch.train(backend_name, num_epochs=epoch, output="until", **SETTINGS)
    best_epoch, best = best_of("r")
    assert best_epoch == epoch
    assert_same(best, parameters("until"))
    text = vocabulary.normalize(books.load("tide-clock").content, "chapter")
    Path("end.txt").write_text(text[320:400])
    held_out = rnn_scratch.evaluate(run, text="end.txt", best=True)
    assert held_out.loss == pytest.approx(min(losses("r")), rel=1e-6)
    assert held_out.loss < rnn_scratch.evaluate(run, text="end.txt").loss
    assert held_out.perplexity == math.exp(held_out.loss)
    texts = [rnn_scratch.predict(run_name, "the ", 40) for run_name in ("r", "until")]
    assert rnn_scratch.predict("r", "the ", 40, best=True) == texts[1] != texts[0]


def test_best_epoch_survives_resuming():
    uninterrupted = rnn_scratch.train("numpy", num_epochs=SECOND + 4, output="whole", **SETTINGS)
    rnn_scratch.train("numpy", num_epochs=3, output="r", **SETTINGS)
    for num_epochs in (FIRST + 1, FIRST + 3, SECOND + 1, SECOND + 4):
        run = rnn_scratch.resume("r", num_epochs)
        assert best_of("r")[0] == run.best.epoch == (FIRST if num_epochs < SECOND else SECOND)
    assert history_without_times("r") == history_without_times("whole")
    assert_same(best_of("r")[1], best_of(uninterrupted.folder)[1])


def test_patience_ends_training_in_every_session(capsys):
    rnn_scratch.train("numpy", num_epochs=40, output="whole", **SETTINGS)
    settings = {**SETTINGS, "backend": "numpy", "num_epochs": 40, "patience": PATIENCE}
    result = run_in_process(capsys, "train", *options(output="r", **settings))
    last_epoch = FIRST + PATIENCE
    reason = f"no improvement since epoch {FIRST} (`patience` {PATIENCE})"
    starts = ("early stopping", "The training text has", "best: epoch")
    lines = result.out.splitlines()
    notice, hint, best = (next(n for n in lines if n.startswith(start)) for start in starts)
    assert hint.startswith("The training text has 320 characters. For fewer misspelled")
    printed_reason = reason.replace("patience", "--patience")
    assert notice == f"early stopping after epoch {last_epoch}: {printed_reason}"
    loss = min(losses("r"))
    metrics = f"{loss:.3f} nats, {loss / math.log(2):.3f} bits per character"
    assert best == f"best: epoch {FIRST}  {metrics}, perplexity {math.exp(loss):.2f}"
    (session,) = run_folder.read(Path("r")).sessions
    assert (session.outcome, session.reason, session.to_epoch) == ("finished", reason, last_epoch)
    assert history_without_times("r") == history_without_times("whole")[:last_epoch]

    # Resume with the same patience, more patience and unlimited patience.
    resume = ("train", "--resume", "r", "--num-epochs", 40)
    run_in_process(capsys, *resume).assert_exit()
    assert len(history("r")) == last_epoch + 1
    run_in_process(capsys, *resume, "--patience", MORE).assert_exit()
    assert len(history("r")) == SECOND + MORE
    run_in_process(capsys, *resume, "--patience", 0).assert_exit()
    assert history_without_times("r") == history_without_times("whole")
    patiences = [session.patience for session in run_folder.read(Path("r")).sessions]
    assert patiences == [PATIENCE, PATIENCE, MORE, 0]
    assert best_of("r")[0] == SECOND


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
