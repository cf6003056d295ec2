"""Test vectors: inputs and outputs of each function, for programs in any language."""

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import registry
from ..contract import (
    CELLS,
    Arrays,
    Backend,
    ModelConfig,
    UpdateRule,
)
from ..exact import digest
from ..parameters import draw_parameters, trained_arrays
from ..settings import Settings
from ..text import books, dataset, minibatches
from .results import scale_tolerance
from .vector_calls import FACTORS, GRAD, Call, Group, Test, run, state_names

VERSION = 1
TOLERANCE = 1e-12  # for float64; times the largest output, if it is greater than 1
COMMON, TRAINING = "common", "training"  # groups that do not depend on the choice of cells
NUM_EPOCHS = 10  # number of epochs in the training group


def make(
    cells: Sequence[str] = (),
    functions: Sequence[str] = (),
    seed: int = 0,
    dtype: str = "float64",
    training: bool = True,
) -> list[Group]:
    """Make the groups with the reference's outputs; equal arguments give equal inputs.

    `cells` and `functions` select tests (by default, all) without changing them. `training`
    includes the training group, which takes longer.
    """
    reference = registry.load("numpy")
    groups = [
        group._replace(
            tests=[
                add_outputs(reference, group, test)
                for test in group.tests
                if not functions or test.function in functions
            ]
        )
        for group in _draw_groups(cells or [*CELLS], seed, dtype)
    ]
    if training and dtype == "float64" and (not functions or "train" in functions):
        groups.append(draw_training(seed))
    return [group for group in groups if group.tests]


def add_outputs(backend: Backend, group: Group, test: Test) -> Test:
    """Return the test with a backend's outputs and their tolerance."""
    outputs = run(backend, group, test)
    if test.function == "encode":
        return test._replace(outputs=outputs)
    largest = max(1.0, *(float(np.abs(array).max()) for array in outputs.values()))
    tolerance = scale_tolerance(TOLERANCE, group.options.dtype, "cpu") * largest
    return test._replace(outputs=outputs, tolerance=float(f"{tolerance:.2g}"))


def _draw_groups(cells: Sequence[str], seed: int, dtype: str) -> Iterator[Group]:
    """Yield all groups but the training group, without outputs. B, T, H and V differ."""
    plain = ModelConfig(vocab_size=5, num_hiddens=4, dtype=dtype)
    yield _draw_group(COMMON, plain, 2, 3, seed, _common_tests)
    for cell in cells:
        yield _draw_group(cell, plain._replace(cell=cell), 2, 3, seed, _cell_tests)
    for cell in cells:
        deep = ModelConfig(6, 3, cell, embedding=2, num_layers=2, dropout=0.2, dtype=dtype)
        yield _draw_group(f"{cell}-deep", deep, 4, 5, seed, _deep_tests)
    for cell in cells:
        yield _draw_group(
            f"{cell}-one", ModelConfig(2, 1, cell, dtype=dtype), 1, 1, seed, _one_tests
        )


def _draw_group(
    name: str,
    options: ModelConfig,
    batch_size: int,
    num_steps: int,
    seed: int,
    tests: Callable[["_Random"], Iterator[Test]],
) -> Group:
    """Draw a group's parameters, minibatch, states and masks, and then its tests' inputs."""
    rng = _Random(name, options, batch_size, num_steps, seed)
    inputs = rng.params()
    inputs["b_q"][0] += 2  # token 0 is likely, but is never chosen
    tokens = rng.tokens(batch_size, num_steps + 1)
    inputs |= {"tokens": tokens[:, :-1].copy(), "targets": tokens[:, 1:].copy()}
    inputs |= {name: rng.normal(batch_size, options.num_hiddens) for name in state_names(options)}
    if options.dropout:
        shape = num_steps, options.num_layers, batch_size, options.num_hiddens
        is_kept = rng.uniform(size=shape) >= options.dropout
        inputs["masks"] = np.multiply(is_kept, 1 / (1 - options.dropout), dtype=options.dtype)
    group = Group(name, options, batch_size, num_steps, inputs, [])
    return group._replace(tests=[*tests(rng)])


class _Random(np.random.RandomState):
    """A generator for one group's inputs, which have few decimals so that files stay small."""

    def __init__(self, name: str, options: ModelConfig, B: int, T: int, seed: int) -> None:
        super().__init__([seed, zlib.crc32(name.encode())])
        self.name, self.options, self.B, self.T = name, options, B, T

    def normal(self, *shape: int) -> np.ndarray:  # type: ignore[override]
        """Draw values with two decimals, which are not representable in float32."""
        return np.round(super().normal(size=shape), 2).astype(self.options.dtype)

    def params(self, prefix: str = "") -> Arrays:
        """Draw parameters or, with a prefix, gradients; no bias is zero."""
        shapes = self.options.shapes().items()
        return {prefix + name: self.normal(*shape) for name, shape in shapes}

    def tokens(self, *shape: int) -> np.ndarray:
        """Draw tokens, about half of which are the last one."""
        last = self.options.vocab_size - 1
        tokens = self.randint(0, last + 1, shape, "int64")
        return np.where(self.uniform(size=shape) < 0.5, last, tokens)

    def vectors(self) -> np.ndarray:
        """Draw one-hot vectors (B, V)."""
        tokens = self.tokens(self.B)
        tokens[0] = self.options.vocab_size // 2
        return np.eye(self.options.vocab_size, dtype=self.options.dtype)[tokens]

    def test(self, name: str, note: str, function: str = "", **inputs: Any) -> Test:
        """Return a test; numbers become arrays, and `function` defaults to `name`."""
        arrays = {key.replace("grad_", GRAD): _as_array(value) for key, value in inputs.items()}
        return Test(f"{self.name}/{name}", function or name, note, arrays)


def _as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype("int64") if array.dtype.kind in "iub" else array


def _common_tests(rng: _Random) -> Iterator[Test]:
    test, T, B, V = rng.test, rng.T, rng.B, rng.options.vocab_size
    yield test("encode", "tokens encoded batch-major; the wrong token")
    yield test("encode-first", "a size taken from the largest token", "encode", tokens=[[0, 1]])
    logits = rng.normal(T * B, V)
    yield test("loss", "batch-major targets; a sum; another logarithm", logits=logits)
    large = np.round(logits + 1000, 2)
    yield test("loss-large", "exponentials that overflow", "loss", logits=large)
    yield test("loss-far", "the logarithm of an underflow", "loss", logits=np.round(logits * 1000))
    b_q = rng.normal(V) + 1000
    note = "exponentials that overflow in the gradient"
    yield test("gradients-large", note, "gradients", b_q=np.round(b_q, 2).astype(b_q.dtype))
    grads = {name.replace(".", "_"): array for name, array in rng.params(GRAD).items()}
    norm = float(np.sqrt(sum((array * array).sum() for array in grads.values())))
    above, below = np.round([norm / 2, norm * 2], 1)
    zero = {name: array * 0 for name, array in grads.items()}
    notes = "a norm of each array; a small constant added", "small gradients scaled up"
    yield test("clip-above", notes[0], "clip", theta=above, **grads)
    yield test("clip-below", notes[1], "clip", theta=below, **grads)
    yield test("clip-zero", "a division by a norm of zero", "clip", theta=1.0, **zero)
    updates: dict[str, Any] = {**grads, "factors": FACTORS, "lr": np.array([0.3, 0.15, 0.1])}
    yield test("sgd", "a wrong sign; the learning rate twice; biases left out", **updates)
    moments: dict[str, Any] = {"weight_decay": 0.2, "beta1": 0.9}
    yield test("momentum", "weight decay in the gradient", **updates, **moments)
    moments |= {"beta2": 0.99, "epsilon": 0.05}
    for name, beta in (("c_m", 0.9), ("c_v", 0.99)):
        moments[name] = 1 - beta ** np.arange(1, 4)
    note = "missing bias corrections; ε inside the root; weight decay in the gradient"
    yield test("adam", note, **updates, **moments)
    for name, cosine, warmup in (("schedule-constant", 0, 3), ("schedule-cosine", 1, 2)):
        note = "a warmup from 0, or with one update too many"
        yield test(name, note, "schedule", lr=0.3, warmup=warmup, total=7, cosine=cosine)


def _cell_tests(rng: _Random) -> Iterator[Test]:
    rows = {"rows": rng.tokens(rng.B, 2 * rng.T + 1), "num_steps": rng.T}
    longer = {"rows": rng.tokens(rng.B, 2 * rng.T + 2), "num_steps": rng.T}
    x = rng.vectors()
    yield rng.test("cell", "swapped gates, states or products; missing biases", x=x)
    yield rng.test("step", "the previous state's logits; probabilities", x=x)
    yield rng.test("forward", "batch-major logits; a state that is not carried")
    yield rng.test("gradients", "a missing path, time step or slope; a sum over the batch")
    updates: dict[str, Any] = {"lr": np.array([0.5, 0.25]), "theta": 1.0}
    note = "a state that is not carried between minibatches; parameters that are not updated"
    yield rng.test("train_epoch-sequential", note, "train_epoch", **rows, **updates, carry=1)
    note = "a state that is carried between minibatches"
    yield rng.test("train_epoch-random", note, "train_epoch", **rows, **updates, carry=0)
    yield from _inference_tests(rng, longer)


def _deep_tests(rng: _Random) -> Iterator[Test]:
    L, H, p = rng.options.num_layers, rng.options.num_hiddens, rng.options.dropout
    masks = np.multiply(rng.uniform(size=(L, rng.B, H)) >= p, 1 / (1 - p), dtype=rng.options.dtype)
    longer = {"rows": rng.tokens(rng.B, 2 * rng.T + 2), "num_steps": rng.T}
    yield rng.test("step", "swapped layers; a mask in the state", x=rng.vectors(), masks=masks)
    yield rng.test("forward", "masks of the wrong step")
    yield rng.test("gradients", "a gradient that passes a mask, or misses a layer or embedding")
    yield from _inference_tests(rng, longer)


def _inference_tests(rng: _Random, rows: dict[str, Any]) -> Iterator[Test]:
    note = "a state that is reset; means added instead of sums; masks"
    yield rng.test("evaluate", note, **rows)
    prefix = [1, rng.options.vocab_size - 1, 2]
    note = "token 0 chosen; a prefix that is not read; a state that is dropped; masks"
    yield rng.test("predict", note, prefix=prefix, num_preds=4)


def _one_tests(rng: _Random) -> Iterator[Test]:
    x, note = rng.vectors(), "axes of size 1 that are dropped"
    yield rng.test("cell", note, x=x)
    yield rng.test("step", note, x=x)
    yield rng.test("forward", note)
    yield rng.test("gradients", note)
    yield rng.test("predict", note, prefix=[1], num_preds=1)


@functools.cache
def draw_training(seed: int) -> Group:
    """Return the group for training in exact mode, whose parameters are integers times `scale`."""
    settings = Settings(num_hiddens=64, num_epochs=NUM_EPOCHS, exact=True, seed=seed)
    data = dataset.prepare(books.load(books.BUILT_IN), settings)
    options = ModelConfig(len(data.vocab), settings.num_hiddens, dtype=settings.dtype)
    inputs = draw_parameters(options, settings.sigma, seed)
    scale = 1.0
    while any((array / scale % 1).any() for array in inputs.values()):
        scale /= 2
    inputs = {name: np.round(array / scale).astype("int64") for name, array in inputs.items()}
    offsets = [
        minibatches.draw_offset(settings.num_steps, seed, epoch)
        for epoch in range(1, NUM_EPOCHS + 1)
    ]
    inputs |= {"scale": np.array(scale), "tokens": data.train, "offsets": np.array(offsets)}
    inputs |= {"lr": np.array(settings.lr), "theta": np.array(settings.theta)}
    B, T = settings.batch_size, settings.num_steps
    inputs |= {"batch_size": np.array(B), "num_steps": np.array(T)}
    return complete_training(Group(TRAINING, options, B, T, inputs, []))


def complete_training(group: Group) -> Group:
    """Return the training group with a test for each epoch, whose outputs are the parameters."""
    reference, tests = registry.load("numpy"), list[Test]()
    call = Call(reference, group.options, group.inputs)
    scaled = {name: call.inputs[name] * call.inputs["scale"] for name in group.options.shapes()}
    model, sizes = call.build(scaled, exact=True), (group.batch_size, group.num_steps)
    rule = UpdateRule(lr=float(call.inputs["lr"]), theta=float(call.inputs["theta"]))
    for epoch, offset in enumerate(call.inputs["offsets"].tolist(), 1):
        batches = [*minibatches.sequential(call.inputs["tokens"], *sizes, offset)]
        reference.scratch.train_epoch(model, iter(batches), iter([rule] * len(batches)), True)
        arrays, note = trained_arrays(model), f"another parameter after epoch {epoch}"
        name = f"{TRAINING}/{epoch}"
        tests.append(Test(name, "train", note, {}, 0.0, arrays, digest(arrays)))
    return group._replace(tests=tests)
