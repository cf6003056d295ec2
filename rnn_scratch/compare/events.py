"""What the workers of a comparison send: events with named fields, in an order that is verified.

A worker sends an event as a JSON object with its name, ``event``, and its fields.
"""

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, TypedDict

from ..contract import RNNScratchError
from ..system import host
from ..system.processes import one_line, verified
from ..system.schema import Count, Line, between, length

Bytes = Annotated[int, between(0, 2**53)]
Seconds = Annotated[float, between(0, 1e9)]
Steady = Annotated[float, between(1e-12, 1e9)]  # seconds that something is divided by
Times = Annotated[list[Steady], length(1, 10**6)]
# Rounding can make a loss negative, but not by much: the perplexity stays above its own limit.
Losses = Annotated[list[Annotated[float, between(-0.69, 1e300)]], length(1, 10**8)]
Perplexity = Annotated[float, between(0.5, 1.1e304)]  # of a loss of 700 at most
Samples = Annotated[list[str], length(1, 100)]


class Ready(NamedTuple):
    """The framework is imported and the model is built."""

    importing: Seconds
    device: Line
    threads: Count
    libraries: dict[str, int | None]  # the number of threads of each
    machine: host.Machine
    environment: dict[str, Line]  # versions


class NotOffered(NamedTuple):
    """The backend lacks this variant of the model."""

    reason: str


class Failed(NamedTuple):
    """The worker cannot continue."""

    reason: str


class Comparison(NamedTuple):
    """The check advances."""

    number: Count


class Checked(NamedTuple):
    """The check has ended."""

    comparisons: Count
    failures: list[str]


class Epoch(NamedTuple):
    """An epoch of training."""

    number: Count
    losses: Losses  # of each minibatch
    held_out: Perplexity | None  # perplexity, if there is held-out text
    seconds: Seconds  # of training


class Trained(NamedTuple):
    """The training has ended."""

    parameters: Line  # digest of those at the start
    minibatches_seen: Line  # digest
    samples: Samples
    reached: bool  # whether it has ended because the target is reached


class Turn(NamedTuple):
    """Timing advances."""

    number: Count


class Conditions(TypedDict):
    """What held up a process while it was timed, as in `host.waiting`; all in seconds."""

    seconds: Seconds
    waited: Seconds | None
    stolen: Seconds | None
    throttled: Seconds | None


class Timed(NamedTuple):
    """The times of one process: of what, and in which unit, is in `tasks.measure`."""

    parameters: Line
    minibatches_seen: Line
    first: Seconds
    minibatches: Times
    without_exchange: Times | None  # of several workers
    products: Times
    generation: Times
    memory: Bytes | None
    device_memory: Bytes | None
    conditions: Conditions


class Pair(TypedDict):
    """Times of one turn: of this model, and of the framework's own layer."""

    model: Steady
    layer: Steady


Pairs = Annotated[list[Pair], length(1, 10**6)]


class OwnLayer(NamedTuple):
    """Times of this model and of the framework's own layer, taken in turns."""

    minibatches: Pairs
    generation: Pairs


Event = (
    Ready | NotOffered | Failed | Comparison | Checked | Epoch | Trained | Turn | Timed | OwnLayer
)
KINDS: dict[str, type] = {
    "ready": Ready,
    "not offered": NotOffered,
    "failed": Failed,
    "comparison": Comparison,
    "checked": Checked,
    "epoch": Epoch,
    "trained": Trained,
    "turn": Turn,
    "timed": Timed,
    "own layer": OwnLayer,
}
NAMES = {kind: name for name, kind in KINDS.items()}

Repeated = (Comparison, Epoch, Turn)  # with consecutive numbers

# The events of each task, in order.
TRAINING = (Ready, Epoch, Trained)
TRAINING_AFTER_CHECK = (Ready, Comparison, Checked, Epoch, Trained)
TIMING = (Ready, Turn, Timed)
TIMING_WITH_LAYER = (*TIMING, Turn, OwnLayer)


class Unavailable(RNNScratchError):  # noqa: N818 - a limitation, not an error of the worker
    """The worker says, before it begins, that it cannot do what it was asked."""


def message(event: Event) -> dict[str, Any]:
    """The event as a JSON object."""
    return {"event": NAMES[type(event)], **event._asdict()}


def receive(answers: Iterable[Any], order: Sequence[type], num_epochs: int) -> Iterator[Event]:
    """The events that a worker sends; where it may train, `NotOffered` can be the only one.

    Raises RNNScratchError for what is no event or is out of order, after `Failed`, and where the
    last event of the order, or one of the epochs, is missing.
    """
    last, number = -1, 0  # position in the order, and the number of events of this kind so far
    for answer in answers:
        event = _event(answer)
        kind, name = type(event), NAMES[type(event)]
        if isinstance(event, Failed):
            error = Unavailable if last < 0 else RNNScratchError
            raise error(one_line(event.reason))
        if isinstance(event, NotOffered) and last < 0 and Epoch in order:
            order = (NotOffered,)
        is_repeated = isinstance(event, Repeated) and last >= 0 and order[last] is kind
        before, number = number, number + 1 if is_repeated else 1
        last += not is_repeated
        if kind is not next(iter(order[last:]), None):
            raise RNNScratchError(f"it sent the event {name!r} out of order")
        if isinstance(event, Repeated) and event.number != number:
            raise RNNScratchError(f"it sent {name} {event.number} instead of {number}")
        is_early = isinstance(event, Trained) and before != num_epochs and not event.reached
        if (kind is Epoch and number > num_epochs) or is_early:
            raise RNNScratchError(f"it did not train {num_epochs} epochs")
        yield event
    if last < len(order) - 1:
        raise RNNScratchError(f"it ended without the event {NAMES[order[-1]]!r}")


def _event(answer: Any) -> Event:
    name = answer.get("event") if isinstance(answer, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise RNNScratchError(f"it sent what is no event: {one_line(reprlib.repr(answer))}")
    fields = {key: value for key, value in answer.items() if key != "event"}
    return verified(KINDS[name], fields, f"a wrong event {name!r}")
