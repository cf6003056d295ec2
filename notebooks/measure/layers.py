"""Run the recurrent layers of other frameworks with weights converted from and to this project's.

Each class is a framework. `place` converts a layer's weights to the framework's own arrays, by the
framework's names, and `read` converts them back. `run` copies arrays into the framework's layer,
and returns its outputs (B, T, H) for inputs (B, T, V), and its last state.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from rnn_scratch.parameters import join_gates, split_gates


class Weights(NamedTuple):
    """A layer's weights, with all G gates concatenated in the order of a framework.

    A framework may have two biases for each gate, but only the candidate of `gru-after` needs both.
    """

    W_x: np.ndarray  # (V, G*H)
    W_h: np.ndarray  # (H, G*H)
    b_x: np.ndarray  # (G*H,)
    b_h: np.ndarray  # (G*H,)


def join(arrays, options, gates):
    """Concatenate this project's arrays in the order `gates`; superfluous biases in b_h are 0."""
    joined = join_gates(arrays, options, gates)
    b_h = np.zeros_like(joined["b"])
    if "b_hh" in joined:
        b_h.reshape(len(gates), -1)[gates.index("h")] = joined["b_hh"]
    return Weights(joined["W_x"], joined["W_h"], joined["b"], b_h)


def split(weights, options, gates):
    """Return this project's arrays for weights in the order `gates`; add superfluous biases."""
    b_x, b_h = (bias.reshape(len(gates), -1).copy() for bias in (weights.b_x, weights.b_h))
    joined = {name: np.zeros(shape) for name, shape in options.shapes().items()}
    if "b_hh" in joined:
        joined["b_hh"] = b_h[gates.index("h")].copy()
        b_h[gates.index("h")] = 0
    joined |= {"W_x": weights.W_x, "W_h": weights.W_h, "b": (b_x + b_h).ravel()}
    arrays = split_gates(joined, options, gates)
    return {name: array for name, array in arrays.items() if name not in ("W_hq", "b_q")}


class Torch:
    """``torch.nn``: transposed matrices, two biases."""

    # For each cell that is a layer of the framework, the layer's name and the order of its gates.
    cells = {
        "rnn": ("torch.nn.RNN", "h"),
        "gru-after": ("torch.nn.GRU", "rzh"),
        "lstm": ("torch.nn.LSTM", "ifco"),
    }
    arrays = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

    def place(self, cell, weights):
        """Return the framework's arrays."""
        W_x, W_h, *biases = weights
        return dict(zip(self.arrays, (W_x.T, W_h.T, *biases)))

    def read(self, cell, arrays):
        """Return the weights in the framework's arrays."""
        W_x, W_h, *biases = (arrays[name] for name in self.arrays)
        return Weights(W_x.T, W_h.T, *biases)

    def run(self, cell, arrays, x, state):
        """Return the outputs and the last state."""
        import torch

        kind = {"rnn": torch.nn.RNN, "gru-after": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
        tensor = torch.tensor(x)
        layer = kind(x.shape[2], state[0].shape[1], batch_first=True, dtype=tensor.dtype)
        layer.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
        start = tuple(torch.tensor(array)[None] for array in state)
        outputs, last = layer(tensor, start if cell == "lstm" else start[0])
        last = last if cell == "lstm" else (last,)
        return outputs.detach().numpy(), [array[0].detach().numpy() for array in last]


class Keras:
    """``keras.layers``, on the backend that KERAS_BACKEND names: one bias or two rows of biases."""

    cells = {
        "rnn": ("keras.layers.SimpleRNN", "h"),
        "gru": ("keras.layers.GRU(reset_after=False)", "zrh"),
        "gru-after": ("keras.layers.GRU", "zrh"),
        "lstm": ("keras.layers.LSTM", "ifco"),
    }

    def place(self, cell, weights):
        """Return the framework's arrays."""
        bias = np.stack(weights[2:]) if cell == "gru-after" else weights.b_x
        return {"kernel": weights.W_x, "recurrent_kernel": weights.W_h, "bias": bias}

    def read(self, cell, arrays):
        """Return the weights in the framework's arrays."""
        bias = arrays["bias"]
        biases = bias if cell == "gru-after" else (bias, np.zeros_like(bias))
        return Weights(arrays["kernel"], arrays["recurrent_kernel"], *biases)

    def run(self, cell, arrays, x, state):
        """Return the outputs and the last state."""
        from keras import config, layers, ops

        config.set_floatx(x.dtype.name)
        kinds = {"rnn": layers.SimpleRNN, "gru": partial(layers.GRU, reset_after=False)}
        kind = {**kinds, "gru-after": layers.GRU, "lstm": layers.LSTM}[cell]
        sizes = {"units": state[0].shape[1], "dtype": x.dtype.name}
        layer = kind(**sizes, return_sequences=True, return_state=True)
        layer.build(x.shape)
        for weight in layer.weights:
            weight.assign(arrays[weight.name])
        start = [ops.convert_to_tensor(array) for array in state]
        results = layer(ops.convert_to_tensor(x), initial_state=start)
        outputs, *last = map(ops.convert_to_numpy, results)
        return outputs, last


class NNX:
    """``flax.nnx``: a layer for each half, with the bias in one of them; no `b_hh` in the GRU."""

    cells = {
        "rnn": ("flax.nnx.SimpleCell", "h"),
        "gru-after": ("flax.nnx.GRUCell", "rzh"),
        "lstm": ("flax.nnx.OptimizedLSTMCell", "ifco"),
    }
    biases = {"rnn": "dense_i.bias", "gru-after": "dense_i.bias", "lstm": "dense_h.bias"}

    def place(self, cell, weights):
        """Return the framework's arrays, without the bias that the GRU lacks."""
        W_x, W_h, bias, _ = weights
        return {"dense_i.kernel": W_x, "dense_h.kernel": W_h, self.biases[cell]: bias}

    def read(self, cell, arrays):
        """Return the weights in the framework's arrays."""
        bias = arrays[self.biases[cell]]
        kernels = arrays["dense_i.kernel"], arrays["dense_h.kernel"]
        return Weights(*kernels, bias, np.zeros_like(bias))

    def run(self, cell, arrays, x, state):
        """Call the cell for each time step; return the outputs and the last state."""
        import jax.numpy as jnp

        step = self.make(cell, {n: jnp.array(array) for n, array in arrays.items()}, x, state)
        carry = tuple(jnp.array(array) for array in reversed(state))  # (c, h) for an LSTM
        carry, outputs = carry if cell == "lstm" else carry[0], []
        for t in range(x.shape[1]):
            carry, output = step(carry, jnp.array(x[:, t]))
            outputs.append(np.asarray(output))
        last = carry[::-1] if cell == "lstm" else (carry,)
        return np.stack(outputs, 1), [np.asarray(array) for array in last]

    def make(self, cell, arrays, x, state):
        """Return the cell's function."""
        from flax import nnx

        kind = getattr(nnx, self.cells[cell][0].split(".")[-1])
        sizes = x.shape[2], state[0].shape[1]
        function = kind(*sizes, dtype=x.dtype, param_dtype=x.dtype, rngs=nnx.Rngs(0))
        for name, array in arrays.items():
            layer, kind = name.split(".")
            getattr(getattr(function, layer), kind)[...] = array
        return function


class Linen(NNX):
    """``flax.linen``: a layer for each gate and half, with the bias in one of the halves."""

    cells = {
        "rnn": ("flax.linen.SimpleCell", "h"),
        "gru-after": ("flax.linen.GRUCell", "rzh"),
        "lstm": ("flax.linen.OptimizedLSTMCell", "ifco"),
    }
    suffixes = {"rnn": [""], "gru-after": "rzn", "lstm": "ifgo"}  # of the gates' layers
    # The layers that have biases, except that the biases of an LSTM come from b_x.
    biases = {"rnn": ["i"], "gru-after": ["ir", "iz", "in", "hn"], "lstm": ["hi", "hf", "hg", "ho"]}

    def place(self, cell, weights):
        """Return the framework's arrays; those of the gate r are `ir.kernel`, `hr.kernel`..."""
        W_x, W_h, b_x, b_h = weights
        if cell == "lstm":
            b_h = b_x
        arrays, suffixes = {}, self.suffixes[cell]
        for half, W, b in (("i", W_x, b_x), ("h", W_h, b_h)):
            parts = np.split(W, len(suffixes), 1), np.split(b, len(suffixes))
            for suffix, kernel, bias in zip(suffixes, *parts):
                arrays[f"{half}{suffix}.kernel"] = kernel
                if half + suffix in self.biases[cell]:
                    arrays[f"{half}{suffix}.bias"] = bias
        return arrays

    def read(self, cell, arrays):
        """Return the weights in the framework's arrays."""
        suffixes = self.suffixes[cell]
        zeros = np.zeros_like(arrays[f"h{suffixes[0]}.kernel"][0])

        def join_parts(half, kind):
            names = [f"{half}{suffix}.{kind}" for suffix in suffixes]
            return np.concatenate([arrays.get(name, zeros) for name in names], -1)

        return Weights(*(join_parts(half, kind) for kind in ("kernel", "bias") for half in "ih"))

    def make(self, cell, arrays, x, state):
        """Return the cell's function."""
        from flax import linen

        kind = getattr(linen, self.cells[cell][0].split(".")[-1])
        params = {}
        for name, array in arrays.items():
            layer, part = name.split(".")
            params.setdefault(layer, {})[part] = array
        return partial(kind(state[0].shape[1], param_dtype=x.dtype).apply, {"params": params})


class MXNet(Torch):
    """``mxnet.gluon.rnn``: the same layout as in PyTorch, under other names."""

    cells = {
        "rnn": ("gluon.rnn.RNN", "h"),
        "gru-after": ("gluon.rnn.GRU", "rzh"),
        "lstm": ("gluon.rnn.LSTM", "ifco"),
    }
    arrays = ("l0_i2h_weight", "l0_h2h_weight", "l0_i2h_bias", "l0_h2h_bias")

    def run(self, cell, arrays, x, state):
        """Return the outputs and the last state."""
        from mxnet import gluon, np

        kinds = {"rnn": partial(gluon.rnn.RNN, activation="tanh"), "gru-after": gluon.rnn.GRU}
        kind = {**kinds, "lstm": gluon.rnn.LSTM}[cell]
        tensor = partial(np.array, dtype=x.dtype.name)
        sizes = {"hidden_size": state[0].shape[1], "input_size": x.shape[2]}
        layer = kind(**sizes, layout="NTC", dtype=x.dtype.name)
        layer.initialize("zeros")
        for name, array in arrays.items():
            getattr(layer, name).set_data(tensor(array))
        outputs, last = layer(tensor(x), [tensor(array[None]) for array in state])
        return outputs.asnumpy(), [array[0].asnumpy() for array in last]


class MLX:
    """``mlx.nn``: transposed matrices, one bias, and one for the GRU's candidate."""

    cells = {
        "rnn": ("mlx.nn.RNN", "h"),
        "gru-after": ("mlx.nn.GRU", "rzh"),
        "lstm": ("mlx.nn.LSTM", "ifco"),
    }
    arrays = {
        "rnn": ("Wxh", "Whh", "bias"),
        "gru-after": ("Wx", "Wh", "b", "bhn"),
        "lstm": ("Wx", "Wh", "bias"),
    }

    def place(self, cell, weights):
        """Return the framework's arrays."""
        W_x, W_h, b_x, b_h = weights
        return dict(zip(self.arrays[cell], (W_x.T, W_h.T, b_x, b_h[-len(W_h) :])))

    def read(self, cell, arrays):
        """Return the weights in the framework's arrays."""
        W_x, W_h, b_x, *rest = (arrays[name] for name in self.arrays[cell])
        zeros = np.zeros(len(b_x) - sum(map(len, rest)), b_x.dtype)
        return Weights(W_x.T, W_h.T, b_x, np.concatenate([zeros, *rest]))

    def run(self, cell, arrays, x, state):
        """Return the outputs and the last state."""
        import mlx.core as mx
        from mlx import nn

        def tensor(array):
            return mx.array(np.ascontiguousarray(array), getattr(mx, x.dtype.name))

        with mx.stream(mx.cpu):  # the only device with float64
            kind = getattr(nn, self.cells[cell][0].split(".")[-1])
            layer = kind(x.shape[2], state[0].shape[1])
            layer.update({name: tensor(array) for name, array in arrays.items()})
            results = layer(tensor(x), *map(tensor, state))
            sequences = [np.array(a) for a in (results if cell == "lstm" else (results,))]
        return sequences[0], [sequence[:, -1] for sequence in sequences]


class ONNX:
    """ONNX's reference implementation: transposed matrices, the two biases in one array."""

    cells = {
        "rnn": ("RNN", "h"),
        "gru": ("GRU", "zrh"),
        "gru-after": ("GRU(linear_before_reset=1)", "zrh"),
        "lstm": ("LSTM", "iofc"),
    }

    def place(self, cell, weights):
        """Return the operator's inputs, whose first axis is the direction."""
        W_x, W_h, *biases = weights
        return {"W": W_x.T[None], "R": W_h.T[None], "B": np.concatenate(biases)[None]}

    def read(self, cell, arrays):
        """Return the weights in the operator's inputs."""
        return Weights(arrays["W"][0].T, arrays["R"][0].T, *np.split(arrays["B"][0], 2))

    def run(self, cell, arrays, x, state):
        """Return the outputs and the last state."""
        outputs, *last = self.call(*self.make(cell, arrays, x, state))
        return outputs[:, 0].swapaxes(0, 1), [array[0] for array in last]

    def make(self, cell, arrays, x, state):
        """Return a model that consists of one operator, and its inputs."""
        from onnx import helper

        starts = dict(zip(("initial_h", "initial_c"), (array[None] for array in state)))
        inputs = {"X": x.swapaxes(0, 1), **arrays, **starts}
        inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        results = ["Y", "Y_h", "Y_c"][: 1 + len(state)]
        sizes = {"hidden_size": state[0].shape[1]}
        sizes |= {"linear_before_reset": 1} if cell == "gru-after" else {}
        operator, names = self.cells[cell][0].split("(")[0], ["X", "W", "R", "B", "", *starts]
        node = helper.make_node(operator, names, results, **sizes)
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        infos = [helper.make_tensor_value_info(n, kind, a.shape) for n, a in inputs.items()]
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in results]
        graph = helper.make_graph([node], "layer", infos, outputs)
        # A version of the operators that older runtimes also know.
        versions = {"opset_imports": [helper.make_opsetid("", 14)], "ir_version": 8}
        return helper.make_model(graph, **versions), inputs

    def call(self, model, inputs):
        """Run a model."""
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, inputs)


class ONNXRuntime(ONNX):
    """ONNX Runtime."""

    def call(self, model, inputs):
        """Run a model."""
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
        return session.run(None, inputs)
