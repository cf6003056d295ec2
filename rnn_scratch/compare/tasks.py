"""What the workers of a comparison do, each in a process of its own: one trains, one takes times.

Both begin in the same way, so that what is timed is what was trained: the same starting values,
the same minibatches, the same number of threads.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from .. import registry
from ..check import pieces
from ..contract import Backend, Model, RNNScratchError, Update
from ..exact import GRID, digest
from ..runs import decoding, sessions, training
from ..runs.sessions import Place
from ..settings import Settings
from ..system import host
from ..text import corpus, dataset, minibatches
from ..text.dataset import Prepared

Event = dict[str, Any]

STEADY, TURNS = 1.5, 5  # training is timed for so many seconds, and for so many epochs, at least
GENERATED = 200  # characters


class Task(NamedTuple):
    """What a worker is asked to do; plain values, as they go to it as JSON."""

    backend: str
    model: str
    device: str
    threads: int
    tf32: bool
    settings: dict[str, Any]
    text: list[str]
    check: bool = False  # hold the backend against the reference before it trains
    beside: bool = False  # take times in turns with the framework's own layer too


def train(*values: Any) -> Iterator[Event]:
    """Train as the settings say: events ``ready``, ``checked``, an ``epoch`` each, ``trained``.

    An epoch has the loss of every update. Ends early with ``not offered`` where the framework has
    no layer for a concise model, and after ``checked`` where something was off.
    """
    task = Task(*values)
    backend, place, ready = _ready(task)
    yield ready
    if task.check:
        used = (task.settings["activation"], task.settings["embedding"])
        rows = list(pieces.hold(backend, task.model, place.device, used))
        off = [" ".join((r.piece, r.result, "in", r.case)) for r in rows if not r.passed]
        yield {"event": "checked", "comparisons": len(rows), "off": off}
        if off:
            return
    settings, prepared = _prepared(task)
    try:
        network = _network(backend, place, settings, prepared)
    except RNNScratchError as error:
        if task.model != "concise":
            raise
        yield {"event": "not offered", "reason": str(error).splitlines()[0]}
        return
    start, seen = digest(network.to_arrays(network.params)), hashlib.sha256()
    how = Update(settings.lr, settings.theta, GRID if settings.exact else None)
    for number in range(1, settings.num_epochs + 1):
        losses, state = [], None
        for X, Y in _minibatches(prepared, settings, number):
            _see(seen, X, Y)
            if state is None or not minibatches.carries(settings.sampling):
                state = network.state(len(X), network.num_hiddens, network.options)
            tokens, targets = (backend.tensor(part, place.device) for part in (X, Y))
            with np.errstate(all="ignore"):  # a loss that overflows is told below, in words
                mean, state = backend.train_minibatch(network, tokens, targets, state, how)
            losses.append(mean)
        told = [float(backend.array(mean)) for mean in losses]
        if not all(map(math.isfinite, told)):
            raise RNNScratchError(f"training diverged in epoch {number}")
        yield {"event": "epoch", "epoch": number, "losses": told}
    yield {
        "event": "trained",
        "parameters": start,
        "minibatches seen": seen.hexdigest()[:16],
        "samples": training.predictions(backend, network, prepared.vocab, prepared.train),
    }


def take_times(*values: Any) -> Iterator[Event]:
    """Times of one process: events ``ready``, ``turn`` while it goes on, ``timed``, ``beside``.

    Seconds: ``first``, of the first minibatch, compilation and all; ``minibatches``, of one in the
    steady state, epoch by epoch; ``products``, of a minibatch's matrix products and nothing else,
    between them; ``generation``, of one character. Bytes at most: ``memory`` of the process,
    ``device_memory`` of the device's. Digests, as in ``trained``: ``parameters`` to start from,
    and ``minibatches seen``. ``beside`` has pairs of such times, of this model and of the one on
    the framework's own layer, taken in turns: what slows the machine for a second slows both.
    """
    task = Task(*values)
    backend, place, ready = _ready(task)
    yield ready
    settings, prepared = _prepared(task)
    network = _network(backend, place, settings, prepared)
    how = Update(settings.lr, settings.theta, GRID if settings.exact else None)
    carry = minibatches.carries(settings.sampling)
    batches, seen = list(_minibatches(prepared, settings, 1)), hashlib.sha256()
    for X, Y in batches:
        _see(seen, X, Y)
    start = digest(network.to_arrays(network.params))
    multiply = _products(backend, place.device, settings)

    def seconds(done: Any, times: int = 1) -> float:
        backend.synchronize(place.device)
        before = time.perf_counter()
        done()
        backend.synchronize(place.device)
        return (time.perf_counter() - before) / times

    def epoch(model: Model) -> None:
        backend.train_epoch(model, batches, how, carry)

    prefix = prepared.train[:10].tolist()
    steps = len(prefix) + GENERATED - 1

    def generate(model: Model) -> None:
        backend.predict(model, prefix, GENERATED, decoding.greedy)

    with np.errstate(all="ignore"):
        first = seconds(lambda: backend.train_epoch(network, batches[:1], how, carry))
        epoch(network)  # to warm up
        multiply()
        steady: list[float] = []
        products: list[float] = []
        begun = time.perf_counter()
        while len(steady) < TURNS or time.perf_counter() - begun < STEADY:
            steady.append(seconds(partial(epoch, network), len(batches)))
            products.append(seconds(multiply))
            yield {"event": "turn", "turn": len(steady)}
        generate(network)  # to warm up
        generation = [seconds(partial(generate, network), steps) for _ in range(TURNS)]
    yield {
        "event": "timed",
        "parameters": start,
        "minibatches seen": seen.hexdigest()[:16],
        "first": first,
        "minibatches": steady,
        "products": products,
        "generation": generation,
        "memory": host.peak_memory(),
        "device_memory": backend.memory(place.device),
    }
    if not task.beside:
        return
    layer = _network(backend, place._replace(model="concise"), settings, prepared)
    both = (network, layer)
    with np.errstate(all="ignore"):
        epoch(layer)  # to warm up
        generate(layer)
        pairs: list[list[float]] = []
        begun = time.perf_counter()
        while len(pairs) < TURNS or time.perf_counter() - begun < STEADY:
            pairs.append([seconds(partial(epoch, model), len(batches)) for model in both])
            yield {"event": "turn", "turn": len(steady) + len(pairs)}
        generations = [
            [seconds(partial(generate, model), steps) for model in both] for _ in range(TURNS)
        ]
    yield {"event": "beside", "minibatches": pairs, "generation": generations}


def _ready(task: Task) -> tuple[Backend, Place, Event]:
    start = time.perf_counter()
    registry.load(task.backend)
    imported = time.perf_counter() - start
    settings = Settings(**task.settings)
    place = Place(task.backend, task.model, task.device, task.threads)
    backend, place = sessions.ready(place, settings)
    backend.set_tf32(task.tf32)
    pools = {p["internal_api"]: p["num_threads"] for p in threadpoolctl.threadpool_info()}
    return backend, place, {
        "event": "ready",
        "import": imported,
        "device": place.device,
        "threads": place.threads,
        "libraries": pools,  # with the number of threads of each
        "machine": host.describe(),
        "environment": backend.environment(),
    }  # fmt: skip


def _prepared(task: Task) -> tuple[Settings, Prepared]:
    settings = Settings(**task.settings)
    return settings, dataset.prepare(corpus.Text(*task.text), settings)


def _network(backend: Backend, place: Place, settings: Settings, prepared: Prepared) -> Model:
    arrays = sessions.starting(prepared, settings)
    return sessions.build(backend, place, arrays, settings)


def _minibatches(
    prepared: Prepared, settings: Settings, epoch: int
) -> Iterator[minibatches.Minibatch]:
    return minibatches.of_epoch(
        prepared.train, settings.batch_size, settings.num_steps,
        settings.sampling, settings.seed, epoch,
    )  # fmt: skip


def _see(seen: Any, X: np.ndarray, Y: np.ndarray) -> None:
    # Of the very arrays that the backend is given: the same in every worker, or nothing is equal.
    seen.update(np.ascontiguousarray([X, Y], dtype="<i8").tobytes())


def _products(backend: Backend, device: str, settings: Settings) -> Any:
    # What training cannot do without, the matrix products with W_hh: for each time step one on
    # the way forward (B, H) @ (H, H) and one on the way back, and one (T*B, H) @ (H, H) for the
    # gradient of W_hh. The embedding and the output layer are left out: a twentieth of the work.
    chance = np.random.RandomState(0)
    B, T, H = settings.batch_size, settings.num_steps, settings.num_hiddens
    W, h, hs = (
        backend.tensor(chance.normal(0, H**-0.5, shape).astype(settings.dtype), device)
        for shape in ((H, H), (B, H), (T * B, H))
    )

    def multiply() -> None:
        backend.multiply(h, W, 2 * T)
        backend.multiply(hs, W, 1)

    return multiply
