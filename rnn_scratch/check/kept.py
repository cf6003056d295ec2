"""What is kept of every update of the first model in exact mode, with which others are compared.

It lies in a folder: a line of digests for each update, and for each tensor the elements that were
closest to a boundary of rounding, and some that are the same ones in every update.
"""

from pathlib import Path

import msgspec
import numpy as np

from .. import exact
from ..contract import Arrays
from .certificate import GRADIENT, Closest

Digests = dict[str, str]  # of each parameter, and of each carried state

CLOSEST = 64  # elements of each tensor that are kept of each update: the closest to a boundary,
SAMPLE = 16  # and some that are the same ones in every update
ELEMENT = np.dtype([("index", np.int64), ("value", np.float64)])
LARGEST = float(np.finfo(np.float64).max)
FILE = "digests"  # with a line for each update


def grid(name: str) -> float:
    """What a tensor is rounded to multiples of: a parameter's step, a gradient, a carried state."""
    grids = {"state": exact.STATE_GRID, GRADIENT.strip(): exact.FINE_GRID}
    return grids.get(name.partition(" ")[0], exact.GRID)


def distances(name: str, values: np.ndarray) -> np.ndarray:
    """How far values of a tensor are from the nearest boundary of rounding; 0 if not finite."""
    return np.nan_to_num(exact.distances(values, grid(name)), nan=0.0)


def digests(arrays: Arrays) -> Digests:
    """The digest of each of these arrays."""
    return {name: exact.digest({name: array}) for name, array in arrays.items()}


def differing(one: Digests, other: Digests) -> list[str]:
    """The names of those that both have and that are not equal."""
    return [name for name in one if other.get(name, one[name]) != one[name]]


def _chosen(name: str, flat: np.ndarray) -> np.ndarray:
    # The elements that are kept of a tensor in an update: index and value.
    number = min(CLOSEST, flat.size)
    closest = np.argpartition(distances(name, flat), number - 1)[:number]
    sample = np.linspace(0, flat.size - 1, min(SAMPLE, flat.size)).astype(np.int64)
    index = np.concatenate([closest, sample])
    kept = np.empty(len(index), ELEMENT)
    kept["index"], kept["value"] = index, flat[index]
    return kept


class Kept:
    """The first model's updates, which the model that is trained keeps or is compared with."""

    def __init__(self, folder: Path, compares: bool, keeps: bool) -> None:
        """Compare with what is in the folder, or write it there."""
        self.folder, self.compares, self.keeps = folder, compares, keeps
        lines = (folder / FILE).read_bytes().splitlines() if compares else []
        self.expected = [msgspec.json.decode(line, type=Digests) for line in lines]
        self.closest: Closest | None = None
        self._least = np.inf, np.inf  # its ratio of distance and difference, and its distance

    def differing(self, update: int, now: Digests) -> list[str]:
        """The names of what differs from the first model after this update."""
        if self.keeps:
            with (self.folder / FILE).open("ab") as file:
                file.write(msgspec.json.encode(now) + b"\n")
        same_update = self.expected[update : update + 1]
        return differing(same_update[0], now) if same_update else []

    def apart(self, update: int, name: str, array: np.ndarray) -> float:
        """By how much this model and the first differ in the elements that are kept of a tensor.

        The one with the smallest ratio of distance and difference is remembered; where none
        differs, the one with the smallest distance.
        """
        flat, path = array.ravel(), self.folder / name
        size = min(CLOSEST, flat.size) + min(SAMPLE, flat.size)
        if self.compares and path.exists():
            kept = np.fromfile(path, ELEMENT, size, offset=(update - 1) * size * ELEMENT.itemsize)
        else:
            kept = _chosen(name, flat)
            if self.keeps:
                with path.open("ab") as file:
                    kept.tofile(file)
        both = [np.nan_to_num(each, nan=LARGEST) for each in (flat[kept["index"]], kept["value"])]
        distance = np.min([distances(name, each) for each in both], axis=0)
        apart, ratio = np.abs(both[0] - both[1]), np.full(size, np.inf)
        with np.errstate(over="ignore"):
            np.divide(distance, apart, out=ratio, where=apart > 0)
        at = np.lexsort([distance, ratio])[0]
        if (ratio[at], distance[at]) < self._least:
            self._least = ratio[at], distance[at]
            index = [int(each) for each in np.unravel_index(kept["index"][at], array.shape)]
            difference = float(apart[at]) if self.compares else None
            self.closest = Closest(name, index, update, float(distance[at]), difference)
        return float(apart.max())
