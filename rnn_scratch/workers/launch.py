"""How workers are launched: by the options, or by a launcher whose environment says it.

``torchrun`` sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; ``mpiexec`` the variables of its
MPI.
"""

import os
import re
from typing import NamedTuple

from ..errors import RNNScratchError, shown
from ..settings import MOST_WORKERS
from . import network
from .groups import LOOPBACK

COORDINATOR = f"{LOOPBACK}:29500"  # by default, where workers are started one by one
TORCHRUN = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
MPI = (  # size and rank, in MPICH and its descendants, and in Open MPI
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)


class Launch(NamedTuple):
    """How workers are started: all by this process, or the one with this rank."""

    workers: int
    rank: int | None = None
    coordinator: str = COORDINATOR


def chosen(workers: int | None, rank: int | None, coordinator: str | None) -> Launch | None:
    """How to launch the workers; None if neither an option nor the environment says anything.

    Options override the environment. Raises RNNScratchError for options that do not fit together.
    """
    if workers is None and rank is None:
        launcher = _from_environment()
        if launcher is not None:
            return launcher._replace(coordinator=coordinator or launcher.coordinator)
    if coordinator is not None:
        network.parse(coordinator)
    if rank is None:
        if coordinator is not None:
            raise RNNScratchError(
                "--coordinator is for workers that are started one by one: add --rank K, which is "
                "0 for the first, or omit it to start all workers on this machine."
            )
        return None if workers is None else Launch(workers)
    if workers is None or rank >= workers:
        given = "--workers is missing" if workers is None else f"--workers is {workers}"
        raise RNNScratchError(
            f"--rank is {rank}, and {given}: with --workers N, ranks are from 0 to N-1."
        )
    return Launch(workers, rank, coordinator or COORDINATOR)


def require_shares(batch_size: int, workers: int) -> None:
    """Raise RNNScratchError unless each worker gets as many rows of a minibatch as the others."""
    if batch_size % workers == 0:
        return
    raise RNNScratchError(
        f"`--batch-size {batch_size}` cannot be divided equally among {workers} workers.",
        f"Use a multiple of {workers}, such as {(batch_size // workers + 1) * workers}.",
    )


def _from_environment() -> Launch | None:
    # From the variables of a launcher. They are removed: the workers that this process starts are
    # not the launcher's own, and their engines must not take them for theirs.
    if all(name in os.environ for name in TORCHRUN):
        size, rank, host, port = (os.environ.pop(name) for name in TORCHRUN)
        source = "the environment of torchrun"
        if not 0 < _number(port) < 2**16 - 1:
            raise RNNScratchError(
                f"MASTER_PORT in {source} is {shown(port)}; it must be a number from 1 to 65534."
            )
        # The launcher itself listens at its port; the next one is this project's.
        return _launch(source, size, rank, f"{host}:{_number(port) + 1}")
    for size, rank in MPI:
        if size in os.environ and rank in os.environ:
            values = os.environ.pop(size), os.environ.pop(rank)
            prefixes = ("PMI_", "PMIX_", "OMPI_")
            for name in [each for each in os.environ if each.startswith(prefixes)]:
                del os.environ[name]
            return _launch(f"the environment of mpiexec ({size}, {rank})", *values, COORDINATOR)
    if "TF_CONFIG" in os.environ:
        raise RNNScratchError(
            "TF_CONFIG in the environment, of a launcher of TensorFlow, is not read here.\nSay the "
            "same with --workers N, --rank K and --coordinator HOST:PORT, or delete it."
        )
    return None


def _launch(source: str, size: str, rank: str, coordinator: str) -> Launch | None:
    workers, own = _number(size), _number(rank)
    if not 0 <= own < workers <= MOST_WORKERS:
        raise RNNScratchError(
            f"In {source}, worker {rank:.20} of {size:.20} does not exist; "
            f"there can be {MOST_WORKERS}, from 0."
        )
    network.parse(coordinator, f"The address of worker 0 in {source}")
    return None if workers == 1 else Launch(workers, own, coordinator)


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,5}", text) else -1
