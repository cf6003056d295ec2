"""The settings, which are the hyperparameters, and all other arguments: what each may be.

Together with the text, the settings determine every number of a run. Each range stands here, once:
`Settings`, the Python interface and the command line check their values by the same table, KINDS.
"""

from collections.abc import Mapping
from typing import Annotated, Any

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
    Kind,
    choice,
    real,
    whole,
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


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The chapter's hyperparameters and values; RNNScratchError for a value out of range."""

    batch_size: Annotated[int, whole(1, MOST_ROWS), "Number of subsequences in a minibatch."] = 32
    num_steps: Annotated[int, whole(1, MOST_STEPS), "Number of time steps in a subsequence."] = 35
    num_hiddens: Annotated[int, whole(1, MOST_UNITS), "Number of hidden units."] = 512
    cell: Annotated[str, choice(*CELLS), "Recurrent cell."] = "rnn"
    embedding: Annotated[
        int,
        whole(0, MOST_UNITS),
        "Size of a learnable embedding of the characters; 0: one-hot vectors.",
    ] = 0
    num_layers: Annotated[
        int, whole(1, MOST_LAYERS), "Number of recurrent layers, on top of one another."
    ] = 1
    dropout: Annotated[
        float,
        DROPOUT,
        "Probability with which, in training, an output of a layer is dropped on its way upwards.",
    ] = 0.0
    num_epochs: Annotated[int, whole(1, MOST_EPOCHS), "Number of epochs."] = 500
    optimizer: Annotated[
        str,
        choice(*OPTIMIZERS),
        "Optimizer: gradient descent, with momentum 0.9, or Adam.",
    ] = "sgd"
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
        "Whether the learning rate stays, or falls to zero along half a wave of a cosine.",
    ] = "constant"
    warmup: Annotated[
        int, whole(0), "Number of updates in which the learning rate first rises from zero."
    ] = 0
    weight_decay: Annotated[
        float,
        NOT_NEGATIVE,
        "Decoupled weight decay: in an update a parameter loses this share of itself, times lr.",
    ] = 0.0
    sigma: Annotated[float, SIGMA, "Standard deviation σ of the initial weights."] = 0.01
    theta: Annotated[
        float | None,
        POSITIVE_OR_NONE,
        "Largest norm θ of the gradients; larger ones are clipped; none: no clipping.",
    ] = 1.0
    activation: Annotated[
        str, choice("tanh", "relu"), "Activation function of the hidden units."
    ] = "tanh"
    sampling: Annotated[
        str,
        choice("sequential", "random"),
        "Whether each minibatch continues the one before it (sequential), or is random.",
    ] = "sequential"
    normalize: Annotated[
        str,
        choice("chapter", "spaced", "none"),
        "Normalization of the text. chapter: lower-case letters and spaces, as in the chapter; "
        "spaced: the same with a space between lines; none: the text unchanged.",
    ] = "chapter"
    max_tokens: Annotated[
        int, whole(0), "Number of characters to use, from the start of the text; 0: all."
    ] = 10_000
    valid_tokens: Annotated[
        int, whole(0), "Number of held-out characters after those, for evaluation."
    ] = 0
    valid_share: Annotated[
        float,
        BELOW_ONE,
        "Instead of --valid-tokens: the share of the --max-tokens characters that is held out, at "
        "their end; the others are trained on.",
    ] = 0.0
    dtype: Annotated[
        str,
        choice("float32", "float64"),
        "Floating-point type; by default float32, or float64 in exact mode.",
    ] = None  # type: ignore[assignment]
    exact: Annotated[
        bool,
        BOOL,
        "Exact mode: the same parameters in every backend to the last bit, in float64.",
    ] = False
    seed: Annotated[int, whole(0), "Random seed."] = 0

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
            raise RNNScratchError(f"--dtype is {self.dtype!r}; it must be float64 in exact mode.")
        if self.valid_tokens and self.valid_share:
            raise RNNScratchError(
                f"--valid-tokens {self.valid_tokens} and --valid-share {self.valid_share:g} "
                "exclude each other.\nThe first holds out characters after those of --max-tokens, "
                "the second a share of these: choose one."
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


# The kind and the help of each setting, as its annotation says.
SETTINGS = {item.name: item.type.__metadata__ for item in structs.fields(Settings)}
KINDS: dict[str, Kind] = {
    # Where and how to compute.
    **dict.fromkeys(("backend", "device"), STRING),
    "model": choice(*VARIANTS),
    "threads": whole(1, MOST_THREADS),
    **dict.fromkeys(("eager", "best"), BOOL),
    "workers": whole(1, MOST_WORKERS),
    "rank": whole(0, MOST_WORKERS - 1),
    "patience": whole(0, MOST_EPOCHS),
    # Texts, and what is generated.
    "corpus": STRING,
    "text": PATH,
    "unknown": choice("error", "skip"),
    "prefix": STRING,
    "length": whole(1, MOST_CHARACTERS),
    "temperature": POSITIVE,
    "top_k": whole(1),
    **dict.fromkeys(("top_p", "min_p"), real("a number above 0, at most 1", lambda x: 0 < x <= 1)),
    # Check and comparison.
    "every": whole(1, MOST_EPOCHS),
    **dict.fromkeys(("repeats", "seeds"), whole(1, 1000)),
    "target": POSITIVE,
    "timeout": real("a number of seconds above 0, at most 1,000,000", lambda x: 0 < x <= 10**6),
    **{name: kind for name, (kind, _) in SETTINGS.items()},
}


def checked(name: str, value: Any, kind: Kind | None = None) -> Any:
    """The value as Python's own type; RNNScratchError, with the name, where it does not fit.

    The kind is that of KINDS; an argument that has another one is not an option.
    """
    label, kind = (option_of(name), KINDS[name]) if kind is None else (name, kind)
    try:
        if kind.fits(value):
            return kind.convert(value)
    except Exception:  # of a type with an error of its own, such as an array compared with a number
        pass
    raise RNNScratchError(f"{label} is {shown(value)}; it must be {kind.words}.")


def option_of(name: str) -> str:
    """The command-line option of a setting."""
    name = {"num_epochs": "epochs", "num_layers": "layers"}.get(name, name)
    return "--" + name.replace("_", "-")


def by_option(settings: Settings) -> dict[str, Any]:
    """The values of settings, by their command-line options."""
    return {option_of(name): getattr(settings, name) for name in SETTINGS}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each value that differs between two; what only one of them has does not."""
    return [
        f"{name}: {before[name]} before, {value} now"
        for name, value in now.items()
        if before.get(name, value) != value
    ]


def model_options(settings: Settings, vocab_size: int, device: str = "cpu") -> Options:
    """What a backend needs of the settings to build a model."""
    chosen = {name: getattr(settings, name) for name in Options._fields if name in SETTINGS}
    return Options(vocab_size=vocab_size, device=device, **chosen)


def update_rule(settings: Settings, workers: int = 1) -> Update:
    """What a backend needs of the settings to train one, with this number of workers."""
    chosen = {name: getattr(settings, name) for name in Update._fields if name in SETTINGS}
    how = Update(workers=workers, **chosen)
    if not settings.exact:
        return how
    if not OPTIMIZERS[settings.optimizer].slots:
        return how._replace(grid=GRID, state_grid=STATE_GRID)
    return how._replace(grid=FINE_GRID, state_grid=STATE_GRID, grad_grid=FINE_GRID)
