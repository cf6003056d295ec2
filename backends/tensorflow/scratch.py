"""A recurrent language model from scratch in TensorFlow. Start with `step`.

`options` describes a network, `model` holds its parameters and functions, and `update` holds the
hyperparameters. Sizes: B (batch), T (time steps), V (vocabulary), H (hidden units). Functions
return what they compute; updates of parameters are in place.
"""

import tensorflow as tf

from rnn_scratch.contract import Model

from .machine import compile_with, device_scope, run_on_model_device, tensor, to_arrays


def init_params(arrays, options):
    """Create the parameters W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V) and b_q (V,)."""
    with device_scope(options.device):
        return {name: tf.Variable(values.astype(options.dtype)) for name, values in arrays.items()}


@run_on_model_device  # TensorFlow would prefer a GPU even if all tensors are on the CPU
def init_state(batch_size, options):
    """Return the initial state: a tuple of zero tensors (B, H)."""
    shape = batch_size, options.num_hiddens
    return tuple(tf.zeros(shape, options.dtype) for _ in range(options.num_states))


def encode(tokens, params):
    """Encode tokens (...) as one-hot vectors (..., V)."""
    return tf.one_hot(tokens, params["b_q"].shape[0], dtype=params["b_q"].dtype)


def rnn(x, state, params):
    """Compute the next state from x (B, V) and the current state."""
    (h,) = state
    h = tf.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
    return (h,)


CELLS = {"rnn": rnn}


def step(x, state, params, options):
    """Compute logits (B, V) and the next state from x (B, V) and the current state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


@run_on_model_device
def forward(tokens, state, params, options):
    """Run the model over tokens (B, T); return time-major logits (T*B, V) and the last state."""
    outputs = []
    for x in tf.unstack(encode(tf.transpose(tokens), params)):  # x: (B, V)
        logits, state = step(x, state, params, options)
        outputs.append(logits)
    return tf.concat(outputs, 0), state


def loss(logits, targets):
    """Return the mean cross-entropy between time-major logits (T*B, V) and targets (B, T)."""
    labels = tf.reshape(tf.transpose(targets), [-1])  # (T*B,), in the same order as the logits
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def detach(state):
    """Detach the state from the graph so that no gradient flows back through it."""
    return tuple(tf.stop_gradient(s) for s in state)  # optional: each minibatch has its own tape


@run_on_model_device
def gradients(params, batch, state, options, forward=forward):
    """Return a minibatch's loss, the gradient w.r.t. each parameter, and the detached state."""
    with tf.GradientTape() as tape:
        logits, state = forward(batch.X, state, params, options)
        mean_loss = loss(logits, batch.Y)
    grads = tape.gradient(mean_loss, params, unconnected_gradients="zero")
    # Convert to dense tensors, because tf.gather, used by other variants, has sparse gradients.
    return mean_loss, {n: tf.convert_to_tensor(grad) for n, grad in grads.items()}, detach(state)


def clip(grads, theta):
    """Clip gradients to global norm theta; return the clipped gradients and the original norm."""
    # Don't use clip_by_global_norm, which rounds differently and fails if theta is infinite.
    norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for _, grad in sorted(grads.items())))
    scale = tf.minimum(theta / norm, 1)
    return {name: grad * scale for name, grad in grads.items()}, norm


def sgd(params, grads, slots, update):
    """Apply one gradient-descent step; return the parameters and slots."""
    for name, param in params.items():
        param.assign_sub(update.lr * grads[name])
    return params, slots


OPTIMIZERS = {"sgd": sgd}


@compile_with(tf.function)  # once per configuration and minibatch shape
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


@run_on_model_device
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


@run_on_model_device
def predict(model, prefix, num_preds, choose_token):
    """Return `prefix` plus `num_preds` tokens, each chosen by `choose_token` from logits (V,)."""
    state, outputs = init_state(1, model.options), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = tf.constant([outputs[-1:]])  # B = T = 1
        logits, state = model.forward(token, state, model.params, model.options)
        # Warm-up: take the next token from the prefix until it is exhausted.
        outputs.append(prefix[t] if t < len(prefix) else choose_token(logits.numpy()[0]))
    return outputs


def build(arrays, options):
    """Build the plain model from initial parameter values."""
    params = init_params(arrays, options)
    return Model(params, options, forward, gradients, to_arrays, train_minibatch)
