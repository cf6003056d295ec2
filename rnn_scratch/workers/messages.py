"""What workers send: their processes to the supervisor, and machines to each other.

Each is a JSON object, which has the name of its type, and is verified where it is received.
"""

import signal
from typing import Annotated, Literal

from msgspec import Meta

from ..runs.folder import Epoch, Session
from ..runs.training import Progress
from ..settings import MOST_WORKERS
from ..system.records import Count, Line, Record
from .launch import Work

BEAT = 1.0  # seconds between signs of life, of a worker or a machine

Rank = Annotated[int, Meta(ge=0, lt=MOST_WORKERS)]
Size = Annotated[int, Meta(ge=1, le=MOST_WORKERS)]


class Message(Record, tag=True):
    """A message."""


# From a worker to its supervisor: the first one's progress, as in `training.Report`.


class Alive(Message):
    """A sign of life."""

    process: Count  # its number
    minibatches: int  # trained so far


class Notice(Message):
    """A line for the user."""

    line: str


class Start(Message):
    """Training begins."""

    folder: str  # of the run
    session: Session


class Advance(Message):
    """An epoch advances."""

    progress: Progress


class EpochEnd(Message):
    """An epoch has ended."""

    epoch: Epoch


# From a worker or a machine: why training cannot go on.


class Interruption(Message):
    """A signal has stopped a worker."""

    number: signal.Signals


class Problem(Message):
    """A worker has failed, or more is known of it than that it is gone."""

    reason: str
    # An error for the user, the divergence of the training, or an exception, which the end of
    # another worker may have led to; "gone": it has ended, or does not answer.
    kind: Literal["error", "diverged", "exception", "gone"] = "error"


Event = Alive | Notice | Start | Advance | EpochEnd | Interruption | Problem

# Between machines.


class Hello(Message):
    """Who connects to worker 0."""

    rank: Rank
    workers: Size
    address: Line  # for the engine
    terms: dict[str, str]  # what all workers must have in common, by name


class Welcome(Message):
    """All are there: the answer of worker 0."""

    addresses: Annotated[list[Line], Meta(max_length=MOST_WORKERS)]  # of the workers by rank
    work: Work  # without the text and the folder


class Beat(Message):
    """A sign of life."""


class Done(Message):
    """The workers of a machine have ended, and nothing more follows."""
