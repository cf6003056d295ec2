"""Cases for running draws on a backend and comparing its outputs with expected values."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import exact, registry
from ..contract import (
    OPTIMIZERS,
    Arrays,
    Backend,
    Batch,
    Model,
    ModelConfig,
    State,
    Tensor,
    UpdateRule,
)
from ..parameters import draw_parameters
from ..training import schedule
from . import results
from .draws import NUM_UPDATES, CaseSpec
from .results import CheckResult, Result

LEARNING_RATES = {"sgd": 0.5, "momentum": 0.1, "adam": 0.01}  # divided by 1, 2 and 3 in turn
MIN_TOLERANCE = 1e-12  # for weighted sums, whose rounding errors vary between machines


class Case(NamedTuple):
    """A draw applied to one backend variant, with the drawn parameters, minibatch and state."""

    backend: Backend
    variant: str
    draw: CaseSpec
    arrays: Arrays  # parameters
    batch: Batch  # arrays of shape (B, T)
    states: tuple[np.ndarray, ...]  # each of shape (B, H)

    @property
    def options(self) -> ModelConfig:
        """The model configuration."""
        return self.draw.options

    @property
    def reference(self) -> "Case":
        """The same case, run by the reference on the CPU."""
        draw = self.draw._replace(options=self.options._replace(device="cpu"))
        return self._replace(backend=registry.load("numpy"), variant="scratch", draw=draw)

    @property
    def has_reference(self) -> bool:
        """Whether the reference supports this case and is not itself being checked."""
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

    def params(self) -> dict[str, Tensor]:
        """Return the parameters as backend tensors."""
        return self.scratch.init_params(self.arrays, self.options)

    def forward(self, model: Model, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Call a model's `forward` with the minibatch's masks, if any."""
        masks = {} if batch.masks is None else {"masks": batch.masks}
        return model.forward(batch.X, state, model.params, model.options, **masks)

    def train(
        self, model: Model, batch: Batch, state: State, update: UpdateRule
    ) -> tuple[Tensor, State]:
        """Train a model on a minibatch; return the loss and the state."""
        arguments = batch, state, update, model.options, model.gradients
        loss, model.params, model.slots, state = model.train_minibatch(
            model.params, model.slots, *arguments
        )
        return loss, state

    def step(
        self, x: Tensor, state: State, params: dict[str, Tensor], t: int
    ) -> tuple[Tensor, State]:
        """Call the backend's `step` or, for deep models, `deep_step` with the masks for step t."""
        if not self.options.needs_deep:
            return self.scratch.step(x, state, params, self.options)
        masks = None if self.batch.masks is None else self.tensor(self.batch.masks[t])
        return self.backend.deep.deep_step(x, state, params, self.options, masks)

    def tensor(self, array: np.ndarray) -> Tensor:
        """Convert an array to a backend tensor."""
        return self.backend.machine.tensor(array, self.options.device)

    def to_arrays(self, value: Any) -> Any:
        """Convert a backend tensor, or a dict or tuple of tensors, to arrays."""
        if isinstance(value, dict):
            return {name: self.to_arrays(tensor) for name, tensor in value.items()}
        if isinstance(value, tuple | list):
            return tuple(map(self.to_arrays, value))
        is_converted = isinstance(value, float | int | str | np.generic | np.ndarray | Exception)
        return value if is_converted else self.backend.machine.array(value)

    def from_zeros(self) -> "Case":
        """Return the same case with a state of zeros."""
        return self._replace(states=tuple(0 * state for state in self.states))

    @property
    def first_inputs(self) -> np.ndarray:
        """The one-hot vectors (B, V) for the first time step."""
        vectors: np.ndarray = np.eye(self.options.vocab_size, dtype=self.options.dtype)
        return vectors[self.batch.X[:, 0]]

    def minibatch(self) -> tuple[Batch, State]:
        """Return the minibatch and state as backend tensors."""
        return self.batch.map(self.tensor), tuple(map(self.tensor, self.states))

    def gradients(self, arrays: Arrays | None = None) -> tuple[Tensor, Arrays, State]:
        """Return the loss, gradients (as arrays) and final state for the case's minibatch."""
        model = self.model(arrays)
        loss, grads, state = model.gradients(model.params, *self.minibatch(), model.options)
        return loss, model.to_arrays(grads), state

    def epoch(self, index: int, num_skipped: int = 0) -> tuple[list[Batch], Iterator[UpdateRule]]:
        """Return the minibatches of epoch `index` (from 0) and an infinite iterator of updates.

        The first `num_skipped` minibatches and updates are omitted.
        """
        draw, optimizer = self.draw, OPTIMIZERS[self.draw.optimizer]
        rng = np.random.RandomState([draw.seed or 0, 1 + index])
        rule = UpdateRule(
            theta=draw.theta,
            optimizer=draw.optimizer,
            weight_decay=0.02 * optimizer.weight_decay,
            # Adam divides by |g| + epsilon; a tiny epsilon magnifies errors in small gradients.
            epsilon=1e-8 if draw.exact else 1e-3,
        )

        def updates() -> Iterator[UpdateRule]:
            first = (index + bool(draw.resumes)) * draw.num_updates + num_skipped + 1
            for t in itertools.count(first):
                lr = LEARNING_RATES.get(draw.optimizer, optimizer.lr) / (1 + t % 3)
                update = rule._replace(lr=lr)
                yield schedule.correct_bias(exact.exact_update(update) if draw.exact else update, t)

        num_updates = min(draw.num_updates, NUM_UPDATES) if index else draw.num_updates
        return [draw_batch(draw, rng) for _ in range(num_updates)][num_skipped:], updates()

    def function_name(self, check: "FunctionCheck") -> str:
        """Return the name of the function that `check` compares in this case."""
        names = {"cell": self.options.cell.replace("-", "_"), "optimizer": self.draw.optimizer}
        if self.options.needs_deep and self.variant == "scratch":
            names |= {"step": "deep_step", "forward": "deep_forward"}
        return names.get(check.__name__, check.__name__)

    def outputs(self, check: "FunctionCheck") -> dict[str, Any]:
        """Return the outputs that have no expected value, as arrays keyed by "function: output"."""
        return {
            result.key(check): self.to_arrays(result.value)
            for result in check(self)
            if result.expected is None
        }

    def run(self, check: "FunctionCheck") -> Iterator[CheckResult]:
        """Run a check on this case and compare its outputs with the reference's.

        The reference's own outputs are compared with recorded sums because comparing the
        reference with itself would never fail. Outputs without a recorded sum are skipped.
        """
        expected: dict[str, Any] = {}
        recorded = results.read_data("pinned.json").get(self.draw.label, {})
        for result in check(self):
            key = result.key(check)
            if result.expected is None and self.has_reference:
                expected = expected or self.reference.outputs(check)
                result = result._replace(expected=expected[key])
            elif result.expected is None and key in recorded:
                result = result._replace(
                    name=f"{result.name} (weighted sum)",
                    value=results.weighted_sum(self.to_arrays(result.value)),
                    expected=recorded[key],
                    tolerance=max(result.tolerance, MIN_TOLERANCE),
                )
            if result.expected is not None:
                yield self.compare(result.function or self.function_name(check), result)

    def compare(self, function: str, result: Result) -> CheckResult:
        """Compare an output with its expected value and describe the worst mismatch."""
        expected = self.to_arrays(result.expected)
        try:
            worst = results.find_worst_mismatch(expected, self.to_arrays(result.value))
        except Exception:  # the value cannot be converted
            problem = f"a value of type {type(result.value).__name__} instead of a tensor"
            worst = results.WorstMismatch(None, problem)
        tolerance = results.scale_tolerance(
            result.tolerance, self.options.dtype, self.options.device
        )
        if tolerance and worst.expected is not None:  # scale with the largest value if it exceeds 1
            sizes = np.abs(results.flatten(expected))
            tolerance *= max(1.0, float(sizes[np.isfinite(sizes)].max(initial=0)))
            tolerance *= 1e4 if self.draw.has_large_weights else 1  # they magnify rounding errors
            # A gate near 1 keeps the rounding errors of all earlier time steps.
            tolerance *= max(1.0, self.draw.num_steps / 4)
        if devices := collect_devices((result.value, result.tensors)):
            # Allow for TensorFlow, which computes some functions of CPU tensors on the GPU.
            tensor = self.tensor(self.arrays["b_q"])
            if devices := devices - collect_devices((tensor, tensor + 0)):
                problem = f"device {', '.join(devices)} instead of {self.options.device}"
                worst = results.WorstMismatch(None, problem)
        return CheckResult(
            function=function,
            output=result.name,
            case=self.draw.label,
            tolerance=tolerance,
            seed=self.draw.seed,
            **worst._asdict(),
        )


def collect_devices(value: Any) -> set[str]:
    """Return the device names of a tensor, or of all tensors in a dict or tuple."""
    if isinstance(value, dict | tuple):
        tensors = value.values() if isinstance(value, dict) else value
        return set().union(*map(collect_devices, tensors))
    device = getattr(value, "device", getattr(value, "ctx", None))
    return set() if device is None or isinstance(value, np.ndarray | np.generic) else {str(device)}


# A check calls a contract function and yields its outputs.
FunctionCheck = Callable[..., Iterator[Result]]


def make_case(backend: Backend, variant: str, draw: CaseSpec) -> Case:
    """Draw a case's parameters, minibatch and state; equal draws produce equal values."""
    options, rng = draw.options, np.random.RandomState([draw.seed or 0, 0])
    arrays = draw_parameters(options, draw.sigma, draw.seed or 0)
    for parameter in arrays:
        if parameter.startswith("b_"):  # zero biases would hide a missing bias
            arrays[parameter] = rng.normal(0, min(draw.sigma, 1), arrays[parameter].shape)
    if "W_e" in arrays:
        arrays["W_e"] *= 8  # raises row norms above 1 so that a max-norm limit is detected
    batch, size = draw_batch(draw, rng), (options.num_states, draw.batch_size, options.num_hiddens)
    # Make many state elements large so that clamping is detected.
    largest = 1 if options.num_hiddens > 200 else 12
    states = tuple(rng.uniform(-largest, largest, size).astype(options.dtype))
    # Make float64 parameters unrepresentable in float32 so that rounding is detected.
    arrays = {
        name: (array * (1 + 2.0**-40)).astype(options.dtype) for name, array in arrays.items()
    }
    return Case(backend, variant, draw, arrays, batch, states)


def draw_batch(draw: CaseSpec, rng: np.random.RandomState) -> Batch:
    """Draw a minibatch with many repeated tokens and, if the model uses dropout, masks."""
    options, size, masks = draw.options, (draw.batch_size, draw.num_steps + 1), None
    tokens = rng.randint(0, options.vocab_size, size, "int64")
    tokens = np.where(rng.uniform(size=size) < 0.5, options.vocab_size - 1, tokens)
    if options.dropout:
        shape = draw.num_steps, options.num_layers, draw.batch_size, options.num_hiddens
        is_kept = rng.uniform(size=shape) >= options.dropout
        masks = np.multiply(is_kept, 1 / (1 - options.dropout), dtype=options.dtype)
    return Batch(tokens[:, :-1], tokens[:, 1:], masks)
