"""Draw, from seeds, the cases in which a backend is compared with the reference.

Each seed determines a draw. Any eight consecutive seeds cover each special case: one row, one time
step, many updates, a large vocabulary, many time steps, equal sizes, and large weights.
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
from . import results
from .results import CheckResult, Result

LEARNING_RATES = {"sgd": 0.5, "momentum": 0.1, "adam": 0.01}  # divided by 1, 2 and 3 in turn
SIZES = 7, 9, 3, 2  # V, H, B, T of the first draws
N = 6  # embedding size
MIN_TOLERANCE = 1e-12  # for weighted sums, whose terms are rounded differently on other machines


class Draw(NamedTuple):
    """The settings of a case, and the seed from which its values are drawn.

    Attributes:
        options: Model configuration: cell, sizes, layers, embedding, dropout, dtype and device.
        batch_size: Number of rows in a minibatch, B.
        num_steps: Number of time steps in a minibatch, T.
        num_updates: Number of updates per epoch.
        optimizer: Name of the optimizer.
        carry: Whether the state is carried over from each minibatch to the next.
        sigma: Standard deviation of the initial weights.
        seed: Seed of the draw; None for a fixed case, whose values are drawn from seed 0.
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
        """Whether the weights are so large that rounding errors grow."""
        return self.sigma > 1

    @property
    def label(self) -> str:
        """A short description of the settings."""
        o = self.options
        layers = [f"{o.num_layers} layers"] if o.num_layers > 1 else []
        extras = [*(name for name in ("embedding", "dropout") if getattr(o, name)), *layers]
        sizes = f"B={self.batch_size} T={self.num_steps} V={o.vocab_size} H={o.num_hiddens}"
        drawn = [] if self.seed is None else [sizes, f"seed {self.seed}"]
        parts = [o.dtype, o.cell, *extras, *drawn]
        parts += [self.optimizer] * (self.optimizer != "sgd")
        return " ".join(parts + ["large weights"] * self.is_steep)


# Settings that override randomly drawn settings; consecutive draws use consecutive entries.
STRATA: tuple[dict[str, Any], ...] = (
    # The plain model comes first, so that the first failure is easy to read.
    {"num_layers": 1, "embedding": 0, "dropout": 0, "optimizer": "sgd"},
    {"num_layers": 1, "embedding": 0, "batch_size": 1, "num_updates": 132},
    {"num_layers": 2, "embedding": N, "dropout": 0, "optimizer": "momentum"},
    {"num_layers": 1, "embedding": 0, "vocab_size": 300},
    {"num_layers": 1, "embedding": 0, "dropout": 0.4, "optimizer": "adam", "num_steps": 1},
    {"num_layers": 3, "embedding": N, "dropout": 0.4, "optimizer": "sgd", "dtype": "float32"},
    {"num_layers": 1, "embedding": 0, "dropout": 0, "num_steps": 70},
    {"num_layers": 1, "embedding": 0, "dropout": 0, "sigma": 12.0}
    | {"vocab_size": 9, "num_hiddens": 9, "batch_size": 3, "num_steps": 3},
)
NUM_DRAWS = len(STRATA)  # default number of draws


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw the case for this seed, with one of `cells` (by default, any cell)."""
    group, stratum = divmod(seed, NUM_DRAWS)
    rng = np.random.RandomState(1000 + group)

    def pick(*values: Any) -> Any:
        return values[rng.randint(len(values))]

    # The draws in a group share sizes except in special cases, because compiling for each new size
    # is slow. In the first group, all sizes differ, so that mixing up two axes shows.
    V, H, B, T = (pick(5, 7, 28), pick(1, 9, 13), pick(1, 3, 12), pick(1, 4)) if group else SIZES
    rng = np.random.RandomState(1000 + seed)
    cells = list(cells or CELLS)
    settings = {
        "vocab_size": V,
        "num_hiddens": H,
        "cell": cells[(19 * seed + group) % len(cells)],
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
    seeds: Sequence[int] = range(NUM_DRAWS), cells: Sequence[str] = (), device: str = "cpu"
) -> list[Draw]:
    """Draw a case for each seed."""
    return [draw(seed, cells, device) for seed in seeds]


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw a case with tensors so large that frameworks use other algorithms and more threads."""
    cells = list(cells or ("lstm", "rnn", "gru", "gru-after", "rnn-relu"))
    H = (512, 257)[seed % 2]
    options = Options(11, H, cells[seed % len(cells)], dtype="float32", device=device)
    return Draw(options, batch_size=128, sigma=0.02, seed=seed)


class Case(NamedTuple):
    """A draw for a variant of a backend, with the draw's parameters, minibatch and state."""

    backend: Backend
    variant: str
    draw: Draw
    arrays: Arrays  # parameters
    batch: Batch  # arrays (B, T)
    states: tuple[np.ndarray, ...]  # (B, H) each

    @property
    def options(self) -> Options:
        """The configuration of the model."""
        return self.draw.options

    @property
    def reference(self) -> "Case":
        """The same case for the reference, on the CPU."""
        draw = self.draw._replace(options=self.options._replace(device="cpu"))
        numpy = registry.load("numpy")
        return Case(numpy, "scratch", draw, self.arrays, self.batch, self.states)

    @property
    def is_reference(self) -> bool:
        """Whether this case belongs to the reference itself."""
        return (self.variant, self.backend) == ("scratch", registry.load("numpy"))

    @property
    def scratch(self) -> ModuleType:
        """The backend's ``scratch`` module."""
        return self.backend.scratch

    def model(self, arrays: Arrays | None = None, optimizer: str = "") -> Model:
        """Build a model from `arrays` for `optimizer`; both default to the case's values."""
        arrays, optimizer = arrays or self.arrays, optimizer or self.draw.optimizer
        exact = self.options.dtype == "float64" and self.backend.exact is not None
        return registry.build(self.backend, self.variant, arrays, self.options, optimizer, exact)

    def params(self) -> Params:
        """Return the parameters as tensors of the backend."""
        return self.scratch.params(self.arrays, self.options)

    def step(self, x: Tensor, state: State, params: Params, t: int) -> tuple[Tensor, State]:
        """Call the backend's `step` or, for deep models, `deep_step` with the masks of step t."""
        if not self.options.needs_deep:
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
        """Return the loss, the gradients (as arrays) and the state after the case's minibatch."""
        model = self.model(arrays)
        loss, grads, state = self.scratch.gradients(model, *self.minibatch())
        return loss, model.to_arrays(grads), state

    def epoch(self, number: int) -> tuple[list[Batch], list[Update]]:
        """Return the minibatches and updates of epoch `number`, counted from 0."""
        draw, optimizer = self.draw, OPTIMIZERS[self.draw.optimizer]
        rng = np.random.RandomState([draw.seed or 0, 1 + number])
        decay = 0.02 * optimizer.weight_decay
        rule = Update(theta=0.6, optimizer=draw.optimizer, weight_decay=decay)
        batches, updates = [], []
        for index in range(draw.num_updates):
            batches.append(draw_batch(draw, rng))
            lr = LEARNING_RATES.get(draw.optimizer, optimizer.lr) / (1 + index % 3)
            update = rule._replace(lr=lr)
            update = exact.exact_update(update) if self.options.dtype == "float64" else update
            updates.append(schedule.correct_bias(update, number * draw.num_updates + index + 1))
        return batches, updates

    def function_name(self, check: "FunctionCheck") -> str:
        """Return the name of the function that a check compares in this case."""
        name = check.__name__
        if name == "cell":
            return self.options.cell.replace("-", "_")
        deep = self.options.needs_deep and self.variant == "scratch" and name in ("step", "forward")
        return f"deep_{name}" if deep else name

    def run(self, check: "FunctionCheck") -> Iterator[CheckResult]:
        """Compare the outputs that a check yields for this case with those of the reference.

        The reference's own outputs are compared with recorded values, because comparing
        the reference with itself would never fail. Without a recorded value, they are omitted.
        """
        expected: dict[tuple[str, str], Any] = {}
        for result in check(self):
            function = result.function or self.function_name(check)
            if result.expected is None and self.is_reference:
                result = self.sum_output(function, result)
                if result.expected is None:
                    continue
            elif result.expected is None:
                expected = expected or {
                    (result.function, result.name): self.reference.to_arrays(result.value)
                    for result in check(self.reference)
                }
                result = result._replace(expected=expected[result.function, result.name])
            yield self.compare(function, result)

    def sum_output(self, function: str, result: Result) -> Result:
        """Replace an output with its weighted sum, and expect the recorded sum, if there is one."""
        total = results.recorded_sums().get(self.draw.label, {}).get(f"{function}: {result.name}")
        value = results.weighted_sum(self.to_arrays(result.value))
        tolerance = max(result.tolerance, MIN_TOLERANCE)
        name = f"{result.name} (weighted sum)"
        return result._replace(name=name, value=value, expected=total, tolerance=tolerance)

    def compare(self, function: str, result: Result) -> CheckResult:
        """Compare an output with its expected value; the result describes the worst element."""
        actual, expected = self.to_arrays(result.value), self.to_arrays(result.expected)
        worst = results.find_worst_mismatch(expected, actual)
        tolerance = results.scale_tolerance(
            result.tolerance, self.options.dtype, self.options.device
        )
        if tolerance and worst.expected is not None:  # relative if any value exceeds 1
            tolerance *= max(1.0, float(np.abs(results.flatten(expected)).max(initial=0)))
            tolerance *= 1e4 if self.draw.is_steep else 1
        if devices := collect_devices((result.value, result.tensors)):
            # TensorFlow computes some functions on a GPU even if the tensors are on the CPU.
            tensor = self.tensor(self.arrays["b_q"])
            if devices := devices - collect_devices((tensor, tensor + 0)):
                names = ", ".join(devices)
                worst = results.WorstMismatch(
                    None, f"device {names} instead of {self.options.device}"
                )
        varies = self.variant != "scratch" and function in ("params", "forward", "gradients")
        return CheckResult(
            function=function,
            output=result.name,
            case=self.draw.label,
            tolerance=tolerance,
            file=f"{self.variant}.py" if varies else results.FILES.get(function, ""),
            seed=self.draw.seed,
            **worst._asdict(),
        )


def collect_devices(value: Any) -> set[str]:
    """Return the framework's device names of a tensor, or of all tensors in a dict or tuple."""
    if isinstance(value, dict | tuple):
        tensors = value.values() if isinstance(value, dict) else value
        return set().union(*map(collect_devices, tensors))
    device = getattr(value, "device", getattr(value, "ctx", None))
    return set() if device is None or isinstance(value, np.ndarray | np.generic) else {str(device)}


# A check calls a function of the contract and yields its outputs.
FunctionCheck = Callable[..., Iterator[Result]]


def make_case(backend: Backend, variant: str, draw: Draw) -> Case:
    """Draw the parameters, minibatch and state of a case; equal draws give equal values."""
    options, rng = draw.options, np.random.RandomState([draw.seed or 0, 0])
    arrays = initial(options, draw.sigma, draw.seed or 0)
    for parameter in arrays:
        if parameter.startswith("b_"):  # zero biases would hide a missing bias
            arrays[parameter] = rng.normal(0, min(draw.sigma, 1), arrays[parameter].shape)
    if "W_e" in arrays:
        arrays["W_e"] *= 8  # row norms above 1, so that a limit on row norms shows
    batch, shape = draw_batch(draw, rng), (draw.batch_size, options.num_hiddens)
    # Make many elements of the state large, so that clamping them shows.
    largest = 1 if options.num_hiddens > 200 else 12
    states = [rng.uniform(-largest, largest, shape) for _ in range(options.num_states)]
    arrays = {parameter: array.astype(options.dtype) for parameter, array in arrays.items()}
    typed_states = tuple(array.astype(options.dtype) for array in states)
    return Case(backend, variant, draw, arrays, batch, typed_states)


def draw_batch(draw: Draw, rng: np.random.RandomState) -> Batch:
    """Draw a minibatch with many repeated tokens, and with masks if the model uses dropout."""
    options, size, masks = draw.options, (draw.batch_size, draw.num_steps + 1), None
    tokens = rng.randint(0, options.vocab_size, size, "int64")
    tokens = np.where(rng.uniform(size=size) < 0.5, options.vocab_size - 1, tokens)
    if options.dropout:
        shape = draw.num_steps, options.num_layers, draw.batch_size, options.num_hiddens
        is_kept = rng.uniform(size=shape) >= options.dropout
        masks = np.multiply(is_kept, 1 / (1 - options.dropout), dtype=options.dtype)
    return Batch(tokens[:, :-1], tokens[:, 1:], masks)
