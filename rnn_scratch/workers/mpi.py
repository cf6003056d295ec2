"""Workers on several machines: `mpiexec` or `srun` starts them, and MPI connects them.

mpi4py is optional. It is imported when a function of this module is called.
"""

import contextlib
import functools
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from .. import registry
from ..contract import WorkerGroup
from ..errors import RNNScratchError

VARIABLES = ("PMI_", "PMIX_", "OMPI_")  # prefixes of launchers' environment variables
INSTALL = registry.how_to_install("workers")
EXIT_TIMEOUT = 30.0  # seconds; must exceed the time that worker 0 takes to plot the curve
CONNECT_TIMEOUT = 45  # seconds for the communication library to connect all workers
HEARTBEAT_TIMEOUT = 600  # seconds; must exceed the longest compilation
LOOPBACK = "127.0.0.1"
LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"

peer_lost = threading.Event()  # set in a worker when another worker has ended


class PeerLost(RNNScratchError):  # noqa: N818 - a consequence of another worker's error
    """A failed exchange with the other workers, for example because a worker has ended."""


def forget_launcher() -> None:
    """Delete launchers' environment variables, so that children don't use their MPI connections."""
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        del os.environ[name]


@functools.cache
def library() -> Any:
    """Return the module mpi4py.MPI, configured not to initialize or finalize MPI by itself."""
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: MPI is missing
        reason = str(error).partition("\n")[0]
        problem = f"Several workers need mpi4py and MPICH: {reason}."
        raise RNNScratchError(problem, INSTALL) from error
    return MPI


@functools.cache
def world() -> Any:
    """Initialize MPI if necessary; return the communicator of all workers."""
    MPI = library()
    if not MPI.Is_initialized():
        MPI.Init_thread()
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)  # mpi4py raises returned errors as exceptions
    return MPI.COMM_WORLD


def wait(request: Any, seconds: float = float("inf")) -> None:
    """Wait for an MPI request; raise PeerLost after a timeout or if another worker has ended."""
    deadline, pause = time.monotonic() + seconds, 0.0
    try:
        # MPICH would busy-wait and thereby slow down workers that are still computing.
        while not request.Test():
            if peer_lost.is_set() or time.monotonic() > deadline:  # MPICH would wait forever
                raise PeerLost("Another worker has ended or does not respond.")
            time.sleep(pause)
            pause = min(pause + 1e-6, 1e-3)
    except library().Exception as error:
        raise PeerLost(f"The exchange with other workers failed: {error}") from error


def finalize() -> None:
    """Finalize MPI when all workers have called this function; raise PeerLost after a timeout."""
    MPI = library()
    if MPI.Is_initialized() and not MPI.Is_finalized():
        wait(world().Ibarrier(), EXIT_TIMEOUT)
        MPI.Finalize()


def leave(code: int) -> NoReturn:
    """Flush standard output, and end the process without running libraries' exit handlers."""
    with contextlib.suppress(OSError):
        print(end="", flush=True)
    os._exit(code)


def broadcast(value: Any) -> Any:
    """Return worker 0's value; every worker must call this function."""
    wait(world().Ibarrier())  # `wait` does not busy-wait while a worker loads the text
    return world().bcast(value)


def rendezvous(required_equal: Mapping[str, str]) -> WorkerGroup:
    """Return the group of all workers; every worker must call this function.

    Raises RNNScratchError in all workers if a setting or version in `required_equal` differs.
    """
    name = os.environ.get("PMI_HOSTNAME") or socket.gethostname()
    wait(world().Ibarrier())
    names, dicts = zip(*world().allgather((name, dict(required_equal))))
    for rank, values in enumerate(dicts):
        lines = [
            f"\n{key}: {value} in worker {rank}, {dicts[0].get(key)} in worker 0"
            for key, value in values.items()
            if value != dicts[0].get(key)
        ]
        if lines:
            finalize()
            raise RNNScratchError(
                f"Worker {rank} differs from worker 0:{''.join(lines)}",
                "Start all workers with the same command and the same code.",
            )
    peer = next((peer for peer in names if peer != name), None)
    host = local_address(peer) if peer else LOOPBACK
    return WorkerGroup(world().rank, tuple(world().allgather(free_address(host))))


def free_address(host: str) -> str:
    """Return an address on this host with a port that is currently free."""
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def local_address(peer: str) -> str:
    """Return the IPv4 address from which this machine reaches another machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))  # for UDP, `connect` sends nothing
        return str(probe.getsockname()[0])
