"""The model built from Flax layers: ``nnx.RNN``, which runs a cell over time, and ``nnx.Linear``.

Flax recommends ``nnx`` for new programs and keeps the older ``linen`` for existing ones. Only
`build` imports Flax, so the other variants work without it.
"""

from functools import partial

import jax

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import add_layer_suffix, join_gates, split_by_layer, split_gates

from . import machine, scratch

# For each cell: the layer, its arguments, its gate order, and the sublayer that holds the bias.
LAYERS = {
    "rnn": ("SimpleCell", {}, "h", "dense_i"),
    "gru-after": ("GRUCell", {}, "rzh", "dense_i"),
    "lstm": ("OptimizedLSTMCell", {}, "ifco", "dense_h"),
    "rnn-relu": ("SimpleCell", {"activation_fn": jax.nn.relu}, "h", "dense_i"),
}


def params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, _, gates, _ = LAYERS[options.cell]
    return scratch.params(join_gates(arrays, options, gates), options)


def build(arrays, options):
    """Build the model from initial parameter values, using Flax's built-in layers."""
    check_supported(options)
    try:
        from flax import nnx
    except ModuleNotFoundError as error:
        raise RNNScratchError(
            "The concise model of JAX needs Flax, which is not installed.",
            'Install it with `pip install flax`, or use `model="scratch"`.',
        ) from error

    cell_class, arguments, gates, bias_layer = LAYERS[options.cell]
    V, (N, H) = len(arrays["b_q"]), arrays[f"W_x{gates[0]}"].shape  # N is V for one-hot inputs
    # Initialize with zeros so that the layers draw no random numbers. Flax still requires `rngs`.
    zeros = nnx.initializers.zeros
    common_kwargs = {"dtype": options.dtype, "param_dtype": options.dtype, "rngs": nnx.Rngs(0)}
    layers = nnx.Dict(output=nnx.Linear(H, V, kernel_init=zeros, **common_kwargs))
    paths = {}  # each parameter's path in the layers
    if "W_e" in arrays:
        layers["embedding"] = nnx.Embed(V, N, embedding_init=zeros, **common_kwargs)
        paths["W_e"] = "embedding", "embedding"
    for index in range(options.num_layers):
        cell = getattr(nnx, cell_class)(
            H if index else N,
            H,
            kernel_init=zeros,
            recurrent_kernel_init=zeros,
            **arguments,
            **common_kwargs,
        )
        layers[f"recurrent_{index}"] = nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)
        # One parameter (..., G*H) holds the weights of all G gates.
        locations = {"W_x": ("dense_i", "kernel"), "W_h": ("dense_h", "kernel")}
        for name, location in {**locations, "b": (bias_layer, "bias")}.items():
            path = f"recurrent_{index}", "cell", *location
            paths |= add_layer_suffix({name: path}, index)
    paths |= {"W_hq": ("output", "kernel"), "b_q": ("output", "bias")}
    tensors = params(arrays, options)
    # A Flax layer is an object that holds its parameters. Split it into a graph definition and
    # parameters so that a pure function can merge the definition with any parameters.
    definition, _ = nnx.split(layers)

    @jax.jit
    def apply(params, tokens, state, masks):
        layers = nnx.merge(definition, _nest(params, paths))
        if "W_e" in params:
            outputs = layers.embedding(tokens.T)  # (T, B, N)
        else:
            outputs = jax.nn.one_hot(tokens.T, V, dtype=options.dtype)
        next_state = ()
        for index, layer_state in enumerate(split_by_layer(state, options)):
            is_pair = len(layer_state) > 1  # Flax stores an LSTM's c before its h
            carry = layer_state[::-1] if is_pair else layer_state[0]
            last_carry, outputs = layers[f"recurrent_{index}"](outputs, initial_carry=carry)
            if masks is not None:  # Flax's dropout would draw different masks
                outputs = outputs * masks[:, index]  # (T, B, H)
            next_state += last_carry[::-1] if is_pair else (last_carry,)
        return layers.output(outputs.reshape(-1, H)), next_state

    def forward(tokens, state, masks=None, params=tensors):
        return apply(params, tokens, state, masks)

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options, gates)

    state = partial(scratch.state, options=options)
    return Model(tensors, options, forward, state, to_arrays, scratch.train_minibatch)


def check_supported(options):
    """Raise RNNScratchError if Flax has no layer for these options."""
    if options.cell == "gru":
        raise RNNScratchError(
            "nnx.GRUCell applies the reset gate after the product, but the cell gru applies it "
            'before the product.\nUse `cell="gru-after"` or `model="scratch"`.'
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'Flax has no layer for the cell {options.cell}.\nUse `model="scratch"`.'
        )


def _nest(params, paths):
    """Return the parameters as nested dicts, with each parameter at its path in `paths`."""
    tree = {}
    for name, (*branches, leaf) in paths.items():
        branch = tree
        for key in branches:
            branch = branch.setdefault(key, {})
        branch[leaf] = params[name]
    return tree
