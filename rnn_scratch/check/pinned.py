"""What the reference computed when it was right: `check numpy` holds it to that.

Held against itself it could only agree, whatever mistake is made in it. So of each of its results
one number is kept in ``pinned.json``. Where these are made and what else holds the reference is
told in tests/tools/pin.py.
"""

import functools
import importlib.resources
import json
from typing import Any

import numpy as np

LEAST = 1e-12  # a sum of many terms, each rounded in its own way on another machine


def number(result: Any) -> float:
    """One number for arrays, or a dict or tuple of them: their sum, each element weighted."""
    if isinstance(result, dict):
        result = tuple(result.values())
    parts = result if isinstance(result, tuple) else (result,)
    values = np.concatenate([np.ravel(part).astype(np.float64) for part in parts])
    # No two weights are equal, so that neither a wrong order nor a wrong sign leaves the sum as is.
    return float(values @ np.cos(np.arange(1, len(values) + 1)))


def difference(case: str, piece: str, result: str, found: Any) -> float:
    """How far a result of the reference is from what was kept of it; infinite if nothing was."""
    kept = _kept()[case].get(f"{piece}: {result}")
    return np.inf if kept is None else abs(number(found) - kept)


def holds(case: str) -> bool:
    """Whether there is something to hold this case to."""
    return case in _kept()


@functools.cache
def _kept() -> dict[str, dict[str, float]]:
    file = importlib.resources.files("rnn_scratch") / "check" / "pinned.json"
    kept: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    return kept
