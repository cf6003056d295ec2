"""The same model on Flax's layers: cells of ``nnx``, which ``nnx.RNN`` repeats, and ``nnx.Linear``.

Flax has two sets of layers: its makers recommend those of ``nnx`` for new programs, and keep the
older ``linen`` for existing ones.
"""

from functools import partial

import jax
import numpy as np
from flax import nnx

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import by_layer, to_layer, tokens_and_masks

from . import scratch
from .machine import array

# The cell's layer, the order in which it keeps the cell's gates, and which half has the bias.
LAYERS = {
    "rnn": (nnx.SimpleCell, "h", "dense_i"),
    "gru-after": (nnx.GRUCell, "rzh", "dense_i"),
    "lstm": (nnx.OptimizedLSTMCell, "ifco", "dense_h"),
    "rnn-relu": (partial(nnx.SimpleCell, activation_fn=jax.nn.relu), "h", "dense_i"),
}


def build(arrays, options):
    """The model on Flax's own layers, with parameters that start at these arrays."""
    refuse(options)
    cell, gates, with_bias = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Zeros and a random seed, neither of which is used, so that the layers draw no random numbers.
    zeros = nnx.initializers.zeros
    common = {"dtype": options.dtype, "param_dtype": options.dtype, "rngs": nnx.Rngs(0)}
    layers = nnx.Dict(output=nnx.Linear(H, V, kernel_init=zeros, **common))
    # Where the layers keep each parameter.
    paths = {}
    if "W_e" in arrays:
        layers["embedding"] = nnx.Embed(V, N, embedding_init=zeros, **common)
        paths["W_e"] = "embedding", "embedding"
    for number in range(options.num_layers):
        own = f"recurrent_{number}"
        layers[own] = nnx.RNN(
            cell(
                H if number else N,
                H,
                kernel_init=zeros,
                recurrent_kernel_init=zeros,
                **common,
            ),
            time_major=True,
            return_carry=True,
            rngs=False,
        )
        # One parameter has the weights of all gates; its name lists theirs: "W_xr W_xz W_xh".
        places = {"W_x": ("dense_i", "kernel"), "W_h": ("dense_h", "kernel")}
        for prefix, place in {**places, "b_": (with_bias, "bias")}.items():
            names = to_layer({prefix + gate: None for gate in gates}, number)
            paths[" ".join(names)] = own, "cell", *place
    paths |= {"W_hq": ("output", "kernel"), "b_q": ("output", "bias")}
    start = {
        names: np.concatenate([arrays[name] for name in names.split()], axis=-1) for names in paths
    }
    params = scratch.params(start, options)
    # A layer is an object that has parameters. A pure function of parameters takes it apart into
    # the description of the object and its parameters, and puts it together with others.
    description, _ = nnx.split(layers)

    @jax.jit
    def apply(params, inputs, state):
        tokens, masks = tokens_and_masks(inputs)
        layers = nnx.merge(description, _nested(params, paths))
        if "W_e" in params:
            outputs = layers.embedding(tokens.T)  # (T, B, N)
        else:
            outputs = jax.nn.one_hot(tokens.T, V, dtype=options.dtype)
        after = ()
        for number, own in enumerate(by_layer(state, options)):
            before = own[::-1] if len(own) > 1 else own[0]  # the LSTM's c comes first here
            last, outputs = layers[f"recurrent_{number}"](outputs, initial_carry=before)
            if masks is not None:  # the core's, as Flax's dropout draws its own
                outputs = outputs * masks[:, number]  # (T, B, H)
            after += last[::-1] if len(own) > 1 else (last,)
        return layers.output(outputs.reshape(-1, H)), after

    def forward(inputs, state, params=params):
        return apply(params, inputs, state)

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where Flax has no layer for these options, and say why."""
    if options.cell == "gru":
        raise RNNScratchError(
            "nnx.GRUCell applies the reset gate after the product, but the cell gru applies it "
            "before the product.\nUse --cell gru-after or --model scratch."
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f"Flax has no layer for the cell {options.cell}.\nUse --model scratch."
        )


def _nested(params, paths):
    tree = {}
    for names, (*branches, leaf) in paths.items():
        branch = tree
        for each in branches:
            branch = branch.setdefault(each, {})
        branch[leaf] = params[names]
    return tree


def _to_arrays(params, order):
    arrays = {}
    for names, param in params.items():
        arrays.update(zip(names.split(), np.split(array(param), len(names.split()), axis=-1)))
    return {name: arrays[name].copy() for name in order}
