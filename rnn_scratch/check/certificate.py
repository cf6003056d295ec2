"""The certificate of exact mode: how safe it was that models ended with equal parameters.

A step is the learning rate times a clipped gradient. Models stay equal as long as no midpoint of
two multiples of the grid lies between their steps. So two figures say how safe that was: how close
a step of the reference came to a midpoint, and by how much the models' steps differ. Their ratio is
a safety factor.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ..contract import Arrays

Record = dict[str, Any]  # as in JSON


class Closest(TypedDict):
    """The step that came closest to a rounding boundary, and where it was."""

    distance: float
    update: int
    parameter: str
    index: list[int]


class Sample:
    """Steps of all models in some epochs: the smallest and the largest value of each element."""

    def __init__(self) -> None:
        """Start without a model."""
        self.bounds: dict[int, tuple[Arrays, Arrays]] = {}  # by epoch

    def add(self, folder: Path) -> None:
        """Add the steps of a model, a file for each epoch."""
        for path in folder.glob("*.npz"):
            epoch, steps = int(path.stem), load(path)
            low, high = self.bounds.get(epoch, (steps, steps))
            if shapes(steps) == shapes(low):  # or the models differ from the start
                self.bounds[epoch] = (
                    {name: np.minimum(low[name], step) for name, step in steps.items()},
                    {name: np.maximum(high[name], step) for name, step in steps.items()},
                )

    def largest(self, epochs: Sequence[int]) -> Record:
        """The largest difference between two models in these epochs, and where it is."""
        places = []
        for epoch in epochs:
            low, high = self.bounds[epoch]
            for name in low:
                spread = high[name] - low[name]
                place = np.unravel_index(np.argmax(spread), spread.shape)
                difference = {"difference": float(spread[place]), "epoch": epoch}
                places.append({**difference, **element(name, place)})
        return max(places, key=lambda each: each["difference"])


def sentence(certificate: Record) -> str:
    """What a certificate says: the safety factor or what it lacks, or where models diverged."""
    return _divergence(certificate) if certificate["divergence"] else _equality(certificate)


def _equality(certificate: Record) -> str:
    closest, compared, factor = (
        certificate["closest"],
        certificate["compared"],
        certificate["factor"],
    )
    if not closest:
        return (
            "There is no certificate: how close a step came to a rounding boundary is observed in "
            "numpy's scratch model, which was not trained. Name numpy, and with --model scratch."
        )
    text = (
        f"Closest step: {closest['distance']:.1e} from a rounding boundary, in update "
        f"{closest['update']:,} ({_name(closest)})"
    )
    if not compared:
        return f"{text}. For a safety factor, name another model to compare with."
    if factor is None:
        return f"{text}; where they were compared, the models do not differ in any step."
    text += f"; the models differ by at most {compared['difference']:.1e} in a step"
    if factor < 1:
        return f"{text}, which is more: they could have been rounded to different multiples."
    return f"{text}: a safety factor of {factor:{',.0f' if factor >= 10 else '.1f'}}."


def _divergence(certificate: Record) -> str:
    where, compared = certificate["divergence"], certificate["compared"]
    base, other = where["models"]
    when = f"after update {where['update']:,}" if where["update"] else "from the start"
    text = f"{other} differs from {base} {when}"
    if "reason" in where:
        return f"{text}; when they were trained once more up to there, {where['reason']}."
    more = where["elements"] - 1
    text += f", in {_name(where)} by {where['difference']:.1e}"
    text += f" and in {more:,} other element{'s' * (more > 1)}." if more else "."
    if where["distance"] is None:
        return text
    text += f" There {base}'s step was {where['distance']:.1e} from a rounding boundary"
    if not compared:
        return f"{text}."
    text += f"; until then the models differed by at most {compared['difference']:.1e} in a step"
    if compared["difference"] < where["distance"]:
        return f"{text}, so that rounding does not explain it."
    return f"{text}, which is enough to be rounded to another multiple."


def _name(place: Record) -> str:
    return f"{place['parameter']}{place['index']}"


def element(name: str, place: Sequence[Any]) -> Record:
    """An element of a parameter, for the record."""
    return {"parameter": name, "index": [int(each) for each in place]}


def shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Names and shapes."""
    return {name: array.shape for name, array in arrays.items()}


def save(path: Path, arrays: Arrays) -> None:
    """Write the arrays to a file."""
    values: dict[str, Any] = dict(arrays)  # NumPy 2 expects a bool among the keywords
    np.savez(path, **values)


def load(path: Path) -> Arrays:
    """The arrays in a file."""
    with np.load(path) as file:
        return dict(file)
