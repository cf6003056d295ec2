"""The record of a comparison: what was compared and how, and all that was measured.

What a child process of a comparison sends is a part of the record too: `Ready`, `Epoch`,
`Training`, `Round` or `Failure`.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from ..contract import VARIANTS, RNNScratchError
from ..registry import FRAMEWORKS
from ..settings import Settings
from ..system import files, records
from ..system.host import Machine
from ..system.records import ONE_LINE, Count, Line, Record
from ..text.dataset import TextRecord

RECORD = "comparison.json"
FORMAT = 5
VARIED = {  # and of what its values are numbers
    "num_hiddens": "hidden units",
    "batch_size": "rows of a minibatch",
    "num_steps": "time steps",
    "threads": "threads",
    "workers": "workers",
}
Verdict = Literal["faster", "slower", "no measurable difference", "too few processes to tell"]
FASTER: Final = "faster"
SLOWER: Final = "slower"
EQUAL: Final = "no measurable difference"
TOO_FEW: Final = "too few processes to tell"


def _one_of(names: Iterable[str]) -> Meta:
    return Meta(pattern=rf"^({'|'.join(names)})\Z")


Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=ONE_LINE)]
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Figure = Annotated[float, Meta(ge=0, le=1e30)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Steady = Annotated[float, Meta(ge=1e-12, le=1e9)]  # that something is divided by
Times = Annotated[list[Steady], Meta(min_length=1, max_length=10**6)]
Perplexity = Annotated[float, Meta(ge=0.5, le=1.1e304)]  # of a loss of 700 at most
# Rounding can make a loss negative, but not by much: the perplexity stays above its own limit.
Loss = Annotated[float, Meta(ge=-0.69, le=1e300)]


class Spread(Record):
    """The median of several measurements, with the lowest and the highest."""

    median: Annotated[float, Meta(ge=1e-12, le=1e30)]  # that something is divided by
    low: Figure
    high: Figure


class Plan(Record, omit_defaults=False):
    """How candidates are compared."""

    device: Line = "cpu"
    threads: Count = 1
    tf32: bool = False
    repeats: Count = 5  # processes in which each is timed
    seeds: Count = 1  # training runs of each
    vary: Annotated[str, _one_of(VARIED)] | None = None
    values: list[Count] = []  # of what is varied
    target: Perplexity | None = None  # held-out perplexity at which training ends
    pythons: list[Name] = []  # names of interpreters other than this one; their paths are private
    timeout: Seconds = 900.0  # without a message, after which a child is stopped

    def __post_init__(self) -> None:
        """Require values for what is varied, and only for that."""
        if bool(self.vary) != bool(self.values):
            raise ValueError("values that are varied need a name, and a name needs values")

    @property
    def points(self) -> Sequence[int | None]:
        """The values of what is varied; a single None where nothing is."""
        return self.values or [None]

    def labelled(self, name: str, value: int | None) -> str:
        """A candidate's name with a value of what is varied, such as "numpy, threads 2"."""
        return name if value is None else f"{name}, {self.vary} {value}"

    def is_reached(self, epoch: "Epoch") -> bool:
        """Whether the target is reached after this epoch."""
        held_out = epoch.held_out
        return self.target is not None and held_out is not None and held_out <= self.target


class Failure(Record, tag=True):
    """Why something has no result, or not all of it."""

    reason: Line
    kind: Literal["failed", "not started", "not offered"] = "failed"


class Ready(Record, tag=True):
    """The framework is imported and the model is built: where, and in which versions."""

    device: Line
    threads: Count
    machine: Machine
    versions: dict[Line, Line]


class Epoch(Record, tag=True, kw_only=True):
    """An epoch of training."""

    perplexity: Perplexity
    held_out: Perplexity | None = None  # if there is held-out text
    seconds: Seconds  # of training
    losses: list[Loss] = []  # of each minibatch; sent in float64, and not kept in the record


class Training(Record, tag=True):
    """A training run. When it ends, a child sends it without its epochs, which it has sent."""

    seed: Annotated[int, Meta(ge=0, le=2**32)]
    epochs: list[Epoch] = []
    comparisons: Whole = 0  # of the check before it, all passed
    parameters: Line = ""  # digest of those at the start
    minibatches_seen: Line = ""  # digest
    samples: Annotated[list[str], Meta(max_length=100)] = []  # none until it has ended

    @property
    def seconds(self) -> float:
        """The seconds of training, with compilation and without evaluation."""
        return sum(epoch.seconds for epoch in self.epochs)


class Round(Record, tag=True, kw_only=True):
    """The times of one process. Of several workers, they are the first one's."""

    number: Whole = 0  # given by the parent
    threads: Count
    importing: Seconds
    parameters: Line  # digests, as those of a training run
    minibatches_seen: Line
    first: Seconds  # minibatch, with its compilation
    minibatches: Times  # of one in the steady state, turn by turn
    products: Times  # of a minibatch's matrix products and nothing else, between them
    generation: Times  # of one character
    without_exchange: Times | None = None  # of a minibatch in which each worker is by itself
    # How many times as long the framework's own layer takes, in turns with this model. A round is
    # sent without these first, because it is valid if the layer fails.
    own_layer: list[Steady] = []
    memory: Whole | None = None  # bytes of the process at most
    device_memory: Whole | None = None  # on the device

    @property
    def seconds(self) -> float:
        """The median time of a minibatch."""
        return statistics.median(self.minibatches)

    @property
    def of_own_limit(self) -> float:
        """The share of the time that matrix products alone take, from 0 to 1.

        Turn by turn, because what slows the machine for a moment slows both.
        """
        turns = zip(self.products, self.minibatches)
        return statistics.median(products / minibatch for products, minibatch in turns)


class Timing(Record):
    """The times of a candidate, at one value of what is varied."""

    value: Count | None = None
    rounds: list[Round] = []
    failure: Failure | None = None
    layer_failure: Failure | None = None  # of the own layer, timed in turns with the candidate


class Candidate(Record):
    """A variant of a backend's model, in an environment of its own if it has a name.

    Two versions of one framework are the same backend in two environments.
    """

    backend: Name
    model: Annotated[str, _one_of(VARIANTS)] = VARIANTS[0]
    environment: Annotated[str, Meta(max_length=100, pattern=ONE_LINE)] = ""
    ready: Ready | None = None
    failure: Failure | None = None
    trainings: list[Training] = []
    # Relative differences of the losses in float64 to NumPy's, update by update.
    differences: list[Annotated[float, Meta(ge=0, le=1e300)]] = []
    float64_failure: Failure | None = None
    timings: list[Timing] = []

    @property
    def place(self) -> str:
        """The backend and its environment, as `--python` names their interpreter."""
        return self.backend + (f"@{self.environment}" if self.environment else "")

    @property
    def name(self) -> str:
        """The place, and the variant unless it is the default one."""
        return self.place + ("" if self.model == VARIANTS[0] else f" {self.model}")

    @property
    def title(self) -> str:
        """The name in a sentence, such as "PyTorch's `fast`"."""
        framework = {"numpy": "NumPy", **FRAMEWORKS}.get(self.backend, self.backend)
        where = f" ({self.environment})" if self.environment else ""
        return f"{framework}'s `{self.model}`{where}"

    @property
    def is_offered(self) -> bool:
        """Whether the backend has this variant, as far as is known."""
        return self.failure is None or self.failure.kind != "not offered"

    @property
    def finished(self) -> list[Training]:
        """The training runs that have ended."""
        return [each for each in self.trainings if each.samples and each.epochs]

    @property
    def failures(self) -> list[Failure]:
        """All that failed, other than what is not offered."""
        found = [self.failure]
        if self.float64_failure and self.float64_failure.kind == "failed":
            found.append(self.float64_failure)
        for timing in self.timings:
            found += [timing.failure, timing.layer_failure]
        return [each for each in found if each and each.kind != "not offered"]

    def timing(self, value: int | None) -> Timing:
        """The times at one value of what is varied."""
        return next(timing for timing in self.timings if timing.value == value)


class Speed(Record, kw_only=True):
    """A candidate's speed, at one value of what is varied."""

    candidate: Line
    backend: Name
    model: Line
    environment: Line = ""  # its name; empty: the common one
    value: Count | None = None
    threads: Count
    train: Spread  # characters/s of training
    ratio: Spread | None = None  # to the baseline, round by round
    own_layer: Spread | None = None  # to the framework's own layer, in turns in one process
    products: Spread  # characters/s that the matrix products alone would allow
    of_own_limit: Spread  # share of that
    of_best_limit: Figure  # share of the best of all candidates' limits
    generate: Spread  # characters/s
    importing: Spread  # s
    first: Spread  # s of the first minibatch
    memory: Figure | None = None  # MiB of the process at most
    device_memory: Figure | None = None  # MiB on the device at most
    speed_up: Spread | None = None  # to the fewest workers, round by round; if they are varied
    efficiency: Spread | None = None  # speed-up for each time as many workers
    exchange: Spread | None = None  # milliseconds of a minibatch that the exchange takes


class Change(Record):
    """A speed, before and now, and whether it has changed."""

    before: Speed
    now: Speed
    verdict: Verdict
    corrected: bool  # whether shares of the own limit were compared, and not the times

    @property
    def ratio(self) -> float:
        """How many times as fast it is now."""
        return self.now.train.median / self.before.train.median


class Against(Record):
    """An older comparison, beside this one."""

    started: Line
    differences: list[Line]
    speeds: list[Change]


class Comparison(Record, kw_only=True):
    """The record of a comparison."""

    format: int
    command: str
    started: Line
    outcome: Literal["running", "finished", "interrupted"] = "running"
    machine: Machine
    load: Figure | None = None
    plan: Plan
    settings: Settings
    text: TextRecord
    unigram: Perplexity | None = None  # of the held-out text, by the frequency of its characters
    candidates: Annotated[list[Candidate], Meta(min_length=1)]
    against: Against | None = None

    def __post_init__(self) -> None:
        """Verify that the parts fit each other."""
        for number, candidate in enumerate(self.candidates):
            if [timing.value for timing in candidate.timings] != list(self.plan.points):
                raise ValueError(f"candidates[{number}] has other values than the plan")
        names = {candidate.name for candidate in self.candidates}
        for change in self.against.speeds if self.against else ():
            if change.now.candidate not in names or change.now.value not in self.plan.points:
                raise ValueError("against has a speed that is not one of this comparison")

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
        return any(candidate.failures for candidate in self.candidates)

    def candidate(self, name: str) -> Candidate:
        """The candidate with this name."""
        return next(each for each in self.candidates if each.name == name)


def read(folder: Path) -> Comparison:
    """The record in a folder; RNNScratchError where there is none or it is damaged."""
    absence = (
        f"{folder} is not the folder of a comparison: it has no {RECORD}.\n"
        "To make one: rnn-scratch compare --output FOLDER"
    )
    try:
        return records.read(folder / RECORD, Comparison, FORMAT, absence)
    except files.Damaged as error:
        raise RNNScratchError(
            f"{error}\nTake it from a backup, or compare again: rnn-scratch compare --output FOLDER"
        ) from error


def write(folder: Path, record: Comparison) -> None:
    """Write the record; the old one stays until the new one is complete."""
    records.write(folder / RECORD, record)
