"""`check --workers`: several workers compared with the reference, which trains in one process."""

import json

import pytest
from backend_mutations import mutate_file as make
from helpers import require_engine, require_tested, run_subprocess

from rnn_scratch.check import runner
from rnn_scratch.training.runtime import Runtime

FUNCTIONS = {"all_gather", "all_reduce", "train_minibatch_distributed"}
# Mutations of the line that averages the gradients of all workers.
MEAN, SUM = "sum(parts) / len(parts) for", "sum(parts) for"
MEAN_OF_THREE = "sum(parts) / (len(parts) if len(parts) > 2 else 1) for"
REVERSED = "sum(parts[::-1]) / len(parts) for"


@pytest.fixture(autouse=True)
def _engine(request):
    """Skip a test if the backend does not support workers here; MPI, for example, is optional."""
    if "backend_name" in request.fixturenames:
        require_engine(request.getfixturevalue("backend_name"))


@pytest.fixture
def _torch(backend_names):
    require_tested(backend_names, "torch")


@pytest.mark.team(by_default=("numpy", "torch"))
def test_three_workers_match_one_worker(backend_name):
    runtime = Runtime(backend_name, device="cpu", workers=3)
    rows = [row for _, row in runner.run([runtime], ["lstm"])]
    assert [row for row in rows if not row.passed] == []
    assert {row.function for row in rows} == FUNCTIONS
    assert {(*row.case.split()[:2],) for row in rows} == {("float64", "lstm"), ("float32", "lstm")}


CLIP = "    grads, _ = clip(grads, update.theta)\n"
REDUCE = "    mean_loss, grads = all_reduce(mean_loss, grads)\n"


@pytest.mark.team
@pytest.mark.usefixtures("_torch")
@pytest.mark.parametrize(
    ("line", "changed_line", "place"),
    [
        (MEAN, SUM, "all_reduce in workers.py: loss"),
        (MEAN, MEAN_OF_THREE, "all_reduce in workers.py: loss"),
        (MEAN, REVERSED, "all_reduce in workers.py: gradients, added by rank"),
        (
            REDUCE + CLIP,
            CLIP + REDUCE,
            "train_minibatch_distributed in workers.py: parameters after 4 updates",
        ),
        (
            "OPTIMIZERS[update.optimizer](",
            "OPTIMIZERS[' '.join([*update.optimizer.split()[:-1], 'sgd'])](",
            "train_minibatch_distributed in workers.py: parameters after 4 updates",
        ),
    ],
    ids=["no mean", "no mean of two", "other order", "clipped before the mean", "always sgd"],
)
def test_check_names_a_mutation_of_the_exchange(copy, line, changed_line, place):
    make((line, changed_line), copy / "backends" / "torch" / "workers.py")
    # Without a number, `--workers` checks three workers and then two.
    result = run_subprocess(
        "check", "torch", "--model", "scratch", "--workers", cwd=copy
    ).assert_exit(1)
    three_workers, two_workers = (
        " ".join(result.out.split())
        .split("torch, scratch, 3 workers: ")[1]
        .split("torch, scratch, 2 workers: ")
    )
    assert f"look first at: {place}" in (
        two_workers if changed_line == MEAN_OF_THREE else three_workers
    )
    assert ("all within the tolerance" in three_workers) == (changed_line == MEAN_OF_THREE)


@pytest.mark.team
@pytest.mark.usefixtures("_torch")
def test_a_failing_worker_becomes_a_row(copy):
    broken = '    if distributed.get_rank() == 1:\n        raise ValueError("broken")\n'
    line = "    vector = torch.cat("
    make((line, broken + line), copy / "backends" / "torch" / "workers.py")
    arguments = ("check", "torch", "--model", "scratch", "--workers", "2", "--json")
    result = run_subprocess(*arguments, cwd=copy).assert_exit(1)
    (row,) = json.loads(result.out)
    assert row["location"].startswith("worker 1: failed with exit code 1: ")
    assert row["location"].endswith("ValueError: broken")
