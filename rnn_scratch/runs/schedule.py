"""The learning rate of each update, and the corrections of an optimizer's means."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from ..contract import OPTIMIZERS, Batch, Rates, Update
from ..errors import RNNScratchError
from ..settings import Settings
from ..text import minibatches


def learning_rate(settings: Settings, update: int, total: int) -> float:
    """Return the learning rate of an update, from 1 to `total`.

    It rises linearly during the warm-up. After that it is constant, or decays to almost zero at the
    last update by cosine annealing without restarts (Loshchilov and Hutter, 2017).
    """
    if update <= settings.warmup:
        return settings.lr * update / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    passed = (update - settings.warmup - 1) / (total - settings.warmup)
    return settings.lr * (1 + math.cos(math.pi * passed)) / 2


def numbered(settings: Settings) -> bool:
    """Return whether anything depends on the number of the update."""
    varies = settings.schedule != "constant" or settings.warmup > 0
    return varies or OPTIMIZERS[settings.optimizer].needs_rates


def updates(num_tokens: int, settings: Settings, epochs: int) -> int:
    """Return the number of updates in the first epochs of training on a text."""
    return sum(minibatches.count(num_tokens, settings, number) for number in range(1, epochs + 1))


def require(num_tokens: int, settings: Settings) -> None:
    """Raise RNNScratchError unless there are more updates than those of the warm-up."""
    if settings.warmup == 0:
        return
    total = updates(num_tokens, settings, settings.num_epochs)
    if settings.warmup >= total:
        raise RNNScratchError(
            f"`--warmup` must be below the number of updates, {total:,} with "
            f"`--epochs {settings.num_epochs}` (got {settings.warmup}).",
            "Use a smaller `--warmup`, or more `--epochs`.",
        )


def with_rates(
    batches: Iterable[Batch], settings: Settings, done: int, total: int
) -> Iterator[Batch]:
    """Yield the minibatches with the rates of their updates, after `done` of `total` ones."""
    for update, batch in enumerate(batches, done + 1):
        lr = learning_rate(settings, update, total)
        yield batch._replace(rates=rates(settings.optimizer, lr, update, settings.dtype))


def rates(optimizer: str, lr: float, update: int, dtype: str) -> Rates:
    """Return the rates of an update, counted from 1, as arrays."""
    values, how = [lr], Update()
    if OPTIMIZERS[optimizer].needs_rates:
        values += 1 - how.beta1**update, 1 - how.beta2**update
    return Rates(*(np.asarray(value, dtype) for value in values))
