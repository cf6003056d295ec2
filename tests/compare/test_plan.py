"""A comparison whose children send what is not right, and go on after what is wrong."""

import copy

import pytest
from msgspec.structs import replace
from small_records import READY, round_of, trial_of

from rnn_scratch.compare import pictures, plan, summary
from rnn_scratch.compare.record import Candidate, Failure, Plan, read
from rnn_scratch.errors import NotOffered, RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.workers import groups

LETTERS = books.Text("file", "", "abcdefgh " * 40, "0123456789")
SETTINGS = Settings(batch_size=2, num_steps=3, num_hiddens=4, num_epochs=2)
EPOCHS, ENDED = trial_of(9.0, 9.0).epochs, trial_of()  # what a child sends
GOOD = [READY, *EPOCHS, ENDED]


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """A function that compares with children that send these answers, one list after another."""

    def compare(*answers, backends=("numpy",), **options):
        left = iter(answers)

        def ask(*task, **how):
            for answer in next(left):
                if isinstance(answer, Exception):
                    raise answer
                yield copy.deepcopy(answer)

        monkeypatch.setattr(groups, "ask", ask)
        candidates = [Candidate(*backend.split()) for backend in backends]
        how = Plan(**{"repeats": 1, **options})
        record = plan.new_record(candidates, how, SETTINGS, LETTERS, "")
        pythons = plan.interpreters(candidates, {})
        plan.run(record, LETTERS, pythons, tmp_path, *[lambda line: None] * 2)
        assert next(left, None) is None  # all have been asked
        assert read(tmp_path) == record
        return record

    return compare


def test_the_reason_of_a_failure_is_one_line(compared):
    (candidate,) = compared([READY, RNNScratchError("line \x1b[2J", "Omit it.")]).candidates
    assert candidate.failures[0].reason == r"line \x1b[2J"
    assert not candidate.trials[0].has_ended


def test_what_a_backend_does_not_offer_is_no_failure(compared):
    record = compared([READY, NotOffered("There is none.", "Take another.")])
    assert record.candidates[0].failures == [Failure("There is none.", "not offered")]
    assert not record.has_failed
    assert record.offered == []


def test_another_start_than_the_first_candidate_s_is_a_failure(compared):
    reason = "its starting parameters or minibatches are not those of the first candidate"
    other = [READY, *EPOCHS, replace(ENDED, parameters="other")]
    record = compared(GOOD, other, [round_of()], backends=("numpy", "torch"))
    assert record.candidates[1].failures == [Failure(reason)]
    rounds = [round_of()], [round_of(minibatches_seen="other")]
    record = compared(*[GOOD] * 2, *rounds, backends=("numpy", "torch"))
    assert record.candidates[1].failures == [Failure(reason, phase="timing")]
    assert record.candidates[1].rounds == []


def test_the_failure_of_one_size_leaves_the_others(compared):
    options = {"repeats": 2, "vary": "num_hiddens", "values": [4, 8, 16]}
    broken = [RNNScratchError("eight is too many", "Omit it.")]
    record = compared(GOOD, [round_of()], broken, *[[round_of()]] * 3, **options)
    (candidate,) = record.candidates
    assert [len(candidate.rounds_at(value)) for value in options["values"]] == [2, 0, 2]
    rows = [row.figures.get("failure") for row in summary.speeds(record)]
    assert rows == [None, "eight is too many", None]
    assert set(pictures.draw(record, ["scaling", "speed"], ["svg"])) == {"scaling.svg"}
