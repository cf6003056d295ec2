"""The learning rate and bias corrections for each update."""

import itertools
import math
from collections.abc import Iterator

from ..contract import OPTIMIZERS, UpdateRule
from ..settings import Settings, update_rule
from ..text import minibatches


def learning_rate(settings: Settings, update: int, total: int) -> float:
    """Return the learning rate at update number `update`, from 1 to `total`.

    The rate rises linearly during the warmup. Then it is constant, or decays to almost zero at the
    last update by cosine annealing without restarts (Loshchilov and Hutter, 2017).
    """
    if update <= settings.warmup:
        return settings.lr * update / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    fraction = (update - settings.warmup - 1) / (total - settings.warmup)
    return settings.lr * (1 + math.cos(math.pi * fraction)) / 2


def num_updates(num_tokens: int, settings: Settings, epochs: int) -> int:
    """Return the number of updates in the first `epochs` epochs of training on a text."""
    return minibatches.total_count(num_tokens, settings, epochs)


def each_update(settings: Settings, num_skipped: int, total: int) -> Iterator[UpdateRule]:
    """Yield updates endlessly after the first `num_skipped`; the rate is constant after `total`."""
    for t in itertools.count(num_skipped + 1):
        update = update_rule(settings, learning_rate(settings, min(t, total or t), total))
        yield correct_bias(update, t) if OPTIMIZERS[settings.optimizer].bias_correction else update


def correct_bias(update: UpdateRule, t: int) -> UpdateRule:
    """Return `update` with the bias corrections for update number t, counted from 1."""
    return update._replace(c_m=1 - update.beta1**t, c_v=1 - update.beta2**t)
