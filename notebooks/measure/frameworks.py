"""Hold other frameworks against the test vectors: `python -m measure frameworks FILE`.

The record has a row for each recurrent layer, optimizer, embedding and clipping function of the
installed frameworks: the largest difference from the reference and, if it exceeds the tolerance,
the smallest set of changes to the reference that explains it. It also says which mistakes ONNX's
own test vectors detect. A framework that is not installed has no rows. The measurement takes
about two minutes.
"""

import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from measure import optimizers
from measure.gradients import CLIPS, EMBEDDINGS
from measure.layers import LAYERS, ONNX, join, split
from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.check import vectors
from rnn_scratch.check.vector_calls import FACTORS, GRAD, Group, Test, state_names
from rnn_scratch.contract import OPTIMIZERS, Arrays, UpdateRule

FLOAT32 = 2e-6  # differences of float32 values of about 1; larger ones are not due to rounding
# Changes to the reference that explain differences.
NO_B_HH = "the GRU has no `b_hh`"
NORM = "the norm is increased by 0.000001"
NO_CORRECTION = "there is no bias correction by default"
EPSILON = "ε is added before the bias correction"
DECAY = "weight decay is added to the gradient"
VELOCITY = "the velocity contains the learning rate"
SQUARES = "v averages the sum of a token's squared gradients, not the square of their sum"
LAZY = "rows of absent tokens are not updated"
RULES = (NO_CORRECTION, EPSILON, DECAY, VELOCITY)


class Subject(NamedTuple):
    """A framework, with keys of LAYERS, CLIPS and EMBEDDINGS."""

    title: str
    packages: Sequence[str]  # packages that determine the results
    layers: str = ""
    update: Any = None  # trains with the framework's optimizers
    clip: str = ""
    embeddings: str = ""
    environment: dict[str, str] = {}


def _keras(backend: str, title: str) -> Subject:
    packages, environment = ("keras", backend), {"KERAS_BACKEND": backend}
    functions = optimizers.tensorflow, "keras", "keras"
    return Subject(f"Keras with {title}", packages, "keras", *functions, environment)


SUBJECTS = {
    "torch": Subject("PyTorch", ("torch",), "torch", optimizers.torch, "torch", "torch"),
    "keras-tensorflow": _keras("tensorflow", "TensorFlow"),
    "keras-torch": _keras("torch", "PyTorch"),
    "keras-jax": _keras("jax", "JAX"),
    "tensorflow": Subject("TensorFlow", ("tensorflow",), clip="tensorflow"),
    "linen": Subject("Flax Linen", ("flax", "jax"), "linen"),
    "nnx": Subject("Flax NNX", ("flax", "jax"), "nnx"),
    "optax": Subject("Optax", ("optax", "flax", "jax"), "", optimizers.jax, "optax", "optax"),
    "mxnet": Subject("MXNet", ("mxnet",), "mxnet", optimizers.mxnet, "mxnet", "mxnet"),
    "mlx": Subject("MLX", ("mlx",), "mlx", optimizers.mlx, "mlx", "mlx"),
    "onnx": Subject("ONNX reference", ("onnx",), "onnx"),
    "onnxruntime": Subject("ONNX Runtime", ("onnxruntime", "onnx"), "onnxruntime"),
}


def find_versions(name: str) -> dict[str, str] | None:
    """Return the versions of a subject's packages, or None if one is not installed."""
    try:
        return {package: version(package) for package in SUBJECTS[name].packages}
    except PackageNotFoundError:
        return None


def explain(
    compare: Callable[[Sequence[str]], float], tolerance: float, changes: Sequence[str]
) -> dict[str, Any]:
    """Find the smallest set of changes with which a framework equals the reference.

    `compare` returns the largest difference from the reference with these changes. If no set
    suffices, the result is sought with the rounding errors of float32 as a tolerance; `is_precise`
    is then False. If that fails as well, `changes` is None.
    """
    sets = [s for size in range(4) for s in itertools.combinations(changes, size)]
    differences = {}
    for limit in (tolerance, FLOAT32):
        for chosen in sets:
            if chosen not in differences:
                differences[chosen] = compare(chosen)
            if differences[chosen] <= limit:
                return {
                    "difference": round_digits(differences[()]),
                    "changes": list(chosen),
                    "remaining": round_digits(differences[chosen]),
                    "is_precise": limit == tolerance,
                }
    return {"difference": round_digits(differences[()]), "changes": None, "remaining": None}


def find_difference(expected: Arrays, actual: Arrays) -> float:
    """Return the largest absolute difference between arrays with the same names."""
    assert expected.keys() == actual.keys()
    return max(float(np.abs(expected[name] - actual[name]).max()) for name in expected)


def find_test(name: str, dtype: str = "float64") -> tuple[Group, Test]:
    """Return a test vector by its ID, with its group."""
    for group in vectors.make(training=False, dtype=dtype):
        for test in group.tests:
            if test.id == name:
                return group, test
    raise KeyError(name)


def answer_forward(layer: Any, group: Group, test: Test, weights: Arrays) -> Arrays:
    """Return the outputs of a test of `forward`, computed by a framework's layer."""
    inputs, names = group.inputs | test.inputs, state_names(group.options)
    x = np.eye(group.options.vocab_size, dtype=group.options.dtype)[inputs["tokens"]]
    outputs, state = layer.run(group.options.cell, weights, x, [inputs[name] for name in names])
    assert outputs.dtype == group.options.dtype, f"the outputs are {outputs.dtype}"
    logits = outputs.swapaxes(0, 1).reshape(-1, outputs.shape[2]) @ inputs["W_hq"] + inputs["b_q"]
    return {"logits": logits, **dict(zip(names, state))}


def compare_layer(layer: Any, cell: str, dtype: str, changes: Sequence[str]) -> float:
    """Convert weights to a layer and back; return the largest difference in `forward`.

    The layer first gets the weights of the test vector, and then weights that are drawn in its own
    format and converted to the reference, so that each direction is tested without the other.
    """
    reference, gates = registry.load("numpy"), layer.gates[cell]
    group, test = find_test(f"{cell}/forward", dtype)
    options = group.options
    inputs = {name: group.inputs[name] for name in options.shapes()}
    if NO_B_HH in changes:
        inputs["b_hh"] = np.zeros_like(inputs["b_hh"])
    placed = layer.place(cell, join(inputs, options, gates))
    rng = np.random.RandomState(0)
    drawn = {name: rng.normal(size=a.shape).astype(dtype) for name, a in placed.items()}
    restored = split(layer.read(cell, drawn), options, gates)
    differences = []
    for weights, arrays in ((placed, inputs), (drawn, restored)):
        expected = vectors.add_outputs(reference, group, test._replace(inputs=arrays)).outputs
        differences.append(find_difference(expected, answer_forward(layer, group, test, weights)))
    return max(differences)


def measure_layers(key: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each cell that a framework has as a layer."""
    layer = LAYERS[key]
    for cell in layer.gates:
        changes = [NO_B_HH] if cell == "gru-after" else []
        row = {"kind": "layer", "item": layer.names[cell], "error": ""}
        for dtype in ("float64", "float32"):
            _, test = find_test(f"{cell}/forward", dtype)
            tolerance = test.tolerance if dtype == "float64" else FLOAT32
            try:
                found = explain(partial(compare_layer, layer, cell, dtype), tolerance, changes)
            except Exception as error:
                if dtype == "float32":
                    raise
                row["error"] = type(error).__name__
                continue
            yield row | {"dtype": dtype} | found
            break


def train(
    start: Arrays,
    grads: Sequence[Arrays],
    rules: Sequence[UpdateRule],
    changes: Sequence[str] = (),
    slices: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> Arrays:
    """Return the parameters after updates with the reference's optimizer and these changes.

    `slices` contains for each update the tokens and gradients from which an embedding's `grads`
    are added up.
    """
    params = {name: array.copy() for name, array in start.items()}
    name = rules[0].optimizer
    slots = {
        slot: {key: np.zeros_like(array) for key, array in params.items()}
        for slot in OPTIMIZERS[name].slots
    }
    optimizer = registry.load("numpy").scratch.OPTIMIZERS[name]
    for index, (step_grads, rule) in enumerate(zip(grads, rules)):
        if NO_CORRECTION in changes:
            rule = rule._replace(c_m=1.0, c_v=1.0)
        if EPSILON in changes:
            rule = rule._replace(epsilon=rule.epsilon / rule.c_v**0.5)
        if DECAY in changes:
            step_grads = {n: g + rule.weight_decay * params[n] for n, g in step_grads.items()}
            rule = rule._replace(weight_decay=0.0)
        if VELOCITY in changes:
            step_grads = {name: rule.lr * grad for name, grad in step_grads.items()}
            rule = rule._replace(lr=1.0, weight_decay=rule.lr * rule.weight_decay)
        before = {key: params["w"].copy() for key in ("w",)} if slices else {}
        if slices:
            tokens, parts = slices[index]
            absent = np.setdiff1d(np.arange(len(params["w"])), tokens)
            before |= {slot: values["w"].copy() for slot, values in slots.items()}
        if SQUARES in changes and "v" in slots:
            squares = np.zeros_like(params["w"])
            np.add.at(squares, tokens, parts * parts)
            # The optimizer multiplies v by beta2 and adds (1 - beta2) times the dense square.
            difference = squares - step_grads["w"] ** 2
            slots["v"]["w"] += (1 - rule.beta2) / rule.beta2 * difference
        params, slots = optimizer(params, step_grads, slots, rule)
        if LAZY in changes:
            params["w"][absent] = before["w"][absent]
            for slot, values in slots.items():
                values["w"][absent] = before[slot][absent]
    return params


OPTIMIZER_ITEMS = {  # for each item, the test vector and its weight decay
    "SGD": ("sgd", 0.0),
    "SGD with momentum": ("momentum", 0.0),
    "SGD with momentum and weight decay": ("momentum", 0.2),
    "Adam": ("adam", 0.0),
    "Adam with weight decay": ("adam", 0.2),
}


def list_rules(test: Test, optimizer: str, weight_decay: float) -> list[UpdateRule]:
    """Return the rule of each update in a test of an optimizer."""
    inputs = test.inputs
    values = {"optimizer": optimizer, "weight_decay": weight_decay}
    for name in ("beta1", "beta2", "epsilon"):
        if name in inputs:
            values[name] = float(inputs[name])
    rules = []
    for index, lr in enumerate(inputs["lr"].tolist()):
        corrections = {key: float(inputs[key][index]) for key in ("c_m", "c_v") if key in inputs}
        rules.append(UpdateRule(lr=lr, **values, **corrections))
    return rules


def measure_optimizers(update: Any) -> Iterator[dict[str, Any]]:
    """Yield a row for each optimizer."""
    for item, (optimizer, weight_decay) in OPTIMIZER_ITEMS.items():
        if weight_decay and optimizer == "momentum" and update is optimizers.jax:
            continue  # Optax composes it from parts in any order
        group, test = find_test(f"common/{optimizer}")
        start = {name: group.inputs[name] for name in group.options.shapes()}
        grads = [{name: test.inputs[GRAD + name] * factor for name in start} for factor in FACTORS]
        rules = list_rules(test, optimizer, weight_decay)
        result = update(start, grads, rules[0], [rule.lr for rule in rules])

        def compare(changes, start=start, grads=grads, rules=rules, result=result):
            return find_difference(train(start, grads, rules, changes), result)

        found = explain(compare, test.tolerance, RULES)
        yield {"kind": "optimizer", "item": item, "dtype": "float64", "error": "", **found}


def draw_updates(is_repeated: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw the tokens and gradients of three updates of an embedding (7, 6).

    Each update has all tokens, some of them repeatedly, or, except for the first update, only some
    tokens, each of them once.
    """
    rng = np.random.RandomState(0)
    if is_repeated:
        tokens, grads = rng.randint(0, 7, (8, 5)), rng.randn(8, 5, 6) / 40
        return [tokens] * 3, [grads] * 3
    tokens = [rng.permutation(7)[None, :count] for count in (7, 4, 3)]
    return tokens, [rng.randn(*array.shape, 6) / 40 for array in tokens]


EMBEDDING_RULES = {
    "SGD": UpdateRule(lr=2.0**-3),
    "SGD with momentum": UpdateRule(lr=2.0**-3, optimizer="momentum"),
    "Adam": UpdateRule(lr=0.01, optimizer="adam", epsilon=2.0**-20),
    # RMSprop is Adam without momentum and bias corrections. Its ε is so small that its place does
    # not matter.
    "RMSprop": UpdateRule(lr=0.01, optimizer="rmsprop", beta1=0.0, beta2=0.9, epsilon=2.0**-100),
}


def measure_embeddings(key: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each optimizer and each kind of tokens."""
    W = np.random.RandomState(1).randn(7, 6) * 0.1
    pairs = itertools.product(EMBEDDINGS[key].items(), (True, False), EMBEDDING_RULES.items())
    for (layer, function), is_repeated, (optimizer, rule) in pairs:
        if optimizer == "RMSprop" and key != "keras":
            continue
        tokens, slices = draw_updates(is_repeated)
        grads = []
        for step_tokens, parts in zip(tokens, slices):
            grads.append({"w": np.zeros_like(W)})
            np.add.at(grads[-1]["w"], step_tokens, parts)
        rules = [
            rule._replace(
                optimizer="adam" if optimizer == "RMSprop" else rule.optimizer,
                c_m=1 - rule.beta1**t if optimizer == "Adam" else 1.0,
                c_v=1 - rule.beta2**t if optimizer == "Adam" else 1.0,
            )
            for t in (1, 2, 3)
        ]
        result = {"w": function(W, tokens, slices, rule)}
        pairs_of_updates = list(zip(tokens, slices))

        def compare(changes, grads=grads, rules=rules, slices=pairs_of_updates, result=result):
            return find_difference(train({"w": W}, grads, rules, changes, slices), result)

        found = explain(compare, vectors.TOLERANCE, (*RULES, SQUARES, LAZY))
        item = f"{optimizer}, {'repeated' if is_repeated else 'absent'} tokens"
        row = {"kind": "embedding", "layer": layer, "item": item, "dtype": "float64", "error": ""}
        yield row | found


def measure_clip(key: str) -> Iterator[dict[str, Any]]:
    """Yield a row for a clipping function, which all tests of `clip` use."""
    item, clip = CLIPS[key]
    cases = []
    for name in ("above", "below", "zero"):
        group, test = find_test(f"common/clip-{name}")
        grads = {n: test.inputs[GRAD + n] for n in group.options.shapes()}
        theta = float(test.inputs["theta"])
        result = clip({n: grad.copy() for n, grad in grads.items()}, theta)
        cases.append((grads, theta, float(test.outputs["norm"]), test.outputs, result))
    tolerance = test.tolerance

    def compare(changes):
        differences = []
        for grads, theta, norm, outputs, result in cases:
            expected = {n: outputs[GRAD + n] for n in grads}
            if changes and norm:
                expected = {n: g * min(1, theta / (norm + 1e-6)) for n, g in grads.items()}
            differences.append(find_difference(expected, result))
        return max(differences)

    found = explain(compare, tolerance, [NORM])
    yield {"kind": "clip", "item": item, "dtype": "float64", "error": "", **found}


def measure(name: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a subject, which must be installed."""
    subject = SUBJECTS[name]
    if "mxnet" in subject.packages:
        registry.load("mxnet")  # makes MXNet compatible with recent versions of NumPy
    rows = []
    if subject.layers:
        rows += measure_layers(subject.layers)
    if subject.update:
        rows += measure_optimizers(subject.update)
    if subject.embeddings:
        rows += measure_embeddings(subject.embeddings)
    if subject.clip:
        rows += measure_clip(subject.clip)
    yield rows


# Mistakes in an ONNX operator, as changes to its inputs. Each function gets the W (D, G, H, V),
# R (D, G, H, H), B (D, 2, G, H) and the initial states, and changes them in place.
def list_mistakes(gates: str) -> dict[str, Callable[[Arrays], None]]:
    """Return mistakes by name for an operator with these gates."""

    def swap(arrays: Arrays, i: int, j: int) -> None:
        for name, axis in (("W", 1), ("R", 1), ("B", 2)):
            order = [*range(len(gates))]
            order[i], order[j] = j, i
            arrays[name][...] = arrays[name].take(order, axis)

    def clear(arrays: Arrays, *names: str) -> None:
        for name in names:
            if name in arrays:
                arrays[name][...] = 0

    def transpose(arrays: Arrays) -> None:
        arrays["R"][...] = arrays["R"].swapaxes(2, 3).copy()

    def add_forget_bias(arrays: Arrays) -> None:
        arrays["B"][:, 0, gates.index("f")] += 1

    mistakes: dict[str, Callable[[Arrays], None]] = {}
    for i, j in itertools.combinations(range(len(gates)), 2):
        mistakes[f"gates {gates[i]} and {gates[j]} swapped"] = partial(swap, i=i, j=j)
    mistakes["R transposed"] = transpose
    mistakes["R left out"] = lambda arrays: clear(arrays, "R")
    mistakes["the biases left out"] = lambda arrays: clear(arrays, "B")
    mistakes["the initial state left out"] = lambda arrays: clear(arrays, "initial_h", "initial_c")
    if "f" in gates:
        mistakes["a forget bias of +1"] = add_forget_bias
    return mistakes


def list_undetected(
    cases: Sequence[tuple[Any, Arrays, Sequence[np.ndarray]]], gates: str
) -> list[str]:
    """Return the mistakes that no case (model, inputs, outputs) detects."""
    from onnx.reference import ReferenceEvaluator

    def is_right(model: Any, inputs: Arrays, expected: Sequence[np.ndarray]) -> bool:
        results = ReferenceEvaluator(model).run(None, inputs)
        return all(np.allclose(a, b, 1e-5, 1e-7) for a, b in zip(results, expected))

    assert cases
    assert all(is_right(*case) for case in cases)
    undetected = []
    for name, change in list_mistakes(gates).items():
        is_detected = False
        for model, inputs, expected in cases:
            G, (D, _, H) = len(gates), inputs["R"].shape
            biases = inputs.get("B", np.zeros((D, 2 * G * H), inputs["R"].dtype))
            changed = {key: array.copy() for key, array in inputs.items()} | {"B": biases.copy()}
            views = {
                "W": changed["W"].reshape(D, G, H, -1),
                "R": changed["R"].reshape(D, G, H, H),
                "B": changed["B"].reshape(D, 2, G, H),
            }
            change({**changed, **views})
            given = {key: changed[key] for key in inputs}  # some models have no input B
            is_detected = is_detected or not is_right(model, given, expected)
        if not is_detected:
            undetected.append(name)
    return undetected


def measure_onnx_vectors(operator: str) -> Iterator[dict[str, Any]]:
    """Yield a row that says which mistakes ONNX's vectors and this project's do not detect.

    The function must be called in a new process, because ONNX can collect its vectors only once.
    """
    from onnx.backend.test.case.node import collect_testcases

    layer = ONNX()
    cells = [cell for cell, name in layer.names.items() if name.split("(")[0] == operator]
    theirs = {}
    for case in collect_testcases(operator):
        if case.model.graph.node[0].op_type == operator:  # not the operator's definition
            names = [info.name for info in case.model.graph.input]
            inputs, outputs = case.data_sets[0]
            theirs[case.name] = case.model, dict(zip(names, inputs)), outputs
    ours = [find_case(layer, cell) for cell in cells]
    gates = layer.gates[cells[0]]
    yield {
        "operator": operator,
        "cases": len(theirs),
        "mistakes": len(list_mistakes(gates)),
        "undetected": list_undetected([*theirs.values()], gates),
        "undetected_here": list_undetected(ours, gates),
    }


def find_case(layer: ONNX, cell: str) -> tuple[Any, Arrays, Sequence[np.ndarray]]:
    """Return this project's vector for a cell as a case for an ONNX operator."""
    from onnx.reference import ReferenceEvaluator

    calls = []

    class Recorder(ONNX):
        def call(self, model, inputs):
            outputs = ReferenceEvaluator(model).run(None, inputs)
            calls.append((model, inputs, outputs))
            return outputs

    group, test = find_test(f"{cell}/forward")
    weights = layer.place(cell, join(group.inputs, group.options, layer.gates[cell]))
    assert find_difference(test.outputs, answer_forward(Recorder(), group, test, weights)) < 1e-12
    return calls[0]


def main(file: str) -> None:
    """Measure the installed frameworks, each in its own process, and write the record to `file`."""
    record: dict[str, Any] = {"rows": [], "vectors": []}
    today = datetime.date.today().isoformat()
    for name, subject in SUBJECTS.items():
        versions = find_versions(name)
        if versions is None:
            print(f"{name} is not installed", flush=True)
            continue
        about = {"subject": subject.title, "versions": versions, "date": today}
        environment = {"JAX_ENABLE_X64": "1", "OMP_NUM_THREADS": "1", **subject.environment}
        rows = spawn(measure, name, **environment)
        record["rows"] += [about | row for row in rows]
        for row in rows:
            print(name, row, flush=True)
        if name == "onnx":
            for operator in ("RNN", "GRU", "LSTM"):
                record["vectors"].append(about | spawn(measure_onnx_vectors, operator))
                print(name, record["vectors"][-1], flush=True)
    write(file, record)
