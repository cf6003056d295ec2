"""How certain the times of a comparison are: unstable ones, and whether two comparisons differ."""

import math
import statistics
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Final, Literal

Verdict = Literal["faster", "slower", "no measurable difference", "too few processes to tell"]
FASTER: Final = "faster"
SLOWER: Final = "slower"
EQUAL: Final = "no measurable difference"
TOO_FEW: Final = "too few processes to tell"
UNSTABLE = 0.1  # standard deviation of the processes' times, relative to their mean
# Smaller changes are not called changes, however certain they are: two comparisons of unchanged
# code, made minutes apart, have differed by almost as much.
LEAST_CHANGE = 0.03
HIGHEST_P = 0.03  # with which equal candidates would be called different
MANY_TIMES = 20  # processes, above which an approximation is good enough

RULE = (
    "if a two-sided Mann-Whitney test of its processes in the two comparisons gives a p-value of "
    f"{HIGHEST_P:.0%} or less, and if the medians differ by {LEAST_CHANGE:.0%} or more"
)
YARDSTICK = (
    "Where versions and processor are the same, the test compares a candidate's shares of its own "
    "limit instead of its times, so that a machine that is merely slower today does not count. The "
    "candidate's times must not contradict the verdict."
)


def coverage(number: int) -> float:
    """With which probability the median is between the lowest and the highest of this number.

    The median of all processes that might have been measured: each is above or below it with equal
    probability, so that all are on one side of it with a probability of 2 / 2**number.
    """
    return 1 - 2.0 ** (1 - number)


def deviation(times: Sequence[float]) -> float | None:
    """The standard deviation of these times relative to their mean, None of fewer than two."""
    return statistics.stdev(times) / statistics.fmean(times) if len(times) > 1 else None


def p_value(n: int, m: int, exceptions: int = 0) -> float:
    """The probability that one of two equal candidates seems faster, with so few exceptions.

    They have n and m times, and of the n * m pairs at most `exceptions` are in the other order. All
    orders of the times are equally likely then: the test of Mann and Whitney (1947), two-sided and
    exact; of many times its normal approximation.
    """
    if max(n, m) > MANY_TIMES:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        one_side = statistics.NormalDist(n * m / 2, deviation).cdf(exceptions + 0.5)
    else:
        one_side = sum(_orders(n, m)[: exceptions + 1]) / math.comb(n + m, n)
    return min(1.0, 2 * one_side)


@cache
def _orders(n: int, m: int) -> tuple[int, ...]:
    # How many orders of n and m times have 0, 1, 2, ... pairs whose first time is the larger one:
    # the largest of all is in m such pairs if it is one of the n, and in none if it is not.
    if not (n and m):
        return (1,)
    of_first, of_second = (0,) * m + _orders(n - 1, m), _orders(n, m - 1)
    return tuple(map(sum, zip_longest(of_first, of_second, fillvalue=0)))


def verdict(before: Sequence[float], now: Sequence[float]) -> Verdict:
    """Whether a speed has changed, from those of each process in two comparisons.

    It has if the processes of one comparison are faster than those of the other, with so few
    exceptions that the `p_value` is 3 % at most, and if the medians differ by 3 % at least. Of so
    few processes that no order of them is as unlikely, nothing can be said.
    """
    n, m = len(before), len(now)
    if not (n and m) or p_value(n, m) > HIGHEST_P:
        return TOO_FEW
    change = statistics.median(now) / statistics.median(before)
    slower = sum(b >= a for b in before for a in now)  # pairs
    faster = sum(b <= a for b in before for a in now)
    if change >= 1 + LEAST_CHANGE and p_value(n, m, slower) <= HIGHEST_P:
        return FASTER
    if change <= 1 - LEAST_CHANGE and p_value(n, m, faster) <= HIGHEST_P:
        return SLOWER
    return EQUAL
