"""The layout of a comparison's record: what it must have for the report to be made from it.

Without these limits, damage would be an error of whatever part of the report meets it first.
"""

from collections.abc import Collection
from typing import Annotated, NamedTuple, TypedDict

from ..contract import VARIANTS
from ..settings import Settings
from ..system import schema
from ..system.host import Machine
from ..system.schema import LINE, Count, Line, Rule, between, length, one_of
from .events import (
    Bytes,
    Conditions,
    Pairs,
    Perplexity,
    Samples,
    Seconds,
    Times,
)
from .plan import MOST_CANDIDATES, MOST_VALUES, VARIED, Record


def having(names: Collection[str]) -> Rule:
    """For an object with these names, and others."""
    return Rule(lambda value: set(names) <= set(value), f"an object with {', '.join(names)}")


Name = Annotated[str, LINE, length(1, 100)]
Model = Annotated[str, one_of(VARIANTS)]
Value = Count | None  # of what is varied
Figure = Annotated[float, between(0, 1e30)]
Perplexities = list[Perplexity]
Losses = list[Annotated[float, between(-1, 1e300)]]
# What the report reads; an older record may lack other settings.
AllSettings = Annotated[
    dict[str, str | int | float | bool | None],
    having(("batch_size", "num_steps", "num_hiddens", "num_epochs", "sampling", "dtype")),
]


class Spread(NamedTuple):
    """Several measurements, as in `summary.Spread`."""

    median: Figure
    low: Figure
    high: Figure


class Vary(TypedDict):
    """What is varied: a setting, threads or workers, and its values."""

    name: Annotated[str, one_of(VARIED)]
    values: Annotated[list[Count], length(1, MOST_VALUES)]


class Plan(TypedDict):
    """What is compared, and how, as in `plan.Plan`."""

    backends: Annotated[list[Name], length(1, 100)]
    models: list[Model]
    device: Line
    threads: Count
    tf32: bool
    repeats: Count
    seeds: Count
    target: Perplexity | None
    vary: Vary | None
    pythons: list[Name]
    timeout: Seconds


class TextNotes(TypedDict, total=False):
    """What is known of a book."""

    verified: bool


class Text(TextNotes):
    """The text to train on."""

    corpus: str
    origin: str
    sha256: str
    vocabulary: Count
    train_tokens: Count
    valid_tokens: Annotated[int, between(0, 2**53)]


class Check(TypedDict):
    """The check of a candidate."""

    comparisons: Count
    failures: list[str]


Digests = TypedDict("Digests", {"parameters": Line, "minibatches seen": Line}, total=False)


class Training(Digests, total=False):
    """A training run; one without samples has not ended."""

    losses: Losses
    samples: Samples
    held_out: list[Perplexity | None]  # after each epoch
    seconds: list[Seconds]  # of each epoch
    reached: bool


class SeededTraining(Training):
    """A training run, with what it has from the start."""

    seed: Annotated[int, between(0, 2**32)]
    perplexity: Perplexities


class Float64(TypedDict, total=False):
    """The training in float64: differences, or the reason why there are none."""

    differences: Losses
    state: Annotated[str, one_of(("failed", "not offered"))]
    reason: str


class OwnLayer(TypedDict):
    """Pairs of times of a model and the framework's own layer."""

    minibatches: Pairs
    generation: Pairs


RoundTimes = TypedDict(
    "RoundTimes",
    {
        "round": Annotated[int, between(0, 2**31)],
        "import": Seconds,
        "parameters": Line,
        "minibatches seen": Line,
        "first": Seconds,
        "minibatches": Times,
        "products": Times,
        "generation": Times,
        "memory": Bytes | None,
        "device_memory": Bytes | None,
    },
)


class Round(RoundTimes, total=False):
    """The times of one process."""

    own_layer: OwnLayer
    without_exchange: Times | None
    conditions: Conditions


class SpeedNotes(TypedDict, total=False):
    """What a speed may have."""

    threads: Count
    reason: str
    own_layer_failure: str


class Speed(SpeedNotes):
    """The times of a candidate, at one value of what is varied."""

    value: Value
    state: Annotated[str, one_of(("waiting", "measured", "failed"))]
    rounds: list[Round]


class CandidateNotes(TypedDict, total=False):
    """What a candidate may have."""

    reason: str
    at: Name  # of its environment
    device: Line
    threads: Count
    libraries: dict[str, int | None]
    machine: Machine
    environment: dict[str, str]
    check: Check
    float64: Float64


class Candidate(CandidateNotes):
    """A variant of a backend's model."""

    backend: Name
    model: Model
    state: Annotated[str, one_of(("waiting", "measured", "failed", "not offered"))]
    trainings: list[SeededTraining]
    speed: Annotated[list[Speed], length(1, MOST_VALUES)]


class Verdict(TypedDict, total=False):
    """Whether a speed has changed, and by what this was decided; older records lack these."""

    verdict: Line
    corrected: bool
    of_own_limit_before: Spread | None
    of_own_limit_now: Spread | None


class Row(Verdict):
    """A speed, before and now."""

    candidate: Line
    value: Value
    before: Spread
    now: Spread
    ratio: Figure
    ratio_to_first_before: Spread | None
    ratio_to_first_now: Spread | None


class Against(TypedDict):
    """An older comparison, beside this one."""

    started: Line
    differences: list[str]
    speeds: list[Row]


class Baselines(TypedDict):
    """Perplexities of the held-out text without a model."""

    uniform: Perplexity
    unigram: Perplexity


class Notes(TypedDict, total=False):
    """What a comparison may have."""

    baselines: Baselines
    ended: Line
    against: Against


class Comparison(Notes):
    """The record of a comparison."""

    format: int
    command: str
    started: Line
    outcome: Annotated[str, one_of(("running", "finished", "interrupted"))]
    machine: Machine
    load: Figure | None
    plan: Plan
    settings: AllSettings
    text: Text
    candidates: Annotated[list[Candidate], length(1, MOST_CANDIDATES)]


def verify(record: Record) -> None:
    """Raise ValueError or RNNScratchError, with the place, for a record that is no such record."""
    schema.verify(Comparison, record)
    Settings(**record["settings"])
    plan = record["plan"]
    values = plan["vary"]["values"] if plan["vary"] else [None]
    for number, candidate in enumerate(record["candidates"]):
        where = f"candidates[{number}]"
        if candidate["backend"] not in plan["backends"] or candidate["model"] not in plan["models"]:
            raise ValueError(f"{where} is not in the plan")
        if [speed["value"] for speed in candidate["speed"]] != values:
            raise ValueError(f"{where} has other values than the plan")
        for part in (candidate, *candidate["speed"]):
            if part["state"] in ("failed", "not offered") and "reason" not in part:
                raise ValueError(f"{where} has a failure without a reason")
        if "environment" in candidate and "machine" not in candidate:
            raise ValueError(f"{where} lacks 'machine'")
        for training in candidate["trainings"]:
            if "samples" in training and not training["perplexity"]:
                raise ValueError(f"{where} has a training run without epochs")
            if training.get("reached") and "seconds" not in training:
                raise ValueError(f"{where} has a run that reached its target, without seconds")
    for row in record.get("against", {}).get("speeds", []):
        if row["value"] is not None and not plan["vary"]:
            raise ValueError("against has a value, and nothing is varied")
