"""Training, epoch by epoch, and reports of its progress."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import Arrays, RNNScratchError
from ..settings import Settings, update_rule
from ..text import minibatches, vocabulary
from ..text.dataset import Prepared
from . import decoding
from .folder import Epoch
from .setup import Setup

SAMPLE_EVERY = 10  # epochs
SAMPLE_LENGTH = 50  # characters
PREFIXES = ("time traveller", "traveller")


class Diverged(RNNScratchError):  # noqa: N818 - a result, not an error of the command
    """The training has diverged: the loss or a parameter is not finite."""

    exit_code = 1


class Report:
    """Receives the progress of a training; this base class ignores it."""

    def say(self, line: str) -> None:
        """Report a message, one line of text."""

    def start(self, folder: Path, settings: Settings, session: dict[str, Any], first: int) -> None:
        """Training begins with epoch `first`."""

    def minibatch(self, X: np.ndarray, Y: np.ndarray) -> None:
        """The backend has finished a minibatch X, Y (B, T), and may still be computing it."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch has ended and its checkpoint is written."""

    def stop(self) -> None:
        """Training has ended, for whatever reason."""


class Trained(NamedTuple):
    """The result of an epoch."""

    epoch: Epoch
    arrays: Arrays  # the parameters after it
    losses: list[float]  # the mean loss of each minibatch, in nats


def epochs(setup: Setup, last: int, report: Report) -> Iterator[Trained]:
    """Train the epochs after epoch `last`, up to the number in the settings.

    Raises Diverged, with what to try instead.
    """
    settings, model, prepared = setup.settings, setup.model, setup.text
    scratch, machine = setup.backend.scratch, setup.backend.machine
    how, carry = update_rule(settings), minibatches.carries(settings.sampling)
    with _interruptible() as stop_if_interrupted:
        for number in range(last + 1, settings.num_epochs + 1):
            batches = minibatches.of_epoch(prepared.train, settings, number)
            with np.errstate(all="ignore"):  # an overflow is reported below
                start = time.perf_counter()
                losses, state = scratch.train_epoch(
                    model, _watched(batches, report, stop_if_interrupted), how, carry
                )
                machine.synchronize([*state, *model.params.values()], setup.place.device)
                seconds = time.perf_counter() - start
                arrays = model.to_arrays(model.params)
                loss, valid_loss = sum(losses) / len(losses), None
                if len(prepared.valid):
                    held_out = minibatches.whole(prepared.valid, settings)
                    valid_loss = float(np.divide(*scratch.evaluate(model, held_out, True)))
            if not all(np.isfinite(x).all() for x in (loss, valid_loss or 0, *arrays.values())):
                raise _diverged(number, settings)
            epoch = Epoch(
                epoch=number,
                loss=loss,
                perplexity=perplexity(loss),
                valid_loss=valid_loss,
                valid_perplexity=None if valid_loss is None else perplexity(valid_loss),
                tokens=len(losses) * settings.batch_size * settings.num_steps,
                seconds=seconds,
                backend=setup.place.backend,
                sample=predictions(setup)[0] if number % SAMPLE_EVERY == 0 else None,
            )
            yield Trained(epoch, arrays, losses)
            stop_if_interrupted()


def predictions(setup: Setup) -> list[str]:
    """Continuations of the chapter's two prefixes.

    If the vocabulary lacks letters of both, the beginning of the text is continued instead.
    """
    vocab = setup.text.vocab
    possible = [prefix for prefix in PREFIXES if set(prefix) <= set(vocab)]
    prefixes = [list(vocabulary.encode(prefix, vocab)) for prefix in possible]
    with np.errstate(all="ignore"):  # the training may be about to diverge
        outputs = [
            setup.backend.scratch.predict(setup.model, prefix, SAMPLE_LENGTH, decoding.greedy)
            for prefix in prefixes or [beginning(setup.text)]
        ]
    return [vocabulary.decode(tokens, vocab) for tokens in outputs]


def beginning(prepared: Prepared) -> list[int]:
    """The first tokens of the text, for use as a prefix."""
    return prepared.train[:10].tolist()


def _watched(
    batches: Iterable[minibatches.Minibatch],
    report: Report,
    stop_if_interrupted: Callable[[], None],
) -> Iterator[minibatches.Minibatch]:
    for X, Y in batches:
        yield X, Y
        report.minibatch(X, Y)
        stop_if_interrupted()


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    # Ctrl-C takes effect between minibatches. A KeyboardInterrupt raised elsewhere could be lost:
    # Python ignores exceptions in destructors, of which MXNet has many. A second Ctrl-C takes
    # effect immediately.
    interrupts: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(number)

    def stop_if_interrupted() -> None:
        if interrupts:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield stop_if_interrupted  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield stop_if_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _diverged(epoch: int, settings: Settings) -> Diverged:
    clipping = (
        "clip the gradients (omit --no-clip)"
        if settings.theta is None
        else f"a smaller --theta than {settings.theta:g}"
    )
    return Diverged(
        f"The loss is not finite in epoch {epoch}: training has diverged and stops.\n"
        f"Try a smaller --lr than {settings.lr:g}, {clipping}, or a smaller --sigma than "
        f"{settings.sigma:g}."
    )


def perplexity(loss: float) -> float | None:
    """exp(loss), or None if that is too large for a float."""
    return math.exp(loss) if loss < 700 else None
