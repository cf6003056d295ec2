"""Training, epoch by epoch."""

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..contract import Arrays, Batch
from ..errors import RNNScratchError
from ..parameters import trained_arrays
from ..settings import Settings, update_rule
from ..system import signals
from ..text import minibatches, vocabulary
from . import decoding, exchange, schedule
from .checkpoint import NOTHING, Incomplete
from .events import Message, Progress
from .run_folder import Epoch
from .setup import Setup

SAMPLE_EVERY = 10  # epochs
SAMPLE_LENGTH = 50  # characters
PART = 1.0  # seconds, about, after which a long epoch reports its progress
PREFIXES = ("time traveller", "traveller")


class Diverged(RNNScratchError):  # noqa: N818 - a result, not an error of the command
    """The training has diverged: the loss or a parameter is not finite."""

    exit_code = 1


class Chunk(NamedTuple):
    """Minibatches that have been trained: what there is of an epoch after them."""

    incomplete: Incomplete  # of the epoch, from its start
    arrays: Arrays  # all that training changes
    epoch: Epoch | None = None  # at the end of the epoch


def epochs(setup: Setup) -> Iterator[Epoch]:
    """Train all epochs from the start; yield each."""
    with signals.deferred() as request:
        for chunk in train_in_chunks(setup, 0, NOTHING, request):
            if isinstance(chunk, Chunk) and chunk.epoch is not None:
                yield chunk.epoch


def train_in_chunks(
    setup: Setup, last: int, incomplete: Incomplete, request: signals.Request
) -> Iterator[Progress | Message | Chunk]:
    """Train the epochs after epoch `last`, of which `incomplete` has been trained already.

    Yields the progress before each chunk of minibatches and the chunk after it: at the end of an
    epoch, about every second within a long one, and when a signal asks for a stop. Raises
    Stopped after a signal; and Diverged, with what to try instead. Ends after an epoch that the
    request says is enough.
    """
    settings, size = setup.settings, 1
    begin: tuple[float, float] | None = None  # the first position, in epochs, and its time
    arrays, text = trained_arrays(setup.model), setup.dataset.train
    start = arrays if settings.exact and not last and not incomplete.losses else None
    if setup.team is not None:
        last, incomplete = _same_start(setup, setup.team.rank, last, incomplete)
    # The number of updates before this epoch, and of all, where they matter.
    first = schedule.updates(len(text), settings, last) if schedule.numbered(settings) else 0
    varies = settings.schedule != "constant"
    updates = schedule.updates(len(text), settings, settings.num_epochs) if varies else 0
    for number in range(last + 1, settings.num_epochs + 1):
        total, done = minibatches.count(len(text), settings, number), len(incomplete.losses)
        batches = minibatches.epoch_batches(text, settings, number, done)
        batches = schedule.with_rates(batches, settings, first + done, updates)
        while len(incomplete.losses) < total:
            progress = _progress(settings, number, total, incomplete, begin)
            begin = begin or (progress.position, time.monotonic())
            yield progress
            some = _until_stopped(itertools.islice(batches, size), setup, request)
            earlier, incomplete = incomplete, _train(setup, some, incomplete)
            arrays = trained_arrays(setup.model)
            # Waiting for results takes time, so a part has as many minibatches as fit in a second.
            seconds = incomplete.seconds - earlier.seconds
            if seconds < PART / 2:
                size = min(2 * size, total)
            elif seconds > PART:
                size = max(1, size // 2)
            if len(incomplete.losses) < total:
                _require_finite(settings, number, arrays, incomplete.losses[-1])
                yield Chunk(incomplete, arrays)
                size = _stop_or_go_on(setup, size, request)
        yield Chunk(incomplete, arrays, _end(setup, number, incomplete, arrays))
        names = setup.model.options.shapes()
        if start and all(np.array_equal(start[name], arrays[name]) for name in names):
            what = "no step is as large as half of exact mode's grid. Use a larger `--lr`."
            yield Message(text=f"No parameter has changed in epoch {number}: {what}")
        start = None
        size = _stop_or_go_on(setup, size, request)
        if not size:
            return
        incomplete, first = NOTHING, first + total


def _same_start(
    setup: Setup, rank: int, last: int, incomplete: Incomplete
) -> tuple[int, Incomplete]:
    # The epoch after which the first worker goes on, and what it has trained of the next one. The
    # losses, which only the first worker needs, are zeros in the others.
    backend, options = setup.backend, setup.model.options
    counts = last, len(incomplete.losses), len(incomplete.state)
    last, done, states = exchange.numbers(backend, options, *counts)[0]
    if rank > 0:
        incomplete = Incomplete((0.0,) * done)
    if states:
        shape = setup.settings.batch_size, options.num_hiddens
        state = incomplete.state or (np.zeros(shape, options.dtype),) * states
        first = exchange.of_the_first(backend, setup.runtime.device, state)
        incomplete = incomplete._replace(state=first)
    return last, incomplete


def _progress(
    settings: Settings,
    epoch: int,
    total: int,
    incomplete: Incomplete,
    begin: tuple[float, float] | None,
) -> Progress:
    done, seconds = len(incomplete.losses), incomplete.seconds
    mean = sum(incomplete.losses) / done if done else None
    tokens = done * settings.batch_size * settings.num_steps
    progress = Progress(
        epoch=epoch, total=total, done=done, loss=mean, tokens=tokens, seconds=seconds
    )
    if begin is not None and progress.position > begin[0]:
        pace = (time.monotonic() - begin[1]) / (progress.position - begin[0])  # s per epoch
        progress.left = (settings.num_epochs - progress.position) * pace
    return progress


def _stop_or_go_on(setup: Setup, size: int, request: signals.Request) -> int:
    # Raise Stopped if a signal asks for it: several workers stop at the same place, and train the
    # same number of minibatches next, or none if the first worker has trained enough.
    if request.enough:
        size = 0
    if setup.team is None:
        request.check()
    else:
        size, number = exchange.agree(setup.backend, setup.model.options, size, request.number)
        if number is not None:
            raise signals.Stopped(number)
    return size


def _train(setup: Setup, batches: Iterable[Batch], before: Incomplete) -> Incomplete:
    # Train minibatches after others of the same epoch: a worker its own rows of each.
    settings, model, device = setup.settings, setup.model, setup.runtime.device
    scratch, machine = setup.backend.scratch, setup.backend.machine
    how = update_rule(settings)
    carry = minibatches.carries(settings.sampling)
    states = before.state
    if setup.team is not None:
        rows = exchange.share(settings.batch_size, setup.team)
        batches = (exchange.rows_of(batch, rows) for batch in batches)
        states = tuple(array[rows] for array in states)
    state = tuple(machine.tensor(array, device) for array in states) or None
    with np.errstate(all="ignore"):  # an overflow is reported elsewhere
        start = time.perf_counter()
        if setup.team is None:
            losses, state = scratch.train_epoch(model, batches, how, carry, state)
        else:
            losses, state = exchange.train_epoch(setup.backend, model, batches, how, carry, state)
        slots = [slot for tensors in model.slots.values() for slot in tensors.values()]
        machine.synchronize([*(state or ()), *model.params.values(), *slots], device)
        seconds = time.perf_counter() - start
    arrays = tuple(machine.array(tensor).copy() for tensor in state or ()) if carry else ()
    if setup.team is not None and arrays:
        arrays = exchange.join_rows(setup.backend, device, arrays)
    return Incomplete((*before.losses, *losses), arrays, before.seconds + seconds)


def _end(setup: Setup, number: int, incomplete: Incomplete, arrays: Arrays) -> Epoch:
    # The result of a complete epoch, with its evaluation on the held-out text.
    settings, model, losses = setup.settings, setup.model, incomplete.losses
    loss, valid_loss = sum(losses) / len(losses), None
    if setup.team is not None:
        exchange.require_equal(setup.backend, model.options, number, arrays)
    reports = setup.team is None or setup.team.rank == 0  # what only one of the workers does
    if len(setup.dataset.valid) and reports:
        held_out = minibatches.whole(setup.dataset.valid, settings)
        with np.errstate(all="ignore"):
            evaluated = setup.backend.deep.evaluate(model, held_out)
            valid_loss = float(np.divide(*evaluated))
    _require_finite(settings, number, arrays, loss, valid_loss or 0)
    return Epoch(
        epoch=number,
        loss=loss,
        perplexity=perplexity(loss),
        valid_loss=valid_loss,
        valid_perplexity=None if valid_loss is None else perplexity(valid_loss),
        tokens=len(losses) * settings.batch_size * settings.num_steps,
        seconds=incomplete.seconds,
        backend=setup.runtime.backend,
        sample=predictions(setup)[0] if number % SAMPLE_EVERY == 0 and reports else None,
    )


def predictions(setup: Setup) -> list[str]:
    """Return continuations of the chapter's two prefixes.

    If the vocabulary lacks letters of both, its most frequent character is continued instead.
    """
    vocab = setup.dataset.vocab
    possible = [prefix for prefix in PREFIXES if set(prefix) <= set(vocab)]
    prefixes = [vocabulary.encode(prefix, vocab).tolist() for prefix in possible]
    with np.errstate(all="ignore"):  # the training may be about to diverge
        outputs = [
            setup.backend.scratch.predict(setup.model, prefix, SAMPLE_LENGTH, decoding.greedy)
            for prefix in prefixes or [[1]]
        ]
    return [vocabulary.decode(tokens, vocab) for tokens in outputs]


def _until_stopped(
    batches: Iterable[Batch], setup: Setup, request: signals.Request
) -> Iterator[Batch]:
    # Ends early, after a minibatch, when a signal asks for a stop. One of several workers goes on,
    # as the others do, who know nothing of it.
    for batch in batches:
        yield batch
        if request.number is not None and setup.team is None:
            return


def _require_finite(settings: Settings, epoch: int, arrays: Arrays, *losses: float) -> None:
    if np.isfinite(losses).all() and all(np.isfinite(array).all() for array in arrays.values()):
        return
    clipping = (
        "clip the gradients (omit `--theta none`)"
        if settings.theta is None
        else f"a smaller `--theta` than {settings.theta:g}"
    )
    decay = f" `--weight-decay` than {settings.weight_decay:g}, or" if settings.weight_decay else ""
    raise Diverged(
        f"The loss is not finite in epoch {epoch}: training has diverged and stops.",
        f"Try a smaller `--lr` than {settings.lr:g}, {clipping}, or a smaller{decay} `--sigma` "
        f"than {settings.sigma:g}.",
    )


def perplexity(loss: float) -> float | None:
    """Return exp(loss), or None if that is too large for a float."""
    return math.exp(loss) if loss < 700 else None
