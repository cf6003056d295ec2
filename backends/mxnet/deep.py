"""Layers, an embedding, dropout, optimizers with a state, evaluation: L layers, N embedding."""

from mxnet import np

from rnn_scratch.parameters import by_layer, of_layer, tokens_and_masks

from .machine import numbers, tensor
from .scratch import CELLS, OPTIMIZERS, encode, loss, rounded


def deep_step(inputs, state, params, options):
    """One time step of all layers: x (B, V) and masks (L, B, H) or None to logits and new state."""
    (x, masks), after = inputs, ()
    x = x @ params["W_e"] if options.embedding else x  # (B, N): of each one-hot vector, a row
    for layer, before in enumerate(by_layer(state, options)):
        hidden = CELLS[options.cell](x, before, of_layer(params, layer))
        x = hidden[0] if masks is None else hidden[0] * masks[layer]  # what goes upwards
        after += hidden
    return x @ params["W_hq"] + params["b_q"], after


def deep_forward(inputs, state, params, options):
    """All time steps: tokens (B, T), or these and masks (T, L, B, H), to logits (T*B, V)."""
    (tokens, masks), outputs = tokens_and_masks(inputs), []
    for t, x in enumerate(encode(tokens.T, params)):  # T times (B, V)
        logits, state = deep_step((x, None if masks is None else masks[t]), state, params, options)
        outputs.append(logits)
    return np.concatenate(outputs), state


def momentum(model, grads, how, rates):
    """Polyak's heavy ball: m is a sum of all gradients, the older the less of each."""
    how, m_of = numbers(how, model.options), model.slots["m"]
    for name, param in model.params.items():
        m = m_of[name] = how.beta1 * m_of[name] + rounded(grads[name], how.grad_grid)
        param -= rounded(rates.lr * (m + how.weight_decay * param), how.grid)


def adam(model, grads, how, rates):
    """Adam, Algorithm 1 of Kingma and Ba (2015): running means m of g and v of g squared."""
    how, m_of, v_of = numbers(how, model.options), model.slots["m"], model.slots["v"]
    for name, param in model.params.items():
        grad = rounded(grads[name], how.grad_grid)
        m = m_of[name] = how.beta1 * m_of[name] + (1 - how.beta1) * grad
        v = v_of[name] = how.beta2 * v_of[name] + (1 - how.beta2) * (grad * grad)
        direction = (m / rates.c_m) / (np.sqrt(v / rates.c_v) + how.epsilon)
        param -= rounded(rates.lr * (direction + how.weight_decay * param), how.grid)


OPTIMIZERS |= {"momentum": momentum, "adam": adam}


def evaluate(model, minibatches):
    """Summed loss and number of tokens of sequential minibatches, without training."""
    summed, num_tokens, state = 0.0, 0, None
    for batch in minibatches:
        state = state or model.state(len(batch.X))
        tensors = batch.map(tensor, model.options.device)
        logits, state = model.forward(tensors.X, state)
        summed += float(loss(logits, tensors.Y)) * batch.X.size
        num_tokens += batch.X.size
    return summed, num_tokens
