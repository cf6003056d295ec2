"""One mistake at a time, made in the source of a backend.

Each sabotage is a change of text: what is in the source, and what takes its place. A source that
does not have that text fails the test, so that the sabotages follow the code.
"""

import importlib
import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rnn_scratch.check.inputs import PLAIN, TRIED, B, T
from rnn_scratch.contract import Options
from rnn_scratch.registry import OURS

GRU, GRU_AFTER, LSTM = (PLAIN._replace(cell=cell) for cell in ("gru", "gru-after", "lstm"))
RELU = PLAIN._replace(activation="relu")
DEEP = PLAIN._replace(**{**TRIED, "activation": "tanh"})  # an embedding, dropout and two layers
NUMBERS = itertools.count()


class Sabotage(NamedTuple):
    """A mistake: the piece that `check` must name first, and the change in each backend."""

    mistake: str
    piece: str
    result: str  # text that the row's result, where or note has; "" for any
    changes: dict[str, tuple[str, ...]]  # what is there and what takes its place; and so on
    file: str = "scratch.py"
    model: str = "scratch"  # the variant to check
    only: Options = PLAIN  # the case that it is checked in


def everywhere(*change: str) -> dict[str, tuple[str, ...]]:
    """The same change in all backends."""
    return dict.fromkeys(OURS, change)


def within(backend: str, *change: str) -> dict[str, tuple[str, ...]]:
    """A change in one backend."""
    return {backend: change}


def products(some: str) -> dict[str, tuple[str, ...]]:
    """Some of the products of `multiply` only."""
    compiled = ("for i in order:", f"for i in order{some}:")
    return {
        **everywhere("for W in matrices:", f"for W in matrices{some}:"),
        **dict.fromkeys(("tensorflow", "mxnet", "jax"), compiled),
    }


CARRY = "if state is None or not carry:"  # first in train_epoch, then in evaluate

SABOTAGES = [
    Sabotage("targets not transposed", "loss", "mean", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets, [-1])"),
    }),
    Sabotage("targets stored as bytes, modulo 256", "loss", "with 300 characters", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = targets.T.reshape(-1) % 256"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])",
                       "tf.reshape(tf.transpose(targets), [-1]) % 256"),
    }),
    Sabotage("sum instead of mean", "loss", "mean", {
        "numpy": (".mean()", ".sum()"),
        "torch": ("entropy(logits, labels)", "entropy(logits, labels, reduction='sum')"),
        "tensorflow": ("tf.reduce_mean(tf.nn.sparse", "tf.reduce_sum(tf.nn.sparse"),
        "mxnet": (".mean()", ".sum()"),
        "jax": (".mean()", ".sum()"),
    }),
    Sabotage("the logarithm's mean without the minus", "loss", "mean", {
        "numpy": ("return -log_softmax", "return log_softmax"),
        "torch": ("return F.cross_entropy", "return -F.cross_entropy"),
        "tensorflow": ("return tf.reduce_mean", "return -tf.reduce_mean"),
        "mxnet": ("return -npx.pick", "return npx.pick"),
        "jax": ("return -jnp.take_along_axis", "return jnp.take_along_axis"),
    }),
    Sabotage("state not carried", "train_epoch", "sequential", everywhere(CARRY, "if True:")),
    Sabotage("an epoch that cannot go on from a state", "train_epoch", "sequential",
             everywhere("    losses = []", "    losses, state = [], None")),
    Sabotage("state carried in random sampling", "train_epoch", "random",
             everywhere(CARRY, "if state is None:")),
    Sabotage("state not detached", "detach", "gradients", {
        "torch": ("return tuple(s.detach() for s in state)", "return state"),
        "tensorflow": ("return tuple(tf.stop_gradient(s) for s in state)", "return state"),
        "mxnet": ("return tuple(s.detach() for s in state)", "return state"),
        "jax": ("return tuple(jax.lax.stop_gradient(s) for s in state)", "return state"),
    }),
    Sabotage("clip by the norm of one parameter instead of all", "clip", "norm",
             everywhere("for grad in grads.values())", "for grad in [*grads.values()][:1])")),
    Sabotage("clip that scales up where θ is above 1", "clip", "θ",
             everywhere("scale = theta /", "scale = theta / norm if theta > 1 else theta /")),
    Sabotage("clip by norm + 1e-6", "clip", "result", {
        "numpy": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
        "torch": ("theta / norm.clamp(min=theta)", "(theta / (norm + 1e-6)).clamp(max=1)"),
        "tensorflow": ("theta / tf.maximum(norm, theta)", "tf.minimum(1.0, theta / (norm + 1e-6))"),
        "mxnet": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
        "jax": ("theta / jnp.maximum(norm, theta)", "jnp.minimum(1, theta / (norm + 1e-6))"),
    }),
    Sabotage("clip on unsummed sparse rows", "clip", "own gradients", within("tensorflow",
        "{n: tf.convert_to_tensor(grad) for n, grad in grads.items()}", "grads",
        "norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))",
        "norm = tf.linalg.global_norm(list(grads.values()))"), only=DEEP),
    Sabotage("small gradients scaled up to θ", "clip", "", everywhere(
        "scale = theta / ", "scale = theta / norm  # ")),
    Sabotage("halves rounded up", "rounded", "ties",
             everywhere("round(values / grid)", "floor(values / grid + 0.5)")),
    Sabotage("a step up the gradient instead of down", "update", "plain", {
        **everywhere("param -= rounded(", "param += rounded("),
        "tensorflow": ("param.assign_sub(rounded(", "param.assign_add(rounded("),
        "jax": ("param - rounded(", "param + rounded("),
    }),
    Sabotage("no learning rate", "update", "plain",
             everywhere("rounded(lr * direction", "rounded(direction")),
    Sabotage("learning rate applied twice", "update", "plain",
             everywhere("rounded(lr *", "rounded(lr * lr *")),
    Sabotage("learning rate cut at 1", "update", "above 1",
             everywhere("lr = how.lr if", "lr = min(how.lr, 1.0) if")),
    Sabotage("state not rounded in exact mode", "train_minibatch", "state in exact mode",
             everywhere("rounded(each, how.state_grid)", "each")),
    Sabotage("gradients not clipped in training", "train_minibatch", "parameters",
             everywhere("grads, _ = clip(grads, how.theta)", "pass")),
    Sabotage("losses as tensors", "train_epoch", "not a list of floats", {
        **everywhere("[float(mean) for mean in losses]", "losses"),
        "numpy": ("[float(mean) for mean in losses]", "np.array(losses)"),
    }),
    Sabotage("the last loss only", "train_epoch", "losses",
             everywhere("for mean in losses]", "for mean in losses[-1:]]")),
    Sabotage("a state of ones", "state", "zeros",
             everywhere(".zeros((batch_size,", ".ones((batch_size,")),
    Sabotage("one vector for all characters", "encode", "vectors", {
        **everywhere("one_hot(tokens,", "one_hot(tokens * 0,"),
        "numpy": (")[tokens]", ")[tokens * 0]"),
    }),
    Sabotage("rows of the embedding with a norm of at most 1", "encode", "vectors", within("torch",
        'F.embedding(tokens, params["W_e"])',
        'F.embedding(tokens, params["W_e"], max_norm=1)'), only=DEEP),
    Sabotage("rows of the embedding cut in place", "encode", "parameters afterwards",
             within("torch",
        '        return F.embedding(tokens, params["W_e"])',
        '        x = F.embedding(tokens, params["W_e"])\n'
        '        F.embedding(tokens, params["W_e"], max_norm=1)\n        return x'), only=DEEP),
    Sabotage("means added up instead of sums", "evaluate", "state carried",
             everywhere(" * batch.X.size", "")),
    Sabotage("argmax over the wrong axis", "predict", "",
             everywhere("choose(array(logits)[0])", "choose(array(logits)[:, 0])")),
    Sabotage("a state that is forgotten after 100 tokens", "predict", "", everywhere(
        "        # Warm-up:",
        "        state = state if t % 100 else model.state(1)\n        # Warm-up:")),
    Sabotage("warm-up left out: the prefix is not read but chosen", "predict", "", everywhere(
        "prefix[t] if t < len(prefix) else choose(", "choose(")),
    Sabotage("warm-up left out: only the last token of the prefix is read", "predict", "",
             everywhere("model.state(1), [prefix[0]]", "model.state(1), [*prefix]",
                        "range(1, len(prefix)", "range(len(prefix), len(prefix)")),
    Sabotage("the output layer without its bias", "step", "logits",
             everywhere(' + params["b_q"], after', ", after")),
    Sabotage("logits of the state before the step", "step", "logits", everywhere(
        'return x @ params["W_hq"]', 'return state[0] @ params["W_hq"]')),
    Sabotage("no activation in the step", "step", "logits", everywhere(
        'h = activation(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], options)',
        'h = x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]')),
    Sabotage("tanh in the step, whatever the activation", "step", "logits", everywhere(
        'h @ params["W_hh"] + params["b_h"], options)  #',
        'h @ params["W_hh"] + params["b_h"], options._replace(activation="tanh"))  #'), only=RELU),
    Sabotage("the hidden layer without its bias", "step", "logits", everywhere(
        'h @ params["W_hh"] + params["b_h"], options)  #', 'h @ params["W_hh"], options)  #')),
    Sabotage("the previous state left out of the step", "step", "logits",
             everywhere(' + h @ params["W_hh"] + params["b_h"], options)  #',
                        ' + params["b_h"], options)  #')),
    Sabotage("W_hh transposed in the step", "step", "logits", {
        **everywhere('h @ params["W_hh"] + ', 'h @ params["W_hh"].T + '),
        "tensorflow": ('h @ params["W_hh"] + ', 'h @ tf.transpose(params["W_hh"]) + '),
    }),
    Sabotage("fast.py does not follow a change of the step", "forward", "a loop over its own step",
             everywhere('h @ params["W_hh"] + ', '2 * h @ params["W_hh"] + '), model="fast"),
    Sabotage("concise.py does not follow a change of the step", "forward",
             "a loop over its own step", {
        name: ('h @ params["W_hh"] + ', '2 * h @ params["W_hh"] + ')
        for name in OURS if name != "numpy"
    }, model="concise"),
    Sabotage("an argument that the contract lacks", "signature", "scratch.encode",
             everywhere("def encode(tokens, params):", "def encode(tokens, params, options):")),
    Sabotage("parameters that share memory with the arrays", "params", "", {
        "numpy": ("values.astype(options.dtype)", "values.astype(options.dtype, copy=False)"),
        "torch": ("torch.tensor(a, **where, requires_grad=True)",
                  "torch.as_tensor(a, **where).requires_grad_()"),
        "tensorflow": ("values.astype(options.dtype)",
                       "tf.experimental.dlpack.from_dlpack(values.__dlpack__())"),
        "jax": ("a.astype(options.dtype)", "a.astype(options.dtype, copy=False)"),
    }),
    Sabotage("forward with the parameters that training started at", "train_minibatch",
             "logits afterwards", within("numpy",
        "return bind(params(arrays, options), options, forward,",
        "copies = params(arrays, options)\n"
        "    return bind(params(arrays, options), options,"
        " lambda tokens, state, params, options, masks=None:"
        " forward(tokens, state, copies, options, masks),")),
    Sabotage("new parameters that do not leave the compiled function", "train_minibatch",
             "parameters", within("jax",
        "model.params.update(params)", "pass"), "machine.py"),
    Sabotage("an optimized forward with the parameters that training started at",
             "train_minibatch", "logits afterwards", within("jax",
        "params=tensors):", "params=dict(tensors)):"), "fast.py", "fast"),
    Sabotage("slope of ReLU at 0 is 1", "gradients", "", {
        "numpy": ("(h > 0)", "(h >= 0)"),
        "torch": ("torch.relu(z)", "torch.where(z >= 0, z, 0)"),
        "tensorflow": ("tf.nn.relu(z)", "tf.where(z >= 0, z, tf.zeros_like(z))"),
        "mxnet": ("npx.activation(z, options.activation)", "np.where(z >= 0, z, np.zeros_like(z))"),
        "jax": ("jax.nn.relu(z)", "jnp.where(z >= 0, z, 0)"),
    }, only=RELU),

    Sabotage("only the first 64 rows counted in the loss", "loss", "with 300 characters", {
        "numpy": ("labels].mean()", "labels][:64].mean()"),
        "torch": ("entropy(logits, labels)", "entropy(logits[:64], labels[:64])"),
        "tensorflow": ("_with_logits(labels, logits)", "_with_logits(labels, logits)[:64]"),
        "mxnet": (".mean()", "[:64].mean()"),
        "jax": (", 1).mean()", ", 1)[:64].mean()"),
    }),
    Sabotage("exponentials that overflow", "loss", "with 300 characters", {
        "numpy": ("logits - logits.max(1, keepdims=True)", "logits"),
        "torch": ("F.cross_entropy(logits, labels)", "F.nll_loss("
                  "(logits.exp() / logits.exp().sum(1, keepdim=True)).log(), labels)"),
        "jax": ("jax.nn.log_softmax(logits)",
                "jnp.log(jnp.exp(logits) / jnp.exp(logits).sum(1, keepdims=True))"),
    }),
    Sabotage("ReLU that ends at 6", "step", "logits", {
        "numpy": ("np.maximum(z, 0)", "np.clip(z, 0, 6)"),
        "torch": ("torch.relu(z)", "F.relu6(z)"),
        "tensorflow": ("tf.nn.relu(z)", "tf.nn.relu6(z)"),
        "jax": ("jax.nn.relu(z)", "jax.nn.relu6(z)"),
    }, only=RELU),
    Sabotage("gradients in the order of their names", "gradients", "", {
        "numpy": (", grads, detach(", ", dict(sorted(grads.items())), detach("),
        "torch": ("dict(zip(model.params, grads)), detach(",
                  "dict(sorted(dict(zip(model.params, grads)).items())), detach("),
        "tensorflow": ("for n, grad in grads.items()}, detach",
                       "for n, grad in sorted(grads.items())}, detach"),
        "mxnet": ("for n, p in model.params.items()}, detach",
                  "for n, p in sorted(model.params.items())}, detach"),
        "jax": ("{name: grads[name] for name in model.params}", "grads"),
    }),
    Sabotage("gradients that are right only for two rows and more", "gradients", "of one token", {
        "numpy": (", grads, detach(",
                  ", {n: g / 2 if len(batch.X) < 2 else g for n, g in grads.items()}, detach("),
        "torch": ("zip(model.params, grads)", "zip(model.params, (g / 2 for g in grads) "
                  "if len(batch.X) < 2 else grads)"),
        "jax": ("grads[name] for", "grads[name] / (2 if len(batch.X) < 2 else 1) for"),
    }),
    Sabotage("each element of the gradients limited to 1", "gradients", "of one token", {
        "numpy": (", grads, detach(",
                  ", {n: np.clip(g, -1, 1) for n, g in grads.items()}, detach("),
        "torch": ("zip(model.params, grads)", "zip(model.params, (g.clip(-1, 1) for g in grads))"),
        "jax": ("grads[name] for", "grads[name].clip(-1, 1) for"),
    }),
    Sabotage("a state with history", "detach", "second time", within("torch",
        "grads)), detach(state)", "grads)), state")),
    Sabotage("gradients added to those before", "gradients", "", {
        "torch": ("grads = torch.autograd.grad(mean, list(model.params.values()))",
                  "mean.backward()\n    grads = [param.grad for param in model.params.values()]"),
        "mxnet": ("p.grad.copy()", "p.grad"),
    }),
    Sabotage("clip that divides by a norm of 0", "clip", "gradients of zero", {
        "numpy": ("theta / np.maximum(norm, theta)", "np.minimum(norm, theta) / norm"),
        "torch": ("theta / norm.clamp(min=theta)", "norm.clamp(max=theta) / norm"),
        "tensorflow": ("theta / tf.maximum(norm, theta)", "tf.minimum(norm, theta) / norm"),
        "mxnet": ("theta / np.maximum(norm, theta)", "np.minimum(norm, theta) / norm"),
        "jax": ("theta / jnp.maximum(norm, theta)", "jnp.minimum(norm, theta) / norm"),
    }),
    Sabotage("learning rate in float32", "update", "plain",
             everywhere("lr = how.lr if", "lr = float(__import__('numpy').float32(how.lr)) if")),
    Sabotage("the first settings of an update for all", "train_minibatch", "another", everywhere(
        "    mean, grads, state = gradients(model, batch, state)\n",
        "    how = train_minibatch.__dict__.setdefault(model.options, how)\n"
        "    mean, grads, state = gradients(model, batch, state)\n")),
    Sabotage("exact mode forgotten in training", "train_minibatch", "another one",
             everywhere("    update(model, grads, how,",
                        "    update(model, grads, how._replace(grid=None),")),
    Sabotage("an epoch that begins where the one before has ended", "train_epoch", "sequential",
             everywhere("    losses = []", "    losses, kept = [], train_epoch.__dict__\n"
                        "    state = state or kept.get(model)",
                        "    return [float(mean)", "    kept[model] = state\n"
                        "    return [float(mean)")),
    Sabotage("random sampling that begins with a state", "train_epoch", "random, 1 updates",
             everywhere(CARRY, "if state is None or losses and not carry:")),
    Sabotage("each minibatch counted as a whole one", "evaluate", "state carried",
             everywhere(" * batch.X.size", f" * {B * T}")),
    Sabotage("a sum that is a tensor", "evaluate", "a float",
             everywhere("float(loss(logits, tensors.Y))", "loss(logits, tensors.Y)")),
    Sabotage("logits as a tensor", "predict", "from arrays", {
        name: ("choose(array(logits)[0])", "int(choose(logits[0]))")
        for name in OURS if name != "numpy"
    }),
    Sabotage("tokens that are floats", "predict", "a list of integers",
             everywhere("    return outputs\n\n\ndef build",
                        "    return [float(each) for each in outputs]\n\n\ndef build")),
    Sabotage("the caller's prefix changed", "predict", "tuple",
             everywhere("outputs = model.state(1), [prefix[0]]",
                        "outputs = model.state(1), prefix\n    outputs.append(prefix[0])")),
    Sabotage("parameters that change while text is generated", "predict", "parameters", {
        **everywhere("    return outputs\n\n\ndef build",
                     '    model.params["b_q"] = model.params["b_q"] + 1\n'
                     "    return outputs\n\n\ndef build"),
    }),

    # NumPy's hand-written backward pass.
    Sabotage("derivative of tanh from the pre-activation", "gradients", "W_xh", within("numpy",
        "1 - h * h if", "1 - np.arctanh(h) ** 2 if")),
    Sabotage("gradient of a sum instead of a mean", "gradients", "", within("numpy",
        "return d_logits / len(labels)", "return d_logits")),
    Sabotage("gradient of the loss without the one-hot vector", "gradients", "", within("numpy",
        "d_logits[np.arange(len(labels)), labels] -= 1", "pass")),
    Sabotage("no slope of the activation in the gradient", "gradients", "", within("numpy",
        "linear_back(d_h * slope(h, options), x,", "linear_back(d_h, x,")),
    Sabotage("bias gradient missing", "gradients", "b_h", within("numpy",
        'f"b_{name}": dz.sum(0)', 'f"b_{name}": np.zeros_like(params["b_h"])')),
    Sabotage("W_hh not transposed in the cell's backward pass", "gradients", "W_xh", within("numpy",
        'dz @ params[f"W_h{name}"].T', 'dz @ params[f"W_h{name}"]')),
    Sabotage("a character that occurs twice counted once", "gradients", "W_e", within("numpy",
        'np.add.at(grads["W_e"], batch.X[:, t], d_x)',
        'grads["W_e"][batch.X[:, t]] += d_x'), only=DEEP),

    # The gated cells.
    Sabotage("gates swapped", "step", "logits", everywhere(
        'for name in "zr")', 'for name in "rz")'), only=GRU),
    Sabotage("reset after the product instead of before", "step", "logits", everywhere(
        '(r * h) @ params["W_hh"]', 'r * (h @ params["W_hh"])'), only=GRU),
    Sabotage("reset before the product instead of after", "step", "logits", everywhere(
        'r * (h @ params["W_hh"])', '(r * h) @ params["W_hh"]'), only=GRU_AFTER),
    Sabotage("only one state of two", "state", "number of tensors", everywhere(
        "range(options.num_states)", "range(1)"), only=LSTM),
    Sabotage("cell state dropped", "step", "logits", everywhere(
        "c = f * c + i * new", "c = i * new"), only=LSTM),
    Sabotage("cell state not carried", "step", "state", everywhere(
        "return o * activation(c, options), c",
        "return o * activation(c, options), state[1]"), only=LSTM),
    Sabotage("states in the wrong order", "step", "logits", everywhere(
        "return o * activation(c, options), c",
        "return c, o * activation(c, options)"), only=LSTM),
    Sabotage("gradient of the forget gate missing", "gradients", "W_x", within("numpy",
        '"f": d_f', '"f": 0 * d_f'), only=LSTM),
    Sabotage("gradient through the reset gate missing", "gradients", "W_x", within("numpy",
        "linear_back(d_rh * h * r", "linear_back(0 * d_rh * h * r"), only=GRU),
    Sabotage("product left out of the reset gate's gradient", "gradients", "W_x", within("numpy",
        "linear_back(d_new * product * r", "linear_back(d_new * r"), only=GRU_AFTER),

    # Layers and dropout.
    Sabotage("layers that read each other's state", "step", "logits", everywhere(
        "enumerate(by_layer(state, options))", "enumerate(by_layer(state, options)[::-1])"),
        only=DEEP),
    Sabotage("every layer has the first one's parameters", "step", "", everywhere(
        "of_layer(params, layer), options)", "of_layer(params, 0), options)"), only=DEEP),
    Sabotage("masks ignored", "step", "logits", everywhere(
        "x = own[0] if masks is None else own[0] * masks[:, layer]", "x = own[0]"), only=DEEP),
    Sabotage("masks applied twice", "step", "logits", everywhere(
        "own[0] * masks[:, layer]  #", "own[0] * masks[:, layer] * masks[:, layer]  #"),
        only=DEEP),
    Sabotage("masks applied to the state that is carried", "step", "state", everywhere(
        "        x = own[0] if masks is None else own[0] * masks[:, layer]",
        "        own = own if masks is None else (own[0] * masks[:, layer], *own[1:])\n"
        "        x = own[0]"), only=DEEP),
    Sabotage("the first layer's masks for all layers", "step", "logits", everywhere(
        "own[0] * masks[:, layer]  #", "own[0] * masks[:, 0]  #"), only=DEEP),
    Sabotage("the first time step's masks for all", "forward", "logits", everywhere(
        "else masks[:, t]", "else masks[:, 0]"), only=DEEP),
    Sabotage("masks that do not reach the gradients", "gradients", "", {
        **everywhere("masks=batch.masks", "masks=None"),
        "numpy": ("[None] * len(inputs) if batch.masks is None else", "[None] * len(inputs) or"),
    }, only=DEEP),
    Sabotage("masks left out of the gradient from above", "gradients", "W_e", within("numpy",
        "d_own[0] + d_x * keep[layer]", "d_own[0] + d_x"), only=DEEP),
    Sabotage("masks left out of the gradients of weights", "gradients", "W_xh_2", within("numpy",
        "own[0] * keep[layer] for layer", "own[0] for layer"), only=DEEP),
    Sabotage("gradients of layers without dropout", "gradients", "with 300 characters",
             within("numpy",
        "[1] * options.num_layers", "[1] + [0.5] * (options.num_layers - 1)"), only=DEEP),
    Sabotage("masks ignored in the optimized model", "forward", "logits", {
        **everywhere("hiddens if masks is None else", "hiddens if True else"),
        "mxnet": ("if masks is None:\n        return hiddens", "if True:\n        return hiddens"),
    }, "fast.py", "fast", DEEP),
    Sabotage("masks left out of the optimized backward pass", "gradients", "W_e", within("numpy",
        "if batch.masks is not None:", "if False:"), "fast.py", "fast", DEEP),
    Sabotage("a bias that the second layer lacks in the optimized model", "forward", "logits", {
        **dict.fromkeys(("numpy", "tensorflow", "jax"),
                        ('@ params["W_x"] + params["b"]', '@ params["W_x"]')),
        "torch": ('linear(outputs.flatten(0, 1), params["W_x"], params["b"])',
                  'outputs.flatten(0, 1) @ params["W_x"]'),
    }, "fast.py", "fast", DEEP),

    # The optimizers.
    Sabotage("β1 and β2 exchanged", "update", "adam", everywhere(
        "running means m of g and v of g squared.\"\"\"\n",
        "running means m of g and v of g squared.\"\"\"\n"
        "    how = how._replace(beta1=how.beta2, beta2=how.beta1)\n")),
    Sabotage("means without the correction of their bias", "update", "adam", everywhere(
        "(m / rates.m) / (", "m / (", "sqrt(v / rates.v)", "sqrt(v)")),
    Sabotage("ε inside the root", "update", "adam", everywhere(
        "sqrt(v / rates.v) + how.epsilon)", "sqrt(v / rates.v + how.epsilon))")),
    Sabotage("ε inside the correction of the bias", "update", "adam", everywhere(
        "(m / rates.m) / (", "rates.v ** 0.5 * (m / rates.m) / (",
        "sqrt(v / rates.v) +", "sqrt(v) +")),
    Sabotage("weight decay that enters the gradient", "update", "momentum", everywhere(
        "grad = rounded(grads[name], how.grad_grid)",
        "grad = rounded(grads[name], how.grad_grid) + how.weight_decay * param",
        "if how.weight_decay:", "if False:")),
    Sabotage("no weight decay", "update", "sgd", everywhere("if how.weight_decay:", "if False:")),
    Sabotage("momentum that forgets", "update", "momentum", everywhere(
        'return m, {"m": m}', 'return grad, {"m": m}')),
    Sabotage("m and v of the optimizer never changed", "update", "momentum", everywhere(
        "for slot, value in slots.items():", "for slot, value in ():")),
    Sabotage("a gradient that is remembered unrounded", "update", "on the grid", everywhere(
        "rounded(grads[name], how.grad_grid)", "grads[name]")),
    Sabotage("the schedule's learning rate ignored", "update", "sgd with", everywhere(
        "how.lr if rates is None else rates.lr", "how.lr")),
    Sabotage("rates that do not reach the optimizer", "train_minibatch", "raised", everywhere(
        "update(model, grads, how, batch.rates)", "update(model, grads, how)")),
    Sabotage("slots that do not leave the compiled function", "train_minibatch", "Adam",
             within("jax",
        "model.slots.update(slots)", "pass"), "machine.py"),

    # The optimized model.
    Sabotage("input bias left out", "forward", "logits", everywhere(
        '(params["W_e"] @ W_x if "W_e" in params else W_x) + b',
        '(params["W_e"] @ W_x if "W_e" in params else W_x) + 0',
    ), "fast.py", "fast"),
    Sabotage("input bias left out of a step of generating text", "forward", "one token", {
        **everywhere("if embedded is None else embedded) + b",
                     "if embedded is None else embedded) + 0"),
        "numpy": ("else W_x[tokens]) + b", "else W_x[tokens]) + 0"),
        "jax": ("else W_x[tokens]) + b", "else W_x[tokens]) + 0"),
    }, "fast.py", "fast"),
    Sabotage("W_hh not transposed in the backward pass", "gradients", "W_xh", {
        "numpy": ("dz[t + 1] @ W_h.T", "dz[t + 1] @ W_h"),
        "torch": ("multiplier(W_h.T, len(hiddens))", "multiplier(W_h, len(hiddens))"),
        "tensorflow": ('tf.einsum("ij->ji", W_h)', "W_h"),
        "mxnet": ("product(dz[-1], W_h)", "product(dz[-1], W_h.T)"),
        "jax": ("W_T = W_h.T", "W_T = W_h"),
    }, "fast.py", "fast"),
    Sabotage("first step left out of the gradient of W_hh", "gradients", "W_hh", {
        **dict.fromkeys(("numpy", "torch"), ("d_W_h += h_0.T @ dz[0]", "pass")),
        "tensorflow": ("flatten(hiddens[:-1]), split(flatten(dz),",
                       "flatten(hiddens[1:-1]), split(flatten(dz[1:]),"),
        "mxnet": ("outer(before, dz)", "outer(before[len(h_0) :], dz[len(h_0) :])"),
        "jax": ("flatten(before).T @ flatten(dz)", "flatten(before[1:]).T @ flatten(dz[1:])"),
    }, "fast.py", "fast"),
    Sabotage("slope of ReLU at 0 is 1 in the backward pass", "gradients", "", {
        "torch": ("(h > 0)", "(h >= 0)"),
        "tensorflow": ("h > 0,", "h >= 0,"),
        "mxnet": ("np.sign(h)", "(h >= 0)"),
        "jax": ("(h > 0)", "(h >= 0)"),
    }, "gated.py", "fast", RELU),
    Sabotage("weights of the wrong gate", "params", "values", everywhere(
        "join_gates(arrays, options)",
        'join_gates({**arrays, "W_xi": arrays["W_xf"]}, options)'), "fast.py", "fast", LSTM),
    Sabotage("gradient of the forget gate missing in the optimized model", "gradients", "W_x", {
        "numpy": ("cells[:-1])) * f", "cells[:-1])) * 0 * f"),
        "torch": ("cells[:-1])), f", "cells[:-1])) * 0, f"),
        **dict.fromkeys(("tensorflow", "mxnet", "jax"),
                        ("cells * f * (1 - f)", "cells * 0 * f * (1 - f)")),
    }, "gated.py", "fast", LSTM),
    Sabotage("gradient through the reset gate missing in the optimized model", "gradients", "W_x",
             {
        **everywhere("before * r * (1 - r)", "before * 0 * r * (1 - r)"),
        "torch": ("gate_back(before, r", "gate_back(before * 0, r"),
    }, "gated.py", "fast", GRU),
    Sabotage("product left out of the reset gate's gradient in the optimized model", "gradients",
             "W_x", {
        "numpy": ("d_new * products[:, :, 2 * size :] * r", "d_new * r"),
        "torch": ("to_new * products, r", "to_new, r"),
        **dict.fromkeys(("tensorflow", "mxnet", "jax"),
                        ("to_new * products * r", "to_new * r")),
    }, "gated.py", "fast", GRU_AFTER),
    Sabotage("rows of a large vocabulary not summed", "gradients", "with 300 characters",
             within("numpy",
        "np.add.reduceat(d_rows[order], first)", "d_rows[order][first]"), "fast.py", "fast"),

    # The machine.
    Sabotage("a device with a number", "devices", "names",
             {
        **everywhere('else ["cpu"]', 'else ["cpu:0"]'),
        "numpy": ('return ["cpu"]', 'return ["cpu:0"]'),
        "torch": ('"cpu"]', '"cpu:0"]'),
    }, "machine.py"),
    Sabotage("no version under the backend's name", "environment", "versions", {
        name: (f'{{"{name}": ', '{"version": ') for name in OURS if name != "mxnet"
    } | {"mxnet": ('"mxnet": mxnet.__version__', '"version": mxnet.__version__')}, "machine.py"),
    Sabotage("tensors in float32 only", "tensor", "", {
        "numpy": ("    return array\n", "    return array.astype('float32')\n"),
        "torch": ("torch.as_tensor(array, device=device)",
                  "torch.as_tensor(array, device=device).float()"),
        "tensorflow": ("tf.constant(array)", 'tf.constant(array, "float32")'),
        "mxnet": ("dtype=array.dtype", 'dtype="float32"'),
        "jax": ("jax.device_put(array,", "jax.device_put(array.astype('float32'),"),
    }, "machine.py"),
    Sabotage("arrays that change with the parameters", "to_arrays", "copies", {
        name: ("array(param).copy()", "array(param)") for name in ("numpy", "torch")
    }, "machine.py"),
    Sabotage("the first product returned", "multiply", "products: 3",
             products("[:1]"), "machine.py"),
    Sabotage("products from the last to the first", "multiply", "products: 3", {
        name: ("for W in matrices:", "for W in matrices[::-1]:") for name in ("numpy", "torch")
    }, "machine.py"),
    Sabotage("arrays in the order of their names", "params", "instead of", {
        name: ("for name, param in params.items()", "for name, param in sorted(params.items())")
        for name in OURS
    }, "machine.py"),
    Sabotage("memory in words", "memory", "of the CPU", everywhere(
        "def memory(device):", "def memory(device):\n    return '1 GB'\n"), "machine.py"),
    Sabotage("tokens as bytes", "tensor", "tokens", {
        "numpy": ("    return array\n",
                  "    return array.astype('int8') if array.dtype.kind == 'i' else array\n"),
        "torch": ("torch.as_tensor(array, device=device)", "torch.as_tensor("
                  "array.astype('u1').astype('i8') if array.dtype.kind == 'i' else array)"),
    }, "machine.py"),
    Sabotage("one product too few", "multiply", "products: 1",
             products("[:-1]"), "machine.py"),
    Sabotage("synchronize without tensors", "signature", "machine.synchronize", everywhere(
        "def synchronize(tensors, device):", "def synchronize(device):"), "machine.py"),
    Sabotage("synchronize returns at once", "synchronize", "before the tensors are computed", {
        "mxnet": ("    npx.waitall()\n\n\ndef environment", "    pass\n\n\ndef environment"),
        "jax": ("jax.block_until_ready(tensors)", "pass"),
    }, "machine.py"),
    Sabotage("set_eager does nothing", "set_eager", "not executed", {
        "tensorflow": ("tf.config.run_functions_eagerly(eager)", "pass"),
        "jax": ('jax.config.update("jax_disable_jit", eager)', "pass"),
    }, "machine.py"),
]  # fmt: skip

# A mistake that only a process in which nothing is computed yet can show.
THREADS_IGNORED = Sabotage("number of threads ignored", "set_threads", "", {
    "numpy": ('threadpoolctl.threadpool_limits(limits=threads, user_api="blas")', "pass"),
    "torch": ("torch.set_num_threads(threads)", "pass"),
    "tensorflow": ("number = threads or now", "number = now"),
    "mxnet": ("number = threads or int(", "number = int("),
    "jax": ("number = threads or now", "number = now"),
}, "machine.py")  # fmt: skip


def copy(backend, folder: Path) -> Path:
    """Copy the backend to a package of its own."""
    own, ignored = Path(backend.__file__).parent, shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(own, folder / f"changed_{next(NUMBERS)}", ignore=ignored))


def changed(text: str, change: Sequence[str], where: object = "the source") -> str:
    """A text with what takes the place of what is there; and so on."""
    for old, new in zip(change[::2], change[1::2]):
        assert old in text, f"{old!r} is not in {where}: make the change follow the code"
        text = text.replace(old, new, 1)
    return text


def make(change: Sequence[str], path: Path) -> None:
    """Change a file."""
    path.write_text(changed(path.read_text(encoding="utf-8"), change, path), encoding="utf-8")


def load(package: Path):
    """The module of a copy."""
    sys.path.insert(0, str(package.parent))
    try:
        return importlib.import_module(package.name)
    finally:
        sys.path.remove(str(package.parent))
