"""Solutions to exercises on functions that no backend has, and tests on made-up inputs.

`grading` passes a student's function to its test, which draws new inputs and yields the mistakes.
"""

import random
import statistics
import time
import types
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

NUM_TESTS = 20  # drawn inputs for each function
CLOCK = [0.0]  # times in seconds that the simulated clock of `try_seconds` has shown


def best_run(histories):
    """Return the name of the run whose best epoch has the lowest held-out loss.

    `histories` maps names to lists of epochs. An epoch has a `loss` and a `valid_loss`.
    """
    return min(histories, key=lambda name: min(epoch.valid_loss for epoch in histories[name]))


def seconds(function, repeats=5):
    """Return the shortest of `repeats` call times in seconds, after one untimed call."""
    function()  # warm-up: compiles, and fills caches
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)


def try_best_run(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the mistake in a student's `best_run`, if any."""
    draw, tests = random.SystemRandom(), list[Mapping[str, Any]]()
    for _ in range(NUM_TESTS):
        names, epochs = draw.sample("abcdefghijklmnop", 6), range(draw.randint(3, 5))
        tests.append({name: [_draw_epoch(draw) for _ in epochs] for name in names})
    selected, expected = [*map(function, tests)], [*map(best_run, tests)]
    wrong = [pair for pair in zip(selected, expected) if pair[0] != pair[1]]
    for found, right in wrong[:1]:
        rules = [rule for rule, choose in WRONG_RULES.items() if selected == [*map(choose, tests)]]
        reason = f", the run with the {rules[0]}" if rules else ""
        problem = f"it returns {found!r}{reason}. Return {right!r}, the run with"
        yield f"{problem} the lowest held-out loss of any epoch"


def _draw_epoch(draw: random.Random) -> Any:
    return types.SimpleNamespace(loss=draw.uniform(1, 4), valid_loss=draw.uniform(1, 4))


def _lowest(measure: Callable[[Any], float]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that chooses the run whose epochs have the lowest measure."""
    return lambda histories: min(histories, key=lambda name: measure(histories[name]))


WRONG_RULES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "lowest loss of the training text": _lowest(lambda run: min(e.loss for e in run)),
    "lowest held-out loss of the last epoch": _lowest(lambda run: run[-1].valid_loss),
    "lowest held-out loss of the first epoch": _lowest(lambda run: run[0].valid_loss),
    "lowest mean of the held-out losses": _lowest(lambda run: sum(e.valid_loss for e in run)),
    "highest held-out loss": _lowest(lambda run: -max(e.valid_loss for e in run)),
    "lowest training loss of the last epoch": _lowest(lambda run: run[-1].loss),
    "smallest difference between the losses": _lowest(
        lambda run: min(abs(e.valid_loss - e.loss) for e in run)
    ),
    "last place in `histories`": lambda histories: [*histories][-1],
    "first place in `histories`": lambda histories: next(iter(histories)),
}


def try_seconds(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the mistakes in a student's `seconds`; `time.perf_counter` must return `CLOCK[-1]`."""
    draw = random.SystemRandom()
    for _ in range(NUM_TESTS):
        warmup, shortest, *longer = sorted(draw.sample(range(1, 100), draw.randint(5, 8)))
        draw.shuffle(longer)
        measured = [longer[0], shortest, *longer[1:]]
        durations, start = chain([warmup, *measured], repeat(warmup)), len(CLOCK)

        def simulate_call(durations: Iterator[int] = durations) -> None:
            CLOCK.append(CLOCK[-1] + next(durations))

        result = function(simulate_call, len(measured))
        num_calls, expected = len(CLOCK) - start, len(measured) + 1
        if num_calls != expected:
            problem = f"{num_calls} calls instead of {expected}"
            yield f"{problem}: one before the clock is read, and {expected - 1} with it"
        reasons: dict[float, str] = {
            warmup: "the first call, which should not be measured",
            sum(measured): "their sum",
            statistics.fmean(measured): "their mean",
            statistics.median(measured): "their median",
            max(measured): "the longest",
            1000 * shortest: "milliseconds",
            measured[0]: "the first: read the clock before each call",
            -max(measured): "the start minus the end",
        }
        if result != shortest:
            *others, last = map(str, measured)
            calls = f"a call of {warmup} s and then calls of {', '.join(others)} and {last} s"
            reason = reasons.get(result, "use `time.perf_counter`")
            yield f"{result!r} instead of {shortest}, for {calls}: {reason}"


# Tests, keyed by the function's name.
TESTS = {"best_run": try_best_run, "seconds": try_seconds}
