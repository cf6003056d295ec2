"""What the workers of a training run exchange besides gradients, through the same engine.

Every worker calls these functions in the same order; each returns the same in all workers. Numbers
travel in the model's own dtype, so they are whole numbers that float32 has.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..contract import Arrays, Backend, Options, RNNScratchError, Team
from ..exact import digest
from ..runs.checkpoint import Incomplete

if TYPE_CHECKING:
    from ..runs.setup import Setup

LARGEST = 2**24  # up to which float32 has every whole number


def share(rows: int, team: Team) -> slice:
    """The worker's rows of a minibatch with this number of rows, a multiple of the workers'."""
    size = rows // len(team.addresses)
    return slice(team.rank * size, (team.rank + 1) * size)


def gather(backend: Backend, device: str, arrays: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """For each of these arrays, those of all workers in its place, by rank."""
    tensors = [backend.machine.tensor(array, device) for array in arrays]
    gathered = backend.workers.gather(tensors)
    return [[backend.machine.array(tensor).copy() for tensor in each] for each in gathered]


def of_the_first(backend: Backend, device: str, dtype: str, arrays: Arrays) -> Arrays:
    """The first worker's parameters."""
    gathered = gather(backend, device, [array.astype(dtype) for array in arrays.values()])
    return {name: each[0] for name, each in zip(arrays, gathered)}


def same_start(setup: "Setup", epoch: int, incomplete: Incomplete) -> tuple[int, Incomplete]:
    """The epoch after which the first worker goes on, and what it has trained of the next one.

    The losses, which only the first worker needs, are zeros in the others.
    """
    states, done = len(incomplete.state), len(incomplete.losses)
    epoch, done, states = _numbers(setup, epoch, done, states)[0]
    rank = setup.team.rank if setup.team else 0
    if rank > 0:
        incomplete = Incomplete((0.0,) * done)
    if states:
        shape = setup.settings.batch_size, setup.settings.num_hiddens
        own = incomplete.state or (np.zeros(shape, setup.settings.dtype),) * states
        gathered = gather(setup.backend, setup.place.device, own)
        incomplete = incomplete._replace(state=tuple(each[0] for each in gathered))
    return epoch, incomplete


def join_rows(
    backend: Backend, device: str, arrays: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """States (B, H) of all rows, from those of each worker's."""
    return tuple(np.concatenate(each) for each in gather(backend, device, arrays))


def digests(backend: Backend, options: Options, arrays: Arrays) -> list[str]:
    """Digests of each worker's parameters, by rank."""
    text = digest(arrays)
    words = np.array([int(text[i : i + 4], 16) for i in range(0, len(text), 4)], options.dtype)
    (each,) = gather(backend, options.device, [words])
    return ["".join(f"{int(word):04x}" for word in row) for row in each]


def agree(setup: "Setup", size: int, request: int | None) -> tuple[int, int | None]:
    """The first worker's size of the next part, and a signal that any worker has received."""
    rows = _numbers(setup, min(size, LARGEST), request or 0)
    return rows[0][0], next((number for _, number in rows if number), None)


def require_equal(setup: "Setup", epoch: int, arrays: Arrays) -> None:
    """Raise RNNScratchError unless all workers have the same parameters after an epoch."""
    each = digests(setup.backend, setup.model.options, arrays)
    if len(set(each)) > 1:
        lines = (f"\n  worker {rank}: {own}" for rank, own in enumerate(each))
        raise RNNScratchError(
            f"After epoch {epoch} the workers' parameters differ; their digests are:"
            f"{''.join(lines)}\nWorkers with different processors or versions of a framework may "
            "add in different orders. Use equal machines, or exact mode (--exact)."
        )


def _numbers(setup: "Setup", *numbers: int) -> list[list[int]]:
    # The whole numbers of each worker, by rank.
    own = np.array(numbers, setup.settings.dtype)
    ((*rows,),) = gather(setup.backend, setup.place.device, [own])
    return [[int(number) for number in row] for row in rows]
