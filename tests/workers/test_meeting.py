"""How workers that are started one by one meet: one message each way."""

import contextlib
import errno
import json
import os
import socket
import threading
import time

import msgspec
import pytest
from helpers import error_of, parallel

from rnn_scratch.workers import meeting, network
from rnn_scratch.workers.launch import Launch

TERMS = {"--lr": "1.0", "--backend": "torch"}
WAIT = 2.0  # seconds


@pytest.fixture
def coordinator():
    return network.free_address("127.0.0.1")


def meet(rank, coordinator, workers=2, terms=TERMS, wait=20.0, job=b"null"):
    return meeting.meet(Launch(workers, rank, coordinator, wait), terms, job=job)


def test_all_learn_the_addresses_and_the_job(coordinator):
    # The others may come before worker 0, and in any order.
    calls = [lambda rank=rank: meet(rank, coordinator, 4) for rank in (3, 1, 2)]
    *others, first = parallel([*calls, lambda: meet(0, coordinator, 4, job=b'{"x": 1}')])
    assert [each.addresses for each in others] == [first.addresses] * 3
    assert {address.partition(":")[0] for address in first.addresses} == {"127.0.0.1"}
    assert len(set(first.addresses)) == 4
    assert [msgspec.json.decode(each.job) for each in others] == [{"x": 1}] * 3


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"workers": 3}, "--workers: 3 in worker 1, 2 in worker 0"),
        ({"terms": {**TERMS, "--lr": "2.0"}}, "--lr: 2.0 in worker 1, 1.0 in worker 0"),
    ],
)
def test_differences_are_named_on_both_sides(coordinator, other, words):
    errors = parallel([lambda: meet(1, coordinator, **other), lambda: meet(0, coordinator)])
    for error in errors:
        assert "Worker 1 (127.0.0.1) differs from worker 0:" in str(error)
        assert words in str(error)


def test_a_worker_that_is_there_twice(coordinator):
    for error in parallel([lambda rank=rank: meet(rank, coordinator, 3) for rank in (0, 1, 1)]):
        assert "Worker 1 has joined twice, from 127.0.0.1" in str(error)


def test_a_worker_that_was_started_again(coordinator, monkeypatch):
    """Its first connection ends after worker 0 has accepted the second one."""
    joined, closed, receive = threading.Event(), threading.Event(), meeting._receive

    def receive_later(connection, seconds, kind):
        if kind is meeting.Hello and joined.is_set():
            first.close()
            closed.set()
        return receive(connection, seconds, kind)

    def say(line):
        if line.startswith("worker 1 has joined"):
            joined.set()

    def start_twice():
        nonlocal first
        first = reach(coordinator)
        first.sendall(json.dumps(STRANGER).encode() + b"\n")
        assert joined.wait(10)
        return meet(1, coordinator, 3)

    def start_last():
        assert closed.wait(10)
        return meet(2, coordinator, 3)

    first = None
    monkeypatch.setattr(meeting, "_receive", receive_later)
    launch = Launch(3, 0, coordinator, 20.0)
    calls = [lambda: meeting.meet(launch, TERMS, say=say), start_twice, start_last]
    answers = parallel(calls)
    assert len({tuple(answer.addresses) for answer in answers}) == 1
    assert answers[0].addresses[1] != STRANGER["address"]


def reach(coordinator):
    """Connect to the meeting, as soon as it begins."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(network.place(coordinator))
        time.sleep(0.01)
    pytest.fail("there is no meeting")


# Python's recursion ends before that of what would read it.
NESTED = b'{"a": ' + b"[" * 100_000
STRANGER = {"rank": 1, "address": "127.0.0.1:1", "terms": TERMS}
FIELDS = [{"rank": -1}, {"rank": "1"}, {"address": "here"}, {"terms": {"--lr": "1" * 900_000}}]


@pytest.mark.parametrize(
    "said",
    [
        b"",  # and it stays
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\xff\n",
        b"x" * (2**20 + 2**17),
        *(json.dumps({**STRANGER, **field}).encode() + b"\n" for field in FIELDS),
        NESTED + b"\n",
    ],
)
def test_strangers_do_not_disturb(coordinator, monkeypatch, said):
    monkeypatch.setattr(meeting, "GREETING", 0.3)

    def later():
        with reach(coordinator) as stranger, contextlib.suppress(OSError):
            stranger.sendall(said)
            return meet(1, coordinator)

    met = parallel([lambda: meet(0, coordinator), later])
    assert [len(answer.addresses) for answer in met] == [2, 2]


def test_the_wait_for_workers_is_limited(coordinator):
    calls = [lambda rank=rank: meet(rank, coordinator, 4, wait=WAIT) for rank in (0, 1)]
    for error in parallel(calls):
        words = f"Not all workers joined at {coordinator} within 2 s; missing: 2, 3."
        assert str(error).startswith(words)


def test_worker_0_that_never_starts(coordinator):
    words = error_of(meet, 1, coordinator, wait=WAIT)
    assert words.startswith(f"Worker 0 cannot be reached at {coordinator} within 2 s: ")


@pytest.mark.parametrize("answer", [b"220 mail.example.org ESMTP", NESTED])
def test_another_program_at_the_port(coordinator, answer):
    with socket.create_server(network.place(coordinator)) as server:
        assert os.strerror(errno.EADDRINUSE) in error_of(meet, 0, coordinator)

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer + b"\n")
                connection.recv(10_000)

        threading.Thread(target=serve, daemon=True).start()
        assert f"The program at {coordinator} is not worker 0" in error_of(meet, 1, coordinator)


def test_an_unknown_host(monkeypatch):
    def unknown(name):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert "of a worker is unknown" in error_of(meet, 1, f"{'long' * 20}:29500")  # is no name
    monkeypatch.setattr(socket, "gethostbyname", unknown)  # without asking a server
    assert "The host 'h' of a worker is unknown: [Errno " in error_of(meet, 1, "h:29500")


def test_an_address_of_another_machine():
    assert os.strerror(errno.EADDRNOTAVAIL) in error_of(meet, 0, "192.0.2.1:29500")
