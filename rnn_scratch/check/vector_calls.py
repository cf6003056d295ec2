"""Call the functions of a backend with the inputs of test vectors.

A group has a model's configuration and inputs, and a test calls one function. All inputs and
outputs are arrays with flat names: parameters as in `ModelConfig.shapes`, gradients as in
"grad.W_xh", slots as in "m.W_xh", and states "h" and, for the LSTM, "c" ("h_2" and "c_2" in the
second layer).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import registry
from ..contract import (
    OPTIMIZERS,
    Arrays,
    Backend,
    Batch,
    Model,
    ModelConfig,
    State,
    UpdateRule,
)
from ..parameters import trained_arrays
from ..settings import Settings
from ..training import decoding, schedule

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


def run(backend: Backend, group: Group, test: Test) -> Arrays:
    """Return a backend's outputs for a test."""
    inputs = {name: np.copy(array) for name, array in (group.inputs | test.inputs).items()}
    call = Call(backend, group.options, inputs)  # a wrong function may change its arguments
    function = FUNCTIONS[test.function]
    return {name: np.array(call.array(value)) for name, value in function(call).items()}


class Call:
    """A backend, a configuration and a call's inputs, as tensors."""

    def __init__(self, backend: Backend, options: ModelConfig, inputs: Arrays) -> None:
        """Store the backend, the configuration and the inputs, by name."""
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


def _name_state(call: Call, state: State) -> dict[str, Any]:
    return dict(zip(state_names(call.options), state))


def _encode(call: Call) -> dict[str, Any]:
    return {"x": call.scratch.encode(call.tensor("tokens"), call.params)}


def _cell(call: Call) -> dict[str, Any]:
    cell = call.scratch.CELLS[call.options.cell]
    return _name_state(call, cell(call.tensor("x"), call.state, call.params))


def _step(call: Call) -> dict[str, Any]:
    arguments = call.tensor("x"), call.state, call.params, call.options
    if call.options.needs_deep:
        logits, state = call.backend.deep.deep_step(*arguments, **call.extras)
    else:
        logits, state = call.scratch.step(*arguments)
    return {"logits": logits} | _name_state(call, state)


def _forward(call: Call) -> dict[str, Any]:
    model = call.build()
    arguments = call.tensor("tokens"), call.state, model.params, model.options
    logits, state = model.forward(*arguments, **call.extras)
    return {"logits": logits} | _name_state(call, state)


def _loss(call: Call) -> dict[str, Any]:
    return {"loss": call.scratch.loss(call.tensor("logits"), call.tensor("targets"))}


def _gradients(call: Call) -> dict[str, Any]:
    batch, model = Batch(call.tensor("tokens"), call.tensor("targets"), **call.extras), call.build()
    loss, grads, state = model.gradients(model.params, batch, call.state, model.options)
    named = {GRAD + name: array for name, array in model.to_arrays(grads).items()}
    return {"loss": loss} | named | _name_state(call, state)


def _clip(call: Call) -> dict[str, Any]:
    with np.errstate(divide="ignore"):
        clipped, norm = call.scratch.clip(call.grads, call.number("theta"))
    return {"norm": norm} | {GRAD + name: grad for name, grad in clipped.items()}


def _optimizer(name: str) -> Callable[[Call], dict[str, Any]]:
    def update(call: Call) -> dict[str, Any]:
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


def _train_epoch(call: Call) -> dict[str, Any]:
    model, theta = call.build(), call.number("theta")
    updates = iter([UpdateRule(lr=lr, theta=theta) for lr in call.inputs["lr"].tolist()])
    carry = bool(call.inputs["carry"])
    losses, state = call.scratch.train_epoch(model, iter(call.batches()), updates, carry)
    return {"losses": losses} | trained_arrays(model) | _name_state(call, state)


def _evaluate(call: Call) -> dict[str, Any]:
    total, count = call.scratch.evaluate(call.build(), iter(call.batches()))
    return {"total": total, "count": count}


def _predict(call: Call) -> dict[str, Any]:
    logits = list[np.ndarray]()

    def choose_token(values: np.ndarray) -> int:
        logits.append(np.array(values))
        return decoding.greedy(values)

    prefix, count = call.inputs["prefix"].tolist(), int(call.inputs["num_preds"])
    tokens = call.scratch.predict(call.build(), prefix, count, choose_token)
    return {"tokens": tokens, "logits": np.stack(logits)}


def _schedule(call: Call) -> dict[str, Any]:
    warmup, total = int(call.inputs["warmup"]), int(call.inputs["total"])
    settings = Settings(lr=call.number("lr"), warmup=warmup)
    if call.inputs["cosine"]:
        settings = Settings(lr=call.number("lr"), warmup=warmup, schedule="cosine")
    return {"rates": [schedule.learning_rate(settings, t, total) for t in range(1, total + 1)]}


# Functions in the order in which they call each other, as far as possible.
FUNCTIONS: dict[str, Callable[[Call], dict[str, Any]]] = {
    **{"encode": _encode, "cell": _cell, "step": _step, "forward": _forward, "loss": _loss},
    **{"gradients": _gradients, "clip": _clip},
    **{name: _optimizer(name) for name in OPTIMIZERS},
    **{"train_epoch": _train_epoch, "evaluate": _evaluate, "predict": _predict},
    "schedule": _schedule,
}
