"""Mistakes made in the source of a backend one at a time, which the check must detect and name.

Those that lessons use are in the package. A source that does not have the text
that a mistake replaces fails the test, so that the mistakes follow the code.
"""

from collections.abc import Sequence
from pathlib import Path

from measure.measuring import copy

from rnn_scratch.check.inputs import DEEP, LARGE, PLAIN, STACKED, B, T
from rnn_scratch.check.mistakes import CARRY, LSTM, MISTAKES, Mistake, changed, everywhere
from rnn_scratch.registry import OURS

GRU, GRU_AFTER, RELU = (PLAIN._replace(cell=cell) for cell in ("gru", "gru-after", "rnn-relu"))


SABOTAGES = [
    *MISTAKES,
    Mistake("state not carried", "train_epoch", "sequential", everywhere(CARRY, "if True:")),
    Mistake("an epoch that cannot go on from a state", "train_epoch", "sequential",
             everywhere("    losses = []", "    losses, state = [], None")),
    Mistake("state not detached", "detach", "gradients", {
        "torch": ("return tuple(s.detach() for s in state)", "return state"),
        "tensorflow": ("return tuple(tf.stop_gradient(s) for s in state)", "return state"),
        "mxnet": ("return tuple(s.detach() for s in state)", "return state"),
        "jax": ("return tuple(jax.lax.stop_gradient(s) for s in state)", "return state"),
    }),
    Mistake("clip on unsummed sparse rows", "train_minibatch", "parameters", {"tensorflow": (
        "{n: tf.convert_to_tensor(grad) for n, grad in grads.items()}", "grads",
        "norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))",
        "norm = tf.linalg.global_norm(list(grads.values()))",
        "grad * scale for", "tf.convert_to_tensor(grad) * scale for")},
        model="concise", only=DEEP),
    Mistake("halves rounded up", "rounded", "ties",
             everywhere("round(values / grid)", "floor(values / grid + 0.5)")),
    Mistake("state not rounded in exact mode", "train_minibatch", "state in exact mode",
             everywhere("rounded(each, how.state_grid)", "each")),
    Mistake("gradients not clipped in training", "train_minibatch", "parameters",
             everywhere("grads, _ = clip(grads, how.theta)", "pass")),
    Mistake("losses as tensors", "train_epoch", "not a list of floats", {
        **everywhere("[float(mean) for mean in losses]", "losses"),
        "numpy": ("[float(mean) for mean in losses]", "np.array(losses)"),
    }),
    Mistake("the last loss only", "train_epoch", "losses",
             everywhere("for mean in losses]", "for mean in losses[-1:]]")),
    Mistake("a state of ones", "state", "zeros",
             everywhere(".zeros((batch_size,", ".ones((batch_size,")),
    Mistake("rows of the embedding cut in place", "deep_step", "logits", {"torch": (
        'x @ params["W_e"]',
        'torch.nn.functional.embedding(x.argmax(-1), params["W_e"], max_norm=1)')},
        "deep.py", only=DEEP),
    Mistake("fast.py does not follow a change of the step", "forward", "a loop over its own step",
             everywhere('h @ params["W_hh"] + ', '2 * h @ params["W_hh"] + '), model="fast"),
    Mistake("concise.py does not follow a change of the step", "forward",
             "a loop over its own step", {
        name: ('h @ params["W_hh"] + ', '2 * h @ params["W_hh"] + ')
        for name in OURS if name != "numpy"
    }, model="concise"),
    Mistake("an argument that the contract lacks", "signature", "scratch.encode",
             everywhere("def encode(tokens, params):", "def encode(tokens, params, options):")),
    Mistake("parameters that share memory with the arrays", "params", "", {
        "numpy": ("values.astype(options.dtype)", "values.astype(options.dtype, copy=False)"),
        "torch": ("torch.tensor(values, **where, requires_grad=True)",
                  "torch.as_tensor(values, **where).requires_grad_()"),
        "tensorflow": ("values.astype(options.dtype)",
                       "tf.experimental.dlpack.from_dlpack(values.__dlpack__())"),
        "jax": ("values.astype(dtype)", "values.astype(dtype, copy=False)"),
    }),
    Mistake("forward with the parameters that training started at", "train_minibatch",
             "logits afterwards", {"numpy": (
        "return bind(params(arrays, options), options, forward,",
        "copies = params(arrays, options)\n"
        "    return bind(params(arrays, options), options,"
        " lambda tokens, state, params, options: forward(tokens, state, copies, options),")}),
    Mistake("new parameters that do not leave the compiled function", "train_minibatch",
             "parameters", {"jax": (
        "model.params.update(params)", "pass")}, "machine.py"),
    Mistake("an optimized forward with the parameters that training started at",
             "train_minibatch", "logits afterwards", {"jax": (
        "params=tensors):", "params=dict(tensors)):")}, "fast.py", "fast"),
    Mistake("a state with history", "detach", "second time", {"torch": (
        "grads)), detach(state)", "grads)), state")}),
    Mistake("gradients added to those before", "gradients", "", {
        "torch": ("grads = torch.autograd.grad(mean, list(model.params.values()))",
                  "mean.backward()\n    grads = [param.grad for param in model.params.values()]"),
        "mxnet": ("p.grad.copy()", "p.grad"),
    }),
    Mistake("the first settings of an update for all", "train_minibatch", "another", everywhere(
        "    mean, grads, state = gradients(model, batch, state)\n",
        "    how = train_minibatch.__dict__.setdefault(model.options, how)\n"
        "    mean, grads, state = gradients(model, batch, state)\n")),
    Mistake("exact mode forgotten in training", "train_minibatch", "another one",
             everywhere("(model, grads, how, batch.rates)",
                        "(model, grads, how._replace(grid=None), batch.rates)")),
    Mistake("an epoch that begins where the one before has ended", "train_epoch", "sequential",
             everywhere("    losses = []", "    losses, kept = [], train_epoch.__dict__\n"
                        "    state = state or kept.get(model)",
                        "    return [float(mean)", "    kept[model] = state\n"
                        "    return [float(mean)")),
    Mistake("random sampling that begins with a state", "train_epoch", "random, 1 updates",
             everywhere(CARRY, "if state is None or losses and not carry:")),
    Mistake("each minibatch counted as a whole one", "evaluate", "mean loss",
             everywhere(" * batch.X.size", f" * {B * T}"), "deep.py"),
    Mistake("a sum that is a tensor", "evaluate", "a float",
             everywhere("float(loss(logits, tensors.Y))", "loss(logits, tensors.Y)"), "deep.py"),
    Mistake("each minibatch evaluated from zeros", "evaluate", "mean loss",
             everywhere("state = state or model", "state = model"), "deep.py"),
    Mistake("logits as a tensor", "predict", "from arrays", {
        name: ("choose(array(logits)[0])", "int(choose(logits[0]))")
        for name in OURS if name != "numpy"
    }),
    Mistake("tokens that are floats", "predict", "a list of integers",
             everywhere("    return outputs\n\n\ndef build",
                        "    return [float(each) for each in outputs]\n\n\ndef build")),
    Mistake("the caller's prefix changed", "predict", "tuple",
             everywhere("outputs = model.state(1), [prefix[0]]",
                        "outputs = model.state(1), prefix\n    outputs.append(prefix[0])")),

    # More cells.
    Mistake("reset after the product instead of before", "gru", "state", everywhere(
        '(r * h) @ params["W_hh"]', 'r * (h @ params["W_hh"])'), "cells.py", only=GRU),
    Mistake("reset before the product instead of after", "gru_after", "state", everywhere(
        'r * (h @ params["W_hh"])', '(r * h) @ params["W_hh"]'), "cells.py", only=GRU_AFTER),
    Mistake("only one state of two", "state", "number of tensors", everywhere(
        "range(options.num_states)", "range(1)"), only=LSTM),
    Mistake("ReLU that ends at 6", "rnn_relu", "state", {
        "numpy": ('params["b_h"], 0)', 'params["b_h"], 0).clip(max=6)'),
        "torch": ("torch.relu(", "torch.nn.functional.relu6("),
        "tensorflow": ("tf.nn.relu(", "tf.nn.relu6("),
        "mxnet": ("npx.relu(", "(lambda z: np.clip(z, 0, 6))("),
        "jax": ("jax.nn.relu(", "jax.nn.relu6("),
    }, "cells.py", only=RELU),
    Mistake("slope of ReLU at 0 is 1", "gradients", "", {
        "numpy": ("(h > 0)", "(h >= 0)"),
        "torch": ("torch.relu(", "(lambda z: torch.where(z >= 0, z, 0))("),
        "tensorflow": ("tf.nn.relu(", "(lambda z: tf.where(z >= 0, z, tf.zeros_like(z)))("),
        "mxnet": ("npx.relu(", "(lambda z: np.where(z >= 0, z, np.zeros_like(z)))("),
        "jax": ("jax.nn.relu(", "(lambda z: jnp.where(z >= 0, z, 0))("),
    }, "cells.py", only=RELU),
    Mistake("gradient of the forget gate missing", "gradients", "W_x", {"numpy": (
        '"f": d_f', '"f": 0 * d_f')}, "cells.py", only=LSTM),
    Mistake("gradient through the reset gate missing", "gradients", "W_x", {"numpy": (
        "d_rh * h * r", "0 * d_rh * h * r")}, "cells.py", only=GRU),
    Mistake("product left out of the reset gate's gradient", "gradients", "W_x", {"numpy": (
        "d_new * product * r", "d_new * r")}, "cells.py", only=GRU_AFTER),

    # Layers, an embedding and dropout.
    Mistake("masks applied to the state that is carried", "deep_step", "state", everywhere(
        "        x = hidden[0] if masks is None else hidden[0] * masks[layer]",
        "        if masks is not None:\n"
        "            hidden = (hidden[0] * masks[layer], *hidden[1:])\n"
        "        x = hidden[0]"), "deep.py", only=DEEP),
    Mistake("the first time step's masks for all", "deep_forward", "logits", everywhere(
        "else masks[t]", "else masks[0]"), "deep.py", only=DEEP),
    Mistake("masks that do not reach the gradients", "gradients", "", {
        name: ("model.forward(batch.inputs,", "model.forward(batch.X,")
        for name in OURS if name != "numpy"
    }, only=DEEP),
    Mistake("masks that do not reach the backward pass", "gradients", "", {"numpy": (
        "[None] * len(inputs) if batch.masks is None else", "[None] * len(inputs) or")},
        "deep.py", only=DEEP),
    Mistake("masks left out of the gradient from above", "gradients", "W_", {"numpy": (
        "d_h + d_x * keep[layer]", "d_h + d_x")}, "deep.py", only=DEEP),
    Mistake("masks left out of the gradients of weights", "gradients", "W_xh_2", {"numpy": (
        "(hidden[0] * keep[layer] for layer", "(hidden[0] for layer")}, "deep.py", only=DEEP),
    Mistake("gradients of layers without dropout", "gradients", "with 300 characters",
             {"numpy": (
        "[1] * options.num_layers", "[1] + [0.5] * (options.num_layers - 1)")},
        "deep.py", only=DEEP),
    Mistake("a character that occurs twice counted once", "gradients", "W_e", {"numpy": (
        '"W_e": x.T @ d_x', '"W_e": (x.T * (x.T.cumsum(1) == 1)) @ d_x')}, "deep.py", only=DEEP),
    Mistake("masks ignored in the optimized model", "forward", "logits", {
        **everywhere("hiddens if masks is None else", "hiddens if True else"),
        "mxnet": ("if masks is None:\n        return hiddens", "if True:\n        return hiddens"),
    }, "fast.py", "fast", DEEP),
    Mistake("masks left out of the optimized backward pass", "gradients", "W_", {"numpy": (
        "if batch.masks is not None:", "if False:")}, "fast.py", "fast", DEEP),
    Mistake("a bias that the second layer lacks in the optimized model", "forward", "logits", {
        **dict.fromkeys(("numpy", "tensorflow", "jax"),
                        ('@ params["W_x"] + params["b"]', '@ params["W_x"]')),
        "torch": ('linear(outputs.flatten(0, 1), params["W_x"], params["b"])',
                  'outputs.flatten(0, 1) @ params["W_x"]'),
        "mxnet": ('affine(outputs, params["W_x"], params["b"])', 'outputs @ params["W_x"]'),
    }, "fast.py", "fast", DEEP),

    # What only some sizes, layers, dtypes or settings show.
    Mistake("masks that an epoch drops", "train_epoch", "sequential", everywhere(
        "batch = batch.map(", "batch = batch._replace(masks=None).map("), only=DEEP),
    Mistake("the first rates of an epoch for all", "train_epoch", "sequential", everywhere(
        "    losses = []", "    losses, rates = [], None",
        "        batch = batch.map(",
        "        rates = rates or batch.rates\n        batch = batch._replace(rates=rates).map(")),
    Mistake("the second layer's parameters in the third", "deep_step", "", everywhere(
        "of_layer(params, layer))", "of_layer(params, min(layer, 1)))"), "deep.py", only=STACKED),
    Mistake("the second layer's state in the third", "deep_step", "", everywhere(
        "(by_layer(state, options))",
        "([by_layer(state, options)[min(i, 1)] for i in range(options.num_layers)])"),
        "deep.py", only=STACKED),
    Mistake("the second layer's masks in the third", "deep_step", "", everywhere(
        "masks[layer]  #", "masks[min(layer, 1)]  #"), "deep.py", only=DEEP),
    Mistake("the second layer's parameters in the third, fast", "forward", "logits", everywhere(
        "own = of_layer(params, layer)", "own = of_layer(params, min(layer, 1))"),
        "fast.py", "fast", STACKED),
    *(Mistake(f"the second layer's state in the third, {model}", "forward", "", {
        name: ("by_layer(state, options)",
               "[by_layer(state, options)[min(i, 1)] for i in range(options.num_layers)]")
        for name in OURS if (name, model) != ("numpy", "concise")
    }, f"{model}.py", model, STACKED) for model in ("fast", "concise")),
    Mistake("the top layer's state first", "forward", "state", {
        "torch": ("(last if len(before) > 1 else (last,))",
                  "(s.flip(0) for s in (last if len(before) > 1 else (last,)))"),
        "mxnet": ("for own in range(height)", "for own in reversed(range(height))"),
        "tensorflow": ("after += tuple(last)", "after = (*last, *after)"),
        "jax": ("after += last[::-1] if len(own) > 1 else (last,)",
                "after = (*(last[::-1] if len(own) > 1 else (last,)), *after)"),
    }, "concise.py", "concise", STACKED),
    Mistake("states of a stack exchanged", "forward", "", {
        "torch": ("outputs, last = stack(outputs, tuple(before)",
                  "outputs, last = stack(outputs, tuple(before[::-1])"),
        "mxnet": ("outputs, last = stack(outputs, before)",
                  "outputs, last = stack(outputs, before[::-1])"),
        "tensorflow": ("initial_state=list(before)", "initial_state=list(before[::-1])"),
        "jax": ("own[::-1] if len(own) > 1", "own if len(own) > 1"),
    }, "concise.py", "concise", STACKED._replace(cell="lstm")),
    Mistake("an upper layer's second bias that is not zero", "forward", "logits", {
        "torch": ('nn.init.zeros_(getattr(stack, f"bias_hh_l{own}"))',
                  'nn.init.constant_(getattr(stack, f"bias_hh_l{own}"), 0.1 * own)'),
        "mxnet": ('getattr(stack, f"l{own}_h2h_bias").grad_req = "null"',
                  'getattr(stack, f"l{own}_h2h_bias").grad_req = "null"\n'
                  '        getattr(stack, f"l{own}_h2h_bias").init = "ones" if own else "zeros"'),
    }, "concise.py", "concise", STACKED),
    Mistake("tanh that is wrong for many numbers", "forward", "logits", {"torch": (
        "torch.add(MINUS_ONE, torch", "torch.add(-MINUS_ONE, torch")}, "gated.py", "fast", LARGE),
    Mistake("a packed product of many rows that forgets z", "forward", "logits", {"torch": (
        "if z is None:", "if z is None or len(h) > 3:")}, "products.py", "fast", LARGE),
    Mistake("a bias gradient that is a mean over many rows", "gradients", "b_q", {"torch": (
        "dz.sum(0)\n", "dz.mean(0)\n")}, "products.py", "fast", LARGE),
    Mistake("a weight gradient of many rows that leaves out the last", "gradients", "W_",
             {"torch": (
        "h.T, dz.contiguous()", "h[:-1].T, dz[:-1].contiguous()")},
        "products.py", "fast", LARGE),
    Mistake("one-hot vectors in float64", "encode", "vectors", {
        "numpy": (', dtype=params["b_q"].dtype)', ")"),
        "torch": ('.to(params["b_q"].dtype)', ".to(torch.float64)"),
        "tensorflow": ('dtype=params["b_q"].dtype', 'dtype="float64"'),
        "mxnet": ('dtype=params["b_q"].dtype', 'dtype="float64"'),
    }, only=DEEP),
    Mistake("embedded vectors in float64", "deep_step", "", {
        "numpy": ('x @ params["W_e"]', 'x @ params["W_e"].astype("float64")'),
        "jax": ('x @ params["W_e"]', 'x @ params["W_e"].astype("float64")'),
    }, "deep.py", only=DEEP),
    Mistake("masks in float64", "deep_forward", "", {
        "numpy": ("else masks[t]", 'else masks[t].astype("float64")'),
        "torch": ("else masks[t]", "else masks[t].double()"),
        "jax": ("else masks[t]", 'else masks[t].astype("float64")'),
    }, "deep.py", only=DEEP),
    Mistake("masks in float64 in the optimized model", "forward", "", {
        "numpy": ("hiddens * masks[:, layer]", 'hiddens * masks[:, layer].astype("float64")'),
        "torch": ("hiddens * masks[:, layer]", "hiddens * masks[:, layer].double()"),
        "jax": ("hiddens * masks[:, layer]", 'hiddens * masks[:, layer].astype("float64")'),
    }, "fast.py", "fast", DEEP),
    Mistake("only the first layers' states detached", "detach", "gradients", {
        "torch": ("return tuple(s.detach() for s in state)",
                  "return *(s.detach() for s in state[:2]), *state[2:]"),
        "tensorflow": ("return tuple(tf.stop_gradient(s) for s in state)",
                       "return *(tf.stop_gradient(s) for s in state[:2]), *state[2:]"),
        "mxnet": ("return tuple(s.detach() for s in state)",
                  "return *(s.detach() for s in state[:2]), *state[2:]"),
        "jax": ("return tuple(jax.lax.stop_gradient(s) for s in state)",
                "return *(jax.lax.stop_gradient(s) for s in state[:2]), *state[2:]"),
    }, only=DEEP),
    Mistake("a prefix of one character read twice", "predict", "tokens", everywhere(
        "model.state(1), [prefix[0]]", "model.state(1), [*prefix[:1]] * (3 - len(prefix[:2]))")),
    Mistake("targets not transposed if there are as many rows as steps", "loss", "as many rows", {
        **everywhere("labels = targets.T.reshape(-1)", "labels = (targets if "
                     "len(targets) == len(targets.T) else targets.T).reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets if "
                       "targets.shape[0] == targets.shape[1] else tf.transpose(targets), [-1])"),
    }),
    Mistake("tokens not transposed if there are as many rows as steps", "forward", "as many rows",
             {
        **everywhere("encode(tokens.T, params)", "encode(tokens if "
                     "len(tokens) == len(tokens.T) else tokens.T, params)"),
        "tensorflow": ("encode(tf.transpose(tokens), params)", "encode(tokens if "
                       "tokens.shape[0] == tokens.shape[1] else tf.transpose(tokens), params)"),
    }),
    Mistake("a compiled product of another order", "train_minibatch", "with adam",
             {"tensorflow": ( "tf.square(grad)", "(grad * grad)")}, "deep.py"),

    # The optimizers.
    Mistake("weight decay that enters the gradient", "momentum", "", everywhere(
        "rounded(grads[name], how.grad_grid)",
        "rounded(grads[name], how.grad_grid) + how.weight_decay * param",
        "(m + ", "(m + 0 * "), "deep.py"),
    Mistake("momentum that forgets", "momentum", "", {
        **everywhere("how.beta1 * m_of[name] + rounded", "0 * m_of[name] + rounded"),
        "jax": ("apart(how.beta1 * m_of[name]) + rounded", "0 * m_of[name] + rounded"),
    }, "deep.py"),
    Mistake("a gradient that is remembered unrounded", "momentum", "on the grid", everywhere(
        "rounded(grads[name], how.grad_grid)", "grads[name]"), "deep.py"),
    Mistake("rates that do not reach the optimizer", "train_minibatch", "raised", everywhere(
        "(model, grads, how, batch.rates)", "(model, grads, how, None)")),
    Mistake("slots that do not leave the compiled function", "train_minibatch", "slots",
             {"jax": (
        "model.slots.update(slots)", "pass")}, "machine.py"),

    # The optimized model.
    Mistake("input bias left out", "forward", "logits", everywhere(
        '(params["W_e"] @ W_x if "W_e" in params else W_x) + b',
        '(params["W_e"] @ W_x if "W_e" in params else W_x) + 0',
    ), "fast.py", "fast"),
    Mistake("input bias left out of a step of generating text", "forward", "one token", {
        **everywhere("if embedded is None else embedded) + b",
                     "if embedded is None else embedded) + 0"),
        "numpy": ("else W_x[tokens]) + b", "else W_x[tokens]) + 0"),
        "jax": ("else W_x[tokens]) + b", "else W_x[tokens]) + 0"),
    }, "fast.py", "fast"),
    Mistake("W_hh not transposed in the backward pass", "gradients", "W_xh", {
        "numpy": ("dz[t + 1] @ W_h.T", "dz[t + 1] @ W_h"),
        "torch": ("multiplier(W_h.T, len(hiddens))", "multiplier(W_h, len(hiddens))"),
        "tensorflow": ('tf.einsum("ij->ji", W_h)', "W_h"),
        "mxnet": ("product(dz[-1], W_h)", "product(dz[-1], W_h.T)"),
        "jax": ("W_T = W_h.T", "W_T = W_h"),
    }, "fast.py", "fast"),
    Mistake("first step left out of the gradient of W_hh", "gradients", "W_hh", {
        **dict.fromkeys(("numpy", "torch"), ("d_W_h += h_0.T @ dz[0]", "pass")),
        "tensorflow": ("flatten(hiddens[:-1]), split(flatten(dz),",
                       "flatten(hiddens[1:-1]), split(flatten(dz[1:]),"),
        "mxnet": ("outer(before, dz)", "outer(before[len(h_0) :], dz[len(h_0) :])"),
        "jax": ("flatten(before).T @ flatten(dz)", "flatten(before[1:]).T @ flatten(dz[1:])"),
    }, "fast.py", "fast"),
    Mistake("slope of ReLU at 0 is 1 in the backward pass", "gradients", "", {
        **everywhere("(hiddens > 0)", "(hiddens >= 0)"),
        "tensorflow": ("after > 0,", "after >= 0,"),
        "mxnet": ("np.sign(after)", "(after >= 0)"),
    }, "fast.py", "fast", RELU),
    Mistake("weights of the wrong gate", "params", "values", everywhere(
        "join_gates(arrays, options)",
        'join_gates({**arrays, "W_xi": arrays["W_xf"]}, options)'), "fast.py", "fast", LSTM),
    Mistake("gradient of the forget gate missing in the optimized model", "gradients", "W_x", {
        "numpy": ("cells[:-1])) * f", "cells[:-1])) * 0 * f"),
        "torch": ("gate_back(cells[:-1], f", "gate_back(cells[:-1] * 0, f"),
        **dict.fromkeys(("tensorflow", "mxnet"),
                        ("cells * f * (1 - f)", "cells * 0 * f * (1 - f)")),
        "jax": ("d_c * c * f * (1 - f)", "d_c * 0 * f * (1 - f)"),
    }, "gated.py", "fast", LSTM),
    Mistake("gradient through the reset gate missing in the optimized model", "gradients", "W_x",
             {
        **everywhere("before * r * (1 - r)", "before * 0 * r * (1 - r)"),
        "torch": ("gate_back(before, r", "gate_back(before * 0, r"),
        "jax": ("d_reset * h * r * (1 - r)", "d_reset * 0 * r * (1 - r)"),
    }, "gated.py", "fast", GRU),
    Mistake("product left out of the reset gate's gradient in the optimized model", "gradients",
             "W_x", {
        "numpy": ("d_new * products[:, :, 2 * size :] * r", "d_new * r"),
        "torch": ("to_new * products, r", "to_new, r"),
        **dict.fromkeys(("tensorflow", "mxnet"), ("to_new * products * r", "to_new * r")),
        "jax": ("d_new * product * r * (1 - r)", "d_new * r * (1 - r)"),
    }, "gated.py", "fast", GRU_AFTER),
    Mistake("rows of a large vocabulary not summed", "gradients", "with 300 characters",
             {"numpy": (
        "np.add.reduceat(d_rows[order], first)", "d_rows[order][first]")}, "fast.py", "fast"),

    # The machine.
    Mistake("a device with a number", "devices", "names",
             {
        **everywhere('else ["cpu"]', 'else ["cpu:0"]'),
        "numpy": ('return ["cpu"]', 'return ["cpu:0"]'),
        "torch": ('"cpu"]', '"cpu:0"]'),
    }, "machine.py"),
    Mistake("no version under the backend's name", "environment", "versions", {
        name: (f'{{"{name}": ', '{"version": ') for name in OURS if name != "mxnet"
    } | {"mxnet": ('"mxnet": mxnet.__version__', '"version": mxnet.__version__')}, "machine.py"),
    Mistake("tensors in float32 only", "tensor", "", {
        "numpy": ("    return array\n", "    return array.astype('float32')\n"),
        "torch": ("torch.as_tensor(array, device=device)",
                  "torch.as_tensor(array, device=device).float()"),
        "tensorflow": ("tf.constant(array)", 'tf.constant(array, "float32")'),
        "mxnet": ("dtype=array.dtype", 'dtype="float32"'),
        "jax": ("jax.device_put(array,", "jax.device_put(array.astype('float32'),"),
    }, "machine.py"),
    Mistake("arrays that change with the parameters", "to_arrays", "copies", {
        name: ("array(param).copy()", "array(param)") for name in ("numpy", "torch")
    }, "machine.py"),
    Mistake("products from the last to the first", "multiply", "products: 3", {
        **everywhere("for i in order:", "for i in order[::-1]:"),
        **dict.fromkeys(("numpy", "torch"), ("for W in matrices:", "for W in matrices[::-1]:")),
    }, "machine.py"),
    Mistake("arrays in the order of their names", "params", "instead of", {
        name: ("for name, param in params.items()", "for name, param in sorted(params.items())")
        for name in OURS
    }, "machine.py"),
    Mistake("memory in words", "memory", "of the CPU", everywhere(
        "def memory(device):", "def memory(device):\n    return '1 GB'\n"), "machine.py"),
    Mistake("tokens as bytes", "tensor", "tokens", {
        "numpy": ("    return array\n",
                  "    return array.astype('int8') if array.dtype.kind == 'i' else array\n"),
        "torch": ("torch.as_tensor(array, device=device)", "torch.as_tensor("
                  "array.astype('u1').astype('i8') if array.dtype.kind == 'i' else array)"),
    }, "machine.py"),
    Mistake("synchronize without tensors", "signature", "machine.synchronize", everywhere(
        "def synchronize(tensors, device):", "def synchronize(device):"), "machine.py"),
    Mistake("synchronize returns at once", "synchronize", "before the tensors are computed", {
        "mxnet": ("    npx.waitall()\n\n\ndef environment", "    pass\n\n\ndef environment"),
        "jax": ("jax.block_until_ready(tensors)", "pass"),
    }, "machine.py"),
    Mistake("set_eager does nothing", "set_eager", "not executed", {
        "tensorflow": ("tf.config.run_functions_eagerly(eager)", "pass"),
        "jax": ('jax.config.update("jax_disable_jit", eager)', "pass"),
    }, "machine.py"),
]  # fmt: skip

# Only a compiler that optimizes makes this one, and in the tests that of JAX does not.
OF_COMPILER = Mistake("a compiled sum of another order", "train_minibatch", "with momentum", {
    "jax": ("apart(how.beta1 * m_of[name]) + rounded(grads[name], how.grad_grid)",
            "how.beta1 * m_of[name] + rounded(grads[name], how.grad_grid)",
            "apart(how.weight_decay * param)", "how.weight_decay * param"),
}, "deep.py")  # fmt: skip

# Mistakes that only a process in which nothing is computed yet can show.
OF_THREADS = [
    Mistake("number of threads ignored", "set_threads", "returned", {
        "numpy": ('threadpoolctl.threadpool_limits(limits=threads or _OWN_CHOICE, user_api="blas")',
                  "pass"),
        "torch": ("torch.set_num_threads(threads or _OWN_CHOICE)", "pass"),
        "tensorflow": ("number = threads or now", "number = now"),
        "mxnet": ("number = threads or int(", "number = int("),
        "jax": ("number = threads or now", "number = now"),
    }, "machine.py"),
    Mistake("a number of threads that is returned but not set", "set_threads", "more compute", {
        "numpy": ('threadpoolctl.threadpool_limits(limits=threads or _OWN_CHOICE, user_api="blas")',
                  "return threads"),
        "torch": ("torch.set_num_threads(threads or _OWN_CHOICE)", "return threads"),
        "tensorflow": ("tf.config.threading.set_inter_op_parallelism_threads(number)", "pass",
                       "tf.config.threading.set_intra_op_parallelism_threads(max(1, number // 2))",
                       "pass"),
        "mxnet": ("library.omp_set_num_threads(number)", "library.omp_set_num_threads(3)",
                  "numbers.append(library.omp_get_max_threads())", "numbers.append(number)"),
        "jax": ('os.environ["NPROC"] = str(number)', "pass"),
    }, "machine.py"),
]  # fmt: skip

# Mistakes that only a device beside the CPU can show, in the frameworks that have one.
MAP = "batch = batch.map(tensor, model.options.device)"
SQUARES = "sum((grad * grad).sum() for grad in grads.values())"
OF_DEVICES = [
    Mistake("parameters and slots on the CPU", "params", "device", {
        "torch": ('"device": options.device', '"device": "cpu"'),
        "tensorflow": ("with on(options.device):", 'with on("cpu"):'),
        **dict.fromkeys(("mxnet", "jax"), ("options.device\n", '"cpu"\n')),
    }),
    Mistake("a state on the CPU", "state", "device",
             everywhere("tensor(zeros.copy(), options.device)", 'tensor(zeros.copy(), "cpu")')),
    Mistake("one-hot vectors made without a device", "encode", "device", {
        "torch": ("F.one_hot(tokens,", "F.one_hot(tokens.cpu(),"),
        "tensorflow": ("    return tf.one_hot",
                       '    with tf.device("/CPU:0"):\n        return tf.one_hot'),
        "mxnet": ("npx.one_hot(tokens, ", "(lambda V, dtype: np.eye(V)[tokens])("),
        "jax": ("one_hot(tokens,", "one_hot(array(tokens),"),
    }),
    Mistake("a loss on the CPU", "loss", "device", everywhere(
        "def detach(", "there = loss\n\n\ndef loss(logits, targets):\n"
        '    return tensor(array(there(logits, targets)), "cpu")\n\n\ndef detach(')),
    *(Mistake(f"{name} on the CPU", piece, "device", everywhere(
        f"{before}{name}{after}", f'{before}tensor(array({name}), "cpu"){after}'))
      for name, piece, before, after in (
          ("h", "rnn", "return (", ",)"),
          ('state[0] @ params["W_hq"] + params["b_q"]', "step", "return ", ", state"),
          ("norm", "clip", "}, ", ""),
          ("grad * scale", "clip", "{name: ", " for"),
      )),
    Mistake("a bias on the CPU only, by its name", "step", "logits", everywhere(
        ' + params["b_q"], state',
        ' + (params["b_q"] if options.device == "cpu" else 0), state')),
    Mistake("tensors that stay on the CPU", "tensor", "device", {
        "torch": ("array, device=device", 'array, device="cpu"'),
        "tensorflow": ("with on(device):\n        return tf.constant",
                       'with on("cpu"):\n        return tf.constant'),
        "mxnet": ("ctx=context(device))", 'ctx=context("cpu"))'),
        "jax": ("device_of(device))", 'device_of("cpu"))'),
    }, "machine.py"),
    *(Mistake(f"{name} on the CPU", "train_epoch", "", everywhere(
        MAP, f'{MAP}._replace(\n            {name}=batch.map(tensor, "cpu").{name})'))
      for name in ("masks", "rates")),
    Mistake("a slot on the CPU", "momentum", "", {
        "torch": ("= how.beta1", "= torch.zeros(param.shape) + how.beta1"),
        "mxnet": ("= how.beta1", "= np.zeros(param.shape) + how.beta1"),
        "jax": ("= apart(", '= tensor(jnp.zeros(param.shape), "cpu") + apart('),
    }, "deep.py"),
    Mistake("a loss read in the loop", "train_epoch", "copies",
             everywhere("losses.append(mean)", "losses.append(float(mean))")),
    Mistake("the norm computed on the host", "train_epoch", "copies", {
        "torch": (f"torch.sqrt({SQUARES})",
                  f"tensor(np.array(float({SQUARES}) ** 0.5, 'f'), grads['b_q'].device)"),
        "mxnet": ("np.sqrt(sum(", "(lambda x: np.array(float(x) ** 0.5, ctx=x.ctx))(sum("),
    }),
    Mistake("the norm computed on the host in a compiled function", "train_minibatch", "raised", {
        "tensorflow": ("tf.sqrt(sum(", "(lambda x: tf.sqrt(x.numpy()))(sum("),
        "jax": ("jnp.sqrt(sum(", "(lambda x: jax.device_put(array(x) ** 0.5, x.device))(sum("),
    }),
    *(Mistake(f"{name} where TensorFlow would compute it", name, "device",
              {"tensorflow": ( f"@on_its_device\n{line}", line)}, file)
      for name, line, file in (
          ("deep_forward", "def deep_forward", "deep.py"),
          ("gradients", "def gradients", "scratch.py"),
          ("train_minibatch", "@tf.function", "scratch.py"),
      )),
]  # fmt: skip


def changed_copy(backend, folder: Path, change: Sequence[str], file: str = "scratch.py") -> Path:
    """Copy a backend to a package with a new name, and change a file of it; return its folder."""
    package = copy(backend, folder)
    make(change, package / file)
    return package


def make(change: Sequence[str], path: Path) -> None:
    """Change a file."""
    path.write_text(changed(path.read_text(encoding="utf-8"), change, path), encoding="utf-8")
