"""The training loop over epochs; minibatches are trained by the backend's `train_epoch`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..contract import Arrays, Batch, UpdateRule
from ..errors import DivergenceError
from ..exact import digest
from ..parameters import trained_arrays
from ..system import signals
from ..text import minibatches, vocabulary
from ..workers import WorkerGroup
from . import decoding, schedule
from .events import EMPTY_EPOCH, Epoch, PartialEpoch, Progress, perplexity
from .setup import RunContext

# After each of the first epochs, and then after every tenth, a sample shows what is learned.
NUM_FIRST_SAMPLES, SAMPLE_EVERY = 5, 10
SAMPLE_LENGTH = 50  # length of a sample, in characters
REPORT_SECONDS = 1.0  # interval between progress reports in a long epoch
# Interval at which the loop waits for computations: some frameworks return before they finish, and
# a long queue would delay reports and stop requests.
SYNC_SECONDS = 0.1


@dataclass(frozen=True)
class Snapshot:
    """The training state after some of an epoch's minibatches."""

    partial: PartialEpoch  # the epoch's results so far
    arrays: Arrays  # parameters and optimizer state
    epoch: Epoch | None = None  # metrics, if the epoch is complete


def epochs(run: RunContext) -> Iterator[Epoch]:
    """Train all epochs from the start; yield each epoch's metrics."""
    with signals.deferred() as request:
        for snapshot in train(run, 0, EMPTY_EPOCH, request):
            if isinstance(snapshot, Snapshot) and snapshot.epoch is not None:
                yield snapshot.epoch


def train(
    run: RunContext, last_epoch: int, partial: PartialEpoch, request: signals.StopRequest
) -> Iterator[Progress | Snapshot]:
    """Train for the epochs after `last_epoch`; `partial` contains the next epoch's results so far.

    Yields a `Progress` and then a `Snapshot` about once a second and in each epoch. Raises Stopped
    after a minibatch if a signal was received, and DivergenceError if a loss or parameter is not
    finite. Ends after the epoch in which ``request.complete`` becomes true.
    """
    settings, text = run.settings, run.dataset.train
    start: tuple[float, float] | None = None  # position and time before the first minibatch
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        total = minibatches.count(len(text), settings, epoch)
        metrics = None
        while metrics is None:
            progress = _make_progress(run, epoch, total, partial, start)
            start = start or (progress.position, time.monotonic())
            yield progress
            if len(partial.losses) < total:  # else, a checkpoint contains the whole epoch
                partial = _train_part(run, epoch, partial, request)
            arrays = trained_arrays(run.model)
            _require_finite(run, epoch, arrays, partial.losses[-1])
            if len(partial.losses) == total:
                metrics = _end_epoch(run, epoch, partial, arrays)
            yield Snapshot(partial, arrays, metrics)
            number = request.number
            if run.group is not None:
                number = run.group.synchronize(request, digest(arrays))
            if number is not None:
                raise signals.Stopped(number)
        partial = EMPTY_EPOCH
        if request.complete:
            return


def _train_part(
    run: RunContext, epoch: int, partial: PartialEpoch, request: signals.StopRequest
) -> PartialEpoch:
    """Train until the epoch is complete, or a report or stop is due; return the epoch's results."""
    settings, text, model, machine = run.settings, run.dataset.train, run.model, run.backend.machine
    carry, device = minibatches.carries_state(settings.sampling), model.options.device
    # Count the losses, because `train_epoch` may read more than it trains.
    num_trained = len(partial.losses)
    batches = minibatches.epoch_batches(text, settings, epoch, num_trained)
    updates = each_update(run, schedule.num_updates(len(text), settings, epoch - 1) + num_trained)
    tensors = tuple(machine.tensor(array, device) for array in partial.state)

    def wait() -> None:
        slots = [tensor for slot in model.slots.values() for tensor in slot.values()]
        machine.synchronize([*model.params.values(), *slots], device)

    stream = each_batch(batches, wait, lambda: request.number is not None, run.group)
    with np.errstate(all="ignore"):  # `_require_finite` reports overflows
        start_time = time.perf_counter()
        losses, state = run.backend.scratch.train_epoch(
            model, stream, updates, carry, tensors or None
        )
        wait()
        machine.synchronize(state, device)
        seconds = time.perf_counter() - start_time
    return PartialEpoch(
        (*partial.losses, *losses),
        tuple(machine.array(tensor).copy() for tensor in state) if carry else (),
        partial.seconds + seconds,
    )


def each_batch(
    batches: Iterator[Batch],
    wait: Callable[[], None],
    is_stopped: Callable[[], bool],
    group: WorkerGroup | None = None,
) -> Iterator[Batch]:
    """Yield minibatches until a report is due or training should stop, but at least one.

    `wait` waits for computations. Workers exchange with the gradients whether the stream should
    end, so that it ends after the same minibatch in all of them.
    """
    start = last_sync = time.monotonic()
    for batch in batches:
        yield batch
        if time.monotonic() - last_sync >= SYNC_SECONDS:
            wait()
            last_sync = time.monotonic()
        is_due = is_stopped() or time.monotonic() - start >= REPORT_SECONDS
        if group is not None:
            group.wants_end, is_due = is_due, group.should_end
        if is_due:
            return


def each_update(run: RunContext, num_skipped: int) -> Iterator[UpdateRule]:
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
        sample=sample(run) if epoch <= NUM_FIRST_SAMPLES or epoch % SAMPLE_EVERY == 0 else None,
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
