"""The settings, which are the hyperparameters, and all other options: what each may be.

Together with the text, the settings determine every number of a run. OPTIONS describes each option
once. The command line, the Python interface, records and pages follow from it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import structs

from .contract import CELLS, OPTIMIZERS, VARIANTS, Options, Update
from .errors import RNNScratchError, shown
from .exact import FINE_GRID, GRID, STATE_GRID
from .system.kinds import (
    BELOW_ONE,
    BOOL,
    DROPOUT,
    NOT_NEGATIVE,
    PATH,
    POSITIVE,
    POSITIVE_OR_NONE,
    SIGMA,
    STRING,
    TO_ONE,
    Kind,
    choice,
    integer,
    number,
)

# Far beyond what a model of characters needs, and well below where a framework ends with a crash
# or does not begin: the recurrent weights of so many units alone take 4 GB, TensorFlow compiles
# every time step of a minibatch, and the history has a line for every epoch.
MOST_UNITS, MOST_STEPS, MOST_ROWS, MOST_EPOCHS = 2**15, 2**12, 2**20, 10**6
MOST_LAYERS = 64
# More than a machine has cores, with which each framework still starts. With a hundred thousand
# PyTorch and MXNet crash, and TensorFlow does not return.
MOST_THREADS = 1024
MOST_WORKERS = 256  # of a team
MOST_CHARACTERS = 10**6  # to generate: minutes to hours, and no framework can be interrupted


class Option(NamedTuple):
    """An option: what its value may be, and what it is for."""

    kind: Kind
    help: str = ""  # the command that has the option has a help of its own


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The chapter's hyperparameters and values; RNNScratchError for a value out of range."""

    batch_size: Annotated[int, integer(1, MOST_ROWS), "Number of subsequences in a minibatch."] = 32
    num_steps: Annotated[int, integer(1, MOST_STEPS), "Number of time steps in a subsequence."] = 35
    num_hiddens: Annotated[int, integer(1, MOST_UNITS), "Number of hidden units in each layer."] = (
        512
    )
    cell: Annotated[str, choice(*CELLS), "Recurrent cell."] = "rnn"
    embedding: Annotated[
        int,
        integer(0, MOST_UNITS),
        "Size of a learnable character embedding (0: one-hot vectors).",
    ] = 0
    num_layers: Annotated[int, integer(1, MOST_LAYERS), "Number of stacked recurrent layers."] = 1
    dropout: Annotated[float, DROPOUT, "Dropout probability on each layer's output."] = 0.0
    num_epochs: Annotated[int, integer(1, MOST_EPOCHS), "Number of epochs."] = 500
    optimizer: Annotated[str, choice(*OPTIMIZERS), "Optimizer; sgd is plain gradient descent."] = (
        "sgd"
    )
    lr: Annotated[
        float,
        POSITIVE,
        "Learning rate; by default "
        + ", ".join(f"{optimizer.lr:g} with {name}" for name, optimizer in OPTIMIZERS.items())
        + ".",
    ] = None  # type: ignore[assignment]  # a number as soon as it is made, and so is dtype
    schedule: Annotated[
        str,
        choice("constant", "cosine"),
        "Learning-rate schedule: constant, or cosine decay to zero.",
    ] = "constant"
    warmup: Annotated[
        int, integer(0), "Number of updates over which the learning rate rises from zero."
    ] = 0
    weight_decay: Annotated[
        float,
        NOT_NEGATIVE,
        "Decoupled weight decay: each update shrinks the weights by lr times this value.",
    ] = 0.0
    sigma: Annotated[float, SIGMA, "Standard deviation σ of the initial weights."] = 0.01
    theta: Annotated[
        float | None, POSITIVE_OR_NONE, "Clip gradients to this norm θ (none: don't clip)."
    ] = 1.0
    activation: Annotated[
        str, choice("tanh", "relu"), "Activation function of the hidden units."
    ] = "tanh"
    sampling: Annotated[
        str,
        choice("sequential", "random"),
        "How to sample minibatches: sequential (each continues the previous one) or random.",
    ] = "sequential"
    normalize: Annotated[
        str,
        choice("chapter", "spaced", "none"),
        "How to normalize the text: chapter (lower-case letters and spaces, as in the chapter), "
        "spaced (the same with a space between lines) or none (keep the text unchanged).",
    ] = "chapter"
    max_tokens: Annotated[
        int, integer(0), "Use only the first N characters of the text (0: all)."
    ] = 10_000
    valid_tokens: Annotated[int, integer(0), "Hold out the N characters after those."] = 0
    valid_share: Annotated[
        float,
        BELOW_ONE,
        "Hold out this fraction of the `--max-tokens` characters, at their end, instead of "
        "`--valid-tokens`.",
    ] = 0.0
    dtype: Annotated[
        str,
        choice("float32", "float64"),
        "Floating-point type; by default float32, or float64 in exact mode.",
    ] = None  # type: ignore[assignment]
    exact: Annotated[
        bool, BOOL, "Exact mode: all backends reach bit-for-bit the same parameters, in float64."
    ] = False
    seed: Annotated[int, integer(0), "Random seed."] = 0

    def __post_init__(self) -> None:
        """Check each value and convert it to Python's type; choose what others imply."""
        for name in SETTINGS:
            value = getattr(self, name)
            if value is not None or name not in ("lr", "dtype"):
                structs.force_setattr(self, name, checked(name, value))
        if self.lr is None:
            structs.force_setattr(self, "lr", OPTIMIZERS[self.optimizer].lr)
        if self.dtype is None:
            structs.force_setattr(self, "dtype", "float64" if self.exact else "float32")
        if self.exact and self.dtype != "float64":
            raise RNNScratchError(f"`--dtype` must be float64 in exact mode (got {self.dtype}).")
        if self.valid_tokens and self.valid_share:
            raise RNNScratchError(
                f"`--valid-tokens {self.valid_tokens}` and `--valid-share {self.valid_share:g}` "
                "exclude each other.",
                "Choose one: the first holds out characters after those of `--max-tokens`, the "
                "second a fraction of these.",
            )

    @property
    def network(self) -> str:
        """The cell, and how many layers of how many units, in words."""
        layers = f"{self.num_layers} layers of " if self.num_layers > 1 else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{self.cell}, {layers}{self.num_hiddens} hidden units{dropout}"

    @property
    def holds_out(self) -> bool:
        """Whether some of the text is held out."""
        return bool(self.valid_tokens or self.valid_share)


SETTINGS = {item.name: Option(*item.type.__metadata__) for item in structs.fields(Settings)}
OPTIONS = {
    # Where and how to compute.
    "backend": Option(STRING, "Backend; `rnn-scratch backends` lists them."),
    "model": Option(
        choice(*VARIANTS),
        "Variant of the model: the plain implementation, the same model optimized by hand, or the "
        "framework's own layers.",
    ),
    "device": Option(STRING, "Device: cpu, cuda, mps, or auto for the backend's best device."),
    "threads": Option(integer(1, MOST_THREADS), "Number of threads."),
    "eager": Option(BOOL, "Run functions uncompiled, to debug them."),
    "best": Option(BOOL, "Use the epoch with the lowest held-out loss instead of the latest."),
    "workers": Option(integer(1, MOST_WORKERS), "Number of processes that share every minibatch."),
    "rank": Option(integer(0, MOST_WORKERS - 1)),
    "patience": Option(
        integer(0, MOST_EPOCHS),
        "Early stopping: end after N epochs without a lower held-out loss (0: train all epochs).",
    ),
    # Texts, and what is generated.
    "corpus": Option(
        STRING,
        "Text to use: time-machine, war-of-the-worlds, tiny-shakespeare (use it with "
        "`--normalize none`, which keeps all its 65 characters) or tide-clock (built in).",
    ),
    "text": Option(PATH, "Text file to use instead, in UTF-8."),
    "unknown": Option(
        choice("error", "skip"), "What to do with characters that the vocabulary lacks."
    ),
    "prefix": Option(STRING, "Text to continue."),
    "length": Option(integer(1, MOST_CHARACTERS), "Number of characters to generate."),
    "temperature": Option(
        POSITIVE,
        "Sample at this temperature: values below 1 prefer likely characters, values above 1 make "
        "unlikely characters more frequent.",
    ),
    "top_k": Option(integer(1), "Sample only from the K most likely characters."),
    "top_p": Option(
        TO_ONE,
        "Sample only from the smallest set of likely characters with this total probability.",
    ),
    "min_p": Option(
        TO_ONE, "Sample only from characters at least this probable relative to the most likely."
    ),
    # Check and comparison.
    "every": Option(integer(1, MOST_EPOCHS)),
    **dict.fromkeys(("repeats", "seeds"), Option(integer(1, 1000))),
    "target": Option(POSITIVE),
    "timeout": Option(
        number("a number of seconds above 0, at most 1,000,000", lambda x: 0 < x <= 10**6)
    ),
    **SETTINGS,
}
# Options whose names on the command line are shorter.
SHORTER = {"num_epochs": "epochs", "num_layers": "layers"}


def checked(name: str, value: Any, kind: Kind | None = None) -> Any:
    """Return the value of an option, or of an argument of this kind, as Python's own type.

    Raises RNNScratchError, which names the option, if the value does not fit.
    """
    label, kind = (f"`{name}`", kind) if kind else (f"`{option_of(name)}`", OPTIONS[name].kind)
    try:
        if kind.fits(value):
            return kind.convert(value)
    except Exception:  # of a type with an error of its own, such as an array compared with a number
        pass
    raise RNNScratchError(f"{label} must be {kind.words} (got {shown(value)}).")


def option_of(name: str) -> str:
    """Return the command-line option of an argument: ``--num-hiddens`` of ``num_hiddens``."""
    return "--" + SHORTER.get(name, name).replace("_", "-")


def by_option(settings: Settings) -> dict[str, Any]:
    """Return the values of settings by their command-line options."""
    return {option_of(name): getattr(settings, name) for name in SETTINGS}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each value of `now` that `before` has with another value."""
    return [
        f"{name}: {before[name]} before, {value} now"
        for name, value in now.items()
        if before.get(name, value) != value
    ]


def model_options(settings: Settings, vocab_size: int, device: str = "cpu") -> Options:
    """Return what a backend needs of the settings to build a model."""
    chosen = {name: getattr(settings, name) for name in Options._fields if name in SETTINGS}
    return Options(vocab_size=vocab_size, device=device, **chosen)


def update_rule(settings: Settings, workers: int = 1) -> Update:
    """Return what a backend needs of the settings to train with this number of workers."""
    chosen = {name: getattr(settings, name) for name in Update._fields if name in SETTINGS}
    how = Update(workers=workers, **chosen)
    if not settings.exact:
        return how
    if not OPTIMIZERS[settings.optimizer].slots:
        return how._replace(grid=GRID, state_grid=STATE_GRID)
    return how._replace(grid=FINE_GRID, state_grid=STATE_GRID, grad_grid=FINE_GRID)
