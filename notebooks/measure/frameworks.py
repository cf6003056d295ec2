"""Hold other frameworks against the test vectors: `python -m measure frameworks FILE`.

The record has a row for each recurrent layer, optimizer, embedding and clipping function of the
installed frameworks: the largest difference from the reference and, if it exceeds the tolerance,
the smallest set of changes to the reference that explains it. It also says which mistakes ONNX's
own test vectors detect. A framework that is not installed has no rows. The measurement takes
about a minute.
"""

import copy
import datetime
import functools
import itertools
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from measure import layers, onnx_vectors, updates
from measure.measuring import round_digits, spawn, write
from rnn_scratch import registry
from rnn_scratch.check import vectors
from rnn_scratch.check.vector_calls import FACTORS, GRAD, state_names
from rnn_scratch.contract import OPTIMIZERS, UpdateRule

FLOAT32 = 2e-6  # differences of float32 values of about 1; larger ones are not due to rounding
# Changes to the reference that explain differences.
NO_B_HH = "the candidate has no recurrent bias"
NORM = "the norm is increased by 0.000001"
NO_CORRECTION = "there is no bias correction by default"
EPSILON = "ε is added before the bias correction"
DECAY = "weight decay is added to the gradient"
VELOCITY = "the velocity contains the learning rate"
SQUARES = "v averages the sum of a token's squared gradients, not the square of their sum"
LAZY = "rows of absent tokens are not updated"
RATE = "the learning rate is float32"
CONSTANTS = "constants are float32"
RULES = (NO_CORRECTION, EPSILON, DECAY, VELOCITY, RATE, CONSTANTS)


class Subject(NamedTuple):
    """A framework: the packages that determine its results, its layers and its updates."""

    title: str
    packages: tuple[str, ...]
    layers: Any = None
    updates: Any = None
    environment: dict[str, str] = {}


SUBJECTS = {
    "torch": Subject("PyTorch", ("torch",), layers.Torch(), updates.Torch()),
    **{
        f"keras-{backend}": Subject(
            f"Keras with {title}",
            ("keras", backend),
            layers.Keras(),
            updates.Keras(),
            {"KERAS_BACKEND": backend},
        )
        for backend, title in registry.FRAMEWORKS.items()
        if backend != "mxnet"
    },
    "tensorflow": Subject("TensorFlow", ("tensorflow",), None, updates.TensorFlow()),
    "linen": Subject("Flax Linen", ("flax", "jax"), layers.Linen()),
    "nnx": Subject("Flax NNX", ("flax", "jax"), layers.NNX()),
    "optax": Subject("Optax", ("optax", "flax", "jax"), None, updates.Optax()),
    "mxnet": Subject("MXNet", ("mxnet",), layers.MXNet(), updates.MXNet()),
    "mlx": Subject("MLX", ("mlx",), layers.MLX(), updates.MLX()),
    "onnx": Subject("ONNX reference", ("onnx",), layers.ONNX()),
    "onnxruntime": Subject("ONNX Runtime", ("onnxruntime", "onnx"), layers.ONNXRuntime()),
}


def find_versions(name):
    """Return the versions of a subject's packages, or None if one is not installed."""
    try:
        return {package: version(package) for package in SUBJECTS[name].packages}
    except PackageNotFoundError:
        return None


def explain(compare, tolerance, changes=()):
    """Find the smallest set of changes with which a framework equals the reference.

    `compare` returns the largest difference from the reference with these changes. If no set
    suffices, the result is sought with the rounding errors of float32 as a tolerance; `is_precise`
    is then False. If that fails as well, `explanation` is None.
    """
    sets = [s for size in range(5) for s in itertools.combinations(changes, size)]
    compare = functools.cache(compare)
    found = {"difference": round_digits(compare(())), "explanation": None}
    for limit, chosen in itertools.product((tolerance, FLOAT32), sets):
        if compare(chosen) <= limit:
            remaining = round_digits(compare(chosen))
            about = {"remaining": remaining, "is_precise": limit == tolerance}
            return found | {"explanation": "; ".join(chosen), **about}
    return found


def find_difference(expected, actual):
    """Return the largest absolute difference between arrays with the same names."""
    assert expected.keys() == actual.keys()
    return max(float(np.abs(expected[name] - actual[name]).max()) for name in expected)


def find_test(name, dtype="float64"):
    """Return a test vector by its ID, with its group."""
    function = name.split("/")[1].split("-")[0]
    for group in vectors.make(functions=[function], training=False, dtype=dtype):
        for test in group.tests:
            if test.id == name:
                return group, test
    raise KeyError(name)


def list_inputs(group):
    """Return a group's one-hot vectors (B, T, V) and its initial state, as a layer's inputs."""
    x = np.eye(group.options.vocab_size, dtype=group.options.dtype)[group.inputs["tokens"]]
    return x, [group.inputs[name] for name in state_names(group.options)]


def answer_forward(layer, group, weights):
    """Return the outputs of a group's test of `forward`, computed by a framework's layer."""
    outputs, state = layer.run(group.options.cell, weights, *list_inputs(group))
    assert outputs.dtype == group.options.dtype, f"the outputs are {outputs.dtype}"
    flat = outputs.swapaxes(0, 1).reshape(-1, outputs.shape[2])
    logits = flat @ group.inputs["W_hq"] + group.inputs["b_q"]
    return {"logits": logits, **dict(zip(state_names(group.options), state))}


def compare_layer(layer, cell, dtype, changes):
    """Convert weights to a layer and back; return the largest difference in `forward`.

    The layer first gets the weights of the test vector, and then weights that are drawn in its own
    format and converted to the reference, so that each direction is tested without the other.
    """
    reference, (_, gates) = registry.load("numpy"), layer.cells[cell]
    group, test = find_test(f"{cell}/forward", dtype)
    inputs = {name: group.inputs[name] for name in group.options.shapes()}
    if NO_B_HH in changes:
        inputs["b_hh"] = np.zeros_like(inputs["b_hh"])
    placed = layer.place(cell, layers.join(inputs, group.options, gates))
    rng = np.random.RandomState(0)
    drawn = {name: rng.normal(size=a.shape).astype(dtype) for name, a in placed.items()}
    restored = layers.split(layer.read(cell, drawn), group.options, gates)
    differences = []
    for weights, arrays in ((placed, inputs), (drawn, restored)):
        expected = vectors.add_outputs(reference, group, test._replace(inputs=arrays)).outputs
        differences.append(find_difference(expected, answer_forward(layer, group, weights)))
    return max(differences)


def measure_layers(layer):
    """Yield a row for each cell; if the layer fails in float64, compare float32."""
    for cell, (name, _) in layer.cells.items():
        changes = [NO_B_HH] if cell == "gru-after" else []
        row = {"kind": "layer", "layer": name, "item": ""}
        try:
            tolerance = find_test(f"{cell}/forward")[1].tolerance
            found = explain(partial(compare_layer, layer, cell, "float64"), tolerance, changes)
        except Exception as error:
            row["error"] = type(error).__name__
            found = explain(partial(compare_layer, layer, cell, "float32"), FLOAT32, changes)
        yield row | found


def measure_functions(framework):
    """Yield a row for each function in float64, compared with NumPy's."""
    x = np.random.RandomState(0).normal(size=(6, 6))
    expected = {"exp": np.exp(x), "sigmoid": 1 / (1 + np.exp(-x)), "tanh": np.tanh(x)}
    for name, array in {**expected, "matmul": x @ x}.items():
        result = framework.compute(name, *([x, x] if name == "matmul" else [x]))
        found = explain(lambda _, pair=(array, result): np.abs(pair[0] - pair[1]).max(), 1e-14)
        yield {"kind": "function", "layer": "", "item": name, **found}


def train(start, grads, rules, changes=(), slices=()):
    """Return the parameters after updates with the reference's optimizer and these changes.

    `slices` contains for each update the tokens and gradients from which an embedding's `grads`
    are added up.
    """
    optimizer = registry.load("numpy").scratch.OPTIMIZERS[rules[0].optimizer]
    params = copy.deepcopy(start)
    slots = {
        slot: {name: np.zeros_like(array) for name, array in params.items()}
        for slot in OPTIMIZERS[rules[0].optimizer].slots
    }
    for index, (step_grads, rule) in enumerate(zip(grads, rules)):
        rule = change_rule(rule, index + 1, changes)
        if DECAY in changes:
            step_grads = {n: g + rule.weight_decay * params[n] for n, g in step_grads.items()}
            rule = rule._replace(weight_decay=0.0)
        if VELOCITY in changes:
            step_grads = {name: rule.lr * grad for name, grad in step_grads.items()}
            rule = rule._replace(lr=1.0, weight_decay=rule.lr * rule.weight_decay)
        if SQUARES in changes and "v" in slots:
            squares = np.zeros_like(params["w"])
            np.add.at(squares, slices[index][0], slices[index][1] ** 2)
            # The optimizer multiplies v by beta2 and adds (1 - beta2) times the dense square.
            difference = squares - step_grads["w"] ** 2
            slots["v"]["w"] += (1 - rule.beta2) / rule.beta2 * difference
        before = copy.deepcopy({"params": params, **slots})  # the optimizer changes the arrays
        params, slots = optimizer(params, step_grads, slots, rule)
        if LAZY in changes:
            absent = np.setdiff1d(np.arange(len(params["w"])), slices[index][0])
            for name, arrays in {"params": params, **slots}.items():
                arrays["w"][absent] = before[name]["w"][absent]
    return params


def change_rule(rule, t, changes):
    """Return the rule of update t = 1, 2, ... with these changes."""
    rounded = ["lr"] * (RATE in changes)
    if CONSTANTS in changes:
        rounded += ["weight_decay", "beta1", "beta2", "epsilon"]
    rule = rule._replace(**{name: float(np.float32(getattr(rule, name))) for name in rounded})
    if CONSTANTS in changes and rule.c_v < 1:
        rule = rule._replace(c_m=1 - rule.beta1**t, c_v=1 - rule.beta2**t)
    if NO_CORRECTION in changes:
        rule = rule._replace(c_m=1.0, c_v=1.0)
    if EPSILON in changes:
        rule = rule._replace(epsilon=rule.epsilon / rule.c_v**0.5)
    return rule


def compare_updates(result, start, grads, rules, slices, changes):
    """Return the largest difference from the reference with these changes."""
    return find_difference(train(start, grads, rules, changes, slices), result)


OPTIMIZER_ITEMS = {  # for each item, the test vector and its weight decay
    "SGD": ("sgd", 0.0),
    "SGD with momentum": ("momentum", 0.0),
    "SGD with momentum and weight decay": ("momentum", 0.2),
    "Adam": ("adam", 0.0),
    "Adam with weight decay": ("adam", 0.2),
}


def measure_optimizers(framework):
    """Yield a row for each optimizer."""
    for item, (name, weight_decay) in OPTIMIZER_ITEMS.items():
        if isinstance(framework, updates.Optax) and name == "momentum" and weight_decay:
            continue  # Optax composes it from parts in any order
        group, test = find_test(f"common/{name}")
        start = {name: group.inputs[name] for name in group.options.shapes()}
        grads = [{name: test.inputs[GRAD + name] * factor for name in start} for factor in FACTORS]
        values = {key: float(test.inputs.get(key, 0)) for key in ("beta1", "beta2", "epsilon")}
        rule, ones = UpdateRule(1.0, 1.0, name, weight_decay, **values), np.ones(len(grads))
        steps = (test.inputs.get(key, ones).tolist() for key in ("lr", "c_m", "c_v"))
        rules = [rule._replace(lr=lr, c_m=c_m, c_v=c_v) for lr, c_m, c_v in zip(*steps)]
        result = framework.train(start, grads, rules)
        compare = partial(compare_updates, result, start, grads, rules, ())
        found = explain(compare, test.tolerance, RULES)
        yield {"kind": "optimizer", "layer": "", "item": item, **found}


EMBEDDING_RULES = {
    "SGD": UpdateRule(lr=2.0**-3, beta1=0.0),
    "SGD with momentum": UpdateRule(lr=2.0**-3, optimizer="momentum"),
    "Adam": UpdateRule(lr=0.01, optimizer="adam", epsilon=2.0**-20),
    # RMSprop is Adam without momentum and bias corrections. Its ε is so small that its place does
    # not matter.
    "RMSprop": UpdateRule(lr=0.01, optimizer="rmsprop", beta1=0.0, beta2=0.9, epsilon=2.0**-100),
}


def draw_updates(is_repeated):
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


def measure_embeddings(framework):
    """Yield a row for each layer, optimizer and kind of tokens."""
    start = {"w": np.random.RandomState(1).randn(7, 6) * 0.1}
    cases = itertools.product(framework.embeddings.items(), EMBEDDING_RULES.items(), (True, False))
    for (layer, options), (optimizer, rule), is_repeated in cases:
        if optimizer == "RMSprop" and not isinstance(framework, updates.Keras):
            continue
        tokens, parts = draw_updates(is_repeated)
        grads = [{"w": np.zeros_like(start["w"])} for _ in tokens]
        for step_grads, *pair in zip(grads, tokens, parts):
            np.add.at(step_grads["w"], *pair)
        rules = [rule._replace(optimizer=rule.optimizer.replace("rmsprop", "adam"))] * len(tokens)
        if optimizer == "Adam":
            rules = [
                rule._replace(c_m=1 - rule.beta1**t, c_v=1 - rule.beta2**t)
                for t, rule in enumerate(rules, 1)
            ]
        result = {"w": framework.embed(start["w"], tokens, parts, rule, **options)}
        compare = partial(compare_updates, result, start, grads, rules, [*zip(tokens, parts)])
        found = explain(compare, vectors.TOLERANCE, (*RULES, SQUARES, LAZY))
        item = f"{optimizer}, {'repeated' if is_repeated else 'absent'} tokens"
        yield {"kind": "embedding", "layer": layer, "item": item, **found}


def measure_clip(framework):
    """Yield a row for a clipping function, which all tests of `clip` use."""
    cases = []
    for name in ("above", "below", "zero"):
        group, test = find_test(f"common/clip-{name}")
        grads = {name: test.inputs[GRAD + name] for name in group.options.shapes()}
        theta, norm = float(test.inputs["theta"]), float(test.outputs["norm"])
        cases.append((grads, theta, norm, framework.clip(copy.deepcopy(grads), theta)))

    def compare(changes):
        differences = []
        for grads, theta, norm, result in cases:
            scale = min(1, theta / (norm + 1e-6 * (NORM in changes))) if norm else 1
            expected = {name: scale * grad for name, grad in grads.items()}
            differences.append(find_difference(expected, result))
        return max(differences)

    found = explain(compare, test.tolerance, [NORM])
    yield {"kind": "clip", "layer": framework.clipping, "item": "", **found}


def measure(name):
    """Yield the rows of a subject, which must be installed."""
    subject, rows = SUBJECTS[name], []
    if "mxnet" in subject.packages:
        registry.load("mxnet")  # makes MXNet compatible with recent versions of NumPy
    if subject.layers:
        rows += measure_layers(subject.layers)
    if "keras" in subject.packages:
        import keras

        keras.config.set_floatx("float64")  # also the dtype of learning rates
    if hasattr(subject.updates, "compute"):
        rows += measure_functions(subject.updates)
    if hasattr(subject.updates, "train"):
        rows += measure_optimizers(subject.updates)
        rows += measure_embeddings(subject.updates)
    if subject.updates:
        rows += measure_clip(subject.updates)
    yield rows


def measure_alone(name):
    """Return the rows of a subject, which is imported in another process."""
    environment = {"OMP_NUM_THREADS": "1", "JAX_ENABLE_X64": "1"}
    return spawn(measure, name, **environment, **SUBJECTS[name].environment)


def measure_onnx_vectors(operator):
    """Yield which mistakes in an operator ONNX's vectors and this project's do not detect."""
    layer = layers.ONNX()
    cells = [cell for cell, (name, _) in layer.cells.items() if name.split("(")[0] == operator]
    ours, gates = [], layer.cells[cells[0]][1]
    for cell in cells:
        group, _ = find_test(f"{cell}/forward")
        weights = layer.place(cell, layers.join(group.inputs, group.options, gates))
        case = layer.make(cell, weights, *list_inputs(group))
        ours.append((*case, layer.call(*case)))
    theirs = onnx_vectors.collect(operator)
    yield {
        "operator": operator,
        "cases": len(theirs),
        "mistakes": len(onnx_vectors.list_mistakes(ours[0][1], gates)),
        "undetected": onnx_vectors.list_undetected(theirs, gates),
        "undetected_here": onnx_vectors.list_undetected(ours, gates),
    }


def main(file):
    """Measure the installed frameworks, each in its own process, and write the record to `file`."""
    record = {"date": datetime.date.today().isoformat(), "frameworks": [], "onnx_vectors": []}
    for name, subject in SUBJECTS.items():
        versions = find_versions(name)
        if versions is None:
            print(f"{name} is not installed", flush=True)
            continue
        rows = measure_alone(name)
        record["frameworks"].append({"name": subject.title, "versions": versions, "rows": rows})
        print(name, *rows, sep="\n", flush=True)
    if find_versions("onnx"):
        for operator in ("RNN", "GRU", "LSTM"):
            record["onnx_vectors"].append(spawn(measure_onnx_vectors, operator))
            print(record["onnx_vectors"][-1], flush=True)
    write(file, record)
