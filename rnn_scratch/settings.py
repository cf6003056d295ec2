"""A run's settings: hyperparameters with types, bounds, defaults and descriptions.

Together with the text, the settings determine all of a run's results. Validation, command-line
options, records and the reference page are derived from the fields of `Settings`.
"""

import difflib
import inspect
import math
from collections.abc import Callable
from functools import cache, partial
from types import NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import numpy as np
from msgspec import Meta, structs

from . import exact, extensions
from .contract import (
    CELLS,
    HYPERPARAMETERS,
    OPTIMIZERS,
    ModelConfig,
    UpdateRule,
)
from .errors import RNNScratchError, format_value

# Limits far above a character model's needs, but below the sizes at which frameworks crash or
# hang. With 32,768 units, the recurrent weights alone take 4 GB. TensorFlow compiles code for every
# layer and time step. With 100,000 threads, PyTorch and MXNet crash, and TensorFlow hangs.
MAX_UNITS, MAX_LAYERS, MAX_STEPS, MAX_THREADS = 2**15, 64, 2**12, 1024
MAX_SEED = 2**32 - 1  # NumPy's seed limit, also the default limit for other integers
LIMITS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}  # symbols in error messages
extensions.load()  # because the choices below are the tables' keys
LEARNING_RATES = ", ".join(f"{rule.lr:g} with {name}" for name, rule in OPTIMIZERS.items())


def _list_defaults(hyperparameter: str) -> str:
    """Return a hyperparameter's default for each optimizer that has it."""
    rules = {name: rule.hyperparameters for name, rule in OPTIMIZERS.items()}
    pairs = [(rule[hyperparameter], n) for n, rule in rules.items() if hyperparameter in rule]
    return ", ".join(f"{value:g} with {name}" for value, name in pairs)


Variant = Annotated[Literal["scratch", "fast", "concise"], Meta()]
Flag = Annotated[bool, Meta()]
Prefix = Annotated[str, Meta()]
Unknown = Annotated[Literal["error", "skip"], Meta()]
Positive = Annotated[float, Meta(gt=0)]
Probability = Annotated[float, Meta(gt=0, le=1)]
DecayRate = Annotated[float, Meta(ge=0, lt=1)]
PositiveInt = Annotated[int, Meta(ge=1, le=MAX_SEED)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=MAX_SEED)]
Threads = Annotated[int, Meta(ge=1, le=MAX_THREADS)]
Function = TypeVar("Function", bound=Callable[..., Any])


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run's settings; the defaults come from the book chapter.

    Values of the wrong type or outside the bounds raise RNNScratchError; NumPy scalars are allowed.
    """

    batch_size: Annotated[PositiveInt, "Number of rows in a minibatch."] = 32
    num_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS), "Number of time steps per row."] = 35
    num_hiddens: Annotated[int, Meta(ge=1, le=MAX_UNITS), "Hidden units in each layer."] = 512
    cell: Annotated[Literal[tuple(CELLS)], "Recurrent cell."] = "rnn"  # type: ignore[valid-type]
    embedding: Annotated[int, Meta(ge=0, le=MAX_UNITS), "Embedding size (0: one-hot)."] = 0
    num_layers: Annotated[int, Meta(ge=1, le=MAX_LAYERS), "Number of recurrent layers."] = 1
    dropout: Annotated[float, Meta(ge=0, le=0.99), "Dropout probability after each layer."] = 0.0
    num_epochs: Annotated[PositiveInt, "Number of epochs."] = 500
    optimizer: Annotated[Literal[tuple(OPTIMIZERS)], "Optimizer."] = "sgd"  # type: ignore[valid-type]
    lr: Annotated[Positive, f"Learning rate. Default: {LEARNING_RATES}."] = None  # type: ignore[assignment]
    beta1: Annotated[
        DecayRate | None,
        f"Decay rate β1 of the gradients' moving average. Default: {_list_defaults('beta1')}.",
    ] = None
    beta2: Annotated[
        DecayRate | None,
        "Decay rate β2 of the second moving average, usually of the squared gradients. "
        f"Default: {_list_defaults('beta2')}.",
    ] = None
    epsilon: Annotated[
        Positive | None, f"Small number ε in a denominator. Default: {_list_defaults('epsilon')}."
    ] = None
    schedule: Annotated[
        Literal["constant", "cosine"],
        "Learning-rate schedule: constant, or cosine decay to almost zero.",
    ] = "constant"
    warmup: Annotated[NonNegativeInt, "Raise the learning rate from zero over N updates."] = 0
    weight_decay: Annotated[
        float, Meta(ge=0), "Each update also multiplies parameters by 1 - lr * this value."
    ] = 0.0
    # With a larger sigma, some initial weights would be infinite in float32.
    sigma: Annotated[float, Meta(gt=0, le=1e30), "Standard deviation σ of initial weights."] = 0.01
    theta: Annotated[Positive | None, "Maximum gradient norm θ (none: don't clip)."] = 1.0
    sampling: Annotated[
        Literal["sequential", "random"],
        "Minibatches: sequential (each continues the previous minibatch) or random.",
    ] = "sequential"
    normalize: Annotated[
        Literal["chapter", "spaced", "none"],
        "Normalization of the text: chapter (lower-case letters and spaces, as in the chapter), "
        "spaced (also a space between lines) or none (keep the text unchanged).",
    ] = "chapter"
    max_tokens: Annotated[NonNegativeInt, "Use only the first N characters (0: all)."] = 10_000
    valid_tokens: Annotated[NonNegativeInt, "Hold out N characters after the training text."] = 0
    valid_share: Annotated[
        float,
        Meta(ge=0, lt=1),
        "Hold out this fraction at the end of the text, or of its first `max_tokens` characters. "
        "Cannot be used together with `valid_tokens`.",
    ] = 0.0
    # The default is float32, or float64 in exact mode.
    dtype: Annotated[Literal["float32", "float64"], "Floating-point type."] = None  # type: ignore[assignment]
    exact: Annotated[bool, "Exact mode: all backends agree bit for bit (float64)."] = False
    seed: Annotated[NonNegativeInt, "Random seed."] = 0

    def __post_init__(self) -> None:
        """Validate each value and fill in the defaults that depend on other settings."""
        for name, annotation in annotations(Settings).items():
            value = getattr(self, name)
            if value is not None or name not in ("lr", "dtype"):
                structs.force_setattr(self, name, validate(name, value, annotation))
        if self.lr is None:
            structs.force_setattr(self, "lr", OPTIMIZERS[self.optimizer].lr)
        if self.dtype is None:
            structs.force_setattr(self, "dtype", "float64" if self.exact else "float32")
        if self.exact and self.dtype != "float64":
            raise RNNScratchError(f"`dtype` must be float64 in exact mode (got {self.dtype}).")
        rule = OPTIMIZERS[self.optimizer]
        for name in ("weight_decay", *HYPERPARAMETERS):
            if getattr(self, name) and name not in rule.settings:
                problem = f"`{name}` does not apply to the optimizer {self.optimizer}."
                names = " or ".join(n for n, r in OPTIMIZERS.items() if name in r.settings)
                raise RNNScratchError(problem, f"Use the optimizer {names}.")
            if getattr(self, name) is None:
                structs.force_setattr(self, name, rule.hyperparameters.get(name))
        if self.valid_tokens and self.valid_share:
            problem = "`valid_tokens` and `valid_share` cannot be used together."
            raise RNNScratchError(problem, "Choose one.")

    @property
    def network(self) -> str:
        """A description of the network, such as "lstm, 256 hidden units"."""
        layers = f"{self.num_layers} layers of " if self.num_layers > 1 else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return f"{self.cell}, {layers}{self.num_hiddens} hidden units{dropout}"

    @property
    def holds_out(self) -> bool:
        """Whether part of the text is held out."""
        return bool(self.valid_tokens or self.valid_share)


class Declaration(NamedTuple):
    """The parts of an annotated type, such as ``Annotated[int, Meta(ge=1), "A description."]``."""

    base: Any  # int, float, bool, str or a Literal
    limits: dict[str, Any]  # keys: gt, ge, lt, le
    is_optional: bool  # whether the value may be None
    description: str


@cache
def declaration(annotation: Any) -> Declaration:
    """Return the parts of an annotated type."""
    base, items = annotation, list[Any]()
    while get_origin(base) not in (None, Literal):  # Annotated, or a union with None
        base, *rest = get_args(base)
        items += rest
    limits = {n: getattr(i, n) for i in items for n in LIMITS if getattr(i, n, None) is not None}
    description = "".join(item for item in items if isinstance(item, str))
    return Declaration(base, limits, NoneType in items, description)


#: Return the annotated types of a class's fields or a function's arguments, by name.
annotations = cache(partial(get_type_hints, include_extras=True))


def validate(name: str, value: Any, annotation: Any) -> Any:
    """Convert a value, such as a NumPy scalar, to the annotated type, or raise RNNScratchError."""
    plain_value = value.item() if isinstance(value, np.generic) else value
    try:
        converted_value = msgspec.convert(plain_value, annotation)
        if not isinstance(converted_value, float) or math.isfinite(converted_value):
            return converted_value
    except (msgspec.ValidationError, UnicodeEncodeError):  # a byte that is not UTF-8
        pass
    base, limits, is_optional, _ = declaration(annotation)
    kinds = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string"}
    text = kinds.get(base) or "one of " + ", ".join(get_args(base))
    text += " and".join(f" {LIMITS[limit]} {bound:,}" for limit, bound in limits.items())
    text += ", or None" * is_optional
    raise RNNScratchError(f"`{name}` must be {text} (got {format_value(value)}).")


def validate_call(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments, converted to the annotated types; reject unknown settings."""
    fields = Settings.__struct_fields__
    for name in {*values.get("settings", ())}.difference(fields):
        matches = difflib.get_close_matches(name, {*fields, *values} - {"settings"}, 1)
        hint = f"Did you mean `{matches[0]}`?" if matches else "See rnn_scratch.Settings."
        hint = START_WORKERS if name == "workers" else hint
        hint = f"It is now `{RENAMED[name]}`." if name in RENAMED else hint
        raise RNNScratchError(f"Unknown argument `{name}`.", hint)
    types = {name: kind for name, kind in annotations(function).items() if "Annotated" in str(kind)}
    return values | {name: validate(name, values[name], kind) for name, kind in types.items()}


def show_plain_types(function: Function) -> Function:
    """Make `help` show the types of a function's arguments without their bounds."""
    types, signature = get_type_hints(function), inspect.signature(function)
    types["self"] = inspect.Parameter.empty
    parameters = [p.replace(annotation=types[p.name]) for p in signature.parameters.values()]
    plain_signature = signature.replace(parameters=parameters, return_annotation=types["return"])
    vars(function)["__signature__"] = plain_signature
    return function


RENAMED = {"model": "variant", "run": "output"}  # arguments with a new name since version 0.2.0

# Hint for users who pass `workers` or `--workers`, which do not exist.
START_WORKERS = "To train with 4 workers, start the program with `mpiexec -n 4`."


def option_name(name: str) -> str:
    """Return the command-line option for an argument: ``--num-hiddens`` for ``num_hiddens``."""
    return "--" + name.replace("_", "-")


def model_options(settings: Settings, vocab_size: int, device: str = "cpu") -> ModelConfig:
    """Return the options that a backend needs to build a model."""
    shared_values = {n: getattr(settings, n) for n in ModelConfig._fields if hasattr(settings, n)}
    return ModelConfig(vocab_size=vocab_size, device=device, **shared_values)


def update_rule(settings: Settings, lr: float | None = None) -> UpdateRule:
    """Return the hyperparameters for an update, optionally with a different learning rate."""
    values = {n: getattr(settings, n, None) for n in UpdateRule._fields}
    shared_values = {n: value for n, value in values.items() if value is not None}
    theta = math.inf if settings.theta is None else settings.theta
    update = UpdateRule(**shared_values | {"theta": theta, "lr": settings.lr if lr is None else lr})
    return exact.exact_update(update) if settings.exact else update
