"""The loop over epochs and minibatches."""

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..contract import Arrays, Batch, Model, State, Update
from ..errors import RNNScratchError
from ..exact import STATE_GRID
from ..parameters import trained_arrays
from ..settings import Settings
from ..system import signals
from ..text import minibatches, vocabulary
from . import decoding, exchange, schedule
from .events import EMPTY_EPOCH, Epoch, PartialEpoch, Progress, perplexity
from .setup import RunContext

SAMPLE_EVERY = 10  # epochs
SAMPLE_LENGTH = 50  # characters
CHUNK_SECONDS = 1.0  # approximate interval between progress reports in a long epoch
PREFIXES = ("time traveller", "traveller")


class DivergenceError(RNNScratchError):
    """The divergence of a training run: the loss or a parameter is not finite."""

    exit_code = 1


class Chunk(NamedTuple):
    """The state of training after some minibatches of an epoch."""

    incomplete: PartialEpoch  # all trained minibatches of the epoch
    arrays: Arrays  # parameters and optimizer state
    epoch: Epoch | None = None  # metrics, if the epoch is complete


def epochs(setup: RunContext) -> Iterator[Epoch]:
    """Train all epochs from the start; yield the metrics of each epoch."""
    with signals.deferred() as request:
        for chunk in train_in_chunks(setup, 0, EMPTY_EPOCH, request):
            if isinstance(chunk, Chunk) and chunk.epoch is not None:
                yield chunk.epoch


def train_in_chunks(
    setup: RunContext, last_epoch: int, incomplete: PartialEpoch, request: signals.Request
) -> Iterator[Progress | Chunk]:
    """Train the epochs after `last_epoch`; `incomplete` is the trained part of the next epoch.

    Yields a `Progress` before and a `Chunk` after each chunk of minibatches. A chunk takes about a
    second or completes the epoch. Raises Stopped after a chunk if a signal was received, and
    DivergenceError if a loss or parameter is not finite. Ends after an epoch with
    ``request.complete``.
    """
    settings, text = setup.settings, setup.dataset.train
    last_epoch, incomplete = _common_start(setup, last_epoch, incomplete)
    arrays, size = trained_arrays(setup.model), 1
    num_trained = schedule.num_updates(len(text), settings, last_epoch) + len(incomplete.losses)
    updates = each_update(setup, num_trained)
    start_position, start_time = None, time.monotonic()
    for epoch in range(last_epoch + 1, settings.num_epochs + 1):
        total = minibatches.count(len(text), settings, epoch)
        batches = minibatches.epoch_batches(text, settings, epoch, len(incomplete.losses))
        while len(incomplete.losses) < total:
            progress = _progress(settings, epoch, total, incomplete)
            if start_position is None:
                start_position = progress.position
            elif advance := progress.position - start_position:
                remaining = settings.num_epochs - progress.position
                progress.seconds_left = remaining * (time.monotonic() - start_time) / advance
            yield progress
            previous, chunk_batches = incomplete, itertools.islice(batches, size)
            incomplete = _train_chunk(setup, chunk_batches, updates, previous)
            arrays = trained_arrays(setup.model)
            count = len(incomplete.losses) - len(previous.losses)
            size = max(1, int(CHUNK_SECONDS * count / (incomplete.seconds - previous.seconds)))
            if len(incomplete.losses) < total:
                _require_finite(settings, epoch, arrays, incomplete.losses[-1])
                yield Chunk(incomplete, arrays)
                size = _agreed_size(setup, size, request)
        yield Chunk(incomplete, arrays, _end_epoch(setup, epoch, incomplete, arrays))
        incomplete = EMPTY_EPOCH
        size = _agreed_size(setup, size, request)
        if not size:
            return


def train_epoch(
    setup: RunContext,
    model: Model,
    batches: Iterable[Batch],
    updates: Iterable[Update],
    state: State | None = None,
) -> tuple[list[float], State]:
    """Train on minibatches like the backend's `train_epoch`; return all losses and the last state.

    Several workers average their gradients. In exact mode, the state is rounded after each update,
    and ``setup.watch``, if set, is then called with the state.
    """
    backend, exact, is_alone = setup.backend, setup.settings.exact, len(setup.group.addresses) == 1
    carry = minibatches.carries_state(setup.settings.sampling)
    if is_alone and not exact:
        return backend.scratch.train_epoch(model, batches, updates, carry, state)
    module = backend.scratch if is_alone else backend.workers
    train = module.train_minibatch if is_alone else module.train_minibatch_distributed
    losses, device = [], model.options.device
    for batch, update in zip(batches, updates):
        if state is None or not carry:
            state = model.state(len(batch.X))
        loss, state = train(model, batch.map(backend.machine.tensor, device), state, update)
        if exact:
            state = tuple(backend.exact.round_to_grid(tensor, STATE_GRID) for tensor in state)
        if setup.watch is not None:
            setup.watch(state)
        losses.append(loss)
    assert state is not None
    return [float(loss) for loss in losses], state


def each_update(setup: RunContext, num_skipped: int) -> Iterator[Update]:
    """Yield the updates after the first `num_skipped` updates, endlessly.

    If the model variant has its own version of the optimizer, the updates name this version.
    """
    settings, total = setup.settings, 0
    if settings.schedule != "constant":
        total = schedule.num_updates(len(setup.dataset.train), settings, settings.num_epochs)
    name = f"{setup.runtime.model} {settings.optimizer}"
    has_optimizer = name in setup.backend.scratch.OPTIMIZERS and not settings.exact
    for update in schedule.each_update(settings, num_skipped, total):
        yield update._replace(optimizer=name) if has_optimizer else update


def predictions(setup: RunContext) -> list[str]:
    """Return the text generated after each of the chapter's prefixes that can be encoded.

    If the vocabulary can encode neither prefix, its most frequent character is used instead.
    """
    vocab = setup.dataset.vocab
    texts = [prefix for prefix in PREFIXES if set(prefix) <= set(vocab)]
    prefixes = [vocabulary.encode(prefix, vocab).tolist() for prefix in texts]
    with np.errstate(all="ignore"):  # logits may overflow before training diverges
        outputs = [
            setup.backend.scratch.predict(setup.model, prefix, SAMPLE_LENGTH, decoding.greedy)
            for prefix in prefixes or [[1]]
        ]
    return [vocabulary.decode(tokens, vocab) for tokens in outputs]


def _common_start(
    setup: RunContext, last_epoch: int, incomplete: PartialEpoch
) -> tuple[int, PartialEpoch]:
    # Return worker 0's last epoch, and the completed part of its next epoch. Only worker 0 needs
    # the losses; the other workers get zeros.
    group, backend, options = setup.group, setup.backend, setup.model.options
    counts = last_epoch, len(incomplete.losses), len(incomplete.state)
    epoch, num_losses, size = exchange.all_gather_integers(group, backend, options, *counts)[0]
    if group.rank > 0:
        zeros = np.zeros((setup.settings.batch_size, options.num_hiddens), options.dtype)
        incomplete = PartialEpoch((0.0,) * num_losses, (zeros,) * size)
    state = exchange.all_gather(group, backend, options.device, incomplete.state)
    return epoch, incomplete._replace(state=tuple(arrays[0] for arrays in state))


def _train_chunk(
    setup: RunContext, batches: Iterable[Batch], updates: Iterator[Update], incomplete: PartialEpoch
) -> PartialEpoch:
    # Train on this worker's rows of the minibatches that follow `incomplete` in the same epoch.
    model, machine, device = setup.model, setup.backend.machine, setup.model.options.device
    rows = exchange.share(setup.settings.batch_size, setup.group)
    batches = (exchange.select_batch_rows(batch, rows) for batch in batches)
    start_state = tuple(machine.tensor(array[rows], device) for array in incomplete.state) or None
    with np.errstate(all="ignore"):  # `_require_finite` reports an overflow
        start = time.perf_counter()
        losses, state = train_epoch(setup, model, batches, updates, start_state)
        slots = [slot for tensors in model.slots.values() for slot in tensors.values()]
        machine.synchronize([*state, *model.params.values(), *slots], device)
        seconds = time.perf_counter() - start
    carried_state = state if minibatches.carries_state(setup.settings.sampling) else ()
    arrays = [machine.array(tensor).copy() for tensor in carried_state]
    joined_state = exchange.join_rows(setup.group, setup.backend, device, arrays)
    return PartialEpoch((*incomplete.losses, *losses), joined_state, incomplete.seconds + seconds)


def _agreed_size(setup: RunContext, size: int, request: signals.Request) -> int:
    # Return the size of the next chunk, equal in all workers, or 0 if worker 0 stops early. Raise
    # Stopped if any worker received a signal.
    size = 0 if request.complete else size
    options = setup.model.options
    size, signal = exchange.agree(setup.group, setup.backend, options, size, request.number)
    if signal is not None:
        raise signals.Stopped(signal)
    return size


def _end_epoch(setup: RunContext, epoch: int, incomplete: PartialEpoch, arrays: Arrays) -> Epoch:
    # Evaluate the model on the held-out text, and return the metrics of a complete epoch.
    settings, model, losses = setup.settings, setup.model, incomplete.losses
    loss, valid_loss = sum(losses) / len(losses), None
    exchange.require_equal(setup.group, setup.backend, model.options, epoch, arrays)
    reports = setup.group.rank == 0
    if len(setup.dataset.valid) and reports:
        held_out = minibatches.evaluation_batches(setup.dataset.valid, settings)
        with np.errstate(all="ignore"):
            total_loss, count = setup.backend.scratch.evaluate(model, held_out)
            valid_loss = float(np.divide(total_loss, count))
    _require_finite(settings, epoch, arrays, loss, valid_loss or 0)
    return Epoch(
        epoch=epoch,
        loss=loss,
        perplexity=perplexity(loss),
        valid_loss=valid_loss,
        valid_perplexity=None if valid_loss is None else perplexity(valid_loss),
        tokens=len(losses) * settings.batch_size * settings.num_steps,
        seconds=incomplete.seconds,
        backend=setup.runtime.backend,
        sample=predictions(setup)[0] if epoch % SAMPLE_EVERY == 0 and reports else None,
    )


def _require_finite(settings: Settings, epoch: int, arrays: Arrays, *losses: float) -> None:
    if np.isfinite(losses).all() and all(np.isfinite(array).all() for array in arrays.values()):
        return
    names = [name for name in ("lr", "sigma", "theta", "weight_decay") if getattr(settings, name)]
    values = [f"`{name}` ({getattr(settings, name):g})" for name in names]
    clipping = "" if settings.theta else " Clip the gradients (omit `theta`)."
    raise DivergenceError(
        f"Training diverged in epoch {epoch}: the loss or a parameter is not finite.",
        f"Try a smaller {', '.join(values[:-1])} or {values[-1]}.{clipping}",
    )


def _progress(settings: Settings, epoch: int, total: int, incomplete: PartialEpoch) -> Progress:
    num_trained = len(incomplete.losses)
    return Progress(
        epoch=epoch,
        total=total,
        num_trained=num_trained,
        loss=sum(incomplete.losses) / num_trained if num_trained else None,
        tokens=num_trained * settings.batch_size * settings.num_steps,
        seconds=incomplete.seconds,
    )
