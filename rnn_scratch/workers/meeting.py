"""How workers meet: one message from each to worker 0 and one back, before training begins.

Each worker connects to the coordinator, where worker 0 listens. It says its rank, the address at
which its engine can listen, and what all must have in common. When all have come, worker 0 answers
with the addresses of all, or with what differs, and the connections end. Until then, a worker whose
connection has ended has not joined, and can be started again.

A message is a line of JSON. Nothing is encrypted, and workers need not prove who they are: like the
engines of the frameworks, meetings are for private networks.
"""

import contextlib
import select
import socket
import time
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError
from ..system.records import Line, Record
from ..system.terminal import Say
from . import network
from .launch import Launch

GREETING = 5.0  # seconds in which a worker that has connected says who it is
LONGEST_MESSAGE = 2**20  # bytes
STRANGE = (OSError, ValueError, RecursionError)  # what reading from another program may raise

Address = Annotated[str, Meta(max_length=300, pattern=r"^[^\s:]+:[0-9]{1,5}\Z")]  # HOST:PORT
Message = TypeVar("Message", bound=Record)


class Hello(Record):
    """What a worker says to worker 0."""

    rank: Annotated[int, Meta(ge=0)]
    address: Address  # for its engine
    terms: dict[Line, Line]  # what all workers must have in common, by name


class Answer(Record):
    """What worker 0 says to all when they have come, or when one does not fit."""

    addresses: list[Address] = []  # of the engines by rank
    job: msgspec.Raw = msgspec.Raw(b"null")  # what only worker 0 may know, as JSON
    problem: str = ""
    hint: str = ""


def meet(
    launch: Launch,
    terms: Mapping[str, str],
    *,
    address: str | None = None,
    job: bytes = b"null",
    say: Say = lambda line: None,
) -> Answer:
    """Meet the other workers; raise RNNScratchError if they do not come in time, or differ.

    `address` is where this worker's engine can listen: by default, a free port at the IPv4 address
    by which this machine and the coordinator's reach each other. `job` is worker 0's, for all.
    """
    place = network.place(launch.coordinator)
    terms = {"--workers": str(launch.workers), **terms}
    with (_listen if launch.rank == 0 else _connect)(launch, place) as connection:
        address = address or network.free_address(connection.getsockname()[0])
        hello = Hello(rank=launch.rank or 0, address=address, terms=terms)
        if launch.rank == 0:
            answer = _host(launch, connection, hello, job, say)
        else:
            answer = _visit(launch, connection, hello, say)
    if answer.problem:
        raise RNNScratchError(answer.problem, answer.hint)
    return answer


def _visit(launch: Launch, connection: socket.socket, hello: Hello, say: Say) -> Answer:
    say(f"worker {launch.rank} has reached worker 0 at {launch.coordinator}")
    _send(connection, hello)
    try:
        return _receive(connection, launch.wait + GREETING, Answer)
    except STRANGE as error:
        raise RNNScratchError(
            f"The program at {launch.coordinator} is not worker 0, or worker 0 has ended: "
            f"{getattr(error, 'strerror', None) or error}.",
            "Read worker 0's last message, then start all workers again.",
        ) from error


def _host(launch: Launch, server: socket.socket, own: Hello, job: bytes, say: Say) -> Answer:
    say(f"waiting up to {launch.wait:g} s at {launch.coordinator} for the other workers")
    deadline = time.monotonic() + launch.wait
    joined: dict[socket.socket, Hello] = {}
    with contextlib.ExitStack() as stack:
        try:
            while missing := sorted({*range(launch.workers)} - {*_addresses(own, joined)}):
                server.settimeout(max(deadline - time.monotonic(), 1e-3))
                try:
                    connection, (ip, *_) = server.accept()
                except TimeoutError as error:
                    raise RNNScratchError(
                        f"Not all workers joined at {launch.coordinator} within {launch.wait:g} s; "
                        f"missing: {', '.join(map(str, missing))}.",
                        "Start every worker within this time, or raise `--wait`. Use the same "
                        "command with a different `--rank` for each, on machines that can reach "
                        "this address.",
                    ) from error
                stack.enter_context(connection)
                try:
                    hello = _receive(connection, GREETING, Hello)
                except STRANGE:
                    continue  # it is no worker
                addresses = _addresses(own, joined)
                joined[connection] = hello
                _require_fit(own, hello, ip, addresses)
                say(f"worker {hello.rank} has joined from {ip}")
            addresses = _addresses(own, joined)
            ordered = [addresses[rank] for rank in range(launch.workers)]
            answer = Answer(addresses=ordered, job=msgspec.Raw(job))
        except RNNScratchError as error:
            answer = Answer(problem=error.problem, hint=error.hint)
        for connection in joined:
            _send(connection, answer)
    return answer


def _addresses(own: Hello, joined: dict[socket.socket, Hello]) -> dict[int, str]:
    # Of the workers that are here, by rank. A worker sends nothing after its greeting: a connection
    # to read from has ended, and its worker can be started again.
    for ended in select.select(list(joined), [], [], 0)[0]:
        del joined[ended]
    return {hello.rank: hello.address for hello in (own, *joined.values())}


def _require_fit(own: Hello, other: Hello, ip: str, addresses: Mapping[int, str]) -> None:
    different = [
        f"\n{name}: {value} in worker {other.rank}, {own.terms[name]} in worker 0"
        for name, value in other.terms.items()
        if own.terms.get(name, value) != value
    ]
    if different:
        raise RNNScratchError(
            f"Worker {other.rank} ({ip}) differs from worker 0:{''.join(different)}",
            "Start all workers with the same command and the same code.",
        )
    if other.rank in addresses:
        raise RNNScratchError(
            f"Worker {other.rank} has joined twice, from {addresses[other.rank]} and from {ip}.",
            "Give each worker its own rank.",
        )


def _listen(launch: Launch, place: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(place)
    except OSError as error:
        raise RNNScratchError(
            f"Worker 0 cannot listen at {launch.coordinator}: {error.strerror}.",
            "Pass a `--coordinator` with an address of worker 0's machine and a port that no other "
            "program uses.",
        ) from error


def _connect(launch: Launch, place: tuple[str, int]) -> socket.socket:
    deadline, reason = time.monotonic() + launch.wait, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return socket.create_connection(place, left)
        except OSError as error:
            reason = error.strerror or "no answer"
        time.sleep(0.2)  # worker 0 may not have started yet
    raise RNNScratchError(
        f"Worker 0 cannot be reached at {launch.coordinator} within {launch.wait:g} s: {reason}.",
        "Within this time, start worker 0 with `--rank 0` and the same `--coordinator`, at an "
        "address that this machine can reach, or raise `--wait`.",
    )


def _send(connection: socket.socket, message: Record) -> None:
    # If the other side has ended, waiting for its answer shows it.
    with contextlib.suppress(OSError):
        connection.sendall(msgspec.json.encode(message) + b"\n")


def _receive(connection: socket.socket, seconds: float, kind: type[Message]) -> Message:
    connection.settimeout(seconds)
    with connection.makefile("rb") as lines:
        line = lines.readline(LONGEST_MESSAGE)
    if not line.endswith(b"\n"):
        raise ValueError("there was no answer" if not line else "the answer has no end")
    return msgspec.json.decode(line, type=kind)
