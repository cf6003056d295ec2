"""What an exchange between workers costs, and when it pays, computed from what was measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_scratch.contract import Options


class Exchange(NamedTuple):
    """How long an exchange takes, in milliseconds: latency + bytes * per_byte."""

    latency: float
    per_byte: float

    def of(self, size: float) -> float:
        """The milliseconds for a vector of this number of bytes."""
        return self.latency + size * self.per_byte


def parameters(num_hiddens: int, vocabulary: int, cell: str = "rnn") -> int:
    """The number of parameters of a model."""
    return sum(
        math.prod(shape) for shape in Options(vocabulary, num_hiddens, cell).shapes().values()
    )


def received(numbers: int, workers: int, dtype: str) -> int:
    """The bytes that each worker receives in an exchange: the vectors of the others."""
    return (workers - 1) * numbers * np.dtype(dtype).itemsize


def fit(points: Sequence[tuple[float, float]]) -> Exchange:
    """The line through points (bytes, milliseconds) with the least relative errors."""
    sizes, times = np.array(points).T
    per_byte, latency = np.polyfit(sizes, times, 1, w=1 / times)
    return Exchange(float(latency), float(per_byte))


def gain(whole: float, half: float, exchange: float) -> float:
    """How many times as fast two workers are: a minibatch against half of one and an exchange."""
    return whole / (half + exchange)


def smallest(per_row: float, exchange: float) -> int:
    """The smallest even number of rows with which two workers are faster than one.

    They save the time of half of the rows, `per_row` each, and need that of an exchange.
    """
    return 2 * (math.floor(exchange / per_row) + 1)


def points(engine: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Bytes and milliseconds of an exchange with its addition, of float32."""
    return [(4 * each["numbers"], each["all_reduce"]["median"]) for each in engine["exchanges"]]


def minibatches(engine: Mapping[str, Any]) -> dict[tuple[int, int], float]:
    """Milliseconds of a minibatch, by hidden units and batch size."""
    return {
        (each["num_hiddens"], each["batch_size"]): each["median"] for each in engine["minibatches"]
    }


def payoff(
    measured: Mapping[str, Any], fits: Mapping[str, Exchange]
) -> dict[tuple[str, int, int], float]:
    """The gains of two workers by backend, hidden units and rows, where half of these were timed.

    Minibatches are measured, and exchanges are those of the fits.
    """
    result = {}
    for name, exchange in fits.items():
        times = minibatches(measured["engines"][name])
        for (H, B), whole in times.items():
            if (H, B // 2) in times:
                size = 4 * (parameters(H, measured["settings"]["vocabulary"]) + 1)
                result[name, H, B] = gain(whole, times[H, B // 2], exchange.of(size))
    return result
