"""A recurrent language model from scratch in MXNet, differentiated by autograd.

Begin at `step`. `options` are the sizes and kind of the network, `how` the settings of training,
and `model` a network: its parameters, and the functions that compute with them (see `build`).
Sizes: B batch, T time steps, V vocabulary, L layers, H hidden units, N embedding.
"""

import numpy
from mxnet import autograd, np, npx

from rnn_scratch.contract import bind
from rnn_scratch.parameters import by_layer, of_layer

from .fused import adam_at_once, squares
from .machine import array, tensor, to_arrays
from .workers import all_reduce


def params(arrays, options):
    """Trainable: W_xg (V, H) or (N, H), W_hg (H, H), b_g (H,) of gate g; W_hq (H, V), b_q (V,)."""
    tensors = {n: tensor(a.astype(options.dtype), options.device) for n, a in arrays.items()}
    for param in tensors.values():
        param.attach_grad()
    return tensors


def state(batch_size, options):
    """The state before the first token: zeros (B, H), those of the cell in each layer."""
    zeros = numpy.zeros((batch_size, options.num_hiddens), options.dtype)
    return tuple(tensor(zeros.copy(), options.device) for _ in range(options.num_states))


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return np.take(params["W_e"], tokens, axis=0)
    b_q = params["b_q"]
    return npx.one_hot(tokens, len(b_q), dtype=b_q.dtype)


def activation(z, options):
    """Hyperbolic tangent or ReLU."""
    return npx.activation(z, options.activation)  # which has both by these names


def rnn(x, state, params, options):
    """The recurrent cell: x (B, V), or (B, N), and a state to the next state."""
    (h,) = state
    h = activation(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return (h,)


def gate(x, h, name, params):
    """A gate, between 0 and 1: x (B, V), or (B, N), and h (B, H) to (B, H)."""
    z = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return npx.sigmoid(z)


def gru(x, state, params, options):
    """The gated recurrent unit; its reset gate acts before the product."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")  # update and reset gate, (B, H)
    new = activation(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"], options)
    return (z * h + (1 - z) * new,)


def gru_after(x, state, params, options):
    """The same, but its reset gate acts after the product, as in most layers."""
    (h,) = state
    z, r = (gate(x, h, name, params) for name in "zr")
    new = activation(x @ params["W_xh"] + r * (h @ params["W_hh"]) + params["b_h"], options)
    return (z * h + (1 - z) * new,)


def lstm(x, state, params, options):
    """Long short-term memory: a second state, c, changes only as its gates allow."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gate, (B, H)
    new = activation(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"], options)
    c = f * c + i * new
    return o * activation(c, options), c


CELLS = {"rnn": rnn, "gru": gru, "gru-after": gru_after, "lstm": lstm}


def step(x, state, params, options, masks=None):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state; masks (B, L, H)."""
    after = ()
    for layer, before in enumerate(by_layer(state, options)):
        own = CELLS[options.cell](x, before, of_layer(params, layer), options)
        x = own[0] if masks is None else own[0] * masks[:, layer]  # what goes upwards
        after += own
    return x @ params["W_hq"] + params["b_q"], after


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
    return -npx.pick(npx.log_softmax(logits), labels).mean()


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return tuple(s.detach() for s in state)  # or the next backward pass meets a layer's freed graph


def gradients(model, batch, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, and the detached state."""
    if model.backward:  # `fast` has a backward pass of its own
        return model.backward(batch, state)
    with autograd.record():  # only what is in such a block has a history
        logits, state = model.forward(batch.X, state, masks=batch.masks)
        mean = loss(logits, batch.Y)
    mean.backward()  # writes into param.grad, and so will the next one: hence the copies
    return mean.detach(), {n: p.grad.copy() for n, p in model.params.items()}, detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum(squares(grad) for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / np.maximum(norm, theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


def rounded(values, grid):
    """The nearest multiples of the grid, a half to the even one; without a grid, the values."""
    # Not rint, which rounds halves down.
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


@adam_at_once  # in `fast`, by an operation of MXNet
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
        token = tensor(numpy.array([outputs[-1:]]), model.options.device)  # (B, T) = (1, 1)
        logits, state = model.forward(token, state)
        # Warm-up: as long as the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def build(arrays, options):
    """The plain model, with parameters that start at these arrays."""
    return bind(params(arrays, options), options, forward, state, to_arrays)
