"""Data-parallel training with workers started by `mpiexec -n 4 rnn-scratch train ...` or `srun`.

Each worker is a process that runs the same command and computes the gradients for its rows of each
minibatch. The workers exchange these gradients through host memory, add them in rank order, and
apply the same update, so parameters remain identical. Only worker 0 writes files and prints.
"""

import atexit
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from . import registry
from .contract import Backend, Batch, Gradients, ModelConfig, Params, State
from .errors import RNNScratchError
from .system.signals import StopRequest

# Environment variables set by MPICH, Open MPI and SLURM: the number of processes and the rank.
LAUNCHERS = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
MAX_PAUSE_SECONDS = 1e-3  # longest pause between tests of an MPI request
_group: "WorkerGroup | None" = None  # this process's group, set by `connect`


def read_launcher() -> tuple[int, int]:
    """Return the number of processes that a launcher started, and this process's rank."""
    for size, rank in LAUNCHERS.items():
        if (num_processes := _read_variable(size, 1)) > 1:
            return num_processes, _read_variable(rank, 0)
    return 1, 0


def _read_variable(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal():
        problem = f"The environment variable {name} must be a number (got {value!r})."
        raise RNNScratchError(problem, f"Remove it (`unset {name}`): launchers set it themselves.")
    return int(value)


def is_silent() -> bool:
    """Return whether this process should suppress errors that worker 0 prints."""
    with contextlib.suppress(RNNScratchError):  # a wrong variable, reported by every process
        return read_launcher()[1] > 0 and (_group is None or not _group.is_running)
    return False


def connect(arguments: Mapping[str, object]) -> "WorkerGroup | None":
    """Return the group of all workers, or None if no launcher started several processes.

    Raises RNNScratchError if MPI does not connect all workers, or their code or `arguments` differ.
    """
    global _group
    if (size := read_launcher()[0]) == 1:
        return None
    try:
        from mpi4py import MPI  # optional dependency
    except (ImportError, RuntimeError) as error:  # RuntimeError: MPI is missing
        problem = f"Several workers need mpi4py and MPI: {str(error).splitlines()[0]}"
        raise RNNScratchError(problem, registry.how_to_install("workers")) from error
    world = MPI.COMM_WORLD
    if world.size != size:
        problem = f"The launcher started {size} processes, but MPI connects {world.size}."
        hint = "Use the `mpiexec` of mpi4py's MPI, `srun --mpi=pmi2` or `srun --mpi=pmix`."
        raise RNNScratchError(problem, hint)
    _group = WorkerGroup(world)
    values = {name: str(arguments[name]) for name in sorted({*arguments} - {"run", "report"})}
    packages = ["rnn_scratch", *map(registry.find, registry.names())]
    specs = filter(None, map(find_spec, packages))
    folders = [folder for spec in specs for folder in spec.submodule_search_locations or []]
    files = {path.read_bytes() for folder in folders for path in Path(folder).rglob("*.py")}
    values["source code"] = hashlib.sha256(b"".join(sorted(files))).hexdigest()
    worker_values = _group.gather(values)
    names = [name for name in values if len({v.get(name) for v in worker_values}) > 1]
    if names:
        _group.is_running = False  # all workers raise this error, so no abort is needed
        hint = "Start all workers with the same command and the same code."
        raise RNNScratchError(f"The workers differ in: {', '.join(names)}.", hint)
    return _group


class WorkerGroup:
    """All workers in a training run, as seen by one worker.

    Every worker calls the methods in the same order. If a worker exits while `is_running` is
    true, MPI aborts the other workers, which would otherwise wait for it.
    """

    def __init__(self, world: Any) -> None:
        """Create the group of workers connected by the MPI communicator `world`."""
        self.world, self.rank, self.size = world, world.rank, world.size
        self.is_running = True
        self.wants_end = False  # whether this worker wants to end the stream of minibatches
        self.should_end = False  # whether any worker does
        atexit.register(lambda: world.Abort(1) if self.is_running else None)

    def wait(self, request: Any) -> None:
        """Wait for an MPI request without keeping a core busy, as MPI itself would."""
        pause = 0.0
        while not request.Test():
            time.sleep(pause)
            pause = min(pause + 1e-6, MAX_PAUSE_SECONDS)

    def broadcast(self, value: Any) -> Any:
        """Return the value passed by worker 0."""
        return self.gather(value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return all workers' values in rank order."""
        self.wait(self.world.Ibarrier())
        return list(self.world.allgather(value))

    def synchronize(self, request: StopRequest, digest: str) -> int | None:
        """Share stop requests and compare digests; return the signal of a worker, if any."""
        self.wants_end = self.should_end = False
        worker_values = self.gather((request.number, request.complete, digest))
        numbers, completions, digests = zip(*worker_values)
        number = next(filter(None, numbers), None)  # the next call shares any later signal
        request.complete = completions[0]
        self.is_running = number is None and len(set(digests)) == 1
        if len(set(digests)) > 1:
            problem = f"The workers' parameters differ: their digests are {', '.join(digests)}."
            raise RNNScratchError(problem, "Use identical machines, or exact mode (`exact`).")
        return number

    def distribute(self, backend: Backend, compute_gradients: Callable) -> Callable:
        """Return a version of `compute_gradients` that divides each minibatch among all workers.

        The returned function averages losses and gradients, and concatenates the rows of the state.
        """
        tensor, array = backend.machine.tensor, backend.machine.array

        def compute(
            params: Params, batch: Batch, state: State, options: ModelConfig, gradients: Callable
        ) -> Gradients:
            size = len(batch.X) // self.size
            rows = slice(self.rank * size, (self.rank + 1) * size)
            masks = None if batch.masks is None else batch.masks[:, :, rows]
            part = Batch(batch.X[rows], batch.Y[rows], masks)
            state = tuple(values[rows] for values in state)
            mean_loss, grads, state = compute_gradients(params, part, state, options, gradients)
            values = [array(value) for value in (mean_loss, *grads.values(), *state)]
            flag = np.array([self.wants_end], values[0].dtype)
            vector = np.concatenate([np.ravel(value) for value in (*values, flag)])
            vectors = np.empty((self.size, vector.size), vector.dtype)
            self.wait(self.world.Iallgather(vector, vectors))
            ends, results = np.cumsum([value.size for value in values]), []
            *parts, flags = np.split(vectors, ends, axis=1)
            self.should_end = bool(flags.any())
            for index, columns in enumerate(parts):
                copies = columns.reshape(self.size, *values[index].shape)  # one copy per rank
                result = sum(copies) / self.size if index <= len(grads) else np.concatenate(copies)
                results.append(tensor(result, options.device))
            mean_loss, *tensors = results
            return mean_loss, dict(zip(grads, tensors)), tuple(tensors[len(grads) :])

        return compute
