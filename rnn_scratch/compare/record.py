"""A comparison's record: the plan and all measurements."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..contract import VARIANTS
from ..errors import MAX_LENGTH, RNNScratchError
from ..settings import NonNegativeInt, Settings, Threads
from ..system import records
from ..system.host import Machine
from ..system.records import Count, Record, Versions
from ..text.dataset import TextRecord

COMPARISON_FILE = "comparison.json"
COMPARISON_FORMAT = 10
VARIED = ("num_hiddens", "num_layers", "batch_size", "num_steps", "threads")
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Speed = Annotated[float, Meta(gt=0, le=1e12)]  # characters per second
Load = Annotated[float, Meta(ge=0, le=1e9)]  # one-minute load average
Perplexity = Annotated[float, Meta(ge=0.5, le=1.1e304)]  # maximum: exp(700)


class Plan(Record, omit_defaults=False):
    """A comparison's plan."""

    device: Annotated[str, "Device: cpu, cuda, mps, or auto for each backend's best."] = "cpu"
    threads: Annotated[Threads, "Number of threads of each candidate."] = 1
    seconds: Annotated[
        Seconds,
        "End the turns after X seconds (0: no turns), or if all intervals are within ±3%.",
    ] = 120.0
    sweep: Annotated[str, Meta(pattern=rf"^({'|'.join(VARIED)})\Z")] | None = msgspec.field(
        default=None, name="vary"
    )
    values: list[Count] = []  # values of the varied setting

    @property
    def varied_values(self) -> Sequence[int | None]:
        """The values of the varied setting, or a single None if no setting is varied."""
        return self.values or [None]


class CandidateEnvironment(Record):
    """The device, number of threads and library versions that a candidate uses."""

    device: str
    threads: Count
    versions: Versions


class EpochResult(Record):
    """The perplexities after an epoch; None if missing or too large for a float."""

    epoch: Count
    perplexity: Perplexity | None = None
    valid_perplexity: Perplexity | None = None


class Candidate(Record):
    """A backend variant at one value of the varied setting, with its measurements."""

    backend: Annotated[str, Meta(min_length=1, max_length=100)]
    variant: Annotated[str, Meta(pattern=rf"^({'|'.join(VARIANTS)})\Z")] = msgspec.field(
        default=VARIANTS[0], name="model"
    )
    value: Count | None = None
    environment: CandidateEnvironment | None = None
    import_seconds: Seconds | None = None  # time to import the framework
    first_minibatch_seconds: Seconds | None = None  # includes compilation
    memory: Annotated[int, Meta(ge=0, le=2**53)] | None = None  # peak memory in bytes after warm-up
    checks_passed: NonNegativeInt | None = None  # number of comparisons with the reference
    epochs: list[EpochResult] = []  # the training curve
    sample: Annotated[str, Meta(max_length=MAX_LENGTH)] | None = None  # generated after training
    training_speeds: list[Speed] = []  # one per cycle
    generation_speeds: list[Speed] = []  # one every fourth cycle
    failure: str | None = None  # why the measurements ended early
    is_supported: bool = True  # whether the backend supports this variant

    @property
    def name(self) -> str:
        """The backend name, followed by the variant unless it is the default."""
        return self.backend + ("" if self.variant == VARIANTS[0] else f" {self.variant}")


class Comparison(Record, kw_only=True):
    """A comparison's record."""

    format: Annotated[int, Meta(ge=COMPARISON_FORMAT, le=COMPARISON_FORMAT)]
    command: Annotated[str, Meta(max_length=MAX_LENGTH)]
    started: str
    ended: str | None = None
    outcome: Literal["running", "finished", "interrupted"] = "running"
    machine: Machine
    load: Load | None = None  # load average before the comparison
    load_of_turns: Load | None = None  # load average after the turns, including their own load
    plan: Plan
    settings: Settings
    text: TextRecord
    candidates: Annotated[list[Candidate], Meta(min_length=1, max_length=10**4)]

    @property
    def supported(self) -> list[Candidate]:
        """The candidates that are supported or have not started yet."""
        return [candidate for candidate in self.candidates if candidate.is_supported]

    @property
    def has_failed(self) -> bool:
        """Whether any candidate has failed."""
        return any(candidate.failure for candidate in self.supported)

    def label(self, candidate: Candidate) -> str:
        """Return a candidate's name and varied setting, such as "jax, threads 2"."""
        value = "" if candidate.value is None else f", {self.plan.sweep} {candidate.value}"
        return candidate.name + value

    def references(self, candidate: Candidate) -> dict[str, Candidate]:
        """Return the candidates that serve as speed references for `candidate`, by kind."""
        backend, variant, value = candidate.backend, candidate.variant, candidate.value
        baseline = self.supported[0]
        keys = {
            "vs_baseline": (baseline.backend, baseline.variant, value),
            "vs_scratch": (backend, "scratch", value),
            "vs_builtin_layer": (backend, "concise", value),
            "vs_first_value": (backend, variant, self.plan.varied_values[0]),
        }
        peers = {(c.backend, c.variant, c.value): c for c in self.supported if c is not candidate}
        return {kind: peers[key] for kind, key in keys.items() if key in peers}


def read(folder: Path) -> Comparison:
    """Read the record in a folder; raise RNNScratchError if it is missing or corrupted."""
    problem = f"{folder} is not the folder of a comparison: it has no {COMPARISON_FILE}."
    missing_error = RNNScratchError(problem, "Create one: rnn-scratch compare --output FOLDER")
    return records.read(folder / COMPARISON_FILE, Comparison, missing_error)
