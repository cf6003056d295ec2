"""A recurrent language model from scratch in MXNet, differentiated by autograd.

Sizes: B batch size, T number of time steps, V vocabulary size, H number of hidden units,
N numbers in a learnable embedding.
"""

import numpy
from mxnet import autograd, np, npx

from rnn_scratch.contract import Model

from .machine import array, compiled, context, tensor


def params(arrays, options):
    """Trainable: W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V), b_q (V,); or W_e, W_xh (N, H)."""
    where = {"dtype": options.dtype, "ctx": context(options.device)}
    tensors = {name: np.array(values, **where) for name, values in arrays.items()}
    for param in tensors.values():
        param.attach_grad()
    return tensors


def state(batch_size, num_hiddens, options):
    """The hidden state before the first token: a tuple with zeros (B, H)."""
    where = {"dtype": options.dtype, "ctx": context(options.device)}
    return (np.zeros((batch_size, num_hiddens), **where),)


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


@compiled  # where gradients are recorded: one graph for each shape of tokens
def forward(tokens, state, params, options):
    """All time steps: tokens (B, T) to logits (T*B, V), time-major, and the last state."""
    (H,) = state
    # Rows are taken step by step: were they all taken before the loop, the way back would write a
    # gradient of the size of all of them for each step.
    inputs = _table(params) + params["b_h"]  # (V, H)
    # fully_connected multiplies with oneDNN, faster than @, by weights that it wants transposed.
    # Transposing copies them, slowly, and so comes before the loop.
    W_hh, W_hq = params["W_hh"].T, params["W_hq"].T  # (H, H), (V, H)
    V, num_hiddens = W_hq.shape
    hiddens = []
    for x in tokens.T:
        z = npx.fully_connected(H, W_hh, num_hidden=num_hiddens, no_bias=True)  # (B, H)
        H = _activation(np.take(inputs, x, axis=0) + z, options)  # (B, H)
        hiddens.append(H)
    outputs = np.concatenate(hiddens)  # (T*B, H)
    return npx.fully_connected(outputs, W_hq, params["b_q"], num_hidden=V), (H,)


def loss(logits, targets):
    """Mean cross-entropy: logits (T*B, V), time-major, against targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the logits' order
    return -npx.pick(npx.log_softmax(logits), labels).mean()


def detach(state):
    """The state without its history, so that no gradient flows back through it."""
    # detach() returns a new array and leaves s as it is. Without it the next minibatch would not
    # notice: backward() frees the graph, and what is freed passes no gradient on.
    return tuple(s.detach() for s in state)


def gradients(model, X, Y, state):
    """Loss of a minibatch X, Y (B, T), the gradient of each parameter, the state carried on."""
    with autograd.record():  # MXNet records here and nowhere else: nothing has to be switched off
        logits, state = model.forward(X, state, model.params, model.options)
        mean = loss(logits, Y)
    mean.backward()
    # Copied: the next backward() writes into the same param.grad.
    grads = {name: param.grad.copy() for name, param in model.params.items()}
    return mean.detach(), grads, detach(state)


def clip(grads, theta):
    """Gradients scaled by min(1, theta/norm), and that norm, over all parameters together."""
    norm = np.sqrt(sum(_sum(grad * grad) for grad in grads.values()))
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
        losses.append(mean * X.size)
        num_tokens += X.size
    return sum(map(float, losses)), num_tokens, state


def evaluate(model, minibatches, carry):
    """Summed loss and number of tokens, without training."""
    losses, num_tokens, state = [], 0, None
    for X, Y in minibatches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        tokens, targets = tensor(X, model.options.device), tensor(Y, model.options.device)
        logits, state = model.forward(tokens, state, model.params, model.options)
        losses.append(loss(logits, targets) * X.size)
        num_tokens += X.size
    return sum(map(float, losses)), num_tokens


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
    return Model(tensors, num_hiddens, state, forward, _to_arrays, options)


def _to_arrays(params):
    return {name: array(param) for name, param in params.items()}  # asnumpy() copies


def _table(params):
    # What each token adds before the activation, (V, H): one_hot @ W_xh, or one_hot @ W_e @ W_xh.
    return params["W_e"] @ params["W_xh"] if "W_e" in params else params["W_xh"]


def _sum(x):
    # A product with ones, and then the sum of that: x.sum() takes ten times as long.
    ones = np.ones((1, x.shape[-1]), dtype=x.dtype, ctx=x.ctx)
    return npx.fully_connected(np.atleast_2d(x), ones, num_hidden=1, no_bias=True).sum()


def _activation(z, options):
    # "tanh" or "relu". np.tanh gives the same and takes six times as long in float32.
    return npx.activation(z, options.activation)
