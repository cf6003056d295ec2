"""How workers are launched: by the options, or by a launcher whose environment says it.

``torchrun`` sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; ``mpiexec`` the variables of its
MPI; ``srun`` those of a step of SLURM.
"""

import os
import re
from typing import NamedTuple

from ..errors import RNNScratchError
from ..settings import MOST_WORKERS
from . import network

PORT = 29500
COORDINATOR = f"127.0.0.1:{PORT}"  # by default, where workers are started one by one
WAIT = 45.0  # seconds for the workers to meet, by default
# Size and rank come first.
TORCHRUN = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
MPI = (  # MPICH and its descendants, Open MPI, and PMIx
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMIX_SIZE", "PMIX_RANK"),
)
# The nodes are those of a step, which srun starts. A batch script has the other two as well.
SLURM = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST")


class Launch(NamedTuple):
    """How workers are started: all by this process, or the one with this rank."""

    workers: int  #: how many train together
    rank: int | None = None  #: from 0; None: this process starts all workers on this machine
    coordinator: str = COORDINATOR  #: HOST:PORT, where worker 0 waits for the others
    wait: float = WAIT  #: seconds until the others must have come


def chosen(
    workers: int | None,
    rank: int | None = None,
    coordinator: str | None = None,
    wait: float | None = None,
) -> Launch | None:
    """Return how to launch the workers; None if neither an option nor the environment says it.

    Options override the environment. Raises RNNScratchError for options that do not fit together.
    """
    if workers is None and rank is None:
        launch = _from_environment()
        if launch is not None:
            return launch._replace(coordinator=coordinator or launch.coordinator, wait=wait or WAIT)
    if rank is None:
        if coordinator is not None or wait is not None:
            option = "--wait" if coordinator is None else "--coordinator"
            raise RNNScratchError(
                f"`{option}` is for workers that are started one by one.",
                f"Add `--rank K`, which is 0 for the first, or omit `{option}` to start all "
                "workers on this machine.",
            )
        return None if workers is None else Launch(workers)
    if workers is None or rank >= workers:
        given = "`--workers` is missing" if workers is None else f"`--workers` is {workers}"
        raise RNNScratchError(
            f"`--rank` must be from 0 to N-1 (got `--rank {rank}`, and {given}).",
            "Pass `--workers N` and a `--rank` from 0 to N-1.",
        )
    forget_mpi()
    return Launch(workers, rank, coordinator or COORDINATOR, wait or WAIT)


def forget_mpi() -> None:
    """Delete the variables of a launcher of MPI, whose workers are not those of this training."""
    for name in [name for name in os.environ if name.startswith(network.MPI_VARIABLES)]:
        del os.environ[name]


def require_shares(batch_size: int, workers: int) -> None:
    """Raise RNNScratchError unless each worker gets as many rows of a minibatch as the others."""
    if batch_size % workers == 0:
        return
    raise RNNScratchError(
        f"`--batch-size {batch_size}` cannot be divided equally among {workers} workers.",
        f"Use a multiple of {workers}, such as {(batch_size // workers + 1) * workers}.",
    )


def _from_environment() -> Launch | None:
    launchers = [names for names in (TORCHRUN, *MPI, SLURM) if set(names) <= set(os.environ)]
    if not launchers and "PMIX_RANK" in os.environ:  # not every launcher of PMIx says the size
        launchers = [MPI[2]]
    if not launchers:
        return None
    names = launchers[0]
    values = [os.environ.get(name, "") for name in names]
    try:
        workers, rank = int(values[0]), int(values[1])
        if names is TORCHRUN:  # the launcher listens at its port, and worker 0 at the next one
            coordinator = f"{values[2]}:{int(values[3]) + 1}"
        else:
            coordinator = _first_node() if SLURM[-1] in os.environ else COORDINATOR
        if not 0 <= rank < workers <= MOST_WORKERS:
            raise ValueError("no worker")
    except ValueError as error:
        found = ", ".join(f"{name} is {value:.20}" for name, value in zip(names, values))
        raise RNNScratchError(
            f"A launcher's environment variables describe no valid worker: {found}. The rank must "
            f"be below the number of workers, which is at most {MOST_WORKERS}.",
            "Pass `--workers N`, `--rank K` and `--coordinator HOST:PORT`, or unset the variables.",
        ) from error
    return None if workers == 1 else Launch(workers, rank, coordinator)


def _first_node() -> str:
    # The first host of a list such as node[07-09,12],other; each job has a port of its own.
    nodes = re.sub(r"^([^,\[]*)\[?([0-9]*).*", r"\1\2", os.environ[SLURM[-1]])
    return f"{nodes}:{PORT + int(os.environ.get('SLURM_JOB_ID', '0')[-3:])}"
