"""Comparisons continue after child processes fail."""

import copy

import pytest
from small_records import READY, make_round, make_trial

from rnn_scratch.compare import pictures, plan, summary
from rnn_scratch.compare.record import Candidate, Failure, Plan, read
from rnn_scratch.errors import NotSupportedError, RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.workers import groups

LETTERS = books.Text("file", "", "abcdefgh " * 40, "0123456789")
SETTINGS = Settings(batch_size=2, num_steps=3, num_hiddens=4, num_epochs=2)
EPOCHS, ENDED = make_trial(9.0, 9.0).epochs, make_trial()  # messages of a child process
GOOD = [READY, *EPOCHS, ENDED]


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """Return a function that compares backends; each list of answers stands for a child process."""

    def compare(*answers, backends=("numpy",), **options):
        remaining = iter(answers)

        def ask(*task, **options):
            for answer in next(remaining):
                if isinstance(answer, Exception):
                    raise answer
                yield copy.deepcopy(answer)

        monkeypatch.setattr(groups, "ask", ask)
        candidates = [Candidate(*backend.split()) for backend in backends]
        settings = Plan(**{"repeats": 1, **options})
        record = plan.new_record(candidates, settings, SETTINGS, LETTERS, "")
        plan.run(record, LETTERS, tmp_path, *[lambda line: None] * 2)
        assert next(remaining, None) is None
        assert read(tmp_path) == record
        return record

    return compare


def test_failure_reason_is_one_line(compared):
    (candidate,) = compared([READY, RNNScratchError("two\nlines \x1b[2J", "Omit it.")]).candidates
    assert candidate.failures[0].reason == r"two lines \x1b[2J"
    assert not candidate.trials[0].has_ended


def test_missing_variant_is_not_a_failure(compared):
    record = compared([READY, NotSupportedError("NumPy has no layers.", "Use scratch.")])
    assert record.candidates[0].failures == [Failure("NumPy has no layers.", "not offered")]
    assert not record.has_failed
    assert record.offered == []


def test_failure_at_one_size_keeps_other_sizes(compared):
    options = {"repeats": 2, "vary": "num_hiddens", "values": [4, 8, 16]}
    broken = [RNNScratchError("eight is too many", "Omit it.")]
    record = compared(GOOD, [make_round()], broken, *[[make_round()]] * 3, **options)
    (candidate,) = record.candidates
    assert [len(candidate.rounds_at(value)) for value in options["values"]] == [2, 0, 2]
    rows = [row.figures.get("failure") for row in summary.speeds(record)]
    assert rows == [None, "eight is too many", None]
    assert set(pictures.draw(record)) == {"speed", "perplexity"}
