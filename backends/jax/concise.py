"""The model built from Flax layers: ``nnx.RNN``, which runs a cell over time, and ``nnx.Linear``.

Flax recommends ``nnx`` for new programs and keeps the older ``linen`` for existing ones. Only
`import_nnx` imports Flax, so the other variants work without it.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import join_gates, select_layer, split_by_layer, split_gates

from . import machine, scratch

# For each cell: the layer, its arguments, its gate order, and the sublayer that holds the bias.
LAYERS = {
    "rnn": ("SimpleCell", {}, "h", "dense_i"),
    "gru-after": ("GRUCell", {}, "rzh", "dense_i"),
    "lstm": ("OptimizedLSTMCell", {}, "ifco", "dense_h"),
    "rnn-relu": ("SimpleCell", {"activation_fn": jax.nn.relu}, "h", "dense_i"),
}


def init_params(arrays, options):
    """Create the parameters of ``scratch`` in the layers' layout."""
    _, _, gates, _ = LAYERS[options.cell]
    return scratch.init_params(join_gates(arrays, options, gates), options)


@partial(jax.jit, static_argnames="options")
def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    layers = import_nnx().merge(define_layers(options), nest(params, options))
    if options.embedding:
        outputs = layers.embedding(tokens.T)  # (T, B, N)
    else:
        outputs = jax.nn.one_hot(tokens.T, options.vocab_size, dtype=options.dtype)
    next_state = ()
    for index, layer_state in enumerate(split_by_layer(state, options)):
        is_pair = len(layer_state) > 1  # Flax stores an LSTM's c before its h
        carry = layer_state[::-1] if is_pair else layer_state[0]
        last_carry, outputs = layers[f"recurrent_{index}"](outputs, initial_carry=carry)
        if masks is not None:  # Flax's dropout would draw different masks
            outputs = outputs * masks[:, index]  # (T, B, H)
        next_state += last_carry[::-1] if is_pair else (last_carry,)
    return layers.output(outputs.reshape(-1, options.num_hiddens)), next_state


def gradients(params, batch, state, options):
    """Return the results of ``scratch.gradients`` for this module's `forward`."""
    variant_forward = partial(forward, masks=batch.masks)
    return scratch.gradients(params, batch, state, options, variant_forward)


@cache
def define_layers(options):
    """Return the layers' graph definition, which `forward` merges with parameters.

    A Flax layer is an object that holds its parameters. Its graph definition lacks them, so a pure
    function can merge the definition with any parameters.
    """
    nnx = import_nnx()
    cell_class, arguments, _, _ = LAYERS[options.cell]
    V, N, H = options.vocab_size, options.embedding, options.num_hiddens

    def make_layers():
        common_kwargs = {"dtype": options.dtype, "param_dtype": options.dtype, "rngs": nnx.Rngs(0)}
        layers = nnx.Dict(output=nnx.Linear(H, V, **common_kwargs))
        if options.embedding:
            layers["embedding"] = nnx.Embed(V, N, **common_kwargs)
        for index in range(options.num_layers):
            num_inputs = H if index else N or V
            cell = getattr(nnx, cell_class)(num_inputs, H, **arguments, **common_kwargs)
            if options.cell == "gru-after":  # GRUCell's recurrent product lacks a bias
                cell.dense_h = nnx.Linear(H, 3 * H, **common_kwargs)
            rnn = nnx.RNN(cell, time_major=True, return_carry=True, rngs=False)
            layers[f"recurrent_{index}"] = rnn
        return layers

    return nnx.graphdef(nnx.eval_shape(make_layers))  # eval_shape draws no initial values


def nest(params, options):
    """Return the parameters as nested dicts, as in the layers."""
    _, _, _, bias_layer = LAYERS[options.cell]
    tree = {"output": {"kernel": params["W_hq"], "bias": params["b_q"]}}
    if options.embedding:
        tree["embedding"] = {"embedding": params["W_e"]}
    for index in range(options.num_layers):
        layer = select_layer(params, index)
        # One parameter (..., G*H) holds the weights of all G gates.
        cell = {"dense_i": {"kernel": layer["W_x"]}, "dense_h": {"kernel": layer["W_h"]}}
        cell[bias_layer]["bias"] = layer["b"]
        if "b_hh" in layer:  # only the last gate has a recurrent bias
            cell["dense_h"]["bias"] = jnp.pad(layer["b_hh"], (2 * options.num_hiddens, 0))
        tree[f"recurrent_{index}"] = {"cell": cell}
    return tree


def build(arrays, options):
    """Build the model from initial parameter values, using Flax's built-in layers."""
    check_supported(options)
    import_nnx()
    _, _, gates, _ = LAYERS[options.cell]

    def to_arrays(params):
        return split_gates(machine.to_arrays(params), options, gates)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)


def import_nnx():
    """Import Flax; raise RNNScratchError if it is not installed."""
    try:
        from flax import nnx
    except ModuleNotFoundError as error:
        raise RNNScratchError(
            "The concise model of JAX needs Flax, which is not installed.",
            'Install it with `pip install flax`, or use `variant="scratch"`.',
        ) from error
    return nnx


def check_supported(options):
    """Raise RNNScratchError if Flax has no layer for these options."""
    if options.cell == "gru":
        raise RNNScratchError(
            "nnx.GRUCell applies the reset gate after the product, but the cell gru applies it "
            'before the product.\nUse `cell="gru-after"` or `variant="scratch"`.'
        )
    if options.cell not in LAYERS:
        raise RNNScratchError(
            f'Flax has no layer for the cell {options.cell}.\nUse `variant="scratch"`.'
        )
