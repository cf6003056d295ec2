"""Draw the cases in which a backend is compared with the reference, from seeds.

A draw is determined by its seed. Ten consecutive seeds contain each special case once: tensors of
one element, many updates, a large vocabulary, many time steps, equal sizes, large weights.
"""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .. import exact, registry
from ..contract import (
    CELLS,
    OPTIMIZERS,
    Arrays,
    Backend,
    Batch,
    Model,
    Options,
    Params,
    State,
    Tensor,
    Update,
)
from ..parameters import initial
from ..training import schedule
from .results import (
    FILES,
    RECORDED,
    CheckResult,
    Result,
    Worst,
    find_worst,
    flatten,
    recorded,
    scale_tolerance,
    weighted_sum,
)

NUM_DRAWS = 10  # default number of draws
LEARNING_RATES = {"sgd": 0.5, "momentum": 0.1, "adam": 0.01}  # base rates, divided by 1 to 3
DTYPES = "float64", "float32"
SIZES = 7, 9, 3, 2  # V, H, B, T of the first draws
N = 6  # size of an embedding
MIN_TOLERANCE = 1e-12  # tolerance of weighted sums, whose terms other machines round differently


class Draw(NamedTuple):
    """The settings of a case, and the seed of its values.

    Attributes:
        options: Cell, sizes, layers, embedding, dropout, dtype and device.
        batch_size: B, rows of a minibatch.
        num_steps: T, time steps of a minibatch.
        num_updates: Updates per epoch.
        optimizer: Name of the optimizer.
        carry: Whether the state is carried from minibatch to minibatch.
        sigma: Standard deviation of the weights.
        seed: Seed of the draw; None for a fixed case, whose values have seed 0.
    """

    options: Options
    batch_size: int = 12
    num_steps: int = 4
    num_updates: int = 6
    optimizer: str = "sgd"
    carry: bool = True
    sigma: float = 0.2
    seed: int | None = None

    @property
    def is_steep(self) -> bool:
        """Whether weights and states are large; then rounding errors grow."""
        return self.sigma > 1

    @property
    def label(self) -> str:
        """The settings in words."""
        o = self.options
        layers = [f"{o.num_layers} layers"] if o.num_layers > 1 else []
        extras = [*(name for name in ("embedding", "dropout") if getattr(o, name)), *layers]
        sizes = f"B={self.batch_size} T={self.num_steps} V={o.vocab_size} H={o.num_hiddens}"
        drawn = [] if self.seed is None else [sizes, f"seed {self.seed}"]
        words = [o.dtype, o.cell, *extras, *drawn]
        if self.optimizer != "sgd":
            words.append(self.optimizer)
        return " ".join(words + ["large weights"] * self.is_steep)


# The settings that distinguish ten consecutive draws.
STRATA: tuple[dict[str, Any], ...] = (
    # The plain model, for a readable first failure.
    {"num_layers": 1, "embedding": 0, "dropout": 0, "optimizer": "sgd"},
    {"batch_size": 1, "num_updates": 140, "num_layers": 1, "embedding": 0},
    {"batch_size": 1, "num_steps": 1, "num_layers": 1},
    {"num_layers": 3, "embedding": N, "dropout": 0.4, "optimizer": "momentum", "dtype": "float32"},
    {"vocab_size": 300, "num_layers": 1, "embedding": 0},
    {"num_layers": 1, "embedding": 0, "dropout": 0.4, "optimizer": "adam"},
    {"vocab_size": 9, "num_hiddens": 9, "batch_size": 3, "num_steps": 3, "num_layers": 1}
    | {"embedding": 0, "dropout": 0},
    {"sigma": 12.0, "num_layers": 1},
    {"num_steps": 70, "num_layers": 1, "embedding": 0, "dropout": 0},
    {"num_layers": 2, "embedding": 0, "dropout": 0, "optimizer": "sgd", "dtype": "float32"},
)


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw a case, with one of these cells (by default any)."""
    decade, stratum = divmod(seed, NUM_DRAWS)
    rng = np.random.RandomState(1000 + decade)

    def pick(*values: Any) -> Any:
        return values[rng.randint(len(values))]

    # Ten draws have equal sizes unless a special case needs different sizes, because a compiler
    # takes long for each new size. In the first draws all sizes differ, so that no axis can hide.
    V, H, B, T = (pick(5, 7, 28), pick(6, 9, 13), pick(2, 3, 12), pick(2, 4)) if decade else SIZES
    rng = np.random.RandomState(1000 + seed)
    cells = list(cells or CELLS)
    settings = {
        "vocab_size": V,
        "num_hiddens": H,
        "cell": cells[(seed + decade) % len(cells)],
        "num_layers": pick(1, 1, 2),
        "embedding": pick(0, 0, N),
        "dropout": pick(0, 0.4),
        "dtype": "float64",
        "device": device,
        "batch_size": B,
        "num_steps": T,
        "num_updates": 4,
        "optimizer": pick(*OPTIMIZERS),
        "carry": pick(False, True),
        **STRATA[stratum],
    }
    options = Options(*(settings.pop(name) for name in Options._fields))
    return Draw(options, **settings, seed=seed)


def draw_all(
    seed: int = 0, number: int = NUM_DRAWS, cells: Sequence[str] = (), device: str = "cpu"
) -> list[Draw]:
    """Draw this number of cases, with consecutive seeds."""
    return [draw(seed + index, cells, device) for index in range(number)]


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw a case with large tensors, for which frameworks use other algorithms and threads."""
    cells = list(cells or ("lstm", "rnn", "gru", "gru-after", "rnn-relu"))
    H = (512, 257)[seed % 2]
    options = Options(11, H, cells[seed % len(cells)], dtype="float32", device=device)
    return Draw(options, batch_size=128, sigma=0.02, seed=seed)


def fixed_draws(options: Options) -> list[Draw]:
    """Return a fixed case with these options in each dtype; large networks have small weights."""
    sigma = 0.06 if options.num_hiddens > 256 else Draw(options).sigma
    return [Draw(options._replace(dtype=dtype), sigma=sigma) for dtype in DTYPES]


class Case(NamedTuple):
    """A draw for a backend, with its parameters, minibatch and state."""

    name: str  # backend name
    backend: Backend
    variant: str
    draw: Draw
    arrays: Arrays  # parameters
    batch: Batch  # arrays (B, T)
    states: tuple[np.ndarray, ...]  # (B, H) each

    @property
    def options(self) -> Options:
        """The options of the model."""
        return self.draw.options

    @property
    def reference(self) -> "Case":
        """The same case for the reference."""
        draw = self.draw._replace(options=self.options._replace(device="cpu"))
        return self._replace(
            name="numpy", backend=registry.load("numpy"), variant="scratch", draw=draw
        )

    @property
    def is_reference(self) -> bool:
        """Whether this is the reference itself."""
        return self.variant == "scratch" and self.backend is registry.load("numpy")

    @property
    def scratch(self) -> ModuleType:
        """The backend's functions."""
        return self.backend.scratch

    @property
    def resumes(self) -> bool:
        """Whether a new model is built before the second epoch."""
        return (self.draw.seed or 0) % 5 == 1  # a compiler takes long for each new model

    @property
    def exactly(self) -> bool:
        """Whether updates use exact mode, which has float64 only."""
        return self.options.dtype == "float64"

    def model(self, arrays: Arrays | None = None, optimizer: str = "sgd") -> Model:
        """Build a model with these parameters, by default the case's."""
        arrays = arrays or self.arrays
        num_hiddens, vocab_size = arrays["W_hq"].shape
        options = self.options._replace(vocab_size=vocab_size, num_hiddens=num_hiddens)
        return registry.build(self.name, self.backend, self.variant, arrays, options, optimizer)

    def params(self) -> Params:
        """Return the parameters as tensors of ``scratch``."""
        return self.scratch.params(self.arrays, self.options)

    def step(self, x: Tensor, state: State, params: Params, t: int) -> tuple[Tensor, State]:
        """Call the backend's `step`, or `deep_step` with the masks of time step t."""
        if not self.options.deep:
            return self.scratch.step(x, state, params, self.options)
        masks = None if self.batch.masks is None else self.tensor(self.batch.masks[t])
        return self.backend.deep.deep_step(x, state, params, self.options, masks)

    def tensor(self, array: np.ndarray) -> Tensor:
        """Convert an array to a tensor of the backend."""
        return self.backend.machine.tensor(array, self.options.device)

    def to_arrays(self, value: Any) -> Any:
        """Convert tensors of the backend, alone or in a dict or tuple, to arrays."""
        if isinstance(value, dict):
            return {name: self.to_arrays(tensor) for name, tensor in value.items()}
        if isinstance(value, tuple | list):
            return tuple(map(self.to_arrays, value))
        if isinstance(value, float | int | str | np.generic | np.ndarray | Exception):
            return value
        return self.backend.machine.array(value)

    def minibatch(self) -> tuple[Batch, State]:
        """Return the minibatch and the state as tensors of the backend."""
        return self.batch.map(self.tensor), tuple(map(self.tensor, self.states))

    def gradients(self, arrays: Arrays | None = None) -> tuple[Tensor, Arrays, State]:
        """Return loss, gradients and state of the case's minibatch."""
        model = self.model(arrays)
        loss, grads, state = self.scratch.gradients(model, *self.minibatch())
        return loss, model.to_arrays(grads), state

    def epoch(self, number: int) -> tuple[list[Batch], list[Update]]:
        """Return the minibatches and updates of an epoch, from 0."""
        draw, rng = self.draw, _generator(self.draw, 1 + number)
        optimizer = OPTIMIZERS[draw.optimizer]
        # In a resumed epoch another θ, because the first epoch's must not be kept.
        theta, decay = 1.0 if number and self.resumes else 0.5, 0.02 * optimizer.decays
        rule = Update(theta=theta, optimizer=draw.optimizer, weight_decay=decay)
        batches, updates = [], []
        for index in range(draw.num_updates):
            tokens = draw_tokens(draw, rng)
            batches.append(Batch(tokens[:, :-1], tokens[:, 1:], draw_masks(draw, rng)))
            lr = LEARNING_RATES.get(draw.optimizer, optimizer.lr) / (1 + index % 3)
            update = rule._replace(lr=lr)
            update = exact.update(update) if self.exactly else update
            updates.append(schedule.corrected(update, number * draw.num_updates + index + 1))
        return batches, updates

    def function_name(self, check: "FunctionCheck") -> str:
        """Return the name of the function that a check compares in this case."""
        name = check.__name__
        if name == "cell":
            return self.options.cell.replace("-", "_")
        deep = self.options.deep and self.variant == "scratch" and name in ("step", "forward")
        return f"deep_{name}" if deep else name

    def run(self, check: "FunctionCheck", *arguments: Any) -> Iterator[CheckResult]:
        """Compare the outputs of a check in this case with the outputs of the reference.

        The reference's own outputs are compared with recorded values, because a comparison with
        itself would never fail.
        """
        expected: dict[tuple[str, str], Any] = {}
        for result in check(self, *arguments):
            if result.expected is None and not self.is_reference:
                reference = self.reference
                expected = expected or {
                    (other.function, other.name): reference.to_arrays(other.value)
                    for other in check(reference)
                }
                result = result._replace(expected=expected[result.function, result.name])
            yield self.compare(result.function or self.function_name(check), result)

    def compare(self, function: str, result: Result) -> CheckResult:
        """Compare an output with its expected or recorded value; report its worst element."""
        actual = self.to_arrays(result.value)
        expected = actual if result.expected is None else self.to_arrays(result.expected)
        worst = find_worst(expected, actual)
        tolerance = scale_tolerance(result.tolerance, self.options.dtype, self.options.device)
        if tolerance and worst.expected is not None:  # relative to large values
            tolerance *= max(1.0, float(np.abs(flatten(expected)).max(initial=0)))
            tolerance *= 1e4 if self.draw.is_steep else 1
        total = recorded().get(self.draw.label, {}).get(f"{function}: {result.name}")
        if result.expected is None and total is not None and worst.difference is not None:
            own_total = weighted_sum(actual)
            worst = Worst(abs(own_total - total), RECORDED, total, own_total)
            tolerance = max(tolerance, MIN_TOLERANCE * max(1.0, abs(total)))
        if devices := devices_of((result.value, result.tensors)):
            # TensorFlow computes some functions on a GPU even if the tensors are on the CPU.
            own = self.tensor(self.arrays["b_q"])
            if others := devices - devices_of((own, own + 0)):
                where = f"device {', '.join(others)} instead of {self.options.device}"
                worst = Worst(None, where)
        varies = self.variant != "scratch" and function in ("params", "forward", "gradients")
        return CheckResult(
            function=function,
            output=result.name,
            case=self.draw.label,
            tolerance=tolerance,
            file=f"{self.variant}.py" if varies else FILES.get(function, ""),
            seed=self.draw.seed,
            **worst._asdict(),
        )


def devices_of(value: Any) -> set[str]:
    """Return the framework's names for the devices of tensors, alone or in dicts or tuples."""
    if isinstance(value, dict | tuple):
        tensors = value.values() if isinstance(value, dict) else value
        return set().union(*map(devices_of, tensors))
    device = getattr(value, "device", getattr(value, "ctx", None))
    return set() if device is None or isinstance(value, np.ndarray | np.generic) else {str(device)}


# A function that yields outputs of a function of the contract.
FunctionCheck = Callable[..., Iterator[Result]]


def make_case(name: str, backend: Backend, variant: str, draw: Draw) -> Case:
    """Draw parameters, minibatch and state; the same draw always gives the same values."""
    options, rng = draw.options, _generator(draw, 0)
    arrays = initial(options, draw.sigma, draw.seed or 0)
    for parameter in arrays:
        if parameter.startswith("b_"):  # zero biases would hide a missing bias
            arrays[parameter] = rng.normal(0, min(draw.sigma, 1), arrays[parameter].shape)
    if "W_e" in arrays:
        arrays["W_e"] *= 8  # norms above 1, which some frameworks would clip on request
    tokens = draw_tokens(draw, rng)
    shape = draw.batch_size, options.num_hiddens
    # Some states are large, so that a function of limited range shows.
    largest = 30 if draw.is_steep else 1 if options.num_hiddens > 200 else 8
    states = [rng.uniform(-largest, largest, shape) for _ in range(options.num_states)]
    return Case(
        name,
        backend,
        variant,
        draw,
        {parameter: array.astype(options.dtype) for parameter, array in arrays.items()},
        Batch(tokens[:, :-1], tokens[:, 1:], draw_masks(draw, rng)),
        tuple(array.astype(options.dtype) for array in states),
    )


def draw_tokens(draw: Draw, rng: np.random.RandomState) -> np.ndarray:
    """Draw the tokens of a minibatch and its targets: (B, T+1), among them many repeated ones."""
    shape, V = (draw.batch_size, draw.num_steps + 1), draw.options.vocab_size
    tokens = rng.randint(0, V, shape, "int64")
    return np.where(rng.uniform(size=shape) < 0.3, V - 1, tokens)


def draw_masks(draw: Draw, rng: np.random.RandomState) -> np.ndarray | None:
    """Draw dropout masks for a minibatch; None without dropout."""
    options = draw.options
    if not options.dropout:
        return None
    shape = draw.num_steps, options.num_layers, draw.batch_size, options.num_hiddens
    kept = rng.uniform(size=shape) >= options.dropout
    return np.multiply(kept, 1 / (1 - options.dropout), dtype=options.dtype)


def _generator(draw: Draw, stream: int) -> np.random.RandomState:
    return np.random.RandomState([draw.seed or 0, stream])
