"""Training: one epoch after another, and what is told of them."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Arrays, Backend, Model, RNNScratchError, Update
from ..exact import GRID
from ..settings import Settings
from ..text import minibatches, vocabulary
from ..text.dataset import Prepared
from . import decoding
from .checkpoint import Checkpoint
from .folder import Epoch

SAMPLE_EVERY = 10  # epochs
SAMPLE_LENGTH = 50  # characters
PREFIXES = ("time traveller", "traveller")


class Report:
    """What is told while training; this one tells nothing."""

    def say(self, line: str) -> None:
        """Tell something worth a line of its own."""

    def start(self, folder: Path, settings: Settings, session: dict[str, Any], first: int) -> None:
        """Training begins with epoch `first`."""

    def minibatch(self, tokens: int) -> None:
        """A minibatch of so many tokens has been handed to the backend."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended, and its checkpoint is written."""

    def stop(self) -> None:
        """Training has ended, for whatever reason."""


def epochs(
    backend: Backend,
    name: str,
    model: Model,
    before: Checkpoint,
    prepared: Prepared,
    settings: Settings,
    report: Report,
) -> Iterator[tuple[Epoch, Arrays]]:
    """Train from one checkpoint to the last epoch; after each, what it gave and the parameters.

    Raises RNNScratchError when the loss is no longer finite.
    """
    how = Update(settings.lr, settings.theta, GRID if settings.exact else None)
    carry = minibatches.carries(settings.sampling)
    with _interruptible() as stop_if_asked:
        for number in range(before.epoch + 1, settings.num_epochs + 1):
            batches = minibatches.of_epoch(
                prepared.train, settings.batch_size, settings.num_steps,
                settings.sampling, settings.seed, number,
            )  # fmt: skip
            valid = minibatches.whole(prepared.valid, settings.batch_size, settings.num_steps)
            with np.errstate(all="ignore"):  # a loss that overflows is told below, in words
                start = time.perf_counter()
                counted = _counted(batches, report, stop_if_asked)
                summed, tokens, _ = backend.train_epoch(model, counted, how, carry)
                backend.synchronize(model.options.device)
                seconds = time.perf_counter() - start
                arrays = model.to_arrays(model.params)
                loss, valid_loss = summed / tokens, None
                if len(prepared.valid):
                    valid_loss = float(np.divide(*backend.evaluate(model, valid, True)))
            if not all(np.isfinite(x).all() for x in (loss, valid_loss or 0, *arrays.values())):
                raise _diverged(number, settings)
            sample = None
            if number % SAMPLE_EVERY == 0:
                sample = predictions(backend, model, prepared.vocab, prepared.train)[0]
            epoch = Epoch(
                number, loss, perplexity(loss),
                valid_loss, None if valid_loss is None else perplexity(valid_loss),
                tokens, seconds, name, sample,
            )  # fmt: skip
            yield epoch, arrays
            stop_if_asked()


def predictions(
    backend: Backend, model: Model, vocab: list[str], train_tokens: np.ndarray
) -> list[str]:
    """What the model makes of the chapter's two prefixes.

    Where the vocabulary cannot spell them, it continues the beginning of the text instead.
    """
    spelled = [prefix for prefix in PREFIXES if set(prefix) <= set(vocab)]
    prefixes = [list(vocabulary.encode(prefix, vocab)) for prefix in spelled]
    with np.errstate(all="ignore"):  # of a model that is about to diverge
        return [
            vocabulary.decode(backend.predict(model, p, SAMPLE_LENGTH, decoding.greedy), vocab)
            for p in prefixes or [list(train_tokens[:10])]
        ]


def _counted(
    batches: Iterable[minibatches.Minibatch], report: Report, stop_if_asked: Callable[[], None]
) -> Iterator[minibatches.Minibatch]:
    for X, Y in batches:
        yield X, Y
        report.minibatch(X.size)
        stop_if_asked()


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    # Ctrl-C is remembered, and obeyed between minibatches. Raised at any place it could be lost:
    # Python drops an exception in a destructor, and MXNet has many. A second one is obeyed at once.
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_asked  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _diverged(epoch: int, settings: Settings) -> RNNScratchError:
    clipping = (
        "clip the gradients (leave out --no-clip)"
        if settings.theta is None
        else f"a smaller --theta than {settings.theta:g}"
    )
    error = RNNScratchError(
        f"The loss is no longer finite in epoch {epoch}: training has diverged, and stops. "
        f"The checkpoint of epoch {epoch - 1} is kept.\n"
        f"Try a smaller --lr than {settings.lr:g}, {clipping}, or a smaller --sigma than "
        f"{settings.sigma:g}."
    )
    error.exit_code = 1
    return error


def perplexity(loss: float) -> float | None:
    """exp(loss), or None where that is too large for a float."""
    return math.exp(loss) if loss < 700 else None
