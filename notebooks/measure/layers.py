"""Run the recurrent layers of other frameworks with weights converted from and to this project's.

Each class in LAYERS is a framework. `place` converts the weights of a layer to the framework's own
arrays, keyed by the framework's names, and `read` converts them back. Both use only NumPy; `run`
imports the framework, copies the arrays into its layer and calls the layer.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rnn_scratch import registry
from rnn_scratch.contract import Arrays, ModelConfig
from rnn_scratch.parameters import join_gates, split_gates


class Weights(NamedTuple):
    """A layer's weights, with all G gates concatenated in the order of a framework.

    Only the candidate of `gru-after` needs two biases; the others are added to each other.
    """

    W_x: np.ndarray  # (V, G*H)
    W_h: np.ndarray  # (H, G*H)
    b_x: np.ndarray  # (G*H,)
    b_h: np.ndarray  # (G*H,)


def join(arrays: Arrays, options: ModelConfig, gates: str) -> Weights:
    """Concatenate this project's arrays in the order `gates`; the superfluous biases are zero."""
    joined = join_gates(arrays, options, gates)
    b_h = np.zeros_like(joined["b"])
    if "b_hh" in joined:
        b_h.reshape(len(gates), -1)[gates.index("h")] = joined["b_hh"]
    return Weights(joined["W_x"], joined["W_h"], joined["b"], b_h)


def split(weights: Weights, options: ModelConfig, gates: str) -> Arrays:
    """Return this project's arrays for weights in the order `gates`; add superfluous biases."""
    b_x, b_h = (bias.reshape(len(gates), -1).copy() for bias in (weights.b_x, weights.b_h))
    arrays = {}
    if "b_hh" in options.shapes():
        arrays["b_hh"] = b_h[gates.index("h")].copy()
        b_h[gates.index("h")] = 0
    joined = {"W_x": weights.W_x, "W_h": weights.W_h, "b": (b_x + b_h).ravel(), **arrays}
    recurrent = {name: shape for name, shape in options.shapes().items() if name[-1] != "q"}
    blank = {name: np.zeros(shape) for name, shape in options.shapes().items()}
    split_arrays = split_gates(blank | joined, options, gates)
    return {name: split_arrays[name] for name in recurrent}


class Torch:
    """``torch.nn``: transposed matrices, two biases."""

    gates = {"rnn": "h", "gru-after": "rzh", "lstm": "ifco"}
    names = {"rnn": "torch.nn.RNN", "gru-after": "torch.nn.GRU", "lstm": "torch.nn.LSTM"}
    arrays = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the framework's arrays."""
        W_x, W_h, *biases = weights
        return dict(zip(self.arrays, (W_x.T, W_h.T, *biases)))

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the framework's arrays."""
        W_x, W_h, *biases = (arrays[name] for name in self.arrays)
        return Weights(W_x.T, W_h.T, *biases)

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
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
    """``keras.layers``, on the backend that KERAS_BACKEND names: (V, G*H), one bias or two rows."""

    gates = {"rnn": "h", "gru": "zrh", "gru-after": "zrh", "lstm": "ifco"}
    names = {
        "rnn": "keras.layers.SimpleRNN",
        "gru": "keras.layers.GRU(reset_after=False)",
        "gru-after": "keras.layers.GRU",
        "lstm": "keras.layers.LSTM",
    }

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the framework's arrays."""
        W_x, W_h, b_x, b_h = weights
        bias = np.stack([b_x, b_h]) if cell == "gru-after" else b_x + b_h
        return {"kernel": W_x, "recurrent_kernel": W_h, "bias": bias}

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the framework's arrays."""
        bias = arrays["bias"]
        biases = bias if cell == "gru-after" else (bias, np.zeros_like(bias))
        return Weights(arrays["kernel"], arrays["recurrent_kernel"], *biases)

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
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


class Linen:
    """``flax.linen``: a layer for each gate and half, with the bias in one of the halves."""

    gates = {"rnn": "h", "gru-after": "rzh", "lstm": "ifco"}
    names = {
        "rnn": "flax.linen.SimpleCell",
        "gru-after": "flax.linen.GRUCell",
        "lstm": "flax.linen.OptimizedLSTMCell",
    }
    # For each cell, the suffixes of the gates' layers, and the halves that have biases.
    parts = {"rnn": (("",), "i"), "gru-after": ("rzn", "ih"), "lstm": ("ifgo", "h")}

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the framework's arrays; those of the gate r are `ir.kernel`, `hr.kernel`..."""
        W_x, W_h, b_x, b_h = weights
        suffixes, halves = self.parts[cell]
        biases = {"i": b_x, "h": b_h} if cell == "gru-after" else {halves: b_x + b_h}
        arrays = {}
        for half, matrix in (("i", W_x), ("h", W_h)):
            for suffix, part in zip(suffixes, np.split(matrix, len(suffixes), -1)):
                arrays[f"{half}{suffix}.kernel"] = part
            if half in biases:
                for suffix, part in zip(suffixes, np.split(biases[half], len(suffixes))):
                    if half == "i" or cell == "lstm" or suffix == "n":
                        arrays[f"{half}{suffix}.bias"] = part
        return arrays

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the framework's arrays."""
        suffixes, _ = self.parts[cell]
        zeros = np.zeros_like(arrays[f"h{suffixes[0]}.kernel"][0])

        def joined(half: str, kind: str) -> np.ndarray:
            names = [f"{half}{suffix}.{kind}" for suffix in suffixes]
            return np.concatenate([arrays.get(name, zeros) for name in names], -1)

        return Weights(*(joined(half, kind) for kind in ("kernel", "bias") for half in "ih"))

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
        import jax.numpy as jnp
        from flax import linen

        registry.load("jax")  # enables float64
        kind = getattr(linen, self.names[cell].split(".")[-1])
        flax_cell = kind(state[0].shape[1], param_dtype=x.dtype)
        params: dict[str, Any] = {}
        for name, array in arrays.items():
            layer, kind = name.split(".")
            params.setdefault(layer, {})[kind] = jnp.array(array)
        return _loop(partial(flax_cell.apply, {"params": params}), x, state)


def _loop(step: Any, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
    """Call a Flax cell for each time step; in Flax, the state of an LSTM is (c, h)."""
    import jax.numpy as jnp

    tensors = tuple(jnp.array(array) for array in reversed(state))
    carry = tensors if len(state) == 2 else tensors[0]
    outputs = []
    for t in range(x.shape[1]):
        carry, output = step(carry, jnp.array(x[:, t]))
        outputs.append(np.asarray(output))
    last = carry[::-1] if len(state) == 2 else (carry,)
    return np.stack(outputs, 1), [np.asarray(array) for array in last]


class NNX:
    """``flax.nnx``: a layer for each half, with the bias in one of them; no `b_hh` in the GRU."""

    gates = {"rnn": "h", "gru-after": "rzh", "lstm": "ifco"}
    names = {
        "rnn": "flax.nnx.SimpleCell",
        "gru-after": "flax.nnx.GRUCell",
        "lstm": "flax.nnx.OptimizedLSTMCell",
    }
    biases = {"rnn": "dense_i.bias", "gru-after": "dense_i.bias", "lstm": "dense_h.bias"}

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the framework's arrays, without the bias that the GRU lacks."""
        W_x, W_h, b_x, b_h = weights
        bias = b_x if cell == "gru-after" else b_x + b_h
        return {"dense_i.kernel": W_x, "dense_h.kernel": W_h, self.biases[cell]: bias}

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the framework's arrays."""
        bias = arrays[self.biases[cell]]
        kernels = arrays["dense_i.kernel"], arrays["dense_h.kernel"]
        return Weights(*kernels, bias, np.zeros_like(bias))

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
        import jax.numpy as jnp
        from flax import nnx

        registry.load("jax")  # enables float64
        kind = getattr(nnx, self.names[cell].split(".")[-1])
        sizes = x.shape[2], state[0].shape[1]
        flax_cell = kind(*sizes, dtype=x.dtype, param_dtype=x.dtype, rngs=nnx.Rngs(0))
        for name, array in arrays.items():
            layer, kind = name.split(".")
            getattr(getattr(flax_cell, layer), kind)[...] = jnp.array(array)
        return _loop(flax_cell, x, state)


class MXNet(Torch):
    """``mxnet.gluon.rnn``: the same layout as in PyTorch, under other names."""

    names = {"rnn": "gluon.rnn.RNN", "gru-after": "gluon.rnn.GRU", "lstm": "gluon.rnn.LSTM"}
    arrays = ("l0_i2h_weight", "l0_h2h_weight", "l0_i2h_bias", "l0_h2h_bias")

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
        registry.load("mxnet")  # makes MXNet compatible with recent versions of NumPy
        from mxnet import gluon, np

        kinds = {"rnn": partial(gluon.rnn.RNN, activation="tanh"), "gru-after": gluon.rnn.GRU}
        kind = {**kinds, "lstm": gluon.rnn.LSTM}[cell]
        sizes = {"hidden_size": state[0].shape[1], "input_size": x.shape[2]}
        layer = kind(**sizes, layout="NTC", dtype=x.dtype.name)
        layer.initialize("zeros")
        for name, array in arrays.items():
            getattr(layer, name).set_data(np.array(array, dtype=x.dtype.name))
        start = [np.array(array[None], dtype=x.dtype.name) for array in state]
        outputs, last = layer(np.array(x, dtype=x.dtype.name), start)
        return outputs.asnumpy(), [array[0].asnumpy() for array in last]


class MLX:
    """``mlx.nn``: transposed matrices, one bias, and one for the GRU's candidate."""

    gates = {"rnn": "h", "gru-after": "rzh", "lstm": "ifco"}
    names = {"rnn": "mlx.nn.RNN", "gru-after": "mlx.nn.GRU", "lstm": "mlx.nn.LSTM"}
    arrays = {
        "rnn": ("Wxh", "Whh", "bias"),
        "gru-after": ("Wx", "Wh", "b", "bhn"),
        "lstm": ("Wx", "Wh", "bias"),
    }

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the framework's arrays."""
        W_x, W_h, b_x, b_h = weights
        if cell == "gru-after":
            H = len(W_h)
            values = (W_x.T, W_h.T, b_x + np.append(b_h[:-H], np.zeros(H, b_h.dtype)), b_h[-H:])
        else:
            values = (W_x.T, W_h.T, b_x + b_h)
        return dict(zip(self.arrays[cell], values))

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the framework's arrays."""
        W_x, W_h, b_x, *rest = (arrays[name] for name in self.arrays[cell])
        b_h = np.zeros_like(b_x)
        if rest:
            b_h[-len(rest[0]) :] = rest[0]
        return Weights(W_x.T, W_h.T, b_x, b_h)

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
        import mlx.core as mx
        from mlx import nn

        def tensor(array: np.ndarray) -> Any:
            return mx.array(np.ascontiguousarray(array), getattr(mx, x.dtype.name))

        with mx.stream(mx.cpu):  # the only device with float64
            kind = getattr(nn, self.names[cell].split(".")[-1])
            layer = kind(x.shape[2], state[0].shape[1])
            layer.update({name: tensor(array) for name, array in arrays.items()})
            results = layer(tensor(x), *map(tensor, state))
            sequences = [np.array(a) for a in (results if cell == "lstm" else (results,))]
        return sequences[0], [sequence[:, -1] for sequence in sequences]


class ONNX:
    """ONNX's reference implementation: transposed matrices, the two biases in one array."""

    gates = {"rnn": "h", "gru": "zrh", "gru-after": "zrh", "lstm": "iofc"}
    names = {
        "rnn": "RNN",
        "gru": "GRU",
        "gru-after": "GRU(linear_before_reset=1)",
        "lstm": "LSTM",
    }

    def place(self, cell: str, weights: Weights) -> Arrays:
        """Return the operator's inputs, whose first axis is the direction."""
        W_x, W_h, b_x, b_h = weights
        return {"W": W_x.T[None], "R": W_h.T[None], "B": np.append(b_x, b_h)[None]}

    def read(self, cell: str, arrays: Arrays) -> Weights:
        """Return the weights in the operator's inputs."""
        return Weights(arrays["W"][0].T, arrays["R"][0].T, *np.split(arrays["B"][0], 2))

    def run(self, cell: str, arrays: Arrays, x: np.ndarray, state: Sequence[np.ndarray]) -> Any:
        """Return the outputs (B, T, H) for inputs (B, T, V), and the last state."""
        starts = dict(zip(("initial_h", "initial_c"), (array[None] for array in state)))
        inputs = {"X": x.swapaxes(0, 1), **arrays, **starts}
        inputs = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        outputs, *last = self.call(make_model(cell, inputs), inputs)
        return outputs[:, 0].swapaxes(0, 1), [array[0] for array in last]

    def call(self, model: Any, inputs: Arrays) -> list[np.ndarray]:
        """Run a model."""
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, inputs)


class ONNXRuntime(ONNX):
    """ONNX Runtime, which has only float32 versions of the operators."""

    def call(self, model: Any, inputs: Arrays) -> list[np.ndarray]:
        """Run a model."""
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
        return session.run(None, inputs)


def make_model(cell: str, inputs: Arrays) -> Any:
    """Return an ONNX model that consists of one operator."""
    from onnx import helper

    names = ["X", "W", "R", "B", "", *[name for name in inputs if name.startswith("initial")]]
    results = ["Y", "Y_h", "Y_c"][: 3 if cell == "lstm" else 2]
    attributes = {"linear_before_reset": 1} if cell == "gru-after" else {}
    operator = ONNX.names[cell].split("(")[0]
    sizes = {"hidden_size": inputs["R"].shape[2], **attributes}
    node = helper.make_node(operator, names, results, **sizes)
    kind = helper.np_dtype_to_tensor_dtype(inputs["X"].dtype)
    infos = [helper.make_tensor_value_info(n, kind, a.shape) for n, a in inputs.items()]
    outs = [helper.make_tensor_value_info(name, kind, None) for name in results]
    graph = helper.make_graph([node], "layer", infos, outs)
    # A version of the operators that older runtimes also know.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


LAYERS: dict[str, Any] = {
    "torch": Torch(),
    "keras": Keras(),
    "linen": Linen(),
    "nnx": NNX(),
    "mxnet": MXNet(),
    "mlx": MLX(),
    "onnx": ONNX(),
    "onnxruntime": ONNXRuntime(),
}
