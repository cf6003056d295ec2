"""What each optimization of `fast` gains: `python tests/tools/optimizations.py FILE`.

Each is undone by itself, in a copy of the backend. The copy and the original take turns in one
process; the gain is the median, over the turns, of the time without the optimization relative to
the time with it. The cell rnn, one thread, float32, the chapter's sizes, unless a Case says
otherwise. The gains go into the record FILE and into the comments of the backends.
"""

import importlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
from make.optimizations import Gain, Gains, V

from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, Options, Update
from rnn_scratch.runs import decoding
from rnn_scratch.show import source_code
from rnn_scratch.system import host, processes, records

B, T = 32, 35
SIZES = (64, 512)  # hidden units
SECONDS, TURNS = 6.0, 7  # for each measurement: at least
LARGE = 5000  # a vocabulary of Chinese, say
COUNTER = count()


class Case(NamedTuple):
    """An optimization: what undoes it, and what it makes faster."""

    name: str  # as in the comment in the backend's code
    changes: tuple[tuple[str, str, str], ...]  # file, text, the text in its place
    what: str = "training"  # or "generation"
    cell: str = "rnn"  # "lstm" for what makes the gated cells faster
    threads: int = 1
    vocabulary: int = V


NUMPY = (
    Case("Rows instead of products", (
        ("fast.py",
         'return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]',
         'return scratch.encode(tokens, {"b_q": params["b_q"]}) @ (W_x + b)'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]',
         "return W_x[tokens] + b"),
    )),
    Case("One output layer", (
        ("fast.py", 'logits = outputs @ params["W_hq"] + params["b_q"]  # (T*B, V)',
         'logits = np.concatenate([h @ params["W_hq"] + params["b_q"] for h in hiddens])'),
        ("fast.py", '(d_logits @ params["W_hq"].T).reshape(hiddens.shape)',
         'np.stack([d @ params["W_hq"].T for d in d_logits.reshape(*hiddens.shape[:2], -1)])'),
    )),
    Case("One product per gradient", (
        ("fast.py", "rows_of(before).T @ rows_of(dz)",
         "sum(a.T @ b for a, b in zip(before, dz))"),
        ("fast.py", '"W_hq": outputs.T @ d_logits,',
         '"W_hq": sum(a.T @ b for a, b in '
         "zip(hiddens, d_logits.reshape(*hiddens.shape[:2], -1))),"),
    )),
    Case("Sums of sorted rows", (("fast.py", "if size <= 100:", "if True:"),), vocabulary=LARGE),
    Case("Gates in one product", (
        ("gated.py", "    h, c = h_0, c_0\n",
         "    h, c, parts = h_0, c_0, [W.copy() for W in np.split(W_h, 4, 1)]\n"),
        ("gated.py", "z = x + h @ W_h  # (B, 4H)",
         "z = x + np.concatenate([h @ W for W in parts], 1)"),
        ("gated.py", "    d_h, d_c = np.zeros_like(h_0), np.zeros_like(c_0)\n",
         "    d_h, d_c = np.zeros_like(h_0), np.zeros_like(c_0)\n"
         "    parts = [W.copy() for W in np.split(W_h, 4, 1)]\n"),
        ("gated.py", "        d_h = dz[t].reshape(len(h_0), -1) @ W_h.T\n",
         "        d_h = dz[t, :, 0] @ parts[0].T\n"
         "        for k in (1, 2, 3):\n"
         "            d_h += dz[t, :, k] @ parts[k].T\n"),
    ), cell="lstm"),
    Case("Coefficients at once", (
        ("gated.py",
         "    dz = np.stack(\n"
         "        (\n"
         "            new * i * (1 - i),\n"
         "            np.concatenate((c_0[None], cells[:-1])) * f * (1 - f),\n"
         "            outputs * o * (1 - o),\n"
         "            i * slope(new, options),\n"
         "        ),\n"
         "        2,\n"
         "    )  # (T, B, 4, H)\n"
         "    to_c = o * slope(outputs, options)\n",
         "    dz = np.empty((*i.shape[:2], 4, i.shape[2]), i.dtype)\n"),
        ("gated.py",
         "        d_c = d_c + d_h * to_c[t]\n"
         "        dz[t, :, :2] *= d_c[:, None]\n"
         "        dz[t, :, 2] *= d_h\n"
         "        dz[t, :, 3] *= d_c\n",
         "        d_c = d_c + d_h * o[t] * slope(outputs[t], options)\n"
         "        dz[t, :, 0] = d_c * new[t] * i[t] * (1 - i[t])\n"
         "        dz[t, :, 1] = d_c * (cells[t - 1] if t else c_0) * f[t] * (1 - f[t])\n"
         "        dz[t, :, 2] = d_h * outputs[t] * o[t] * (1 - o[t])\n"
         "        dz[t, :, 3] = d_c * i[t] * slope(new[t], options)\n"),
    ), cell="lstm"),
)  # fmt: skip
TORCH = (
    Case("Weights by columns", (
        ("fast.py", 'tensors["W_hq"].T.contiguous().T.requires_grad_()',
         'tensors["W_hq"].clone().requires_grad_()'),
        ("gated.py", "return W.T.contiguous().T if len(inputs) > 1 else W", "return W"),
    )),
    Case("One output layer", (
        ("fast.py", 'torch.addmm(params["b_q"], outputs, params["W_hq"]), (hiddens[-1],',
         'torch.cat([torch.addmm(params["b_q"], h, params["W_hq"]) for h in hiddens]), '
         "(hiddens[-1],"),
    )),
    Case("Rows instead of products", (
        ("fast.py",
         'F.embedding(tokens, (params["W_e"] @ W_x if "W_e" in params else W_x) + b)',
         'scratch.encode(tokens, {"b_q": params["b_q"]}) @ (W_x + b)'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'F.embedding(tokens, (params["W_e"] @ W_x if "W_e" in params else W_x) + b)',
         "F.embedding(tokens, W_x) + b"),
    )),
    Case("Hand-written backward pass", (
        ("fast.py", "CELLS = {",
         "def plain(inputs, h, W_h, options):\n"
         "    W, hiddens = by_columns(W_h, inputs), []\n"
         "    for x in inputs:\n"
         "        h = scratch.activation(torch.addmm(x, h, W), options)\n"
         "        hiddens.append(h)\n"
         "    return (torch.stack(hiddens),)\n\n\n"
         "CELLS = {"),
        ("fast.py", '"rnn": Recurrence.apply', '"rnn": plain'),
    )),
    Case("In place", (
        ("fast.py", "hiddens, h = inputs, h_0", "hiddens, h = torch.empty_like(inputs), h_0"),
        ("fast.py", "for z in hiddens.unbind():\n"
         "            h = activation(z.addmm_(h, W), options)  # (B, H)",
         "for t, z in enumerate(inputs.unbind()):\n"
         "            h = scratch.activation(torch.addmm(z, h, W), options)\n"
         "            hiddens[t] = h"),
        ("fast.py", "ctx.mark_dirty(hiddens)", "pass"),
        ("fast.py", "dz[-1].mul_(d_hiddens[-1])",
         "slopes, dz = dz, torch.empty_like(dz)\n        dz[-1] = slopes[-1] * d_hiddens[-1]"),
        ("fast.py", "dz[t].mul_(torch.addmm(d_hiddens[t], dz[t + 1], W_h.T))",
         "dz[t] = slopes[t] * torch.addmm(d_hiddens[t], dz[t + 1], W_h.T)"),
    )),
    Case("One product per gradient", (
        ("fast.py", "hiddens[:-1].flatten(0, 1).T @ dz[1:].flatten(0, 1)",
         "sum(a.T @ b for a, b in zip(hiddens[:-1], dz[1:]))"),
    )),
    Case("Gates in one product", (
        ("gated.py", "            torch.addmm(x, h, W, out=gates[t])\n",
         "            for part, y, z in zip(W.chunk(4, 1), x.chunk(4, 1), (i, f, o, new)):\n"
         "                torch.addmm(y, h, part, out=z)\n"),
        ("gated.py", "            d_h = dz[t].flatten(1) @ W_h.T\n",
         "            d_h = torch.zeros_like(h_0)\n"
         "            for part, d in zip(W_h.chunk(4, 1), dz[t].unbind(1)):\n"
         "                d_h.addmm_(d, part.T)\n"),
    ), cell="lstm"),
    Case("Coefficients at once", (
        ("gated.py",
         "        dz = torch.stack(\n"
         "            (\n"
         "                new * i * (1 - i),\n"
         "                torch.cat((c_0[None], cells[:-1])) * f * (1 - f),\n"
         "                outputs * o * (1 - o),\n"
         "                i * slope(new, ctx.options),\n"
         "            ),\n"
         "            2,\n"
         "        )\n"
         "        to_c = o * slope(outputs, ctx.options)\n",
         "        dz = gates.new_empty(*i.shape[:2], 4, i.shape[2])\n"),
        ("gated.py",
         "            d_c = torch.addcmul(d_c, d_h, to_c[t])\n"
         "            dz[t, :, :2].mul_(d_c[:, None])\n"
         "            dz[t, :, 2].mul_(d_h)\n"
         "            dz[t, :, 3].mul_(d_c)\n",
         "            d_c = torch.addcmul(d_c, d_h, o[t] * slope(outputs[t], ctx.options))\n"
         "            torch.mul(d_c, new[t] * i[t] * (1 - i[t]), out=dz[t, :, 0])\n"
         "            before_c = cells[t - 1] if t else c_0\n"
         "            torch.mul(d_c, before_c * f[t] * (1 - f[t]), out=dz[t, :, 1])\n"
         "            torch.mul(d_h, outputs[t] * o[t] * (1 - o[t]), out=dz[t, :, 2])\n"
         "            torch.mul(d_c, i[t] * slope(new[t], ctx.options), out=dz[t, :, 3])\n"),
    ), cell="lstm"),
    Case("Hand-written backward pass of gates", (
        ("gated.py", "class LSTM(",
         "def plain(inputs, h, c, W_h, options):\n"
         "    W, size, hiddens = by_columns(W_h, inputs), h.shape[1], []\n"
         "    for x in inputs:\n"
         "        z = torch.addmm(x, h, W)\n"
         "        i, f, o = z[:, : 3 * size].sigmoid().chunk(3, 1)\n"
         "        c = torch.addcmul(f * c, i, scratch.activation(z[:, 3 * size :], options))\n"
         "        h = o * scratch.activation(c, options)\n"
         "        hiddens.append(h)\n"
         "    return torch.stack(hiddens), c\n\n\n"
         "class LSTM("),
        ("gated.py", "import torch\n", "import torch\n\nfrom . import scratch\n"),
        ("fast.py", "import GRU, LSTM, ", "import GRU, plain, "),
        ("fast.py", '"lstm": LSTM.apply', '"lstm": plain'),
    ), cell="lstm"),
)  # fmt: skip
TENSORFLOW = (
    Case("One output layer", (
        ("fast.py", 'outputs @ params["W_hq"] + params["b_q"], (hiddens[-1],',
         'tf.concat([h @ params["W_hq"] + params["b_q"] for h in tf.unstack(hiddens)], 0), '
         "(hiddens[-1],"),
    )),
    Case("Rows instead of products", (
        ("fast.py", '    W_x, b = params["W_x"], params["b"]\n',
         '    W_x, b = params["W_x"], params["b"]\n'
         '    return tf.tensordot(scratch.encode(tokens, {"b_q": params["b_q"]}), W_x, 1) + b\n'),
    ), vocabulary=LARGE),
    Case("Bias in the table", (
        ("fast.py",
         'gather((params["W_e"] @ W_x if "W_e" in params else W_x) + b, tokens)',
         "gather(tf.convert_to_tensor(W_x), tokens) + b"),
    )),
    Case("Sums of sorted rows", (
        ("fast.py", "def recurrence(", "gather = tf.gather\n\n\ndef recurrence("),
    ), vocabulary=LARGE),
    Case("Hand-written backward pass", (
        ("fast.py", "    @tf.custom_gradient\n    def loop(inputs, h_0, W_h):",
         "    def loop(inputs, h_0, W_h):"),
        ("fast.py", "return hiddens[1:], backward", "return hiddens[1:]"),
    )),
    Case("Column blocks", (
        ("products.py", "max(1, min(num_threads(), columns // 128))", "1"),
    ), threads=2),
    Case("Transposed once", (
        ("fast.py", 'tf.einsum("ij->ji", W_h)', "tf.transpose(W_h)"),
    )),
    Case("One product per gradient", (
        ("fast.py", "return dz, d_h, product(tf.transpose(before), blocks)",
         "pairs = zip(tf.unstack(hiddens[:-1]), tf.unstack(dz))\n"
         "            return dz, d_h, sum(tf.transpose(a) @ b for a, b in pairs)"),
    )),
    Case("Graphs", (("fast.py", "    @tf.function\n", ""),), what="generation"),
    Case("Gates in one product", (
        ("gated.py", "        h, c, steps = h_0, c_0, []\n",
         "        h, c, steps, parts = h_0, c_0, [], tf.split(W_h, 4, 1)\n"),
        ("gated.py", "*ifo, new = tf.split(x + product(h, W), 4, 1)",
         "*ifo, new = (y + h @ part for y, part in zip(tf.split(x, 4, 1), parts))"),
        ("gated.py", "                outputs * o * (1 - o),\n"
         "                i * slope(new, options),\n"
         "                o * slope(outputs, options),\n"
         "            )\n",
         "                outputs * o * (1 - o),\n"
         "                i * slope(new, options),\n"
         "                o * slope(outputs, options),\n"
         "            )\n"
         '            parts = tf.split(tf.einsum("ij->ji", W_h), 4, 0)\n'),
        ("gated.py", "                d_h = product(dz[-1], W)\n",
         "                pairs = zip(tf.split(dz[-1], 4, 1), parts)\n"
         "                d_h = tf.add_n([d @ part for d, part in pairs])\n"),
    ), cell="lstm"),
    Case("Coefficients at once", (
        ("gated.py",
         "                f,\n"
         "                new * i * (1 - i),\n"
         "                cells * f * (1 - f),\n"
         "                outputs * o * (1 - o),\n"
         "                i * slope(new, options),\n"
         "                o * slope(outputs, options),\n",
         "                cells,\n                i,\n                f,\n                o,\n"
         "                new,\n                outputs,\n"),
        ("gated.py", "for d, f_t, to_i, to_f, to_o, to_new, to_c in backwards(",
         "for d, c_t, i_t, f_t, o_t, new_t, output in backwards("),
        ("gated.py", "                d_c += d_h * to_c\n",
         "                d_c += d_h * (o_t * slope(output, options))\n"
         "                to_i, to_f = new_t * i_t * (1 - i_t), c_t * f_t * (1 - f_t)\n"
         "                to_o, to_new = output * o_t * (1 - o_t), i_t * slope(new_t, options)\n"),
    ), cell="lstm"),
    Case("Hand-written backward pass of gates", (
        ("gated.py", "    @tf.custom_gradient\n    def loop(inputs, h_0, c_0, W_h):",
         "    def loop(inputs, h_0, c_0, W_h):"),
        ("gated.py", "return (tf.concat([before[1:], h[None]], 0), c), backward",
         "return tf.concat([before[1:], h[None]], 0), c"),
    ), cell="lstm"),
)  # fmt: skip
MXNET = (
    Case("One output layer", (
        ("fast.py", 'scratch.loss(affine(after, params["W_hq"], params["b_q"]), batch.Y)',
         'scratch.loss(np.concatenate([affine(h, params["W_hq"], params["b_q"])\n'
         "            for h in split(after, len(batch.X))]), batch.Y)"),
    )),
    Case("Rows instead of products", (
        ("fast.py", '    W_x, b = params["W_x"], params["b"]\n',
         '    W_x, b = params["W_x"], params["b"]\n'
         '    return scratch.encode(tokens, {"b_q": params["b_q"]}) @ W_x + b\n'),
    ), vocabulary=LARGE),
    Case("Bias in the table", (
        ("fast.py",
         'np.take((params["W_e"] @ W_x if "W_e" in params else W_x) + b, tokens, axis=0)',
         "np.take(W_x, tokens, axis=0) + b"),
    )),
    Case("Graphs", (("fast.py", "\n@graph\n", "\n"),)),
    Case("One product per gradient", (
        ("fast.py", "return dz, outer(before, dz)",
         "pairs = zip(split(before, len(h_0)), split(dz, len(h_0)))\n"
         "    return dz, sum(outer(a, b) for a, b in pairs)"),
    )),
    Case("Hand-written backward pass", (
        ("fast.py", "compiled, scratch.state, to_arrays, backward)",
         "forward, scratch.state, to_arrays)"),
    )),
    Case("Transposed products", (
        ("products.py",
         "transpose(npx.fully_connected(W_T, h, num_hidden=len(h), no_bias=True))",
         "npx.fully_connected(h, W_T, num_hidden=len(W_T), no_bias=True)"),
    )),
    Case("oneDNN products", (
        ("products.py", "return npx.fully_connected(x, y, num_hidden=len(y), no_bias=True)",
         "return x @ y.T"),
        ("products.py", "npx.fully_connected(x, W.T, b, num_hidden=len(b))", "(x @ W + b)"),
    )),
    Case("Parts in one operation", (
        ("products.py",
         "parts = mxnet.nd.SliceChannel(x.as_nd_ndarray(), num_outputs=len(x) // size, axis=0)",
         "return mxnet.np.split(x, len(x) // size)"),
    )),
    Case("One graph", (
        ("fast.py", "compiled, scratch.state, to_arrays, backward)",
         "forward, scratch.state, to_arrays, backward)"),
    ), what="generation"),
    Case("Gates in one product", (
        ("gated.py", "    hiddens, cells, gates = [h_0], [c_0], []\n",
         "    hiddens, cells, gates, parts = [h_0], [c_0], [], split(W_T, h_0.shape[1])\n"),
        ("gated.py", "        i, f, o, new = chunk(x + product(hiddens[-1], W_T), 4)  # (B, H)\n",
         "        pairs = zip(chunk(x, 4), parts)\n"
         "        i, f, o, new = (y + product(hiddens[-1], W) for y, W in pairs)\n"),
        ("gated.py", "    dz, W_h = [], transpose(W_T)\n",
         "    dz, parts = [], [transpose(W) for W in split(W_T, h_0.shape[1])]\n"),
        ("gated.py", "        d_h, d_c = product(dz[-1], W_h), d_c * f_t\n",
         "        first, *others = (product(d, W) for d, W in zip(chunk(dz[-1], 4), parts))\n"
         "        d_h, d_c = sum(others, first), d_c * f_t\n"),
    ), cell="lstm"),
    Case("Coefficients at once", (
        ("gated.py",
         "    to_z = join(\n"
         "        new * i * (1 - i),\n"
         "        cells * f * (1 - f),\n"
         "        outputs * o * (1 - o),\n"
         "        i * slope(new, options),\n"
         "    )\n"
         "    to_c = o * slope(outputs, options)\n"
         "    steps = zip(*(split(x, len(h_0)) for x in (d_hiddens, to_z, to_c, f)))\n",
         "    gates = (d_hiddens, i, f, o, new, cells, outputs)\n"
         "    steps = zip(*(split(x, len(h_0)) for x in gates))\n"),
        ("gated.py", "    for d, to_z_t, to_c_t, f_t in reversed(list(steps)):\n",
         "    for d, i, f_t, o, new, c, output in reversed(list(steps)):\n"
         "        to_i, to_f, to_o = new * i * (1 - i), c * f_t * (1 - f_t), output * o * (1 - o)\n"
         "        to_z_t = join(to_i, to_f, to_o, i * slope(new, options))\n"
         "        to_c_t = o * slope(output, options)\n"),
    ), cell="lstm"),
    Case("Hand-written backward pass of gates", (
        ("fast.py", "compiled, scratch.state, to_arrays, backward)",
         "forward, scratch.state, to_arrays)"),
    ), cell="lstm"),
)  # fmt: skip
JAX = (
    Case("One output layer", (
        ("fast.py", 'outputs @ params["W_hq"] + params["b_q"], (hiddens[-1],',
         'jnp.concatenate([h @ params["W_hq"] + params["b_q"] for h in hiddens]), '
         "(hiddens[-1],"),
    )),
    Case("Rows instead of products", (
        ("fast.py", '    W_x, b = params["W_x"], params["b"]\n',
         '    W_x, b = params["W_x"], params["b"]\n'
         '    return scratch.encode(tokens, {"b_q": params["b_q"]}) @ W_x + b\n'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'return ((params["W_e"] @ W_x if "W_e" in params else W_x) + b)[tokens]',
         "return W_x[tokens] + b"),
    )),
    Case("Scan", (
        ("fast.py", "jax.lax.scan(step, h_0, inputs)",
         "jax.lax.scan(step, h_0, inputs, unroll=len(inputs))"),
        ("gated.py", "jax.lax.scan(step, state, factors, reverse=True)",
         "jax.lax.scan(step, state, factors, reverse=True, unroll=len(factors[0]))"),
    )),
    Case("Hand-written backward pass", (
        ("fast.py", "@partial(jax.custom_vjp, nondiff_argnums=(3,))\n", ""),
        ("fast.py", "recurrence.defvjp(recurrence_forward, recurrence_back)\n", ""),
    )),
    Case("Transposed once", (("fast.py", "return dz @ W_T, dz", "return dz @ W_h.T, dz"),)),
    Case("One product per gradient", (
        ("fast.py", "flatten(before).T @ flatten(dz)", "sum(a.T @ b for a, b in zip(before, dz))"),
    )),
    Case("Gates in one product", (
        ("gated.py", "        *ifo, new = jnp.split(x + h @ W_h, 4, 1)\n",
         "        parts = zip(jnp.split(x, 4, 1), jnp.split(W_h, 4, 1))\n"
         "        *ifo, new = (each + h @ W for each, W in parts)\n"),
        ("gated.py", "        return (dz @ W_T, d_c * f), dz\n",
         "        parts = zip(jnp.split(dz, 4, 1), jnp.split(W_T, 4))\n"
         "        return (sum(each @ W for each, W in parts), d_c * f), dz\n"),
    ), cell="lstm"),
    Case("Coefficients at once", (
        ("gated.py",
         "        f,\n"
         "        new * i * (1 - i),\n"
         "        cells * f * (1 - f),\n"
         "        outputs * o * (1 - o),\n"
         "        i * slope(new, options),\n"
         "        o * slope(outputs, options),\n",
         "        cells,\n        i,\n        f,\n        o,\n        new,\n        outputs,\n"),
        ("gated.py", "        d, f, to_i, to_f, to_o, to_new, to_c = factors\n",
         "        d, c, i, f, o, new, output = factors\n"
         "        to_i, to_f = new * i * (1 - i), c * f * (1 - f)\n"
         "        to_o, to_new = output * o * (1 - o), i * slope(new, options)\n"
         "        to_c = o * slope(output, options)\n"),
    ), cell="lstm"),
    Case("Hand-written backward pass of gates", (
        ("gated.py", "@partial(jax.custom_vjp, nondiff_argnums=(4,))\n", ""),
        ("gated.py", "lstm.defvjp(lstm_forward, lstm_back)\n", ""),
    ), cell="lstm"),
)  # fmt: skip
CASES = {"numpy": NUMPY, "torch": TORCH, "tensorflow": TENSORFLOW, "mxnet": MXNET, "jax": JAX}


def undone(backend, case, folder):
    """A copy of the backend without an optimization, loaded as a package of its own."""
    name = f"undone_{next(COUNTER)}"
    package = Path(folder, name)
    package.mkdir()
    for path in Path(backend.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for file, old, new in case.changes:
            if file == path.name:
                assert old in text, f"{old!r} is not in {path}: update this script"
                text = text.replace(old, new)
        (package / path.name).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def gain(backend, case, num_hiddens):
    """The time without the optimization relative to the time with it."""
    random = np.random.RandomState(0)
    options = Options(case.vocabulary, num_hiddens, case.cell)
    arrays = parameters.initial(options, 0.01, 0)
    tokens = random.randint(0, case.vocabulary, (B, T + 1))
    batch = Batch(tokens[:, :-1], tokens[:, 1:]).map(np.ascontiguousarray)
    batches = [batch] * max(1, 512 // num_hiddens)  # short turns: others use the machine, too
    with tempfile.TemporaryDirectory() as folder:
        pair = [(each, each.fast.build(arrays, options))
                for each in (undone(backend, case, folder), backend)]  # fmt: skip

        def seconds(module, model):
            start = time.perf_counter()
            if case.what == "training":
                _, state = module.scratch.train_epoch(model, batches, Update(), True)
                module.machine.synchronize([*state, *model.params.values()], "cpu")
            else:
                module.scratch.predict(model, [0], 200, decoding.greedy)
            return time.perf_counter() - start

        for each in pair:  # to warm up
            seconds(*each)
        ratios, begin = [], time.perf_counter()
        while len(ratios) < TURNS or time.perf_counter() - begin < SECONDS:
            without, with_it = (seconds(*each) for each in pair)
            ratios.append(without / with_it)
    return round(statistics.median(ratios), 3)


def comment(gain):
    """The line of a comment that states the gain of an optimization."""
    gains = ", ".join(
        f"{gain.num_hiddens[size]:.2f} with {size}{' hidden units' * (size == SIZES[0])}"
        for size in SIZES
    )
    where = [
        f" ({gain.cell})" * (gain.cell != "rnn"),
        f" in {gain.what}" * (gain.what != "training"),
        f" with {gain.threads} threads" * (gain.threads != 1),
        f" with {gain.vocabulary:,} characters" * (gain.vocabulary != V),
    ]
    return f"# Gain{''.join(where)}: {gains}."


def annotate(folder, gains):
    """Write the gains into the comments of a backend, below the comment with each name."""
    for path in folder.glob("*.py"):
        lines, pending = [], None
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r" *# Gain", line):
                continue
            if pending and not line.lstrip().startswith("# "):
                lines.append(pending)
                pending = None
            lines.append(line)
            for each in gains:
                if line.lstrip().startswith(f"# {each.name}: "):
                    pending = line[: line.index("#")] + comment(each)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(name: str, threads: int) -> Iterator[dict[str, str] | Gain]:
    """Yield the versions, then the gain of each optimization of a backend with so many threads."""
    backend, _ = registry.start(name, threads)
    yield backend.machine.environment()
    for case in CASES[name]:
        if case.threads == threads:
            gains = {size: gain(backend, case, size) for size in SIZES}
            what = {"what": case.what, "cell": case.cell, "vocabulary": case.vocabulary}
            yield Gain(name=case.name, num_hiddens=gains, threads=threads, **what)


def measured(name):
    """The versions, and the gain of each optimization of a backend.

    Each number of threads is measured in a process of its own.
    """
    versions, gains = {}, {}
    for threads in sorted({case.threads for case in CASES[name]}):
        environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        call = partial(measure, name, threads)
        for answer in processes.ask(call, timeout=600, environment=environment):
            print(name, answer, file=sys.stderr, flush=True)
            if isinstance(answer, Gain):
                gains[answer.name] = answer
            else:
                versions |= answer
    return versions, [gains[case.name] for case in CASES[name]]


def main():
    """Measure all optimizations; write the record and the comments."""
    record = Gains()
    for name in CASES:
        record.machines[name] = host.describe()
        record.versions[name], record.backends[name] = measured(name)
        annotate(source_code.files(name)[0].parent, record.backends[name])
    records.write(Path(sys.argv[1]), record)


if __name__ == "__main__":
    # In the module that others import, which is not this one: other processes call its functions.
    importlib.import_module("tools.optimizations").main()
