"""The events of training, in the order in which they happen, and `Report`, which receives them.

Training is a generator of events. Events are records, so that a worker's pipe can carry them.
"""

import datetime
import math
from collections.abc import Generator
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from msgspec import Meta

from ..settings import Settings
from ..system.host import Machine
from ..system.records import Count, Line, Record, Versions
from .runtime import Runtime

NotNegative = Annotated[int, Meta(ge=0)]
AboveZero = Annotated[float, Meta(gt=0)]
Time = Annotated[datetime.datetime, Meta(tz=True)]
LastEpoch = Annotated[int, Meta(ge=0, le=2**31)]  # 0: no epoch is complete
Result = TypeVar("Result")


class Epoch(Record, tag=True):
    """The metrics of an epoch, a line of the history; losses are means in nats per character."""

    epoch: Count  #: number of the epoch, from 1
    loss: float  #: mean training loss
    perplexity: AboveZero | None  #: exp(loss), or None if it is too large for a float
    valid_loss: float | None  #: loss on held-out text, or None without held-out text
    valid_perplexity: AboveZero | None  #: exp(valid_loss), or None
    tokens: Count  #: number of characters trained on
    seconds: Annotated[float, Meta(ge=0)]  #: time that training took, without the evaluation
    backend: Line  #: name of the backend
    sample: str | None  #: text that the model generates after every tenth epoch, else None


class Incomplete(NamedTuple):
    """The trained part of an epoch: the minibatches up to some point."""

    losses: tuple[float, ...] = ()  # mean loss of each minibatch in nats
    state: tuple[np.ndarray, ...] = ()  # carried state; empty if sampling doesn't carry it
    seconds: float = 0.0


NOTHING = Incomplete()


class Session(Record):
    """A training session of a run: its machine, time and result."""

    started: Time  #: time of the start
    process: Count  #: process ID
    from_epoch: LastEpoch  #: last complete epoch at the start
    runtime: Runtime  #: backend, device and threads in use
    machine: Machine  #: the computer
    environment: Versions  #: versions of the framework and its libraries
    outcome: Literal["running", "finished", "interrupted", "failed"]  #: "running" if it was killed
    patience: LastEpoch = 0  #: epochs without improvement after which training ends; 0 for no limit
    reason: str | None = None  #: why training ended before the last epoch
    ended: Time | None = None  #: time of the end
    to_epoch: LastEpoch | None = None  #: last complete epoch in the checkpoint
    predictions: Annotated[list[str], Meta(max_length=2)] = []  #: texts generated at the end


class Message(Record, tag=True):
    """A line for the user."""

    text: str


class Started(Record, tag=True):
    """The start of a session of training."""

    folder: str  #: folder of the run
    settings: Settings
    session: Session


class Progress(Record, tag=True):
    """The progress within an epoch: before its first minibatch, and about once a second."""

    epoch: Count
    total: Count  #: number of minibatches in the epoch
    done: NotNegative  #: number of trained minibatches
    loss: float | None  #: mean loss of the trained minibatches in nats; None before the first
    tokens: NotNegative  #: number of characters in the trained minibatches
    seconds: float  #: time that these minibatches took
    left: float | None = None  #: seconds to the end of the last epoch; None if unknown

    @property
    def position(self) -> float:
        """The progress of the whole training, in epochs."""
        return self.epoch - 1 + self.done / self.total


class Ended(Record, tag=True):
    """The end of a session, whose record is complete: the last event after `Started`."""

    session: Session
    best: Epoch | None = None  #: the epoch with the lowest loss on held-out text


# An `Epoch` is sent when the epoch is in the history.
Event = Message | Started | Progress | Epoch | Ended


class Report:
    """Receive the events of training; this base class ignores them."""

    def log(self, line: str) -> None:
        """Receive a line for the user."""

    def started(self, event: Started) -> None:
        """Receive the start of a session."""

    def progress(self, event: Progress) -> None:
        """Receive the progress within an epoch, about once a second."""

    def epoch(self, event: Epoch) -> None:
        """Receive an epoch that has ended and is in the history."""

    def ended(self, event: Ended) -> None:
        """Receive the end of the session; if the session failed, the error follows."""

    def receive(self, event: Event) -> None:
        """Call the method for the event."""
        match event:
            case Message():
                self.log(event.text)
            case Started():
                self.started(event)
            case Progress():
                self.progress(event)
            case Epoch():
                self.epoch(event)
            case Ended():
                self.ended(event)


def drive(events: Generator[Event, None, Result], report: Report) -> Result:
    """Pass the events to the report, and return the generator's result.

    An error of the report is thrown into the generator, so that the session records it.
    """
    try:
        event = next(events)
        while True:
            try:
                report.receive(event)
            except BaseException as error:
                event = events.throw(error)
            else:
                event = next(events)
    except StopIteration as end:
        return end.value


def perplexity(loss: float) -> float | None:
    """Return exp(loss), or None if it is too large for a float."""
    return math.exp(loss) if loss < 700 else None
