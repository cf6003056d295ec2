"""A recurrent language model in JAX, from scratch: `python jax_rnn.py book.txt`.

It trains on a UTF-8 text file and prints generated text. Start with `step`.
B: batch size, T: time steps, V: vocabulary size, H: hidden units.
"""

import sys
from collections import namedtuple
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

B, T, num_epochs, max_tokens = 32, 35, 500, 10000  # max_tokens: number of characters to train on
sigma, seed = 0.01, 0  # standard deviation of the initial weights, random seed
options = SimpleNamespace(cell="rnn", num_hiddens=512, num_states=1, dtype="float32", device="cpu")
Batch = namedtuple("Batch", "X Y extras")
Rule = namedtuple("Rule", "lr optimizer theta")
rule = Rule(1.0, "sgd", 1.0)  # theta: clip gradients to this norm


class Model:
    """Parameters, and functions that use them."""

    def __init__(self, params):
        self.params, self.options = params, options
        self.state = partial(state, options=options)
        self.forward = partial(forward, params=params, options=options)


def get_device(device):
    """Return the JAX device with this name."""
    return jax.devices(device)[0]


def compile_update(jit):
    """Return a decorator that compiles an update as a pure function of all changing values."""

    def decorate(train_minibatch):
        @partial(jit, static_argnums=0)
        def pure(names, tensors, batch, state, lr):  # of a dict, JAX would sort the names
            model = Model(dict(zip(names, tensors)))
            result = train_minibatch(model, batch, state, rule._replace(lr=lr))
            return result, model.params

        def update_model(model, batch, state, update):
            names, tensors = zip(*model.params.items())
            result, params = pure(names, tensors, batch, state, update.lr)
            model.params.update(params)
            return result

        return update_model

    return decorate


def tensor(array, device):
    """Convert a NumPy array to a tensor of the same dtype on `device`."""
    if array.dtype == np.float64:
        # Without this process-wide setting, JAX converts float64 to float32. Set it only when
        # needed, so that importing this module does not change it.
        jax.config.update("jax_enable_x64", True)
    return jax.device_put(array, get_device(device))


def params(arrays, options):
    """Create the parameters W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V) and b_q (V,)."""
    dtype, device = options.dtype, options.device
    return {name: tensor(values.astype(dtype), device) for name, values in arrays.items()}


def state(batch_size, options):
    """Return the initial state: a tuple of zero tensors (B, H)."""
    shape, device = (batch_size, options.num_hiddens), get_device(options.device)
    return tuple(jnp.zeros(shape, options.dtype, device=device) for _ in range(options.num_states))


def encode(tokens, params):
    """Encode tokens (...) as one-hot vectors (..., V)."""
    return jax.nn.one_hot(tokens, len(params["b_q"]), dtype=params["b_q"].dtype)


def rnn(x, state, params):
    """Compute the next state from x (B, V) and the current state."""
    (h,) = state
    h = jnp.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
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
    return jnp.concatenate(outputs), state


def loss(logits, targets):
    """Return the mean cross-entropy between time-major logits (T*B, V) and targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the same order as the logits
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


def detach(state):
    """Detach the state from the graph so that no gradient flows back through it."""
    return tuple(jax.lax.stop_gradient(s) for s in state)  # a no-op outside jax.grad


def gradients(model, batch, state):
    """Return a minibatch's loss, the gradient w.r.t. each parameter, and the detached state."""

    def objective(params):  # JAX differentiates with respect to this argument
        logits, last_state = model.forward(batch.X, state, params=params, **batch.extras)
        return loss(logits, batch.Y), last_state

    (mean_loss, state), grads = jax.value_and_grad(objective, has_aux=True)(model.params)
    return mean_loss, {name: grads[name] for name in model.params}, detach(state)  # JAX sorts keys


def clip(grads, theta):
    """Clip gradients to global norm theta; return the clipped gradients and the original norm."""
    norm = jnp.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    scale = jnp.minimum(theta / norm, 1)
    return {name: grad * scale for name, grad in grads.items()}, norm


def sgd(model, grads, update):
    """Apply one gradient-descent step to `model.params`."""
    for name, param in model.params.items():  # JAX arrays are immutable, so replace them
        model.params[name] = param - update.lr * grads[name]


OPTIMIZERS = {"sgd": sgd}


@compile_update(jax.jit)  # once per model and minibatch shape
def train_minibatch(model, batch, state, update):
    """Train on one minibatch; return its loss and the detached state."""
    mean_loss, grads, state = gradients(model, batch, state)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean_loss, state


def predict(model, prefix, num_preds, choose_token):
    """Return `prefix` plus `num_preds` tokens, each chosen by `choose_token` from logits (V,)."""
    state, outputs = model.state(1), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = jnp.array([outputs[-1:]], device=get_device(model.options.device))  # B = T = 1
        logits, state = model.forward(token, state)
        # Warm-up: take the next token from the prefix until it is exhausted.
        outputs.append(prefix[t] if t < len(prefix) else choose_token(np.asarray(logits)[0]))
    return outputs


def sample(logits, temperature=0.5):
    """Draw a token from softmax(logits / temperature), excluding token 0, <unk>."""
    sums = np.exp((logits[1:].astype("float64") - logits.max()) / temperature).cumsum()
    return 1 + int(np.searchsorted(sums, rng.random_sample() * sums[-1]))


try:
    text = Path(sys.argv[1]).read_text(encoding="utf-8-sig")
except (IndexError, OSError, UnicodeDecodeError) as error:
    sys.exit(f"Usage: python jax_rnn.py book.txt ({error})")
vocab = ["<unk>", *sorted(sorted(set(text)), key=text.count, reverse=True)]
tokens = np.array([vocab.index(character) for character in text[:max_tokens]], "int64")
if len(tokens) < (B + 1) * T:
    sys.exit(f"The text has {len(tokens)} characters; {(B + 1) * T} are needed.")

# Initial parameters: normally distributed weights W, and zero biases.
V, H, rng = len(vocab), options.num_hiddens, np.random.RandomState([seed, 1, 0])
shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
weights = {n: rng.normal(0, sigma, shapes[n]).astype("float32") for n in shapes if "W" in n}
model, losses = Model(params(zeros | weights, options)), []
for epoch in range(1, num_epochs + 1):
    # Row i of a minibatch continues row i of the previous minibatch.
    offset = np.random.RandomState([seed, 2, epoch]).randint(T)
    width = (len(tokens) - offset - 1) // B
    X, Y = (tokens[s : s + B * width].reshape(B, width) for s in (offset, offset + 1))
    last, epoch_losses = model.state(B), []
    for s in range(0, width - T + 1, T):
        x, y = (tensor(array[:, s : s + T], options.device) for array in (X, Y))
        mean_loss, last = train_minibatch(model, Batch(x, y, {}), last, rule)
        epoch_losses.append(mean_loss)
    losses.append(sum(map(float, epoch_losses)) / len(epoch_losses))
    if epoch % max(1, num_epochs // 20) == 0:
        print(f"epoch {epoch}  perplexity {np.exp(losses[-1]):.2f}")
print("".join(vocab[token] for token in predict(model, tokens[:20].tolist(), 300, sample)))
