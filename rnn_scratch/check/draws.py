"""Draw, from seeds, the cases in which a backend is compared with the reference.

Each seed determines a draw. Starting at a multiple of NUM_DRAWS, NUM_DRAWS consecutive seeds cover
all pairs of properties in FACTORS, such as each cell with each optimizer, and all special draws.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import exact, registry
from ..contract import (
    CELLS,
    OPTIMIZERS,
    VARIANTS,
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
N = 6  # embedding size
NUM_UPDATES = 3  # in an epoch of most draws
LOW_THETA, HIGH_THETA = 0.3, 100.0  # below and above the norms of gradients
MIN_TOLERANCE = 1e-12  # for weighted sums, whose terms are rounded differently on other machines

# The properties of a draw, with their values: any two values of different properties occur
# together, except None, which need not occur. Of equally useful values, the first one is taken.
FACTORS: dict[str, tuple[Any, ...]] = {
    "cell": tuple(CELLS),
    "optimizer": tuple(OPTIMIZERS),
    "mode": ("float64", "float32", "exact"),
    "num_layers": (1, 2, 3),
    "steps": ("one", "as many as layers", "more"),
    "rows": ("one", "more"),
    "tokens": ("fewer than V", "more than V"),
    "embedding": (0, N),
    "dropout": (0, 0.4),
    "theta": (LOW_THETA, HIGH_THETA),
    "carry": (False, True),
    "resumes": (None, True),
    "evaluates": (None, True),
    "predicts": (None, True),
    "variant": (None, "fast", "concise"),  # trains in addition to scratch
}
PLAIN = {"num_layers": 1, "embedding": 0, "dropout": 0}
# Properties of the first draws. The remaining entries override fields of `Draw`.
SPECIAL_DRAWS: tuple[dict[str, Any], ...] = (
    # The plain model comes first, so that the first failure is easy to read.
    {**PLAIN, "optimizer": "sgd", "mode": "float64", "steps": "more", "rows": "more"}
    | {"tokens": "fewer than V"},
    {
        **PLAIN,
        "mode": "exact",
        "rows": "one",
        "predicts": True,
        "num_updates": 132,
        "carry": True,
        "evaluates": True,
        "variant": None,
    },
    # Tokens occur repeatedly, so that their gradients are summed.
    {**PLAIN, "steps": "more", "rows": "more", "tokens": "fewer than V", "predicts": True}
    | {"vocab_size": 300, "variant": "fast"},
)
# Draws without training, in which rounding errors grow too much.
UNTRAINED_DRAWS: tuple[dict[str, Any], ...] = (
    {"num_steps": 70},
    {"sigma": 12.0, "vocab_size": 9, "num_hiddens": 9, "batch_size": 3, "num_steps": 3},
)
NUM_PAIRWISE_DRAWS, NUM_CANDIDATES, MAX_ATTEMPTS = 20, 10, 10
NUM_DRAWS = NUM_PAIRWISE_DRAWS + len(UNTRAINED_DRAWS)  # default number of draws


class Draw(NamedTuple):
    """The settings of a case, and the seed from which its values are drawn."""

    options: Options  # cell, sizes, layers, embedding, dropout, dtype and device
    batch_size: int = 12
    num_steps: int = 4
    num_updates: int = 6  # in the first epoch; 0 for a case without training
    variants: tuple[str | None, ...] = VARIANTS  # whose gradients and training are compared
    optimizer: str = "sgd"
    exact: bool = False  # whether the model trains in exact mode
    theta: float = 0.6  # maximum norm of the gradients in training
    carry: bool = True  # whether the state is carried over to the next minibatch
    resumes: bool | None = False  # whether training resumes with a new model after one epoch
    evaluates: bool | None = True  # whether the model is evaluated after one epoch
    predicts: bool | None = True  # whether the model predicts after training
    sigma: float = 0.2  # standard deviation of the initial weights
    seed: int | None = None  # None: a fixed case, whose values are drawn from seed 0

    @property
    def is_steep(self) -> bool:
        """Whether the weights are so large that rounding errors grow."""
        return self.sigma > 1

    @property
    def is_long(self) -> bool:
        """Whether an epoch has so many updates, or a prediction so many tokens, that it is slow."""
        return self.seed is None or self.num_updates > 100

    @property
    def label(self) -> str:
        """A short description of the settings."""
        o = self.options
        layers = [f"{o.num_layers} layers"] if o.num_layers > 1 else []
        extras = [*(name for name in ("embedding", "dropout") if getattr(o, name)), *layers]
        sizes = f"B={self.batch_size} T={self.num_steps} V={o.vocab_size} H={o.num_hiddens}"
        drawn = [] if self.seed is None else [sizes, f"seed {self.seed}"]
        parts = [o.dtype, o.cell, *extras, *drawn]
        parts += [self.optimizer] * (self.optimizer != "sgd") + ["exact"] * self.exact
        return " ".join(parts + ["large weights"] * self.is_steep)


def _is_possible(row: Mapping[str, Any]) -> bool:
    # Return whether a draw can have these properties; some may be missing.
    one_layer = (row.get("num_layers"), row.get("steps")) == (1, "as many as layers")
    one_token = (row.get("rows"), row.get("steps")) == ("one", "one")
    return not one_layer and not (one_token and row.get("tokens") == "more than V")


def _pairs(row: Mapping[str, Any]) -> set[Any]:
    return set(itertools.combinations([(name, row[name]) for name in FACTORS if name in row], 2))


def _all_pairs(factors: Mapping[str, Sequence[Any]]) -> Iterator[Any]:
    for names in itertools.combinations(factors, 2):
        for values in itertools.product(*(factors[name] for name in names)):
            pair = tuple(zip(names, values))
            if None not in values and _is_possible(dict(pair)):
                yield pair


@functools.lru_cache(maxsize=1000)
def cover_pairs(seed: int, cells: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return rows of properties, one for each draw, that cover all pairs of FACTORS.

    The algorithm is greedy: a row starts with a pair that no row has yet, and then takes, for each
    property in random order, the value that covers the most new pairs.
    """
    rng, factors = np.random.RandomState(seed), {**FACTORS, "cell": cells}

    def complete(row: dict[str, Any]) -> dict[str, Any]:
        for name in rng.permutation([name for name in factors if name not in row]):
            rows = filter(_is_possible, [row | {name: value} for value in factors[name]])
            row = max(rows, key=lambda row: len(_pairs(row) & missing))
        return row

    for _ in range(MAX_ATTEMPTS):
        rows, pairs = list[dict[str, Any]](), list(_all_pairs(factors))
        missing = set(pairs)
        for index in range(NUM_PAIRWISE_DRAWS):
            starts = [{"cell": cells[index % len(cells)], **row} for row in SPECIAL_DRAWS][
                index : index + 1
            ]
            if not starts:
                left = [pair for pair in pairs if pair in missing] or pairs
                starts = [dict(left[rng.randint(len(left))]) for _ in range(NUM_CANDIDATES)]
            rows.append(max(map(complete, starts), key=lambda row: len(_pairs(row) & missing)))
            missing -= _pairs(rows[-1])
        if not missing:
            break
    return rows


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw the case for this seed, with one of `cells` (by default, any cell)."""
    group, index = divmod(seed, NUM_DRAWS)
    rng, cells = np.random.RandomState([1000, seed]), tuple(cells or CELLS)

    def pick(*values: Any) -> Any:
        return values[rng.randint(len(values)) if group else 0]

    if index < NUM_PAIRWISE_DRAWS:
        row, num_updates = dict(cover_pairs(group, cells)[index]), NUM_UPDATES
    else:
        row, num_updates = {"cell": cells[(19 * seed + group) % len(cells)], **PLAIN}, 0
        row |= UNTRAINED_DRAWS[index - NUM_PAIRWISE_DRAWS]
    variant = row.pop("variant", None)
    mode, steps, rows, tokens = (row.pop(n, "") for n in ("mode", "steps", "rows", "tokens"))
    # In the first group, the sizes of the first draw differ, so that mixing up two axes shows.
    H, B = pick(9, 1, 13), 1 if rows == "one" else pick(3, 12)
    T = {"one": 1, "as many as layers": row["num_layers"]}.get(steps, pick(2, 4))
    # Few vocabulary sizes, because JAX compiles each operation for each shape.
    V = 2 if tokens == "more than V" else pick(10, 28) if B * T < 10 else B * T + 1
    settings = {
        **{"vocab_size": V, "num_hiddens": H, "batch_size": B, "num_steps": T, "device": device},
        "dtype": "float32" if mode == "float32" else "float64",
        "exact": mode == "exact",
        "num_updates": num_updates,
        "variants": (VARIANTS[0], variant) if num_updates else VARIANTS,
        **row,
    }
    options = Options(*(settings.pop(name) for name in Options._fields))
    return Draw(options, seed=seed, **settings)


def draw_all(
    seeds: Sequence[int] = range(NUM_DRAWS), cells: Sequence[str] = (), device: str = "cpu"
) -> list[Draw]:
    """Draw a case for each seed."""
    return [draw(seed, cells, device) for seed in seeds]


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw a case with tensors so large that frameworks use other algorithms and more threads."""
    cells = list(cells or ("rnn", "lstm", "gru", "gru-after", "rnn-relu"))
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
        variants = VARIANTS if self.variant in self.draw.variants else ()
        options = self.options._replace(device="cpu")
        draw = self.draw._replace(options=options, variants=variants)
        return self._replace(backend=registry.load("numpy"), variant="scratch", draw=draw)

    @property
    def has_reference(self) -> bool:
        """Whether the reference can compute this case, and is not itself compared."""
        scratch = registry.load("numpy").scratch
        is_known = self.options.cell in scratch.CELLS and self.draw.optimizer in scratch.OPTIMIZERS
        return is_known and (self.variant != "scratch" or self.scratch is not scratch)

    @property
    def scratch(self) -> Any:
        """The backend's ``scratch`` module."""
        return self.backend.scratch

    def model(self, arrays: Arrays | None = None, optimizer: str = "") -> Model:
        """Build a model from `arrays` for `optimizer`; both default to the case's values."""
        arrays, optimizer = arrays or self.arrays, optimizer or self.draw.optimizer
        exact = self.draw.exact and optimizer == self.draw.optimizer
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

    def epoch(self, number: int) -> tuple[list[Batch], Iterator[Update]]:
        """Return the minibatches of epoch `number`, counted from 0, and its endless updates."""
        draw, optimizer = self.draw, OPTIMIZERS[self.draw.optimizer]
        rng = np.random.RandomState([draw.seed or 0, 1 + number])
        rule = Update(
            theta=draw.theta,
            optimizer=draw.optimizer,
            weight_decay=0.02 * optimizer.weight_decay,
            # Adam divides by |g| + epsilon, which would magnify rounding errors of small gradients.
            epsilon=1e-8 if draw.exact else 1e-3,
        )

        def updates() -> Iterator[Update]:
            for t in itertools.count(number * draw.num_updates + 1):
                lr = LEARNING_RATES.get(draw.optimizer, optimizer.lr) / (1 + t % 3)
                update = rule._replace(lr=lr)
                yield schedule.correct_bias(exact.exact_update(update) if draw.exact else update, t)

        num_updates = min(draw.num_updates, NUM_UPDATES) if number else draw.num_updates
        return [draw_batch(draw, rng) for _ in range(num_updates)], updates()

    def function_name(self, check: "FunctionCheck") -> str:
        """Return the name of the function that a check compares in this case."""
        name = check.__name__
        if name == "cell":
            return self.options.cell.replace("-", "_")
        is_deep = self.options.needs_deep and self.variant == "scratch"
        return f"deep_{name}" if is_deep and name in ("step", "forward") else name

    def run(self, check: "FunctionCheck") -> Iterator[CheckResult]:
        """Compare the outputs that a check yields for this case with those of the reference.

        The reference's own outputs are compared with recorded values, because comparing
        the reference with itself would never fail. Without a recorded value, they are omitted.
        """
        expected: dict[tuple[str, str], Any] = {}
        for result in check(self):
            function = result.function or self.function_name(check)
            if result.expected is None and not self.has_reference:
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
        value = None if total is None else results.weighted_sum(self.to_arrays(result.value))
        tolerance = max(result.tolerance, MIN_TOLERANCE)
        name = f"{result.name} (weighted sum)"
        return result._replace(name=name, value=value, expected=total, tolerance=tolerance)

    def compare(self, function: str, result: Result) -> CheckResult:
        """Compare an output with its expected value; the result describes the worst element."""
        expected = self.to_arrays(result.expected)
        try:
            worst = results.find_worst_mismatch(expected, self.to_arrays(result.value))
        except Exception:  # the value cannot be converted
            problem = f"a value of type {type(result.value).__name__} instead of a tensor"
            worst = results.WorstMismatch(None, problem)
        tolerance = results.scale_tolerance(
            result.tolerance, self.options.dtype, self.options.device
        )
        if tolerance and worst.expected is not None:  # relative if any value exceeds 1
            sizes = np.abs(results.flatten(expected))
            tolerance *= max(1.0, float(sizes[np.isfinite(sizes)].max(initial=0)))
            tolerance *= 1e4 if self.draw.is_steep else 1
        if devices := collect_devices((result.value, result.tensors)):
            # TensorFlow computes some functions on a GPU even if the tensors are on the CPU.
            tensor = self.tensor(self.arrays["b_q"])
            if devices := devices - collect_devices((tensor, tensor + 0)):
                problem = f"device {', '.join(devices)} instead of {self.options.device}"
                worst = results.WorstMismatch(None, problem)
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
    states = tuple(rng.uniform(-largest, largest, shape) for _ in range(options.num_states))
    # In float64, no parameter is a float32 value, so that rounding to float32 shows.
    arrays = {
        name: (array * (1 + 2.0**-40)).astype(options.dtype) for name, array in arrays.items()
    }
    return Case(
        backend, variant, draw, arrays, batch, tuple(s.astype(options.dtype) for s in states)
    )


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
