"""What the workers of a comparison do, each in a process of its own: one trains, one measures.

Both begin in the same way, so that what is timed is what was trained: the same starting values,
the same minibatches, the same number of threads.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from .. import registry
from ..check import functions, inputs, machine
from ..contract import Arrays, Batch, Model, RNNScratchError, Team, Tensor
from ..exact import digest
from ..registry import NotOffered
from ..runs import decoding, training
from ..runs.place import Place
from ..runs.setup import Setup, set_up
from ..settings import Settings, update_rule
from ..system import host, processes
from ..text import corpus, minibatches
from ..workers import exchange
from . import events, limit
from .events import Event

STEADY, TURNS = 1.0, 3  # training is timed for this many seconds, and turns, at least
MINIBATCHES = 4  # of a turn: the first of the epoch
GENERATED = 100  # characters


class Task(NamedTuple):
    """A worker's job; plain values, because it is sent as a JSON object with these names."""

    backend: str
    model: str
    device: str
    threads: int
    tf32: bool
    settings: dict[str, Any]
    text: dict[str, str]
    check: bool = False  # check the model before it is trained
    own_layer: bool = False  # time it in turns with the framework's own layer, too
    target: float | None = None  # held-out perplexity at which training ends
    workers: int = 1
    rank: int = 0  # of this worker
    addresses: Sequence[str] = ()  # of all, if there are several


class Digest(training.Report):
    """A digest of the minibatches that a backend takes."""

    def __init__(self) -> None:
        """Start without a minibatch."""
        self.sha256 = hashlib.sha256()

    def minibatch(self, batch: Batch) -> None:
        """Add one."""
        self.sha256.update(np.ascontiguousarray(batch, dtype="<i8").tobytes())

    def __str__(self) -> str:
        """Its first sixteen digits."""
        return self.sha256.hexdigest()[:16]


def train(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Carry out a `Task` of training: ``ready``, ``checked``, an ``epoch`` each, ``trained``.

    These are its events. An epoch has the loss of every minibatch. Ends early with ``not offered``
    where the backend lacks this variant, after ``checked`` where the check has failures, and with
    ``failed``. A ``comparison`` during the check only shows that it advances.
    """
    return _messages(_train, Task(**task))


def measure(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Carry out a `Task` of timing: ``ready``, ``turn`` repeatedly, ``timed``, ``own layer``.

    These are its events. Seconds: ``first``, of the first minibatch with its compilation;
    ``minibatches``, of one in the steady state, turn by turn; ``products``, of a minibatch's
    matrix products and nothing else, between them; ``generation``, of one character. Of several
    workers, these are the first one's, and ``without_exchange`` is the time of a minibatch in which
    each goes on by itself. Bytes at most: ``memory`` of the process, ``device_memory`` on the
    device. Digests, as in ``trained``: ``parameters`` at the start and ``minibatches seen``. ``own
    layer`` has pairs of such times, of this model and of the one on the framework's own layer,
    taken in turns: what slows the machine for a second slows both. Ends early with ``failed``.
    """
    return _messages(_measure, Task(**task))


def _messages(worker: Callable[[Task], Iterator[Event]], task: Task) -> Iterator[dict[str, Any]]:
    try:
        yield from map(events.message, worker(task))
    except RNNScratchError as error:
        yield events.message(events.Failed(str(error)))
    if not task.addresses:
        processes.end_at_once()


def _train(task: Task) -> Iterator[Event]:
    try:
        setup, ready = _start(task)
    except NotOffered as error:
        yield events.NotOffered(str(error).splitlines()[0])
        return
    yield ready
    if task.check:
        V, H = inputs.PLAIN.vocab_size, inputs.PLAIN.num_hiddens
        options = setup.model.options._replace(vocab_size=V, num_hiddens=H)
        rows = []
        for row in functions.check(
            task.backend,
            setup.backend,
            task.model,
            cases=[options],
            short=True,
            omit=[machine.set_eager],  # which no comparison uses
        ):
            rows.append(row)
            yield events.Comparison(len(rows))
        failures = [f"{row.piece} {row.result} in {row.case}" for row in rows if not row.passed]
        yield events.Checked(len(rows), failures)
        if failures:
            return
    setup.backend.machine.set_tf32(task.tf32)  # after the check, which is of exact arithmetic
    parameters = digest(setup.model.to_arrays(setup.model.params))
    batches_digest = Digest()
    reached = False
    for epoch, losses in training.epochs(setup, batches_digest):
        held_out = epoch.valid_perplexity
        yield events.Epoch(epoch.epoch, losses, held_out, epoch.seconds)
        reached = task.target is not None and held_out is not None and held_out <= task.target
        if reached:
            break
    yield events.Trained(parameters, str(batches_digest), training.predictions(setup), reached)


def _measure(task: Task) -> Iterator[Event]:
    setup, ready = _start(task)
    yield ready
    setup.backend.machine.set_tf32(task.tf32)
    arrays = setup.model.to_arrays(setup.model.params)
    batches = list(minibatches.of_epoch(setup.text.train, setup.settings, 1))
    batches_digest = Digest()
    for batch in batches:
        batches_digest.minibatch(batch)
    batches = batches[:MINIBATCHES]
    if setup.team is not None:
        rows = exchange.share(setup.settings.batch_size, setup.team)
        batches = [batch.rows(rows) for batch in batches]
    with np.errstate(all="ignore"):  # a short training may diverge, and takes as long
        yield from _alone(setup, batches, arrays, str(batches_digest))
        if task.own_layer:
            yield from _with_own_layer(setup, batches, arrays)
    if setup.team is not None:
        setup.backend.workers.leave()


def _alone(setup: Setup, batches: list[Batch], arrays: Arrays, seen: str) -> Iterator[Event]:
    seconds, model = partial(_seconds, setup), setup.model
    updates = partial(_updates, setup, model, batches)
    generate = partial(_generate, setup, model)
    by_itself = partial(_updates, setup, model, batches, workers=1)
    products = limit.products(setup)
    first = seconds(partial(_updates, setup, model, batches[:1]))
    works: list[Callable[[], Sequence[Tensor]]] = [updates, products, generate]
    if setup.team is not None:
        works.append(by_itself)
    for work in works:  # to warm up
        seconds(work)
    start, before = time.perf_counter(), host.waiting()
    times: list[float] = []
    parts: list[float] = []
    limits: list[float] = []
    for turn in _turns(setup):
        times.append(seconds(updates) / len(batches))
        if setup.team is not None:
            parts.append(seconds(by_itself) / len(batches))
        limits.append(seconds(products))
        yield events.Turn(turn)
    yield events.Timed(
        parameters=digest(arrays),
        minibatches_seen=seen,
        first=first,
        minibatches=times,
        without_exchange=parts or None,
        products=limits,
        generation=[seconds(generate) / GENERATED for _ in range(TURNS)],
        memory=host.peak_memory(),
        device_memory=setup.backend.machine.memory(setup.place.device),
        conditions=_conditions(start, before),
    )


def _conditions(start: float, before: dict[str, float | None]) -> events.Conditions:
    def since(name: str) -> float | None:
        then, now = before[name], host.waiting()[name]
        return None if then is None or now is None else max(0.0, now - then)

    return events.Conditions(
        seconds=time.perf_counter() - start,
        waited=since("waited"),
        stolen=since("stolen"),
        throttled=since("throttled"),
    )


def _with_own_layer(setup: Setup, batches: list[Batch], arrays: Arrays) -> Iterator[Event]:
    seconds = partial(_seconds, setup)
    layer = registry.build(
        setup.place.backend, setup.backend, "concise", arrays, setup.model.options
    )
    updates = [partial(_updates, setup, model, batches) for model in (setup.model, layer)]
    generations = [partial(_generate, setup, model) for model in (setup.model, layer)]
    for work in (updates[1], generations[1]):  # to warm up
        seconds(work)

    def pair(works: Sequence[Callable[[], Sequence[Tensor]]], number: int) -> events.Pair:
        of_model, of_layer = (seconds(work) / number for work in works)
        return {"model": of_model, "layer": of_layer}

    pairs: list[events.Pair] = []
    for turn in _turns(setup):
        pairs.append(pair(updates, len(batches)))
        yield events.Turn(turn)
    yield events.OwnLayer(pairs, [pair(generations, GENERATED) for _ in range(TURNS)])


def _start(task: Task) -> tuple[Setup, Event]:
    start = time.perf_counter()
    registry.load(task.backend)
    imported = time.perf_counter() - start
    setup = set_up(
        Settings(**task.settings),
        Place(task.backend, task.model, task.device, task.threads, workers=task.workers),
        corpus.Text(**task.text),
        team=Team(task.rank, tuple(task.addresses)) if task.addresses else None,
    )
    assert setup.place.threads is not None  # now it is the number in use
    pools = threadpoolctl.threadpool_info()
    return setup, events.Ready(
        importing=imported,
        device=setup.place.device,
        threads=setup.place.threads,
        libraries={pool["internal_api"]: pool["num_threads"] for pool in pools},
        machine=host.describe(),
        environment=setup.backend.machine.environment(),
    )


def _turns(setup: Setup) -> Iterator[int]:
    # Numbers from 1, for TURNS turns and STEADY seconds at least; of several workers, the first
    # has the clock.
    start, turn, more = time.perf_counter(), 0, True
    while more:
        turn += 1
        yield turn
        more = turn < TURNS or time.perf_counter() - start < STEADY
        if setup.team is not None:
            more = bool(exchange.agree(setup.backend, setup.model.options, int(more), None)[0])


def _seconds(setup: Setup, work: Callable[[], Sequence[Tensor]]) -> float:
    # The results are held until the clock stops: a framework that computes asynchronously need
    # not finish what nobody waits for.
    machine, device = setup.backend.machine, setup.place.device
    machine.synchronize([], device)
    start = time.perf_counter()
    results = work()
    machine.synchronize(results, device)
    return time.perf_counter() - start


def _updates(
    setup: Setup,
    model: Model,
    batches: Sequence[Batch],
    workers: int | None = None,
) -> Sequence[Tensor]:
    # With all workers, or with this number of them.
    carry = minibatches.carries(setup.settings.sampling)
    how = update_rule(setup.settings, workers or setup.place.workers)
    _, state = setup.backend.scratch.train_epoch(model, batches, how, carry)
    return [*state, *model.params.values()]


def _generate(setup: Setup, model: Model) -> Sequence[Tensor]:
    # From one character, so that there are as many steps as characters.
    prefix = training.beginning(setup.text)[:1]
    setup.backend.scratch.predict(model, prefix, GENERATED, decoding.greedy)
    return []  # it returns plain numbers
