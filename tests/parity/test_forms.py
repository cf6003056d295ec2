"""`rnn-scratch check FILE` judges code in the forms of the book and of PyTorch users."""

from functools import partial
from pathlib import Path

import pytest
from helpers import require_tested, run_in_process, run_subprocess

SOURCES = {
    "book": """import torch
from torch.nn import functional as F

def rnn(inputs, state, params):
    W_xh, W_hh, b_h, W_hq, b_q = params
    H, = state
    out = []
    for X in inputs:
        H = torch.tanh(X @ W_xh + H @ W_hh + b_h)
        out.append(H @ W_hq + b_q)
    return torch.cat(out, dim=0), (H,)

def grad_clipping(net, theta):
    ps = net.params
    norm = torch.sqrt(sum((p.grad ** 2).sum() for p in ps))
    if norm > theta:
        for p in ps:
            p.grad[:] *= theta / norm

def sgd(params, lr, batch_size):
    with torch.no_grad():
        for p in params:
            p -= lr * p.grad / batch_size
            p.grad.zero_()

def init_rnn_state(batch_size, num_hiddens, device):
    return (torch.zeros((batch_size, num_hiddens), device=device),)
""",
    "book_lstm": """import torch
def lstm(inputs, state, params):
    [W_xi, W_hi, b_i, W_xf, W_hf, b_f, W_xo, W_ho, b_o, W_xc, W_hc, b_c, W_hq, b_q] = params
    (H, C) = state
    outs = []
    for X in inputs:
        I = torch.sigmoid(X @ W_xi + H @ W_hi + b_i)
        Fg = torch.sigmoid(X @ W_xf + H @ W_hf + b_f)
        O = torch.sigmoid(X @ W_xo + H @ W_ho + b_o)
        G = torch.tanh(X @ W_xc + H @ W_hc + b_c)
        C = Fg * C + I * G
        H = O * torch.tanh(C)
        outs.append(H @ W_hq + b_q)
    return torch.cat(outs), (H, C)
""",
    "camel_case": """import numpy as np
def lstmCell(xt, hPrev, cPrev, params):
    s = lambda g: 1/(1+np.exp(-(xt @ params["W_x"+g] + hPrev @ params["W_h"+g] + params["b_"+g])))
    g = np.tanh(xt @ params["W_xc"] + hPrev @ params["W_hc"] + params["b_c"])
    c = s("f")*cPrev + s("i")*g
    return s("o")*np.tanh(c), c
""",
    "with_outputs": """import numpy as np
def rnn_step(params, h, x):
    h = np.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
    return h, h @ params["W_hq"] + params["b_q"]
""",
    "columns": """import numpy as np
def rnn_cell_forward(xt, a_prev, parameters):
    Wax, Waa, ba = parameters["Wax"], parameters["Waa"], parameters["ba"]
    return np.tanh(Waa @ a_prev + Wax @ xt + ba)
""",
    "lists": """import numpy as np
def clip_gradients(grads, max_norm):
    total = np.sqrt(sum(np.sum(g**2) for g in grads))
    if total > max_norm:
        for g in grads:
            g *= max_norm / total
    return total
def sgd(params, grads, lr):
    for p, g in zip(params, grads):
        p -= lr * g
""",
    "step": """import torch
def step(inp, hidden, params):
    h = torch.tanh(inp @ params["W_xh"] + hidden @ params["W_hh"] + params["b_h"])
    return h @ params["W_hq"] + params["b_q"], h
def Loss(y_hat, y):
    return torch.nn.functional.cross_entropy(y_hat, y)
""",
    "tensorflow": """import tensorflow as tf
def rnn(inputs, state, params):
    W_xh, W_hh, b_h, W_hq, b_q = params
    H, = state
    outputs = []
    for X in inputs:
        H = tf.tanh(tf.matmul(X, W_xh) + tf.matmul(H, W_hh) + b_h)
        outputs.append(tf.matmul(H, W_hq) + b_q)
    return tf.concat(outputs, axis=0), (H,)
def grad_clipping(grads, theta):
    theta = tf.constant(theta, dtype=tf.float32)
    norm = tf.sqrt(sum(tf.reduce_sum(g ** 2).numpy() for g in grads))
    norm = tf.cast(norm, tf.float32)
    if norm > theta:
        return [g * theta / norm for g in grads]
    return list(grads)
""",
    "jax": """import jax, jax.numpy as jnp
def gru_step(params, h, x):
    z = jax.nn.sigmoid(x @ params["W_xz"] + h @ params["W_hz"] + params["b_z"])
    r = jax.nn.sigmoid(x @ params["W_xr"] + h @ params["W_hr"] + params["b_r"])
    n = jnp.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
    return z * h + (1 - z) * n
def sgd(params, grads, lr):
    return jax.tree_util.tree_map(lambda p, g: p - lr * g, params, grads)
""",
    "module": """import torch
from torch import nn
class CharRNN(nn.Module):
    def __init__(self, vocab_size, hidden_size):
        super().__init__()
        self.vocab_size = vocab_size
        self.rnn = nn.LSTM(vocab_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, vocab_size)
    def forward(self, x, hidden=None):
        x = nn.functional.one_hot(x, self.vocab_size).to(self.fc.weight.dtype)
        out, hidden = self.rnn(x, hidden)
        return self.fc(out), hidden
""",
    "embedding": """import torch
from torch import nn
class CharLM(nn.Module):
    def __init__(self, n_chars, emb_size, hidden_dim, n_layers=1, dropout=0.5):
        super().__init__()
        self.table = nn.Embedding(n_chars, emb_size)
        self.lstm = nn.LSTM(emb_size, hidden_dim, n_layers, dropout=dropout)
        self.out = nn.Linear(hidden_dim, n_chars)
    def forward(self, tokens, hidden=None):
        y, hidden = self.lstm(self.table(tokens), hidden)
        return self.out(y), hidden
""",
    "gate_modules": """import torch
from torch import nn
class MyLSTMCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.forget_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.input_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.output_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)
    def forward(self, x, state):
        h, c = state
        xh = torch.cat([h, x], 1)
        c = c * self.forget_gate(xh).sigmoid()
        c = c + self.input_gate(xh).sigmoid() * self.candidate(xh).tanh()
        return self.output_gate(xh).sigmoid() * c.tanh(), c
""",
    "object": """import numpy as np
class CharRNN:
    def __init__(self, vocab_size, hidden_size):
        self.Wxh = np.random.randn(hidden_size, vocab_size) * 0.01
        self.Whh = np.random.randn(hidden_size, hidden_size) * 0.01
        self.Why = np.random.randn(vocab_size, hidden_size) * 0.01
        self.bh = np.zeros((hidden_size, 1))
        self.by = np.zeros((vocab_size, 1))
    def step(self, x, h):
        h = np.tanh(self.Wxh @ x + self.Whh @ h + self.bh)
        return self.Why @ h + self.by, h
""",
    "packed": """import numpy as np
def sigmoid(x):
    return 1 / (1 + np.exp(-x))
def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x @ Wx + prev_h @ Wh + b
    i, f, o, g = a[:, :H], a[:, H:2*H], a[:, 2*H:3*H], a[:, 3*H:]
    c = sigmoid(f) * prev_c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c
def lstm_forward(x, h0, Wx, Wh, b):
    h, c, hs = h0, np.zeros_like(h0), []
    for t in range(x.shape[1]):
        h, c = lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        hs.append(h)
    return np.stack(hs, 1)
""",
    "optimizer_classes": """import numpy as np
class SGDOptimizer:
    def __init__(self, params, lr=0.1, momentum=0.0):
        self.params, self.lr, self.momentum = params, lr, momentum
        self.velocity = [np.zeros_like(p) for p in params]
    def step(self, grads):
        for p, g, v in zip(self.params, grads, self.velocity):
            v *= self.momentum
            v += g
            p -= self.lr * v
class Adam:
    def __init__(self, lr=0.001, betas=(0.9, 0.999), eps=1e-8):
        self.lr, self.betas, self.eps, self.m, self.v, self.t = lr, betas, eps, {}, {}, 0
    def update(self, params, grads):
        self.t += 1
        b1, b2 = self.betas
        for k, g in grads.items():
            self.m[k] = b1 * self.m.get(k, 0) + (1 - b1) * g
            self.v[k] = b2 * self.v.get(k, 0) + (1 - b2) * g * g
            m, v = self.m[k] / (1 - b1**self.t), self.v[k] / (1 - b2**self.t)
            params[k] -= self.lr * m / (np.sqrt(v) + self.eps)
""",
    "keras_function": """import keras
from keras import layers
def build_model(vocab_size, embedding_dim=128, rnn_units=512):
    return keras.Sequential([
        keras.Input(shape=(None,), dtype="int32"),
        layers.Embedding(vocab_size, embedding_dim),
        layers.LSTM(rnn_units, return_sequences=True),
        layers.Dense(vocab_size),
    ])
""",
    "tokens": """import numpy as np
def cell(x, h, W_xh, W_hh, b_h):
    return np.tanh(x @ W_xh + h @ W_hh + b_h)
def rnn_forward(tokens, h, params):
    emb, out = params["E"][tokens], []
    for t in range(tokens.shape[1]):
        h = cell(emb[:, t], h, params["W_xh"], params["W_hh"], params["b_h"])
        out.append(h @ params["W_hy"] + params["b_y"])
    return np.stack(out, 1), h
""",
    "cell_module": """import torch
from torch import nn
class RNNCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.i2h = nn.Linear(input_size, hidden_size)
        self.h2h = nn.Linear(hidden_size, hidden_size, bias=False)
    def forward(self, x, h):
        return torch.tanh(self.i2h(x) + self.h2h(h))
""",
    "scratch_class": """import torch
from torch import nn
class RNNScratch(nn.Module):
    def __init__(self, num_inputs, num_hiddens, sigma=0.01):
        super().__init__()
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))
    def forward(self, inputs, state=None):
        state, = state
        outs = []
        for X in inputs:
            state = torch.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outs.append(state)
        return outs, state
""",
    "flat": """import numpy as np
def cross_entropy(y_hat, y):
    y = np.asarray(y).reshape(-1)
    y_hat = y_hat - y_hat.max(1, keepdims=True)
    logs = y_hat - np.log(np.exp(y_hat).sum(1, keepdims=True))
    return -logs[np.arange(len(y)), y].mean()
""",
    "keras": """import keras
lstm = keras.layers.LSTM(8)
gru = keras.layers.GRU(7, reset_after=False)
class Net(keras.Model):
    def __init__(self, vocab_size, units):
        super().__init__()
        self.size = vocab_size
        self.gru = keras.layers.GRU(units, return_sequences=True, return_state=True)
        self.dense = keras.layers.Dense(vocab_size)
    def call(self, tokens, states=None, training=False):
        y, states = self.gru(keras.ops.one_hot(tokens, self.size), initial_state=states)
        return self.dense(y), states
""",
    "linen": """import jax
from flax import linen as nn
gru = nn.RNN(nn.GRUCell(8))
class CharLSTM(nn.Module):
    vocab_size: int
    hidden_size: int
    @nn.compact
    def __call__(self, tokens, carry):
        x = jax.nn.one_hot(tokens, self.vocab_size)
        carry, y = nn.RNN(nn.LSTMCell(self.hidden_size), return_carry=True)(x, initial_carry=carry)
        return nn.Dense(self.vocab_size)(y), carry
""",
    "nnx": """import jax.numpy as jnp
from flax import nnx
lstm = nnx.OptimizedLSTMCell(9, 6, rngs=nnx.Rngs(0))
class Cell(nnx.Module):
    def __init__(self, in_features, hidden_features, *, rngs):
        self.wx = nnx.Linear(in_features, hidden_features, rngs=rngs)
        self.wh = nnx.Linear(hidden_features, hidden_features, use_bias=False, rngs=rngs)
    def __call__(self, h, x):
        h = jnp.tanh(self.wx(x) + self.wh(h))
        return h, h
""",
    "optimizers": """import numpy as np


def adam(w, dw, m, v, t, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8):
    m = beta1 * m + (1 - beta1) * dw
    v = beta2 * v + (1 - beta2) * dw**2
    w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w, m, v


def momentum(params, grads, velocity, lr, beta):
    for i, (p, g) in enumerate(zip(params, grads)):
        velocity[i] = beta * velocity[i] + g
        p -= lr * velocity[i]
""",
}
# The source, a change (None: the source is right), the exit code and part of the output.
CASES = {
    "book": ("book", None, 0, "`forward` with one-hot inputs (T, B, V), the state as"),
    "book, no bias": ("book", (" + b_h)", ")"), 1, "the hidden layer without its bias"),
    "book, sign": ("book", ("p -= lr", "p += lr"), 1, "a step up the gradient"),
    "order of a list": (
        "book_lstm", ("[W_xi, W_hi, b_i, W_xf, W_hf, b_f", "[W_xf, W_hf, b_f, W_xi, W_hi, b_i"),
        0, "a list of parameters (W_xf, W_hf, b_f, W_xi",
    ),
    "book, gates": (
        "book_lstm", ("Fg * C + I * G", "I * C + Fg * G"), 1, "input gate and forget gate swapped"
    ),
    "forget bias": ("book_lstm", (" + b_f)", " + b_f + 1)"), 1, "a forget bias of +1"),
    "camel case": ("camel_case", None, 0, "`lstm` with one-hot inputs, the state as two tensors"),
    "columns": ("columns", None, 0, "column vectors"),
    "lists in place": ("lists", None, 0, "`clip` with a list of gradients"),
    "each element": (
        "lists",
        ("        for g in grads:\n            g *= max_norm / total",
         "        for g in grads:\n            np.clip(g, -max_norm, max_norm, out=g)"),
        1, "clip of each element",
    ),
    "fixed theta": (
        "lists", ("max_norm / total\n", "1.0 / total\n"), 1, "differs from the reference"
    ),
    "capital": ("step", None, 0, "Loss             right"),
    "softmax twice": (
        "step", ("cross_entropy(y_hat, y)", "cross_entropy(y_hat.softmax(1), y)"), 1,
        "softmax before the cross-entropy",
    ),
    "flat targets": ("flat", None, 0, "time-major targets (T*B,)"),
    "one of two forms": ("flat", (".mean()", ".sum()"), 1, "sum instead of mean"),
    "two forms": (
        "flat", (".mean()", ".mean() * 1.7"), 2,
        "It could be `loss` with logits, targets: targets (B, T), or `loss` with logits, targets: "
        "time-major targets (T*B,), and it is wrong in both. Name its parameters (logits, targets)",
    ),
    "float32": ("tensorflow", None, 0, "`clip` with a list of gradients, float32"),
    "outputs too": ("with_outputs", None, 0, "`rnn` with one-hot inputs, the state as a tuple"),
    "outputs too, transposed": (
        "with_outputs", ('["W_hh"]', '["W_hh"].T'), 1, "W_hh transposed"
    ),
    "other order": ("jax", None, 0, "`gru` with one-hot inputs, the state as a tensor"),
    "update gate": (
        "jax", ("z * h + (1 - z) * n", "(1 - z) * h + z * n"), 1, "z and 1 - z swapped"
    ),
    "module": ("module", None, 0, "torch.nn.Module (lstm): tokens (B, T)"),
    "module without state": (
        "module", ("self.rnn(x, hidden)", "self.rnn(x)"), 1, "zeros instead of the initial state"
    ),
    "detached": ("module", ("self.fc(out)", "self.fc(out.detach())"), 1, "in `gradients`"),
    "embedding": ("embedding", None, 0, "tokens (T, B), the state as tensors (2, B, H)"),
    "embedding, ignored": (
        "embedding", ("self.lstm(self.table", "self.lstm(0 * self.table"), 1, "CharLM "
    ),
    "gate modules": ("gate_modules", None, 0, "`lstm` of a torch.nn.Module (lstm): one-hot inputs"),
    "gate modules, swapped": (
        "gate_modules", ("c * self.forget_gate", "c * self.input_gate"), 1, "MyLSTMCell       DIFF"
    ),
    "object": ("object", None, 0, "`step` of a class (rnn): one-hot inputs, the state as a tensor"),
    "object, transposed": ("object", ("self.Whh @", "self.Whh.T @"), 1, "W_hh transposed"),
    "packed": ("packed", None, 0, "separate parameters, gates i, f, o, c"),
    "packed, no tanh": ("packed", ("* np.tanh(c), c", "* c, c"), 1, "no tanh of the cell state"),
    "packed, from zeros": ("packed", None, 0, "the state as h, with c zero"),
    "classes": ("optimizer_classes", None, 0, "`sgd` as a class: `step`, a list"),
    "classes, no bias correction": (
        "optimizer_classes", (" / (1 - b2**self.t)", ""), 1, "no bias correction of v"
    ),
    "Keras function": ("keras_function", None, 0, "tokens (B, T), from a state of zeros"),
    "Keras function, backwards": (
        "keras_function", ("return_sequences=True", "return_sequences=True, go_backwards=True"), 1,
        "build_model      DIFFERS",
    ),
    "embedding in NumPy": ("tokens", None, 0, "tokens (B, T), the state as a tensor"),
    "embedding in NumPy, swapped": (
        "tokens", ('params["W_xh"], params["W_hh"]', 'params["W_hh"], params["W_xh"]'), 1, "DIFFERS"
    ),
    "tiny number": (
        "lists", ("max_norm / total\n", "max_norm / (total + 1e-12)\n"), 0, "clip_gradients   right"
    ),
    "cell module": ("cell_module", None, 0, "`rnn` of a torch.nn.Module (rnn)"),
    "cell with relu": ("cell_module", ("torch.tanh", "torch.relu"), 1, "ReLU instead of tanh"),
    "class": ("scratch_class", None, 0, "one-hot inputs (T, B, V), the state as a tuple"),
    "class, transposed": ("scratch_class", ("self.W_hh +", "self.W_hh.T +"), 1, "W_hh transposed"),
    "Keras": ("keras", None, 0, "`forward` of a keras.Layer (gru-after): tokens (B, T), the state"),
    "Keras layer": ("keras", None, 0, "keras.Layer (gru): one-hot inputs (B, T, V), the state"),
    "Keras, state": (
        "keras", ("initial_state=states", "initial_state=None"), 1, "instead of the initial state"
    ),
    "Keras, gradient": (
        "keras", ("dense(y)", "dense(keras.ops.stop_gradient(y))"), 1, "in `gradients`"
    ),
    "linen": ("linen", None, 0, "flax.linen.Module (lstm): tokens (B, T), the state as a tuple (c"),
    "linen, state": (
        "linen", ("initial_carry=carry", "initial_carry=jax.tree.map(lambda s: 0 * s, carry)"), 1,
        "zeros instead of the initial state",
    ),
    "nnx": ("nnx", None, 0, "`lstm` of a flax.nnx.Module (lstm): one-hot inputs, the state as a"),
    "nnx, ReLU": ("nnx", ("jnp.tanh(", "jnp.maximum(0, "), 1, "ReLU instead of tanh"),
    "nnx, bias": (
        "nnx", ("OptimizedLSTMCell", "GRUCell"), 2, "it has no bias inside the reset gate"
    ),
    "optimizers": ("optimizers", None, 0, "params, grads, m, lr, beta1: lists"),
    "dampened": ("optimizers", ("] + g", "] + (1 - beta) * g"), 1, "dampened momentum"),
    "no t": ("optimizers", ("(1 - beta2**t)", "1"), 1, "no bias correction of v"),
    "crash": ("book", ("X @ W_xh", "X @ W_x"), 2, "NameError: name 'W_x' is not defined"),
}  # fmt: skip


# Frameworks compile many functions for these.
SLOW = {
    "Keras function",
    "Keras function, backwards",
    "Keras",
    "Keras layer",
    "Keras, gradient",
    "linen",
    "linen, state",
    "nnx",
    "nnx, ReLU",
}


@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.frameworks] * (name in SLOW)) for name in CASES]
)
def test_form_is_recognized_and_judged(backend_names, name, capsys):
    source, change, code, message = CASES[name]
    text = SOURCES[source]
    frameworks = {"torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow", "jax": "jax"}
    require_tested(backend_names, *(b for f, b in frameworks.items() if f"import {f}" in text))
    if change:
        assert change[0] in text
        text = text.replace(*change)
    Path("mine.py").write_text(text, encoding="utf-8")
    result = run_in_process(capsys, "check", "mine.py").assert_exit(code)
    assert message in " ".join(result.out.split(" ")), result.out


HELPERS = """
import numpy as np


def rnn_backward(d_next_state, next_state, x, state, params):
    (d,), (new,), (h,) = d_next_state, next_state, state
    dz = d * (1 - new**2)
    grads = {"W_xh": x.T @ dz, "W_hh": h.T @ dz, "b_h": dz.sum(0)}
    return dz @ params["W_xh"].T, (dz @ params["W_hh"].T,), grads


def init_lstm_state(batch_size, num_hiddens):
    return np.zeros((batch_size, num_hiddens)), np.zeros((batch_size, num_hiddens))


def train_rnn(a, b):
    return a, b


def stop(x):
    return x
"""


CALLERS = """
import numpy as np


def grad_clipping(grads, theta):
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    return [g * min(1, theta / (norm + 1e-6)) for g in grads]


def sgd(params, grads, lr):
    for p, g in zip(params, grad_clipping(grads, 1e300)):
        p -= lr * g


def momentum(params, grads, velocity, lr, beta):
    for i, (p, g) in enumerate(zip(params, grad_clipping(grads, 5.0))):
        velocity[i] = beta * velocity[i] + g
        p -= lr * velocity[i]
"""


@pytest.mark.usefixtures("_without_children")
def test_wrong_function_of_another_form_remains_defined(capsys):
    Path("mine.py").write_text(CALLERS)
    out = run_in_process(capsys, "check", "mine.py").assert_exit(1).out
    assert "NameError" not in out
    assert "sgd              right" in out
    assert "Correct `grad_clipping` first." in out.partition("`momentum` (mine.py")[2]


@pytest.mark.usefixtures("_without_children")
def test_other_functions_are_not_mistaken(capsys):
    Path("mine.py").write_text(HELPERS)
    out = run_in_process(capsys, "check", "mine.py").assert_exit().out
    assert [line.split()[0] for line in out.splitlines() if " right, in" in line] == [
        "rnn_backward",
        "init_lstm_state",
    ]


@pytest.mark.usefixtures("_without_children")
def test_layer_without_a_state_is_refused(backend_names, capsys):
    require_tested(backend_names, "tensorflow")
    Path("mine.py").write_text("import keras\ndense = keras.layers.Dense(8)")
    result = run_in_process(capsys, "check", "mine.py").assert_exit(2)
    assert "to outputs and a state: it raises TypeError: its call has no argument" in result.out


@pytest.mark.frameworks  # takes half a minute
def test_file_that_trains_is_stopped():
    loop = "import rnn_scratch.check.source_file as u; u.CALL_SECONDS = 0.5\nwhile True: pass"
    Path("mine.py").write_text(loop)
    message = "mine.py does not return within 30 s.", 'below `if __name__ == "__main__":`'
    run_subprocess("check", "mine.py").assert_error(*message)


def test_long_expression_is_explained(capsys):
    Path("mine.py").write_text(f"x = {'+'.join(['1'] * 30_000)}")
    run = partial(run_in_process, capsys, "check", "mine.py")
    run().assert_error("an expression with too many parts for Python.\nSplit it")
