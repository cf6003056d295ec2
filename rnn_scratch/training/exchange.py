"""Exchange values between the workers of a training run, besides their gradients.

All workers call these functions in the same order, and get the same results. In a group of one
they return their input. Integers travel in the model's dtype, so float32 must represent them.
"""

from collections.abc import Sequence

import numpy as np

from ..contract import Arrays, Backend, Batch, Options, WorkerGroup
from ..errors import RNNScratchError
from ..exact import digest

ALONE = WorkerGroup(0, ("",))
MAX_INTEGER = 2**24  # float32 represents every integer up to 2**24


def share(rows: int, group: WorkerGroup) -> slice:
    """Return this worker's rows of a minibatch; `rows` is a multiple of the number of workers."""
    size = rows // len(group.addresses)
    return slice(group.rank * size, (group.rank + 1) * size)


def select_batch_rows(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a minibatch."""
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
    """Return states (B, H) with the rows of all workers."""
    return tuple(np.concatenate(row) for row in all_gather(group, backend, device, arrays))


def all_gather_integers(
    group: WorkerGroup, backend: Backend, options: Options, *values: int
) -> list[list[int]]:
    """Return the integers of each worker, by rank: from 0 to MAX_INTEGER."""
    ((*rows,),) = all_gather(group, backend, options.device, [np.array(values, options.dtype)])
    return [[int(value) for value in row] for row in rows]


def agree(
    group: WorkerGroup, backend: Backend, options: Options, size: int, request: int | None
) -> tuple[int, int | None]:
    """Return worker 0's size of the next chunk, and a signal that any worker received."""
    values = min(size, MAX_INTEGER), request or 0
    rows = all_gather_integers(group, backend, options, *values)
    return rows[0][0], next((signal for _, signal in rows if signal), None)


def require_equal(
    group: WorkerGroup, backend: Backend, options: Options, epoch: int, arrays: Arrays
) -> None:
    """Raise RNNScratchError unless all workers have the same parameters after an epoch."""
    if len(group.addresses) == 1:
        return
    found = digests(group, backend, options, arrays)
    if len(set(found)) > 1:
        lines = (f"\n  worker {rank}: {text}" for rank, text in enumerate(found))
        raise RNNScratchError(
            f"After epoch {epoch} the workers' parameters differ; their digests are:"
            f"{''.join(lines)}\nWorkers with different processors or versions of a framework may "
            "add in different orders. Use equal machines, or exact mode (`--exact`)."
        )


def digests(group: WorkerGroup, backend: Backend, options: Options, arrays: Arrays) -> list[str]:
    """Return the digests of all workers' parameters, by rank."""
    text = digest(arrays)
    words = [int(text[i : i + 4], 16) for i in range(0, len(text), 4)]
    rows = all_gather_integers(group, backend, options, *words)
    return ["".join(f"{word:04x}" for word in row) for row in rows]
