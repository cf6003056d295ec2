"""What the child processes of a comparison do that measure the times of a candidate."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from .. import registry
from ..contract import CELLS, Batch, Model, Team, Tensor
from ..exact import digest
from ..runs import decoding, exchange, schedule
from ..runs.runtime import Runtime
from ..runs.setup import Setup
from ..settings import Settings, update_rule
from ..system import host
from ..text import books, minibatches
from .record import Failure, Plan, Round
from .tasks import catch_failures, minibatches_seen

STEADY, TURNS = 1.0, 3  # training is timed for this many seconds, and turns, at least
MINIBATCHES = 4  # of a turn: the first of the epoch
GENERATED = 100  # characters
Chain = tuple[Tensor, list[Tensor]]  # a matrix, and those that it is multiplied with in turn


def measure(
    rank: int,
    addresses: list[str],
    settings: Settings,
    runtime: Runtime,
    text: books.Text,
    plan: Plan,
    own_layer: bool,
) -> Iterator[Round | Failure | None]:
    """Time a candidate, and in turns with it the framework's own layer.

    Each of several workers does, with its rank and the addresses of all. A failure is the last
    answer. None only shows that timing advances.
    """
    team = Team(rank, tuple(addresses)) if addresses else None
    return catch_failures(settings, runtime, text, team, partial(_measure, plan, own_layer))


def _measure(plan: Plan, own_layer: bool, setup: Setup, importing: float) -> Iterator[Round | None]:
    setup.backend.machine.set_tf32(plan.tf32)
    model, arrays = setup.model, setup.model.to_arrays(setup.model.params)
    settings, tokens = setup.settings, setup.dataset.train
    total = schedule.updates(len(tokens), settings, settings.num_epochs)
    all_batches = minibatches.epoch_batches(tokens, settings, 1)
    all_batches = schedule.with_rates(all_batches, settings, 0, total)
    batches = list(itertools.islice(all_batches, MINIBATCHES))
    if setup.team is not None:
        rows = exchange.share(setup.settings.batch_size, setup.team)
        batches = [batch.rows(rows) for batch in batches]
    assert setup.runtime.threads is not None
    seconds, updates = partial(_seconds, setup), partial(_updates, setup, model, batches)
    chains, large = _chains(setup), _large(setup)
    works: dict[str, Callable[[], Sequence[Tensor]]] = {
        "minibatches": updates,
        "products": partial(_multiply, setup, chains),
        "large": partial(_multiply, setup, [large]),
    }
    if setup.team is not None:
        works["without_exchange"] = partial(updates, workers=1)
    generate = partial(_generate, setup, model)
    times: dict[str, list[float]] = {name: [] for name in works}
    with np.errstate(all="ignore"):  # a short training may diverge, and takes as long
        first = seconds(partial(_updates, setup, model, batches[:1]))
        for work in works.values():  # to warm up
            seconds(work)
        seconds(generate)
        for _ in _turns(setup):
            for name, work in works.items():
                number = len(batches) if name in ("minibatches", "without_exchange") else 1
                times[name].append(seconds(work) / number)
            yield None
        result = Round(
            threads=setup.runtime.threads,
            importing=importing,
            parameters=digest(arrays),
            minibatches_seen=minibatches_seen(setup),
            first=first,
            minibatches=times["minibatches"],
            products=times["products"],
            operations=_operations(chains),
            peak=[_operations([large]) / seconds / 1e9 for seconds in times["large"]],
            without_exchange=times.get("without_exchange"),
            generation=[seconds(generate) / GENERATED for _ in range(TURNS)],
            memory=host.peak_memory(),
            device_memory=setup.backend.machine.memory(setup.runtime.device),
        )
        if own_layer:
            own = setup.runtime.backend, setup.backend, "concise", arrays, model.options
            layer = registry.build(*own, settings.optimizer)
            of_layer = partial(_updates, setup, layer, batches)
            seconds(of_layer)  # to warm up
            for _ in _turns(setup):
                result.own_layer.append(seconds(of_layer) / seconds(updates))
                yield None
    yield result
    if setup.team is not None:
        setup.backend.workers.leave()


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
    setup: Setup, model: Model, batches: Sequence[Batch], workers: int | None = None
) -> Sequence[Tensor]:
    # With all workers, or with this number of them.
    carry = minibatches.carries(setup.settings.sampling)
    how = update_rule(setup.settings, workers or setup.runtime.workers)
    _, state = setup.backend.scratch.train_epoch(model, batches, how, carry)
    return [*state, *model.params.values()]


def _multiply(setup: Setup, chains: Sequence[Chain]) -> Sequence[Tensor]:
    return [setup.backend.machine.multiply(left, matrices) for left, matrices in chains]


def _operations(chains: Sequence[Chain]) -> int:
    # Of floating-point numbers: a multiplication and an addition for each product of two.
    pairs = [(left, W) for left, matrices in chains for W in matrices]
    return sum(2 * left.shape[0] * math.prod(W.shape) for left, W in pairs)


def _large(setup: Setup) -> Chain:
    # Two products, so that a matrix that is laid out for several is laid out once. A GPU, which is
    # a device that says how much memory it has taken, needs larger ones to be busy.
    size = 1024 if setup.backend.machine.memory(setup.model.options.device) is None else 8192
    W = _random(setup, size, size)
    return W, [W, W]


def _random(setup: Setup, *shape: int) -> Tensor:
    random, options = np.random.RandomState(0), setup.model.options
    values = random.normal(0, shape[0] ** -0.5, shape).astype(options.dtype)
    return setup.backend.machine.tensor(values, options.device)


def _chains(setup: Setup) -> list[Chain]:
    """What a minibatch of training cannot do without, its limit: matrices that it multiplies.

    For each time step and layer the products of the cell in the forward pass, (B, H) @ (H, G*H) for
    G gates, and in the backward pass, (B, G*H) @ (G*H, H). For all time steps at once those of the
    output layer, of what goes into a layer from the one below and, if there is one, of the
    embedding's layer, forward and backward. And the gradient of each of these weights, for all
    steps at once. One-hot vectors need none: their products are rows of the weights.
    """
    options, tensor = setup.model.options, partial(_random, setup)
    B, T = setup.settings.batch_size, setup.settings.num_steps
    B //= setup.runtime.workers  # each has its share of the rows
    V, H, N = options.vocab_size, options.num_hiddens, options.embedding
    gates = CELLS[options.cell].products

    def layer(inputs: int, outputs: int) -> list[Chain]:
        there_and_back = [tensor(inputs, outputs), tensor(outputs, inputs)]
        gradient = tensor(inputs, T * B), [tensor(T * B, outputs)]
        return [(tensor(T * B, inputs), there_and_back), gradient]

    before, chain, chains = tensor(H, T * B), list[Tensor](), layer(H, V)
    for G in gates:
        W = tensor(H, G * H)
        chain += [W, tensor(G * H, H) if G > 1 else W]
        chains += [(before, [tensor(T * B, G * H)])] * options.num_layers
    chains.append((tensor(B, H), chain * T * options.num_layers))
    for size in ([N] if N else []) + [H] * (options.num_layers - 1):
        chains += layer(size, sum(gates) * H)
    return chains


def _generate(setup: Setup, model: Model) -> Sequence[Tensor]:
    # From one character, so that there are as many steps as characters.
    setup.backend.scratch.predict(model, [1], GENERATED, decoding.greedy)
    return []  # it returns plain numbers
