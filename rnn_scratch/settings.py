"""The hyperparameters. Together with the text they determine every number of a run."""

import dataclasses
import numbers
import sys
from dataclasses import Field, dataclass, field
from typing import Any

import numpy as np

from .contract import CELLS, Options, RNNScratchError, Update
from .exact import GRID

SEED = 2**32 - 1  # NumPy's limit for the parts of a seed
# Far beyond what a model of characters needs, and well below where a framework ends with a crash
# or does not begin: the recurrent weights of so many units alone take 4 GB, TensorFlow compiles
# every time step of a minibatch, and the history has a line for every epoch.
UNITS, STEPS, ROWS, EPOCHS = 2**15, 2**12, 2**20, 10**6


def _setting(
    default: Any,
    help: str,
    choices: tuple[str, ...] = (),
    low: int | None = None,
    high: int = SEED,
) -> Any:
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The chapter's hyperparameters and values; RNNScratchError for a value out of range."""

    batch_size: int = _setting(32, "Number of subsequences in a minibatch.", low=1, high=ROWS)
    num_steps: int = _setting(35, "Number of time steps in a subsequence.", low=1, high=STEPS)
    num_hiddens: int = _setting(512, "Number of hidden units.", low=1, high=UNITS)
    cell: str = _setting("rnn", "Recurrent cell.", tuple(CELLS))
    embedding: int = _setting(
        0,
        "Size of a learnable embedding of the characters; 0: one-hot vectors.",
        low=0,
        high=UNITS,
    )
    num_epochs: int = _setting(500, "Number of epochs.", low=1, high=EPOCHS)
    lr: float = _setting(1.0, "Learning rate.")
    sigma: float = _setting(0.01, "Standard deviation σ of the initial weights.")
    theta: float | None = _setting(1.0, "Largest norm θ of the gradients; larger ones are clipped.")
    activation: str = _setting("tanh", "Activation function of the hidden units.", ("tanh", "relu"))
    sampling: str = _setting(
        "sequential",
        "Sequential partitioning or random sampling of the minibatches.",
        ("sequential", "random"),
    )
    normalize: str = _setting(
        "chapter",
        "Normalization of the text. chapter: lower-case letters and spaces, as in the chapter; "
        "spaced: the same with a space between lines; none: the text unchanged.",
        ("chapter", "spaced", "none"),
    )
    max_tokens: int = _setting(
        10_000, "Number of characters to train on, from the start of the text; 0: all.", low=0
    )
    valid_tokens: int = _setting(
        0, "Number of held-out characters after those, for evaluation.", low=0
    )
    dtype: str = _setting("float32", "Floating-point type.", ("float32", "float64"))
    exact: bool = _setting(
        False, "Exact mode: the same parameters in every backend to the last bit, in float64."
    )
    seed: int = _setting(0, "Random seed.", low=0)

    def __post_init__(self) -> None:
        """Check every value; numbers of other types, such as NumPy's, become Python's."""
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        if self.exact and self.dtype != "float64":
            raise _invalid("dtype", self.dtype, "float64 in exact mode")


def _checked(item: Field, value: Any) -> Any:
    # The value of a setting as the type of its default, or an error.
    choices, low, high = (item.metadata[key] for key in ("choices", "low", "high"))
    if item.name == "theta" and value is None:
        return None
    if isinstance(item.default, bool):
        if not isinstance(value, (bool, np.bool_)):
            raise _invalid(item.name, value, "True or False")
        return bool(value)
    if choices:
        if not (isinstance(value, str) and value in choices):
            raise _invalid(item.name, value, "one of " + ", ".join(choices))
        return str(value)
    kind = numbers.Real if low is None else numbers.Integral
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if low is None:
        if not (is_number and 0 < value <= sys.float_info.max):
            raise _invalid(item.name, value, "a finite number above 0")
        return float(value)
    if not (is_number and low <= value <= high):
        highest = "2**32 - 1" if high == SEED else f"{high:,}"
        raise _invalid(item.name, value, f"a whole number from {low} to {highest}")
    return int(value)


def _invalid(name: str, value: object, expected: str) -> RNNScratchError:
    return RNNScratchError(f"{option_of(name)} is {shown(value)}; it must be {expected}.")


def shown(value: object, length: int = 500) -> str:
    """The value in an error: shortened, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, or a type with an error of its own
        return f"a value of the type {type(value).__name__}"
    return text if len(text) <= length else f"{text[:length]}..."


def option_of(name: str) -> str:
    """The command-line option of a setting."""
    return "--epochs" if name == "num_epochs" else "--" + name.replace("_", "-")


def differences(old: Settings, new: Settings) -> list[str]:
    """A line for each setting that differs between two, except for the number of epochs."""
    return [
        f"{option_of(item.name)}: {getattr(old, item.name)} before, {getattr(new, item.name)} now"
        for item in dataclasses.fields(Settings)
        if item.name != "num_epochs" and getattr(old, item.name) != getattr(new, item.name)
    ]


def make(values: dict[str, Any]) -> Settings:
    """Settings from names and values; RNNScratchError for an unknown name.

    Exact mode implies float64.
    """
    known = [item.name for item in dataclasses.fields(Settings)]
    if unknown := sorted(set(values) - set(known)):
        raise RNNScratchError(
            f"Unknown setting: {', '.join(unknown)}.\nThe settings are: {', '.join(known)}."
        )
    if values.get("exact"):
        values = {"dtype": "float64", **values}
    return Settings(**values)


def model_options(settings: Settings, vocab_size: int, device: str = "cpu") -> Options:
    """What a backend needs of the settings to build a model."""
    return Options(
        vocab_size,
        settings.num_hiddens,
        settings.cell,
        settings.activation,
        settings.embedding,
        settings.dtype,
        device,
    )


def update_rule(settings: Settings, workers: int = 1) -> Update:
    """What a backend needs of the settings to train one, with this number of workers."""
    return Update(settings.lr, settings.theta, GRID if settings.exact else None, workers)
