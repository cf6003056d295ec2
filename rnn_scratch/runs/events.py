"""The events of a training, in the order in which they happen, and `Report`, which receives them.

Training is a generator of events. Each event is a record, so that a worker's pipe can carry it.
"""

from collections.abc import Generator
from typing import Annotated, TypeVar

from msgspec import Meta

from ..settings import Settings
from ..system.records import Count, Record
from .run_folder import Epoch, Session

NotNegative = Annotated[int, Meta(ge=0)]
Result = TypeVar("Result")


class Message(Record, tag=True):
    """A line for the user."""

    text: str


class Started(Record, tag=True):
    """A session of training has begun."""

    folder: str  #: of the run
    settings: Settings
    session: Session


class Progress(Record, tag=True):
    """How far an epoch has come: before its first minibatch, and about every second after it."""

    epoch: Count
    total: Count  #: minibatches
    done: NotNegative  #: minibatches
    loss: float | None  #: the mean over these, in nats; None before the first
    tokens: NotNegative  #: characters in these minibatches
    seconds: float  #: of training on these minibatches
    left: float | None = None  #: seconds to the end of the last epoch; None if it is unknown

    @property
    def position(self) -> float:
        """How far the training has come, in epochs."""
        return self.epoch - 1 + self.done / self.total


class Ended(Record, tag=True):
    """The session has ended, and its record is complete; the last event after `Started`."""

    session: Session
    best: Epoch | None = None  #: the epoch with the lowest loss on held-out text


# An `Epoch` is the end of an epoch, and on the disk.
Event = Message | Started | Progress | Epoch | Ended


class Report:
    """Receive the events of a training; this base class ignores them."""

    def say(self, line: str) -> None:
        """Receive a line for the user."""

    def started(self, event: Started) -> None:
        """Receive the start of a session."""

    def progress(self, event: Progress) -> None:
        """Receive the progress within an epoch, about once a second."""

    def epoch(self, event: Epoch) -> None:
        """Receive a completed epoch, which is in the history."""

    def ended(self, event: Ended) -> None:
        """Receive the end of the session, whatever its outcome; if it failed, the error follows."""

    def receive(self, event: Event) -> None:
        """Call the method for the event."""
        match event:
            case Message():
                self.say(event.text)
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
