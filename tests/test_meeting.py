"""How workers are launched, meet, and agree: without any framework."""

import contextlib
import errno
import itertools
import json
import queue
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from rnn_scratch.cli import launching
from rnn_scratch.contract import Options, RNNScratchError, Team
from rnn_scratch.exact import digest
from rnn_scratch.runs import supervision, teamwork
from rnn_scratch.runs.checkpoint import Incomplete
from rnn_scratch.runs.supervision import Launch, _Problem
from rnn_scratch.system import meeting
from rnn_scratch.system.meeting import Hello

TERMS = {"--lr": "1.0", "--backend": "torch"}


# Shares of a minibatch.


@pytest.mark.parametrize(
    ("rows", "workers", "instead"),
    [
        (32, 3, "--workers 1, 2, 4, 8, 16 or 32, or --batch-size 30 or 33"),
        (1, 2, "--workers 1, or --batch-size 2"),
        (6, 5, "--workers 1, 2, 3 or 6, or --batch-size 5 or 10"),
    ],
)
def test_a_minibatch_must_be_divisible(rows, workers, instead):
    with pytest.raises(RNNScratchError) as error:
        supervision.require_shares(rows, workers)
    assert f"Use {instead}." in str(error.value)
    supervision.require_shares(rows, rows)


def test_shares_are_all_rows_once():
    addresses = ("a:1", "b:1", "c:1")
    rows = [np.arange(12)[teamwork.share(12, Team(rank, addresses))] for rank in range(3)]
    assert np.concatenate(rows).tolist() == list(range(12))
    assert {len(each) for each in rows} == {4}


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
        engine = SimpleNamespace(gather=lambda arrays: exchange(rank, arrays))
        return SimpleNamespace(
            backend=SimpleNamespace(machine=machine, workers=engine),
            place=SimpleNamespace(device="cpu"),
            settings=SimpleNamespace(dtype="float32", batch_size=4, num_hiddens=3),
            model=SimpleNamespace(options=Options(3)),
            team=Team(rank, ("127.0.0.1:1",) * threads),
        )

    return parallel([lambda rank=rank: function(setup(rank), rank) for rank in range(threads)])


def parallel(calls):
    """The results of these calls in threads, or their errors."""
    results = [None] * len(calls)

    def run(number, call):
        try:
            results[number] = call()
        except RNNScratchError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_the_size_of_a_part_is_that_of_the_first_and_a_signal_that_of_any():
    assert (
        team_of(3, lambda setup, rank: teamwork.agree(setup, 10 + rank, None)) == [(10, None)] * 3
    )
    signal = {1: 15, 2: 2}
    agreed = team_of(3, lambda setup, rank: teamwork.agree(setup, 2**40, signal.get(rank)))
    assert agreed == [(2**24, 15)] * 3


def test_all_start_where_the_first_goes_on():
    state = (np.full((4, 3), 0.1, np.float32), np.full((4, 3), 0.2, np.float32))

    def begin(setup, rank):
        own = Incomplete() if rank else Incomplete((3.0, 2.0), state, 1.5)
        return teamwork.same_start(setup, 0 if rank else 7, own)

    for rank, (epoch, incomplete) in enumerate(team_of(2, begin)):
        assert epoch == 7
        assert incomplete.losses == ((0.0, 0.0) if rank else (3.0, 2.0))
        assert [each.tobytes() for each in incomplete.state] == [each.tobytes() for each in state]


def test_rows_of_states_are_joined_in_the_order_of_the_ranks():
    def join(setup, rank):
        return teamwork.join_rows(setup.backend, "cpu", [np.full((2, 3), rank)])

    states = team_of(2, join)
    for (state,) in states:
        assert state[:, 0].tolist() == [0, 0, 1, 1]


def test_different_parameters_are_named_by_worker():
    arrays = {"W": np.arange(5.0)}
    other = {"W": np.array([0, 1, 2, 3, np.nextafter(4.0, 5)])}
    equal = team_of(2, lambda setup, rank: teamwork.require_equal(setup, 3, arrays))
    assert equal == [None, None]
    errors = team_of(
        3, lambda setup, rank: teamwork.require_equal(setup, 3, other if rank == 1 else arrays)
    )
    assert len({str(error) for error in errors}) == 1
    for word in (
        "After epoch 3 the workers' parameters differ",
        f"worker 0: {digest(arrays)}",
        f"worker 1: {digest(other)}",
        f"worker 2: {digest(arrays)}",
    ):
        assert word in str(errors[0])


def test_of_several_problems_the_first_cause_is_reported():
    exception = _Problem(1, False, 0, "connection closed", False, False)
    gone = _Problem(0, False, 1, "killed", False, False)
    later = _Problem(0, False, 2, "killed too", False, False)
    repeated = _Problem(0, True, 0, "diverged", True, True)
    longer = _Problem(0, False, 1, "diverged, checkpoint kept", True, True)
    assert min([exception, gone, later]) == gone
    assert min([repeated, longer]) == longer


# Meetings.


@pytest.fixture
def coordinator():
    return meeting.free_address("127.0.0.1")


@pytest.fixture
def short(monkeypatch):
    """Shorter times to wait."""
    monkeypatch.setattr(meeting, "WAIT", 2.0)
    monkeypatch.setattr(meeting, "GREETING", 0.3)


def host(coordinator, workers=2, terms=TERMS, agenda=None, then=lambda met: met):
    with meeting.host(coordinator, workers, terms, agenda or {}, lambda line: None) as met:
        return then(met)


def visit(coordinator, rank=1, workers=2, terms=TERMS, then=lambda met: met):
    with meeting.visit(coordinator, rank, workers, terms, lambda line: None) as met:
        return then(met)


def test_all_learn_the_addresses_and_the_agenda(coordinator):
    # The others may come before worker 0, and in any order.
    calls = [lambda rank=rank: visit(coordinator, rank, 4) for rank in (3, 1, 2)]
    met = parallel([*calls, lambda: host(coordinator, 4, agenda={"seed": 3})])
    assert [len(each.addresses) for each in met] == [4] * 4
    assert len({tuple(each.addresses) for each in met}) == 1
    assert {address.partition(":")[0] for address in met[0].addresses} == {"127.0.0.1"}
    assert len(set(met[0].addresses)) == 4
    assert [each.agenda for each in met] == [{"seed": 3}] * 4
    assert sorted(peer.rank for peer in met[3].peers) == [1, 2, 3]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"workers": 3}, "--workers: 3 in worker 1, 2 in worker 0"),
        ({"terms": {**TERMS, "--lr": "2.0"}}, "--lr: 2.0 in worker 1, 1.0 in worker 0"),
        (
            {"terms": {**TERMS, "--backend": "jax"}},
            "--backend: jax in worker 1, torch in worker 0",
        ),
    ],
)
def test_differences_are_named_on_both_sides(coordinator, other, words):
    errors = parallel([lambda: visit(coordinator, **other), lambda: host(coordinator)])
    for error in errors:
        assert "Worker 1 (127.0.0.1) does not fit worker 0:" in str(error)
        assert words in str(error)


def test_a_worker_that_is_there_twice(coordinator):
    joined, ended = threading.Event(), threading.Event()

    def stay(met):
        joined.set()
        ended.wait(20)
        return met

    def second():
        joined.wait(20)
        try:
            return visit(coordinator)
        finally:
            ended.set()

    calls = [lambda: host(coordinator, then=stay), lambda: visit(coordinator), second]
    *_, error = parallel(calls)
    assert str(error) == f"All 2 workers of the training at {coordinator} have joined already."


def test_a_worker_that_is_there_twice_while_others_are_missing(coordinator, short):
    calls = [lambda: host(coordinator, 3)]
    calls += [lambda: visit(coordinator, workers=3)] * 2
    first, *others = map(str, parallel(calls))
    assert "Worker 2 did not join" in first
    assert sorted("has joined already, from 127.0.0.1" in each for each in others) == [False, True]


def say(coordinator, *chunks):
    """Connect to the meeting, send these bytes, and wait until the other side closes."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            connection = socket.create_connection(meeting.parse(coordinator))
            break
        assert time.monotonic() < deadline
    with connection:
        for chunk in chunks:
            connection.sendall(chunk)
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            while connection.recv(1000):
                pass


STRANGER = Hello(rank=7, workers=2, address="127.0.0.1:1", terms=TERMS)


@pytest.mark.parametrize(
    "chunks",
    [
        (),  # silent
        (b"GET / HTTP/1.1\r\n\r\n",),
        (b"\x16\x03\x01\x00\xff\n",),
        (b"[" * 100_000 + b"\n",),
        (b"x" * (2**20 + 2**17),),
        (b"{}\n",),
        (json.dumps({**STRANGER, "rank": "1"}).encode() + b"\n",),
        (json.dumps(STRANGER).encode() + b"\n",),
        (json.dumps({**STRANGER, "rank": -1}).encode() + b"\n",),
    ],
)
def test_strangers_do_not_disturb(coordinator, short, chunks):
    stranger = threading.Thread(target=say, args=(coordinator, *chunks), daemon=True)

    def later():
        stranger.start()
        time.sleep(0.1)
        return visit(coordinator)

    met = parallel([lambda: host(coordinator), later])
    assert [len(each.addresses) for each in met] == [2, 2]


def test_the_wait_for_workers_is_limited(coordinator, short):
    begin = time.monotonic()
    errors = parallel([lambda: host(coordinator, 4), lambda: visit(coordinator, 1, 4)])
    assert time.monotonic() - begin < 4
    for error in errors:
        assert str(error).startswith(f"Workers 2, 3 did not join at {coordinator} within 2 s.")


def test_worker_0_that_never_starts(coordinator, short):
    with pytest.raises(RNNScratchError, match=f"cannot be reached at {coordinator}: .*refused"):
        visit(coordinator)


def test_a_network_that_is_away_for_a_moment(coordinator, short, monkeypatch):
    connect, attempts = socket.create_connection, itertools.count()

    def attempt(*arguments):
        if next(attempts) < away:
            raise OSError(errno.EHOSTUNREACH, "No route to host")
        return connect(*arguments)

    monkeypatch.setattr(socket, "create_connection", attempt)
    away = 2
    met = parallel([lambda: host(coordinator), lambda: visit(coordinator)])
    assert [len(each.addresses) for each in met] == [2, 2]

    # And for longer, of which nobody waits for the end.
    away = 10**6
    monkeypatch.setattr(meeting, "WAIT", 30.0)
    monkeypatch.setattr(meeting, "ABSENCE", 1.0)
    begin = time.monotonic()
    with pytest.raises(RNNScratchError, match="cannot be reached at .*: No route to host"):
        visit(coordinator)
    assert time.monotonic() - begin < 10


def test_another_program_at_the_port(coordinator, short):
    with socket.create_server(meeting.parse(coordinator)) as server:
        with pytest.raises(RNNScratchError, match="the port is in use"):
            host(coordinator)

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example.org ESMTP\r\n")
                connection.recv(10_000)

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(RNNScratchError, match=f"answers at {coordinator} is not worker 0"):
            visit(coordinator)


@pytest.mark.parametrize("side", [host, visit])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("no-such-host.invalid:29500", "The host 'no-such-host.invalid' of --coordinator"),
        (f"{'long' * 20}:29500", "of --coordinator is unknown"),
        ("127.0.0.1", "it must be HOST:PORT"),
        ("127.0.0.1:0", "it must be HOST:PORT"),
        ("127.0.0.1:99999", "it must be HOST:PORT"),
        ("127.0.0.1:http", "it must be HOST:PORT"),
        (":29500", "it must be HOST:PORT"),
        ("::1:29500", "it must be HOST:PORT"),
    ],
)
def test_a_wrong_address(side, address, words, short):
    with pytest.raises(RNNScratchError) as error:
        side(address)
    assert words in str(error.value)


def test_an_address_of_another_machine():
    with pytest.raises(RNNScratchError, match="this machine does not have the address"):
        host("192.0.2.1:29500")
    with pytest.raises(RNNScratchError, match="every address of this machine"):
        host("0.0.0.0:29500")


def watched(coordinator, monkeypatch, action):
    """What worker 0 learns of worker 1 after the meeting, which does this."""
    monkeypatch.setattr(meeting, "BEAT", 0.1)
    monkeypatch.setattr(meeting, "SILENCE", 1.0)
    learned, events = threading.Event(), queue.Queue()

    def learn(met):
        meeting.watch(met, events)
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=3)
        return None

    def stay(met):
        action(met)
        learned.wait(10)

    def first():
        try:
            return host(coordinator, then=learn)
        finally:
            learned.set()

    return parallel([first, lambda: visit(coordinator, then=stay)])[0]


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda met: met.peers[0].close(), "Worker 1 is gone: its connection has closed."),
        (lambda met: None, "Worker 1 has not answered for 1 s."),
        (lambda met: met.peers[0].connection.sendall(b"noise\n"), "Worker 1 is gone"),
        (lambda met: meeting.end(met, failed="Worker 1 has a cold."), "Worker 1 has a cold."),
    ],
)
def test_the_end_of_another_machine_is_noticed(coordinator, monkeypatch, action, reason):
    rank, event = watched(coordinator, monkeypatch, action)
    assert (rank, event["event"]) == (1, "failed")
    assert event["reason"].startswith(reason)


def test_the_end_of_another_machine_may_be_planned(coordinator, monkeypatch):
    assert watched(coordinator, monkeypatch, lambda met: meeting.end(met, done=True)) is None


def test_a_signal_and_a_divergence_are_passed_on(coordinator, monkeypatch):
    stop = watched(coordinator, monkeypatch, lambda met: meeting.end(met, stopped=15))
    assert stop == (1, {"event": "stopped", "number": 15})
    coordinator = meeting.free_address("127.0.0.1")
    end = watched(
        coordinator, monkeypatch, lambda met: meeting.end(met, failed="inf", diverged=True)
    )
    assert end[1]["diverged"] is True


def test_a_worker_that_shows_signs_of_life_is_not_given_up(coordinator, monkeypatch):
    events = queue.Queue()
    assert watched(coordinator, monkeypatch, lambda met: meeting.watch(met, events)) is None


# Launching.


@pytest.fixture
def environment(monkeypatch):
    """Set variables of the environment, without those of a launcher that runs these tests."""
    for name in (*launching.TORCHRUN, *sum(launching.MPI, ()), "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29400"}
CLUSTER = {"cluster": {"worker": ["10.0.0.1:1", "10.0.0.2:2"]}}
TF_CONFIG = {**CLUSTER, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    ("variables", "launch"),
    [
        ({}, None),
        (TORCHRUN, Launch(4, 2, "10.0.0.1:29401")),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, Launch(2, 0)),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}, Launch(3, 2)),
        ({"TF_CONFIG": json.dumps(TF_CONFIG)}, Launch(2, 1, "10.0.0.1:1")),
        ({"RANK": "3"}, None),
    ],
)
def test_a_launcher_says_it_in_the_environment(environment, variables, launch):
    environment(**variables)
    assert launching.launch(None, None, None) == launch


def test_options_override_the_environment(environment):
    environment(**TORCHRUN)
    assert launching.launch(2, None, None) == Launch(2)
    assert launching.launch(2, 1, "h:5") == Launch(2, 1, "h:5")
    assert launching.launch(None, None, "h:5") == Launch(4, 2, "h:5")


def test_the_variables_do_not_reach_the_workers(environment, monkeypatch):
    environment(PMI_SIZE="2", PMI_RANK="1", PMI_FD="7", PMIX_RANK="1", OMPI_COMM_WORLD_NODE="a")
    launching.launch(None, None, None)
    assert not [name for name in launching.os.environ if name.startswith(("PMI", "OMPI_"))]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**TORCHRUN, "RANK": "4"}, "In the environment of torchrun, worker 4 of 4"),
        ({**TORCHRUN, "RANK": "-1"}, "worker -1 of 4 does not exist"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "worker 2 of many does not exist"),
        ({"PMI_SIZE": "2", "PMI_RANK": "2"}, "(PMI_SIZE, PMI_RANK), worker 2 of 2"),
        *(
            ({"TF_CONFIG": json.dumps(config)}, "TF_CONFIG in the environment is ")
            for config in (
                {},
                [],
                None,
                CLUSTER,
                {**TF_CONFIG, "cluster": {}},
                {**TF_CONFIG, "cluster": {"worker": []}},
                {**TF_CONFIG, "cluster": {"worker": "10.0.0.1:1"}},
                {**TF_CONFIG, "task": {"index": 1}},
                {**TF_CONFIG, "task": {"type": "ps", "index": 0}},
                {**TF_CONFIG, "cluster": {"chief": ["10.0.0.9:1"], **CLUSTER["cluster"]}},
            )
        ),
        ({"TF_CONFIG": "not JSON"}, "TF_CONFIG in the environment is "),
        (
            {"TF_CONFIG": json.dumps({**TF_CONFIG, "task": {"type": "worker", "index": 2}})},
            "In TF_CONFIG, worker 2 of 2 does not exist",
        ),
    ],
)
def test_a_damaged_environment(environment, variables, words):
    environment(**variables)
    with pytest.raises(RNNScratchError) as error:
        launching.launch(None, None, None)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((2, 2, None), "--rank is 2, and --workers is 2"),
        ((None, 0, None), "--rank is 0, and --workers is not there"),
        ((2, None, "h:5"), "add --rank K"),
        ((2, 0, "h"), "it must be HOST:PORT"),
    ],
)
def test_options_that_do_not_fit_together(environment, options, words):
    with pytest.raises(RNNScratchError) as error:
        launching.launch(*options)
    assert words in str(error.value)
