"""What the frameworks' own layers compute, and the model that is built on them."""

import numpy as np
import pytest
from helpers import SMALL, assert_same, parameters, variants

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import CELLS, Options

B, T, H, V, N = 3, 6, 7, 11, 4
GRUS = {"gru", "gru-after"}

# The layers of each framework: name, further arguments, order of its gates, cell that it computes.
LAYERS = {
    "torch": [("GRU", {}, "rzh", "gru-after"), ("LSTM", {}, "ifco", "lstm")],
    "tensorflow": [
        ("GRU", {"reset_after": False}, "zrh", "gru"),
        ("GRU", {"reset_after": True}, "zrh", "gru-after"),
        ("LSTM", {}, "ifco", "lstm"),
    ],
    "mxnet": [("GRU", {}, "rzh", "gru-after"), ("LSTM", {}, "ifco", "lstm")],
    "jax": [("GRUCell", {}, "rzh", "gru-after"), ("OptimizedLSTMCell", {}, "ifco", "lstm")],
}
RELU = {"tensorflow", "jax"}  # whose gated layers can have it in place of tanh
RUN = {**SMALL, "sigma": 0.3, "exact": True, "num_epochs": 2}


def drawn(cell, embedding=0):
    """Parameters with biases that are not zero, so that none can be left out."""
    chance = np.random.RandomState(0)
    shapes = Options(V, H, cell, embedding=embedding).shapes()
    return {name: chance.normal(0, 0.5, shape) for name, shape in shapes.items()}


def loop(cell, arrays, x):
    """The outputs (T, B, H) of the reference's cell for the inputs (T, B, N), from zeros on."""
    scratch, options, outputs = registry.load("numpy").scratch, Options(V, H, cell), []
    state = scratch.state(B, options._replace(dtype="float64"))
    for each in x:
        state = scratch.CELLS[cell](each, state, arrays, options)
        outputs.append(state[0])
    return np.stack(outputs)


def torch_layer(name, choice, weights, x):
    import torch

    layer = getattr(torch.nn, name)(N, H, dtype=torch.float64, **choice)
    weights = [*(array.T for array in weights), np.zeros(weights[2].shape)]
    with torch.no_grad():
        for param, array in zip(layer.parameters(), weights, strict=True):
            param.copy_(torch.tensor(array))
        return layer(torch.tensor(x))[0].numpy()


def tensorflow_layer(name, choice, weights, x):
    import keras

    layer = getattr(keras.layers, name)(H, return_sequences=True, dtype="float64", **choice)
    layer.build((None, None, N))
    *matrices, bias = weights
    if len(layer.weights[2].shape) == 2:
        bias = np.stack([bias, np.zeros(bias.shape)])
    layer.set_weights([*matrices, bias])
    return np.asarray(layer(x.transpose(1, 0, 2))).transpose(1, 0, 2)


def mxnet_layer(name, choice, weights, x):
    from mxnet import gluon, np

    layer = getattr(gluon.rnn, name)(H, input_size=N, dtype="float64", **choice)
    layer.initialize("zeros")
    names = ("l0_i2h_weight", "l0_h2h_weight", "l0_i2h_bias")
    for parameter, array in zip(names, weights, strict=True):
        getattr(layer, parameter).set_data(np.array(array.T, dtype="float64"))
    return layer(np.array(x, dtype="float64")).asnumpy()


def jax_layer(name, choice, weights, x):
    import jax
    from flax import nnx

    jax.config.update("jax_enable_x64", True)
    cell = getattr(nnx, name)(N, H, param_dtype="float64", rngs=nnx.Rngs(0), **choice)
    description, state = nnx.split(cell)
    tree = nnx.to_pure_dict(state)
    tree["dense_i"]["kernel"], tree["dense_h"]["kernel"], bias = weights
    (with_bias,) = (dense for dense in tree.values() if "bias" in dense)
    with_bias["bias"] = bias
    cell = nnx.merge(description, jax.tree.map(jax.numpy.asarray, tree))
    return np.asarray(nnx.RNN(cell, time_major=True)(jax.numpy.asarray(x)))


def test_which_cell_a_layer_computes(backend, candidate):
    if candidate not in LAYERS:
        pytest.skip("a layer that this test does not know")
    compute = {
        "torch": torch_layer,
        "tensorflow": tensorflow_layer,
        "mxnet": mxnet_layer,
        "jax": jax_layer,
    }
    x = np.random.RandomState(1).normal(0, 1, (T, B, N))
    for name, choice, gates, cell in LAYERS[candidate]:
        arrays = drawn(cell, N)
        weights = [
            np.concatenate([arrays[prefix + gate] for gate in gates], axis=-1)
            for prefix in ("W_x", "W_h", "b_")
        ]
        outputs = compute[candidate](name, choice, weights, x)
        np.testing.assert_allclose(outputs, loop(cell, arrays, x), rtol=0, atol=1e-14)
        for other in GRUS - {cell} if cell in GRUS else ():
            # Easy to miss: at the first step, from zeros, the two are equal.
            difference = np.abs(outputs - loop(other, arrays, x)).max((1, 2))
            assert difference[0] < 1e-14
            assert difference[1:].min() > 0.01


def built(candidate, options):
    """The model on the framework's layers, or a skip where there is none for these options."""
    arrays = drawn(options.cell, options.embedding)
    backend = registry.load(candidate)
    try:
        return backend, registry.build(candidate, backend, "concise", arrays, options)
    except registry.NotOffered as error:
        pytest.skip(str(error))


def test_which_cells_are_offered(backend, candidate):
    if candidate not in LAYERS:
        pytest.skip("a layer that this test does not know")
    layers = {cell: (name, choice) for name, choice, _, cell in LAYERS[candidate]}
    expected = {
        ("tanh", cell): None
        if cell == "rnn" or cell in layers
        else ("has its reset gate after the product", "--cell gru-after", "--model scratch")
        for cell in CELLS
    }
    for cell, (name, _) in layers.items():
        refused = (f"{name}, has no relu", "--activation tanh", "--model scratch")
        expected["relu", cell] = None if candidate in RELU else refused
    for (activation, cell), words in expected.items():
        options = Options(V, H, cell, activation)
        if words is None:
            registry.build(candidate, backend, "concise", drawn(cell), options)
            continue
        with pytest.raises(registry.NotOffered) as error:
            registry.build(candidate, backend, "concise", drawn(cell), options)
        for word in words:
            assert word in str(error.value)


def test_a_cell_without_a_layer_is_not_offered(backend, candidate, monkeypatch):
    if "concise" not in variants(candidate):
        pytest.skip(f"{candidate} has no concise model")
    monkeypatch.setitem(CELLS, "plainest", CELLS["rnn"])
    with pytest.raises(registry.NotOffered, match="no layer for the cell plainest"):
        registry.build(candidate, backend, "concise", drawn("plainest"), Options(V, H, "plainest"))


@pytest.mark.parametrize("cell", ["gru-after", "lstm"])  # whose gates a layer may reorder
def test_exact_mode_and_checkpoints_from_layers_to_scratch_and_back(candidate, cell):
    built(candidate, Options(V, H, cell))
    settings = {**RUN, "cell": cell}
    expected = rnn_scratch.train("numpy", run="reference", **{**settings, "num_epochs": 4}).arrays
    first = rnn_scratch.train(candidate, model="concise", run="layers", **settings)
    assert_same(parameters(first), first.arrays)
    second = rnn_scratch.resume(first, num_epochs=3, model="scratch")
    third = rnn_scratch.resume(second, num_epochs=4, model="concise")
    assert third.history[-1].epoch == 4
    assert_same(third.arrays, expected)
