"""Exact mode's result: digests, and a certificate: how safe it was that they ended equal.

A step is the learning rate times a clipped gradient. Models stay equal as long as no midpoint of
two multiples of the grid lies between their steps. So two figures say how safe that was: how close
a step of the reference came to a midpoint, and by how much the models' steps differ. Their ratio is
a safety factor.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contract import VARIANTS, Arrays
from ..settings import Settings
from ..system.records import Record
from ..text.corpus import Text

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
    cell: str = Settings.cell

    @property
    def title(self) -> str:
        """The backend, with variant, cell and workers if they are not the default ones."""
        workers = f"{self.workers} workers" if self.workers > 1 else ""
        defaults = {self.model: VARIANTS[0], self.cell: Settings.cell, workers: ""}
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


class Evidence:
    """What is observed of the updates of all models, for the certificate."""

    def __init__(self) -> None:
        """Start without a model."""
        self.digests: dict[str, list[Digests]] = {}  # by title, from before the first update on
        self.steps: dict[int, tuple[Arrays, Arrays]] = {}  # by epoch: smallest, and largest values
        self.closest: Closest | None = None  # of the reference
        self.clipped: int | None = None

    def add_steps(self, folder: Path) -> None:
        """Add the steps of a model, a file for each epoch of a sample."""
        for path in folder.glob("*.npz"):
            with np.load(path) as file:
                steps = dict(file)
            low, high = self.steps.get(int(path.stem), (steps, steps))
            if _shapes(steps) == _shapes(low):  # or the models differ from the start
                self.steps[int(path.stem)] = (
                    {name: np.minimum(low[name], step) for name, step in steps.items()},
                    {name: np.maximum(high[name], step) for name, step in steps.items()},
                )

    def divergence(self, runs: Sequence[Run]) -> Divergence | None:
        """The first difference between the reference, or else the first model, and another one."""
        started = sorted((run for run in runs if run.digests), key=lambda run: not run.is_reference)
        found = []
        for run in started[1:]:
            pairs = zip(self.digests[started[0].title], self.digests[run.title])
            for update, (expected, actual) in enumerate(pairs):
                if expected != actual:
                    names = [
                        name
                        for name in {**expected, **actual}
                        if expected.get(name) != actual.get(name)
                    ]
                    found.append(Divergence([started[0].title, run.title], update, names))
                    break
        return min(found, key=lambda each: each.update, default=None)

    def result(self, settings: Settings, text: Text, runs: list[Run]) -> Result:
        """The result, where these are all runs."""
        certificate = self.certificate(runs)
        complete = any(run.digests for run in runs) and all(r.outcome != "failed" for r in runs)
        equal = complete and certificate.divergence is None
        return Result(settings, text.sha256, runs, equal, certificate)

    def certificate(self, runs: Sequence[Run]) -> Certificate:
        """What was observed of these models, and the sentence that says it.

        After a divergence the models' steps are those of different parameters, and not compared.
        """
        trained = [run for run in runs if run.outcome == "trained"]
        divergence, compared, factor = self.divergence(runs), None, None
        if len(trained) > 1:
            updates = {after.epoch + 1: after.updates for after in trained[0].digests}
            epochs = sorted(self.steps)
            if divergence is not None:
                epochs = [epoch for epoch in epochs if updates[epoch] < divergence.update]
            compared = self._largest(epochs) if epochs else None
        if self.closest and compared and compared.difference and divergence is None:
            factor = self.closest.distance / compared.difference
        updates_observed = next((r.digests[-1].updates for r in trained if r.is_reference), None)
        result = Certificate(
            updates=updates_observed,
            clipped=self.clipped,
            closest=self.closest,
            compared=compared,
            factor=factor,
            divergence=divergence,
            sentence="",
        )
        result.sentence = sentence(result) if trained else ""
        return result

    def _largest(self, epochs: list[int]) -> Difference:
        places = []
        for epoch in epochs:
            low, high = self.steps[epoch]
            for name in low:
                spread = high[name] - low[name]
                place = np.unravel_index(np.argmax(spread), spread.shape)
                index = [int(each) for each in place]
                places.append(Difference(name, index, float(spread[place]), epoch, epochs))
        return max(places, key=lambda each: each.difference)


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def sentence(certificate: Certificate) -> str:
    """What a certificate says: the safety factor or what it lacks, or where models diverged."""
    closest, compared, divergence = (
        certificate.closest,
        certificate.compared,
        certificate.divergence,
    )
    if divergence:
        base, other = divergence.models
        when = f"after update {divergence.update:,}" if divergence.update else "from the start"
        text = f"{other} differs from {base} {when}, in {', '.join(divergence.parameters)}"
        if not compared:
            return f"{text}."
        until = f"Until then the models differed by at most {compared.difference:.1e} in a step"
        return f"{text}. {until}."
    if not closest:
        return (
            "There is no certificate: how close a step came to a rounding boundary is observed in "
            "numpy's scratch model, which was not trained. Name numpy, and with --model scratch."
        )
    text = (
        f"Closest step: {closest.distance:.1e} from a rounding boundary, in update "
        f"{closest.update:,} ({closest})"
    )
    if not compared:
        return f"{text}. For a safety factor, name another model to compare with."
    if certificate.factor is None:
        return f"{text}; where they were compared, the models do not differ in any step."
    text += f"; the models differ by at most {compared.difference:.1e} in a step"
    if certificate.factor < 1:
        return f"{text}, which is more: they could have been rounded to different multiples."
    factor = f"{certificate.factor:{',.0f' if certificate.factor >= 10 else '.1f'}}"
    return f"{text}: a safety factor of {factor}."
