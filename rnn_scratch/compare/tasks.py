"""The task of a comparison's child processes: prepare a candidate, then measure it on request."""

import ctypes
import itertools
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..check import draws, runner
from ..contract import Batch, Tensor
from ..errors import RNNScratchError
from ..settings import Settings, model_options
from ..system import processes
from ..text import books, minibatches
from ..training import decoding, loop
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run
from .record import CandidateEnvironment, EpochResult

TRAINING_SECONDS, GENERATION_SECONDS = 0.15, 0.05  # approximate durations per turn
NUM_MINIBATCHES = 4  # number of distinct minibatches, taken from the start of an epoch
NUM_GENERATED = 20  # number of characters per generated text


def run_benchmark(
    runtime: Runtime, settings: Settings, text: books.Text
) -> Iterator[dict[str, Any]]:
    """Start, check and train a candidate; then measure its speed at each parent request.

    Each result maps `Candidate` fields to values or, for lists, to new items.
    """
    if sys.platform == "linux":
        # A suspended process cannot notice that its parent was killed, so let the kernel kill it.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    start = time.perf_counter()
    registry.load(runtime.backend)
    import_seconds = time.perf_counter() - start
    context = prepare_run(settings, runtime, text)
    in_use, versions = context.runtime, context.backend.machine.versions()
    environment = CandidateEnvironment(in_use.device, in_use.threads or 1, versions)
    yield {"environment": environment, "import_seconds": import_seconds}
    all_batches = minibatches.epoch_batches(context.dataset.train, settings, 1)
    train = partial(_train, context, list(itertools.islice(all_batches, NUM_MINIBATCHES)))
    generate = partial(_generate, context)
    with np.errstate(all="ignore"):  # divergence does not affect timings
        yield {"first_minibatch_seconds": _measure_seconds(context, partial(train, 1))}
        size = settings.batch_size * settings.num_steps
        training_speed = _make_speedometer(context, train, size, TRAINING_SECONDS)
        generation_speed = _make_speedometer(context, generate, NUM_GENERATED, GENERATION_SECONDS)
        yield {"memory": peak_memory()}
        yield {"checks_passed": _check(context)}
        new_context = prepare_run(settings, runtime, text)
        for epoch in loop.epochs(new_context):
            yield {"epochs": EpochResult(epoch.epoch, epoch.perplexity, epoch.valid_perplexity)}
        yield {"sample": loop.sample(new_context).strip()}
        for turn in itertools.count():
            processes.wait_for_request()
            speeds = {"training_speeds": training_speed()}
            if turn % 4 == 0:  # generation speed needs fewer measurements
                speeds["generation_speeds"] = generation_speed()
            yield speeds


def _check(context: RunContext) -> int:
    """Return the number of comparisons with the reference; raise RNNScratchError if one fails."""
    runtime = context.runtime
    options = model_options(context.settings, 11, runtime.device)._replace(num_hiddens=13)
    rows = list(runner.check(context.backend, runtime.variant, cases=[draws.CaseSpec(options)]))
    for row in rows:
        if not row.passed:
            raise RNNScratchError(f"the check failed: {row.function} {row.output} in {row.case}")
    return len(rows)


def read_memory(file: str, field: str) -> int | None:
    """Return a size in bytes from a /proc file, or None if unavailable."""
    path = Path("/proc", file)
    kilobytes = re.search(rf"{field}:\s*(\d+) kB", path.read_text() if path.exists() else "")
    return 1024 * int(kilobytes[1]) if kilobytes else None


peak_memory = partial(read_memory, "self/status", "VmHWM")  # this process's peak memory
available_memory = partial(read_memory, "meminfo", "MemAvailable")  # available to new processes


def _make_speedometer(
    context: RunContext, workload: Callable[[int], Sequence[Tensor]], size: int, seconds: float
) -> Callable[[], float]:
    """Warm up a workload and return a function that measures its speed for about `seconds`."""
    unit_seconds = min(_measure_seconds(context, partial(workload, 1)) for _ in range(3))
    count = max(1, round(seconds / unit_seconds))  # number of repetitions, `size` characters each

    def measure() -> float:
        _measure_seconds(context, partial(workload, 1))  # refills caches after other turns
        speed = count * size / _measure_seconds(context, partial(workload, count))
        return float(f"{speed:.6g}")

    measure()
    return measure


def _measure_seconds(context: RunContext, workload: Callable[[], Sequence[Tensor]]) -> float:
    """Time a workload, keeping its results so that the framework cannot skip unused work."""
    synchronize, device = context.backend.machine.synchronize, context.runtime.device
    synchronize([], device)
    start = time.perf_counter()
    results = workload()
    synchronize(results, device)
    return time.perf_counter() - start


def _train(context: RunContext, batches: Sequence[Batch], count: int) -> Sequence[Tensor]:
    repeated_batches = itertools.islice(itertools.cycle(batches), count)
    updates = itertools.islice(loop.each_update(context, 0), count)
    carry = minibatches.carries_state(context.settings.sampling)
    _, state = context.backend.scratch.train_epoch(context.model, repeated_batches, updates, carry)
    return [*state, *context.model.params.values()]


def _generate(context: RunContext, count: int) -> Sequence[Tensor]:
    """Generate text from a single character so that every step generates a new character."""
    num_preds = count * NUM_GENERATED
    context.backend.scratch.predict(context.model, [1], num_preds, decoding.greedy)
    return []  # `predict` leaves no unfinished work
