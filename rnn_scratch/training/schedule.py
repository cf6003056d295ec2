"""The learning rate of each update, and the bias corrections of an optimizer's means."""

import itertools
import math
from collections.abc import Iterator

from ..contract import OPTIMIZERS, Update
from ..settings import Settings, update_rule
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


def updates(num_tokens: int, settings: Settings, epochs: int) -> int:
    """Return the number of updates in the first epochs of training on a text."""
    return sum(minibatches.count(num_tokens, settings, number) for number in range(1, epochs + 1))


def each_update(settings: Settings, done: int, total: int) -> Iterator[Update]:
    """Yield the updates after `done` of `total` updates, without end."""
    for number in itertools.count(done + 1):
        update = update_rule(settings, learning_rate(settings, number, total))
        yield corrected(update, number) if OPTIMIZERS[settings.optimizer].corrects else update


def corrected(update: Update, number: int) -> Update:
    """Return the update with its bias corrections; numbers of updates start at 1."""
    return update._replace(c_m=1 - update.beta1**number, c_v=1 - update.beta2**number)
