"""The model of ``scratch``, optimized by hand.

It computes the same numbers, up to rounding. Each optimization has a name, under which a comment
here or in the modules beside it gives its reason and what it gains: the time of a training
minibatch without it relative to the time with it (rnn, B 32, T 35, V 28, float32, one thread,
unless it says otherwise).
"""

from mxnet import autograd, np, npx

from rnn_scratch.contract import RNNScratchError, bind
from rnn_scratch.parameters import (
    by_layer,
    join_gates,
    of_layer,
    split_gates,
    to_layer,
    tokens_and_masks,
)

from . import deep, machine, scratch
from .fused import adam_at_once
from .gated import gru, gru_after, gru_after_back, gru_back, lstm, lstm_back
from .graphs import graph
from .products import affine, outer, product, split, transpose


def params(arrays, options):
    """The parameters of ``scratch``, all gates side by side, with the transpose of W_h."""
    # Gates in one product: G gates are one matrix (H, G*H), which a layer multiplies with at once.
    # Gain (lstm): 1.28 with 64 hidden units, 1.03 with 512.
    joined = join_gates(arrays, options)
    # W_h is kept transposed, as a layer keeps it, because `product` takes it so. With 512 units and
    # one row, in a step of generating text, that takes about a sixth of the time of `h @ W_h`.
    return scratch.params(transposed(joined), options)


def transposed(joined):
    """The same with the W_h of each layer transposed."""
    return {
        n: each.T if n.startswith("W_h") and n != "W_hq" else each for n, each in joined.items()
    }


def forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    tokens, masks = tokens_and_masks(inputs)
    (loop, _), after, outputs = CELLS[options.cell], (), None
    tokens = tokens.T.reshape(-1)  # (T*B,)
    for layer, before in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        x = rows(tokens, params) if layer == 0 else upwards(outputs, own)  # (T*B, G*H)
        hiddens, *results = loop(x, *before, own["W_h"], options)  # ((T+1)*B, H)
        outputs = dropped(hiddens[len(state[0]) :], masks, layer)
        after += tuple(results[: len(before)])
    # One output layer: it does not feed back, so one product can serve all time steps.
    # Gain: 2.33 with 64 hidden units, 1.15 with 512.
    return affine(outputs, params["W_hq"], params["b_q"]), after


def upwards(outputs, params):
    """What goes into a layer from the one below: (T*B, H) to (T*B, G*H), in one product."""
    return affine(outputs, params["W_x"], params["b"])


def dropped(hiddens, masks, layer):
    """What a layer passes upwards: its hidden states (T*B, H), or these times the masks."""
    if masks is None:
        return hiddens
    return hiddens * masks[:, layer].reshape(hiddens.shape)


def rows(tokens, params):
    """Rows of W_x, or of W_e W_x, for the tokens, and b added: tokens (...) to (..., G*H)."""
    # Rows instead of products: a one-hot vector times a matrix is one of the matrix's rows.
    # Gain with 5,000 characters: 2.11 with 64 hidden units, 1.79 with 512.
    W_x, b = params["W_x"], params["b"]
    if tokens.size < len(params["b_q"]):  # fewer tokens than rows: a step of generating text
        embedded = np.take(params["W_e"], tokens, axis=0) @ W_x if "W_e" in params else None
        return (np.take(W_x, tokens, axis=0) if embedded is None else embedded) + b
    # Bias in the table: it is added to V rows instead of T*B.
    # Gain: 1.35 with 64 hidden units, 1.28 with 512.
    return np.take((params["W_e"] @ W_x if "W_e" in params else W_x) + b, tokens, axis=0)


# Graphs: each loop over time is recorded once and then executed as a whole. Called one by one from
# Python, small operations take less time than their calls.
# Gain: 3.53 with 64 hidden units, 1.02 with 512.


@graph
def recurrence(inputs, h_0, W_T, options):
    """The loop over time of `rnn`: inputs (T*B, H) to hidden states ((T+1)*B, H), and the last.

    The first hidden state is h_0, the one before the first token.
    """
    hiddens, activation = [h_0], "relu" if options.cell == "rnn-relu" else "tanh"
    for x in split(inputs, len(h_0)):
        hiddens.append(npx.activation(x + product(hiddens[-1], W_T), activation))  # (B, H)
    return np.concatenate(hiddens), hiddens[-1]


@graph
def recurrence_back(d_hiddens, before, after, h_0, W_T, options):
    """Its backward pass: the gradients before the activation, dz (T*B, H), and of W_T (H, H)."""
    W_h = transpose(W_T)
    slope = np.sign(after) if options.cell == "rnn-relu" else 1 - after * after
    ds, slopes = split(d_hiddens, len(h_0)), split(slope, len(h_0))
    dz = [ds[-1] * slopes[-1]]
    for d, s in zip(reversed(ds[:-1]), reversed(slopes[:-1])):
        dz.append((d + product(dz[-1], W_h)) * s)  # (B, H)
    dz = np.concatenate(dz[::-1])  # (T*B, H)
    # One product per gradient: the sum over time is part of a matrix product over T*B rows.
    # Gain: 1.09 with 64 hidden units, 1.23 with 512.
    return dz, outer(before, dz)


CELLS = {
    "rnn": (recurrence, recurrence_back),
    "gru": (gru, gru_back),
    "gru-after": (gru_after, gru_after_back),
    "lstm": (lstm, lstm_back),
    "rnn-relu": (recurrence, recurrence_back),
}


def backward(batch, state, params, options):
    """Backpropagation through time: what `gradients` returns."""
    # Hand-written backward pass: autograd would compute a product for W_h at every time step. It
    # differentiates only what comes before the loop and what comes after it.
    # Gain: 1.11 with 64 hidden units, 1.18 with 512.
    tokens = batch.X.T.reshape(-1)  # (T*B,)
    (loop, loop_back), grads, last, outputs = CELLS[options.cell], {}, (), None
    layers = []  # what each one's backward pass needs
    for layer, own_state in enumerate(by_layer(state, options)):
        own = of_layer(params, layer)
        with autograd.record():
            inputs = rows(tokens, params) if layer == 0 else upwards(outputs, own)  # (T*B, G*H)
        hiddens, *results = loop(inputs, *own_state, own["W_h"], options)  # ((T+1)*B, H)
        before, after = hiddens[: -len(batch.X)], hiddens[len(batch.X) :]  # (T*B, H)
        after.attach_grad()
        with autograd.record():
            outputs = dropped(after, batch.masks, layer)
        saved = *results[len(own_state) :], *own_state, own["W_h"]
        layers.append((inputs, before, after, saved))
        last += tuple(results[: len(own_state)])
    with autograd.record():
        mean = scratch.loss(affine(outputs, params["W_hq"], params["b_q"]), batch.Y)
    mean.backward()
    for layer, (inputs, before, after, saved) in reversed(list(enumerate(layers))):
        dz, d_W_h = loop_back(after.grad, before, after, *saved, options)
        grads |= to_layer({"W_h": d_W_h}, layer)
        inputs.backward(dz)
    grads = {n: grads[n] if n in grads else p.grad.copy() for n, p in params.items()}
    return mean.detach(), grads, scratch.detach(last)


def build(arrays, options):
    """The optimized model, with parameters that start at these arrays."""
    if options.cell not in CELLS:
        raise RNNScratchError(
            f"The optimized model has no cell {options.cell!r}.\nUse --model scratch."
        )

    tensors = params(arrays, options)
    names = list(tensors)

    def to_arrays(params):
        return split_gates(transposed(machine.to_arrays(params)), options)

    # One graph: a step of generating text is one call of MXNet instead of one for each operation.
    # Gain in generation: 1.33 with 64 hidden units, 1.20 with 512.
    @graph
    def flat(tokens, *others):
        *others, options = others
        state, tensors = others[: options.num_states], others[options.num_states :]
        logits, state = forward(tokens, state, dict(zip(names, tensors)), options)
        return logits, *state

    def compiled(inputs, state, params, options):
        if isinstance(inputs, tuple):  # with masks: in training only
            return forward(inputs, state, params, options)
        logits, *state = flat(inputs, *state, *(params[name] for name in names), options)
        return logits, tuple(state)

    return bind(tensors, options, compiled, scratch.state, to_arrays, backward)


scratch.OPTIMIZERS["adam"] = adam_at_once(deep.adam)
