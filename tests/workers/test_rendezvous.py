"""How the workers on several machines meet, and notice when one is gone."""

import contextlib
import errno
import itertools
import json
import os
import queue
import socket
import threading
import time
from signal import Signals
from types import SimpleNamespace

import msgspec
import pytest
from helpers import error_of, parallel
from msgspec.structs import replace

from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.sessions import Work
from rnn_scratch.settings import Settings
from rnn_scratch.text.books import Text
from rnn_scratch.workers import network, rendezvous
from rnn_scratch.workers.launch import Launch
from rnn_scratch.workers.messages import News, Problem, Welcome

TERMS = {"--lr": "1.0", "--backend": "torch"}
WORK = Work(
    settings=Settings(lr=0.1 + 0.2, theta=None),
    text=Text("file", "/a/path", "secret", "sha"),
    runtime=Runtime("numpy", threads=3),
    folder=b"/a/folder",
)


@pytest.fixture
def coordinator():
    return network.free_address("127.0.0.1")


@pytest.fixture
def short(monkeypatch):
    """Shorter times to wait."""
    monkeypatch.setattr(rendezvous, "WAIT", 2.0)
    monkeypatch.setattr(rendezvous, "GREETING", 0.3)


def host(coordinator, workers=2, terms=TERMS, then=lambda met: met):
    launch = Launch(workers, 0, coordinator)
    with rendezvous.wait_for_others(launch, terms, WORK, lambda line: None) as met:
        return then(met)


def visit(coordinator, rank=1, workers=2, terms=TERMS, then=lambda met: met):
    launch = Launch(workers, rank, coordinator)
    with rendezvous.visit(launch, terms, lambda line: None) as met:
        return then(met)


def test_all_learn_the_addresses_and_the_job(coordinator):
    # The others may come before worker 0, and in any order.
    calls = [lambda rank=rank: visit(coordinator, rank, 4) for rank in (3, 1, 2)]
    met = parallel([*calls, lambda: host(coordinator, 4)])
    addresses = [welcome.addresses for welcome, _ in met]
    assert addresses == [addresses[0]] * 4
    assert {address.partition(":")[0] for address in addresses[0]} == {"127.0.0.1"}
    assert len(set(addresses[0])) == 4
    *others, first = (welcome.work for welcome, _ in met)
    assert first == WORK
    assert others == [replace(WORK, text=WORK.text._replace(content=""), folder=None)] * 3
    assert sorted(peer.rank for peer in met[3][1]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"workers": 3}, "--workers: 3 in worker 1, 2 in worker 0"),
        ({"terms": {**TERMS, "--lr": "2.0"}}, "--lr: 2.0 in worker 1, 1.0 in worker 0"),
        ({"terms": {**TERMS, "--backend": "jax"}}, "--backend: jax in worker 1, torch in worker 0"),
    ],
)
def test_differences_are_named_on_both_sides(coordinator, other, words):
    errors = parallel([lambda: visit(coordinator, **other), lambda: host(coordinator)])
    for error in errors:
        assert "Worker 1 (127.0.0.1) does not fit worker 0:" in str(error)
        assert words in str(error)


def test_a_worker_that_is_there_twice(coordinator, short):
    calls = [lambda: host(coordinator, 3)]
    calls += [lambda: visit(coordinator, workers=3)] * 2
    first, *others = map(str, parallel(calls))
    assert "Worker 2 did not join" in first
    assert sorted("has joined already, from 127.0.0.1" in each for each in others) == [False, True]


def reach(coordinator):
    """Connect to the meeting, as soon as it begins."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(network.parse(coordinator))
        time.sleep(0.01)
    pytest.fail("there is no meeting")


def say(coordinator, said):
    """Send these bytes to the meeting, and wait until the other side closes."""
    with reach(coordinator) as connection:
        connection.sendall(said)
        connection.settimeout(10)
        with contextlib.suppress(OSError):
            while connection.recv(1000):
                pass


# Python's recursion ends before that of what would read it.
NESTED = b'{"a": ' + b"[" * 100_000
STRANGER = {"type": "Hello", "rank": 1, "workers": 2, "address": "127.0.0.1:1", "terms": TERMS}
FIELDS = [{"rank": 7}, {"rank": -1}, {"rank": "1"}, {"address": "here"}]
FIELDS += [{"terms": {"--lr": "1" * 900_000}}]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xff\n",
        b"x" * (2**20 + 2**17),
        *(json.dumps({**STRANGER, **field}).encode() + b"\n" for field in FIELDS),
        NESTED + b"\n",
    ],
)
def test_strangers_do_not_disturb(coordinator, monkeypatch, said):
    monkeypatch.setattr(rendezvous, "WAIT", 20.0)
    monkeypatch.setattr(rendezvous, "GREETING", 0.3)

    def later():
        if said:
            threading.Thread(target=say, args=(coordinator, said), daemon=True).start()
            time.sleep(0.1)
            return visit(coordinator)
        silent = [reach(coordinator) for _ in range(300)]
        try:
            return visit(coordinator)
        finally:
            for each in silent:
                each.close()

    met = parallel([lambda: host(coordinator), later])
    assert [len(welcome.addresses) for welcome, _ in met] == [2, 2]
    assert [peer.rank for peer in met[0][1]] == [1]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs a connection of datagrams")
def test_a_message_in_single_bytes_ends_in_time(monkeypatch):
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)  # each byte is received alone
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # and takes a second
    monkeypatch.setattr(rendezvous, "time", clock)
    with ours, theirs:
        for byte in b"xxxxx\n":
            theirs.send(bytes([byte]))
        with pytest.raises(TimeoutError):
            rendezvous.Peer(ours).receive(3.0, News)


def test_the_wait_for_workers_is_limited(coordinator, short):
    errors = parallel([lambda: host(coordinator, 4), lambda: visit(coordinator, 1, 4)])
    for error in errors:
        assert str(error).startswith(f"Workers 2, 3 did not join at {coordinator} within 2 s.")


def test_worker_0_that_never_starts(coordinator, short):
    with pytest.raises(RNNScratchError, match=f"cannot be reached at {coordinator}: .*refused"):
        visit(coordinator)


def test_a_network_that_is_away_for_a_moment(coordinator, short, monkeypatch):
    connect, attempts = socket.create_connection, itertools.count()

    def attempt(*arguments):
        if next(attempts) < 2:
            raise OSError(errno.EHOSTUNREACH, "No route to host")
        return connect(*arguments)

    monkeypatch.setattr(socket, "create_connection", attempt)
    met = parallel([lambda: host(coordinator), lambda: visit(coordinator)])
    assert [len(welcome.addresses) for welcome, _ in met] == [2, 2]


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail.example.org ESMTP",
        b'{"type": "Interruption", "number": 9999}',
        NESTED,
        msgspec.json.encode(Welcome(addresses=[], work=WORK)),
    ],
)
def test_another_program_at_the_port(coordinator, short, answer):
    with socket.create_server(network.parse(coordinator)) as server:
        with pytest.raises(RNNScratchError, match=os.strerror(errno.EADDRINUSE)):
            host(coordinator)

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer + b"\n")
                connection.recv(10_000)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(RNNScratchError, match=f"answers at {coordinator} is not worker 0"):
            visit(coordinator)


@pytest.mark.parametrize("side", [host, visit])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("no-such-host.invalid:29500", "The host 'no-such-host.invalid' of a worker is unknown"),
        (f"{'long' * 20}:29500", "of a worker is unknown"),
    ],
)
def test_a_wrong_address(side, address, words, short):
    assert words in error_of(side, address)


def test_an_address_of_another_machine():
    with pytest.raises(RNNScratchError, match=os.strerror(errno.EADDRNOTAVAIL)):
        host("192.0.2.1:29500")
    with pytest.raises(RNNScratchError, match="every address of this machine"):
        host("0.0.0.0:29500")


GONE = Problem(reason="Worker 1 is gone: its connection has closed.")
SILENT = Problem(reason="Worker 1 has not answered for 1 s.")
COLD = Problem(reason="Worker 1 has a cold.")
DIVERGED = Problem(reason="inf", kind="diverged")


def sends(line):
    return lambda met: met[1][0].connection.sendall(line + b"\n")


def tells(message):
    return lambda met: rendezvous.tell(met[1], message)


@pytest.mark.parametrize(
    ("action", "learned"),
    [
        (lambda met: met[1][0].connection.close(), GONE),
        (lambda met: None, SILENT),
        *((sends(line), GONE) for line in (b"noise", b'{"type": "Hello", "rank": 1}', NESTED)),
        *((sends(number), GONE) for number in (b"9999", b"-1", b"1e999")),
        *((tells(message), message) for message in (COLD, DIVERGED, Signals.SIGTERM)),
        (tells(Problem(reason="long" * 200_000)), GONE),
        (tells("done"), None),
        (lambda met: rendezvous.watch(met[1], lambda event: None), None),  # a sign of life
    ],
)
def test_what_worker_0_learns_of_another_machine(coordinator, monkeypatch, action, learned):
    monkeypatch.setattr(rendezvous, "BEAT", 0.1)
    monkeypatch.setattr(rendezvous, "MACHINE_SILENCE", 1.0)
    over, events = threading.Event(), queue.Queue()

    def learn(met):
        rendezvous.watch(met[1], events.put)
        try:
            return events.get(timeout=3)
        except queue.Empty:
            return None
        finally:
            over.set()

    def stay(met):
        action(met)
        over.wait(10)

    calls = [lambda: host(coordinator, then=learn), lambda: visit(coordinator, then=stay)]
    assert parallel(calls)[0] == (learned and (1, learned))
