"""The record of a comparison: what was compared and how, and everything that was measured.

What a child process of a comparison sends is part of it: `Ready`, `EpochResult`, `Trial`, `Round`.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from ..contract import VARIANTS
from ..errors import LONGEST, RNNScratchError
from ..settings import Settings
from ..system import files, records
from ..system.host import Machine
from ..system.records import ONE_LINE, Count, Line, Record, Versions
from ..text.dataset import TextRecord

COMPARISON_FILE = "comparison.json"
COMPARISON_FORMAT = 8
VARIED = {  # what can be varied, and the label of its axis
    "num_hiddens": "hidden units",
    "num_layers": "layers",
    "batch_size": "rows of a minibatch",
    "num_steps": "time steps",
    "threads": "threads",
    "workers": "workers",
}
Phase = Literal["training", "timing"]


def _one_of(names: Iterable[str]) -> Meta:
    return Meta(pattern=rf"^({'|'.join(names)})\Z")


Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=ONE_LINE)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Divisor = Annotated[float, Meta(ge=1e-12, le=1e9)]
Times = Annotated[list[Divisor], Meta(min_length=1, max_length=10**5)]
Perplexity = Annotated[float, Meta(ge=0.5, le=1.1e304)]  # of a loss of 700 at most


class Plan(Record, omit_defaults=False):
    """How candidates are compared."""

    device: Line = "cpu"
    threads: Count = 1
    tf32: bool = False
    repeats: Count = 5  # processes in which a candidate is timed
    seeds: Count = 1  # training runs of a candidate
    vary: Annotated[str, _one_of(VARIED)] | None = None
    values: Annotated[list[Count], Meta(max_length=32)] = []  # of the varied setting
    target: Perplexity | None = None  # held-out perplexity at which training ends
    timeout: Seconds = 900.0  # without a message, until a child is stopped

    def __post_init__(self) -> None:
        """Require values where something is varied, and only there."""
        if bool(self.vary) != bool(self.values):
            raise ValueError("values that are varied need a name, and a name needs values")

    @property
    def points(self) -> Sequence[int | None]:
        """The values of the varied setting; a single None where nothing is varied."""
        return self.values or [None]

    def label(self, name: str, value: int | None) -> str:
        """Return a candidate's name and the varied setting's value, such as "numpy, threads 2"."""
        return name if value is None else f"{name}, {self.vary} {value}"

    def is_reached(self, held_out: float | None) -> bool:
        """Return whether this perplexity of held-out text reaches the target."""
        return self.target is not None and held_out is not None and held_out <= self.target


class Failure(Record):
    """Why a candidate has no result, or not all results."""

    reason: Line
    kind: Literal["failed", "not offered"] = "failed"
    phase: Phase = "training"
    value: Count | None = None  # of the varied setting


class Ready(Record, tag=True):
    """The framework is imported and the model is built: where, and in which versions."""

    device: Line
    threads: Count
    machine: Machine
    versions: Versions


class EpochResult(Record, tag=True, kw_only=True):
    """The result of an epoch of training."""

    perplexity: Perplexity | None  # None where it is too large for a float
    held_out: Perplexity | None = None  # of held-out text, if there is any
    seconds: Seconds  # of training


class Trial(Record, tag=True):
    """A training run with one seed. A child sends it at the end, without the epochs it has sent."""

    seed: Annotated[int, Meta(ge=0, le=2**32)]
    epochs: list[EpochResult] = []
    comparisons: Whole = 0  # of the check before it, all passed
    parameters: Line = ""  # digest of the starting parameters
    minibatches_seen: Line = ""  # digest of the minibatches of the first epoch
    samples: Annotated[list[Annotated[str, Meta(max_length=LONGEST)]], Meta(max_length=100)] = []

    @property
    def has_ended(self) -> bool:
        """Whether the training run came to its end, where it generates samples."""
        return bool(self.samples and self.epochs)

    @property
    def seconds(self) -> float:
        """The seconds of training, with compilation and without evaluation."""
        return sum(epoch.seconds for epoch in self.epochs)


class Round(Record, tag=True, kw_only=True):
    """The times of one process. Of several workers, the first one's times."""

    number: Whole = 0  # set by the parent
    value: Count | None = None  # of the varied setting, set by the parent
    threads: Count
    importing: Seconds
    parameters: Line  # digests, as those of a trial
    minibatches_seen: Line
    first: Seconds  # of the first minibatch, with compilation
    minibatches: Times  # of a minibatch in the steady state, turn by turn
    products: Times  # of a minibatch's matrix products alone, in turns with the minibatches
    operations: Whole = 0  # floating-point operations of these products
    peak: list[Divisor] = []  # GFLOP/s of a large product, in turns too
    generation: Times  # of one character
    without_exchange: Times | None = None  # of a minibatch that each worker trains on by itself
    own_layer: list[Divisor] = []  # times that the framework's own layer takes as long, in turns
    memory: Whole | None = None  # most bytes of the process
    device_memory: Whole | None = None  # most bytes on the device

    @property
    def seconds(self) -> float:
        """The median time of a minibatch."""
        return statistics.median(self.minibatches)


class Candidate(Record):
    """A variant of a backend's model, in an environment of its own if it has a name.

    Two versions of one framework are the same backend in two environments.
    """

    backend: Name
    model: Annotated[str, _one_of(VARIANTS)] = VARIANTS[0]
    environment: Annotated[str, Meta(max_length=100, pattern=ONE_LINE)] = ""
    ready: Ready | None = None
    trials: list[Trial] = []
    rounds: list[Round] = []
    failures: Annotated[list[Failure], Meta(max_length=100)] = []

    @property
    def place(self) -> str:
        """The backend and its environment, as `--python` names their interpreter."""
        return self.backend + (f"@{self.environment}" if self.environment else "")

    @property
    def name(self) -> str:
        """The place, and the variant unless it is the default one."""
        return self.place + ("" if self.model == VARIANTS[0] else f" {self.model}")

    @property
    def is_offered(self) -> bool:
        """Whether the backend has this variant, as far as is known."""
        failure = self.failure("training")
        return failure is None or failure.kind != "not offered"

    def failure(self, phase: Phase, value: int | None = None) -> Failure | None:
        """Return why the candidate failed in this phase, at this value of the varied setting."""
        failures = {(failure.phase, failure.value): failure for failure in self.failures}
        return failures.get((phase, value))

    def rounds_at(self, value: int | None) -> list[Round]:
        """Return the times at one value of the varied setting."""
        return [timed for timed in self.rounds if timed.value == value]


class Comparison(Record, kw_only=True):
    """The record of a comparison."""

    format: int
    command: Annotated[str, Meta(max_length=LONGEST)]
    started: Line
    outcome: Literal["running", "finished", "interrupted"] = "running"
    machine: Machine
    load: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    plan: Plan
    settings: Settings
    text: TextRecord
    unigram: Perplexity | None = None  # of the held-out text, by the frequency of its characters
    candidates: Annotated[list[Candidate], Meta(min_length=1, max_length=32)]
    against: "Comparison | None" = None  # an older comparison, to show beside this one

    @property
    def offered(self) -> list[Candidate]:
        """The candidates that their backends have."""
        return [candidate for candidate in self.candidates if candidate.is_offered]

    @property
    def baseline(self) -> Candidate:
        """The candidate to which ratios are taken: the first one that its backend offers."""
        return (self.offered or self.candidates)[0]

    @property
    def has_failed(self) -> bool:
        """Whether anything that was to be measured could not be."""
        failures = (failure for candidate in self.candidates for failure in candidate.failures)
        return any(failure.kind != "not offered" for failure in failures)


def read(folder: Path) -> Comparison:
    """Return the record in a folder; raise RNNScratchError if it is missing or damaged."""
    absence = RNNScratchError(
        f"{folder} is not the folder of a comparison: it has no {COMPARISON_FILE}.",
        "To make one: rnn-scratch compare --output FOLDER",
    )
    try:
        return records.read(folder / COMPARISON_FILE, Comparison, COMPARISON_FORMAT, absence)
    except files.Damaged as error:
        raise RNNScratchError(
            f"{error}\nTake it from a backup, or compare again: rnn-scratch compare --output FOLDER"
        ) from error
