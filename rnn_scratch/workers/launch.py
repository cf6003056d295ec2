"""How workers are launched: all by this process, or one in each process of MPI."""

import os
from typing import NamedTuple

from ..errors import RNNScratchError
from . import mpi

# Number of processes that a launcher has started: MPICH, Open MPI, and a step of SLURM.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


class Launch(NamedTuple):
    """The number of workers, and the rank of this process if a launcher has started it."""

    workers: int
    rank: int | None = None  # index from 0; None: this process starts all workers on this machine


def detect(workers: int | None) -> Launch:
    """Return how to launch the workers: by `mpiexec` or `srun` if one has started this process.

    `workers` is the number that the user asks for. Raises RNNScratchError if it contradicts the
    launcher, or if the processes of the launcher are not connected by MPI.
    """
    expected = next((int(os.environ[name]) for name in SIZES if name in os.environ), 1)
    if expected == 1:
        return Launch(workers or 1)
    size = mpi.world().size
    if size != expected or workers not in (None, size):
        asked = f", and `--workers` is {workers}" if workers else ""
        raise RNNScratchError(
            f"The launcher has started {expected} workers, MPI connects {size} of them{asked}.",
            "Use the `mpiexec` of mpi4py's MPI, `srun --mpi=pmi2` or `srun --mpi=pmix`, and omit "
            "`--workers`.",
        )
    return Launch(size, mpi.world().rank)


def require_shares(batch_size: int, workers: int) -> None:
    """Raise RNNScratchError unless the number of workers divides the batch size."""
    if batch_size % workers == 0:
        return
    raise RNNScratchError(
        f"`--batch-size {batch_size}` cannot be divided equally among {workers} workers.",
        f"Use a multiple of {workers}, such as {(batch_size // workers + 1) * workers}.",
    )
