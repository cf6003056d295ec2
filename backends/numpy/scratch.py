"""A recurrent language model from scratch in NumPy, differentiated by hand.

Begin at `step`. `options` are the sizes and kind of the network, `how` the settings of training,
and `model` a network: its parameters, and the functions that compute with them (see `build`).
Sizes: B batch, T time steps, V vocabulary, L layers, H hidden units, N embedding.
"""

import numpy as np

from rnn_scratch.contract import bind
from rnn_scratch.parameters import by_layer, of_layer, to_layer

from .machine import array, tensor, to_arrays
from .workers import all_reduce


def params(arrays, options):
    """Trainable: W_xg (V, H) or (N, H), W_hg (H, H), b_g (H,) of gate g; W_hq (H, V), b_q (V,)."""
    return {name: values.astype(options.dtype) for name, values in arrays.items()}


def state(batch_size, options):
    """The state before the first token: zeros (B, H), those of the cell in each layer."""
    zeros = np.zeros((batch_size, options.num_hiddens), options.dtype)
    return tuple(tensor(zeros.copy(), options.device) for _ in range(options.num_states))


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return params["W_e"][tokens]
    b_q = params["b_q"]
    return np.eye(len(b_q), dtype=b_q.dtype)[tokens]


def activation(z, options):
    """Hyperbolic tangent or ReLU."""
    return np.tanh(z) if options.activation == "tanh" else np.maximum(z, 0)


def slope(h, options):
    """The derivative of the activation, from its value h."""
    return 1 - h * h if options.activation == "tanh" else (h > 0).astype(h.dtype)


def linear_back(dz, x, h, name, params):
    """Backward pass of z = x W_xg + h W_hg + b_g for gate g: gradients of x, h and these."""
    grads = {f"W_x{name}": x.T @ dz, f"W_h{name}": h.T @ dz, f"b_{name}": dz.sum(0)}
    return dz @ params[f"W_x{name}"].T, dz @ params[f"W_h{name}"].T, grads


def rnn(x, state, params, options):
    """The recurrent cell: x (B, V), or (B, N), and a state to the next state."""
    (h,) = state
    h = activation(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return (h,)


def rnn_back(d_after, after, x, before, params, options):
    """Its backward pass: gradients of x, of the state before, and of the cell's parameters."""
    (d_h,), (h,), (h_before,) = d_after, after, before
    d_x, d_h, grads = linear_back(d_h * slope(h, options), x, h_before, "h", params)
    return d_x, (d_h,), grads


def gate(x, h, name, params):
    """A gate, between 0 and 1: x (B, V), or (B, N), and h (B, H) to (B, H)."""
    z = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return 1 / (1 + np.exp(-z))


def gru(x, state, params, options):
    """The gated recurrent unit; its reset gate acts before the product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gate, (B, H)
    new = activation(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"], options)
    return (z * h + (1 - z) * new,)


def gru_back(d_after, after, x, before, params, options):
    """Its backward pass, with the gates computed once more."""
    (d_h,), (h,) = d_after, before
    z, r = (gate(x, h, name, params) for name in "zr")
    new = activation(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"], options)
    d_new, d_z = d_h * (1 - z) * slope(new, options), d_h * (h - new) * z * (1 - z)
    d_x_h, d_rh, grads_h = linear_back(d_new, x, r * h, "h", params)
    d_x_z, d_h_z, grads_z = linear_back(d_z, x, h, "z", params)
    d_x_r, d_h_r, grads_r = linear_back(d_rh * h * r * (1 - r), x, h, "r", params)
    d_h = d_h * z + d_rh * r + d_h_z + d_h_r
    return d_x_h + d_x_z + d_x_r, (d_h,), grads_h | grads_z | grads_r


def gru_after(x, state, params, options):
    """The same, but its reset gate acts after the product, as in most layers."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    new = activation(x @ params["W_xh"] + r * (h @ params["W_hh"]) + params["b_h"], options)
    return (z * h + (1 - z) * new,)


def gru_after_back(d_after, after, x, before, params, options):
    """Its backward pass, likewise."""
    (d_h,), (h,) = d_after, before
    z, r = (gate(x, h, name, params) for name in "zr")
    product = h @ params["W_hh"]
    new = activation(x @ params["W_xh"] + r * product + params["b_h"], options)
    d_new, d_z = d_h * (1 - z) * slope(new, options), d_h * (h - new) * z * (1 - z)
    d_x_h, _, grads_h = linear_back(d_new, x, h, "h", params)
    d_x_z, d_h_z, grads_z = linear_back(d_z, x, h, "z", params)
    d_x_r, d_h_r, grads_r = linear_back(d_new * product * r * (1 - r), x, h, "r", params)
    grads_h["W_hh"] = h.T @ (d_new * r)
    d_h = d_h * z + (d_new * r) @ params["W_hh"].T + d_h_z + d_h_r
    return d_x_h + d_x_z + d_x_r, (d_h,), grads_h | grads_z | grads_r


def lstm(x, state, params, options):
    """Long short-term memory: a second state, c, changes only as its gates allow."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gate, (B, H)
    new = activation(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"], options)
    c = f * c + i * new
    return o * activation(c, options), c


def lstm_back(d_after, after, x, before, params, options):
    """Its backward pass, likewise."""
    (d_h, d_c), (_, c_after), (h, c) = d_after, after, before
    i, f, o = (gate(x, h, name, params) for name in "ifo")
    new = activation(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"], options)
    out = activation(c_after, options)
    d_c = d_c + d_h * o * slope(out, options)
    d_i, d_f, d_o = d_c * new * i * (1 - i), d_c * c * f * (1 - f), d_h * out * o * (1 - o)
    d_gates = {"i": d_i, "f": d_f, "o": d_o, "c": d_c * i * slope(new, options)}
    backs = [linear_back(dz, x, h, name, params) for name, dz in d_gates.items()]
    grads = {name: grad for _, _, each in backs for name, grad in each.items()}
    return sum(d_x for d_x, _, _ in backs), (sum(d_h for _, d_h, _ in backs), d_c * f), grads


CELLS = {"rnn": rnn, "gru": gru, "gru-after": gru_after, "lstm": lstm}
CELLS_BACK = {"rnn": rnn_back, "gru": gru_back, "gru-after": gru_after_back, "lstm": lstm_back}


def step(x, state, params, options, masks=None):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state; masks (B, L, H)."""
    after = ()
    for layer, before in enumerate(by_layer(state, options)):
        own = CELLS[options.cell](x, before, of_layer(params, layer), options)
        x = own[0] if masks is None else own[0] * masks[:, layer]  # what goes upwards
        after += own
    return x @ params["W_hq"] + params["b_q"], after


def step_back(d_logits, d_after, after, x, before, params, options, masks=None):
    """Its backward pass, output layer first: gradients of x, of the state, and of parameters."""
    layers = [by_layer(each, options) for each in (d_after, after, before)]
    keep = [1] * options.num_layers if masks is None else masks.swapaxes(0, 1)  # of each layer
    inputs = [x, *(own[0] * keep[layer] for layer, own in enumerate(layers[1]))]
    grads = {"W_hq": inputs[-1].T @ d_logits, "b_q": d_logits.sum(0)}
    d_x, d_before = d_logits @ params["W_hq"].T, ()
    for layer in reversed(range(options.num_layers)):
        d_own, own, own_before = (each[layer] for each in layers)
        d_own = (d_own[0] + d_x * keep[layer], *d_own[1:])  # from above and from the next time step
        arguments = d_own, own, inputs[layer], own_before, of_layer(params, layer), options
        d_x, d_own, cell_grads = CELLS_BACK[options.cell](*arguments)
        grads |= to_layer(cell_grads, layer)
        d_before = (*d_own, *d_before)
    return d_x, d_before, grads


def forward(tokens, state, params, options, masks=None):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    outputs = []
    for t, x in enumerate(encode(tokens.T, params)):  # T times (B, V)
        mask = None if masks is None else masks[:, t]  # (B, L, H)
        logits, state = step(x, state, params, options, mask)
        outputs.append(logits)
    return np.concatenate(outputs), state


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def loss_back(logits, targets):
    """Its backward pass: the gradient of the logits, softmax minus one-hot over T*B."""
    labels = targets.T.reshape(-1)  # (T*B,)
    d_logits = np.exp(log_softmax(logits))  # (T*B, V)
    d_logits[np.arange(len(labels)), labels] -= 1
    return d_logits / len(labels)


def log_softmax(logits):
    """Logarithms of the probabilities: (T*B, V) to (T*B, V)."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return state  # an array has no history


def gradients(model, batch, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, and the detached state."""
    return model.backward(batch, state)  # NumPy does not differentiate


def backward(batch, state, params, options):
    """Backpropagation through time, for any cell: what `gradients` returns."""
    inputs, states, outputs = encode(batch.X.T, params), [state], []  # inputs (T, B, V)
    masks = [None] * len(inputs) if batch.masks is None else batch.masks.swapaxes(0, 1)
    for x, mask in zip(inputs, masks):
        logits, state = step(x, state, params, options, mask)
        outputs.append(logits)
        states.append(state)
    logits = np.concatenate(outputs)  # (T*B, V)
    d_outputs = np.split(loss_back(logits, batch.Y), len(inputs))  # T times (B, V)
    grads = {name: np.zeros_like(param) for name, param in params.items()}
    d_state = tuple(np.zeros_like(s) for s in state)
    for t in reversed(range(len(inputs))):
        d_x, d_state, step_grads = step_back(
            d_outputs[t], d_state, states[t + 1], inputs[t], states[t], params, options, masks[t]
        )
        for name, grad in step_grads.items():
            grads[name] += grad
        if "W_e" in params:
            np.add.at(grads["W_e"], batch.X[:, t], d_x)
    return loss(logits, batch.Y), grads, detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / np.maximum(norm, theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


def rounded(values, grid):
    """The nearest multiples of the grid, a half to the even one; without a grid, the values."""
    return values if grid is None else np.round(values / grid) * grid


def sgd(grad, slots, how, rates):
    """Plain gradient descent: the direction is the gradient, and there is nothing to remember."""
    return grad, {}


def momentum(grad, slots, how, rates):
    """Polyak's heavy ball: m is a sum of all gradients, the older the less of each."""
    m = how.beta1 * slots["m"] + grad
    return m, {"m": m}


def adam(grad, slots, how, rates):
    """Adam, Algorithm 1 of Kingma and Ba (2015): running means m of g and v of g squared."""
    m = how.beta1 * slots["m"] + (1 - how.beta1) * grad
    v = how.beta2 * slots["v"] + (1 - how.beta2) * (grad * grad)
    return (m / rates.m) / (np.sqrt(v / rates.v) + how.epsilon), {"m": m, "v": v}


OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "adam": adam}


def update(model, grads, how, rates=None):
    """One step of the optimizer in place; in exact mode, gradient and step rounded to a grid."""
    lr = how.lr if rates is None else rates.lr
    for name, param in model.params.items():
        grad = rounded(grads[name], how.grad_grid)
        slots = {slot: tensors[name] for slot, tensors in model.slots.items()}
        direction, slots = OPTIMIZERS[how.optimizer](grad, slots, how, rates)
        if how.weight_decay:
            direction = direction + how.weight_decay * param
        param -= rounded(lr * direction, how.grid)
        for slot, value in slots.items():
            model.slots[slot][name] = value


def train_minibatch(model, batch, state, how):
    """One update from X, Y (B, T): its loss, and the detached state, rounded in exact mode."""
    mean, grads, state = gradients(model, batch, state)
    if how.workers > 1:
        mean, grads = all_reduce(mean, grads, how.workers)
    grads, _ = clip(grads, how.theta)
    update(model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)


def train_epoch(model, minibatches, how, carry, state=None):
    """One pass over the minibatches, from a state or zeros: each loss, and the last state."""
    losses = []
    for batch in minibatches:
        if state is None or not carry:
            state = model.state(len(batch.X))
        batch = batch.map(tensor, model.options.device)
        mean, state = train_minibatch(model, batch, state, how)
        losses.append(mean)
    return [float(mean) for mean in losses], state  # read at the end: a GPU need not wait


def evaluate(model, minibatches, carry):
    """Summed loss and number of tokens, without training."""
    summed, num_tokens, state = 0.0, 0, None
    for batch in minibatches:
        if state is None or not carry:
            state = model.state(len(batch.X))
        tensors = batch.map(tensor, model.options.device)
        logits, state = model.forward(tensors.X, state)
        summed += float(loss(logits, tensors.Y)) * batch.X.size
        num_tokens += batch.X.size
    return summed, num_tokens


def predict(model, prefix, num_preds, choose):
    """The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,)."""
    state, outputs = model.state(1), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tensor(np.array([outputs[-1:]]), model.options.device)  # (B, T) = (1, 1)
        logits, state = model.forward(token, state)
        # Warm-up: as long as the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def build(arrays, options):
    """The plain model, with parameters that start at these arrays."""
    return bind(params(arrays, options), options, forward, state, to_arrays, backward)
