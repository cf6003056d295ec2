"""The page's JavaScript as a backend: computed by Node, which Playwright brings along."""

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


def start(scripts=SCRIPTS):
    """Start a process that computes with these scripts."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    command = [str(node), str(CLONE / "tests" / "engine.js"), *map(str, scripts)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def call(process, name, *values, choose=None):
    """Return a function's return value, and its arguments after the call."""
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
    # A value of the contract as the scripts have it.
    if isinstance(value, Batch):
        return _plain({**value._asdict(), "masks": _masks(value.masks)})
    if isinstance(value, Options):
        return {**value._asdict(), "num_states": value.num_states}
    if isinstance(value, Model):
        return _plain({each: getattr(value, each) for each in ("params", "options", "slots")})
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
        return {name: _plain(each) for name, each in value.items()}
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def _masks(masks):
    # (T, L, B, H) as T lists of L arrays (B, H).
    return None if masks is None else [[*step] for step in masks]


def _arrays(value):
    if isinstance(value, dict) and value.keys() == {"shape", "data"}:
        array = np.frombuffer(base64.b64decode(value["data"]), "<f8")
        return array.reshape(value["shape"]).copy()
    if isinstance(value, dict):
        return {name: _arrays(each) for name, each in value.items()}
    return list(map(_arrays, value)) if isinstance(value, list) else value


def backend(process):
    """Wrap the functions of `scratch.js` as a backend of the contract with NumPy arrays.

    The function `step` of `scratch.js` computes all networks.
    """
    numpy = registry.load("numpy")
    scratch, deep, exact = map(ModuleType, ("scratch", "deep", "exact"))
    own = functools.partial(call, process)

    def function(name):
        return lambda *values: own(name, *values)[0]

    def encode(tokens, params):
        one_hot = {name: param for name, param in params.items() if name != "W_e"}
        return own("encode", tokens.ravel(), one_hot)[0].reshape(*tokens.shape, -1)

    def with_state(name, *values):
        # The last return value is the state.
        *others, state = own(name, *values)[0]
        return *others, tuple(state)

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
        return lambda x, state, params: tuple(own(function, x, state, params, options)[0])

    backward = functools.partial(with_state, "backward")
    gradients = functools.partial(with_state, "gradients")

    def changing(name):
        # A function that changes the model, whose arrays are replaced.
        def change(model, *values):
            values = [list(each) if hasattr(each, "__next__") else each for each in values]
            result, (after, *_) = own(name, model, *values)
            model.params.update(after["params"])
            for slot, arrays in after["slots"].items():
                model.slots[slot].update(arrays)
            return result and (result[0], tuple(result[1]))

        return change

    def evaluate(model, minibatches):
        total_loss, num_tokens = own("evaluate", model, list(minibatches))[0]
        return float(total_loss), num_tokens

    def predict(model, prefix, num_preds, choose_token):
        return own("predict", model, prefix, num_preds, "choose", choose=choose_token)[0]

    def state(batch_size, options):
        return tuple(own("state", batch_size, options)[0])

    def build(arrays, options):
        params = own("build", arrays, options)[0]["params"]
        return bind(params, options, forward, state, numpy.machine.to_arrays, backward)

    given = dict(locals())
    scratch.CELLS = {name: cell(name) for name in contract.CELLS}
    scratch.OPTIMIZERS = {name: changing(name) for name in contract.OPTIMIZERS}
    given |= scratch.OPTIMIZERS
    scratch.OPTIMIZERS |= {
        f"exact {name}": changing(f"OPTIMIZERS['exact {name}']") for name in contract.OPTIMIZERS
    }
    given |= {"deep_forward": forward}
    deep.deep_backward = backward
    for module in (scratch, deep, exact):
        for specification in contract.MODULES[module.__name__]:
            name = specification.__name__
            changes = name in ("train_minibatch", "train_epoch")
            made = changing(name) if changes else given.get(name) or function(name)
            setattr(module, name, functools.wraps(specification)(made))
    module = ModuleType("javascript")
    module.scratch, module.deep, module.exact = scratch, deep, exact
    module.machine = numpy.machine
    return module
