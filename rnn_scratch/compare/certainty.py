"""How certain the times of a comparison are: unstable ones, and whether two comparisons differ."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

UNSTABLE = 0.1  # standard deviation of the processes' times, relative to their mean
SHARE = 0.01  # of the time, above which something is the likely reason
LEAST_CHANGE = 0.02  # smaller changes are not called changes, however certain they are
MOST_CHANCE = 0.05  # with which equal candidates would be called different
SLOW_GOVERNORS = ("powersave", "ondemand", "conservative", "schedutil")

FASTER, SLOWER, EQUAL = "faster", "slower", "no measurable difference"
TOO_FEW = "too few processes to tell"


def coverage(number: int) -> float:
    """With which probability the median is between the lowest and the highest of this number.

    The median of all processes that might have been measured: each is above or below it with equal
    probability, so that all are on one side of it with a probability of 2 / 2**number.
    """
    return 1 - 2.0 ** (1 - number)


def deviation(times: Sequence[float]) -> float | None:
    """The standard deviation of these times relative to their mean, None of fewer than two."""
    return statistics.stdev(times) / statistics.fmean(times) if len(times) > 1 else None


def reason(conditions: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The likely reason for unstable times, and what to do, from what was observed meanwhile."""
    seconds = sum(each["seconds"] for each in conditions) or 1.0

    def share(name: str) -> float:
        known = [each[name] for each in conditions if each[name] is not None]
        return sum(known) / seconds

    if share("throttled") > SHARE:
        return (
            f"a limit on CPU time held it up for {share('throttled'):.0%} of the time. Raise the "
            "limit of the container or the job."
        )
    if share("stolen") > SHARE:
        return (
            f"the host of this virtual machine gave its cores to others for {share('stolen'):.0%} "
            "of the time. Use a machine of your own, or compare at another time."
        )
    if share("waited") > SHARE:
        return (
            f"it waited for a core for {share('waited'):.0%} of the time, because other processes "
            "had them all. End these, or use fewer threads."
        )
    governor = machine.get("governor")
    if governor in SLOW_GOVERNORS:
        return (
            f"the processor changes its frequency with the load (governor {governor}). Set the "
            "governor to performance."
        )
    if machine.get("numa_nodes", 1) > 1:
        return (
            "the memory of this machine has several nodes, and processes move between them. Bind "
            "the comparison to one, as `numactl --cpunodebind 0 --membind 0` does."
        )
    return "no reason for it shows on this machine. More processes (--repeats) narrow the interval."


def chance(n: int, m: int) -> float:
    """With which probability n and m times of equal candidates do not overlap.

    All orders are equally likely then, and two of them have one group before the other: the exact
    test of Mann and Whitney.
    """
    return 2 / math.comb(n + m, n)


def verdict(before: Sequence[float], now: Sequence[float]) -> str:
    """Whether a speed has changed, from those of each process in two comparisons.

    It has if every process of one comparison is faster than every process of the other, and the
    medians differ by 2 % at least. With so few processes that equal candidates would often be
    separated like this, nothing can be said.
    """
    if not (before and now) or chance(len(before), len(now)) > MOST_CHANCE:
        return TOO_FEW
    change = statistics.median(now) / statistics.median(before)
    if min(now) > max(before) and change >= 1 + LEAST_CHANGE:
        return FASTER
    if max(now) < min(before) and change <= 1 - LEAST_CHANGE:
        return SLOWER
    return EQUAL
