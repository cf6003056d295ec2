"""What the workers of a training exchange besides gradients, through the same engine.

Every worker calls these functions in the same order; each returns the same in all workers. Numbers
travel in the model's own dtype, so they are whole numbers that float32 has.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ..contract import Arrays, Backend, Batch, Model, Options, State, Team, Update
from ..errors import RNNScratchError
from ..exact import digest

MOST = 2**24  # float32 has every whole number up to this one


def share(rows: int, team: Team) -> slice:
    """Return the worker's rows of a minibatch of so many rows, a multiple of the workers'."""
    size = rows // len(team.addresses)
    return slice(team.rank * size, (team.rank + 1) * size)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a minibatch."""
    masks = None if batch.masks is None else batch.masks[:, :, rows]
    return batch._replace(X=batch.X[rows], Y=batch.Y[rows], masks=masks)


def train_epoch(
    backend: Backend,
    model: Model,
    minibatches: Iterable[Batch],
    how: Update,
    carry: bool,
    state: State | None,
) -> tuple[list[float], State]:
    """Train like the backend's `train_epoch`, each worker with its rows of every minibatch."""
    losses, device = [], model.options.device
    for batch in minibatches:
        if state is None or not carry:
            state = model.state(len(batch.X))
        tensors = batch.map(backend.machine.tensor, device)
        mean, state = backend.workers.train_together(model, tensors, state, how)
        losses.append(mean)
    assert state is not None
    return [float(mean) for mean in losses], state


def all_gather(
    backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> list[list[np.ndarray]]:
    """Return, for each of these arrays, those of all workers in its place, by rank."""
    tensors = [backend.machine.tensor(array, device) for array in arrays]
    gathered = backend.workers.all_gather(tensors)
    return [[backend.machine.array(tensor).copy() for tensor in row] for row in gathered]


def of_the_first(
    backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Return the first worker's arrays; those of the others have the same shapes and dtypes."""
    return tuple(row[0] for row in all_gather(backend, device, arrays))


def join_rows(
    backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Return states (B, H) of all rows, from those of each worker's."""
    return tuple(np.concatenate(row) for row in all_gather(backend, device, arrays))


def numbers(backend: Backend, options: Options, *values: int) -> list[list[int]]:
    """Return whole numbers of each worker, by rank: from 0 to MOST."""
    ((*rows,),) = all_gather(backend, options.device, [np.array(values, options.dtype)])
    return [[int(number) for number in row] for row in rows]


def agree(
    backend: Backend, options: Options, size: int, request: int | None
) -> tuple[int, int | None]:
    """Return the first worker's size of the next chunk, and a signal that any worker received."""
    rows = numbers(backend, options, min(size, MOST), request or 0)
    return rows[0][0], next((number for _, number in rows if number), None)


def digests(backend: Backend, options: Options, arrays: Arrays) -> list[str]:
    """Return digests of each worker's parameters, by rank."""
    text = digest(arrays)
    words = [int(text[i : i + 4], 16) for i in range(0, len(text), 4)]
    return ["".join(f"{word:04x}" for word in row) for row in numbers(backend, options, *words)]


def require_equal(backend: Backend, options: Options, epoch: int, arrays: Arrays) -> None:
    """Raise RNNScratchError unless all workers have the same parameters after an epoch."""
    texts = digests(backend, options, arrays)
    if len(set(texts)) > 1:
        lines = (f"\n  worker {rank}: {text}" for rank, text in enumerate(texts))
        raise RNNScratchError(
            f"After epoch {epoch} the workers' parameters differ; their digests are:"
            f"{''.join(lines)}\nWorkers with different processors or versions of a framework may "
            "add in different orders. Use equal machines, or exact mode (--exact)."
        )
