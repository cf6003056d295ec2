"""The hyperparameters: what, together with the text, determines every number of a run."""

import dataclasses
import numbers
import sys
from dataclasses import dataclass, field
from typing import Any

from .contract import Options, RNNScratchError, Update
from .exact import GRID


def _setting(default: Any, help: str, choices: tuple[str, ...] = (), low: int | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "low": low})


@dataclass(frozen=True)
class Settings:
    """The chapter's names and values; RNNScratchError for a value that is not possible."""

    batch_size: int = _setting(32, "Subsequences in a minibatch.", low=1)
    num_steps: int = _setting(35, "Time steps in a subsequence.", low=1)
    num_hiddens: int = _setting(512, "Hidden units.", low=1)
    embedding: int = _setting(
        0, "Size of a learnable embedding of the characters; 0: one-hot vectors.", low=0
    )
    num_epochs: int = _setting(500, "Epochs to train.", low=1)
    lr: float = _setting(1.0, "Learning rate.")
    sigma: float = _setting(0.01, "Standard deviation σ of the starting weights.")
    theta: float | None = _setting(1.0, "Clip gradients at this norm θ.")
    activation: str = _setting("tanh", "Activation of the hidden units.", ("tanh", "relu"))
    sampling: str = _setting(
        "sequential", "How the text is cut into minibatches.", ("sequential", "random")
    )
    normalize: str = _setting(
        "chapter",
        "Normalization of the text: letters and spaces only, as in the chapter; the same with a "
        "space between lines; or none.",
        ("chapter", "spaced", "none"),
    )
    max_tokens: int = _setting(
        10_000, "Characters to train on, from the start of the text; 0: all.", low=0
    )
    valid_tokens: int = _setting(0, "Held-out characters after those, for evaluation.", low=0)
    dtype: str = _setting("float32", "Floating-point type.", ("float32", "float64"))
    exact: bool = _setting(
        False, "Exact mode, in float64: the same parameters in every backend, to the last bit."
    )
    seed: int = _setting(0, "Random seed.", low=0)

    def __post_init__(self) -> None:
        """Check every value."""
        for item in dataclasses.fields(self):
            value, option = getattr(self, item.name), option_of(item.name)
            if item.name == "theta" and value is None:
                continue
            if isinstance(item.default, bool):
                _require(isinstance(value, bool), option, value, "True or False")
                continue
            if item.metadata["choices"]:
                _require(value in item.metadata["choices"], option, value,
                         "one of " + ", ".join(item.metadata["choices"]))  # fmt: skip
            elif item.metadata["low"] is not None:
                low = item.metadata["low"]
                whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
                # Below 2**32 because that is what NumPy takes as part of a seed.
                _require(whole and low <= value < 2**32, option, value,
                         f"a whole number from {low} to 2**32 - 1")  # fmt: skip
                object.__setattr__(self, item.name, int(value))
            else:
                number = isinstance(value, numbers.Real) and not isinstance(value, bool)
                _require(number and 0 < value <= sys.float_info.max, option, value,
                         "a finite number above 0")  # fmt: skip
                object.__setattr__(self, item.name, float(value))
        _require(not self.exact or self.dtype == "float64", "--dtype", self.dtype,
                 "float64 in exact mode")  # fmt: skip


def _require(good: bool, option: str, value: object, wanted: str) -> None:
    if not good:
        raise RNNScratchError(f"{option} is {value!r}; it must be {wanted}.")


def option_of(name: str) -> str:
    """The command line's name of a setting."""
    return "--epochs" if name == "num_epochs" else "--" + name.replace("_", "-")


def differences(old: Settings, new: Settings) -> list[str]:
    """Lines that name the settings in which two differ, but for the number of epochs."""
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


def model_options(settings: Settings, device: str) -> Options:
    """What a backend needs of the settings to build a model."""
    return Options(
        settings.num_hiddens,
        activation=settings.activation,
        dtype=settings.dtype,
        device=device,
    )


def update_rule(settings: Settings) -> Update:
    """What a backend needs of the settings to train one."""
    return Update(settings.lr, settings.theta, GRID if settings.exact else None)
