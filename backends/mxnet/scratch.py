"""A recurrent language model from scratch in MXNet, differentiated by autograd.

Sizes: B batch size, T number of time steps, V vocabulary size, H number of hidden units,
N numbers in a learnable embedding.
"""

import numpy
from mxnet import autograd, np, npx

from rnn_scratch.contract import Model

from .machine import affine, array, attach_grad, compiled, outer, product, split, tensor, total


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    tensors = {n: tensor(a.astype(options.dtype), options.device) for n, a in arrays.items()}
    for param in tensors.values():
        param.attach_grad()
    return tensors


def state(batch_size, num_hiddens, options):
    """The hidden state before the first token: a tuple with zeros (B, H)."""
    return (tensor(numpy.zeros((batch_size, num_hiddens), options.dtype), options.device),)


def encode(tokens, params):
    """One-hot vectors, tokens (...) to (..., V); or rows of a learnable embedding, (..., N)."""
    if "W_e" in params:
        return np.take(params["W_e"], tokens, axis=0)
    W_xh = params["W_xh"]
    return npx.one_hot(tokens, len(W_xh), dtype=W_xh.dtype)


def step(x, state, params, options):
    """One time step: x (B, V), or (B, N), to logits (B, V), and the new state."""
    (H,) = state
    H = _activation(x @ params["W_xh"] + H @ params["W_hh"] + params["b_h"], options)  # (B, H)
    return H @ params["W_hq"] + params["b_q"], (H,)


def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    # The bias is added to V rows instead of T*B.
    inputs = np.take(_table(params) + params["b_h"], tokens.T.reshape(-1), axis=0)  # (T*B, H)
    hiddens, H = _hiddens(inputs, params["W_hh"], *state, options)  # ((T+1)*B, H), (B, H)
    return affine(hiddens[len(H) :], params["W_hq"], params["b_q"]), (H,)


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return -npx.pick(npx.log_softmax(logits), labels).mean()


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    return tuple(s.detach() for s in state)  # a layer's state: backward() has freed its graph


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, the state carried on."""
    if model.backward:
        return model.backward(X, Y, state, model.params, model.options)
    with autograd.record():  # only what is in such a block: nothing has to be switched off
        logits, state = model.forward(X, state, model.params, model.options)
        mean = loss(logits, Y)
    mean.backward()  # into param.grad; so will the next one, and what is handed on is a copy
    return mean.detach(), {n: p.grad.copy() for n, p in model.params.items()}, detach(state)


def backward(X, Y, state, params, options):
    """Backpropagation through time: what `gradients` gives, for the model of this file."""
    # Through the recurrence by hand: autograd would multiply for W_hh at every time step, not once.
    with autograd.record():
        inputs = np.take(_table(params) + params["b_h"], X.T.reshape(-1), axis=0)  # (T*B, H)
    hiddens, H = _hiddens(inputs, params["W_hh"], *state, options)  # ((T+1)*B, H), (B, H)
    before, after = hiddens[: -len(H)], hiddens[len(H) :]  # (T*B, H)
    attach_grad(after)
    with autograd.record():
        mean = loss(affine(after, params["W_hq"], params["b_q"]), Y)
    mean.backward()
    dz, d_W_hh = _hiddens_back(after.grad, before, after, params["W_hh"], H, options)
    inputs.backward(dz)
    grads = {n: d_W_hh if n == "W_hh" else p.grad.copy() for n, p in params.items()}
    return mean.detach(), grads, detach((H,))


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum(total(grad * grad) for grad in grads.values()))
    if theta is None:
        return grads, norm
    scale = theta / np.maximum(norm, theta)  # the same as min(1, theta/norm), and never 1/0
    return {name: grad * scale for name, grad in grads.items()}, norm


def update(params, grads, lr, grid):
    """Plain gradient descent in place; in exact mode each step is rounded to the grid."""
    for name, param in params.items():
        change = lr * grads[name]
        if grid is not None:
            change = np.round(change / grid) * grid  # not rint, which rounds halves down here
        param -= change


def train_minibatch(model, X, Y, state, how):
    """One update of the parameters from X, Y (B, T): loss, and the state carried on."""
    mean, grads, state = gradients(model, X, Y, state)
    grads, _ = clip(grads, how.theta)
    update(model.params, grads, how.lr, how.grid)
    return mean, state


def train_epoch(model, minibatches, how, carry):
    """One pass over the minibatches: summed loss, number of tokens, last state."""
    losses, num_tokens, state = [], 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        tokens, targets = tensor(X, model.options.device), tensor(Y, model.options.device)
        mean, state = train_minibatch(model, tokens, targets, state, how)
        losses.append((mean, X.size))
        num_tokens += X.size
    return sum(float(mean) * size for mean, size in losses), num_tokens, state


def evaluate(model, minibatches, carry):
    """Summed loss and number of tokens, without training."""
    losses, num_tokens, state = [], 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        tokens, targets = tensor(X, model.options.device), tensor(Y, model.options.device)
        logits, state = model.forward(tokens, state, model.params, model.options)
        losses.append((loss(logits, targets), X.size))
        num_tokens += X.size
    return sum(float(mean) * size for mean, size in losses), num_tokens


def predict(model, prefix, num_preds, choose):
    """The prefix and num_preds tokens after it, each picked by `choose` from the logits (V,)."""
    state = model.state(1, model.num_hiddens, model.options)
    outputs = [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tensor(numpy.array([outputs[-1:]]), model.options.device)  # (B, T) = (1, 1)
        logits, state = model.forward(token, state, model.params, model.options)
        # Warm-up: while the prefix lasts, the next token is the prefix's own.
        outputs.append(prefix[t] if t < len(prefix) else choose(array(logits)[0]))
    return outputs


def scratch(arrays, options):
    """The model of this file, with parameters that start at `arrays`."""
    tensors, num_hiddens = params(arrays, options), len(arrays["W_hh"])
    return Model(tensors, num_hiddens, state, forward, _to_arrays, options, backward)


def _to_arrays(params):
    return {name: array(param) for name, param in params.items()}  # asnumpy() copies


def _table(params):
    # What each token adds before the activation, (V, H): one_hot @ W_xh, or one_hot @ W_e @ W_xh.
    return params["W_e"] @ params["W_xh"] if "W_e" in params else params["W_xh"]


@compiled
def _hiddens(inputs, W_hh, H, options):
    # Inputs (T*B, H), state (B, H) to that and all hidden states after it ((T+1)*B, H); the last.
    if len(inputs) == len(H):  # when text is generated, transposing would cost more than it gains
        hiddens = [H, _activation(inputs + H @ W_hh, options)]
    else:
        hiddens, W_T = [H], W_hh.T
        for x in split(inputs, len(H)):
            hiddens.append(_activation(x + product(hiddens[-1], W_T), options))  # (B, H)
    return np.concatenate(hiddens), hiddens[-1]


@compiled
def _hiddens_back(d_hiddens, before, after, W_hh, H, options):
    # dz, the gradient before the activation, comes from the loss and from the next step.
    ds, slopes = split(d_hiddens, len(H)), split(_slope(after, options), len(H))
    dz = [ds[-1] * slopes[-1]]
    for d, s in zip(reversed(ds[:-1]), reversed(slopes[:-1])):
        dz.append((d + product(dz[-1], W_hh)) * s)  # (B, H)
    dz = np.concatenate(dz[::-1])  # (T*B, H)
    return dz, outer(before, dz)  # all time steps in one product


def _activation(z, options):
    # "tanh" or "relu". np.tanh gives the same and takes six times as long in float32.
    return npx.activation(z, options.activation)


def _slope(h, options):
    # The derivative of the activation, from its value; of relu's, which is never below 0, its sign.
    return 1 - h * h if options.activation == "tanh" else np.sign(h)
