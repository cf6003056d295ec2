"""How the workers on several machines meet, and notice when one is gone.

Each machine's process connects to that of the first worker, whose address is the coordinator.
There it says who it is; when all are there and agree, each is sent the addresses of all. From then
on both sides send a sign of life every second, and the reason if they have to stop.

Messages (`messages`) are lines of JSON. Nothing is encrypted, and nobody has to prove who they are:
like the engines of the frameworks, this is for a network of one's own.
"""

import contextlib
import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..runs.sessions import Work
from ..system import processes
from . import network
from .launch import Launch
from .messages import BEAT, Hello, News, Problem, Welcome

WAIT = 45.0  # seconds to wait for the others at the beginning
GREETING = 5.0  # seconds in which one that has connected says who it is
MACHINE_SILENCE = 15.0  # seconds without one after which a machine is taken for unreachable
LARGEST_MESSAGE = 2**20  # bytes


class Peer:
    """A connection to another machine's process."""

    def __init__(self, connection: socket.socket, rank: int = 0) -> None:
        """Of the worker with this rank."""
        self.connection, self.rank = connection, rank
        self.lock = threading.Lock()
        self.incoming = b""

    def send(self, message: Hello | Welcome | News) -> None:
        """Send a message, unless the other is gone, which the reader notices."""
        with self.lock, contextlib.suppress(OSError):
            self.connection.sendall(msgspec.json.encode(message) + b"\n")

    def receive(self, timeout: float, kinds: Any) -> Any:
        """The next message, of one of these types; OSError or ValueError where there is none."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.incoming:
            if len(self.incoming) > LARGEST_MESSAGE:
                raise ValueError("a message without end")
            left = deadline - time.monotonic()
            if left <= 0:  # whatever has come meanwhile
                raise TimeoutError(errno.ETIMEDOUT, "no whole message")
            self.connection.settimeout(left)
            chunk = self.connection.recv(2**16)
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "connection closed")
            self.incoming += chunk
        line, self.incoming = self.incoming.split(b"\n", 1)
        try:
            return msgspec.json.decode(line, type=kinds)
        except RecursionError as error:
            raise ValueError("a message of too many levels") from error


# The result: what worker 0 says to the others, and the connections to their machines.
Meeting = tuple[Welcome, list[Peer]]


@contextlib.contextmanager
def wait_for_others(
    launch: Launch, terms: Mapping[str, str], work: Work, say: Callable[[str], None]
) -> Iterator[Meeting]:
    """Wait, as the process of worker 0, for all others; RNNScratchError if they do not fit."""
    workers, coordinator = launch.workers, launch.coordinator
    peers: dict[int, Peer] = {}
    arrivals: queue.Queue[tuple[Peer, str, Hello]] = queue.Queue()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(coordinator))
        server.settimeout(processes.LOOK)
        addresses = {0: network.free_address(server.getsockname()[0])}
        others = _ranks(range(1, workers))
        say(f"worker 0 waits {WAIT:g} s at {coordinator} for {others}, which --rank starts")
        deadline = time.monotonic() + WAIT
        try:
            while missing := sorted(set(range(workers)) - set(addresses)):
                if time.monotonic() > deadline:
                    raise RNNScratchError(
                        f"{_ranks(missing).capitalize()} did not join at {coordinator} within "
                        f"{WAIT:g} s.\nStart each within that time: the same command with --rank "
                        f"{missing[0]}, on a machine that reaches this address."
                    )
                with contextlib.suppress(OSError, RuntimeError):  # where too many have connected
                    arguments = *server.accept(), arrivals.put
                    # In a thread, as one that says nothing must not delay the others.
                    threading.Thread(target=_greet, args=arguments, daemon=True).start()
                if arrivals.empty():
                    continue
                peer, ip, hello = arrivals.get()
                rank = hello.rank
                stack.enter_context(peer.connection)
                if rank in addresses:
                    there = addresses[rank].rpartition(":")[0]
                    peer.send(Problem(reason=f"Worker {rank} has joined already, from {there}."))
                    continue
                peers[rank] = peer
                if problems := _differences(hello, workers, terms):
                    reason = f"Worker {rank} ({ip}) does not fit worker 0:\n" + "\n".join(problems)
                    raise RNNScratchError(reason)
                addresses[rank] = hello.address
                say(f"worker {rank} has joined from {ip}")
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            reason = "Worker 0 was stopped." if interrupted else str(error)
            tell(peers.values(), Problem(reason=reason))
            raise
        ordered = [addresses[rank] for rank in range(workers)]
        its = replace(work, text=work.text._replace(content=""), folder=None)
        tell(peers.values(), Welcome(addresses=ordered, work=its))
        server.close()
        yield Welcome(addresses=ordered, work=work), list(peers.values())


@contextlib.contextmanager
def visit(
    launch: Launch, terms: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Meeting]:
    """Join worker 0, as the process of another; RNNScratchError if it is not there or refuses."""
    workers, rank, coordinator, _ = launch
    assert rank is not None
    deadline = time.monotonic() + WAIT
    with _connect(coordinator, deadline) as connection:
        peer = Peer(connection)
        address = network.free_address(connection.getsockname()[0])
        peer.send(Hello(rank=rank, workers=workers, address=address, terms=dict(terms)))
        say(f"worker {rank} of {workers} has reached worker 0 at {coordinator}")
        try:
            answer = peer.receive(WAIT + GREETING, Welcome | Problem)
            if isinstance(answer, Welcome) and len(answer.addresses) != workers:
                raise ValueError(f"it knows {len(answer.addresses)} workers")
        except (OSError, ValueError) as error:
            raise RNNScratchError(
                f"What answers at {coordinator} is not worker 0, or it has ended: "
                f"{getattr(error, 'strerror', None) or error or 'no answer'}."
            ) from error
        if isinstance(answer, Problem):
            raise RNNScratchError(answer.reason)
        yield answer, [peer]


def watch(peers: Iterable[Peer], notify: Callable[[tuple[int, Any]], object]) -> None:
    """Call `notify` with the rank of each machine that ends too early, and with the reason."""
    for peer in peers:
        threading.Thread(target=_beat, args=(peer,), daemon=True).start()
        threading.Thread(target=_read, args=(peer, notify), daemon=True).start()


def tell(peers: Iterable[Peer], message: Welcome | News) -> None:
    """Send each of them a message."""
    for peer in peers:
        peer.send(message)


def _beat(peer: Peer) -> None:
    while peer.connection.fileno() >= 0:
        peer.send("alive")
        time.sleep(BEAT)


def _read(peer: Peer, notify: Callable[[tuple[int, Any]], object]) -> None:
    try:
        last: News = "alive"
        while last == "alive":
            last = peer.receive(MACHINE_SILENCE, News)
    except TimeoutError:
        last = Problem(reason=f"Worker {peer.rank} has not answered for {MACHINE_SILENCE:g} s.")
    except (OSError, ValueError):
        if peer.connection.fileno() < 0:
            return  # this side has closed it
        last = Problem(reason=f"Worker {peer.rank} is gone: its connection has closed.")
    if last != "done":
        notify((peer.rank, last))


def _listen(coordinator: str) -> socket.socket:
    host, port = network.parse(coordinator)
    if host == "0.0.0.0":
        raise RNNScratchError(
            "--coordinator is 0.0.0.0, every address of this machine; it must be the one at which "
            "the other workers reach it."
        )
    try:
        return socket.create_server((network.numeric(host), port))
    except OSError as error:
        raise RNNScratchError(
            f"Worker 0 cannot listen at {coordinator}: {error.strerror}.\nThe --coordinator has an "
            "address of the machine of worker 0, and a port that no other program uses."
        ) from error


def _connect(coordinator: str, deadline: float) -> socket.socket:
    host, port = network.parse(coordinator)
    address, reason = network.numeric(host), "no answer"
    while time.monotonic() < deadline:
        try:
            return socket.create_connection((address, port), deadline - time.monotonic())
        except OSError as error:
            reason = error.strerror or "no answer"
        time.sleep(0.5)  # it may not have started yet
    raise RNNScratchError(
        f"Worker 0 cannot be reached at {coordinator}: {reason}.\nStart it within {WAIT:g} s, with "
        "--rank 0 and the same --coordinator, at an address that this machine reaches."
    )


def _greet(
    connection: socket.socket, address: tuple[str, int], put: Callable[[Any], object]
) -> None:
    # Who has connected is passed on, unless it is no worker.
    peer = Peer(connection)
    try:
        hello: Hello = peer.receive(GREETING, Hello)
        peer.rank = hello.rank
        put((peer, address[0], hello))
    except (OSError, ValueError):
        connection.close()


def _differences(hello: Hello, workers: int, terms: Mapping[str, str]) -> list[str]:
    there, here = f"in worker {hello.rank}", "in worker 0"
    if hello.workers != workers:
        return [f"--workers: {hello.workers} {there}, {workers} {here}"]
    return [
        f"{name}: {value} {there}, {terms[name]} {here}"
        for name, value in hello.terms.items()
        if terms.get(name, value) != value
    ]


def _ranks(ranks: Sequence[int]) -> str:
    return f"worker{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
