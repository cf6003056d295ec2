"""What the child processes of a comparison do: check and train a candidate, or time it.

Both begin in the same way, so that what is timed is what was trained: the same starting values, the
same minibatches, the same number of threads. None, among their answers, only shows that they go on.
"""

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial

import numpy as np
from msgspec.structs import replace

from .. import registry
from ..check import inputs, runner
from ..check.machine import set_eager
from ..contract import CELLS, Batch, Model, Team, Tensor
from ..errors import RNNScratchError
from ..exact import digest
from ..runs import decoding, exchange, schedule, training
from ..runs.runtime import Runtime
from ..runs.setup import Setup, set_up
from ..settings import Settings, model_options, update_rule
from ..system import host
from ..text import books, minibatches
from .record import EpochResult, Plan, Ready, Round, Trial

STEADY, TURNS = 1.0, 3  # training is timed for this many seconds, and turns, at least
MINIBATCHES = 4  # of a turn: the first of the epoch
GENERATED = 100  # characters
Works = dict[str, Callable[[], Sequence[Tensor]]]  # by name; what is timed in turns
Chain = tuple[Tensor, list[Tensor]]  # a matrix, and those that it is multiplied with in turn


def train(
    team: Team | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    plan: Plan,
    check: bool,
) -> Iterator[Ready | EpochResult | Trial | None]:
    """Check a candidate and train it: yield where it runs, every epoch, and then the trial."""
    setup = set_up(settings, runtime, text)
    assert setup.runtime.threads is not None  # now it is the number in use
    yield Ready(
        device=setup.runtime.device,
        threads=setup.runtime.threads,
        machine=host.describe(),
        versions=setup.backend.machine.environment(),
    )
    comparisons = (yield from _check(setup)) if check else 0
    setup.backend.machine.set_tf32(plan.tf32)  # after the check, which is of exact arithmetic
    parameters = digest(setup.model.to_arrays(setup.model.params))
    for trained in training.epochs(setup):
        yield EpochResult(
            perplexity=trained.perplexity,
            held_out=trained.valid_perplexity,
            seconds=trained.seconds,
        )
        if plan.is_reached(trained.valid_perplexity):
            break
    yield Trial(
        seed=settings.seed,
        comparisons=comparisons,
        parameters=parameters,
        minibatches_seen=minibatches_seen(setup),
        samples=training.predictions(setup),
    )


def _check(setup: Setup) -> Generator[None, None, int]:
    # The number of comparisons; RNNScratchError if one failed.
    # Of the settings, because the model's own options may be what is wrong.
    runtime, V, H = setup.runtime, inputs.PLAIN.vocab_size, inputs.PLAIN.num_hiddens
    options = model_options(setup.settings, V, runtime.device)._replace(num_hiddens=H)
    rows = []
    for row in runner.check(
        runtime.backend,
        setup.backend,
        runtime.model,
        cases=[options],
        short=True,
        omit=[set_eager],  # which no comparison uses
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


def minibatches_seen(setup: Setup) -> str:
    """Return the digest of the minibatches of the first epoch, without masks, which are large."""
    settings = replace(setup.settings, dropout=0.0)
    batches = minibatches.epoch_batches(setup.dataset.train, settings, 1)
    return digest({"": np.array([(batch.X, batch.Y) for batch in batches])})


def measure(
    team: Team | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    plan: Plan,
    has_layer: bool,
) -> Iterator[Round | None]:
    """Time a candidate and, if it has one, in turns with it the framework's own layer."""
    start = time.perf_counter()
    registry.load(runtime.backend)
    importing = time.perf_counter() - start
    setup = set_up(settings, runtime, text, team=team)
    setup.backend.machine.set_tf32(plan.tf32)
    model, arrays = setup.model, setup.model.to_arrays(setup.model.params)
    batches, chains, large = _batches(setup), _chains(setup), _large(setup)
    train = partial(_updates, setup, model, batches)
    works: Works = {
        "minibatches": train,
        "products": partial(_multiply, setup, chains),
        "large": partial(_multiply, setup, [large]),
    }
    if team is not None:
        works["without_exchange"] = partial(_updates, setup, model, batches, alone=True)
    generate = partial(_generate, setup, model)
    with np.errstate(all="ignore"):  # a short training may diverge, and takes as long
        first = _seconds(setup, partial(_updates, setup, model, batches[:1]))
        times = yield from _in_turns(setup, works)
        _seconds(setup, generate)  # to warm up
        generation = [_seconds(setup, generate) / GENERATED for _ in range(TURNS)]
        memory = host.peak_memory()  # without the layer
        device_memory = setup.backend.machine.memory(setup.runtime.device)
        own_layer = []
        if has_layer:
            place = runtime.backend, setup.backend, "concise"
            layer = registry.build(*place, arrays, model.options, settings.optimizer)
            update_layer = partial(_updates, setup, layer, batches)
            pairs = yield from _in_turns(setup, {"layer": update_layer, "model": train})
            own_layer = [a / b for a, b in zip(pairs["layer"], pairs["model"])]
    assert setup.runtime.threads is not None  # now it is the number in use
    alone = times.get("without_exchange")
    yield Round(
        threads=setup.runtime.threads,
        importing=importing,
        parameters=digest(arrays),
        minibatches_seen=minibatches_seen(setup),
        first=first,
        minibatches=[seconds / len(batches) for seconds in times["minibatches"]],
        products=times["products"],
        operations=_operations(chains),
        peak=[_operations([large]) / seconds / 1e9 for seconds in times["large"]],
        without_exchange=alone and [seconds / len(batches) for seconds in alone],
        generation=generation,
        own_layer=own_layer,
        memory=memory,
        device_memory=device_memory,
    )
    if team is not None:
        setup.backend.workers.leave()


def _in_turns(setup: Setup, works: Works) -> Generator[None, None, dict[str, list[float]]]:
    # The seconds of each work, after a warm-up: TURNS turns, and STEADY seconds at least. Of
    # several workers, the first has the clock.
    for work in works.values():
        _seconds(setup, work)
    times: dict[str, list[float]] = {name: [] for name in works}
    start, turn, more = time.perf_counter(), 0, True
    while more:
        for name, work in works.items():
            times[name].append(_seconds(setup, work))
        yield None
        turn += 1
        more = turn < TURNS or time.perf_counter() - start < STEADY
        if setup.team is not None:
            more = bool(exchange.agree(setup.backend, setup.model.options, int(more), None)[0])
    return times


def _batches(setup: Setup) -> list[Batch]:
    # The first minibatches of training; of several workers, this one's rows.
    settings, tokens = setup.settings, setup.dataset.train
    total = schedule.updates(len(tokens), settings, settings.num_epochs)
    all_batches = minibatches.epoch_batches(tokens, settings, 1)
    all_batches = schedule.with_rates(all_batches, settings, 0, total)
    batches = list(itertools.islice(all_batches, MINIBATCHES))
    if setup.team is None:
        return batches
    rows = exchange.share(settings.batch_size, setup.team)
    return [exchange.rows_of(batch, rows) for batch in batches]


def _seconds(setup: Setup, work: Callable[[], Sequence[Tensor]]) -> float:
    # The results are held until the clock stops: a framework that computes asynchronously need
    # not finish what nobody waits for.
    synchronize, device = setup.backend.machine.synchronize, setup.runtime.device
    synchronize([], device)
    start = time.perf_counter()
    results = work()
    synchronize(results, device)
    return time.perf_counter() - start


def _updates(
    setup: Setup, model: Model, batches: Sequence[Batch], alone: bool = False
) -> Sequence[Tensor]:
    carry, how = minibatches.carries(setup.settings.sampling), update_rule(setup.settings)
    if setup.team is None or alone:
        _, state = setup.backend.scratch.train_epoch(model, batches, how, carry)
    else:
        _, state = exchange.train_epoch(setup.backend, model, batches, how, carry, None)
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
    rng, options = np.random.RandomState(0), setup.model.options
    values = rng.normal(0, shape[0] ** -0.5, shape).astype(options.dtype)
    return setup.backend.machine.tensor(values, options.device)


def _chains(setup: Setup) -> list[Chain]:
    """What a minibatch of training cannot do without, its limit: matrices that it multiplies.

    For each time step and layer the products of the cell in the forward pass, (B, H) @ (H, G*H) for
    G gates, and in the backward pass, (B, G*H) @ (G*H, H). For all time steps at once those of the
    output layer and of what goes into a layer from the one below, forward and backward. And the
    gradient of each of these weights, for all steps at once. One-hot vectors need none: their
    products are rows of the weights. An embedding needs those of its rows, one for each character,
    or of the minibatch's tokens if they are fewer.
    """
    options, tensor = setup.model.options, partial(_random, setup)
    B, T = setup.settings.batch_size, setup.settings.num_steps
    B //= setup.runtime.workers  # each has its share of the rows
    V, H, N = options.vocab_size, options.num_hiddens, options.embedding
    gates = CELLS[options.cell].products

    def layer(inputs: int, outputs: int, rows: int = T * B) -> list[Chain]:
        there_and_back = [tensor(inputs, outputs), tensor(outputs, inputs)]
        gradient = tensor(inputs, rows), [tensor(rows, outputs)]
        return [(tensor(rows, inputs), there_and_back), gradient]

    before, chain, chains = tensor(H, T * B), list[Tensor](), layer(H, V)
    for G in gates:
        W = tensor(H, G * H)
        chain += [W, tensor(G * H, H) if G > 1 else W]
        chains += [(before, [tensor(T * B, G * H)])] * options.num_layers
    chains.append((tensor(B, H), chain * T * options.num_layers))
    if N:
        chains += layer(N, sum(gates) * H, min(V, T * B))
    for _ in range(options.num_layers - 1):
        chains += layer(H, sum(gates) * H)
    return chains


def _generate(setup: Setup, model: Model) -> Sequence[Tensor]:
    # From one character, so that there are as many steps as characters.
    setup.backend.scratch.predict(model, [1], GENERATED, decoding.greedy)
    return []  # it returns plain numbers
