"""A comparison whose children send what is not right, and go on after what is wrong."""

import copy
import dataclasses

import pytest
from small_records import READY, round_of

from rnn_scratch.compare import phases
from rnn_scratch.compare import plan as plans
from rnn_scratch.compare.phases import Progress
from rnn_scratch.compare.record import Candidate, Epoch, Failure, Plan, Training, read
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings
from rnn_scratch.text import corpus
from rnn_scratch.workers import groups

LETTERS = corpus.Text("file", "", "abcdefgh " * 40, "0123456789")
SETTINGS = Settings(batch_size=2, num_steps=3, num_hiddens=4, num_epochs=2)


def epochs(*held_out, losses=()):
    return [
        Epoch(perplexity=9.0, held_out=each, seconds=1.0, losses=list(losses)) for each in held_out
    ]


def ended(parameters="a", comparisons=1):
    return Training(0, [], comparisons, parameters, "b", ["text"])


GOOD = [READY, None, *epochs(None, None), ended()]
IN_FLOAT64 = [READY, *epochs(None, None, losses=[1.0]), ended()]


@pytest.fixture
def compared(monkeypatch, tmp_path):
    """A function that compares with children that send these answers, one list after another."""

    def compare(*answers, backends=("numpy",), settings=SETTINGS, **plan):
        left = iter(answers)

        def ask_all(calls, *more):
            for answer in next(left):
                if isinstance(answer, Exception):
                    raise answer
                yield copy.deepcopy(answer)

        monkeypatch.setattr(groups, "ask_all", ask_all)
        candidates = [Candidate(*backend.split()) for backend in backends]
        plan = Plan(repeats=1, **plan)
        record = plans.new_record(candidates, plan, settings, LETTERS, {}, "")
        phases.run(record, LETTERS, {}, tmp_path, Progress())
        assert next(left, None) is None  # all have been asked
        assert read(tmp_path) == record
        return record

    return compare


def test_what_children_send_becomes_the_record(compared):
    record = compared(GOOD, IN_FLOAT64, [None, round_of()])
    (candidate,) = record.candidates
    assert (candidate.failures, record.outcome) == ([], "finished")
    assert (candidate.ready, candidate.differences) == (READY, [0.0, 0.0])
    assert candidate.trainings == [Training(0, epochs(None, None), 1, "a", "b", ["text"])]
    assert candidate.timings[0].rounds == [round_of()]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([], "it ended without the result of its check or of its training"),
        ([READY, *epochs(None, None)], "it ended without the result"),
        ([*epochs(None, None), ended()], "it ended without the result"),
        ([READY, *epochs(None, None), ended(comparisons=0)], "it ended without the result"),
        ([READY, *epochs(None), ended()], "it trained 1 epochs instead of 2"),
        ([READY, *epochs(None, None, None), ended()], "it trained 3 epochs instead of 2"),
        ([READY, Failure("the line"), *GOOD], "the line"),
        ([READY, RNNScratchError("line\n\x1b[2J")], r"line \x1b[2J"),
        ([Failure("no", "not offered")], "no"),
    ],
)
def test_a_training_run_that_is_not_complete_is_a_failure(compared, answers, reason):
    (candidate,) = compared(answers).candidates
    assert candidate.failure.reason.startswith(reason)
    assert not candidate.finished
    assert (candidate.trainings == []) == (candidate.failure.kind == "not offered")


@pytest.mark.parametrize(
    ("held_out", "reason"),
    [
        ([9.0, 5.0], None),
        ([5.0], None),
        ([9.0, 9.0], None),  # not reached
        ([9.0], "it trained 1 epochs instead of 2"),
        ([5.0, 5.0], "it trained 2 epochs instead of 1"),
    ],
)
def test_a_training_run_ends_when_the_target_is_reached_and_not_before(compared, held_out, reason):
    answers = [READY, *epochs(*held_out), ended()]
    timing = [] if reason else [[round_of()]]
    settings = dataclasses.replace(SETTINGS, valid_tokens=20)
    (candidate,) = compared(answers, *timing, settings=settings, target=6.0).candidates
    assert (candidate.failure and candidate.failure.reason) == reason


def test_another_start_than_the_first_candidate_s_is_a_failure(compared):
    other = [READY, *epochs(None, None), ended(parameters="other")]
    record = compared(GOOD, other, IN_FLOAT64, [round_of()], backends=("numpy", "torch"))
    assert "starting parameters differ from those of numpy" in record.candidates[1].failure.reason
    rounds = [round_of()], [round_of(minibatches_seen="other")]
    record = compared(*[GOOD] * 2, *[IN_FLOAT64] * 2, *rounds, backends=("numpy", "torch"))
    (timing,) = record.candidates[1].timings
    assert timing.failure.reason == "its minibatches differ from those of numpy"
    assert timing.rounds == []


@pytest.mark.parametrize(
    ("answers", "kind", "reason"),
    [
        ([Failure("no float64 here", "not started")], "not started", "no float64 here"),
        ([READY, Failure("it broke")], "failed", "it broke"),
    ],
)
def test_a_failure_in_float64_alone(compared, answers, kind, reason):
    record = compared(GOOD, answers, [round_of()])
    (candidate,) = record.candidates
    assert candidate.float64_failure == Failure(reason, kind)
    assert record.has_failed == (kind == "failed")  # a device need not have float64
    assert candidate.timings[0].rounds


def test_losses_in_float64_are_compared_with_those_of_numpy_wherever_it_stands(compared):
    other = [READY, *epochs(None, None, losses=[1.5]), ended()]
    both = {"backends": ("torch", "numpy")}
    record = compared(GOOD, GOOD, IN_FLOAT64, other, [round_of()], [round_of()], **both)
    assert [each.differences for each in record.candidates] == [[0.5, 0.5], [0.0, 0.0]]
    # A comparison in float64 has these losses already.
    settings = dataclasses.replace(SETTINGS, dtype="float64")
    record = compared(other, IN_FLOAT64, [round_of()], [round_of()], settings=settings, **both)
    assert [each.differences for each in record.candidates] == [[0.5, 0.5], [0.0, 0.0]]
    assert not record.candidates[0].trainings[0].epochs[0].losses


def test_times_are_complete_or_a_failure(compared):
    (candidate,) = compared(GOOD, IN_FLOAT64, [None]).candidates
    assert candidate.timings[0].failure.reason == "it ended without all of its times"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([round_of(), round_of(own_layer=[2.0])], None),
        ([round_of()], "it ended without all of its times"),
        ([round_of(), Failure("two are too many")], "two are too many"),
    ],
)
def test_the_failure_of_a_layer_leaves_the_times_before_it(compared, answers, reason):
    rounds = (answers, [round_of()])
    record = compared(*[GOOD] * 2, *rounds, backends=("torch fast", "torch concise"))
    (timing,) = record.candidates[0].timings
    assert len(timing.rounds) == 1
    assert bool(timing.rounds[0].own_layer) == (reason is None)
    assert (timing.layer_failure and timing.layer_failure.reason) == reason
    assert timing.failure is None
