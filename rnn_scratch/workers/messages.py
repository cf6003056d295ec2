"""What workers send: their processes to the supervisor, and machines to each other.

Each message is JSON and is verified where it is received; a record has the name of its type.
"""

from signal import Signals
from typing import Annotated, Literal

from msgspec import Meta

from ..runs import events
from ..runs.sessions import Work
from ..settings import MOST_WORKERS
from ..system.records import Count, Line, Record

BEAT = 1.0  # seconds between signs of life, of a worker or a machine

Address = Annotated[str, Meta(max_length=300, pattern=r"^[^\s:]+:[0-9]{1,5}\Z")]  # HOST:PORT

# From a worker to its supervisor, besides the events of the training.


class Alive(Record, tag=True):
    """A worker's sign of life."""

    process: Count  # its number
    minibatches: int  # changes while it trains


class Problem(Record, tag=True):
    """A worker has failed, or more is known of it than that it is gone."""

    reason: Annotated[str, Meta(max_length=2**16)]
    # An error for the user, the divergence of the training, or an exception, which the end of
    # another worker may have led to; "gone": it has ended, or does not answer.
    kind: Literal["error", "diverged", "exception", "gone"] = "error"


# A number is that of the signal that has stopped the worker.
Event = events.Event | Alive | Signals | Problem

# Between machines.


class Hello(Record, tag=True):
    """Who connects to worker 0."""

    rank: Annotated[int, Meta(ge=0)]
    workers: Annotated[int, Meta(le=MOST_WORKERS)]
    address: Address  # for the engine
    terms: dict[Line, Line]  # what all workers must have in common, by name

    def __post_init__(self) -> None:
        """Refuse a rank that there is not."""
        if self.rank >= self.workers:
            raise ValueError(f"rank {self.rank} of {self.workers} workers")


class Welcome(Record, tag=True):
    """All are there: the answer of worker 0."""

    addresses: list[Address]  # of the workers by rank
    work: Work  # without the text and the folder


# What follows: a sign of life, that all has ended well, or what has ended it.
News = Literal["alive", "done"] | Signals | Problem
