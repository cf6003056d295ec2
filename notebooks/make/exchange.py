"""The cost of an exchange between workers, and when it pays, computed from measurements."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_scratch.contract import Options


class Exchange(NamedTuple):
    """The time of an exchange in milliseconds: latency + bytes * per_byte."""

    latency: float
    per_byte: float

    def of(self, size: float) -> float:
        """Return the milliseconds for a vector of this number of bytes."""
        return self.latency + size * self.per_byte


def parameters(num_hiddens: int, vocabulary: int, cell: str = "rnn") -> int:
    """Return the number of parameters of a model."""
    return sum(
        math.prod(shape) for shape in Options(vocabulary, num_hiddens, cell).shapes().values()
    )


def received(numbers: int, workers: int, dtype: str) -> int:
    """Return the bytes of the other workers' vectors, which a worker receives in an exchange."""
    return (workers - 1) * numbers * np.dtype(dtype).itemsize


def fit(points: Sequence[tuple[float, float]]) -> Exchange:
    """Fit a line through points (bytes, milliseconds), with the least relative errors."""
    sizes, times = np.array(points).T
    per_byte, latency = np.polyfit(sizes, times, 1, w=1 / times)
    return Exchange(float(latency), float(per_byte))


def gain(whole: float, half: float, exchange: float) -> float:
    """Return the speedup with two workers, which compute half a minibatch and exchange."""
    return whole / (half + exchange)


def smallest(per_row: float, exchange: float) -> int:
    """Return the smallest even number of rows for which two workers are faster than one worker.

    Two workers save half of the computing time, and need the time of an exchange.
    """
    return 2 * (math.floor(exchange / per_row) + 1)


def points(engine: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return bytes and milliseconds of exchanges with their addition, in float32."""
    return [(4 * each["numbers"], each["all_reduce"]["median"]) for each in engine["exchanges"]]


def minibatches(engine: Mapping[str, Any]) -> dict[tuple[int, int], float]:
    """Return the milliseconds of a minibatch, by hidden units and batch size."""
    return {
        (each["num_hiddens"], each["batch_size"]): each["median"] for each in engine["minibatches"]
    }


def payoff(
    measured: Mapping[str, Any], fits: Mapping[str, Exchange]
) -> dict[tuple[str, int, int], float]:
    """Return the speedups with two workers by backend, hidden units and rows.

    The times of minibatches, whole and half, are measured; the times of exchanges are fitted.
    """
    result = {}
    for name, exchange in fits.items():
        times = minibatches(measured["engines"][name])
        for (H, B), whole in times.items():
            if (H, B // 2) in times:
                size = 4 * (parameters(H, measured["settings"]["vocabulary"]) + 1)
                result[name, H, B] = gain(whole, times[H, B // 2], exchange.of(size))
    return result
