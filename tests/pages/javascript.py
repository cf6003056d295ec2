"""The page's JavaScript as a backend, executed by the Node.js that Playwright contains."""

import base64
import functools
import json
import math
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import playwright
from helpers import CLONE

from rnn_scratch import contract, registry
from rnn_scratch.contract import Batch, Model, Options, bind

SCRIPTS = (
    *(CLONE / "rnn_scratch" / "play" / name for name in ("arrays.js", "scratch.js", "network.js")),
    *(CLONE / "notebooks" / "site" / "play" / name for name in ("random.js", "training.js")),
)


def start():
    """Start a Node.js process that loads SCRIPTS."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    command = [str(node), str(CLONE / "tests" / "engine.js"), *map(str, SCRIPTS)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def call(process, name, *values, choose=None):
    """Call a JavaScript function; return its result, and its arguments after the call."""
    _write(process, {"name": name, "values": values})
    while "logits" in (answer := _read(process)):
        _write(process, choose(answer["logits"]))
    return answer["result"], answer["values"]


def _write(process, value):
    process.stdin.write(json.dumps(_plain(value)).encode() + b"\n")
    process.stdin.flush()


def _read(process):
    return _arrays(json.loads(process.stdout.readline()))


def _plain(value):
    # Convert a value of the contract to JSON types in the form that the scripts use.
    if isinstance(value, Batch):
        return _plain({**value._asdict(), "masks": _masks(value.masks)})
    if isinstance(value, Options):
        return {**value._asdict(), "num_states": value.num_states}
    if isinstance(value, Model):
        return _plain({item: getattr(value, item) for item in ("params", "options", "slots")})
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim:
        data = base64.b64encode(value.astype("<f8").tobytes()).decode()
        return {"shape": value.shape, "data": data}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if value == math.inf:  # an infinite theta, null in JSON, disables clipping
        return None
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _masks(masks):
    # Convert masks (T, L, B, H) to T lists of L arrays (B, H).
    return None if masks is None else [[*step] for step in masks]


def _arrays(value):
    if isinstance(value, dict) and value.keys() == {"shape", "data"}:
        array = np.frombuffer(base64.b64decode(value["data"]), "<f8")
        return array.reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: _arrays(item) for name, item in value.items()}
    return list(map(_arrays, value)) if isinstance(value, list) else value


def backend(process):
    """Wrap the functions of `scratch.js` as a backend whose tensors are NumPy arrays.

    The `step` function of `scratch.js` computes a step of any network, including deep networks.
    """
    numpy = registry.load("numpy")
    scratch, deep, exact = map(ModuleType, ("scratch", "deep", "exact"))
    call_script = functools.partial(call, process)

    def function(name):
        return lambda *values: call_script(name, *values)[0]

    def encode(tokens, params):
        one_hot = {name: param for name, param in params.items() if name != "W_e"}
        return call_script("encode", tokens.ravel(), one_hot)[0].reshape(*tokens.shape, -1)

    def with_state(name, *values):
        # Convert the last return value, the state, to a tuple.
        *results, state = call_script(name, *values)[0]
        return *results, tuple(state)

    def step(x, state, params, options):
        return with_state("step", x, state, params, options)

    def deep_step(x, state, params, options, masks=None):
        x = x @ params["W_e"] if options.embedding else x
        return with_state("step", x, state, params, options, masks if masks is None else [*masks])

    def forward(tokens, state, params, options, masks=None):
        return with_state("forward", tokens, state, params, options, _masks(masks))

    def cell(name):
        options = {"cell": name}
        function = name.removesuffix("-relu").replace("-", "_")
        return lambda x, state, params: tuple(call_script(function, x, state, params, options)[0])

    backward = functools.partial(with_state, "backward")
    gradients = functools.partial(with_state, "gradients")

    def changing(name):
        # Wrap a function that changes the model; copy the changed arrays into the model.
        def change(model, *values):
            values = [list(value) if hasattr(value, "__next__") else value for value in values]
            result, (changed, *_) = call_script(name, model, *values)
            model.params.update(changed["params"])
            for slot, arrays in changed["slots"].items():
                model.slots[slot].update(arrays)
            return result and (result[0], tuple(result[1]))

        return change

    def evaluate(model, minibatches):
        total_loss, num_tokens = call_script("evaluate", model, list(minibatches))[0]
        return float(total_loss), num_tokens

    def predict(model, prefix, num_preds, choose_token):
        return call_script("predict", model, prefix, num_preds, "choose", choose=choose_token)[0]

    def state(batch_size, options):
        return tuple(call_script("state", batch_size, options)[0])

    def build(arrays, options):
        params = call_script("build", arrays, options)[0]["params"]
        return bind(params, options, forward, state, numpy.machine.to_arrays, backward)

    functions = dict(locals())
    scratch.CELLS = {name: cell(name) for name in contract.CELLS}
    scratch.OPTIMIZERS = {name: changing(name) for name in contract.OPTIMIZERS}
    functions |= scratch.OPTIMIZERS
    scratch.OPTIMIZERS |= {
        f"exact {name}": changing(f"OPTIMIZERS['exact {name}']") for name in contract.OPTIMIZERS
    }
    functions |= {"deep_forward": forward}
    deep.deep_backward = backward
    for module in (scratch, deep, exact):
        for specification in contract.MODULES[module.__name__]:
            name = specification.__name__
            changes = name in ("train_minibatch", "train_epoch")
            wrapper = changing(name) if changes else functions.get(name) or function(name)
            setattr(module, name, functools.wraps(specification)(wrapper))
    module = ModuleType("javascript")
    module.scratch, module.deep, module.exact = scratch, deep, exact
    module.machine = numpy.machine
    return module
