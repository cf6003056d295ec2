"""A backend from a framework's primitives: derive every function of the contract.

The *primitives* are a module, or another object with attributes, that defines the 15 functions at
the top of `Kit`. `complete` returns one object that serves as all modules of a backend. What the
primitives define under a name of the contract, such as `clip` or `lstm`, takes precedence. Tensors
need the operators ``+ - * / @``, comparison, indexing, `T`, `shape`, `reshape` and `sum`.

Sizes: B (batch), T (time steps), V (vocabulary), H (hidden units), L (layers).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import get_annotations
from typing import Any

import numpy as np

from .contract import Model
from .errors import RNNScratchError
from .exact import FINE_GRID, GRID, MIN_VALUE
from .parameters import select_layer, split_by_layer


def complete(primitives: Any) -> "Kit":
    """Return all modules of a backend as one object; raise RNNScratchError if any are missing."""
    missing = [name for name in get_annotations(Kit) if not hasattr(primitives, name)]
    if missing:
        problem = f"These primitives are missing: {', '.join(missing)}."
        raise RNNScratchError(problem, "The source of rnn_scratch.kit says what each computes.")
    return Kit(primitives)


class Kit:
    """The functions of a backend; their specification is in `rnn_scratch.contract`."""

    # The primitives
    devices: Callable  # (dtype) -> names of the devices that support the dtype, best first
    tensor: Callable  # (array, device) -> tensor of the array's dtype
    array: Callable  # (tensor) -> NumPy array of the tensor's dtype
    astype: Callable  # (x, dtype) -> x converted to "float32" or "float64"
    one_hot: Callable  # (tokens, like) -> vectors (..., V) with the size and dtype of `like`
    concatenate: Callable  # (tensors) -> tensors joined along the first axis
    tanh: Callable
    sigmoid: Callable
    relu: Callable  # its derivative at 0 is 0
    sqrt: Callable
    minimum: Callable  # (x, number) -> the smaller of both
    round: Callable  # (x) -> nearest integers, with ties to even
    cross_entropy: Callable  # (logits, labels) -> mean over the rows of the logits, in nats
    stop_gradient: Callable  # (x) -> x, through which no gradient flows back
    # (f, params) -> f(params), a pair that begins with a loss; and the loss's gradient for each
    # parameter, in a dict
    value_and_grad: Callable

    def __init__(self, primitives: Any) -> None:
        """Take over the functions that the primitives define."""
        # Attributes of the instance take precedence over methods.
        names = [name for name in dir(primitives) if not name.startswith("_")]
        vars(self).update({name: getattr(primitives, name) for name in names})
        cells = {"rnn": self.rnn, "gru": self.gru, "gru-after": self.gru_after}
        self.CELLS = {**cells, "lstm": self.lstm, "rnn-relu": self.rnn_relu}
        self.OPTIMIZERS = {"sgd": self.sgd, "momentum": self.momentum, "adam": self.adam}

    def init_params(self, arrays, options):
        """Create the parameters' tensors from copies of the arrays."""
        dtype, device = options.dtype, options.device
        return {n: self.tensor(values.astype(dtype), device) for n, values in arrays.items()}

    def init_state(self, batch_size, options):
        """Return the initial state: a tuple of zero tensors (B, H)."""
        zeros = np.zeros((batch_size, options.num_hiddens), options.dtype)
        return tuple(self.tensor(zeros, options.device) for _ in range(options.num_states))

    def encode(self, tokens, params):
        """Encode tokens (...) as one-hot vectors (..., V)."""
        return self.one_hot(tokens, params["b_q"])

    def rnn(self, x, state, params):
        """Compute the next state from x (B, V) and the current state."""
        (h,) = state
        return (self.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]),)

    def gate(self, x, h, name, params):
        """Compute gate `name` (B, H) from x (B, V) and h (B, H)."""
        preactivation = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
        return self.sigmoid(preactivation)

    def gru(self, x, state, params):
        """Compute one GRU step; apply the reset gate before the matrix product."""
        (h,) = state
        z, r = (self.gate(x, h, name, params) for name in "zr")
        h_tilde = self.tanh(x @ params["W_xh"] + (r * h) @ params["W_hh"] + params["b_h"])
        return (z * h + (1 - z) * h_tilde,)

    def gru_after(self, x, state, params):
        """Compute one GRU step; apply the reset gate after the product."""
        (h,) = state
        z, r = (self.gate(x, h, name, params) for name in "zr")
        product = h @ params["W_hh"] + params["b_hh"]
        h_tilde = self.tanh(x @ params["W_xh"] + r * product + params["b_h"])
        return (z * h + (1 - z) * h_tilde,)

    def lstm(self, x, state, params):
        """Compute one LSTM step; the state consists of h and the cell state c."""
        h, c = state
        i, f, o = (self.gate(x, h, name, params) for name in "ifo")
        c_tilde = self.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
        c = f * c + i * c_tilde
        return o * self.tanh(c), c

    def rnn_relu(self, x, state, params):
        """Compute one RNN step with ReLU instead of tanh."""
        (h,) = state
        return (self.relu(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"]),)

    def step(self, x, state, params, options):
        """Compute logits (B, V) and the next state from x (B, V)."""
        state = self.CELLS[options.cell](x, state, params)
        return state[0] @ params["W_hq"] + params["b_q"], state

    def forward(self, tokens, state, params, options):
        """Run the model over tokens (B, T); return logits (T*B, V) and the last state."""
        outputs = []
        for t in range(tokens.shape[1]):
            x = self.encode(tokens[:, t], params)
            logits, state = self.step(x, state, params, options)
            outputs.append(logits)
        return self.concatenate(outputs), state

    def loss(self, logits, targets):
        """Return the mean cross-entropy between logits (T*B, V) and targets (B, T)."""
        return self.cross_entropy(logits, targets.T.reshape(-1))

    def detach(self, state):
        """Return the state, through which no gradient flows back."""
        return tuple(map(self.stop_gradient, state))

    def gradients(self, params, batch, state, options, forward=None):
        """Return a minibatch's loss, the gradient w.r.t. each parameter, and the last state."""

        def objective(params):
            logits, last_state = (forward or self.forward)(batch.X, state, params, options)
            return self.loss(logits, batch.Y), last_state

        (mean_loss, last_state), grads = self.value_and_grad(objective, params)
        return self.stop_gradient(mean_loss), grads, self.detach(last_state)

    def clip(self, grads, theta):
        """Clip gradients to the global norm theta; return them and the original norm."""
        norm = self.sqrt(sum((grad * grad).sum() for _, grad in sorted(grads.items())))
        scale = self.minimum(theta / norm, 1)
        return {name: grad * scale for name, grad in grads.items()}, norm

    def sgd(self, params, grads, slots, update):
        """Apply one gradient-descent step; return new parameters, and the slots."""
        return {name: param - update.lr * grads[name] for name, param in params.items()}, slots

    def momentum(self, params, grads, slots, update):
        """Apply SGD with momentum; return new parameters and slots."""
        m, next_params = {}, {}
        for name, param in params.items():
            m[name] = update.beta1 * slots["m"][name] + grads[name]
            next_params[name] = param - update.lr * (m[name] + update.weight_decay * param)
        return next_params, {"m": m}

    def adam(self, params, grads, slots, update):
        """Apply Adam; return new parameters and slots."""
        m, v, next_params = {}, {}, {}
        for name, param in params.items():
            grad = grads[name]
            m[name] = update.beta1 * slots["m"][name] + (1 - update.beta1) * grad
            v[name] = update.beta2 * slots["v"][name] + (1 - update.beta2) * (grad * grad)
            root = self.sqrt(v[name] / update.c_v) + update.epsilon
            direction = (m[name] / update.c_m) / root
            next_params[name] = param - update.lr * (direction + update.weight_decay * param)
        return next_params, {"m": m, "v": v}

    def train_minibatch(self, params, slots, batch, state, update, options, gradients=None):
        """Train on one minibatch; return its loss, the parameters, the slots and the state."""
        gradients = gradients or self.gradients
        mean_loss, grads, state = gradients(params, batch, state, options)
        grads, _ = self.clip(grads, update.theta)
        params, slots = self.OPTIMIZERS[update.optimizer](params, grads, slots, update)
        return mean_loss, params, slots, state

    def train_epoch(self, model, minibatches, updates, carry, state=None):
        """Train on minibatches; return the losses and the last state."""
        losses = []
        for batch, update in zip(minibatches, updates):
            if state is None or not carry:
                state = self.init_state(len(batch.X), model.options)
            batch = batch.map(self.tensor, model.options.device)
            mean_loss, model.params, model.slots, state = model.train_minibatch(
                model.params, model.slots, batch, state, update, model.options, model.gradients
            )
            losses.append(mean_loss)
        return [float(mean_loss) for mean_loss in losses], state

    def evaluate(self, model, minibatches):
        """Return the total loss on sequential minibatches, and the number of tokens."""
        total_loss, num_tokens, state = 0.0, 0, None
        for batch in minibatches:
            state = state or self.init_state(len(batch.X), model.options)
            tensors = batch.map(self.tensor, model.options.device)
            logits, state = model.forward(tensors.X, state, model.params, model.options)
            total_loss += float(self.loss(logits, tensors.Y)) * batch.X.size
            num_tokens += batch.X.size
        return total_loss, num_tokens

    def predict(self, model, prefix, num_preds, choose_token):
        """Return `prefix` plus `num_preds` tokens, each chosen from logits (V,)."""
        state, outputs = self.init_state(1, model.options), [prefix[0]]
        for t in range(1, len(prefix) + num_preds):
            token = self.tensor(np.array([outputs[-1:]]), model.options.device)
            logits, state = model.forward(token, state, model.params, model.options)
            is_given = t < len(prefix)
            outputs.append(prefix[t] if is_given else choose_token(self.array(logits)[0]))
        return outputs

    def to_arrays(self, params):
        """Copy parameters or gradients to NumPy arrays."""
        return {name: np.array(self.array(param)) for name, param in params.items()}

    def build(self, arrays, options):
        """Build the plain model from initial parameter values."""
        functions = self.forward, self.gradients, self.to_arrays, self.train_minibatch
        return Model(self.init_params(arrays, options), options, *functions)

    def deep_step(self, x, state, params, options, masks=None):
        """Run all layers on x (B, V) with optional masks (L, B, H)."""
        next_state = ()
        x = x @ params["W_e"] if options.embedding else x
        for layer, layer_state in enumerate(split_by_layer(state, options)):
            cell = self.CELLS[options.cell]
            layer_state = cell(x, layer_state, select_layer(params, layer))
            x = layer_state[0] if masks is None else layer_state[0] * masks[layer]
            next_state += layer_state
        return x @ params["W_hq"] + params["b_q"], next_state

    def deep_forward(self, tokens, state, params, options, masks=None):
        """Process tokens (B, T) with optional masks (T, L, B, H)."""
        outputs = []
        for t in range(tokens.shape[1]):
            x = self.encode(tokens[:, t], params)
            step_masks = None if masks is None else masks[t]
            logits, state = self.deep_step(x, state, params, options, step_masks)
            outputs.append(logits)
        return self.concatenate(outputs), state

    def deep_gradients(self, params, batch, state, options):
        """Return the results of `gradients` for `deep_forward` with the minibatch's masks."""
        forward = partial(self.deep_forward, masks=batch.masks)
        return self.gradients(params, batch, state, options, forward)

    def build_deep(self, arrays, options):
        """Build a model with several layers, an embedding or dropout."""
        model = self.build(arrays, options)
        return replace(model, forward=self.deep_forward, gradients=self.deep_gradients)

    def round_to_grid(self, values, grid):
        """Round values to the nearest multiple of `grid`, with ties to even."""
        return self.round(values / grid) * grid

    def round_to_float32(self, values):
        """Round float64 values to float32 values; flush magnitudes below MIN_VALUE to 0."""
        nearest = self.astype(self.astype(values, "float32"), "float64")
        return nearest * self.astype(abs(nearest) >= MIN_VALUE, "float64")

    def make_exact(self, optimizer):
        """Wrap an optimizer so that it rounds gradients, parameters and slots."""

        def exact_optimizer(params, grads, slots, update):
            grid = FINE_GRID if slots else GRID
            grads = {name: self.round_to_grid(grad, grid) for name, grad in grads.items()}
            params, slots = optimizer(params, grads, slots, update)
            params = {name: self.round_to_grid(param, grid) for name, param in params.items()}
            slots = {
                slot: {name: self.round_to_float32(values) for name, values in tensors.items()}
                for slot, tensors in slots.items()
            }
            return params, slots

        return exact_optimizer
