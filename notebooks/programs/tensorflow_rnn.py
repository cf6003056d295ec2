"""A recurrent language model in TensorFlow, from scratch: `python tensorflow_rnn.py book.txt`.

It trains on a UTF-8 text file and prints generated text. Start with `step`.
B: batch size, T: time steps, V: vocabulary size, H: hidden units.
"""

import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import tensorflow as tf

B, T, num_epochs, max_tokens = 32, 35, 500, 10000  # max_tokens: number of characters to train on
sigma, seed = 0.01, 0  # standard deviation of the initial weights, random seed
ModelConfig = namedtuple("ModelConfig", "cell num_hiddens num_states dtype device")
options = ModelConfig(cell="rnn", num_hiddens=512, num_states=1, dtype="float32", device="cpu")
Model = namedtuple("Model", "params options forward")
Batch = namedtuple("Batch", "X Y")
UpdateRule = namedtuple("UpdateRule", "lr optimizer theta")
rule = UpdateRule(1.0, "sgd", 1.0)  # theta: clip gradients to this norm


def device_scope(device):
    """Return a context manager that makes TensorFlow compute on the device."""
    return tf.device("/GPU:0" if device == "cuda" else "/CPU:0")


def compile_with(compiler):
    """Return a decorator that compiles training with `rule` and `options`."""

    def decorate(train_minibatch):
        @compiler
        def graph(params, batch, state):
            mean_loss, _, _, state = train_minibatch(params, {}, batch, state, rule, options)
            return mean_loss, state

        def run(params, slots, batch, state, update, options):
            with device_scope(options.device):
                mean_loss, state = graph(params, batch, state)
            return mean_loss, params, slots, state  # the graph has changed the variables

        return run

    return decorate


def run_on_model_device(function):
    """Decorate a function to compute on the device in `options`."""

    def on_device(*args, **kwargs):
        with device_scope(options.device):
            return function(*args, **kwargs)

    return on_device


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


def sample(logits, temperature=0.5):
    """Draw a token from softmax(logits / temperature), excluding token 0, <unk>."""
    sums = np.exp((logits[1:].astype("float64") - logits.max()) / temperature).cumsum()
    return 1 + int(np.searchsorted(sums, rng.random_sample() * sums[-1]))


try:
    text = Path(sys.argv[1]).read_text(encoding="utf-8-sig")
except (IndexError, OSError, UnicodeDecodeError) as error:
    sys.exit(f"Usage: python tensorflow_rnn.py book.txt ({error})")
vocab = ["<unk>", *sorted(sorted(set(text)), key=text.count, reverse=True)]
tokens = np.array([vocab.index(character) for character in text[:max_tokens]], "int64")
if len(tokens) < (B + 1) * T:
    sys.exit(f"The text has {len(tokens)} characters; {(B + 1) * T} are needed.")

# Initial parameters: normally distributed weights W, and zero biases.
V, H, rng = len(vocab), options.num_hiddens, np.random.RandomState([seed, 1, 0])
shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
weights = {n: rng.normal(0, sigma, shapes[n]).astype("float32") for n in shapes if "W" in n}
params, losses = init_params(zeros | weights, options), []
for epoch in range(1, num_epochs + 1):
    # Row i of a minibatch continues row i of the previous minibatch.
    offset = np.random.RandomState([seed, 2, epoch]).randint(T)
    width = (len(tokens) - offset - 1) // B
    X, Y = (tokens[s : s + B * width].reshape(B, width) for s in (offset, offset + 1))
    state, epoch_losses = init_state(B, options), []
    for s in range(0, width - T + 1, T):
        x, y = X[:, s : s + T], Y[:, s : s + T]
        mean_loss, params, _, state = train_minibatch(params, {}, Batch(x, y), state, rule, options)
        epoch_losses.append(mean_loss)
    losses.append(sum(map(float, epoch_losses)) / len(epoch_losses))
    if epoch % max(1, num_epochs // 20) == 0:
        print(f"epoch {epoch}  perplexity {np.exp(losses[-1]):.2f}")
model = Model(params, options, forward)
print("".join(vocab[token] for token in predict(model, tokens[:20].tolist(), 300, sample)))
