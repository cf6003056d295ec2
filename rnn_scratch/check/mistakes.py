"""Known mistakes, each a change of text in a backend's source.

Lessons grade a student's function by them: wrong numbers that are those of a known mistake get its
name. Lessons also show some of them as bugs to find. The check must detect all of them, and many
more in `tests/sabotages.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..contract import Options
from ..registry import OURS
from .inputs import DEEP, PLAIN

RELU = PLAIN._replace(cell="rnn-relu")


class Mistake(NamedTuple):
    """A mistake: the piece that the check must name first, and the change in each backend."""

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


def within(backend: str, *change: str) -> dict[str, tuple[str, ...]]:
    """Return a change in one backend."""
    return {backend: change}


def changed(source: str, change: Sequence[str], where: object = "the source") -> str:
    """Return the source with its texts replaced; ValueError if it lacks one of them."""
    for old, new in zip(change[::2], change[1::2]):
        if old not in source:
            raise ValueError(f"{old!r} is not in {where}: make the change follow the code.")
        source = source.replace(old, new, 1)
    return source


CARRY = "if state is None or not carry:"  # first in train_epoch, then in evaluate

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
    Mistake("clip that scales up where θ is above 1", "clip", "θ",
             everywhere("scale = theta /", "scale = theta / norm if theta > 1 else theta /")),
    Mistake("clip by norm + 1e-6", "clip", "result", {
        "numpy": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
        "torch": ("theta / norm.clamp(min=theta)", "(theta / (norm + 1e-6)).clamp(max=1)"),
        "tensorflow": ("theta / tf.maximum(norm, theta)", "tf.minimum(1.0, theta / (norm + 1e-6))"),
        "mxnet": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
        "jax": ("theta / jnp.maximum(norm, theta)", "jnp.minimum(1, theta / (norm + 1e-6))"),
    }),
    Mistake("small gradients scaled up to θ", "clip", "", everywhere(
        "scale = theta / ", "scale = theta / norm  # ")),
    Mistake("a step up the gradient instead of down", "update", "plain", {
        **everywhere("param -= rounded(", "param += rounded("),
        "tensorflow": ("param.assign_sub(rounded(", "param.assign_add(rounded("),
        "jax": ("param - rounded(", "param + rounded("),
    }),
    Mistake("no learning rate", "update", "plain",
             everywhere("rounded(lr * direction", "rounded(direction")),
    Mistake("learning rate applied twice", "update", "plain",
             everywhere("rounded(lr *", "rounded(lr * lr *")),
    Mistake("learning rate cut at 1", "update", "above 1",
             everywhere("lr = how.lr if", "lr = min(how.lr, 1.0) if")),
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
             everywhere(' + params["b_q"], after', ", after")),
    Mistake("logits of the state before the step", "step", "logits", everywhere(
        'return x @ params["W_hq"]', 'return state[0] @ params["W_hq"]')),
    Mistake("no activation in the step", "step", "logits", everywhere(
        'h = activation(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], options)',
        'h = x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]')),
    Mistake("tanh in the step, whatever the activation", "step", "logits", everywhere(
        'h @ params["W_hh"] + params["b_h"], options)  #',
        'h @ params["W_hh"] + params["b_h"], options._replace(activation="tanh"))  #'), only=RELU),
    Mistake("the hidden layer without its bias", "step", "logits", everywhere(
        'h @ params["W_hh"] + params["b_h"], options)  #', 'h @ params["W_hh"], options)  #')),
    Mistake("the previous state left out of the step", "step", "logits",
             everywhere(' + h @ params["W_hh"] + params["b_h"], options)  #',
                        ' + params["b_h"], options)  #')),
    Mistake("W_hh transposed in the step", "step", "logits", {
        **everywhere('h @ params["W_hh"] + ', 'h @ params["W_hh"].T + '),
        "tensorflow": ('h @ params["W_hh"] + ', 'h @ tf.transpose(params["W_hh"]) + '),
    }),
    Mistake("slope of ReLU at 0 is 1", "gradients", "", {
        "numpy": ("(h > 0)", "(h >= 0)"),
        "torch": ("torch.relu(z)", "torch.where(z >= 0, z, 0)"),
        "tensorflow": ("tf.nn.relu(z)", "tf.where(z >= 0, z, tf.zeros_like(z))"),
        "mxnet": ("npx.activation(z, options.activation)", "np.where(z >= 0, z, np.zeros_like(z))"),
        "jax": ("jax.nn.relu(z)", "jnp.where(z >= 0, z, 0)"),
    }, only=RELU),

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
    Mistake("ReLU that ends at 6", "step", "logits", {
        "numpy": ("np.maximum(z, 0)", "np.clip(z, 0, 6)"),
        "torch": ("torch.relu(z)", "F.relu6(z)"),
        "tensorflow": ("tf.nn.relu(z)", "tf.nn.relu6(z)"),
        "jax": ("jax.nn.relu(z)", "jax.nn.relu6(z)"),
    }, only=RELU),
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
                  ", {n: g / 2 if len(batch.X) < 2 else g for n, g in grads.items()}, detach("),
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
    Mistake("clip that divides by a norm of 0", "clip", "gradients of zero", {
        "numpy": ("theta / np.maximum(norm, theta)", "np.minimum(norm, theta) / norm"),
        "torch": ("theta / norm.clamp(min=theta)", "norm.clamp(max=theta) / norm"),
        "tensorflow": ("theta / tf.maximum(norm, theta)", "tf.minimum(norm, theta) / norm"),
        "mxnet": ("theta / np.maximum(norm, theta)", "np.minimum(norm, theta) / norm"),
        "jax": ("theta / jnp.maximum(norm, theta)", "jnp.minimum(norm, theta) / norm"),
    }),
    Mistake("learning rate in float32", "update", "plain",
             everywhere("lr = how.lr if", "lr = float(__import__('numpy').float32(how.lr)) if")),
    Mistake("parameters that change while text is generated", "predict", "parameters", {
        **everywhere("    return outputs\n\n\ndef build",
                     '    model.params["b_q"] = model.params["b_q"] + 1\n'
                     "    return outputs\n\n\ndef build"),
    }),

    # NumPy's hand-written backward pass.
    Mistake("derivative of tanh from the pre-activation", "gradients", "W_xh", within("numpy",
        "1 - h * h if", "1 - np.arctanh(h) ** 2 if")),
    Mistake("gradient of a sum instead of a mean", "gradients", "", within("numpy",
        "return d_logits / len(labels)", "return d_logits")),
    Mistake("gradient of the loss without the one-hot vector", "gradients", "", within("numpy",
        "d_logits[np.arange(len(labels)), labels] -= 1", "pass")),
    Mistake("no slope of the activation in the gradient", "gradients", "", within("numpy",
        "linear_back(d_h * slope(h, options), x,", "linear_back(d_h, x,")),
    Mistake("bias gradient missing", "gradients", "b_h", within("numpy",
        'f"b_{name}": dz.sum(0)', 'f"b_{name}": np.zeros_like(params["b_h"])')),
    Mistake("W_hh not transposed in the cell's backward pass", "gradients", "W_xh", within("numpy",
        'dz @ params[f"W_h{name}"].T', 'dz @ params[f"W_h{name}"]')),
    Mistake("a character that occurs twice counted once", "gradients", "W_e", within("numpy",
        'np.add.at(grads["W_e"], batch.X[:, t], d_x)',
        'grads["W_e"][batch.X[:, t]] += d_x'), only=DEEP),
]  # fmt: skip
