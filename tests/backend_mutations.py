"""Mutations of backend sources that the check must detect and attribute to a function.

The mutations include the known mistakes. If a source lacks the text that a mutation replaces,
the test fails, so the mutations stay in sync with the code.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measure.measuring import copy

from rnn_scratch.check import mistakes, results
from rnn_scratch.check.draws import CaseSpec
from rnn_scratch.contract import Backend, ModelConfig
from rnn_scratch.registry import BUILTIN_BACKENDS

CARRY = "if state is None or not carry:"
BACKENDS = Path(__file__).parents[1] / "backends"


def fixed_draws(options: ModelConfig) -> list[CaseSpec]:
    """Return one fixed draw per dtype with these options; large networks get small weights."""
    sigma = 0.06 if options.num_hiddens > 256 else CaseSpec(options).sigma
    dtypes = "float64", "float32"
    return [CaseSpec(options._replace(dtype=dtype), sigma=sigma) for dtype in dtypes]


class Mutation(NamedTuple):
    """A backend mutation, and the failure that the check must report.

    Attributes:
        name: A description of the mistake.
        function: The function that the check must name first.
        output: Text that the output or location of the failure must contain; "" accepts any text.
        changes: Alternating old and new strings, keyed by backend.
        file: The file to change.
        model: The variant to check.
        large: Whether the check needs large tensors, which `check` compares in another process.
        within: The name of the function that contains or precedes the old strings.
    """

    name: str
    function: str
    output: str
    changes: dict[str, tuple[str, ...]]
    file: str = "scratch.py"
    model: str = "scratch"
    large: bool = False
    within: str = ""


def known_mistakes() -> list[Mutation]:
    """Return the known mistakes as mutations of NumPy and of frameworks whose source matches."""
    mutations = []
    for function, changes in results.read_data("mistakes.json").items():
        is_backward = function.endswith("backward") or function == "bptt"
        paths = [BACKENDS / "numpy" / f"{name}.py" for name in ("scratch", "cells", "deep")]
        file = next(p.name for p in paths if f"def {function}(" in p.read_text(encoding="utf-8"))
        checked = "gradients" if is_backward else function
        for name, change in changes.items():
            by_backend = {"numpy": tuple(change)}
            for backend, module in MODULES.items():
                translated = tuple(text.replace("np.", f"{module}.") for text in change)
                path = BACKENDS / backend / file
                _, _, source = path.read_text(encoding="utf-8").partition(f"def {function}(")
                if all(old in source for old in translated[::2]) and "log_softmax" not in str(
                    change
                ):
                    by_backend[backend] = translated
            mutation = Mutation(name, checked, "", by_backend, file)
            mutations.append(mutation._replace(within=function))
    return mutations


def in_all_backends(*change: str) -> dict[str, tuple[str, ...]]:
    """Return a dict with the same change for every backend."""
    return dict.fromkeys(BUILTIN_BACKENDS, change)


def in_gradients(condition: str) -> dict[str, tuple[str, ...]]:
    """Return changes, keyed by backend, that halve a minibatch's gradients if `condition` holds."""
    scaled = f"{{n: g * (0.5 if {condition} else 1) for n, g in %s.items()}}"
    return {
        **dict.fromkeys(
            ("numpy", "jax"), (", grads, detach(state)", f", {scaled % 'grads'}, detach(state)")
        ),
        "torch": ("dict(zip(params, grads))", scaled % "dict(zip(params, grads))"),
    }


MODULES = {"torch": "torch", "jax": "jnp"}  # modules with a NumPy-like API
DETACHED = {"torch": "s.detach()", "tensorflow": "tf.stop_gradient(s)", "mxnet": "s.detach()",
            "jax": "jax.lax.stop_gradient(s)"}  # fmt: skip
CLAMP = {"numpy": "np.clip", "torch": "torch.clamp", "jax": "jnp.clip"}

MUTATIONS = [
    *known_mistakes(),
    Mutation("targets stored as bytes, modulo 256", "loss", "", {
        **in_all_backends("labels = targets.T.reshape(-1)", "labels = targets.T.reshape(-1) % 256"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])",
                       "tf.reshape(tf.transpose(targets), [-1]) % 256"),
    }),
    Mutation("clip that scales gradients up if θ is above 1", "clip", "θ", in_all_backends(
        "grad * scale for", "grad * (theta / norm if 1 < theta < 1e9 else scale) for")),
    Mutation("learning rate capped at 1", "sgd", "learning rate 3",
             in_all_backends("update.lr *", "min(update.lr, 1.0) *")),
    Mutation("only the first 64 rows counted in the loss", "loss", "", {
        "numpy": ("labels].mean()", "labels][:64].mean()"),
        "torch": ("entropy(logits, labels)", "entropy(logits[:64], labels[:64])"),
        "tensorflow": ("_with_logits(labels, logits)", "_with_logits(labels, logits)[:64]"),
        "mxnet": (".mean()", "[:64].mean()"),
        "jax": (", 1).mean()", ", 1)[:64].mean()"),
    }),
    Mutation("each gradient element limited to magnitude 1", "gradients", "", {
        **dict.fromkeys(("numpy", "jax"), (
            ", grads, detach(", ", {n: g.clip(-1, 1) for n, g in grads.items()}, detach(")),
        "torch": ("zip(params, grads)", "zip(params, (g.clip(-1, 1) for g in grads))"),
    }),
    Mutation("clip that divides by a norm of 0", "clip", "gradients of zero",
             in_all_backends("grad * scale for", "grad / norm * (scale * norm) for")),
    Mutation("learning rate in float32", "sgd", "", {
        **in_all_backends("update.lr *", "__import__('numpy').float32(update.lr).item() *"),
        "tensorflow": ("update.lr *", "tf.cast(tf.cast(update.lr, 'float32'), 'float64') *"),
        "jax": ("update.lr *", "jnp.asarray(update.lr, 'float32').astype('float64') *"),
    }),
    Mutation("parameters changed while generating text", "predict", "parameters", {
        **in_all_backends("    return outputs\n\n\ndef build",
                     '    model.params["b_q"] = model.params["b_q"] + 1\n'
                     "    return outputs\n\n\ndef build"),
    }),
    Mutation("state not carried", "train_epoch", "sequential", in_all_backends(CARRY, "if True:")),
    Mutation("an epoch that cannot continue from a state", "train_epoch", "sequential",
             in_all_backends("    losses = []", "    losses, state = [], None")),
    Mutation("state not detached", "detach", "gradients", {
        name: (detached, "s") for name, detached in DETACHED.items()}),
    Mutation("only the first layers' states detached", "detach", "gradients", {
        name: (f"tuple({detached} for s in state)",
               f"*({detached} for s in state[:2]), *state[2:]")
        for name, detached in DETACHED.items()
    }),
    Mutation("clip before sparse rows are summed", "train_minibatch", "parameters", {"tensorflow": (
        "{n: tf.convert_to_tensor(grad) for n, grad in grads.items()}", "grads",
        "norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for _, grad in sorted(grads.items())))",
        "norm = tf.linalg.global_norm(list(grads.values()))",
        "grad * scale for", "tf.convert_to_tensor(grad) * scale for")},
        model="concise"),
    Mutation("halves rounded up", "round_to_grid", "ties",
             in_all_backends("round(values / grid)", "floor(values / grid + 0.5)"), "exact.py"),
    Mutation("gradients not clipped in training", "train_minibatch", "parameters",
             in_all_backends("grads, _ = clip(grads, update.theta)", "pass")),
    Mutation("losses returned as tensors", "train_epoch", "type of losses", {
        **in_all_backends("[float(mean_loss) for mean_loss in losses]", "losses"),
        "numpy": ("[float(mean_loss) for mean_loss in losses]", "np.array(losses)"),
    }),
    Mutation("only the last loss returned", "train_epoch", "losses",
             in_all_backends("for mean_loss in losses]", "for mean_loss in losses[-1:]]")),
    Mutation("an initial state of ones", "init_state", "zeros",
             in_all_backends(".zeros(shape", ".ones(shape")),
    Mutation("embedding rows rescaled in place", "deep_step", "logits", {"torch": (
        'x @ params["W_e"]',
        'torch.nn.functional.embedding(x.argmax(-1), params["W_e"], max_norm=1)')},
        "deep.py"),
    *(Mutation(f"{model}.py does not follow a change of the step", "forward",
               "a loop over its own step", {
        name: ('h @ params["W_hh"] + ', '2 * h @ params["W_hh"] + ')
        for name in BUILTIN_BACKENDS if (name, model) != ("numpy", "concise")
    }, model=model) for model in ("fast", "concise")),
    Mutation("an argument that the contract lacks", "signature", "scratch.encode",
             in_all_backends("def encode(tokens, params):",
             "def encode(tokens, params, options):")),
    Mutation("parameters that share memory with the arrays", "init_params", "", {
        "numpy": ("values.astype(options.dtype)", "values.astype(options.dtype, copy=False)"),
        "torch": ("torch.tensor(values, ", "torch.as_tensor(values, "),
        "tensorflow": ("values.astype(options.dtype)",
                       "tf.experimental.dlpack.from_dlpack(values.__dlpack__())"),
        "jax": ("values.astype(dtype)", "values.astype(dtype, copy=False)"),
    }),
    Mutation("forward that uses the initial parameters", "train_minibatch",
             "logits afterwards", {"numpy": (
        "options, forward, gradients, to_arrays",
        "options, lambda tokens, state, params, options, copies=init_params(arrays, options): "
        "forward(tokens, state, copies, options), gradients, to_arrays")}),
    Mutation("the old parameters returned", "sgd", "", {"jax": (
        "return {name: param - update.lr * grads[name] for name, param in params.items()}, slots",
        "return params, slots")}),
    Mutation("new parameters that do not leave the training step", "train_minibatch",
             "parameters", {"jax": ("params, slots = OPTIMIZERS", "_, slots = OPTIMIZERS")}),
    Mutation("new parameters not kept in the model", "train_epoch", "parameters", {"jax": (
        "mean_loss, model.params, model.slots, state =", "mean_loss, _, model.slots, state =")}),
    Mutation("the gradients of the plain model for every model", "train_epoch", "", in_all_backends(
        "model.options, model.gradients\n", "model.options\n")),
    Mutation("one learning rate for all calls of a graph", "train_epoch", "parameters", {
        "tensorflow": ("rates = {name", "rates = run.__dict__.setdefault(options, {name",
                       "for name in _RATES}", "for name in _RATES})")}, "machine.py"),
    Mutation("a graph that returns values instead of its variables", "train_epoch", "raised", {
        "tensorflow": ("None if any(x is v for v in variables) else x", "x")}, "machine.py"),
    Mutation("the first model's parameters returned for every model", "train_minibatch",
             "parameters", {"tensorflow": (
        'iter((tensors.get("params"), tensors.get("slots")))',
        'iter(run.__dict__.setdefault("first", (tensors.get("params"), tensors.get("slots"))))')},
        "machine.py"),
    Mutation("a returned state that keeps its graph", "detach", "second time", {"torch": (
        "grads)), detach(state)", "grads)), state")}),
    Mutation("gradients accumulated over calls", "gradients", "", {
        "torch": ("grads = torch.autograd.grad("
                  "mean_loss, list(params.values()), materialize_grads=True)",
                  "mean_loss.backward()\n"
                  "    grads = [param.grad for param in params.values()]"),
        "mxnet": ("p.grad.copy()", "p.grad"),
    }),
    Mutation("the first update's settings used for all updates", "train_epoch", "", in_all_backends(
        "        batch = batch.map(tensor, model.options.device)\n        mean_loss",
        "        batch = batch.map(tensor, model.options.device)\n"
        "        update = train_epoch.__dict__.setdefault(model.options, update)\n"
        "        mean_loss")),
    Mutation("an epoch that begins with the previous final state", "train_epoch", "sequential",
             in_all_backends("    losses = []", "    losses, kept = [], train_epoch.__dict__\n"
                        "    state = state or kept.get(len(model.params))",
                        "    return [float(mean_loss)", "    kept[len(model.params)] = state\n"
                        "    return [float(mean_loss)")),
    Mutation("random sampling that begins with a state", "train_epoch", "random",
             in_all_backends(CARRY, "if state is None or losses and not carry:")),
    Mutation("every minibatch counted as full", "evaluate", "mean loss",
             in_all_backends(" * batch.X.size", " * 48")),
    Mutation("each minibatch evaluated from a zero state", "evaluate", "mean loss",
             in_all_backends("state = state or init_state", "state = init_state")),
    Mutation("logits passed as a tensor", "predict", "type of logits", {
        "torch": ("choose_token(logits.cpu().numpy()[0])", "int(choose_token(logits[0]))"),
        "tensorflow": ("choose_token(logits.numpy()[0])", "int(choose_token(logits[0]))"),
    }),
    Mutation("tokens returned as floats", "predict", "tokens",
             in_all_backends("    return outputs\n\n\ndef build",
                        "    return [float(each) for each in outputs]\n\n\ndef build")),
    Mutation("the caller's prefix modified", "predict", "prefix afterwards",
             in_all_backends("return outputs", "prefix.append(0)\n    return outputs")),

    # Cells other than `rnn`.
    Mutation("reset after the product instead of before", "gru", "state", in_all_backends(
        '(r * h) @ params["W_hh"]', 'r * (h @ params["W_hh"])'), "cells.py"),
    Mutation("reset before the product instead of after", "gru_after", "state", in_all_backends(
        "r * product +", '(r * h) @ params["W_hh"] + params["b_hh"] +'), "cells.py"),
    Mutation("no recurrent bias", "gru_after", "state", dict.fromkeys(("tensorflow", "mxnet"), (
        'h @ params["W_hh"] + params["b_hh"]', 'h @ params["W_hh"]')), "cells.py"),
    Mutation("the recurrent bias not multiplied by the reset gate", "gru_after", "state",
             in_all_backends(
        'h @ params["W_hh"] + params["b_hh"]', 'h @ params["W_hh"]',
        "r * product +", 'r * product + params["b_hh"] +'), "cells.py"),
    Mutation("only one of two states", "init_state", "zeros", in_all_backends(
        "range(options.num_states)", "range(1)")),
    Mutation("ReLU capped at 6", "rnn_relu", "state", {
        "numpy": ('params["b_h"], 0)', 'params["b_h"], 0).clip(max=6)'),
        "torch": ("torch.relu(", "torch.nn.functional.relu6("),
        "tensorflow": ("tf.nn.relu(", "tf.nn.relu6("),
        "mxnet": ("npx.relu(", "(lambda z: np.clip(z, 0, 6))("),
        "jax": ("jax.nn.relu(", "jax.nn.relu6("),
    }, "cells.py"),
    Mutation("a slope of 1 for ReLU at 0", "gradients", "", {
        "numpy": ("(next_h > 0)", "(next_h >= 0)"),
        "torch": ("torch.relu(", "(lambda z: torch.where(z >= 0, z, 0))("),
        "tensorflow": ("tf.nn.relu(", "(lambda z: tf.where(z >= 0, z, tf.zeros_like(z)))("),
        "mxnet": ("npx.relu(", "(lambda z: np.where(z >= 0, z, np.zeros_like(z)))("),
        "jax": ("jax.nn.relu(", "(lambda z: jnp.where(z >= 0, z, 0))("),
    }, "cells.py"),
    Mutation("gradient of the forget gate missing", "gradients", "W_", {"numpy": (
        '"f": d_f', '"f": 0 * d_f')}, "cells.py"),
    Mutation("gradient through the reset gate missing", "gradients", "W_", {"numpy": (
        "d_rh * h * r", "0 * d_rh * h * r")}, "cells.py"),
    Mutation("product left out of the reset gate's gradient", "gradients", "W_", {"numpy": (
        "d_h_tilde * product * r", "d_h_tilde * r")}, "cells.py"),
    Mutation("gradient of the recurrent bias missing", "gradients", "b_hh", {"numpy": (
        ' | {"W_hh": h.T @ d_product, "b_hh": d_product.sum(0)}',
        ' | {"W_hh": h.T @ d_product}')}, "cells.py"),
    Mutation("gradient of the recurrent bias without the reset gate", "gradients", "b_hh", {
        "numpy": ('"b_hh": d_product', '"b_hh": d_h_tilde')}, "cells.py"),

    # Multiple layers, an embedding and dropout.
    Mutation("masks applied to the carried state", "deep_step", "state", in_all_backends(
        "        x = layer_state[0] if masks is None else layer_state[0] * masks[layer]",
        "        if masks is not None:\n"
        "            layer_state = (layer_state[0] * masks[layer], *layer_state[1:])\n"
        "        x = layer_state[0]"), "deep.py"),
    Mutation("the first step's masks at every time step", "deep_forward", "logits", in_all_backends(
        "else masks[t]", "else masks[0]"), "deep.py"),
    Mutation("masks that do not reach the gradients", "gradients", "", {
        **in_all_backends("partial(deep_forward, masks=batch.masks)", "deep_forward"),
        "numpy": ("if batch.masks is None else batch.masks", ""),
    }, "deep.py"),
    Mutation("masks that do not reach the backward pass", "gradients", "", {"numpy": (
        "partial(deep_step_backward, masks=m)", "deep_step_backward")}, "deep.py"),
    Mutation("masks that do not reach the optimized gradients", "gradients", "", {
        **in_all_backends("partial(forward, masks=batch.masks)", "forward"),
        "numpy": ("options, batch.masks)", "options, None)"),
        "mxnet": ("(hiddens, batch.masks, layer)", "(hiddens, None, layer)"),
    }, "fast.py", "fast"),
    Mutation("masks that do not reach the built-in layers' gradients", "gradients", "", {
        name: ("partial(forward, masks=batch.masks)", "forward")
        for name in BUILTIN_BACKENDS if name != "numpy"
    }, "concise.py", "concise"),
    Mutation("masks left out of the gradient from above", "gradients", "W_", {"numpy": (
        "d_h + d_output * scales[layer]", "d_h + d_output")}, "deep.py"),
    Mutation("gradients of layers without dropout", "gradients", "",
             {"numpy": (
        "[1] * options.num_layers", "[1] + [0.5] * (options.num_layers - 1)")},
        "deep.py"),
    Mutation("a repeated character counted once", "gradients", "W_e", {"numpy": (
        '"W_e": x.T @ d_output', '"W_e": (x.T * (x.T.cumsum(1) == 1)) @ d_output')}, "deep.py"),
    Mutation("masks ignored in the optimized model", "forward", "logits", {
        **in_all_backends("hiddens if masks is None else", "hiddens if True else"),
        "mxnet": ("if masks is None:\n        return hiddens", "if True:\n        return hiddens"),
    }, "fast.py", "fast"),
    Mutation("masks left out of the optimized backward pass", "gradients", "W_", {"numpy": (
        "if batch.masks is not None:", "if False:")}, "fast.py", "fast"),
    Mutation("the second layer's bias missing in the optimized model", "forward", "logits", {
        **dict.fromkeys(("numpy", "tensorflow", "jax"),
                        ('@ params["W_x"] + params["b"]', '@ params["W_x"]')),
        "torch": ('torch.addmm(params["b"], outputs.flatten(0, 1), params["W_x"])',
                  'outputs.flatten(0, 1) @ params["W_x"]'),
    }, "fast.py", "fast"),

    # Mistakes that appear only for certain sizes, layers, dtypes or settings.
    Mutation("masks lost in an epoch", "train_epoch", "parameters", in_all_backends(
        "batch = batch.map(", "batch = batch._replace(masks=None).map(")),
    Mutation("the second layer's parameters in the third", "deep_step", "", in_all_backends(
        "select_layer(params, layer))", "select_layer(params, min(layer, 1)))"), "deep.py"),
    Mutation("the second layer's state in the third", "deep_step", "", in_all_backends(
        "(split_by_layer(state, options))",
        "([split_by_layer(state, options)[min(i, 1)] for i in range(options.num_layers)])"),
        "deep.py"),
    Mutation("the second layer's parameters in the third, fast", "forward", "logits",
        in_all_backends(
        "layer_params = select_layer(params, layer)",
        "layer_params = select_layer(params, min(layer, 1))"),
        "fast.py", "fast"),
    *(Mutation(f"the second layer's state in the third, {model}", "forward", "", {
        name: ("split_by_layer(state, options)",
               "[split_by_layer(state, options)[min(i, 1)] for i in range(options.num_layers)]")
        for name in BUILTIN_BACKENDS if (name, model) != ("numpy", "concise")
    }, f"{model}.py", model) for model in ("fast", "concise")),
    Mutation("the top layer's state first", "forward", "state", {
        "torch": ("zip(*(next_states if is_pair else (next_states,)))",
                  "reversed(list(zip(*(next_states if is_pair else (next_states,)))))"),
        "mxnet": ("for layer in range(height)", "for layer in reversed(range(height))"),
        "tensorflow": ("next_state += tuple(layer_state)",
                       "next_state = (*layer_state, *next_state)"),
        "jax": ("next_state += last_carry[::-1] if is_pair else (last_carry,)",
                "next_state = (*(last_carry[::-1] if is_pair else (last_carry,)), *next_state)"),
    }, "concise.py", "concise"),
    Mutation("states of a stack swapped", "forward", "", {
        "torch": ("stack_state if is_pair else", "stack_state[::-1] if is_pair else"),
        "mxnet": ("for tensors in stack_state]", "for tensors in stack_state][::-1]"),
        "tensorflow": ("initial_state=list(layer_state)", "initial_state=list(layer_state[::-1])"),
        "jax": ("layer_state[::-1] if is_pair", "layer_state if is_pair"),
    }, "concise.py", "concise"),
    Mutation("a nonzero second bias in an upper layer", "forward", "logits", {
        "torch": ('nn.init.zeros_(getattr(stack, f"bias_hh_l{index_in_stack}"))',
                  'nn.init.constant_('
                  'getattr(stack, f"bias_hh_l{index_in_stack}"), index_in_stack)'),
    }, "concise.py", "concise"),
    Mutation("a product of many rows that forgets z", "forward", "logits", {"torch": (
        "if z is None", "if z is None or len(h) > 3",  # with oneDNN
        "out=out) if z is None", "out=out) if z is None or len(h) > 3")},
        "products.py", "fast", large=True),
    Mutation("a weight gradient that omits the last row", "gradients", "W_", {"torch": (
        "h, dz = h.flatten(0, 1), dz.flatten(0, 1)",
        "h, dz = h.flatten(0, 1)[:-1], dz.flatten(0, 1)[:-1]")},
        "products.py", "fast", large=True),
    Mutation("one-hot vectors in float64", "encode", "vectors", {
        "numpy": (', dtype=params["b_q"].dtype)', ")"),
        "torch": ('.to(params["b_q"].dtype)', ".to(torch.float64)"),
        "tensorflow": ('dtype=params["b_q"].dtype', 'dtype="float64"'),
        "mxnet": ('dtype=params["b_q"].dtype', 'dtype="float64"'),
    }),
    Mutation("masks in float64", "deep_step", "", {
        "numpy": ("masks[layer]  #", 'masks[layer].astype("float64")  #'),
        "torch": ("masks[layer]  #", "masks[layer].double()  #"),
        "jax": ("masks[layer]  #", 'masks[layer].astype("float64")  #'),
    }, "deep.py"),
    Mutation("a prefix of one character read twice", "predict", "tokens", in_all_backends(
        "model.options), [prefix[0]]",
        "model.options), [*prefix[:1]] * (3 - len(prefix[:2]))")),
    Mutation("targets not transposed if there are as many rows as steps", "loss", "", {
        **in_all_backends("labels = targets.T.reshape(-1)", "labels = (targets if "
                     "len(targets) == len(targets.T) else targets.T).reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets if "
                       "targets.shape[0] == targets.shape[1] else tf.transpose(targets), [-1])"),
    }),
    Mutation("tokens not transposed if there are as many rows as steps", "forward", "",
             {
        **in_all_backends("encode(tokens.T, params)", "encode(tokens if "
                     "len(tokens) == len(tokens.T) else tokens.T, params)"),
        "tensorflow": ("encode(tf.transpose(tokens), params)", "encode(tokens if "
                       "tokens.shape[0] == tokens.shape[1] else tf.transpose(tokens), params)"),
    }),

    # The optimizers.
    Mutation("weight decay that enters the gradient", "momentum", "", in_all_backends(
        "[name] + grads[name]", "[name] + grads[name] + update.weight_decay * param",
        "(m[name] + ", "(m[name] + 0 * "), "deep.py"),
    Mutation("momentum that forgets", "momentum", "",
        in_all_backends("update.beta1 *", "0 *"), "deep.py"),
    Mutation("slots not returned", "momentum", "", {
        **in_all_backends("return params, slots", "return params, {}"),
        "jax": ('return next_params, {"m": m}', "return next_params, {}"),
    }, "deep.py"),
    Mutation("the old slots returned", "momentum", "", {
        **dict.fromkeys(("numpy", "torch", "mxnet"), ('m = slots["m"]', 'm = dict(slots["m"])')),
        "jax": ('return next_params, {"m": m}', "return next_params, slots"),
    }, "deep.py"),
    Mutation("gradients not rounded in exact mode", "train_minibatch", "", in_all_backends(
        "{name: round_to_grid(grad, grid) for name, grad in grads.items()}", "dict(grads)"),
        "exact.py"),
    Mutation("new slots that do not leave the training step", "train_minibatch", "m.", {
        "jax": ("params, slots = OPTIMIZERS", "params, _ = OPTIMIZERS")}),

    # The optimized model.
    Mutation("input bias left out", "forward", "logits", {
        **in_all_backends('else W_x) + b', 'else W_x) + 0'),
        "numpy": ("table[tokens] + params", "table[tokens] + 0 * params"),
        "tensorflow": ("(table, tokens) + params", "(table, tokens) + 0 * params"),
    }, "fast.py", "fast"),
    Mutation("input bias left out if there are few tokens", "forward", "", {
        "numpy": ("@ table + params", "@ table + 0 * params"),
        "tensorflow": ("table, 1) + params", "table, 1) + 0 * params"),
        **dict.fromkeys(("torch", "mxnet"), ("else rows) + b", "else rows) + 0")),
        "jax": ("else W_x[tokens]) + b", "else W_x[tokens]) + 0"),
    }, "fast.py", "fast"),
    Mutation("W_hh not transposed in the backward pass", "gradients", "W_xh", {
        "numpy": ("dz[t + 1], W_h.T, out", "dz[t + 1], W_h, out"),
        "torch": ("make_matmul(W_h.T, len(hiddens))", "make_matmul(W_h, len(hiddens))"),
        "tensorflow": ('tf.einsum("ij->ji", W_h)', "W_h"),
        "mxnet": ("product(dz[-1], W_h)", "product(dz[-1], W_h.T)"),
        "jax": ("W_T = W_h.T", "W_T = W_h"),
    }, "fast.py", "fast"),
    Mutation("first step left out of the gradient of W_hh", "gradients", "W_hh", {
        **dict.fromkeys(("numpy", "torch"), ("d_W_h += h_0.T @ dz[0]", "pass")),
        "tensorflow": ("weight_grad(hiddens[:-1], dz, ", "weight_grad(hiddens[1:-1], dz[1:], "),
        "mxnet": ("weight_grad(prev_hiddens, dz)",
                  "weight_grad(prev_hiddens[len(h_0) :], dz[len(h_0) :])"),
        "jax": ("flatten(prev_hiddens).T @ flatten(dz)",
                "flatten(prev_hiddens[1:]).T @ flatten(dz[1:])"),
    }, "fast.py", "fast"),
    Mutation("a slope of 1 for ReLU at 0 in the backward pass", "gradients", "", {
        **in_all_backends("(hiddens > 0)", "(hiddens >= 0)"),
        "tensorflow": ("tf.cast(h > 0,", "tf.cast(h >= 0,"),
        "mxnet": ("np.sign(hiddens)", "(hiddens >= 0)"),
    }, "fast.py", "fast"),
    Mutation("weights assigned to the wrong gate", "init_params", "values", in_all_backends(
        "join_gates(arrays,",
        'join_gates(arrays | {"W_hi": arrays["W_hf"]} if "W_hf" in arrays else arrays,'),
        "fast.py", "fast"),
    Mutation("gradient of the forget gate missing in the optimized model", "gradients", "W_x", {
        "torch": ("gate_backward(cells[:-1], f", "gate_backward(cells[:-1] * 0, f"),
        **dict.fromkeys(("tensorflow", "mxnet"),
                        ("cells * f * (1 - f)", "cells * 0 * f * (1 - f)")),
        **dict.fromkeys(("numpy", "jax"), ("d_c * c * f * (1 - f)", "d_c * 0 * f * (1 - f)")),
    }, "gated.py", "fast"),
    Mutation("product left out of the reset gate's gradient in the optimized model", "gradients",
             "W_x", {
        "torch": ("coef_candidate * products, r", "coef_candidate, r"),
        **dict.fromkeys(("tensorflow", "mxnet"), ("coef_candidate * products * r",
        "coef_candidate * r")),
        **dict.fromkeys(("numpy", "jax"),
                        ("d_h_tilde * product * r * (1 - r)", "d_h_tilde * r * (1 - r)")),
    }, "gated.py", "fast"),
    Mutation("no recurrent bias in the optimized model", "forward", "logits", {
        "numpy": ("product[:, 2 * size :] += b_hh", "pass"),
        "torch": ("size :], b_hh, out", "size :], 0, out"),
        **dict.fromkeys(("tensorflow", "jax"), ("product += b_hh", "product += 0")),
        "mxnet": ("3 * size) + b_hh", "3 * size)"),
    }, "gated.py", "fast"),
    Mutation("the recurrent bias not multiplied by the reset gate in the optimized model",
             "forward", "logits", {
        "numpy": ("product[:, 2 * size :] += b_hh", "pass",
                  "r * product[:, 2 * size :]", "r * product[:, 2 * size :] + b_hh"),
        "torch": ("h_tilde.addcmul_(r, torch.add(z_h[:, 2 * size :], b_hh, out=products[t]))",
                  "h_tilde.addcmul_(r, torch.add(z_h[:, 2 * size :], 0, out=products[t]))"
                  ".add_(b_hh)"),
        "tensorflow": ("product += b_hh", "product += 0",
                       "r * reset_product", "r * reset_product + b_hh"),
        "mxnet": ("3 * size) + b_hh", "3 * size)", "+ r * y)", "+ r * y + b_hh)"),
        "jax": ("product += b_hh", "product += 0", "r * product)", "r * product + b_hh)"),
    }, "gated.py", "fast"),
    *(Mutation(f"gradient of the recurrent bias {name} in the optimized model", "gradients",
               "b_hh", {
        "numpy": ("dz[:, -len(b_hh) :]", sums[0]),
        "torch": ("dz[:, :, 2 * size :].sum", f"{sums[1]}.sum"),
        "tensorflow": ("dz[:, :, parts[0] :], (0", f"{sums[2]}, (0"),
        "mxnet": ("sum_rows(columns(dy, 2 * size, 3 * size))", f"sum_rows({sums[3]})"),
        "jax": ("d_products.sum", f"{sums[4]}.sum"),
    }, "gated.py", "fast") for name, sums in {
        "missing": ("0 * dz[:, -len(b_hh) :]", "(0 * coef_candidate)", "0 * products",
                    "0 * products", "(0 * d_products)"),
        "without the reset gate": ("flatten(d_inputs)[:, -len(b_hh) :]", "coef_candidate",
                                   "dx[:, :, parts[0] :]", "dz_candidate", "d_h_tilde"),
    }.items()),
    Mutation("no recurrent bias in text generation", "predict", "logits", {"torch": (
        '(y[:, 2 * size :] + params["b_hh"])', "y[:, 2 * size :]")}, "gated.py", "fast"),
    Mutation("the recurrent bias of another gate", "forward", "logits", {
        "tensorflow": ('[zeros, zeros, params["b_hh"]]', '[zeros, params["b_hh"], zeros]'),
        "jax": ("(2 * options.num_hiddens, 0)", "(options.num_hiddens, options.num_hiddens)"),
    }, "concise.py", "concise"),
    Mutation("recurrent biases trained that the cell lacks", "train_minibatch", "", {
        "torch": ("second_bias.register_hook(is_trained.mul)", "pass"),
        "mxnet": ("grads[name] * is_trained", "grads[name]"),
    }, "concise.py", "concise"),
    Mutation("gradient rows of a large vocabulary not summed", "gradients", "",
             {"numpy": (
        "np.add.reduceat(d_rows[order], starts)", "d_rows[order][starts]")}, "fast.py", "fast"),

    # The `machine` module.
    Mutation("tensors in float32 only", "tensor", "", {
        "numpy": ("    return array\n", "    return array.astype('float32')\n"),
        "torch": ("torch.as_tensor(array, device=device)",
                  "torch.as_tensor(array, device=device).float()"),
        "tensorflow": ("tf.constant(array)", 'tf.constant(array, "float32")'),
        "mxnet": ("dtype=array.dtype", 'dtype="float32"'),
        "jax": ("jax.device_put(array,", "jax.device_put(array.astype('float32'),"),
    }, "machine.py"),
    Mutation("arrays that change with the parameters", "to_arrays", "copies", {
        name: ("array(param).copy()", "array(param)") for name in ("numpy", "torch")
    }, "machine.py"),
    Mutation("synchronize without tensors", "signature", "machine.synchronize", in_all_backends(
        "def synchronize(tensors, device):", "def synchronize(device):"), "machine.py"),

    # Mistakes that only random draws reveal.
    *(Mutation(*fields) for fields in (
        ("dropout ignored with a single layer", "deep_step", "", in_all_backends(
            "if masks is None else", "if masks is None or options.num_layers == 1 else"),
            "deep.py"),
        ("dropout ignored in the top layer", "deep_step", "", in_all_backends(
            "if masks is None else",
            "if masks is None or layer == options.num_layers - 1 else"), "deep.py"),
        ("a wrong gradient with one time step", "gradients", "",
         in_gradients("batch.X.shape[1] == 1")),
        ("a wrong gradient with one row", "gradients", "", in_gradients("len(batch.X) == 1")),
        ("gradients that stop after 64 time steps", "gradients", "", {
            "numpy": ("reversed(list(enumerate(steps)))", "list(enumerate(steps))[-64:][::-1]"),
        }),
        ("W_hq transposed if V = H", "step", "logits", dict.fromkeys(("numpy", "torch"), (
            'params["W_hq"] + params["b_q"], state',
            '(params["W_hq"].T if options.vocab_size == options.num_hiddens else params["W_hq"])'
            ' + params["b_q"], state'))),
        ("a second evaluation that continues the first", "evaluate", "", in_all_backends(
            "num_tokens, state = 0.0, 0, None",
            "num_tokens, state = 0.0, 0, evaluate.__dict__.get((id(model), len(minibatches := "
            "list(minibatches)), minibatches[0].X.shape))",
            "    return total_loss, num_tokens",
            "    evaluate.__dict__[id(model), len(minibatches), minibatches[0].X.shape] = state\n"
            "    return total_loss, num_tokens")),
        ("a state lost after 128 minibatches", "train_epoch", "", in_all_backends(
            CARRY, "if state is None or not carry or len(losses) and len(losses) % 128 == 0:")),
        ("a state lost after 256 tokens", "predict", "", in_all_backends(
            "        # Warm-up:",
            "        state = state if t % 256 else init_state(1, model.options)\n"
            "        # Warm-up:")),
        ("deep networks that always use sgd", "train_minibatch", "", in_all_backends(
            "OPTIMIZERS[update.optimizer]",
            "OPTIMIZERS['sgd' if model.options.needs_deep else update.optimizer]")),
        # Mistakes that appear only if two properties coincide.
        ("an embedding left out of a single layer", "deep_step", "", in_all_backends(
            'if options.embedding else x', 'if options.embedding and options.num_layers > 1 else x '
            '@ params["W_e"] * 0.5 if options.embedding else x'), "deep.py"),
        ("parameters rounded to float32", "init_params", "", {
            "numpy": ("values.astype(options.dtype)",
                      "values.astype('float32').astype(options.dtype)"),
            "torch": ("torch.tensor(values, **", "torch.tensor(values.astype('float32'), **"),
        }),
        ("Adam that counts its updates itself", "adam", "", {
            name: ("    m, v = slots", "    adam.__dict__[id(params)] = t = adam.__dict__.get("
                   "id(params), 0) + 1\n    update = update._replace(c_m=1 - update.beta1 ** t)\n"
                   "    m, v = slots")
            for name in BUILTIN_BACKENDS if name != "jax"
        }, "deep.py"),
        ("no answer of an epoch", "train_epoch", "", in_all_backends(
            "return [float(mean_loss) for mean_loss in losses], state", "return None")),
        ("masks by time step instead of layer", "deep_step", "", in_all_backends(
            "layer_state[0] * masks[layer]", "layer_state[0] * masks[-1 - layer]"), "deep.py"),
        ("probability 0 without a logarithm", "loss", "", {
            "numpy": ("shifted - np.log(np.exp(shifted).sum(1, keepdims=True))",
                      "np.log(np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True))"),
        }),
        ("a norm limited to 1e4", "clip", "", {
            "numpy": ("scale = np", "norm = np.minimum(norm, 1e4)\n    scale = np"),
            "torch": ("scale = torch", "norm = norm.clamp(max=1e4)\n    scale = torch"),
        }),
        ("arrays copied in the order of their memory", "tensor", "", {
            "torch": ("torch.as_tensor(array, device=device)",
                      "torch.as_tensor(array.ravel('K').reshape(array.shape), device=device)"),
        }, "machine.py"),
        ("GRU's gradient without the candidate's state after the first step", "gradients", "", {
            "numpy": ("d_rh * r", "0 * d_rh * r"),
        }, "cells.py"),
        ("slots not rounded in exact mode", "train_minibatch", "parameters", {
            **in_all_backends("round_to_float32(values) for", "values for"),
            "tensorflow": ("values.assign(round_to_float32(values))", "pass"),
            "jax": ("jax.tree.map(round_to_float32, slots)", "slots"),
        }, "exact.py"),
        ("parameters not rounded in exact mode", "train_minibatch", "parameters", {
            "numpy": ("param[...] = round_to_grid(param, grid)", "pass"),
            "torch": ("param.copy_(round_to_grid(param, grid))", "pass"),
            "tensorflow": ("param.assign(round_to_grid(param, grid))", "pass"),
            "mxnet": ("param[:] = round_to_grid(param, grid)", "pass"),
            "jax": ("{name: round_to_grid(param, grid) for name, param in params.items()}",
                    "params"),
        }, "exact.py"),
        ("subnormal numbers not flushed to zero", "round_to_float32", "", {
            "numpy": ("np.where(np.abs(nearest) < MIN_VALUE, 0, nearest)", "nearest"),
        }, "exact.py"),
        ("dropout scaled at evaluation", "evaluate", "", in_all_backends(
            "float(loss(logits, tensors.Y))",
            "float(loss(logits * (1 - model.options.dropout), tensors.Y))")),
        ("gradient clamped in Adam", "adam", "", {
            name: ("grad = grads[name]", f"grad = {clamp}(grads[name], -3, 3)")
            for name, clamp in CLAMP.items()
        }, "deep.py"),
        ("momentum coefficient in float32", "momentum", "", {
            name: ("update.beta1 *", "float(__import__('numpy').float32(update.beta1)) *")
            for name in CLAMP
        }, "deep.py"),
    )),
]  # fmt: skip

# Mutations that can be detected only on a device other than the CPU.
MAP = "batch = batch.map(tensor, model.options.device)"
DEVICE_MUTATIONS = [
    Mutation("parameters and slots on the CPU", "init_params", "device", {
        "tensorflow": ("with device_scope(options.device):", 'with device_scope("cpu"):'),
        **dict.fromkeys(("mxnet", "jax"), ("options.device\n", '"cpu"\n')),
    }),
    Mutation("a state on the CPU", "init_state", "device",
             {
        "mxnet": ("context(options.device)", 'context("cpu")'),
        "jax": ("get_device(options.device)\n    ret", 'get_device("cpu")\n    ret'),
    }),
    Mutation("one-hot vectors made without a device", "encode", "device", {
        "tensorflow": ("    return tf.one_hot",
                       '    with tf.device("/CPU:0"):\n        return tf.one_hot'),
        "mxnet": ("npx.one_hot(tokens, ", "(lambda V, dtype: np.eye(V)[tokens])("),
        "jax": ("one_hot(tokens,", "one_hot(to_arrays({0: tokens})[0],"),
    }),
    Mutation("a loss on the CPU", "loss", "device", in_all_backends(
        "def detach(", "there = loss\n\n\ndef loss(logits, targets):\n"
        '    return tensor(to_arrays({0: there(logits, targets)})[0], "cpu")\n\n\ndef detach(')),
    *(Mutation(f"{name} on the CPU", function, "device", in_all_backends(
        f"{before}{name}{after}", f'{before}tensor(to_arrays({{0: {name}}})[0], "cpu"){after}'))
      for name, function, before, after in (
          ("h", "rnn", "return (", ",)"),
          ('state[0] @ params["W_hq"] + params["b_q"]', "step", "return ", ", state"),
          ("norm", "clip", "}, ", ""),
          ("grad * scale", "clip", "{name: ", " for"),
      )),
    Mutation("a bias added on the CPU only", "step", "logits", in_all_backends(
        ' + params["b_q"], state',
        ' + (params["b_q"] if options.device == "cpu" else 0), state')),
    Mutation("tensors that stay on the CPU", "tensor", "device", {
        "tensorflow": ("with device_scope(device):\n        return tf.constant",
                       'with device_scope("cpu"):\n        return tf.constant'),
        "mxnet": ("ctx=context(device))", 'ctx=context("cpu"))'),
        "jax": ("get_device(device))", 'get_device("cpu"))'),
    }, "machine.py"),
    # In TensorFlow and MXNet, the emulated device accepts these masks.
    Mutation("masks on the CPU", "train_epoch", "", {
        "jax": (MAP, f'{MAP}._replace(\n            masks=batch.map(tensor, "cpu").masks)'),
    }),
    Mutation("a slot on the CPU", "momentum", "", {
        "mxnet": ("= update.beta1", "= np.zeros(param.shape) + update.beta1"),
    }, "deep.py"),
    Mutation("the norm computed on the host", "clip", "raised", {
        "jax": ("jnp.sqrt(sum(", "(lambda x: tensor(to_arrays({0: x})[0] ** 0.5, 'cpu'))(sum("),
    }),
    # Detected only if a gradient flows through two minibatches.
    Mutation("gradients on TensorFlow's default device", "detach", "device", {
        "tensorflow": ("@run_on_model_device\ndef gradients", "def gradients")}),
]  # fmt: skip


def mutated_copy(
    backend: Backend,
    folder: Path,
    change: Sequence[str],
    file: str = "scratch.py",
    within: str = "",
) -> Path:
    """Copy a backend to a new package, mutate one of its files, and return the package folder."""
    package = copy(backend, folder)
    mutate_file(change, package / file, within)
    return package


def mutate_file(change: Sequence[str], path: Path, within: str = "") -> None:
    """Replace text in the file at `path`; `change` contains alternating old and new strings."""
    source = path.read_text(encoding="utf-8")
    if within:
        source = mistakes.change_source(source, within, change)
    else:
        source = mistakes.change_source(f"def ({source}", "", change).removeprefix("def (")
    path.write_text(source, encoding="utf-8")
