"""Minibatches of subsequences: sequential partitioning and random sampling.

One setting, ``sampling``, governs both how the text is cut and whether the state is carried from
minibatch to minibatch, because the two only make sense together.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from ..contract import Batch
from ..errors import RNNScratchError
from ..randomness import generator
from ..settings import Settings


def carries(sampling: str) -> bool:
    """Return whether the state is carried from one minibatch to the next."""
    return sampling == "sequential"


def sequential(
    tokens: np.ndarray, batch_size: int, num_steps: int, offset: int, rest: bool = False
) -> Iterator[Batch]:
    """Yield minibatches of X and Y, both (B, T): row i continues row i of the previous minibatch.

    Y is X one token later. The text from `offset` on is cut into B rows of equal length. With
    `rest`, a last minibatch has the remaining steps, fewer than T.
    """
    length = (len(tokens) - offset - 1) // batch_size
    X_rows = tokens[offset : offset + batch_size * length].reshape(batch_size, length)
    Y_rows = tokens[offset + 1 : offset + 1 + batch_size * length].reshape(batch_size, length)
    for start in range(0, length if rest else length - num_steps + 1, num_steps):
        columns = slice(start, start + num_steps)
        yield Batch(X_rows[:, columns], Y_rows[:, columns]).map(np.ascontiguousarray, "int64")


def random(
    tokens: np.ndarray, batch_size: int, num_steps: int, offset: int, rng: np.random.RandomState
) -> Iterator[Batch]:
    """Yield minibatches of subsequences of T tokens, from `offset` on, in random order."""
    num_subsequences = (len(tokens) - offset - 1) // num_steps
    starts = offset + num_steps * rng.permutation(num_subsequences)
    for first in range(0, num_subsequences - batch_size + 1, batch_size):
        index = starts[first : first + batch_size, None] + np.arange(num_steps)
        yield Batch(tokens[index], tokens[index + 1]).map(np.ascontiguousarray, "int64")


def draw_offset(num_steps: int, seed: int, epoch: int) -> int:
    """Draw an epoch's first position in the text, from 0 to T-1, so that the cuts move."""
    return int(generator(seed, "offset", epoch).randint(num_steps))


def epoch_batches(
    tokens: np.ndarray, settings: Settings, epoch: int, first: int = 0
) -> Iterator[Batch]:
    """Yield the minibatches of one epoch, from the minibatch with the index `first` on."""
    batch_size, num_steps, seed = settings.batch_size, settings.num_steps, settings.seed
    offset = draw_offset(num_steps, seed, epoch)
    if settings.sampling == "sequential":
        batches = sequential(tokens, batch_size, num_steps, offset)
    else:
        rng = generator(seed, "shuffle", epoch)
        batches = random(tokens, batch_size, num_steps, offset, rng)
    batches = itertools.islice(batches, first, None)
    if not settings.dropout:
        return batches
    return (
        batch._replace(masks=draw_masks(batch, settings, epoch, index))
        for index, batch in enumerate(batches, first)
    )


def draw_masks(batch: Batch, settings: Settings, epoch: int, minibatch: int) -> np.ndarray:
    """Return dropout masks for a minibatch, (T, L, B, H): 0 with probability p, else 1 / (1 - p).

    Each mask is drawn as 16 bits: p is `dropout`, rounded to a multiple of 2**-16.
    """
    shape = *batch.X.shape, settings.num_layers, settings.num_hiddens
    rng = generator(settings.seed, "dropout", epoch, minibatch)
    bits = rng.randint(0, 2**16, shape, np.uint16).transpose(1, 2, 0, 3)
    limit = round(settings.dropout * 2**16)
    return np.multiply(bits >= limit, 2**16 / (2**16 - limit), dtype=settings.dtype, order="C")


def count(num_tokens: int, settings: Settings, epoch: int) -> int:
    """Return the number of minibatches in an epoch, with either way of sampling."""
    offset = draw_offset(settings.num_steps, settings.seed, epoch)
    return (num_tokens - offset - 1) // (settings.batch_size * settings.num_steps)


def evaluation_batches(tokens: np.ndarray, settings: Settings) -> Iterator[Batch]:
    """Yield sequential minibatches of a whole text, of which the last may be shorter.

    At most batch_size - 1 tokens at the end are omitted; a short text has fewer rows.
    """
    num_steps = settings.num_steps
    batch_size = max(1, min(settings.batch_size, (len(tokens) - 1) // num_steps))
    return sequential(tokens, batch_size, num_steps, 0, rest=True)


def require(num_tokens: int, batch_size: int, num_steps: int) -> None:
    """Raise RNNScratchError unless every epoch, with any offset, has at least one minibatch."""
    min_tokens = (batch_size + 1) * num_steps
    if num_tokens < min_tokens:
        raise RNNScratchError(
            f"The text to train on has {num_tokens:,} characters; with `--batch-size {batch_size}` "
            f"and `--num-steps {num_steps}` it needs {min_tokens:,}.",
            "Use a longer text, or a smaller `--batch-size` or `--num-steps`.",
        )
