"""What workers agree on, and which of their failures is reported: without any framework."""

import sys
import sysconfig
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import parallel

from rnn_scratch import registry
from rnn_scratch.contract import Options, Team
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.exact import digest
from rnn_scratch.runs import exchange, training
from rnn_scratch.runs.checkpoint import Incomplete
from rnn_scratch.system.processes import Crashed
from rnn_scratch.workers import supervisor
from rnn_scratch.workers.network import Lost
from rnn_scratch.workers.supervisor import Halted

# What workers agree on, through an engine of threads in this process.


def team_of(threads, function):
    """The results of a function of a setup, in as many threads as there are workers."""
    barrier, slots = threading.Barrier(threads, timeout=30), [None] * threads

    def exchange(rank, arrays):
        slots[rank] = arrays
        barrier.wait()
        rows = list(slots)
        barrier.wait()
        return [list(each) for each in zip(*rows)]

    def setup(rank):
        machine = SimpleNamespace(tensor=lambda array, device: array.copy(), array=lambda x: x)
        engine = SimpleNamespace(all_gather=lambda arrays: exchange(rank, arrays))
        return SimpleNamespace(
            backend=SimpleNamespace(machine=machine, workers=engine),
            runtime=SimpleNamespace(device="cpu"),
            settings=SimpleNamespace(batch_size=4),
            model=SimpleNamespace(options=Options(5, 3)),
            team=Team(rank, ("127.0.0.1:1",) * threads),
        )

    return parallel([lambda rank=rank: function(setup(rank), rank) for rank in range(threads)])


def test_the_size_of_a_part_is_that_of_the_first_and_a_signal_that_of_any():
    signal = {1: 15, 2: 2}

    def agree(size, requests):
        def of(setup, rank):
            own = size + rank, requests.get(rank)
            return exchange.agree(setup.backend, setup.model.options, *own)

        return team_of(3, of)

    assert agree(10, {}) == [(10, None)] * 3
    assert agree(2**40, signal) == [(2**24, 15)] * 3


def test_all_start_where_the_first_goes_on():
    state = (np.full((4, 3), 0.1, np.float32), np.full((4, 3), 0.2, np.float32))

    def begin(setup, rank):
        own = Incomplete() if rank else Incomplete((3.0, 2.0), state, 1.5)
        return training._same_start(setup, rank, 0 if rank else 7, own)

    for rank, (epoch, incomplete) in enumerate(team_of(2, begin)):
        assert epoch == 7
        assert incomplete.losses == ((0.0, 0.0) if rank else (3.0, 2.0))
        assert [each.tobytes() for each in incomplete.state] == [each.tobytes() for each in state]


def test_different_parameters_are_named_by_worker():
    arrays = {"W": np.arange(5.0)}
    other = {"W": np.array([0, 1, 2, 3, np.nextafter(4.0, 5)])}

    def require_equal(odd):
        def require(setup, rank):
            own = other if rank == odd else arrays
            exchange.require_equal(setup.backend, setup.model.options, 3, own)

        return team_of(3, require)

    assert require_equal(odd=None) == [None] * 3
    errors = require_equal(odd=1)
    assert len({str(error) for error in errors}) == 1
    for word in (
        "After epoch 3 the workers' parameters differ",
        f"worker 0: {digest(arrays)}",
        f"worker 1: {digest(other)}",
        f"worker 2: {digest(arrays)}",
    ):
        assert word in str(errors[0])


@pytest.mark.skipif(sys.platform == "win32", reason="mpiexec is a script here")
@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (None, RNNScratchError, "need mpiexec of MPICH"),
        ("echo usage", RNNScratchError, "is not MPICH's"),
        ("echo host:5", ValueError, "an error of the workers"),
    ],
)
def test_the_port_of_mpiexec(monkeypatch, tmp_path, script, error, words):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "mpiexec").write_text(f"#!/bin/sh\n{script}\nread line\n")
        (tmp_path / "mpiexec").chmod(0o755)

    def meet():
        with registry.load("numpy").workers._mpiexec(2) as port:
            assert port == 5
            raise ValueError("an error of the workers")

    with pytest.raises(error, match=words):
        meet()


TRACEBACK, LOST, HALTED = Lost("Traceback"), Lost("connection closed"), Halted("SIGTERM")


def gone(rank, reason):
    return supervisor._failure(rank, Crashed(reason))


@pytest.mark.parametrize(
    ("failures", "reason"),
    [
        ((TRACEBACK, gone(1, "killed"), gone(2, "killed")), "Worker 1 has failed: killed"),
        # By its engine, when another worker has ended.
        ((gone(1, "killed by SIGABRT"), gone(0, "killed")), "Worker 0 has failed: killed"),
        ((TRACEBACK, LOST, gone(0, "killed by SIGABRT")), "Traceback"),
        ((TRACEBACK, HALTED), "SIGTERM"),
    ],
)
def test_of_several_failures_the_first_cause_is_reported(failures, reason):
    assert str(supervisor._first_cause(failures, None)) == reason
