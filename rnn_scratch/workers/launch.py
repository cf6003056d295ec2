"""Detect how workers are launched: as child processes, or by an MPI launcher."""

import os

from ..errors import RNNScratchError
from . import mpi

# Environment variables with the number of launched processes (MPICH, Open MPI and SLURM).
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def detect(workers: int | None) -> tuple[int, int | None]:
    """Return the number of workers, and this process's rank, or None without a launcher.

    `workers` is the number that the user requests, or None. Raises RNNScratchError if it differs
    from the launcher's number, or if MPI does not connect the launched processes.
    """
    num_launched = next((int(os.environ[name]) for name in SIZES if name in os.environ), 1)
    if num_launched == 1:
        return workers or 1, None
    size = mpi.world().size
    if size != num_launched or workers not in (None, size):
        request = f", but `workers` is {workers}" if workers else ""
        raise RNNScratchError(
            f"The launcher started {num_launched} workers, of which MPI connects {size}{request}.",
            "Use the `mpiexec` of mpi4py's MPI, `srun --mpi=pmi2` or `srun --mpi=pmix`, and omit "
            "`workers`.",
        )
    return size, mpi.world().rank


def require_shares(batch_size: int, workers: int) -> None:
    """Raise RNNScratchError unless the number of workers divides the batch size."""
    if batch_size % workers == 0:
        return
    raise RNNScratchError(
        f"`batch_size` {batch_size} cannot be divided equally among {workers} workers.",
        f"Use a multiple of {workers}, such as {(batch_size // workers + 1) * workers}.",
    )
