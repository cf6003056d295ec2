"""The tasks of a comparison's child processes: check and train a candidate, or time it.

Both tasks use the same initial parameters, minibatches and number of threads for all candidates.
An answer of None is a heartbeat.
"""

import itertools
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .. import registry
from ..check import draws, runner
from ..contract import CELLS, Batch, Tensor, WorkerGroup
from ..errors import RNNScratchError
from ..settings import Settings, model_options
from ..system import host
from ..text import books, minibatches
from ..training import decoding
from ..training import loop as training
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from .record import EpochResult, Plan, Ready, Round, Trial

MIN_SECONDS, MIN_TURNS = 1.0, 3  # minimum duration in seconds, and minimum number of turns
NUM_MINIBATCHES = 4  # number of timed minibatches per turn, from the start of an epoch
NUM_GENERATED = 100  # characters
Workloads = dict[str, Callable[[], Sequence[Tensor]]]  # functions to time, by name
Chain = tuple[Tensor, list[Tensor]]  # a matrix, and the matrices by which to multiply it in turn


def train(
    group: WorkerGroup | None,
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    plan: Plan,
    check: bool,
) -> Iterator[Ready | EpochResult | Trial | None]:
    """Check and train a candidate; yield its environment, each epoch's result, and the trial."""
    setup = prepare_run(settings, runtime, text)
    yield Ready(
        device=setup.runtime.device,
        threads=setup.runtime.threads or 1,
        machine=host.describe(),
        versions=setup.backend.machine.versions(),
    )
    checks_passed = (yield from _check(setup)) if check else 0
    for epoch in training.epochs(setup):
        yield EpochResult(
            perplexity=epoch.perplexity,
            held_out=epoch.valid_perplexity,
            seconds=epoch.seconds,
        )
        if plan.is_reached(epoch.valid_perplexity):
            break
    yield Trial(
        seed=settings.seed,
        checks_passed=checks_passed,
        samples=[training.sample(setup)],
    )


def _check(setup: RunContext) -> Generator[None, None, int]:
    # Return the number of comparisons with the NumPy backend; raise RNNScratchError if any fails.
    runtime = setup.runtime
    options = model_options(setup.settings, 11, runtime.device)._replace(num_hiddens=13)
    rows = []
    for row in runner.check(
        runtime.backend,
        setup.backend,
        runtime.model,
        cases=[draws.Draw(options)],
    ):
        rows.append(row)
        yield None
    failures = [f"{row.function} {row.output} in {row.case}" for row in rows if not row.passed]
    if failures:
        raise RNNScratchError(
            f"the check failed in {len(failures)} of {len(rows)} comparisons; the first: "
            f"{failures[0]}"
        )
    return len(rows)


def measure(
    group: WorkerGroup | None, runtime: Runtime, settings: Settings, text: books.Text
) -> Iterator[Round | None]:
    """Time a candidate: training on minibatches, their matrix products, and text generation."""
    start = time.perf_counter()
    registry.load(runtime.backend)
    import_seconds = time.perf_counter() - start
    setup = prepare_run(settings, runtime, text)
    all_batches = minibatches.epoch_batches(setup.dataset.train, settings, 1)
    batches, chains = list(itertools.islice(all_batches, NUM_MINIBATCHES)), _chains(setup)
    workloads: Workloads = {
        "minibatches": partial(_updates, setup, batches),
        "products": partial(_multiply, setup, chains),
    }
    generate = partial(_generate, setup)
    with np.errstate(all="ignore"):  # divergence does not affect the time
        first = _seconds(setup, partial(_updates, setup, batches[:1]))
        durations = yield from _in_turns(setup, workloads)
        _seconds(setup, generate)  # warm-up
        generation = [_seconds(setup, generate) / NUM_GENERATED for _ in range(MIN_TURNS)]
    yield Round(
        threads=setup.runtime.threads or 1,
        import_seconds=import_seconds,
        first_minibatch=first,
        minibatches=[seconds / len(batches) for seconds in durations["minibatches"]],
        products=durations["products"],
        generation=generation,
        memory=peak_memory(),
        device_memory=setup.backend.machine.peak_memory(setup.runtime.device),
    )


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system is not Linux."""
    status = Path("/proc/self/status")
    kilobytes = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    return 1024 * int(kilobytes[1]) if kilobytes else None


def _in_turns(
    setup: RunContext, workloads: Workloads
) -> Generator[None, None, dict[str, list[float]]]:
    # Time the workloads alternately, after a warm-up; return seconds by workload and turn.
    for workload in workloads.values():
        _seconds(setup, workload)
    durations: dict[str, list[float]] = {name: [] for name in workloads}
    start, turn = time.perf_counter(), 0
    while turn < MIN_TURNS or time.perf_counter() - start < MIN_SECONDS:
        for name, workload in workloads.items():
            durations[name].append(_seconds(setup, workload))
        yield None
        turn += 1
    return durations


def _seconds(setup: RunContext, workload: Callable[[], Sequence[Tensor]]) -> float:
    # Keep the results until the clock stops: an asynchronous framework could skip unused work.
    synchronize, device = setup.backend.machine.synchronize, setup.runtime.device
    synchronize([], device)
    start = time.perf_counter()
    results = workload()
    synchronize(results, device)
    return time.perf_counter() - start


def _updates(setup: RunContext, batches: Sequence[Batch]) -> Sequence[Tensor]:
    updates = training.each_update(setup, 0)
    _, state = training.train_epoch(setup, setup.model, batches, updates)
    return [*state, *setup.model.params.values()]


def _multiply(setup: RunContext, chains: Sequence[Chain]) -> Sequence[Tensor]:
    return [setup.backend.machine.chain_matmul(matrix, factors) for matrix, factors in chains]


def _random(setup: RunContext, *shape: int) -> Tensor:
    rng, options = np.random.RandomState(0), setup.model.options
    values = rng.normal(0, shape[0] ** -0.5, shape).astype(options.dtype)
    return setup.backend.machine.tensor(values, options.device)


def _chains(setup: RunContext) -> list[Chain]:
    """Return the matrix products of training on a minibatch; the products' time is a lower bound.

    For each time step and layer, the cell multiplies (B, H) @ (H, G*H) in the forward pass and
    (B, G*H) @ (G*H, H) in the backward pass, for G gates. Other products combine all time steps:
    the forward and backward products of the output layer and of a layer's inputs from the previous
    layer, and the gradients of all weights. One-hot vectors select rows of weights, without a
    product. Products with an embedding have V rows or, if a minibatch has fewer tokens, T*B rows.
    """
    options, tensor = setup.model.options, partial(_random, setup)
    B, T = setup.settings.batch_size, setup.settings.num_steps
    V, H, N = options.vocab_size, options.num_hiddens, options.embedding
    gates = CELLS[options.cell].products

    def layer(inputs: int, outputs: int, rows: int = T * B) -> list[Chain]:
        forward_and_backward = [tensor(inputs, outputs), tensor(outputs, inputs)]
        gradient = tensor(inputs, rows), [tensor(rows, outputs)]
        return [(tensor(rows, inputs), forward_and_backward), gradient]

    inputs_of_steps, chain, chains = tensor(H, T * B), list[Tensor](), layer(H, V)
    for G in gates:
        W = tensor(H, G * H)
        chain += [W, tensor(G * H, H) if G > 1 else W]
        chains += [(inputs_of_steps, [tensor(T * B, G * H)])] * options.num_layers
    chains.append((tensor(B, H), chain * T * options.num_layers))
    if N:
        chains += layer(N, sum(gates) * H, min(V, T * B))
    for _ in range(options.num_layers - 1):
        chains += layer(H, sum(gates) * H)
    return chains


def _generate(setup: RunContext) -> Sequence[Tensor]:
    # Start from a single character, so that every step generates a character.
    setup.backend.scratch.predict(setup.model, [1], NUM_GENERATED, decoding.greedy)
    return []  # `predict` has waited for all tokens
