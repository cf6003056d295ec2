"""Known mistakes in the lessons' functions, defined by changes to a backend's source.

`grading` names a mistake if a student's wrong values equal the values that the mistake produces.
The lessons show some of the mistakes as bugs for students to find.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rnn_scratch.registry import BUILTIN_BACKENDS


class Mistake(NamedTuple):
    """A known mistake.

    Attributes:
        name: The description that students read.
        function: The contract function whose results the mistake changes.
        changes: For each backend, old and new source texts in alternation.
        file: The file that contains the old source texts.
    """

    name: str
    function: str
    changes: dict[str, tuple[str, ...]]
    file: str = "scratch.py"


def everywhere(*change: str) -> dict[str, tuple[str, ...]]:
    """Return a dict with the same change for every backend."""
    return dict.fromkeys(BUILTIN_BACKENDS, change)


def changed(source: str, change: Sequence[str]) -> str:
    """Return the source with the change applied; raise ValueError if an old text is missing."""
    for old, replacement in zip(change[::2], change[1::2]):
        if old not in source:
            raise ValueError(f"{old!r} is not in the source: make the change follow the code.")
        source = source.replace(old, replacement, 1)
    return source


CARRY = "if state is None or not carry:"

MISTAKES = [
    Mistake("targets not transposed", "loss", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets, [-1])"),
    }),
    Mistake("sum instead of mean", "loss", {
        "numpy": (".mean()", ".sum()"),
        "torch": ("entropy(logits, labels)", "entropy(logits, labels, reduction='sum')"),
        "tensorflow": ("tf.reduce_mean(tf.nn.sparse", "tf.reduce_sum(tf.nn.sparse"),
        "mxnet": (".mean()", ".sum()"),
        "jax": (".mean()", ".sum()"),
    }),
    Mistake("the logarithm's mean without the minus", "loss", {
        "numpy": ("return -log_softmax", "return log_softmax"),
        "torch": ("return F.cross_entropy", "return -F.cross_entropy"),
        "tensorflow": ("return tf.reduce_mean", "return -tf.reduce_mean"),
        "mxnet": ("return -npx.pick", "return npx.pick"),
        "jax": ("return -jnp.take_along_axis", "return jnp.take_along_axis"),
    }),
    Mistake("state carried in random sampling", "train_epoch",
             everywhere(CARRY, "if state is None:")),
    Mistake("clip by the norm of one parameter instead of all", "clip",
             everywhere("for grad in grads.values())", "for grad in [*grads.values()][:1])")),
    Mistake("clip by norm + 1e-6", "clip",
             everywhere(" / norm, ", " / (norm + 1e-6), ")),
    Mistake("small gradients scaled up to θ", "clip",
             everywhere("grad * scale for", "grad * (theta / norm) for")),
    Mistake("a step up the gradient instead of down", "sgd", {
        **everywhere("param -= update", "param += update"),
        "tensorflow": ("param.assign_sub(update", "param.assign_add(update"),
        "jax": ("param - update", "param + update"),
    }),
    Mistake("no learning rate", "sgd",
             everywhere("update.lr * grads", "grads")),
    Mistake("learning rate applied twice", "sgd",
             everywhere("update.lr *", "update.lr * update.lr *")),
    Mistake("one vector for all characters", "encode", {
        **everywhere("one_hot(tokens,", "one_hot(tokens * 0,"),
        "numpy": (")[tokens]", ")[tokens * 0]"),
    }),
    Mistake("argmax over the wrong axis", "predict", {
        "numpy": ("choose_token(logits[0])", "choose_token(logits[:, 0])"),
        "torch": ("choose_token(logits.cpu().numpy()[0])",
                  "choose_token(logits.cpu().numpy()[:, 0])"),
        "tensorflow": ("choose_token(logits.numpy()[0])", "choose_token(logits.numpy()[:, 0])"),
        "mxnet": ("choose_token(logits.asnumpy()[0])", "choose_token(logits.asnumpy()[:, 0])"),
        "jax": ("choose_token(np.asarray(logits)[0])", "choose_token(np.asarray(logits)[:, 0])"),
    }),
    Mistake("warm-up left out: the prefix is not read but chosen", "predict", everywhere(
        "prefix[t] if t < len(prefix) else choose_token(", "choose_token(")),
    Mistake("warm-up left out: only the last token of the prefix is read", "predict",
             everywhere("model.state(1), [prefix[0]]", "model.state(1), [*prefix]",
                        "range(1, len(prefix)", "range(len(prefix), len(prefix)")),
    Mistake("the output layer without its bias", "step",
             everywhere(' + params["b_q"], state', ", state")),
    Mistake("logits of the state before the step", "step", everywhere(
        "    state = CELLS[", "    before, state = state, CELLS[",
        'return state[0] @ params["W_hq"]', 'return before[0] @ params["W_hq"]')),
    Mistake("no activation in the step", "rnn", {
        **everywhere("h = np.tanh(x @", "h = (x @"),
        "torch": ("h = torch.tanh(x @", "h = (x @"),
        "tensorflow": ("h = tf.tanh(x @", "h = (x @"),
        "jax": ("h = jnp.tanh(x @", "h = (x @"),
    }),
    Mistake("the hidden layer without its bias", "rnn", everywhere(
        'h @ params["W_hh"] + params["b_h"])  #', 'h @ params["W_hh"])  #')),
    Mistake("the previous state left out of the step", "rnn", everywhere(
        ' + h @ params["W_hh"] + params["b_h"])  #', ' + params["b_h"])  #')),
    Mistake("W_hh transposed in the step", "rnn", {
        **everywhere('h @ params["W_hh"] + ', 'h @ params["W_hh"].T + '),
        "tensorflow": ('h @ params["W_hh"] + ', 'h @ tf.transpose(params["W_hh"]) + '),
    }),

    Mistake("exponentials that overflow", "loss", {
        "numpy": ("logits - logits.max(1, keepdims=True)", "logits"),
        "torch": ("F.cross_entropy(logits, labels)", "F.nll_loss("
                  "logits - logits.exp().sum(1, keepdim=True).log(), labels)"),
        "jax": ("jax.nn.log_softmax(logits)",
                "logits - jnp.log(jnp.exp(logits).sum(1, keepdims=True))"),
    }),
    # Mistakes in NumPy's hand-written backward pass.
    Mistake("derivative of tanh from the pre-activation", "gradients", {"numpy": (
        "(1 - next_h * next_h)", "(1 - np.arctanh(next_h) ** 2)")}),
    Mistake("gradient of a sum instead of a mean", "gradients", {"numpy": (
        "return d_logits / len(labels)", "return d_logits")}),
    Mistake("gradient of the loss without the one-hot vector", "gradients", {"numpy": (
        "d_logits[np.arange(len(labels)), labels] -= 1", "pass")}),
    Mistake("no slope of the activation in the gradient", "gradients", {"numpy": (
        "dz = d_h * (1 - next_h * next_h)", "dz = d_h")}),
    Mistake("bias gradient missing", "gradients", {"numpy": (
        '"b_h": dz.sum(0)', '"b_h": np.zeros_like(params["b_h"])')}),
    Mistake("W_hh not transposed in the cell's backward pass", "gradients", {"numpy": (
        'dz @ params["W_hh"].T', 'dz @ params["W_hh"]')}),
    Mistake("gradients of one time step instead of the sum", "gradients", {"numpy": (
        "grads[name] += grad", "grads[name] = grad")}),

    # Mistakes in the GRU, the LSTM and Adam.
    Mistake("the candidate added in full", "gru", everywhere(
        "(z * h + (1 - z) * h_tilde,)", "(z * h + h_tilde,)"), "cells.py"),
    Mistake("input gate and forget gate exchanged", "lstm", everywhere(
        'for name in "ifo")', 'for name in "fio")'), "cells.py"),
    Mistake("the memory without what it was before", "lstm", everywhere(
        "c = f * c + i * c_tilde", "c = i * c_tilde"), "cells.py"),
    Mistake("the memory not passed on", "lstm", everywhere(
        "(c), c", "(c), state[1]"), "cells.py"),
    Mistake("the output without the activation of the memory", "lstm", {
        **everywhere("return o * np.tanh(c), c", "return o * c, c"),
        "torch": ("return o * torch.tanh(c), c", "return o * c, c"),
        "tensorflow": ("return o * tf.tanh(c), c", "return o * c, c"),
        "jax": ("return o * jnp.tanh(c), c", "return o * c, c"),
    }, "cells.py"),
    Mistake("β1 and β2 exchanged", "adam", everywhere(
        "beta1 * m[name] + (1 - update.beta1)", "beta2 * m[name] + (1 - update.beta2)",
        "beta2 * v[name] + (1 - update.beta2)", "beta1 * v[name] + (1 - update.beta1)",
    ), "deep.py"),
    Mistake("means without the correction of their bias", "adam", everywhere(
        "(m[name] / update.c_m) / (", "m[name] / (", "sqrt(v[name] / update.c_v)", "sqrt(v[name])"),
        "deep.py"),
    Mistake("ε inside the correction of the bias", "adam", everywhere(
        "(m[name] / update.c_m) / (", "update.c_v ** 0.5 * (m[name] / update.c_m) / (",
        "sqrt(v[name] / update.c_v) +", "sqrt(v[name]) +"), "deep.py"),
    Mistake("no weight decay", "adam", everywhere(
        "(direction + update", "(direction + 0 * update"), "deep.py"),

    # Typical mistakes by students.
    Mistake("softmax in the step", "step", {
        "numpy": ('return state[0] @ params["W_hq"] + params["b_q"], state',
                  'return np.exp(log_softmax(state[0] @ params["W_hq"] + params["b_q"])), state'),
        "torch": ('return state[0] @ params["W_hq"] + params["b_q"], state',
                  'return (state[0] @ params["W_hq"] + params["b_q"]).softmax(1), state'),
        "tensorflow": ('return state[0] @ params["W_hq"] + params["b_q"], state',
                       'return tf.nn.softmax(state[0] @ params["W_hq"] + params["b_q"]), state'),
        "mxnet": ('return state[0] @ params["W_hq"] + params["b_q"], state',
                  'return npx.softmax(state[0] @ params["W_hq"] + params["b_q"]), state'),
        "jax": ('return state[0] @ params["W_hq"] + params["b_q"], state',
                'return jax.nn.softmax(state[0] @ params["W_hq"] + params["b_q"]), state'),
    }),
    Mistake("the plain cell called instead of the cell in the table", "step", everywhere(
        "CELLS[options.cell](", "rnn(")),
    Mistake("clip by one norm for each array", "clip", {
        "numpy": ("grad * scale for",
                  "grad * np.minimum(theta / np.sqrt((grad * grad).sum()), 1) for"),
        "torch": ("grad * scale for", "grad * torch.clamp(theta / grad.norm(), max=1) for"),
        "tensorflow": ("grad * scale for", "grad * tf.minimum(theta / tf.norm(grad), 1) for"),
        "mxnet": ("grad * scale for",
                  "grad * np.minimum(theta / np.sqrt((grad * grad).sum()), 1) for"),
        "jax": ("grad * scale for",
                "grad * jnp.minimum(theta / jnp.sqrt((grad * grad).sum()), 1) for"),
    }),
    Mistake("clip of each element to the interval from -θ to θ", "clip", {
        **everywhere("grad * scale for", "grad.clip(-theta, theta) for"),
        "tensorflow": ("grad * scale for", "tf.clip_by_value(grad, -theta, theta) for"),
        # MXNet's `clip` rounds its limits to float32.
        "mxnet": ("grad * scale for", "np.maximum(np.minimum(grad, theta), -theta) for"),
    }),
    Mistake("the norm without the square root", "clip", {
        **everywhere("np.sqrt(", "("),
        "torch": ("torch.sqrt(", "("),
        "tensorflow": ("tf.sqrt(", "("),
        "jax": ("jnp.sqrt(", "("),
    }),
    Mistake("parameters that do not change", "sgd", {
        **everywhere("param -= update", "param = param - update"),
        "tensorflow": ("param.assign_sub(update.lr * grads[name])",
                       "param = param - update.lr * grads[name]"),
        "jax": ("model.params[name] = param - update", "param = param - update"),
    }),
    Mistake("the most likely token instead of the chosen one", "predict", {
        "numpy": ("choose_token(logits[0])", "int(logits[0].argmax())"),
        "torch": ("choose_token(logits.cpu().numpy()[0])", "int(logits[0].argmax())"),
        "tensorflow": ("choose_token(logits.numpy()[0])", "int(logits.numpy()[0].argmax())"),
        "mxnet": ("choose_token(logits.asnumpy()[0])", "int(logits.asnumpy()[0].argmax())"),
        "jax": ("choose_token(np.asarray(logits)[0])", "int(logits[0].argmax())"),
    }),
]  # fmt: skip
