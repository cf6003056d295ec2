"""What meetings and engines of several workers need of the network."""

import re
import socket
import struct
import sys
import threading
from collections.abc import Callable

from ..contract import Team
from ..errors import RNNScratchError, shown

# Asks the system for the first address of an interface.
SIOCGIFADDR = 0xC0206921 if sys.platform == "darwin" else 0x8915
JOIN = 45  # seconds in which the engine must connect all workers
SILENCE = 600  # seconds without a sign of life, in which a worker may compile, until it is given up
MPI_VARIABLES = ("PMI_", "PMIX_", "OMPI_")  # how those begin that a launcher sets for MPI

lost = threading.Event()  # set in a worker when another one has ended


class Lost(RNNScratchError):  # noqa: N818 - what may follow from another worker's error
    """The exchange with the other workers or the engine has failed, perhaps as one has ended."""


def connect(team: Team, function: Callable[[Team], None]) -> None:
    """Let a function connect a worker with the others, in a thread that need not end.

    Engines cannot be interrupted while they wait. Raises RNNScratchError if the function raises
    anything, or has not returned within JOIN seconds.
    """
    error: Exception | None = TimeoutError(f"not all came within {JOIN} seconds")

    def call() -> None:
        nonlocal error
        try:
            function(team)
            error = None
        except Exception as raised:  # whatever the engine raises
            error = raised

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(JOIN)
    if isinstance(error, RNNScratchError):
        raise error
    if error is not None:
        reason = str(error).partition("\n")[0] or "no reason"
        raise RNNScratchError(
            f"Worker {team.rank} did not reach the others at {', '.join(team.addresses)}: "
            f"{reason.removesuffix('.')}."
        )


def place(coordinator: str) -> tuple[str, int]:
    """Return the IPv4 address and the port of the coordinator, HOST:PORT.

    Raises RNNScratchError if it has another form, or its host is unknown.
    """
    parts = re.fullmatch("([^:]+):([0-9]{1,5})", coordinator)
    if parts is None or not 0 < int(parts[2]) < 2**16:
        raise RNNScratchError(
            "The coordinator must be HOST:PORT, the name or IPv4 address of worker 0's machine "
            f"and a port from 1 to 65535 (got {shown(coordinator)}).",
            "Pass it as `--coordinator`.",
        )
    try:
        return socket.gethostbyname(parts[1]), int(parts[2])
    except (OSError, UnicodeError) as error:  # the latter for one that is no name at all
        raise RNNScratchError(f"The host {parts[1]!r} of a worker is unknown: {error}.") from error


def free_address(host: str) -> str:
    """Return an address of this host with a port that is free now."""
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def interface(host: str) -> str:
    """Return the name of the network interface that has this host's IPv4 address as its first.

    That is how libraries take the address to listen on. For all addresses that begin with 127 it is
    the loopback interface. Raises RNNScratchError if no interface has the address.
    """
    import fcntl  # which Windows lacks, as it does the engines that ask for an interface

    address = socket.inet_aton(socket.gethostbyname(host))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(query, SIOCGIFADDR, struct.pack("16s240x", name.encode()))
            except OSError:  # it has no address
                continue
            first = answer[20:24]
            if first == address or first[:1] == address[:1] == b"\x7f":
                return name
    raise RNNScratchError(
        f"No network interface of this machine has {host} as its first address.",
        "Pass a host whose address is the first one of an interface.",
    )
