"""Known mistakes, each a change of text in the source of a backend's plain code.

Lessons grade a student's function by them: wrong numbers that are those of a known mistake get its
name. Lessons also show some of them as bugs to find. The check must detect all of them, and many
more in `tests/sabotages.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..contract import Options
from ..registry import OURS
from .inputs import PLAIN


class Mistake(NamedTuple):
    """A mistake: the function that the check must name first, and the change in each backend."""

    name: str
    piece: str
    result: str  # text that the row's result, where or note contains; "" for any
    changes: dict[str, tuple[str, ...]]  # by backend: a text and its replacement, and so on
    file: str = "scratch.py"
    model: str = "scratch"  # the variant to check
    only: Options = PLAIN  # the case that it is checked in


def everywhere(*change: str) -> dict[str, tuple[str, ...]]:
    """Return the same change for all backends."""
    return dict.fromkeys(OURS, change)


def changed(source: str, change: Sequence[str], where: object = "the source") -> str:
    """Return the source with its texts replaced; ValueError if it lacks one of them."""
    for old, new in zip(change[::2], change[1::2]):
        if old not in source:
            raise ValueError(f"{old!r} is not in {where}: make the change follow the code.")
        source = source.replace(old, new, 1)
    return source


GRU, LSTM = (PLAIN._replace(cell=cell) for cell in ("gru", "lstm"))
CARRY = "if state is None or not carry:"

MISTAKES = [
    Mistake("targets not transposed", "loss", "mean", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets, [-1])"),
    }),
    Mistake("targets stored as bytes, modulo 256", "loss", "with 300 characters", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = targets.T.reshape(-1) % 256"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])",
                       "tf.reshape(tf.transpose(targets), [-1]) % 256"),
    }),
    Mistake("sum instead of mean", "loss", "mean", {
        "numpy": (".mean()", ".sum()"),
        "torch": ("entropy(logits, labels)", "entropy(logits, labels, reduction='sum')"),
        "tensorflow": ("tf.reduce_mean(tf.nn.sparse", "tf.reduce_sum(tf.nn.sparse"),
        "mxnet": (".mean()", ".sum()"),
        "jax": (".mean()", ".sum()"),
    }),
    Mistake("the logarithm's mean without the minus", "loss", "mean", {
        "numpy": ("return -log_softmax", "return log_softmax"),
        "torch": ("return F.cross_entropy", "return -F.cross_entropy"),
        "tensorflow": ("return tf.reduce_mean", "return -tf.reduce_mean"),
        "mxnet": ("return -npx.pick", "return npx.pick"),
        "jax": ("return -jnp.take_along_axis", "return jnp.take_along_axis"),
    }),
    Mistake("state carried in random sampling", "train_epoch", "random",
             everywhere(CARRY, "if state is None:")),
    Mistake("clip by the norm of one parameter instead of all", "clip", "norm",
             everywhere("for grad in grads.values())", "for grad in [*grads.values()][:1])")),
    Mistake("clip that scales up where θ is above 1", "clip", "θ", everywhere(
        "grad * scale for", "grad * (theta / norm if 1 < theta < 1e9 else scale) for")),
    Mistake("clip by norm + 1e-6", "clip", "result",
             everywhere(" / norm, ", " / (norm + 1e-6), ")),
    Mistake("small gradients scaled up to θ", "clip", "",
             everywhere("grad * scale for", "grad * (theta / norm) for")),
    Mistake("a step up the gradient instead of down", "sgd", "", {
        **everywhere("param -= rounded(", "param += rounded("),
        "tensorflow": ("param.assign_sub(rounded(", "param.assign_add(rounded("),
        "jax": ("param - rounded(", "param + rounded("),
    }),
    Mistake("no learning rate", "sgd", "",
             everywhere("rounded(rates.lr * grads", "rounded(grads")),
    Mistake("learning rate applied twice", "sgd", "",
             everywhere("rounded(rates.lr *", "rounded(rates.lr * rates.lr *")),
    Mistake("learning rate cut at 1", "sgd", "learning rate 3",
             everywhere("rounded(rates.lr *", "rounded(min(rates.lr, 1.0) *")),
    Mistake("one vector for all characters", "encode", "vectors", {
        **everywhere("one_hot(tokens,", "one_hot(tokens * 0,"),
        "numpy": (")[tokens]", ")[tokens * 0]"),
    }),
    Mistake("argmax over the wrong axis", "predict", "",
             everywhere("choose(array(logits)[0])", "choose(array(logits)[:, 0])")),
    Mistake("a state that is forgotten after 100 tokens", "predict", "", everywhere(
        "        # Warm-up:",
        "        state = state if t % 100 else model.state(1)\n        # Warm-up:")),
    Mistake("warm-up left out: the prefix is not read but chosen", "predict", "", everywhere(
        "prefix[t] if t < len(prefix) else choose(", "choose(")),
    Mistake("warm-up left out: only the last token of the prefix is read", "predict", "",
             everywhere("model.state(1), [prefix[0]]", "model.state(1), [*prefix]",
                        "range(1, len(prefix)", "range(len(prefix), len(prefix)")),
    Mistake("the output layer without its bias", "step", "logits",
             everywhere(' + params["b_q"], state', ", state")),
    Mistake("logits of the state before the step", "step", "logits", everywhere(
        "    state = CELLS[", "    before, state = state, CELLS[",
        'return state[0] @ params["W_hq"]', 'return before[0] @ params["W_hq"]')),
    Mistake("no activation in the step", "rnn", "state", {
        **everywhere("h = np.tanh(x @", "h = (x @"),
        "torch": ("h = torch.tanh(x @", "h = (x @"),
        "tensorflow": ("h = tf.tanh(x @", "h = (x @"),
        "jax": ("h = jnp.tanh(x @", "h = (x @"),
    }),
    Mistake("the hidden layer without its bias", "rnn", "state", everywhere(
        'h @ params["W_hh"] + params["b_h"])  #', 'h @ params["W_hh"])  #')),
    Mistake("the previous state left out of the step", "rnn", "state", everywhere(
        ' + h @ params["W_hh"] + params["b_h"])  #', ' + params["b_h"])  #')),
    Mistake("W_hh transposed in the step", "rnn", "state", {
        **everywhere('h @ params["W_hh"] + ', 'h @ params["W_hh"].T + '),
        "tensorflow": ('h @ params["W_hh"] + ', 'h @ tf.transpose(params["W_hh"]) + '),
    }),

    Mistake("only the first 64 rows counted in the loss", "loss", "with 300 characters", {
        "numpy": ("labels].mean()", "labels][:64].mean()"),
        "torch": ("entropy(logits, labels)", "entropy(logits[:64], labels[:64])"),
        "tensorflow": ("_with_logits(labels, logits)", "_with_logits(labels, logits)[:64]"),
        "mxnet": (".mean()", "[:64].mean()"),
        "jax": (", 1).mean()", ", 1)[:64].mean()"),
    }),
    Mistake("exponentials that overflow", "loss", "with 300 characters", {
        "numpy": ("logits - logits.max(1, keepdims=True)", "logits"),
        "torch": ("F.cross_entropy(logits, labels)", "F.nll_loss("
                  "(logits.exp() / logits.exp().sum(1, keepdim=True)).log(), labels)"),
        "jax": ("jax.nn.log_softmax(logits)",
                "jnp.log(jnp.exp(logits) / jnp.exp(logits).sum(1, keepdims=True))"),
    }),
    Mistake("gradients in the order of their names", "gradients", "", {
        "numpy": (", grads, detach(", ", dict(sorted(grads.items())), detach("),
        "torch": ("dict(zip(model.params, grads)), detach(",
                  "dict(sorted(dict(zip(model.params, grads)).items())), detach("),
        "tensorflow": ("for n, grad in grads.items()}, detach",
                       "for n, grad in sorted(grads.items())}, detach"),
        "mxnet": ("for n, p in model.params.items()}, detach",
                  "for n, p in sorted(model.params.items())}, detach"),
        "jax": ("{name: grads[name] for name in model.params}", "grads"),
    }),
    Mistake("gradients that are right only for two rows and more", "gradients", "of one token", {
        "numpy": (", grads, detach(",
                  ", {n: g / 2 if len(targets) < 2 else g for n, g in grads.items()}, detach("),
        "torch": ("zip(model.params, grads)", "zip(model.params, (g / 2 for g in grads) "
                  "if len(batch.X) < 2 else grads)"),
        "jax": ("grads[name] for", "grads[name] / (2 if len(batch.X) < 2 else 1) for"),
    }),
    Mistake("each element of the gradients limited to 1", "gradients", "of one token", {
        "numpy": (", grads, detach(",
                  ", {n: np.clip(g, -1, 1) for n, g in grads.items()}, detach("),
        "torch": ("zip(model.params, grads)", "zip(model.params, (g.clip(-1, 1) for g in grads))"),
        "jax": ("grads[name] for", "grads[name].clip(-1, 1) for"),
    }),
    Mistake("clip that divides by a norm of 0", "clip", "gradients of zero",
             everywhere("grad * scale for", "grad / norm * (scale * norm) for")),
    Mistake("learning rate in float32", "sgd", "", {
        **everywhere("rates.lr *", "rates.lr.astype('float32').astype(rates.lr.dtype) *"),
        "torch": ("rates.lr *", "rates.lr.float() *"),
        "tensorflow": ("rates.lr *", "tf.cast(tf.cast(rates.lr, 'float32'), rates.lr.dtype) *"),
    }),
    Mistake("parameters that change while text is generated", "predict", "parameters", {
        **everywhere("    return outputs\n\n\ndef build",
                     '    model.params["b_q"] = model.params["b_q"] + 1\n'
                     "    return outputs\n\n\ndef build"),
    }),

    # NumPy's hand-written backward pass.
    Mistake("derivative of tanh from the pre-activation", "gradients", "W_xh", {"numpy": (
        "(1 - h * h)", "(1 - np.arctanh(h) ** 2)")}),
    Mistake("gradient of a sum instead of a mean", "gradients", "", {"numpy": (
        "return d_logits / len(labels)", "return d_logits")}),
    Mistake("gradient of the loss without the one-hot vector", "gradients", "", {"numpy": (
        "d_logits[np.arange(len(labels)), labels] -= 1", "pass")}),
    Mistake("no slope of the activation in the gradient", "gradients", "", {"numpy": (
        "dz = d_h * (1 - h * h)", "dz = d_h")}),
    Mistake("bias gradient missing", "gradients", "b_h", {"numpy": (
        '"b_h": dz.sum(0)', '"b_h": np.zeros_like(params["b_h"])')}),
    Mistake("W_hh not transposed in the cell's backward pass", "gradients", "W_xh", {"numpy": (
        'dz @ params["W_hh"].T', 'dz @ params["W_hh"]')}),
    Mistake("gradients of one time step instead of the sum", "gradients", "W_xh", {"numpy": (
        "grads[name] += grad", "grads[name] = grad")}),

    # A GRU, the LSTM and Adam.
    Mistake("the candidate added in full", "gru", "state", everywhere(
        "(z * h + (1 - z) * new,)", "(z * h + new,)"), "cells.py", only=GRU),
    Mistake("input gate and forget gate exchanged", "lstm", "state", everywhere(
        'for name in "ifo")', 'for name in "fio")'), "cells.py", only=LSTM),
    Mistake("the memory without what it was before", "lstm", "state", everywhere(
        "c = f * c + i * new", "c = i * new"), "cells.py", only=LSTM),
    Mistake("the memory not passed on", "lstm", "state", everywhere(
        "(c), c", "(c), state[1]"), "cells.py", only=LSTM),
    Mistake("the output without the activation of the memory", "lstm", "state", {
        **everywhere("return o * np.tanh(c), c", "return o * c, c"),
        "torch": ("return o * torch.tanh(c), c", "return o * c, c"),
        "tensorflow": ("return o * tf.tanh(c), c", "return o * c, c"),
        "jax": ("return o * jnp.tanh(c), c", "return o * c, c"),
    }, "cells.py", only=LSTM),
    Mistake("β1 and β2 exchanged", "adam", "", everywhere(
        "running means m of g and v of g squared.\"\"\"\n",
        "running means m of g and v of g squared.\"\"\"\n"
        "    how = how._replace(beta1=how.beta2, beta2=how.beta1)\n"), "deep.py"),
    Mistake("means without the correction of their bias", "adam", "", everywhere(
        "(m / rates.c_m) / (", "m / (", "sqrt(v / rates.c_v)", "sqrt(v)"), "deep.py"),
    Mistake("ε inside the correction of the bias", "adam", "", everywhere(
        "(m / rates.c_m) / (", "rates.c_v ** 0.5 * (m / rates.c_m) / (",
        "sqrt(v / rates.c_v) +", "sqrt(v) +"), "deep.py"),
    Mistake("no weight decay", "adam", "", {
        **everywhere("(direction + how", "(direction + 0 * how"),
        "jax": ("(direction + apart", "(direction + 0 * apart"),
    }, "deep.py"),
]  # fmt: skip
