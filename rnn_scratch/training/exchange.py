"""Exchange values other than gradients among the workers of a training run.

All workers call the collective functions in the same order and get equal results; a single worker
gets its input back. Integers are sent in the model's dtype, so they must be exact in float32.
"""

from collections.abc import Sequence

import numpy as np

from ..contract import Arrays, Backend, Batch, Options, WorkerGroup
from ..errors import RNNScratchError
from ..exact import digest

SINGLE_WORKER = WorkerGroup(0, ("",))
MAX_INTEGER = 2**24  # float32 represents every integer up to 2**24


def share(rows: int, group: WorkerGroup) -> slice:
    """Return the slice of this worker's rows; `rows` is a multiple of the number of workers."""
    size = rows // len(group.addresses)
    return slice(group.rank * size, (group.rank + 1) * size)


def select_batch_rows(batch: Batch, rows: slice) -> Batch:
    """Return a minibatch with only these rows of `batch`."""
    masks = None if batch.masks is None else batch.masks[:, :, rows]
    return batch._replace(X=batch.X[rows], Y=batch.Y[rows], masks=masks)


def all_gather(
    group: WorkerGroup, backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> list[list[np.ndarray]]:
    """Gather each array from all workers; return the copies in rank order."""
    if len(group.addresses) == 1 or not arrays:
        return [[array] for array in arrays]
    tensors = [backend.machine.tensor(array, device) for array in arrays]
    gathered = backend.workers.all_gather(tensors)
    return [[backend.machine.array(tensor).copy() for tensor in row] for row in gathered]


def join_rows(
    group: WorkerGroup, backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Concatenate all workers' rows of each state array; return arrays (B, H) with all rows."""
    return tuple(np.concatenate(row) for row in all_gather(group, backend, device, arrays))


def all_gather_integers(
    group: WorkerGroup, backend: Backend, options: Options, *values: int
) -> list[list[int]]:
    """Return the integers of all workers, each from 0 to MAX_INTEGER, in rank order."""
    ((*rows,),) = all_gather(group, backend, options.device, [np.array(values, options.dtype)])
    return [[int(value) for value in row] for row in rows]


def agree(
    group: WorkerGroup, backend: Backend, options: Options, size: int, signum: int | None
) -> tuple[int, int | None]:
    """Return worker 0's `size`, and the signal that a worker has received, or None."""
    values = min(size, MAX_INTEGER), signum or 0
    rows = all_gather_integers(group, backend, options, *values)
    return rows[0][0], next((signal for _, signal in rows if signal), None)


def require_equal(
    group: WorkerGroup, backend: Backend, options: Options, epoch: int, arrays: Arrays
) -> None:
    """Raise RNNScratchError unless all workers have the same parameters after an epoch."""
    if len(group.addresses) == 1:
        return
    all_digests = digests(group, backend, options, arrays)
    if len(set(all_digests)) > 1:
        lines = (f"\n  worker {rank}: {text}" for rank, text in enumerate(all_digests))
        raise RNNScratchError(
            f"After epoch {epoch}, the workers' parameters differ; their digests are:"
            f"{''.join(lines)}\nWorkers with different processors or versions of a framework may "
            "add in different orders. Use identical machines, or exact mode (`exact`)."
        )


def digests(group: WorkerGroup, backend: Backend, options: Options, arrays: Arrays) -> list[str]:
    """Return the digests of all workers' parameters in rank order."""
    text = digest(arrays)
    chunks = [int(text[i : i + 4], 16) for i in range(0, len(text), 4)]
    rows = all_gather_integers(group, backend, options, *chunks)
    return ["".join(f"{chunk:04x}" for chunk in row) for row in rows]
