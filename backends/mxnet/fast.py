"""The ``scratch`` model, optimized by hand; its results match those of ``scratch`` up to rounding.

A comment here or in a sibling module explains each main optimization and starts with its name. The
project's website lists the speedups.
"""

from functools import lru_cache

from mxnet import autograd, np, npx

from rnn_scratch.contract import Model, RNNScratchError
from rnn_scratch.parameters import (
    add_layer_suffix,
    join_gates,
    select_layer,
    split_by_layer,
    split_gates,
)

from . import machine, scratch
from .gated import gru_after, gru_after_backward, lstm, lstm_backward
from .graphs import graph
from .products import linear, product, split, transpose, weight_grad


def init_params(arrays, options):
    """Create the parameters of ``scratch`` with the gates concatenated and W_h transposed."""
    # Fused gates: the weights of all G gates form one matrix (H, G*H).
    arrays = join_gates(arrays, options)
    # `product` takes the transpose of W_h. With 512 units and one row, as in text generation,
    # `product` is 6 times faster than `h @ W_h`.
    return scratch.init_params(transpose_weights(arrays), options)


def transpose_weights(arrays):
    """Return the arrays with each layer's W_h transposed."""
    return {
        name: array.T if name.startswith("W_h") and name != "W_hq" else array
        for name, array in arrays.items()
    }


def forward(tokens, state, params, options, masks=None):
    """Process tokens (B, T) with optional masks (T, L, B, H); return logits (T*B, V) and state."""
    if masks is not None:  # a call with dropout; training uses `gradients` instead
        return run_layers(tokens, state, params, options, masks)
    # One graph: generating a token takes one call to MXNet instead of one call per operation.
    run, *_ = make_graphs(options, tuple(params))
    logits, *state = run(tokens, *state, *params.values(), options)
    return logits, tuple(state)


def run_layers(tokens, state, params, options, masks=None):
    """Compute the results of `forward`, one operation at a time."""
    (loop, _), next_state, outputs = CELLS[options.cell], (), None
    tokens = tokens.T.reshape(-1)  # (T*B,)
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        if layer == 0:
            inputs = lookup_inputs(tokens, params)  # (T*B, G*H)
        else:
            inputs = project_inputs(outputs, layer_params)
        recurrent = recurrent_params(layer_params).values()
        hiddens, *results = loop(inputs, *layer_state, *recurrent, options)  # ((T+1)*B, H)
        outputs = apply_masks(hiddens[len(state[0]) :], masks, layer)
        next_state += tuple(results[: len(layer_state)])
    # Batched output layer: the logits are not fed back, so one product computes all of them.
    return linear(outputs, params["W_hq"], params["b_q"]), next_state


def recurrent_params(params):
    """Return a layer's weights W_h (G*H, H), transposed, and, for `gru-after`, b_hh (H,)."""
    return {name: params[name] for name in ("W_h", "b_hh") if name in params}


def project_inputs(outputs, params):
    """Project a layer's outputs (T*B, H) to the next layer's gate inputs (T*B, G*H)."""
    return linear(outputs, params["W_x"], params["b"])


def apply_masks(hiddens, masks, layer):
    """Multiply hidden states (T*B, H) by the layer's dropout masks, unless `masks` is None."""
    if masks is None:
        return hiddens
    return hiddens * masks[:, layer].reshape(hiddens.shape)


def lookup_inputs(tokens, params):
    """Look up gate inputs (..., G*H) for tokens (...): rows of W_x (or W_e W_x) plus b."""
    # Embedding lookup: multiplying by one-hot vectors only selects rows of a matrix.
    W_x, b = params["W_x"], params["b"]
    if tokens.size < len(params["b_q"]):  # text generation: fewer tokens than table rows
        rows = np.take(params.get("W_e", W_x), tokens, axis=0)
        return (rows @ W_x if "W_e" in params else rows) + b
    # Bias folded into the table: add b to V table rows instead of T*B input rows.
    return np.take((params["W_e"] @ W_x if "W_e" in params else W_x) + b, tokens, axis=0)


def recurrence(inputs, h_0, W_T, options):
    """Run the RNN over inputs (T*B, H); return h_0 and all h ((T+1)*B, H), and the last h."""
    hiddens, activation = [h_0], "relu" if options.cell == "rnn-relu" else "tanh"
    for x in split(inputs, len(h_0)):
        hiddens.append(npx.activation(x + product(hiddens[-1], W_T), activation))  # (B, H)
    return np.concatenate(hiddens), hiddens[-1]


def recurrence_backward(d_hiddens, prev_hiddens, hiddens, h_0, W_T, options):
    """Compute the pre-activation gradients dz (T*B, H) and the gradient w.r.t. W_T (H, H)."""
    W_h = transpose(W_T)
    slopes = np.sign(hiddens) if options.cell == "rnn-relu" else 1 - hiddens * hiddens
    steps = zip(split(d_hiddens, len(h_0)), split(slopes, len(h_0)))
    d_h, dz = 0, []
    for d_hidden, slope in reversed(list(steps)):
        dz.append((d_hidden + d_h) * slope)  # (B, H)
        d_h = product(dz[-1], W_h)
    dz = np.concatenate(dz[::-1])  # (T*B, H)
    # Batched weight gradient: a single matrix product also sums over time.
    return dz, weight_grad(prev_hiddens, dz)


CELLS = {
    "rnn": (recurrence, recurrence_backward),
    "gru-after": (gru_after, gru_after_backward),
    "lstm": (lstm, lstm_backward),
    "rnn-relu": (recurrence, recurrence_backward),
}


@lru_cache(maxsize=4)  # a graph owns memory, so keep the graphs of only a few networks
def make_graphs(options, names):
    """Return graphs of `run_layers`, for parameters `names`, and of the cell's two loops."""

    def run(tokens, *tensors_and_options):
        *tensors, options = tensors_and_options
        state, tensors = tensors[: options.num_states], tensors[options.num_states :]
        logits, state = run_layers(tokens, state, dict(zip(names, tensors)), options)
        return logits, *state

    # Graphs: record each loop over time once and execute it as a whole, because calling a small
    # operation from Python takes longer than computing it.
    return tuple(graph(function) for function in (run, *CELLS[options.cell]))


def gradients(params, batch, state, options):
    """Backpropagate through time; return the results of ``scratch.gradients``."""
    # Hand-written backward pass: autograd would compute W_h's gradient at every time step. Use
    # autograd only for the operations before and after each loop.
    tokens = batch.X.T.reshape(-1)  # (T*B,)
    _, loop, loop_backward = make_graphs(options, tuple(params))
    next_state, outputs, caches = (), None, []
    for layer, layer_state in enumerate(split_by_layer(state, options)):
        layer_params = select_layer(params, layer)
        with autograd.record():
            if layer == 0:
                inputs = lookup_inputs(tokens, params)  # (T*B, G*H)
            else:
                inputs = project_inputs(outputs, layer_params)
        recurrent = recurrent_params(layer_params)
        states, *results = loop(inputs, *layer_state, *recurrent.values(), options)
        prev_hiddens, hiddens = states[: -len(batch.X)], states[len(batch.X) :]  # (T*B, H)
        hiddens.attach_grad()
        with autograd.record():
            outputs = apply_masks(hiddens, batch.masks, layer)
        cache = *results[len(layer_state) :], *layer_state, *recurrent.values()
        caches.append((inputs, prev_hiddens, hiddens, cache))
        next_state += tuple(results[: len(layer_state)])
    with autograd.record():
        mean_loss = scratch.loss(linear(outputs, params["W_hq"], params["b_q"]), batch.Y)
    mean_loss.backward()
    grads = {}
    for layer, (inputs, prev_hiddens, hiddens, cache) in reversed(list(enumerate(caches))):
        dz, *d_recurrent = loop_backward(hiddens.grad, prev_hiddens, hiddens, *cache, options)
        grads |= add_layer_suffix(dict(zip(recurrent, d_recurrent)), layer)
        inputs.backward(dz)
    grads = {n: grads[n] if n in grads else p.grad.copy() for n, p in params.items()}
    return mean_loss.detach(), grads, scratch.detach(next_state)


def build(arrays, options):
    """Build the optimized model from initial parameter values."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f'The `fast` variant has no cell {options.cell}.\nUse `variant="scratch"`.'
        )

    def to_arrays(params):
        return split_gates(transpose_weights(machine.to_arrays(params)), options)

    params, train_minibatch = init_params(arrays, options), scratch.train_minibatch
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
