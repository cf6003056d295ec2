"""The training loop over epochs and minibatches."""

import itertools
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..contract import Arrays, Update
from ..errors import DivergenceError
from ..exact import digest
from ..parameters import trained_arrays
from ..system import signals
from ..text import minibatches, vocabulary
from . import decoding, schedule
from .events import EMPTY_EPOCH, Epoch, PartialEpoch, Progress, perplexity
from .setup import RunContext

SAMPLE_EVERY = 10  # interval between samples, in epochs
SAMPLE_LENGTH = 50  # length of a sample, in characters
CHUNK_SECONDS = 1.0  # approximate interval between progress reports in a long epoch


class Chunk(NamedTuple):
    """The training state after some of an epoch's minibatches."""

    partial: PartialEpoch  # the epoch's results so far
    arrays: Arrays  # parameters and optimizer state
    epoch: Epoch | None = None  # metrics, if the epoch is complete


def epochs(run: RunContext) -> Iterator[Epoch]:
    """Train all epochs from the start; yield each epoch's metrics."""
    with signals.deferred() as request:
        for chunk in train_in_chunks(run, 0, EMPTY_EPOCH, request):
            if isinstance(chunk, Chunk) and chunk.epoch is not None:
                yield chunk.epoch


def train_in_chunks(
    run: RunContext, last_epoch: int, partial: PartialEpoch, request: signals.Request
) -> Iterator[Progress | Chunk]:
    """Train for the epochs after `last_epoch`; `partial` contains the next epoch's results so far.

    Yields a `Progress` before and a `Chunk` after each chunk of minibatches. A chunk takes about a
    second or completes the epoch. Raises Stopped after a chunk if a signal was received, and
    DivergenceError if a loss or parameter is not finite. Ends after the epoch in which
    ``request.complete`` becomes true.
    """
    settings, text, model, machine = run.settings, run.dataset.train, run.model, run.backend.machine
    carry, device = minibatches.carries_state(settings.sampling), model.options.device
    num_trained = schedule.num_updates(len(text), settings, last_epoch) + len(partial.losses)
    updates, size = each_update(run, num_trained), 1
    start: tuple[float, float] | None = None  # position and time before the first minibatch
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        total = minibatches.count(len(text), settings, epoch)
        batches = minibatches.epoch_batches(text, settings, epoch, len(partial.losses))
        metrics = None
        while metrics is None:
            progress = _make_progress(run, epoch, total, partial, start)
            start = start or (progress.position, time.monotonic())
            yield progress
            count = min(size, total - len(partial.losses))
            if count:  # 0 if a checkpoint saved after an error contains the whole epoch
                tensors = tuple(machine.tensor(array, device) for array in partial.state)
                with np.errstate(all="ignore"):  # `_require_finite` reports overflows
                    start_time = time.perf_counter()
                    losses, state = run.backend.scratch.train_epoch(
                        model,
                        itertools.islice(batches, count),
                        itertools.islice(updates, count),
                        carry,
                        tensors or None,
                    )
                    slots = [slot for params in model.slots.values() for slot in params.values()]
                    machine.synchronize([*state, *model.params.values(), *slots], device)
                    seconds = time.perf_counter() - start_time
                partial = PartialEpoch(
                    (*partial.losses, *losses),
                    tuple(machine.array(tensor).copy() for tensor in state) if carry else (),
                    partial.seconds + seconds,
                )
                size = max(1, int(CHUNK_SECONDS * count / seconds))
            arrays = trained_arrays(model)
            _require_finite(run, epoch, arrays, partial.losses[-1])
            if len(partial.losses) == total:
                metrics = _end_epoch(run, epoch, partial, arrays)
            yield Chunk(partial, arrays, metrics)
            number = request.number
            if run.group is not None:
                size, number = run.group.agree(size, request, digest(arrays))
            if number is not None:
                raise signals.Stopped(number)
        partial = EMPTY_EPOCH
        if request.complete:
            return


def each_update(run: RunContext, num_skipped: int) -> Iterator[Update]:
    """Yield updates endlessly, starting after the first `num_skipped` updates."""
    settings, total = run.settings, 0
    if settings.schedule != "constant":
        total = schedule.num_updates(len(run.dataset.train), settings, settings.num_epochs)
    return schedule.each_update(settings, num_skipped, total)


def sample(run: RunContext) -> str:
    """Return text that the model generates from the training text's first words."""
    vocab = run.dataset.vocab
    prefix = vocabulary.encode(run.dataset.beginning, vocab).tolist()
    with np.errstate(all="ignore"):  # logits may overflow before training diverges
        tokens = run.backend.scratch.predict(run.model, prefix, SAMPLE_LENGTH, decoding.greedy)
    return vocabulary.decode(tokens, vocab)


def _end_epoch(run: RunContext, epoch: int, partial: PartialEpoch, arrays: Arrays) -> Epoch:
    """Evaluate the model on any held-out text, and return a complete epoch's metrics."""
    settings, model, losses = run.settings, run.model, partial.losses
    loss, valid_loss = sum(losses) / len(losses), None
    if len(run.dataset.valid):
        held_out = minibatches.evaluation_batches(run.dataset.valid, settings)
        with np.errstate(all="ignore"):
            total_loss, count = run.backend.scratch.evaluate(model, held_out)
            valid_loss = float(np.divide(total_loss, count))
    _require_finite(run, epoch, arrays, loss, valid_loss or 0)
    return Epoch(
        epoch=epoch,
        loss=loss,
        perplexity=perplexity(loss),
        valid_loss=valid_loss,
        valid_perplexity=None if valid_loss is None else perplexity(valid_loss),
        tokens=len(losses) * settings.batch_size * settings.num_steps,
        seconds=partial.seconds,
        backend=run.runtime.backend,
        sample=sample(run) if epoch % SAMPLE_EVERY == 0 else None,
    )


def _require_finite(run: RunContext, epoch: int, arrays: Arrays, *losses: float) -> None:
    if np.isfinite(losses).all() and all(np.isfinite(array).all() for array in arrays.values()):
        return
    if run.group is not None:
        run.group.is_running = False  # all workers diverge, so no abort is needed
    settings = run.settings
    names = [name for name in ("lr", "sigma", "theta", "weight_decay") if getattr(settings, name)]
    values = [f"`{name}` ({getattr(settings, name):g})" for name in names]
    clipping = "" if settings.theta else " Clip the gradients (omit `theta`)."
    raise DivergenceError(
        f"Training diverged in epoch {epoch}: the loss or a parameter is not finite.",
        f"Try a smaller {', '.join(values[:-1])} or {values[-1]}.{clipping}",
    )


def _make_progress(
    run: RunContext,
    epoch: int,
    total: int,
    partial: PartialEpoch,
    start: tuple[float, float] | None,
) -> Progress:
    """Return an epoch's progress; `start` is the session's start position (in epochs) and time."""
    settings, num_trained = run.settings, len(partial.losses)
    progress = Progress(
        epoch=epoch,
        total=total,
        num_trained=num_trained,
        loss=sum(partial.losses) / num_trained if num_trained else None,
        tokens=num_trained * settings.batch_size * settings.num_steps,
        seconds=partial.seconds,
    )
    position, start_time = start or (progress.position, 0.0)
    if progress.position > position:
        seconds_per_epoch = (time.monotonic() - start_time) / (progress.position - position)
        progress.seconds_left = (settings.num_epochs - progress.position) * seconds_per_epoch
    return progress
