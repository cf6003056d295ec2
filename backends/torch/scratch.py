"""A recurrent language model from scratch in PyTorch. Start with `step`.

`options` describes a network, `model` holds its parameters and functions, and `update` holds the
hyperparameters. Sizes: B (batch), T (time steps), V (vocabulary), H (hidden units). Functions
return what they compute; updates of parameters are in place.
"""

import torch
from torch.nn import functional as F

from rnn_scratch.contract import Model

from .machine import tensor, to_arrays


def init_params(arrays, options):
    """Create the parameters W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V) and b_q (V,)."""
    factory_kwargs = {"dtype": getattr(torch, options.dtype), "device": options.device}
    tensors = {name: torch.tensor(values, **factory_kwargs) for name, values in arrays.items()}
    return {name: param.requires_grad_() for name, param in tensors.items()}


def init_state(batch_size, options):
    """Return the initial state: a tuple of zero tensors (B, H)."""
    factory_kwargs = {"dtype": getattr(torch, options.dtype), "device": options.device}
    shape = batch_size, options.num_hiddens
    return tuple(torch.zeros(shape, **factory_kwargs) for _ in range(options.num_states))


def encode(tokens, params):
    """Encode tokens (...) as one-hot vectors (..., V)."""
    return F.one_hot(tokens, len(params["b_q"])).to(params["b_q"].dtype)


def rnn(x, state, params):
    """Compute the next state from x (B, V) and the current state."""
    (h,) = state
    h = torch.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
    return (h,)


CELLS = {"rnn": rnn}


def step(x, state, params, options):
    """Compute logits (B, V) and the next state from x (B, V) and the current state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


def forward(tokens, state, params, options):
    """Run the model over tokens (B, T); return time-major logits (T*B, V) and the last state."""
    outputs = []
    for x in encode(tokens.T, params):  # x: (B, V)
        logits, state = step(x, state, params, options)
        outputs.append(logits)
    return torch.cat(outputs), state


def loss(logits, targets):
    """Return the mean cross-entropy between time-major logits (T*B, V) and targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the same order as the logits
    return F.cross_entropy(logits, labels)


def detach(state):
    """Detach the state from the graph so that no gradient flows back through it."""
    return tuple(s.detach() for s in state)  # the next backward pass must not reach a freed graph


def gradients(params, batch, state, options, forward=forward):
    """Return a minibatch's loss, the gradient w.r.t. each parameter, and the detached state."""
    logits, state = forward(batch.X, state, params, options)
    mean_loss = loss(logits, batch.Y)
    grads = torch.autograd.grad(mean_loss, list(params.values()), materialize_grads=True)
    return mean_loss.detach(), dict(zip(params, grads)), detach(state)


def clip(grads, theta):
    """Clip gradients to global norm theta; return the clipped gradients and the original norm."""
    # Don't use clip_grad_norm_, which divides by norm + 1e-6.
    norm = torch.sqrt(sum((grad * grad).sum() for _, grad in sorted(grads.items())))
    scale = torch.clamp(theta / norm, max=1)
    return {name: grad * scale for name, grad in grads.items()}, norm


@torch.no_grad()  # otherwise, autograd rejects in-place updates of parameters
def sgd(params, grads, slots, update):
    """Apply one gradient-descent step; return the parameters and slots."""
    for name, param in params.items():
        param -= update.lr * grads[name]
    return params, slots


OPTIMIZERS = {"sgd": sgd}


def train_minibatch(params, slots, batch, state, update, options, gradients=gradients):
    """Train on one minibatch; return its loss, the parameters, the slots and the detached state."""
    mean_loss, grads, state = gradients(params, batch, state, options)
    grads, _ = clip(grads, update.theta)
    params, slots = OPTIMIZERS[update.optimizer](params, grads, slots, update)
    return mean_loss, params, slots, state


def train_epoch(model, minibatches, updates, carry, state=None):
    """Train on minibatches, optionally carrying state over; return the losses and last state."""
    losses = []
    for batch, update in zip(minibatches, updates):
        if state is None or not carry:
            state = init_state(len(batch.X), model.options)
        batch = batch.map(tensor, model.options.device)
        mean_loss, model.params, model.slots, state = model.train_minibatch(
            model.params, model.slots, batch, state, update, model.options, model.gradients
        )
        losses.append(mean_loss)
    return [float(mean_loss) for mean_loss in losses], state  # float() blocks, so convert last


@torch.no_grad()  # evaluation needs no gradients
def evaluate(model, minibatches):
    """Return the total loss on sequential minibatches, and the number of tokens."""
    total_loss, num_tokens, state = 0.0, 0, None
    for batch in minibatches:
        state = state or init_state(len(batch.X), model.options)
        tensors = batch.map(tensor, model.options.device)
        logits, state = model.forward(tensors.X, state, model.params, model.options)
        total_loss += float(loss(logits, tensors.Y)) * batch.X.size
        num_tokens += batch.X.size
    return total_loss, num_tokens


@torch.no_grad()  # otherwise, the graph would grow with every token
def predict(model, prefix, num_preds, choose_token):
    """Return `prefix` plus `num_preds` tokens, each chosen by `choose_token` from logits (V,)."""
    state, outputs = init_state(1, model.options), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = torch.tensor([outputs[-1:]], device=model.options.device)  # B = T = 1
        logits, state = model.forward(token, state, model.params, model.options)
        # Warm-up: take the next token from the prefix until it is exhausted.
        outputs.append(prefix[t] if t < len(prefix) else choose_token(logits.cpu().numpy()[0]))
    return outputs


def build(arrays, options):
    """Build the plain model from initial parameter values."""
    params = init_params(arrays, options)
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
