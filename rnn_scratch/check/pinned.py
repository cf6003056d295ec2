"""The reference's results when they were correct: `check numpy` compares its results with them.

Compared with itself the reference could only agree, whatever mistake is made in it. So one number
of each of its results is recorded in ``pinned.json``. tests/tools/pin.py makes that file, and says
what else the reference is tested by.
"""

import functools
import importlib.resources
import json
from typing import Any

import numpy as np

LEAST = 1e-12  # to allow: of a sum of many terms, each rounded differently on another machine


def number(result: Any) -> float:
    """One number for arrays, or a dict or tuple of them: their sum, each element weighted."""
    if isinstance(result, dict):
        result = tuple(result.values())
    arrays = result if isinstance(result, tuple) else (result,)
    values = np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])
    # No two weights are equal, so that a wrong order or a wrong sign changes the sum.
    return float(values @ np.cos(np.arange(1, len(values) + 1)))


@functools.cache
def numbers() -> dict[str, dict[str, float]]:
    """What is recorded, by case and by piece and result."""
    file = importlib.resources.files("rnn_scratch") / "check" / "pinned.json"
    recorded: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    return recorded
