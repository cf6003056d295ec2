"""A comparison whose children send what is not right, and go on after what is wrong."""

import copy

import pytest
from small_records import READY, round_of

from rnn_scratch.compare import metrics, phases, pictures
from rnn_scratch.compare import plan as plans
from rnn_scratch.compare.record import Candidate, EpochResult, Failure, Plan, Trial, read
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.workers import groups

LETTERS = books.Text("file", "", "abcdefgh " * 40, "0123456789")
SETTINGS = Settings(batch_size=2, num_steps=3, num_hiddens=4, num_epochs=2)


def epochs(*held_out):
    return [EpochResult(perplexity=9.0, held_out=each, seconds=1.0) for each in held_out]


def ended(parameters="a"):
    return Trial(0, [], 1, parameters, "b", ["text"])


GOOD = [READY, *epochs(None, None), ended()]


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """A function that compares with children that send these answers, one list after another."""

    def compare(*answers, backends=("numpy",), **plan):
        left = iter(answers)

        def ask_all(calls, *more):
            for answer in next(left):
                if isinstance(answer, Exception):
                    raise answer
                yield copy.deepcopy(answer)

        monkeypatch.setattr(groups, "ask_all", ask_all)
        candidates = [Candidate(*backend.split()) for backend in backends]
        plan = Plan(**{"repeats": 1, **plan})
        record = plans.new_record(candidates, plan, SETTINGS, LETTERS, {}, "")
        phases.run(record, LETTERS, {}, tmp_path, lambda *progress: None)
        assert next(left, None) is None  # all have been asked
        assert read(tmp_path) == record
        return record

    return compare


def test_the_reason_of_a_failure_is_one_line(compared):
    (candidate,) = compared([READY, RNNScratchError("line\n\x1b[2J")]).candidates
    assert candidate.failures[0].reason == r"line \x1b[2J"
    assert not candidate.trials[0].has_ended


def test_another_start_than_the_first_candidate_s_is_a_failure(compared):
    other = [READY, *epochs(None, None), ended(parameters="other")]
    record = compared(GOOD, other, [round_of()], backends=("numpy", "torch"))
    assert (
        "starting parameters differ from those of numpy" in record.candidates[1].failures[0].reason
    )
    rounds = [round_of()], [round_of(minibatches_seen="other")]
    record = compared(*[GOOD] * 2, *rounds, backends=("numpy", "torch"))
    failure = Failure("its minibatches differ from those of numpy", phase="timing")
    assert record.candidates[1].failures == [failure]
    assert record.candidates[1].rounds == []


def test_the_failure_of_one_size_leaves_the_others(compared):
    plan = {"repeats": 2, "vary": "num_hiddens", "values": [4, 8, 16]}
    broken = [Failure("eight is too many")]
    record = compared(GOOD, [round_of()], broken, *[[round_of()]] * 3, **plan)
    (candidate,) = record.candidates
    assert [len(candidate.rounds_at(value)) for value in plan["values"]] == [2, 0, 2]
    rows = [row.figures.get("failure") for row in metrics.speeds(record)]
    assert rows == [None, "eight is too many", None]
    assert set(pictures.draw(record, ["scaling.svg", "speed.svg"])) == {"scaling.svg"}
