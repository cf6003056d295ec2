"""Workers on several machines: `mpiexec` or `srun` starts them, and MPI tells them of each other.

mpi4py is optional: it is imported when a function of this module is called.
"""

import functools
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from ..contract import WorkerGroup
from ..errors import RNNScratchError
from ..system.host import by_pip

VARIABLES = ("PMI_", "PMIX_", "OMPI_")  # prefixes of the variables that launchers set
INSTALL = f"Install them{by_pip('workers')}"
EXIT_TIMEOUT = 30.0  # seconds; must exceed the time in which worker 0 draws the curve
CONNECT_TIMEOUT = 45  # seconds in which the communication library must connect all workers
HEARTBEAT_TIMEOUT = 600  # seconds; must exceed the longest compilation
LOOPBACK = "127.0.0.1"
LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"

lost = threading.Event()  # set in a worker when another worker has ended


class PeerLost(RNNScratchError):  # noqa: N818 - a consequence of another worker's error
    """The exchange with the other workers has failed, perhaps because one of them has ended."""


def forget_launcher() -> None:
    """Delete the variables of a launcher, so that children do not take its processes for theirs."""
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        del os.environ[name]


@functools.cache
def library() -> Any:
    """Return the module mpi4py.MPI, configured not to initialize or finalize MPI on import."""
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI
        reason = str(error).partition("\n")[0]
        raise RNNScratchError(f"These workers need mpi4py and MPICH: {reason}.", INSTALL) from error
    return MPI


@functools.cache
def world() -> Any:
    """Initialize MPI, and return its communicator of all workers."""
    MPI = library()
    if not MPI.Is_initialized():
        MPI.Init_thread()
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)  # mpi4py raises them as exceptions
    return MPI.COMM_WORLD


def wait(request: Any, seconds: float = float("inf")) -> None:
    """Wait for the other workers; raise PeerLost if a worker has ended, or after a timeout."""
    deadline, pause = time.monotonic() + seconds, 0.0
    try:
        # MPICH would busy-wait and steal the core from a worker that is still computing.
        while not request.Test():
            if lost.is_set() or time.monotonic() > deadline:  # MPICH would wait forever
                raise PeerLost("Another worker has ended.")
            time.sleep(pause)
            pause = min(pause + 1e-6, 1e-3)
    except library().Exception as error:
        raise PeerLost(f"The exchange with other workers failed: {error}") from error


def finalize(seconds: float = EXIT_TIMEOUT) -> None:
    """End MPI when all workers call this, or else leave it to the launcher to end them."""
    MPI = library()
    if MPI.Is_initialized() and not MPI.Is_finalized():
        wait(world().Ibarrier(), seconds)
        MPI.Finalize()


def broadcast(value: Any) -> Any:
    """Return worker 0's value; every worker calls this."""
    wait(world().Ibarrier())  # a worker may need a long time to load its text
    return world().bcast(value)


def rendezvous(required: Mapping[str, str]) -> WorkerGroup:
    """Return the group of all workers; every worker calls this.

    Raises RNNScratchError in all workers if a setting or version in `required` differs.
    """
    name = os.environ.get("PMI_HOSTNAME") or socket.gethostname()
    wait(world().Ibarrier())
    names, dicts = zip(*world().allgather((name, dict(required))))
    for other, values in enumerate(dicts):
        lines = [
            f"\n{key}: {value} in worker {other}, {dicts[0].get(key)} in worker 0"
            for key, value in values.items()
            if value != dicts[0].get(key)
        ]
        if lines:
            finalize()
            raise RNNScratchError(
                f"Worker {other} differs from worker 0:{''.join(lines)}",
                "Start all workers with the same command and the same code.",
            )
    machine = next((other for other in names if other != name), None)
    host = host_towards(machine) if machine else LOOPBACK
    return WorkerGroup(world().rank, tuple(world().allgather(free_address(host))))


def free_address(host: str) -> str:
    """Return an address of this host with a port that is free now."""
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def host_towards(other: str) -> str:
    """Return this machine's IPv4 address on the network of another machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((other, 9))  # sends nothing
        return str(probe.getsockname()[0])
