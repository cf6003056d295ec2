"""Minibatches of subsequences: sequential partitioning and random sampling."""

from collections.abc import Iterator

import numpy as np

from ..contract import Batch
from ..errors import RNNScratchError
from ..randomness import each_generator, generator
from ..settings import Settings


def carries_state(sampling: str) -> bool:
    """Return whether the state is carried from one minibatch to the next."""
    return sampling == "sequential"


def sequential(
    tokens: np.ndarray,
    batch_size: int,
    num_steps: int,
    offset: int,
    num_skipped: int = 0,
    partial: bool = False,
) -> Iterator[Batch]:
    """Yield minibatches of X and Y, both (B, T): row i continues row i of the previous minibatch.

    Y is X shifted by one token. The text, starting at `offset`, is split into B rows of equal
    length. The first `num_skipped` minibatches are skipped. With `partial`, the last minibatch may
    have fewer than T time steps.
    """
    length = (len(tokens) - offset - 1) // batch_size
    X_rows = tokens[offset : offset + batch_size * length].reshape(batch_size, length)
    Y_rows = tokens[offset + 1 : offset + 1 + batch_size * length].reshape(batch_size, length)
    end = length if partial else length - num_steps + 1
    for start in range(num_skipped * num_steps, end, num_steps):
        columns = slice(start, start + num_steps)
        yield Batch(X_rows[:, columns], Y_rows[:, columns]).map(np.ascontiguousarray, "int64")


def random(
    tokens: np.ndarray,
    batch_size: int,
    num_steps: int,
    offset: int,
    num_skipped: int,
    rng: np.random.RandomState,
) -> Iterator[Batch]:
    """Split the text from `offset` into subsequences of T tokens; yield shuffled minibatches."""
    num_subsequences = (len(tokens) - offset - 1) // num_steps
    starts = offset + num_steps * rng.permutation(num_subsequences)
    for first in range(num_skipped * batch_size, num_subsequences - batch_size + 1, batch_size):
        index = starts[first : first + batch_size, None] + np.arange(num_steps)
        yield Batch(tokens[index], tokens[index + 1]).map(np.ascontiguousarray, "int64")


def draw_offset(num_steps: int, seed: int, epoch: int) -> int:
    """Draw an epoch's offset, from 0 to T-1, so that subsequences differ between epochs."""
    return int(generator(seed, "offset", epoch).randint(num_steps))


def epoch_batches(
    tokens: np.ndarray, settings: Settings, epoch: int, num_skipped: int = 0
) -> Iterator[Batch]:
    """Return an epoch's minibatches, skipping the first `num_skipped`."""
    offset = draw_offset(settings.num_steps, settings.seed, epoch)
    sizes = settings.batch_size, settings.num_steps, offset, num_skipped
    if carries_state(settings.sampling):
        batches = sequential(tokens, *sizes)
    else:
        batches = random(tokens, *sizes, generator(settings.seed, "shuffle", epoch))
    if not settings.dropout:
        return batches
    return (
        batch._replace(masks=draw_masks(batch, settings, epoch, index))
        for index, batch in enumerate(batches, num_skipped)
    )


def draw_masks(batch: Batch, settings: Settings, epoch: int, minibatch: int) -> np.ndarray:
    """Return dropout masks for a minibatch, (T, L, B, H): 0 with probability p, else 1 / (1 - p).

    Each element is drawn from 16 random bits: p is `dropout`, rounded to a multiple of 2**-16.
    """
    shape = *batch.X.shape, settings.num_layers, settings.num_hiddens
    rng = generator(settings.seed, "dropout", epoch, minibatch)
    bits = rng.randint(0, 2**16, shape, np.uint16).transpose(1, 2, 0, 3)
    limit = round(settings.dropout * 2**16)
    return np.multiply(bits >= limit, 2**16 / (2**16 - limit), dtype=settings.dtype, order="C")


def count(num_tokens: int, settings: Settings, epoch: int) -> int:
    """Return the number of minibatches per epoch, equal for both sampling methods."""
    offset = draw_offset(settings.num_steps, settings.seed, epoch)
    return (num_tokens - offset - 1) // (settings.batch_size * settings.num_steps)


def total_count(num_tokens: int, settings: Settings, num_epochs: int) -> int:
    """Return the number of minibatches in the first `num_epochs` epochs."""
    num_steps = settings.num_steps
    largest, rest = divmod(num_tokens - 1, settings.batch_size * num_steps)
    if rest >= num_steps - 1:  # no offset is larger than the rest, so all epochs are equal
        return largest * num_epochs
    generators = each_generator(settings.seed, "offset", range(1, num_epochs + 1))
    return sum(largest - (rng.randint(num_steps) > rest) for rng in generators)


def evaluation_batches(tokens: np.ndarray, settings: Settings) -> Iterator[Batch]:
    """Return sequential minibatches of a whole text; the last minibatch may have fewer time steps.

    At most batch_size - 1 tokens at the end are omitted; a short text is split into fewer rows.
    """
    batch_size = max(1, min(settings.batch_size, (len(tokens) - 1) // settings.num_steps))
    return sequential(tokens, batch_size, settings.num_steps, 0, partial=True)


def require(num_tokens: int, batch_size: int, num_steps: int) -> None:
    """Raise RNNScratchError unless every epoch, with any offset, has at least one minibatch."""
    min_tokens = (batch_size + 1) * num_steps
    if num_tokens < min_tokens:
        raise RNNScratchError(
            f"`batch_size` {batch_size} and `num_steps` {num_steps} require a training text of at "
            f"least {min_tokens:,} characters (got {num_tokens:,}).",
            "Use a longer text, or a smaller `batch_size` or `num_steps`.",
        )
