"""What the child processes of a comparison do: one trains a candidate, one measures its times.

Both begin in the same way, so that what is timed is what was trained: the same starting values,
the same minibatches, the same number of threads.
"""

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from .. import registry
from ..check import functions, inputs, machine
from ..contract import Arrays, Batch, Model, RNNScratchError, Team, Tensor
from ..exact import digest
from ..registry import NotOffered
from ..runs import decoding, training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings, model_options, update_rule
from ..system import host, processes
from ..system.records import Record
from ..text import corpus, minibatches
from ..workers import exchange
from . import limit
from .record import Epoch, Failure, Plan, Ready, Round, Training

STEADY, TURNS = 1.0, 3  # training is timed for this many seconds, and turns, at least
MINIBATCHES = 4  # of a turn: the first of the epoch
GENERATED = 100  # characters


Part = TypeVar("Part")


class Task(Record):
    """What a child does."""

    settings: Settings
    runtime: Runtime
    text: corpus.Text
    plan: Plan
    check: bool = False  # check the model before it is trained
    own_layer: bool = False  # time it in turns with the framework's own layer, too


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


def train(task: Task) -> Iterator[Ready | Epoch | Training | Failure | None]:
    """Check and train a candidate: where it runs, then each epoch, then the training run.

    A failure is the last answer. None only shows that the check advances.
    """
    return _or_failure(task, None, _train)


def measure(rank: int, addresses: list[str], task: Task) -> Iterator[Round | Failure | None]:
    """Time a candidate: a round and, with the framework's own layer, once more the whole round.

    Each of several workers does, with its rank and the addresses of all. A failure is the last
    answer. None only shows that timing advances.
    """
    return _or_failure(task, Team(rank, tuple(addresses)) if addresses else None, _measure)


def _or_failure(
    task: Task, team: Team | None, work: Callable[[Task, Setup, float], Iterator[Part]]
) -> Iterator[Part | Failure]:
    # What the work answers, given the setup and the seconds of the import.
    kind: Literal["failed", "not started"] = "not started"
    try:
        start = time.perf_counter()
        registry.load(task.runtime.backend)
        importing = time.perf_counter() - start
        setup = set_up(task.settings, task.runtime, task.text, team=team)
        kind = "failed"
        yield from work(task, setup, importing)
    except NotOffered as error:
        yield Failure(processes.one_line(str(error).splitlines()[0]), "not offered")
    except RNNScratchError as error:
        yield Failure(processes.one_line(str(error)), kind)


def _train(task: Task, setup: Setup, importing: float) -> Iterator[Ready | Epoch | Training | None]:
    assert setup.runtime.threads is not None  # now it is the number in use
    yield Ready(
        device=setup.runtime.device,
        threads=setup.runtime.threads,
        machine=host.describe(),
        versions=setup.backend.machine.environment(),
    )
    comparisons = (yield from _check(task, setup)) if task.check else 0
    setup.backend.machine.set_tf32(task.plan.tf32)  # after the check, which is of exact arithmetic
    parameters = digest(setup.model.to_arrays(setup.model.params))
    batches_digest = Digest()
    for trained, losses in training.epochs(setup, batches_digest):
        epoch = Epoch(
            perplexity=math.exp(min(sum(losses) / len(losses), 700)),
            held_out=trained.valid_perplexity,
            seconds=trained.seconds,
            losses=losses if task.settings.dtype == "float64" else [],
        )
        yield epoch
        if task.plan.is_reached(epoch):
            break
    yield Training(
        seed=task.settings.seed,
        comparisons=comparisons,
        parameters=parameters,
        minibatches_seen=str(batches_digest),
        samples=training.predictions(setup),
    )


def _check(task: Task, setup: Setup) -> Generator[None, None, int]:
    # The number of comparisons; RNNScratchError if one failed.
    # Of the settings, because the model's own options may be what is wrong.
    V, H = inputs.PLAIN.vocab_size, inputs.PLAIN.num_hiddens
    options = model_options(task.settings, V, setup.runtime.device)._replace(num_hiddens=H)
    rows = []
    for row in functions.check(
        task.runtime.backend,
        setup.backend,
        task.runtime.model,
        cases=[options],
        short=True,
        omit=[machine.set_eager],  # which no comparison uses
    ):
        rows.append(row)
        yield None
    failures = [f"{row.piece} {row.result} in {row.case}" for row in rows if not row.passed]
    if failures:
        raise RNNScratchError(
            f"its check failed in {len(failures)} of {len(rows)} comparisons; the first: "
            f"{failures[0]}"
        )
    return len(rows)


def _measure(task: Task, setup: Setup, importing: float) -> Iterator[Round | None]:
    setup.backend.machine.set_tf32(task.plan.tf32)
    arrays = setup.model.to_arrays(setup.model.params)
    batches = list(minibatches.of_epoch(setup.text.train, setup.settings, 1))
    batches_digest = Digest()
    for batch in batches:
        batches_digest.minibatch(batch)
    batches = batches[:MINIBATCHES]
    if setup.team is not None:
        rows = exchange.share(setup.settings.batch_size, setup.team)
        batches = [batch.rows(rows) for batch in batches]
    assert setup.runtime.threads is not None
    about = partial(
        Round,
        threads=setup.runtime.threads,
        importing=importing,
        parameters=digest(arrays),
        minibatches_seen=str(batches_digest),
    )
    with np.errstate(all="ignore"):  # a short training may diverge, and takes as long
        result = yield from _alone(setup, batches, about)
        yield result
        if task.own_layer:
            yield from _with_own_layer(setup, batches, arrays, result)
            yield result
    if setup.team is not None:
        setup.backend.workers.leave()


def _alone(
    setup: Setup, batches: list[Batch], about: Callable[..., Round]
) -> Generator[None, None, Round]:
    # A round without the own layer.
    seconds, model = partial(_seconds, setup), setup.model
    works: dict[str, Callable[[], Sequence[Tensor]]] = {
        "minibatches": partial(_updates, setup, model, batches),
        "products": limit.products(setup),
        "generation": partial(_generate, setup, model),
    }
    if setup.team is not None:
        works["without_exchange"] = partial(_updates, setup, model, batches, workers=1)
    first = seconds(partial(_updates, setup, model, batches[:1]))
    for work in works.values():  # to warm up
        seconds(work)
    generate = works.pop("generation")
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in _turns(setup):
        for name, work in works.items():
            number = 1 if name == "products" else len(batches)
            times[name].append(seconds(work) / number)
        yield None
    return about(
        first=first,
        **times,
        generation=[seconds(generate) / GENERATED for _ in range(TURNS)],
        memory=host.peak_memory(),
        device_memory=setup.backend.machine.memory(setup.runtime.device),
    )


def _with_own_layer(
    setup: Setup, batches: list[Batch], arrays: Arrays, result: Round
) -> Iterator[None]:
    # Adds what is timed in turns to the round.
    seconds = partial(_seconds, setup)
    layer = registry.build(
        setup.runtime.backend, setup.backend, "concise", arrays, setup.model.options
    )
    of_layer, of_model = (
        partial(_updates, setup, model, batches) for model in (layer, setup.model)
    )
    seconds(of_layer)  # to warm up
    for _ in _turns(setup):
        result.own_layer.append(seconds(of_layer) / seconds(of_model))
        yield None


def _turns(setup: Setup) -> Iterator[None]:
    # TURNS turns and STEADY seconds at least; of several workers, the first has the clock.
    start, turn, more = time.perf_counter(), 0, True
    while more:
        yield None
        turn += 1
        more = turn < TURNS or time.perf_counter() - start < STEADY
        if setup.team is not None:
            more = bool(exchange.agree(setup.backend, setup.model.options, int(more), None)[0])


def _seconds(setup: Setup, work: Callable[[], Sequence[Tensor]]) -> float:
    # The results are held until the clock stops: a framework that computes asynchronously need
    # not finish what nobody waits for.
    machine, device = setup.backend.machine, setup.runtime.device
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
    how = update_rule(setup.settings, workers or setup.runtime.workers)
    _, state = setup.backend.scratch.train_epoch(model, batches, how, carry)
    return [*state, *model.params.values()]


def _generate(setup: Setup, model: Model) -> Sequence[Tensor]:
    # From one character, so that there are as many steps as characters.
    prefix = training.beginning(setup.text)[:1]
    setup.backend.scratch.predict(model, prefix, GENERATED, decoding.greedy)
    return []  # it returns plain numbers
