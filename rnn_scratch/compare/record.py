"""The record of a comparison: its plan and all measurements.

Child processes send parts of the record: `Ready`, `EpochResult`, `Trial` and `Round`.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from ..contract import VARIANTS
from ..errors import MAX_LENGTH, RNNScratchError
from ..settings import Settings
from ..system import records
from ..system.host import Machine
from ..system.records import Count, Record, Versions
from ..text.dataset import TextRecord

COMPARISON_FILE = "comparison.json"
COMPARISON_FORMAT = 9
VARIED = {  # settings that can be varied, and their axis labels
    "num_hiddens": "hidden units",
    "num_layers": "layers",
    "batch_size": "rows of a minibatch",
    "num_steps": "time steps",
    "threads": "threads",
}
Phase = Literal["training", "timing"]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Divisor = Annotated[float, Meta(ge=1e-12, le=1e9)]
Durations = Annotated[list[Divisor], Meta(min_length=1, max_length=10**5)]  # seconds
Perplexity = Annotated[float, Meta(ge=0.5, le=1.1e304)]  # maximum: exp(700)


class Plan(Record, omit_defaults=False):
    """The plan of a comparison."""

    device: str = "cpu"
    threads: Count = 1
    repeats: Count = 5  # timing processes per candidate
    seeds: Count = 1  # training runs per candidate
    vary: Annotated[str, Meta(pattern=rf"^({'|'.join(VARIED)})\Z")] | None = None
    values: list[Count] = []  # values of the varied setting
    target: Perplexity | None = None  # held-out perplexity at which a training run ends
    timeout: Seconds = 900.0  # seconds of silence after which a child process is killed

    def __post_init__(self) -> None:
        """Require values if and only if a setting is varied."""
        if bool(self.vary) != bool(self.values):
            raise ValueError("`vary` requires `values`, and `values` requires `vary`")

    @property
    def varied_values(self) -> Sequence[int | None]:
        """The values of the varied setting, or a single None if no setting is varied."""
        return self.values or [None]

    def label(self, name: str, value: int | None) -> str:
        """Return a name and the value of the varied setting, such as "numpy, threads 2"."""
        return name if value is None else f"{name}, {self.vary} {value}"

    def is_reached(self, held_out: float | None) -> bool:
        """Return whether a held-out perplexity reaches the target."""
        return self.target is not None and held_out is not None and held_out <= self.target


class Failure(Record):
    """The reason why a phase ended early for a candidate, at one value of the varied setting."""

    reason: str
    kind: Literal["failed", "not offered"] = "failed"
    phase: Phase = "training"
    value: Count | None = None


class Ready(Record, tag=True):
    """The environment of a candidate whose model has been built."""

    device: str
    threads: Count
    machine: Machine
    versions: Versions


class EpochResult(Record, tag=True, kw_only=True):
    """The perplexities after an epoch (None if too large for a float), and its training time."""

    perplexity: Perplexity | None
    held_out: Perplexity | None = None
    seconds: Seconds


class Trial(Record, tag=True):
    """A training run with one seed; a child process sends the epochs separately."""

    seed: Annotated[int, Meta(ge=0, le=2**32)]
    epochs: list[EpochResult] = []
    checks_passed: Whole = 0  # number of passed comparisons with the reference
    samples: Annotated[list[Annotated[str, Meta(max_length=MAX_LENGTH)]], Meta(max_length=100)] = []

    @property
    def has_ended(self) -> bool:
        """Whether the training run has ended without an interruption."""
        return bool(self.samples and self.epochs)

    @property
    def seconds(self) -> float:
        """The training time, including compilation and excluding evaluation."""
        return sum(epoch.seconds for epoch in self.epochs)


class Round(Record, tag=True, kw_only=True):
    """Timings from one process; the parent process sets `number` and `value`."""

    number: Whole = 0
    value: Count | None = None
    threads: Count
    import_seconds: Seconds  # time to import the framework
    first_minibatch: Seconds  # time of the first minibatch, including compilation
    minibatches: Durations  # time per minibatch after a warm-up, one value per turn
    products: Durations  # time of a minibatch's matrix products alone, one value per turn
    generation: Durations  # time per generated character, one value per measurement
    memory: Whole | None = None  # peak memory of the process in bytes
    device_memory: Whole | None = None  # peak memory on the device in bytes

    @property
    def seconds(self) -> float:
        """The median time per minibatch."""
        return statistics.median(self.minibatches)


class Candidate(Record):
    """A variant of a backend's model, with its measurements."""

    backend: Name
    model: Annotated[str, Meta(pattern=rf"^({'|'.join(VARIANTS)})\Z")] = VARIANTS[0]
    ready: Ready | None = None
    trials: list[Trial] = []
    rounds: list[Round] = []
    failures: Annotated[list[Failure], Meta(max_length=100)] = []

    @property
    def name(self) -> str:
        """The name of the backend and, unless it is the default variant, of the variant."""
        return self.backend + ("" if self.model == VARIANTS[0] else f" {self.model}")

    @property
    def is_offered(self) -> bool:
        """Whether the backend offers this variant, or has not been asked yet."""
        failure = self.failure("training")
        return failure is None or failure.kind != "not offered"

    def failure(self, phase: Phase, value: int | None = None) -> Failure | None:
        """Return the failure in a phase at a value of the varied setting, or None."""
        failures = {(failure.phase, failure.value): failure for failure in self.failures}
        return failures.get((phase, value))

    def rounds_at(self, value: int | None) -> list[Round]:
        """Return the timings at one value of the varied setting."""
        return [timing for timing in self.rounds if timing.value == value]


class Comparison(Record, kw_only=True):
    """The record of a comparison."""

    format: Annotated[int, Meta(ge=COMPARISON_FORMAT, le=COMPARISON_FORMAT)]
    command: Annotated[str, Meta(max_length=MAX_LENGTH)]
    started: str
    outcome: Literal["running", "finished", "interrupted"] = "running"
    machine: Machine
    load: Annotated[float, Meta(ge=0, le=1e9)] | None = None  # one-minute load average
    plan: Plan
    settings: Settings
    text: TextRecord
    unigram: Perplexity | None = None  # perplexity of a unigram model of the held-out text
    candidates: Annotated[list[Candidate], Meta(min_length=1, max_length=32)]

    @property
    def offered(self) -> list[Candidate]:
        """The candidates that are offered by their backends."""
        return [candidate for candidate in self.candidates if candidate.is_offered]

    @property
    def baseline(self) -> Candidate:
        """The first offered candidate, to which speed ratios refer."""
        return (self.offered or self.candidates)[0]

    def built_in_layer(self, candidate: Candidate) -> Candidate | None:
        """Return the built-in-layer candidate of the same backend, or None."""
        layers = (c for c in self.candidates if c.model == "concise" != candidate.model)
        return next((layer for layer in layers if layer.backend == candidate.backend), None)

    @property
    def has_failed(self) -> bool:
        """Whether a training run or a timing has failed."""
        failures = (failure for candidate in self.candidates for failure in candidate.failures)
        return any(failure.kind != "not offered" for failure in failures)


def read(folder: Path) -> Comparison:
    """Read the record in a folder; raise RNNScratchError if it is missing or damaged."""
    missing_error = RNNScratchError(
        f"{folder} is not the folder of a comparison: it has no {COMPARISON_FILE}.",
        "Create one: rnn-scratch compare --output FOLDER",
    )
    return records.read(folder / COMPARISON_FILE, Comparison, missing_error)
