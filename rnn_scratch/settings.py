"""The settings, which are the hyperparameters, and all other options: what each may be.

Together with the text, the settings determine every number of a run. OPTIONS describes each option
once. The command line, the Python interface, records and pages follow from it.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import msgspec
from msgspec import structs

from .contract import CELLS, OPTIMIZERS, VARIANTS, Options, Update
from .errors import RNNScratchError, shown
from .exact import FINE_GRID, GRID, STATE_GRID
from .system import kinds
from .system.kinds import Kind

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


LEARNING_RATES = ", ".join(f"{each.lr:g} with {name}" for name, each in OPTIMIZERS.items())


class Option(NamedTuple):
    """An option: what its value may be, and what it is for."""

    kind: Kind
    help: str = ""  # the command that has the option has a help of its own


OPTIONS = {
    # The settings.
    "batch_size": Option(kinds.integer(1, MOST_ROWS), "Number of subsequences in a minibatch."),
    "num_steps": Option(kinds.integer(1, MOST_STEPS), "Number of time steps in a subsequence."),
    "num_hiddens": Option(kinds.integer(1, MOST_UNITS), "Number of hidden units in each layer."),
    "cell": Option(kinds.choice(*CELLS), "Recurrent cell."),
    "embedding": Option(kinds.integer(0, MOST_UNITS), "Character embedding size (0: one-hot)."),
    "num_layers": Option(kinds.integer(1, MOST_LAYERS), "Number of stacked recurrent layers."),
    "dropout": Option(kinds.DROPOUT, "Dropout probability on each layer's output."),
    "num_epochs": Option(kinds.integer(1, MOST_EPOCHS), "Number of epochs."),
    "optimizer": Option(kinds.choice(*OPTIMIZERS), "Optimizer; sgd is plain gradient descent."),
    "lr": Option(kinds.POSITIVE, f"Learning rate; by default {LEARNING_RATES}."),
    "schedule": Option(
        kinds.choice("constant", "cosine"),
        "Learning-rate schedule: constant, or cosine decay to almost zero.",
    ),
    "warmup": Option(
        kinds.integer(0), "Raise the learning rate linearly from zero over the first N updates."
    ),
    "weight_decay": Option(
        kinds.NOT_NEGATIVE,
        "Decoupled weight decay: each update shrinks the weights by lr times this value.",
    ),
    "sigma": Option(kinds.SIGMA, "Standard deviation σ of the initial weights."),
    "theta": Option(kinds.POSITIVE_OR_NONE, "Clip gradients to this norm θ (none: don't clip)."),
    "sampling": Option(
        kinds.choice("sequential", "random"),
        "How to sample minibatches: sequential (each continues the previous one) or random.",
    ),
    "normalize": Option(
        kinds.choice("chapter", "spaced", "none"),
        "How to normalize the text: chapter (lower-case letters and spaces, as in the chapter), "
        "spaced (the same with a space between lines) or none (keep the text unchanged).",
    ),
    "max_tokens": Option(kinds.integer(0), "Use only the first N characters (0: all)."),
    "valid_tokens": Option(kinds.integer(0), "Hold out the N characters after the training text."),
    "valid_share": Option(
        kinds.BELOW_ONE,
        "Hold out this fraction at the end of the text, or of its first `--max-tokens` characters. "
        "Cannot be used together with `--valid-tokens`.",
    ),
    "dtype": Option(kinds.choice("float32", "float64"), "Floating-point type."),
    "exact": Option(kinds.BOOL, "Exact mode, in float64: all backends agree bit for bit."),
    "seed": Option(kinds.integer(0), "Random seed."),
    # Where and how to compute.
    "backend": Option(kinds.STRING, "Backend; `rnn-scratch backends` lists them."),
    "model": Option(
        kinds.choice(*VARIANTS),
        "Variant of the model: the plain implementation, the same model optimized by hand, or the "
        "framework's own layers.",
    ),
    "device": Option(kinds.STRING, "Device: cpu, cuda, mps, or auto for the best one."),
    "threads": Option(kinds.integer(1, MOST_THREADS), "Number of threads."),
    "eager": Option(kinds.BOOL, "Run functions uncompiled, to debug them."),
    "best": Option(kinds.BOOL, "Use the epoch with the lowest held-out loss, not the latest."),
    "workers": Option(
        kinds.integer(1, MOST_WORKERS), "Number of processes that share every minibatch."
    ),
    "rank": Option(kinds.integer(0, MOST_WORKERS - 1)),
    "coordinator": Option(kinds.STRING),
    "patience": Option(
        kinds.integer(0, MOST_EPOCHS),
        "Early stopping: end after N epochs without a lower held-out loss (0: train all epochs).",
    ),
    # Texts, and what is generated.
    "corpus": Option(
        kinds.STRING,
        "Text to use: time-machine, war-of-the-worlds, tiny-shakespeare (use it with "
        "`--normalize none`, which keeps all its 65 characters) or tide-clock (built in).",
    ),
    "text": Option(kinds.PATH, "Text file to use instead of `--corpus`, in UTF-8."),
    "unknown": Option(kinds.choice("error", "skip"), "How to treat unknown characters."),
    "prefix": Option(kinds.STRING, "Text to continue."),
    "length": Option(kinds.integer(1, MOST_CHARACTERS), "Number of characters to generate."),
    "temperature": Option(
        kinds.POSITIVE,
        "Sample at this temperature: values below 1 prefer likely characters, values above 1 make "
        "unlikely characters more frequent.",
    ),
    "top_k": Option(kinds.integer(1), "Sample only from the K most likely characters."),
    "top_p": Option(
        kinds.TO_ONE,
        "Sample only from the smallest set of most likely characters whose probabilities add up to "
        "this value.",
    ),
    "min_p": Option(
        kinds.TO_ONE,
        "Sample only from characters at least this fraction as likely as the most likely one.",
    ),
    # Check, comparison and workers.
    "every": Option(kinds.integer(1, MOST_EPOCHS)),
    **dict.fromkeys(("repeats", "seeds"), Option(kinds.integer(1, 1000))),
    "target": Option(kinds.POSITIVE),
    **dict.fromkeys(("timeout", "wait"), Option(kinds.SECONDS)),
}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the settings of a run; the defaults are the chapter's.

    Raises RNNScratchError for a value out of range.
    """

    batch_size: int = 32
    num_steps: int = 35
    num_hiddens: int = 512
    cell: str = "rnn"
    embedding: int = 0
    num_layers: int = 1
    dropout: float = 0.0
    num_epochs: int = 500
    optimizer: str = "sgd"
    lr: float = None  # type: ignore[assignment]  # chosen where it is made, as is dtype
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    sigma: float = 0.01
    theta: float | None = 1.0
    sampling: str = "sequential"
    normalize: str = "chapter"
    max_tokens: int = 10_000
    valid_tokens: int = 0
    valid_share: float = 0.0
    dtype: str = None  # type: ignore[assignment]
    exact: bool = False
    seed: int = 0

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
        if self.weight_decay and not OPTIMIZERS[self.optimizer].decays:
            have = " or ".join(
                f"`--optimizer {name}`" for name, each in OPTIMIZERS.items() if each.decays
            )
            raise RNNScratchError(
                f"The optimizer {self.optimizer} has no weight decay (got `--weight-decay "
                f"{self.weight_decay:g}`).",
                f"Use it with {have}.",
            )
        if self.valid_tokens and self.valid_share:
            raise RNNScratchError(
                f"`--valid-tokens {self.valid_tokens}` and `--valid-share {self.valid_share:g}` "
                "cannot be used together.",
                "Choose one: `--valid-tokens` holds out characters after the `--max-tokens` "
                "characters, `--valid-share` a fraction of them.",
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


class SettingsDict(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments, for editors and type checkers."""

    batch_size: int
    num_steps: int
    num_hiddens: int
    cell: str
    embedding: int
    num_layers: int
    dropout: float
    num_epochs: int
    optimizer: str
    lr: float
    schedule: str
    warmup: int
    weight_decay: float
    sigma: float
    theta: float | None
    sampling: str
    normalize: str
    max_tokens: int
    valid_tokens: int
    valid_share: float
    dtype: str
    exact: bool
    seed: int


SETTINGS = {name: OPTIONS[name] for name in Settings.__struct_fields__}
# Settings of earlier versions, and what to use instead.
GONE = {"activation": "For ReLU in place of tanh, use `--cell rnn-relu`."}
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


def update_rule(settings: Settings) -> Update:
    """Return what a backend needs of the settings to train."""
    chosen = {name: getattr(settings, name) for name in Update._fields if name in SETTINGS}
    how = Update(**chosen | {"theta": math.inf if settings.theta is None else settings.theta})
    if not settings.exact:
        return how
    if not OPTIMIZERS[settings.optimizer].slots:
        return how._replace(grid=GRID, state_grid=STATE_GRID)
    return how._replace(grid=FINE_GRID, state_grid=STATE_GRID, grad_grid=FINE_GRID)
