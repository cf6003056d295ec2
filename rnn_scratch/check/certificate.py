"""Exact mode's result: digests, and a certificate: how safe it was that they ended equal.

Models stay equal as long as no midpoint of two multiples of the grid lies between their values of
an element, of a step or of a carried state. So two figures say how safe an element was: how close
it came to a midpoint, and by how much a model and the first one differ in it. The smallest ratio of
the two, among the elements that the first kept of every update, is the safety factor.
"""

from ..contract import VARIANTS
from ..settings import Settings
from ..system.records import Record

GRADIENT = "gradient "  # with which the name of a parameter's gradient begins
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
    difference: float | None  # of the model and the first one; None: it is the first

    @property
    def factor(self) -> float | None:
        """The distance, divided by the difference; None where the models do not differ."""
        return self.distance / self.difference if self.difference else None


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
