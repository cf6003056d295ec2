"""`rnn-scratch check FILE` judges the pieces of a file that contains the book's whole chapter.

The sources below were written for these tests, with the interfaces of the book's functions.
"""

from pathlib import Path

import pytest
from helpers import require_tested, run_in_process

TORCH = """
from d2l import torch as d2l
import math
import torch
from torch.nn import functional as F

train_iter, vocab = d2l.load_data_time_machine(32, 35)

def get_params(vocab_size, num_hiddens, device):
    sizes = [(vocab_size, num_hiddens), (num_hiddens, num_hiddens), num_hiddens]
    sizes += [(num_hiddens, vocab_size), vocab_size]
    draw = lambda size: 0.01 * d2l.randn(size) if isinstance(size, tuple) else d2l.zeros(size)
    return [draw(size).to(device).requires_grad_() for size in sizes]

def init_rnn_state(batch_size, num_hiddens, device):
    return d2l.zeros((batch_size, num_hiddens), device=device),

def rnn(inputs, state, params):
    a, b, c, d, e = params
    W_xh, W_hh, b_h, W_hq, b_q = a, b, c, d, e
    hidden, logits = state[0], []
    for x in inputs:
        hidden = d2l.tanh(x @ W_xh + hidden @ W_hh + b_h)
        logits.append(hidden @ W_hq + b_q)
    return d2l.concat(logits), (hidden,)

class RNNModelScratch:
    def __init__(self, vocab_size, num_hiddens, device, get_params, init_state, forward_fn):
        self.sizes, self.init_state = (vocab_size, num_hiddens), init_state
        self.params, self.run = get_params(vocab_size, num_hiddens, device), forward_fn

    def __call__(self, X, state):
        return self.run(F.one_hot(X.T, self.sizes[0]).float(), state, self.params)

def predict_ch8(prefix, num_preds, net, vocab, device):
    state, ids = net.begin_state(1, device), [vocab[prefix[0]]]
    for step in range(1, len(prefix) + num_preds):
        logits, state = net(d2l.tensor([[ids[-1]]]), state)
        ids.append(vocab[prefix[step]] if step < len(prefix) else int(logits.argmax()))
    return "".join(vocab.idx_to_token[i] for i in ids)

def grad_clipping(net, theta):
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in net.params))
    for p in net.params:
        p.grad *= min(1, theta / (norm or 1))

def train_epoch_ch8(net, train_iter, loss, updater, device, use_random_iter):
    state, timer, sums = None, d2l.Timer(), d2l.Accumulator(2)
    for X, Y in train_iter:
        if use_random_iter or state is None:
            state = net.begin_state(batch_size=X.shape[0], device=device)
        else:
            state = tuple(s.detach() for s in state)
        logits, state = net(X, state)
        l = loss(logits, Y.T.reshape(-1)).mean()
        l.backward()
        grad_clipping(net, 1)
        updater(batch_size=1)
        sums.add(l * d2l.size(Y), d2l.size(Y))
    return math.exp(sums[0] / sums[1]), sums[1] / timer.stop()

train_epoch_ch8(None, train_iter, None, None, d2l.try_gpu(), False)
"""
TENSORFLOW = """
from d2l import tensorflow as d2l
import math
import tensorflow as tf

num_hiddens = 512

def get_params(vocab_size, num_hidden):
    W_xh = tf.Variable(d2l.normal((vocab_size, num_hidden), 0, 0.01, tf.float32))
    W_hh = tf.Variable(d2l.normal((num_hidden, num_hidden), 0, 0.01, tf.float32))
    W_hq = tf.Variable(d2l.normal((num_hidden, vocab_size), 0, 0.01, tf.float32))
    b_h, b_q = tf.Variable(d2l.zeros(num_hidden)), tf.Variable(d2l.zeros(vocab_size))
    return [W_xh, W_hh, b_h, W_hq, b_q]

def grad_clipping(grads, theta):
    norm = tf.cast(tf.sqrt(sum(tf.reduce_sum(grad ** 2) for grad in grads)), tf.float32)
    return [grad * (tf.minimum(norm, theta) / (norm or 1)) for grad in grads]

def train_epoch_ch8(net, train_iter, loss, updater, use_random_iter):
    state, metric = None, d2l.Accumulator(2)
    for X, Y in train_iter:
        if state is None or use_random_iter:
            state = net.begin_state(batch_size=X.shape[0])
        with tf.GradientTape() as tape:
            logits, state = net(X, state)
            l = loss(d2l.reshape(tf.transpose(Y), -1), logits)
        params = net.trainable_variables
        updater.apply_gradients(zip(grad_clipping(tape.gradient(l, params), 1), params))
        metric.add(l * d2l.size(Y), d2l.size(Y))
    return math.exp(metric[0] / metric[1]), metric[1]
"""
CLASSES = """
from d2l import torch as d2l
import torch
from torch import nn
from torch.nn import functional as F

class RNNScratch(d2l.Module):
    def __init__(self, num_inputs, num_hiddens, sigma=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = nn.Parameter(sigma * d2l.randn(num_inputs, num_hiddens))
        self.W_hh = nn.Parameter(sigma * d2l.randn(num_hiddens, num_hiddens))
        self.b_h = nn.Parameter(d2l.zeros(num_hiddens))

@d2l.add_to_class(RNNScratch)
def forward(self, inputs, state=None):
    hidden = d2l.zeros((inputs.shape[1], self.num_hiddens)) if state is None else state[0]
    outputs = []
    for x in inputs:
        hidden = d2l.tanh(x @ self.W_xh + hidden @ self.W_hh + self.b_h)
        outputs.append(hidden)
    return outputs, hidden

class RNNLMScratch(d2l.Classifier):
    def __init__(self, rnn, vocab_size, lr=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.W_hq = nn.Parameter(self.rnn.sigma * d2l.randn(self.rnn.num_hiddens, self.vocab_size))
        self.b_q = nn.Parameter(d2l.zeros(self.vocab_size))

    def forward(self, X, state=None):
        outputs, _ = self.rnn(F.one_hot(X.T, self.vocab_size).type(torch.float32), state)
        return d2l.stack([h @ self.W_hq + self.b_q for h in outputs], 1)

@d2l.add_to_class(d2l.Trainer)
def clip_gradients(self, grad_clip_val, model):
    params = [*model.parameters()]
    norm = torch.sqrt(sum((p.grad**2).sum() for p in params))
    if norm > grad_clip_val:
        for p in params:
            p.grad[:] *= grad_clip_val / norm
"""
SOURCES = {"torch": TORCH, "tensorflow": TENSORFLOW, "classes": CLASSES}
# The source, a change, the function that it concerns, its outcome, and part of the output.
CASES = {
    "state detached in place": (
        "torch", ("state = tuple(s.detach() for s in state)", "[s.detach_() for s in state]"),
        "train_epoch_ch8", "right", "contains the book's erratum 11",
    ),
    "state carried": (
        "torch", ("use_random_iter or ", ""), "train_epoch_ch8", "DIFFERS",
        "a known mistake: state carried in random sampling",
    ),
    "targets": (
        "torch", ("Y.T.reshape(-1)", "Y.reshape(-1)"), "train_epoch_ch8", "DIFFERS",
        "sequential, perplexity is",
    ),
    "gradients not clipped": (
        "torch", ("        grad_clipping(net, 1)\n", ""), "train_epoch_ch8", "DIFFERS",
        "a known mistake: the gradients not clipped",
    ),
    "recorded operations": ("torch", None, "predict_ch8", "right", "the book's erratum 15"),
    "operations not recorded": (
        "torch", ("def predict_ch8", "@torch.no_grad()\ndef predict_ch8"), "predict_ch8", "right",
        "contains the book's erratum 13: an empty prefix raises an IndexError",
    ),
    "one token too many": (
        "torch", ("range(1, len(prefix)", "range(0, len(prefix)"), "predict_ch8", "DIFFERS",
        "tokens after 1 of the prefix",
    ),
    "inputs not transposed": (
        "torch", ("one_hot(X.T", "one_hot(X"), "RNNModelScratch",
        "cannot be checked", "By its name, it is a form of `rnn`, but it raises RuntimeError",
    ),
    "biases that are not zero": (
        "torch", ("d2l.zeros(size)", "d2l.ones(size)"), "get_params", "DIFFERS", "b_h[0] is 1 inst",
    ),
    "global": (
        "tensorflow", ("(num_hidden, vocab_size)", "(num_hiddens, vocab_size)"), "get_params",
        "DIFFERS", "contains the book's erratum 7: it reads the global `num_hiddens` instead",
    ),
    "TensorFlow": ("tensorflow", None, "train_epoch_ch8", "right", "float32"),
    "targets in TensorFlow": (
        "tensorflow", ("reshape(tf.transpose(Y),", "reshape(Y,"), "train_epoch_ch8", "DIFFERS",
        "contains the book's erratum 1: targets are batch-major",
    ),
    "tape": (
        "tensorflow", ("Tape()", "Tape(persistent=True)"), "train_epoch_ch8", "right", "erratum 14",
    ),
    "NumPy": (
        "tensorflow", ("grad ** 2)", "grad ** 2).numpy()"), "grad_clipping", "right", "erratum 9",
    ),
    "classes": ("classes", None, "RNNLMScratch", "right", "(rnn): tokens (B, T)"),
    "other class": ("classes", None, "RNNScratch", "right", "one-hot inputs (T, B, V)"),
    "method": ("classes", None, "clip_gradients", "right", "`clip` with a model's `params`"),
    "bias left out": (
        "classes", (" + self.b_h", ""), "RNNScratch", "DIFFERS", "without its bias",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_without_children")
@pytest.mark.parametrize("name", CASES)
def test_piece_of_the_chapter_is_judged(backend_names, name, capsys):
    kind, change, function, outcome, message = CASES[name]
    require_tested(backend_names, "tensorflow" if kind == "tensorflow" else "torch")
    text = SOURCES[kind]
    if change:
        assert change[0] in text
        text = text.replace(*change)
    Path("mine.py").write_text(text, encoding="utf-8")
    out = run_in_process(capsys, "check", "mine.py").out
    assert f"{function:<16} {outcome}" in out, out
    assert message in out, out


@pytest.mark.usefixtures("_without_children")
def test_whole_chapter_is_right(backend_names, capsys):
    require_tested(backend_names, "torch")
    Path("mine.py").write_text(TORCH, encoding="utf-8")
    out = run_in_process(capsys, "check", "mine.py").assert_exit().out
    assert out.count(" right, in") == 7
