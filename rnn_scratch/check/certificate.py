"""Exact mode's result: digests, and a certificate: how safe it was that they ended equal.

A step is the learning rate times a clipped gradient. Models stay equal as long as no midpoint of
two multiples of the grid lies between their steps. So two figures say how safe that was: how close
a step of the reference came to a midpoint, and by how much the models' steps differ. Their ratio is
a safety factor.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contract import VARIANTS
from ..settings import Settings
from ..system.records import Record

Digests = dict[str, str]  # of each parameter

REFERENCE = ("numpy", "scratch", 1)  # its backward pass is a function, and can be observed


class AfterEpoch(Record):
    """How far a model is after an epoch."""

    epoch: int
    perplexity: float | None  # None before the first epoch, and where it is not finite
    updates: int  # so far
    digest: str  # of all parameters


class Run(Record):
    """The training of one model."""

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
        return (self.backend, self.model, self.workers) == REFERENCE


class Element(Record):
    """An element of a parameter."""

    parameter: str
    index: list[int]

    def __str__(self) -> str:
        """The element as in a program."""
        return f"{self.parameter}{self.index}"


class Closest(Element):
    """The step that came closest to a rounding boundary, and where it was."""

    distance: float
    update: int


class Difference(Element):
    """The largest difference between the steps of two models, and where it was."""

    difference: float
    epoch: int
    epochs: list[int]  # in which they were compared


class Divergence(Record):
    """The first update after which the parameters of two models differ; 0: before the first."""

    models: list[str]
    update: int
    parameters: list[str]


class Certificate(Record):
    """What was observed of the steps."""

    updates: int | None
    clipped: int | None  # of them
    closest: Closest | None
    compared: Difference | None
    factor: float | None
    divergence: Divergence | None
    sentence: str  # that says it


class Result(Record):
    """What `check --exact --json` prints."""

    settings: Settings
    text: str  # its sha256
    runs: list[Run]
    equal: bool
    certificate: Certificate


@dataclasses.dataclass
class Training:
    """A training with what its process sends of every update, for the certificate."""

    run: Run
    folder: Path  # of the steps in a sample of epochs, a file for each
    digests: list[Digests] = dataclasses.field(default_factory=list)  # from before the first on
    closest: Closest | None = None  # of the reference
    clipped: int | None = None


def certificate(trainings: Sequence[Training]) -> Certificate:
    """What was observed of these models, and the sentence that says it.

    After a divergence the models' steps are those of different parameters, and not compared.
    """
    trained = [each for each in trainings if each.run.outcome == "trained"]
    result = Certificate(None, None, None, None, None, _divergence(trainings), "")
    for each in trained:
        if each.closest:
            result.updates = each.run.digests[-1].updates
            result.closest, result.clipped = each.closest, each.clipped
    if len(trained) > 1:
        last = result.divergence.update if result.divergence else math.inf
        starts = {after.epoch + 1: after.updates for after in trained[0].run.digests}
        epochs = sorted(int(path.stem) for path in trained[0].folder.glob("*.npz"))
        result.compared = _compared(trained, [each for each in epochs if starts[each] < last])
    if result.closest and result.compared and not result.divergence:
        difference = result.compared.difference
        result.factor = result.closest.distance / difference if difference else None
    result.sentence = sentence(result) if trained else ""
    return result


def _divergence(trainings: Sequence[Training]) -> Divergence | None:
    # The first difference between the reference, or else the first model, and another one.
    started = [each for each in trainings if each.digests]
    started.sort(key=lambda each: not each.run.is_reference)
    found = []
    for other in started[1:]:
        base = started[0]
        for update, (expected, actual) in enumerate(zip(base.digests, other.digests)):
            if expected != actual:
                names = expected | actual
                parameters = [name for name in names if expected.get(name) != actual.get(name)]
                found.append(Divergence([base.run.title, other.run.title], update, parameters))
                break
    return min(found, key=lambda each: each.update, default=None)


def _compared(trained: Sequence[Training], epochs: list[int]) -> Difference | None:
    # The largest difference between two models' steps in these epochs.
    found = []
    for epoch in epochs:
        files = [np.load(each.folder / f"{epoch}.npz") for each in trained]
        for name in files[0]:
            spread = np.ptp([file[name] for file in files], axis=0)
            place = np.unravel_index(np.argmax(spread), spread.shape)
            index = [int(each) for each in place]
            found.append(Difference(name, index, float(spread[place]), epoch, epochs))
        for file in files:
            file.close()
    return max(found, key=lambda each: each.difference, default=None)


def sentence(certificate: Certificate) -> str:
    """What a certificate says: the safety factor or what it lacks, or where models diverged."""
    closest, factor, where = certificate.closest, certificate.factor, certificate.divergence
    most = f"by at most {certificate.compared.difference:.1e}" if certificate.compared else ""
    if where:
        base, other = where.models
        when = f"after update {where.update:,}" if where.update else "from the start"
        text = f"{other} differs from {base} {when}, in {', '.join(where.parameters)}."
        return f"{text} Until then the models differed {most} in a step." if most else text
    if not closest:
        return (
            "There is no certificate: how close a step came to a rounding boundary is observed in "
            "numpy's scratch model, which was not trained. Name numpy, and with --model scratch."
        )
    text = (
        f"Closest step: {closest.distance:.1e} from a rounding boundary, in update "
        f"{closest.update:,} ({closest})"
    )
    if not most:
        return f"{text}. For a safety factor, name another model to compare with."
    if factor is None:
        return f"{text}; where they were compared, the models do not differ in any step."
    text += f"; the models differ {most} in a step"
    if factor < 1:
        return f"{text}, which is more: they could have been rounded to different multiples."
    return f"{text}: a safety factor of {factor:{',.0f' if factor >= 10 else '.1f'}}."
