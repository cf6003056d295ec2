"""The same model on Flax's layers: cells of ``nnx``, which ``nnx.RNN`` repeats, and ``nnx.Linear``.

Flax has two sets of layers: its makers recommend those of ``nnx`` for new programs, and keep the
older ``linen`` for existing ones.
"""

from functools import partial

import jax
import numpy as np
from flax import nnx

from rnn_scratch.contract import Model, RNNScratchError

from . import scratch
from .machine import array

# The cell's layer, the order in which it keeps the cell's gates, and which half has the bias.
LAYERS = {
    "rnn": (nnx.SimpleCell, "h", "dense_i"),
    "gru-after": (nnx.GRUCell, "rzh", "dense_i"),
    "lstm": (nnx.OptimizedLSTMCell, "ifco", "dense_h"),
}


def build(arrays, options):
    """The model on Flax's own layers, with parameters that start at these arrays."""
    refuse(options)
    cell, gates, with_bias = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Zeros and a random seed, neither of which is used, so that the layers draw no random numbers.
    zeros = nnx.initializers.zeros
    common = {"dtype": options.dtype, "param_dtype": options.dtype, "rngs": nnx.Rngs(0)}
    layers = nnx.Dict(
        recurrent=nnx.RNN(
            cell(
                N,
                H,
                activation_fn=partial(scratch.activation, options=options),
                kernel_init=zeros,
                recurrent_kernel_init=zeros,
                **common,
            ),
            time_major=True,
            return_carry=True,
            rngs=False,
        ),
        output=nnx.Linear(H, V, kernel_init=zeros, **common),
    )
    # Where the layers keep each parameter. One has the weights of all gates; its name lists theirs,
    # such as "W_xr W_xz W_xh".
    paths = {
        " ".join(f"W_x{gate}" for gate in gates): ("recurrent", "cell", "dense_i", "kernel"),
        " ".join(f"W_h{gate}" for gate in gates): ("recurrent", "cell", "dense_h", "kernel"),
        " ".join(f"b_{gate}" for gate in gates): ("recurrent", "cell", with_bias, "bias"),
        "W_hq": ("output", "kernel"),
        "b_q": ("output", "bias"),
    }
    if "W_e" in arrays:
        layers["embedding"] = nnx.Embed(V, N, embedding_init=zeros, **common)
        paths = {"W_e": ("embedding", "embedding"), **paths}
    start = {
        names: np.concatenate([arrays[name] for name in names.split()], axis=-1) for names in paths
    }
    params = scratch.params(start, options)
    # A layer is an object that has parameters. A pure function of parameters takes it apart into
    # the description of the object and its parameters, and puts it together with others.
    description, _ = nnx.split(layers)

    @jax.jit
    def apply(params, tokens, state):
        layers = nnx.merge(description, _nested(params, paths))
        if "W_e" in params:
            inputs = layers.embedding(tokens.T)  # (T, B, N)
        else:
            inputs = jax.nn.one_hot(tokens.T, V, dtype=options.dtype)
        before = state[::-1] if len(state) > 1 else state[0]  # the LSTM's c comes first here
        after, outputs = layers.recurrent(inputs, initial_carry=before)  # (T, B, H)
        state = after[::-1] if len(state) > 1 else (after,)
        return layers.output(outputs.reshape(-1, H)), state

    def forward(tokens, state, params=params):
        return apply(params, tokens, state)

    to_arrays = partial(_to_arrays, order=list(arrays))
    return Model(params, options, forward, partial(scratch.state, options=options), to_arrays)


def refuse(options):
    """Raise RNNScratchError where Flax has no layer for these options, and say why."""
    if options.cell == "gru":
        raise RNNScratchError(
            "Flax's layer, nnx.GRUCell, has its reset gate after the product, and the cell gru "
            "before it.\nUse --cell gru-after or --model scratch."
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
