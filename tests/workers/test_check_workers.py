"""`check --workers`: several workers compared with the reference, which trains by itself."""

import json

import pytest
from helpers import require_engine, require_tested, there
from sabotages import make

from rnn_scratch import registry
from rnn_scratch.check import runner
from rnn_scratch.check.exact_mode import ExactModel
from rnn_scratch.runs.runtime import Runtime

PIECES = {"all_gather", "all_reduce", "train_together"}
# A mistake in what each worker does with the gradients of all.
MEAN, WRONG = "(sum(parts) / len(parts) for", "(sum(parts) for"
OF_TWO = "(sum(parts) / (len(parts) if len(parts) > 2 else 1) for"
REVERSED = "(sum(parts[::-1]) / len(parts) for"


@pytest.fixture(autouse=True)
def _engine(request):
    """MPI is an extra, which an environment may lack."""
    if "backend_name" in request.fixturenames:
        require_engine(request.getfixturevalue("backend_name"))


@pytest.fixture
def _torch(backend_names):
    require_tested(backend_names, "torch")


@pytest.mark.team(by_default=("numpy", "torch"))
def test_three_workers_compute_what_one_does(backend_name):
    rows = list(runner.rows(Runtime(backend_name, device="cpu", workers=3), ["lstm"]))
    assert [row for row in rows if not row.passed] == []
    assert {row.piece for row in rows} == PIECES
    assert {(*row.case.split()[:2],) for row in rows} == {("float64", "lstm"), ("float32", "lstm")}


CLIP = "    grads, _ = clip(grads, how.theta)\n"
REDUCE = "    mean, grads = all_reduce(mean, grads)\n"


@pytest.mark.team
@pytest.mark.usefixtures("_torch")
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (MEAN, WRONG, "all_reduce in workers.py: loss"),
        (MEAN, OF_TWO, "all_reduce in workers.py: loss"),
        (MEAN, REVERSED, "all_reduce in workers.py: gradients, added by rank"),
        (REDUCE + CLIP, CLIP + REDUCE, "train_together in workers.py: parameters after 3 updates"),
    ],
    ids=["no mean", "no mean of two", "added in another order", "clipped before the mean"],
)
def test_a_mistake_of_several_workers_is_named(copy, old, new, named):
    make((old, new), copy / "backends" / "torch" / "workers.py")
    # Three of them and then two, unless the option has a number.
    done = there("check", "torch", "--model", "scratch", "--workers", cwd=copy).ended(1)
    of_three, of_two = (
        " ".join(done.out.split())
        .split("torch, scratch, 3 workers: ")[1]
        .split("torch, scratch, 2 workers: ")
    )
    assert f"look first at: {named}" in (of_two if new == OF_TWO else of_three)
    assert ("all within the tolerance" in of_three) == (new == OF_TWO)


@pytest.mark.team
@pytest.mark.usefixtures("_torch")
def test_a_wrong_mean_is_detected_in_exact_mode_at_the_first_update(copy):
    make((MEAN, WRONG), copy / "backends" / "torch" / "workers.py")
    small = ("--num-hiddens", "8", "--epochs", "2", "--corpus", "tide-clock")
    exact = ("check", "torch", "--exact", "--workers", "1,2", "--json", *small)
    answer = json.loads(there(*exact, cwd=copy).ended(1).out)
    assert [model["workers"] for model in answer["models"]] == [1, 2]
    divergence = answer["divergence"]
    assert (divergence["update"], divergence["models"]) == (1, ["torch", "torch (2 workers)"])


@pytest.mark.team
@pytest.mark.usefixtures("_torch")
def test_a_worker_that_fails_is_a_row(copy):
    broken = '    if distributed.get_rank() == 1:\n        raise ValueError("broken")\n'
    line = "    vector = torch.cat("
    make((line, broken + line), copy / "backends" / "torch" / "workers.py")
    arguments = ("check", "torch", "--model", "scratch", "--workers", "2", "--json")
    done = there(*arguments, cwd=copy).ended(1)
    (row,) = json.loads(done.out)
    assert row["where"].startswith("worker 1: failed with exit code 1: ")
    assert row["where"].endswith("ValueError: broken")


def test_a_backend_without_an_engine_says_so(monkeypatch):
    monkeypatch.delattr(registry.load("numpy"), "workers")
    with pytest.raises(registry.NotOffered, match="Use `--workers 1`"):
        registry.workers("numpy", registry.load("numpy"))


def test_a_model_is_named_by_its_workers():
    some = {"backend": "torch", "outcome": "trained", "reason": "", "digests": []}
    models = [
        ExactModel(**some, model="fast", workers=2, cell="lstm"),
        ExactModel(**some, model="scratch", workers=1),
    ]
    assert [model.title for model in models] == ["torch (fast, lstm, 2 workers)", "torch"]
