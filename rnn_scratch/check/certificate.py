"""Exact mode's result: digests, and a certificate: how safe it was that they ended equal.

Models stay equal as long as no midpoint of two multiples of the grid lies between their values of
an element, of a step or of a carried state. So two figures say how safe an element was: how close
it came to a midpoint, and by how much the models differ in it. The smallest ratio of the two, among
the elements that were kept of every update, is the safety factor.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..contract import VARIANTS
from ..settings import Settings
from ..system.records import Record
from .observation import (
    CLOSEST,
    GRADIENT,
    KEPT,
    LARGEST,
    SAMPLE,
    Digests,
    Parting,
    differing,
    distances,
)

Shapes = Mapping[str, tuple[int, ...]]

# Rounding is the reason of a difference that is not as many times as large as the one that it was
# measured to make: it may make a larger one in another framework.
MARGIN = 1000
CHAOS = 1000  # the growth of a difference within a minibatch from which it is worth a sentence


class AfterEpoch(Record):
    """How far a model is after an epoch."""

    epoch: int
    perplexity: float | None  # None before the first epoch, and where it is not finite
    updates: int  # so far
    digest: str  # of all parameters


class ExactModel(Record):
    """A model that was trained, or was to be."""

    backend: str
    model: str
    workers: int
    outcome: str  # "trained", "failed" or "not offered"
    reason: str
    digests: list[AfterEpoch]  # from epoch 0 on
    cell: str = Settings().cell

    @property
    def title(self) -> str:
        """The backend, with variant, cell and workers if they are not the default ones."""
        workers = f"{self.workers} workers" if self.workers > 1 else ""
        defaults = {self.model: VARIANTS[0], self.cell: Settings().cell, workers: ""}
        more = ", ".join(name for name, default in defaults.items() if name != default)
        return f"{self.backend} ({more})" if more else self.backend

    @property
    def is_reference(self) -> bool:
        """Whether it is the one that the others are compared with."""
        return (self.backend, self.model, self.workers) == ("numpy", VARIANTS[0], 1)


class Closest(Record):
    """The element that came closest to being rounded differently."""

    tensor: str  # a parameter, of whose step it is, or a carried state
    index: list[int]
    update: int
    distance: float  # from a rounding boundary
    difference: float | None  # of the models; None: there is only one


class Divergence(Record):
    """The first update after which two models differ; 0: before the first. And why they do."""

    models: list[str]
    update: int
    tensors: list[str]  # parameters and states that differ
    explained: bool | None = None  # by rounding; None: it was not observed
    tensor: str = ""  # for which rounding explains the least, and of which the figures are
    distance: float = 0.0  # of its closest element from a rounding boundary
    difference: float = 0.0  # of the models in it
    moved: float = 0.0  # the most by which rounding moves an element of it
    growth: float = 1.0  # of a difference in the state, over the time steps of a minibatch


class Certificate(Record):
    """What was observed in all updates."""

    updates: int
    clipped: int  # of them
    kept: int  # elements of each parameter and state, of each update
    closest: Closest | None
    factor: float | None
    divergence: Divergence | None
    sentence: str  # that says it
    unobserved: list[str] = []  # models


class ExactResult(Record):
    """What `check --exact --json` prints."""

    settings: Settings
    text: str  # its sha256
    models: list[ExactModel]
    equal: bool
    certificate: Certificate


@dataclasses.dataclass
class Account:
    """What the process of a model has sent of its updates."""

    model: ExactModel
    folder: Path  # of what it kept: a file for each tensor
    digests: list[Digests] = dataclasses.field(default_factory=list)  # from before the first on
    clipped: int = 0
    parting: Parting | None = None


def certificate(accounts: Sequence[Account], shapes: Shapes) -> Certificate:
    """What was observed of these models, the first that of the reference if there is one.

    `shapes` are those of the parameters and of the carried states.
    """
    started = [account for account in accounts if account.digests]
    trained = [account for account in started if account.model.outcome == "trained"]
    unobserved = [each.model.title for each in trained if not any(each.folder.iterdir())]
    divergence = _divergence(started, shapes)
    closest = None if divergence or unobserved else _closest(trained, shapes)
    factor = closest.distance / closest.difference if closest and closest.difference else None
    updates = max((len(account.digests) - 1 for account in started), default=0)
    clipped = max((account.clipped for account in started), default=0)
    kept = CLOSEST + SAMPLE
    found = Certificate(updates, clipped, kept, closest, factor, divergence, "", unobserved)
    found.sentence = sentence(found)
    return found


def _tables(accounts: Sequence[Account], name: str, size: int) -> list[np.ndarray]:
    # What the models kept of a tensor of this size, with a row for each update.
    paths = [account.folder / name for account in accounts]
    number = min(CLOSEST, size) + min(SAMPLE, size)
    return [np.fromfile(path, KEPT).reshape(-1, number) for path in paths if path.exists()]


def _elements(tables: Sequence[np.ndarray], name: str, size: int) -> tuple[np.ndarray, ...]:
    # Of each element that a model kept: update and index as one number, the smallest distance, and
    # the difference. Where a model has not kept it, it is no closer to a boundary there than those
    # that were kept, and the difference is what it is at least.
    keys, values, ends = [], [], []
    for table in tables:
        key = np.arange(len(table))[:, None] * size + table["index"]
        key, first = np.unique(key, return_index=True)
        keys.append(key)
        values.append(np.nan_to_num(table["value"].ravel()[first], nan=LARGEST))
        ends.append(distances(name, table["value"][:, : min(CLOSEST, size)]).max(axis=1))
    every, place, count = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    value = np.concatenate(values)
    low, high, distance = (np.full(len(every), each) for each in (np.inf, -np.inf, np.inf))
    np.minimum.at(low, place, value)
    np.maximum.at(high, place, value)
    np.minimum.at(distance, place, distances(name, value))
    least = np.maximum(np.min(ends, axis=0)[every // size] - distance, 0)
    return every, distance, np.where(count < len(tables), least, high - low)


def _closest(accounts: Sequence[Account], shapes: Shapes) -> Closest | None:
    # The smallest ratio of distance and difference; where nothing differs, the smallest distance.
    found = []
    for name, shape in shapes.items():
        size = math.prod(shape)
        tables = _tables(accounts, name, size)
        if not tables:
            continue
        every, distance, difference = _elements(tables, name, size)
        ratio = np.full(len(every), np.inf)
        with np.errstate(over="ignore"):
            np.divide(distance, difference, out=ratio, where=difference > 0)
        at = np.lexsort([distance, ratio])[0]
        index = [int(each) for each in np.unravel_index(every[at] % size, shape)]
        apart = float(difference[at]) if len(tables) > 1 else None
        closest = Closest(name, index, int(every[at] // size) + 1, float(distance[at]), apart)
        found.append((ratio[at], distance[at], closest))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _divergence(started: Sequence[Account], shapes: Shapes) -> Divergence | None:
    # The first of all, but rather one that rounding does not explain.
    found = []
    for account in started:
        pairs = enumerate(zip(started[0].digests, account.digests))
        names = ((update, tensors) for update, pair in pairs if (tensors := differing(*pair)))
        update, tensors = next(names, (None, []))
        if account.parting and update != 0:
            found.append(_explained(started[0], account, account.parting, shapes))
        elif update is not None:
            models = [started[0].model.title, account.model.title]
            found.append(Divergence(models, update, tensors))
    return min(found, key=lambda each: (bool(each.explained), each.update), default=None)


def _explained(base: Account, account: Account, parting: Parting, shapes: Shapes) -> Divergence:
    # Whether rounding explains that the elements that differ were rounded differently, and the
    # differences of all that were kept.
    row, title = parting.update - 1, account.model.title
    differences, scores = {}, {}
    for name, moved in parting.moved.items():
        size = math.prod(shapes[name])
        tables = _tables([base, account], name, size)
        tables = [table[row : row + 1] for table in tables if len(table) > row]
        differences[name] = float(_elements(tables, name, size)[2].max())
        distance = parting.distances[name] if name in parting.tensors else 0.0
        scores[name] = max(distance, differences[name]) / moved
    explained = max(scores.values()) <= MARGIN
    # Of all that do not fit, the worst one; else of those that were rounded differently.
    tensor = max(parting.tensors if explained else scores, key=scores.__getitem__)
    models = [f"{title}'s own steps" if parting.itself else base.model.title, title]
    figures = parting.distances[tensor], differences[tensor], parting.moved[tensor], parting.growth
    return Divergence(models, parting.update, parting.tensors, explained, tensor, *figures)


def sentence(found: Certificate) -> str:
    """What a certificate says: the safety factor, or where models diverged and why."""
    if found.divergence:
        return _of_divergence(found.divergence)
    if found.unobserved:
        names = ", ".join(found.unobserved)
        return f"No certificate: train_epoch calls another train_minibatch than its own in {names}."
    closest = found.closest
    if closest is None:
        return ""
    kinds = {"state": "", GRADIENT.strip(): "the "}
    value = kinds.get(closest.tensor.partition(" ")[0], "the step of ")
    text = (
        f"Closest call: in update {closest.update:,} {value}{closest.tensor}{closest.index} was "
        f"{closest.distance:.1e} from a rounding boundary"
    )
    reach = (
        f"{found.kept} elements of each parameter and state in each of {found.updates:,} updates"
    )
    if closest.difference is None:
        return f"{text}. For a safety factor, name another model to compare with."
    if found.factor is None:
        return f"{text}; the models do not differ in {reach}."
    text += f", and the models differ by {closest.difference:.1e} in it"
    if found.factor < 1:
        return f"{text}, which is more: they are equal by luck."
    factor = f"{found.factor:{',.0f' if found.factor >= 10 else '.1f'}}"
    return f"{text}: a safety factor of {factor}, the smallest of {reach}."


def _of_divergence(found: Divergence) -> str:
    base, other = found.models
    when = f"after update {found.update:,}" if found.update else "from the start"
    text = f"{other} differs from {base} {when}, in {', '.join(found.tensors)}."
    if found.explained is None:
        return text
    text += (
        f" Rounding {'explains' if found.explained else 'does not explain'} it: in {found.tensor} "
        f"it moves an element by up to {found.moved:.1e}, the models differ by up to "
        f"{found.difference:.1e}, and the closest element was {found.distance:.1e} from a rounding "
        "boundary."
    )
    if not found.explained or found.growth < CHAOS:
        return text
    grows = f"Over the time steps of a minibatch a difference grows {found.growth:.0e}-fold"
    return f"{text} {grows}, and what has grown so far no rounding removes."
