"""Events yielded by training sessions, and `Report`, the base class for their receivers."""

import datetime
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from ..settings import NonNegativeInt, Positive, Settings
from ..system.host import Machine
from ..system.records import Count, Record, Versions
from .runtime import Runtime

Time = Annotated[datetime.datetime, Meta(tz=True)]
LastEpoch = Annotated[int, Meta(ge=0, le=2**31)]  # 0: no epoch is complete


class Epoch(Record, tag=True, kw_only=True):
    """An epoch's metrics, stored as one line of the history; losses are in nats per character."""

    epoch: Count  #: epoch number, starting at 1
    loss: float  #: mean training loss
    perplexity: Positive | None  #: exp(loss), or None if it is too large for a float
    valid_loss: float | None = None  #: mean held-out loss, or None without held-out text
    valid_perplexity: Positive | None = None  #: exp(valid_loss), or None if missing or too large
    tokens: Count  #: number of characters trained on
    seconds: Annotated[float, Meta(ge=0)]  #: training time, excluding evaluation
    backend: str  #: name of the backend
    sample: str | None = None  #: text generated after epochs 1 to 5 and every tenth, or None


@dataclass(frozen=True)
class PartialEpoch:
    """An incomplete epoch's results so far."""

    losses: tuple[float, ...] = ()  # mean loss of each minibatch, in nats
    state: tuple[np.ndarray, ...] = ()  # carried state; empty with random sampling
    seconds: float = 0.0


EMPTY_EPOCH = PartialEpoch()


class Session(Record):
    """A training session: its machine, time and result."""

    started: Time  #: start time
    process: Count  #: process ID
    from_epoch: LastEpoch  #: last epoch completed before this session started
    runtime: Runtime  #: backend, device and threads in use
    machine: Machine  #: machine on which the session runs
    environment: Versions  #: versions of the framework and its libraries
    outcome: Literal["running", "finished", "interrupted", "failed"]  #: remains "running" if killed
    patience: NonNegativeInt = 0  #: stop after this many epochs without improvement; 0: never
    reason: str | None = None  #: reason for ending before the last epoch, or None
    ended: Time | None = None  #: end time; None until the session ends
    to_epoch: LastEpoch | None = None  #: last complete epoch in the checkpoint
    predictions: Annotated[list[str], Meta(max_length=2)] = []  #: generated text


class Message(Record, tag=True):
    """A line of text for the user."""

    text: str


class Started(Record, tag=True):
    """The start of a training session."""

    folder: str  #: run folder
    settings: Settings
    session: Session


class Progress(Record, tag=True):
    """Progress within an epoch, sent before the first minibatch and then about once a second."""

    epoch: Count
    total: Count  #: number of minibatches in the epoch
    num_trained: NonNegativeInt  #: number of minibatches processed so far
    loss: float | None  #: mean loss in nats over the minibatches so far; None before the first
    tokens: NonNegativeInt  #: number of characters in the minibatches so far
    seconds: float  #: training time for the minibatches so far
    seconds_left: float | None = None  #: estimated seconds until training ends; None if unknown

    @property
    def position(self) -> float:
        """The training run's progress, in epochs."""
        return self.epoch - 1 + self.num_trained / self.total


class Ended(Record, tag=True):
    """A session's last event, with the complete session record."""

    session: Session
    best: Epoch | None = None  #: the epoch with the lowest held-out loss


Event = Message | Started | Progress | Epoch | Ended


class Report:
    """A receiver of training events; this base class ignores all events."""

    def log(self, line: str) -> None:
        """Called with each message for the user."""

    def started(self, event: Started) -> None:
        """Called when a session starts."""

    def progress(self, event: Progress) -> None:
        """Called about once a second during an epoch."""

    def epoch(self, event: Epoch) -> None:
        """Called after each epoch with its metrics."""

    def ended(self, event: Ended) -> None:
        """Called when a session ends; if it failed, the exception is raised afterwards."""

    def receive(self, event: Event) -> None:
        """Call `log` with a message's text, or the method named after any other event's type."""
        if isinstance(event, Message):
            self.log(event.text)
        else:
            getattr(self, type(event).__name__.lower())(event)


def perplexity(loss: float) -> float | None:
    """Return exp(loss), or None if it is too large for a float."""
    return math.exp(loss) if loss < 700 else None
