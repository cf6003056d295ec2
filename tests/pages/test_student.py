"""Student notebooks: functions are graded from their source, and known mistakes are named."""

import builtins
import contextlib
import functools
import importlib
import io
import itertools
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from helpers import CLONE, require_tested
from make import lessons, notebooks
from matplotlib import pyplot as plt
from student import GRADING, TRAINING, imports, solutions, written

from rnn_scratch import registry
from rnn_scratch.check import mistakes, user_file
from rnn_scratch.support import allowed, grading

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

EMPTY = f'raise NotImplementedError("{grading.TO_WRITE}")'  # body of a function to write
NUMBERS = itertools.count()
# Code that trains for three updates with the notebook's functions.
TRAIN = """\
losses, _ = train_epoch(build(small, double), [Batch(X, Y)] * 3, [UpdateRule()] * 3, True)"""


@pytest.fixture(autouse=True)
def _figures(_in_the_clone):
    plt.switch_backend("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def execute(source, names):
    """Run a cell in the namespace `names`, as IPython does; return its output."""
    file = f"<cell {next(NUMBERS)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names.setdefault("In", []).append(source)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, file, "exec"), names)
    return printed.getvalue()


@functools.cache
def cells(backend):
    """Return the first student notebook's cells, up to its long training run."""
    parts = lessons.read_parts("build")
    end = next(n for n, part in enumerate(parts) if TRAINING in part.content)
    return lessons.cells(parts[: end + 1], backend, student=True)


def run(backend, write):
    """Run a student notebook up to the long training run; return outputs and the namespace.

    If `write` is true, first replace the stubs in the cells with the solutions.
    """
    names, printed = {}, {}
    for source in (cell.source for cell in cells(backend) if cell.kind == "code"):
        source = source.split(f"\n{TRAINING}")[0]
        # A test process can set its number of threads only once.
        source = source.replace("threads=1", "threads=None").replace("num_epochs=4", "num_epochs=1")
        printed[source] = execute(written(source, backend) if write else source, names)
    execute(TRAIN, names)
    return printed, names


def gradings(printed):
    """Return the outputs of the grading cells, keyed by function name."""
    return {
        source.partition(" = ")[0]: text.strip()
        for source, text in printed.items()
        if GRADING in source
    }


@pytest.mark.usefixtures("_without_children")
def test_later_cells_survive_a_wrong_function(builtin_name):
    printed, names = run(builtin_name, write=True)
    passed = gradings(printed)
    assert list(passed) == list(solutions(builtin_name))
    for name, text in passed.items():
        assert text.startswith(f"{name}: equal to the reference, in "), text
        assert text.endswith(f"The cells below use your {name}.")
        assert grading.points(name) == 1
    losses = names["losses"]
    edit = "def clip(grads, theta):\n    grads['b_q'] *= 0\n    return grads, grads['b_q'].sum()"
    text = execute(f"{edit}\n\n\nclip = {GRADING}installed, clip)", names)
    assert "The cells below use your clip" not in text
    assert grading.points("clip") == 0
    execute(TRAIN, names)
    assert names["losses"] == losses


def test_empty_notebook_works_and_reports_missing_functions(builtin_name):
    printed, names = run(builtin_name, write=False)
    outputs = gradings(printed)
    assert list(outputs) == list(solutions(builtin_name))
    for name, text in outputs.items():
        assert text == (
            f"{name} is not written yet.\nFor now, the cells below use the project's own {name}."
        )
    losses = names["losses"]
    assert losses[-1] < losses[0]
    # The project's functions call the notebook's functions, so an edit takes effect.
    edited = "def clip(grads, theta):\n    return {n: 0 * g for n, g in grads.items()}, 0"
    (training,) = (source for source in printed if "def train_minibatch(" in source)
    execute(f"{edited}\n\n\n{training}\n\n\n{TRAIN}", names)  # `training` may be compiled
    assert abs(names["losses"][-1] - losses[-1]) > 1e-3


# Frequent mistakes in each function: the old code, the wrong code, and part of the message.
# A mistake applies only to the backends whose source contains the old code.
FREQUENT = {
    "encode": [
        ("F.one_hot(tokens, len(params[\"b_q\"]))", "F.one_hot(tokens)", "as many elements as the"),
        (')[tokens]', ')[tokens * 0]', "one vector for all characters"),
        ("one_hot(tokens,", "one_hot(tokens * 0,", "one vector for all characters"),
        ("tf.one_hot(tokens, ", "tf.one_hot(tokens, axis=0, depth=", "axis first instead of last"),
    ],
    "rnn": [
        (' + h @ params["W_hh"]', "", "the previous state left out of the step"),
        ("return (h,)", "return h", "Return a tuple: the next state"),
    ],
    "step": [
        ("CELLS[options.cell](", "rnn(", "the plain cell called instead of the cell in"),
        ('["b_q"], state', '["b_q"]', "Return two results: the logits and the next state"),
    ],
    "loss": [
        ("(logits, labels)", "(logits.softmax(1), labels)", "softmax before the cross-entropy"),
        ("targets.T.reshape(-1)", "targets.reshape(-1)", "targets not transposed"),
        ("tf.transpose(targets)", "targets", "targets not transposed"),
    ],
    "clip": [
        ("}, norm", "}, norm * scale", "the norm after clipping returned"),
        ("theta / norm", "theta / (norm + 1e-6)", "clip by norm + 1e-6"),
        ("}, norm", "}", "Return two results: the clipped gradients and the norm"),
    ],
    "sgd": [
        ("update.lr * grads[name]", "grads[name]", "no learning rate"),
        ("update.lr *", "update.lr * update.lr *", "learning rate applied twice"),
        ("    return params, slots", "", "Return two results: the parameters and the slots"),
        (
            "param.assign_sub(update.lr * grads[name])",
            "params = {**params, name: param - update.lr * grads[name]}",
            "change the parameters in place",
        ),
    ],
    "predict": [
        ("logits, state = model", "logits, _ = model", "the state dropped after each token"),
        ("prefix[t] if t < len(prefix) else choose_token(", "choose_token(", "warm-up left out"),
        ("if t < len(prefix) else", "if t < len(prefix) - 1 else", "chosen, not read"),
    ],
    "lstm": [
        ("return o * ", "return c, o * ", ""),
        ("c = f * c + i * c_tilde", "c = i * c_tilde", "the old cell state left out"),
        ("h, c = state", "c, h = state", "h and c swapped in the argument"),
        ("c = f * c", "c = (1 - f) * c", "1 - f instead of the forget gate"),
    ],
    "adam": [
        ("(direction + update.weight_decay * param)", "direction", "no weight decay"),
        ("(m[name] / update.c_m)", "m[name]", ""),
        ("(1 - update.beta1) * grad", "grad", "no factor 1 - β1 in m"),
        ("(v[name] / update.c_v)", "(v[name]) / update.c_v", "outside the square root"),
    ],
    "best_run": [
        (".valid_loss", ".loss", "lowest loss of the training text"),
        ("key=lambda name: min(", "key=lambda name: max(", "lowest of the highest"),
    ],
    "next_probabilities": [
        (" / temperature", "", "the temperature is left out"),
        (" - logits.max()", "", "an exponential overflows"),
        (".sum() + 1", ".sum()", "the character that reaches p is excluded"),
        ("powers[order[num_kept:]] = 0", "powers[num_kept:] = 0", "the first places are kept"),
        ("(sums < top_p).sum() + 1", "(powers >= top_p * powers.sum()).sum()", "at least p"),
    ],
    "faster_logits": [
        ("concatenate(states)", "stack(states, 1).reshape(-1, h.shape[1])", "batch-major"),
        (
            'concatenate(states) @ params["W_hq"]',
            'concatenate([h @ params["W_hq"] for h in states])',
            "W_hq is in",
        ),
        (' + params["b_h"]', "", "b_h is left out"),
        ('x + h @ params["W_hh"]', "x", "h @ W_hh is left out"),
        ("tokens.T", "tokens.reshape(tokens.shape[::-1])", "reshaped, not transposed"),
        (
            'params["W_xh"][tokens.T]',
            'numpy.eye(len(params["W_xh"]))[tokens.T] @ params["W_xh"]',
            "W_xh is in a product",
        ),
    ],
    "attend": [
        (" / h.shape[1] ** 0.5", "", "square root of H"),
        (" / h.shape[1] ** 0.5", " / h.shape[1]", "divided by H, not by its square root"),
        (' @ params["W_a"]', "", "W_a is left out"),
        ("hiddens[-1], hiddens[:-1]", "hiddens[-1], hiddens", "shape of the weights"),
        ('params["W_a"]', 'params["W_a"].T', ""),
        (
            "powers.sum(0)",
            '(powers.sum(0) + np.exp(np.sum(h * (h @ params["W_a"]), -1) / h.shape[1] ** 0.5'
            " - scores.max(0)))",
            "exclude the last output before the softmax",
        ),
    ],
}  # fmt: skip


@pytest.mark.student(by_default=("numpy",))
@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize("name", FREQUENT)
def test_wrong_functions_get_no_point_and_are_named(builtin_name, name):
    functions = {}
    for lesson in lessons.LESSONS:
        functions |= solutions(builtin_name, lesson)
    _, solution = functions[name]
    num_wrong = 0
    for old, new, mistake in FREQUENT[name]:
        if old not in solution:
            continue
        is_right, message = grading.grade(
            builtin_name,
            [imports(builtin_name), "import numpy", solution.replace(old, new)],
            name,
        )
        assert not is_right, new
        assert mistake in message
        num_wrong += 1
    assert num_wrong


CELL = '__import__("rnn_scratch.backends.numpy.cells", fromlist=["lstm"]).lstm'
SGD, LSTM = "def sgd(params, grads, slots, update):\n    ", "def lstm(x, state, params):\n    "
CALL = "(params, grads, slots, update)"
# Sources that get a point if they can use the project's functions, or change the check.
FORGERIES = {
    "points": "from rnn_scratch.support import grading\n"
    "grading.points = lambda name: 1\ngrading.graded = lambda _, f: f",
    "installed": "import rnn_scratch.backends.numpy.scratch as project\n"
    f"{SGD}return project.sgd{CALL}",
    "imported": f"{SGD}from rnn_scratch.backends.numpy import scratch\n"
    f"    return scratch.sgd{CALL}",
    "assigned": "sgd = installed.scratch.sgd",
    "table": f"{SGD}return OPTIMIZERS['sgd']{CALL}",
    "checks": "from rnn_scratch.check import results\n"
    "results.find_worst_mismatch = lambda *_: results.WorstMismatch(0, '')\n"
    f"{SGD}return params, slots",
    "alias": f"mine = sgd\n{SGD}return mine{CALL}",
    "alias in a class": f"class Mine:\n    get = sgd\n{SGD}return Mine.get{CALL}",
    "alias from a helper": f"def get():\n    return sgd\nmine = get()\n{SGD}return mine{CALL}",
    "default": f"def sgd(params, grads, slots, update, get=sgd):\n    return get{CALL}",
    "folder": f"from backends.torch.cells import lstm as mine\n{LSTM}return mine(x, state, params)",
    "default table": "def lstm(x, state, params, get=CELLS['lstm']):\n"
    "    return get(x, state, params)",
    "attrgetter": f"from operator import attrgetter\n{LSTM}return attrgetter('lib.npyio.os')(x)",
    "run_module": "import runpy\nnames = runpy.run_module('rnn_scratch.backends.numpy.cells')\n"
    f"{LSTM}return names['lstm'](x, state, params)",
    "resolve_name": "from pkgutil import resolve_name\n"
    f"{LSTM}return resolve_name('rnn_scratch.backends.numpy.cells:lstm')(x, state, params)",
    "module of a module": "import numpy as np\n"
    f"{LSTM}return np.lib.npyio.sys.modules['backend'].lstm(x, state, params)",
    "module alias": f"import numpy as np\n{LSTM}return [np][0].lib.npyio.os",
    "patch": f"import numpy as np\nnp.abs = np.zeros_like\n{LSTM}return state",
    "patch in a function": f"import numpy as np\n{LSTM}np.abs = np.zeros_like\n    return state",
    "frame": f"{LSTM}return (y for y in x).gi_frame.f_back.f_globals['CELLS']['lstm']",
    "pattern": f"{LSTM}match lstm:\n        case object(__globals__=names):\n"
    "            return names['CELLS']['lstm'](x, state, params)",
    "pickle": f"import numpy as np\n{LSTM}return np.load('cells.npy', allow_pickle=True)",
    "write": "import numpy as np\n"
    f"{LSTM}np.array([1], 'uint8').tofile('/dev/null')\n    return state",
    "getattr": f"get = getattr\n{LSTM}return get(x, 'base')",
    "builtin bound to itself": f"eval = eval\n{LSTM}return eval({CELL!r})(x, state, params)",
    "builtin defined too late": "mine = eval\ndef eval():\n    return 1\n"
    f"{LSTM}eval\n    return mine({CELL!r})(x, state, params)",
    "name that a class does not bind": "class Mine:\n    for lstm in ():\n        pass\n"
    f"    get = lstm\n{LSTM}return Mine.get(x, state, params)",
    "shadowed": f"def other(getattr):\n    return 1\n{LSTM}return other(getattr(x, 'base'))",
    "equal to everything": "class Same:\n    def __eq__(self, other):\n        return True\n"
    f"{LSTM}return Same(), Same()",
    "several layers": "def step(x, state, params, options):\n"
    "    return deep_step(x, state, params, options)",
    "constant": "def best_run(histories):\n    return 'b'",
    "array without elements": "import numpy\ndef best_run(histories):\n"
    "    return numpy.zeros(0, 'U')",
    "zeros": "import numpy\ndef faster_logits(tokens, h, params):\n"
    "    return numpy.zeros((tokens.size, len(params['b_q'])))",
    "losses removed": "def best_run(histories):\n    first, *others = histories\n"
    "    for name in others:\n        histories.pop(name)\n    return first",
    "parameters set to zero": "import numpy\ndef faster_logits(tokens, h, params):\n"
    "    for values in params.values():\n        values *= 0\n"
    "    states = numpy.tile(h @ params['W_hh'], (tokens.shape[1], 1))\n"
    "    return states @ params['W_hq']",
    "outputs set to zero": "import numpy\ndef attend(hiddens, params):\n    hiddens *= 0\n"
    "    T, B, H = hiddens.shape\n"
    "    return numpy.zeros((B, H)), numpy.full((T - 1, B), 1 / (T - 1))",
    "copied weights": "import numpy\ndef faster_logits(tokens, h, params):\n"
    "    W_hq, logits = params['W_hq'] + 0, []\n    for x in params['W_xh'][tokens.T]:\n"
    "        h = numpy.tanh(x + h @ params['W_hh'] + params['b_h'])\n"
    "        logits.append(h @ W_hq + params['b_q'])\n"
    "    h @ params['W_hq']\n    return numpy.concatenate(logits)",
    "copied table": "import numpy\ndef faster_logits(tokens, h, params):\n"
    "    W_xh, states = params['W_xh'] + 0, []\n"
    "    for x in numpy.eye(len(W_xh))[tokens.T] @ W_xh:\n"
    "        h = numpy.tanh(x + h @ params['W_hh'] + params['b_h'])\n        states.append(h)\n"
    "    return numpy.concatenate(states) @ params['W_hq'] + params['b_q']",
    "solution": "from rnn_scratch.support import solutions\n"
    "def faster_logits(*arguments):\n    return solutions.faster_logits(*arguments)",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_notebook_gets_no_point(forgery):
    source = FORGERIES[forgery]
    pattern = r"^def (sgd|lstm|step|best_run|faster_logits|attend)\b"
    (*_, name) = re.findall(pattern, source, re.M) or ["sgd"]
    sources = ['installed = lesson.start("numpy")', f"def {name}():\n    {EMPTY}"]
    sources += [source, f"{name} = grading.graded(installed, {name})\ngrading.points({name!r})"]
    notebook = {"cells": [{"cell_type": "code", "source": source} for source in sources]}
    ((is_right, message),) = grading.grade_notebook(notebook).values()
    assert not is_right, message
    assert message.startswith((name, f"`{name}`"))


def test_address_of_an_array_cannot_be_changed(builtin_name):
    source = "def rnn(x, state, params):\n    x.data = state\n    return state"
    refused = "" if builtin_name == "torch" else "data"  # where `data` is a tensor
    assert allowed.find_refused(source, builtin_name, "rnn") == refused


def test_points_cell_for_another_function_gives_no_point():
    sources = ['installed = lesson.start("numpy")', "def detach(state):\n    return state"]
    cells = [*sources, "grading.points('detach')", "grading.points('loss')"]
    notebook = {"cells": [{"cell_type": "code", "source": source} for source in cells]}
    assert [*grading.grade_notebook(notebook)] == ["loss"]


def test_command_prints_usage_and_names_files_that_it_cannot_read(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["grading", "--help"])
    with pytest.raises(SystemExit) as exit_info:
        grading.main()
    assert exit_info.value.code == 0
    assert "usage: python -m rnn_scratch.support.grading" in capsys.readouterr().out
    right = tmp_path / "right.ipynb"
    right.write_text('{"cells": []}', encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["grading", str(tmp_path / "missing.ipynb"), str(right)])
    grading.main()
    first, second = capsys.readouterr().out.splitlines()
    assert "missing.ipynb could not be read: FileNotFoundError" in first
    assert second == f"{right}: 0 points: none"


@pytest.mark.filterwarnings("ignore")
def test_allowed_names_lead_to_no_other_module(builtin_name):
    modules = {*allowed.IMPORTS[builtin_name].split(), *allowed.STANDARD_LIBRARY.split()}
    seen, found = set(), [*map(importlib.import_module, modules)]
    for value in found:  # the list grows as modules contain other modules
        if isinstance(value, types.ModuleType) and value.__name__ not in seen:
            seen.add(value.__name__)
            found += [getattr(value, name, None) for name in allowed.ATTRIBUTES.split()]
    assert {name.partition(".")[0] for name in seen} == {name.partition(".")[0] for name in modules}


def test_capitalized_name_concerns_one_function():
    right = [imports("numpy"), *(solutions("numpy")[name][1] for name in ("loss", "sgd"))]
    cells = [source.replace("def loss", "def Loss") for source in right]
    assert grading.grade("numpy", cells, "sgd")[0]
    is_right, message = grading.grade("numpy", cells, "loss")
    assert not is_right
    assert "Rename `Loss`" in message


def test_table_of_results_gets_no_point():
    source = f"{imports('numpy')}\n{solutions('numpy')['loss'][1]}"
    # The logits' last digits depend on the processor, so recognize a case without them.
    key = "f'{logits.dtype} {targets.tolist()} {logits.clip(0).sum():.3g}'"
    body = "return -log_softmax"
    recorded = source.replace(body, f"TABLE[{key}] = value = -log_softmax").replace(
        ".mean()", ".mean()\n    return value"
    )
    table = {}
    builtins.TABLE = table
    try:
        list(user_file._check(recorded, "mine.py", "numpy", ("loss",), 0))
    finally:
        del builtins.TABLE
    written = {key: str(float(value)) for key, value in table.items()}  # some are infinite
    forged = (
        f"import numpy as np\nTABLE = {written}\ndef loss(logits, targets):\n"
        f"    return np.float64(TABLE[{key}])"
    )
    assert grading.grade("numpy", [forged], "loss")[0]  # with the public draws
    cells = [forged, "grading.points('loss')"]
    notebook = {"cells": [{"cell_type": "code", "source": source} for source in cells]}
    assert not grading.grade_notebook(notebook)["loss"][0]


# Correct functions that are written in another way than the solutions.
OTHER_STYLES = {
    "gates in one product": (
        "torch",
        "def lstm(x, state, params):\n    h, c = state\n"
        "    products = [x @ params[f'W_x{g}'] + h @ params[f'W_h{g}'] for g in 'ifoc']\n"
        "    b = torch.cat([params[f'b_{g}'] for g in 'ifoc'])\n"
        "    i, f, o, g = (torch.cat(products, 1) + b).chunk(4, 1)\n"
        "    c = f.sigmoid() * c + i.sigmoid() * g.tanh()\n    return o.sigmoid() * c.tanh(), c",
    ),
    "tensordot": (
        "numpy",
        "def faster_logits(tokens, h, params):\n    states = []\n"
        "    for x in np.take(params['W_xh'] + params['b_h'], tokens.T, axis=0):\n"
        "        h = np.tanh(x + np.dot(h, params['W_hh']))\n        states.append(h)\n"
        "    states = np.vstack(states)\n"
        "    return np.tensordot(states, params['W_hq'], axes=1) + params['b_q']",
    ),
    "types": (
        "numpy",
        "from typing import Callable\nSMALLEST: float = -1e9\n"
        "exp: Callable[[np.ndarray], np.ndarray] = np.exp\n"
        "def next_probabilities(logits: np.ndarray, temperature: float, top_p) -> np.ndarray:\n"
        "    z = (logits - logits.max()) / temperature\n    order = np.argsort(-z)\n"
        "    p: np.ndarray = exp(z) / exp(z).sum()\n"
        "    before = np.cumsum(p[order]) - p[order]\n"
        "    z[order] = np.where(before < top_p, z[order], SMALLEST)\n"
        "    return exp(z) / exp(z).sum()",
    ),
    "condition": (
        "tensorflow",
        "def clip(grads: dict[str, tf.Tensor], theta: float):\n"
        "    norm = tf.sqrt(tf.add_n([tf.reduce_sum(g**2) for g in grads.values()]))\n"
        "    scale = tf.cond(norm > theta, lambda: theta / norm, lambda: tf.ones_like(norm))\n"
        "    return {name: scale * g for name, g in grads.items()}, norm",
    ),
    "if": (
        "mxnet",
        "def clip(grads, theta):\n"
        "    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))\n"
        "    if norm > theta:\n        grads = {k: g * (theta / norm) for k, g in grads.items()}\n"
        "    return grads, norm",
    ),
    "tree": (
        "jax",
        "def clip(grads, theta):\n"
        "    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree_util.tree_leaves(grads)))\n"
        "    factor = jnp.where(norm > theta, theta / norm, 1.0)\n"
        "    return jax.tree.map(lambda g: factor * g, grads), norm",
    ),
    "other parameters": (
        "numpy",
        "def encode(ids, p):\n    return np.eye(p['b_q'].size, dtype=p['b_q'].dtype)[ids]",
    ),
    "float32 constant": (
        "tensorflow",
        "def attend(hiddens, params):\n    q, h = hiddens[-1] @ params['W_a'], hiddens[:-1]\n"
        "    size = tf.cast(tf.shape(h)[-1], tf.float32)\n"
        "    w = tf.nn.softmax(tf.einsum('tbh,bh->tb', h, q) / tf.sqrt(size), axis=0)\n"
        "    return tf.einsum('tb,tbh->bh', w, h), w",
    ),
    "sorted pairs": (
        "numpy",
        "def best_run(histories):\n"
        "    pairs = [(e.valid_loss, name) for name in histories for e in histories[name]]\n"
        "    return sorted(pairs)[0][1]",
    ),
}


@pytest.mark.parametrize("style", OTHER_STYLES)
def test_correct_functions_in_another_style_get_the_point(backend_names, style):
    backend, source = OTHER_STYLES[style]
    require_tested(backend_names, backend)
    name = re.search(r"def (\w+)", source)[1]
    is_right, message = grading.grade(backend, [imports(backend), source], name)
    assert is_right, message


READS_ALL = """
def predict(model, prefix, num_preds, choose_token):
    tokens = list(prefix)
    for _ in range(num_preds):
        start = init_state(1, model.options)
        logits, _ = model.forward({tensor}([tokens]), start, model.params, model.options)
        tokens.append(choose_token(logits[-1]{array}))
    return tokens
"""
NEW_ARRAYS = """
def sgd(params, grads, slots, update):
    return {name: params[name] - update.lr * grads[name] for name in params}, slots
"""
# Functions that are correct, but costly.
COSTLY = {
    "all tokens": ("numpy", READS_ALL.format(tensor="np.array", array=""), "reads 230 tokens"),
    "graph": (
        "torch", READS_ALL.format(tensor="torch.tensor", array=".detach().numpy()"), "no_grad"
    ),
    "new arrays": ("numpy", NEW_ARRAYS, "makes new tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_costly_functions_get_the_point_and_a_remark(backend_names, name):
    backend, source, remark = COSTLY[name]
    require_tested(backend_names, backend)
    function = re.search(r"def (\w+)", source)[1]
    is_right, message = grading.grade(backend, [imports(backend), source], function)
    assert is_right, message
    assert remark in message
    solution = solutions(backend)[function][1]
    assert "Remark" not in grading.grade(backend, [imports(backend), solution], function)[1]


def test_verdict_waits_for_an_answer(monkeypatch):
    names = {"In": [imports("numpy"), solutions("numpy")["sgd"][1].replace("sgd", "suspect")]}
    exec("\n".join(names["In"]), names)
    verdict = functools.partial(grading.verdict, registry.load("numpy"), sgd=names["suspect"])
    monkeypatch.setattr(grading, "POINTS", {"sgd": 1})
    assert verdict("").startswith("Write your answer")
    assert verdict("line 3").startswith("sgd: equal to the reference")
    monkeypatch.setattr(grading, "POINTS", {})  # a notebook with solutions grades nothing
    assert verdict("").startswith("sgd: equal to the reference")


def test_bugs_are_not_in_functions_to_write():
    for lesson in ("build", "gates"):
        text = (lessons.prose.LESSONS / f"{lesson}.md").read_text(encoding="utf-8")
        shown = {lessons.BUGS[name]["function"] for name in re.findall(r"::: bug (.*)", text)}
        assert shown
        assert not shown & {*solutions("numpy", lesson)}


def test_functions_to_write_have_hint_and_points():
    for backend in registry.BUILTIN_BACKENDS:
        functions, sources = {}, []
        for lesson in lessons.LESSONS:
            functions |= solutions(backend, lesson)
            copy = lessons.cells(lessons.read_parts(lesson), backend, student=True)
            sources += [cell.source for cell in copy]
        for name, (stub, _) in functions.items():
            (index,) = (n for n, source in enumerate(sources) if stub in source)
            task, hint = sources[index - 1].split("<summary>Hint</summary>")
            assert f"**Write `{name}`.**" in task
            assert len(hint.split()) > 10
            line, points = sources[index + 1].splitlines()
            assert line == f"{name} = {GRADING}installed, {name})"
            assert points == f"grading.points({name!r})"
            assert notebooks.metadata(sources[index])["nbgrader"]["grade_id"] == f"write-{name}"
            assert notebooks.metadata(sources[index + 1])["nbgrader"]["points"] == 1
        missing = {*grading.GRADED, *grading.MADE_UP} - {*functions}
        assert missing == (
            set() if backend == "numpy" else {"rnn_backward", "loss_backward", "bptt"}
        )


def test_bugs_in_lessons_match_the_backend_sources():
    for bug in lessons.BUGS.values():
        for backend in registry.BUILTIN_BACKENDS:
            files = [CLONE / "backends" / backend / name for name in ("scratch.py", "cells.py")]
            source = "".join(path.read_text(encoding="utf-8") for path in files)
            # This call raises an error if the source does not contain the old code.
            mistakes.change_source(source, bug["function"], bug.get(backend) or bug["all"])


# nbgrader grades four submissions: correct, wrong, empty and forged.

WRONG = (
    "encode",
    "rnn",
    "loss",
    "lstm",
    "adam",
    "faster_logits",
)  # incorrect in the "wrong" submission


def nbgrader(course, *arguments):
    """Run nbgrader in the folder `course`; check that it succeeds."""
    env = {**os.environ, **notebooks.ENVIRONMENT}
    # nbgrader must be able to find the `alembic` program, which is installed next to Python.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    program = ("-c", "from nbgrader.apps.nbgraderapp import main; main()")
    command = [sys.executable, *program, *arguments]
    result = subprocess.run(command, cwd=course, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.student
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lesson", lessons.LESSONS)
def test_submissions_are_graded(builtin_name, lesson, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed")
    import nbformat
    from nbgrader.api import Gradebook

    name = f"{builtin_name}-{lesson}{notebooks.STUDENT}"
    functions = solutions(builtin_name, lesson)
    mistaken_functions = [name for name in functions if name in WRONG]
    shutil.copy(CLONE / "notebooks" / "support" / "nbgrader_config.py", tmp_path)
    source = tmp_path / "source" / lesson
    source.mkdir(parents=True)
    nbformat.write(notebooks.compose(name), source / f"{name}.ipynb")
    nbgrader(tmp_path, "generate_assignment", lesson, "--create")
    released = tmp_path / "release" / lesson / f"{name}.ipynb"
    assert "raise NotImplementedError" in released.read_text(encoding="utf-8")
    students = ("right", "wrong", "empty", "forged")
    for student in students:
        submitted = tmp_path / "submitted" / student / lesson / released.name
        submitted.parent.mkdir(parents=True)
        notebook = json.loads(released.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if student in ("right", "wrong") and cell["cell_type"] == "code":
                text = written(text, builtin_name, lesson)
                for function in mistaken_functions if student == "wrong" else ():
                    solution = functions[function][1]
                    old, new = next(pair[:2] for pair in FREQUENT[function] if pair[0] in solution)
                    text = text.replace(solution, solution.replace(old, new))
            if student == "forged" and "from rnn_scratch.support import" in text:
                text += "\ngrading.points = lambda name: 1\nopen('executed', 'w')"
            cell["source"] = text
        submitted.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader(tmp_path, "autograde", lesson, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as gradebook:
        scores = {student: gradebook.find_submission(lesson, student).score for student in students}
    assert not [*tmp_path.rglob("executed")]
    num_functions = len(functions)
    expected = (num_functions, num_functions - len(mistaken_functions), 0, 0)
    assert scores == dict(zip(students, expected))
