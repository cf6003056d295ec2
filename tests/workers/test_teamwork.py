"""Agreement among workers, and the choice of which failure to report, without any framework."""

import sysconfig
import threading
from signal import SIGABRT, SIGKILL
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import run_in_threads

from rnn_scratch import registry
from rnn_scratch.contract import Options, WorkerGroup
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.exact import digest
from rnn_scratch.system.processes import AbortError, CrashError
from rnn_scratch.training import exchange
from rnn_scratch.training import loop as training
from rnn_scratch.training.events import PartialEpoch
from rnn_scratch.workers import supervisor
from rnn_scratch.workers.mpi import PeerLost
from rnn_scratch.workers.supervisor import StoppedBySignal


def run_group(threads, function):
    """Call `function(setup, rank)` in connected threads, one per worker; return the results."""
    barrier, slots = threading.Barrier(threads, timeout=30), [None] * threads

    def exchange(rank, arrays):
        slots[rank] = arrays
        barrier.wait()
        rows = list(slots)
        barrier.wait()
        return [list(tensors) for tensors in zip(*rows)]

    def setup(rank):
        machine = SimpleNamespace(tensor=lambda array, device: array.copy(), array=lambda x: x)
        engine = SimpleNamespace(all_gather=lambda arrays: exchange(rank, arrays))
        return SimpleNamespace(
            backend=SimpleNamespace(machine=machine, workers=engine),
            runtime=SimpleNamespace(device="cpu"),
            settings=SimpleNamespace(batch_size=4),
            model=SimpleNamespace(options=Options(5, 3)),
            group=WorkerGroup(rank, ("127.0.0.1:1",) * threads),
        )

    return run_in_threads(
        [lambda rank=rank: function(setup(rank), rank) for rank in range(threads)]
    )


def test_agree_takes_one_size_and_any_signal():
    signal = {1: 15, 2: 2}

    def agree(size, requests):
        def agree_in_worker(setup, rank):
            arguments = size + rank, requests.get(rank)
            return exchange.agree(setup.group, setup.backend, setup.model.options, *arguments)

        return run_group(3, agree_in_worker)

    assert agree(10, {}) == [(10, None)] * 3
    assert agree(2**40, signal) == [(2**24, 15)] * 3


def test_workers_start_where_worker_0_starts():
    state = (np.full((4, 3), 0.1, np.float32), np.full((4, 3), 0.2, np.float32))

    def begin(setup, rank):
        arguments = PartialEpoch() if rank else PartialEpoch((3.0, 2.0), state, 1.5)
        return training._common_start(setup, 0 if rank else 7, arguments)

    for rank, (epoch, incomplete) in enumerate(run_group(2, begin)):
        assert epoch == 7
        assert incomplete.losses == ((0.0, 0.0) if rank else (3.0, 2.0))
        assert [tensors.tobytes() for tensors in incomplete.state] == [
            tensors.tobytes() for tensors in state
        ]


def test_different_parameters_are_reported_with_digests():
    arrays = {"W": np.arange(5.0)}
    changed_arrays = {"W": np.array([0, 1, 2, 3, np.nextafter(4.0, 5)])}

    def require_equal(odd):
        def require(setup, rank):
            arguments = changed_arrays if rank == odd else arrays
            exchange.require_equal(setup.group, setup.backend, setup.model.options, 3, arguments)

        return run_group(3, require)

    assert require_equal(odd=None) == [None] * 3
    errors = require_equal(odd=1)
    assert len({str(error) for error in errors}) == 1
    for word in (
        "After epoch 3, the workers' parameters differ",
        f"worker 0: {digest(arrays)}",
        f"worker 1: {digest(changed_arrays)}",
        f"worker 2: {digest(arrays)}",
    ):
        assert word in str(errors[0])


def test_missing_mpiexec_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    launcher = registry.load("numpy").workers._launcher(2)
    with pytest.raises(RNNScratchError, match="need MPICH's `mpiexec`"), launcher:
        pass


TRACEBACK, LOST, STOPPED = PeerLost("Traceback"), PeerLost("closed"), StoppedBySignal("SIGTERM")


def killed(rank, signum):
    """Return the failure of a worker that a signal has killed."""
    error_type = AbortError if signum == SIGABRT else CrashError
    return supervisor._failure(rank, error_type(f"killed by {signum.name}"))


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ((TRACEBACK, killed(1, SIGKILL), killed(2, SIGKILL)), "Worker 1 failed: killed by SIGKILL"),
        # A library aborts its worker process when another worker has ended.
        ((killed(1, SIGABRT), killed(0, SIGKILL)), "Worker 0 failed: killed by SIGKILL"),
        ((TRACEBACK, LOST, killed(0, SIGABRT)), "Traceback"),
        ((TRACEBACK, STOPPED), "SIGTERM"),
    ],
)
def test_first_cause_is_reported(failures, cause):
    assert str(supervisor._first_cause(failures, None)) == cause
