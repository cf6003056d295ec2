"""Test vectors: inputs and outputs of each function, for programs in any language.

A group has a model's configuration and inputs, and a test calls one function. All inputs and
outputs are arrays with flat names: parameters as in `ModelConfig.shapes`, gradients as in
"grad.W_xh", slots as in "m.W_xh", and states "h" and, for the LSTM, "c" ("h_2" and "c_2" in the
second layer).
"""

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import registry
from ..contract import (
    CELLS,
    OPTIMIZERS,
    Arrays,
    Backend,
    Batch,
    Model,
    ModelConfig,
    State,
    UpdateRule,
)
from ..exact import digest
from ..parameters import draw_parameters, trained_arrays
from ..settings import Settings
from ..text import books, dataset, minibatches
from ..training import decoding, schedule
from .results import scale_tolerance

VERSION = 1
TOLERANCE = 1e-12  # for float64; times the largest output, if it is greater than 1
COMMON, TRAINING = "common", "training"  # groups that do not depend on the choice of cells
NUM_EPOCHS = 10  # number of epochs in the training group
NAMES = "hc"  # states of a layer
GRAD = "grad."  # prefix of a gradient's name
FACTORS = np.array([3, 0.01, 2])  # scales the gradient at each update of an optimizer


class Test(NamedTuple):
    """A call of a function. Its inputs are the group's inputs, updated by its own."""

    id: str  # unique among all tests: "group/name"
    function: str
    note: str  # what the test detects
    inputs: Arrays
    tolerance: float = 0.0  # largest absolute difference that is accepted
    outputs: Arrays = {}  # empty in the training group, until needed
    digest: str = ""  # of the outputs; only in the training group


class Group(NamedTuple):
    """A model's configuration and inputs, and the tests that use them."""

    name: str
    options: ModelConfig
    batch_size: int
    num_steps: int
    inputs: Arrays
    tests: list[Test]

    @property
    def label(self) -> str:
        """A short description of the configuration."""
        sizes = " ".join(f"{letter}={size}" for letter, size in self.sizes.items() if size)
        return f"{self.options.dtype} {self.options.cell} {sizes}"

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes by letter, as in the contract."""
        o = self.options
        layers = {"L": o.num_layers, "H": o.num_hiddens, "N": o.embedding, "V": o.vocab_size}
        return {"B": self.batch_size, "T": self.num_steps} | layers


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


def run(backend: Backend, group: Group, test: Test) -> Arrays:
    """Return a backend's outputs for a test."""
    call = _Call(backend, group.options, group.inputs | test.inputs)
    function = FUNCTIONS[test.function]
    return {name: np.array(call.array(value)) for name, value in function(call).items()}


# Drawing inputs.


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
    call = _Call(reference, group.options, group.inputs)
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


# Calling functions. These calls are the only ones that depend on the contract's signatures.


class _Call:
    """A backend, a configuration and a call's inputs, as tensors."""

    def __init__(self, backend: Backend, options: ModelConfig, inputs: Arrays) -> None:
        self.backend, self.options, self.inputs = backend, options, inputs
        self.scratch = backend.scratch

    def array(self, value: Any) -> Any:
        """Convert a tensor to an array."""
        is_converted = isinstance(value, float | int | list | np.generic | np.ndarray)
        return value if is_converted else self.backend.machine.array(value)

    def tensor(self, name: str) -> Any:
        """Return an input as a tensor."""
        return self.backend.machine.tensor(self.inputs[name], self.options.device)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return an input that is a number."""
        return float(self.inputs.get(name, default))

    @property
    def state(self) -> State:
        """The states of all layers."""
        return tuple(map(self.tensor, state_names(self.options)))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as the backend's tensors."""
        return self.scratch.init_params(self.inputs, self.options)

    @property
    def grads(self) -> dict[str, Any]:
        """The gradients among the inputs."""
        return {name: self.tensor(GRAD + name) for name in self.options.shapes()}

    @property
    def extras(self) -> dict[str, Any]:
        """The masks, if there are any."""
        return {"masks": self.tensor("masks")} if "masks" in self.inputs else {}

    def build(
        self, arrays: Arrays | None = None, optimizer: str = "sgd", exact: bool = False
    ) -> Model:
        """Build a model from arrays (by default, the inputs)."""
        arrays = arrays or self.inputs
        return registry.build(self.backend, "scratch", arrays, self.options, optimizer, exact)

    def batches(self) -> list[Batch]:
        """Divide the input `rows` into minibatches of `num_steps` steps or, in the end, fewer."""
        rows, size = self.inputs["rows"], int(self.inputs["num_steps"])
        starts = range(0, rows.shape[1] - 1, size)
        pairs = [(rows[:, :-1][:, s : s + size], rows[:, 1:][:, s : s + size]) for s in starts]
        return [Batch(X.copy(), Y.copy()) for X, Y in pairs]


def state_names(options: ModelConfig) -> list[str]:
    """Return the names of all layers' states, such as h, c, h_2 and c_2."""
    count = options.num_states // options.num_layers
    suffixes = ["" if layer == 0 else f"_{layer + 1}" for layer in range(options.num_layers)]
    names = [NAMES[i] if i < len(NAMES) else f"s{i}" for i in range(count)]
    return [name + suffix for suffix in suffixes for name in names]


def _name_state(call: _Call, state: State) -> dict[str, Any]:
    return dict(zip(state_names(call.options), state))


def _encode(call: _Call) -> dict[str, Any]:
    return {"x": call.scratch.encode(call.tensor("tokens"), call.params)}


def _cell(call: _Call) -> dict[str, Any]:
    cell = call.scratch.CELLS[call.options.cell]
    return _name_state(call, cell(call.tensor("x"), call.state, call.params))


def _step(call: _Call) -> dict[str, Any]:
    arguments = call.tensor("x"), call.state, call.params, call.options
    if call.options.needs_deep:
        logits, state = call.backend.deep.deep_step(*arguments, **call.extras)
    else:
        logits, state = call.scratch.step(*arguments)
    return {"logits": logits} | _name_state(call, state)


def _forward(call: _Call) -> dict[str, Any]:
    model = call.build()
    arguments = call.tensor("tokens"), call.state, model.params, model.options
    logits, state = model.forward(*arguments, **call.extras)
    return {"logits": logits} | _name_state(call, state)


def _loss(call: _Call) -> dict[str, Any]:
    return {"loss": call.scratch.loss(call.tensor("logits"), call.tensor("targets"))}


def _gradients(call: _Call) -> dict[str, Any]:
    batch, model = Batch(call.tensor("tokens"), call.tensor("targets"), **call.extras), call.build()
    loss, grads, state = model.gradients(model.params, batch, call.state, model.options)
    named = {GRAD + name: array for name, array in model.to_arrays(grads).items()}
    return {"loss": loss} | named | _name_state(call, state)


def _clip(call: _Call) -> dict[str, Any]:
    with np.errstate(divide="ignore"):
        clipped, norm = call.scratch.clip(call.grads, call.number("theta"))
    return {"norm": norm} | {GRAD + name: grad for name, grad in clipped.items()}


def _optimizer(name: str) -> Callable[[_Call], dict[str, Any]]:
    def update(call: _Call) -> dict[str, Any]:
        model, inputs = call.build(optimizer=name), call.inputs
        for index, lr in enumerate(inputs["lr"].tolist()):
            names = "weight_decay", "beta1", "beta2", "epsilon"
            values = {key: call.number(key) for key in names}
            values |= {key: float(inputs[key][index]) for key in ("c_m", "c_v") if key in inputs}
            factor, device = inputs["factors"][index], call.options.device
            grads = {
                key: call.backend.machine.tensor(
                    (inputs[GRAD + key] * factor).astype(call.options.dtype), device
                )
                for key in call.options.shapes()
            }
            rule = UpdateRule(lr=lr, optimizer=name, **values)
            optimizer = call.scratch.OPTIMIZERS[name]
            model.params, model.slots = optimizer(model.params, grads, model.slots, rule)
        return trained_arrays(model)

    return update


def _train_epoch(call: _Call) -> dict[str, Any]:
    model, theta = call.build(), call.number("theta")
    updates = iter([UpdateRule(lr=lr, theta=theta) for lr in call.inputs["lr"].tolist()])
    carry = bool(call.inputs["carry"])
    losses, state = call.scratch.train_epoch(model, iter(call.batches()), updates, carry)
    return {"losses": losses} | trained_arrays(model) | _name_state(call, state)


def _evaluate(call: _Call) -> dict[str, Any]:
    total, count = call.scratch.evaluate(call.build(), iter(call.batches()))
    return {"total": total, "count": count}


def _predict(call: _Call) -> dict[str, Any]:
    logits = list[np.ndarray]()

    def choose_token(values: np.ndarray) -> int:
        logits.append(np.array(values))
        return decoding.greedy(values)

    prefix, count = call.inputs["prefix"].tolist(), int(call.inputs["num_preds"])
    tokens = call.scratch.predict(call.build(), prefix, count, choose_token)
    return {"tokens": tokens, "logits": np.stack(logits)}


def _schedule(call: _Call) -> dict[str, Any]:
    warmup, total = int(call.inputs["warmup"]), int(call.inputs["total"])
    settings = Settings(lr=call.number("lr"), warmup=warmup)
    if call.inputs["cosine"]:
        settings = Settings(lr=call.number("lr"), warmup=warmup, schedule="cosine")
    return {"rates": [schedule.learning_rate(settings, t, total) for t in range(1, total + 1)]}


# Functions in the order in which they call each other, as far as possible.
FUNCTIONS: dict[str, Callable[[_Call], dict[str, Any]]] = {
    **{"encode": _encode, "cell": _cell, "step": _step, "forward": _forward, "loss": _loss},
    **{"gradients": _gradients, "clip": _clip},
    **{name: _optimizer(name) for name in OPTIMIZERS},
    **{"train_epoch": _train_epoch, "evaluate": _evaluate, "predict": _predict},
    "schedule": _schedule,
}
