"""An LSTM language model in JAX, from scratch: `python jax_lstm.py book.txt`.

It trains on a UTF-8 text file and prints generated text. Begin reading at `step`.
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

B, T, num_epochs, max_tokens = 32, 35, 100, 10000  # max_tokens: number of characters to train on
sigma, seed = 0.01, 0  # standard deviation of the initial weights, random seed
options = SimpleNamespace(cell="lstm", num_hiddens=256, num_states=2, dtype="float32", device="cpu")
Batch = namedtuple("Batch", "X Y extras")
Rule = namedtuple("Rule", "lr optimizer theta beta1 beta2 epsilon weight_decay c_m c_v")
rule = Rule(0.005, "adam", 1.0, 0.9, 0.999, 1e-08, 0.0, 1.0, 1.0)  # c_m, c_v: bias corrections
changing = "lr", "c_m", "c_v"  # fields of the rule that change from update to update


class Model:
    """Parameters, optimizer state, and functions that use the parameters."""

    def __init__(self, params, slots):
        self.params, self.slots, self.options = params, slots, options
        self.state = partial(state, options=options)
        self.forward = partial(forward, params=params, options=options)


def get_device(device):
    """Return the JAX device with this name."""
    return jax.devices(device)[0]


def jit_update(train_minibatch):
    """Compile `train_minibatch` as a pure function of all values that change."""

    @jax.jit
    def pure(params, slots, batch, state, scalars):
        model = Model(params, slots)
        result = train_minibatch(model, batch, state, rule._replace(**scalars))
        return result, model.params, model.slots

    def train(model, batch, state, update):
        scalars = {name: getattr(update, name) for name in changing}
        result, params, slots = pure(model.params, model.slots, batch, state, scalars)
        model.params.update(params)
        model.slots.update(slots)
        return result

    return train


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


def gate(x, h, name, params):
    """Compute the gate `name` (B, H), with values between 0 and 1, from x (B, V) and h (B, H)."""
    preactivation = x @ params[f"W_x{name}"] + h @ params[f"W_h{name}"] + params[f"b_{name}"]
    return jax.nn.sigmoid(preactivation)


def lstm(x, state, params):
    """Compute one LSTM step; the state consists of the hidden state h and the cell state c."""
    h, c = state
    i, f, o = (gate(x, h, name, params) for name in "ifo")  # input, forget and output gates (B, H)
    c_tilde = jnp.tanh(x @ params["W_xc"] + h @ params["W_hc"] + params["b_c"])
    c = f * c + i * c_tilde
    return o * jnp.tanh(c), c


CELLS = {"lstm": lstm}


def step(x, state, params, options):
    """Compute logits (B, V) and the next state from x (B, V) and the current state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


def forward(tokens, state, params, options):
    """Run all time steps on tokens (B, T); return time-major logits (T*B, V) and the last state."""
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
    """Return the state detached from the graph, so that no gradient flows back through it."""
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


def adam(model, grads, update):
    """Apply Adam (Kingma & Ba, 2015) with moving averages m of the gradient and v of its square."""
    m, v = model.slots["m"], model.slots["v"]
    for name, param in model.params.items():
        grad = grads[name]
        m[name] = update.beta1 * m[name] + (1 - update.beta1) * grad
        v[name] = update.beta2 * v[name] + (1 - update.beta2) * (grad * grad)
        direction = (m[name] / update.c_m) / (jnp.sqrt(v[name] / update.c_v) + update.epsilon)
        model.params[name] = param - update.lr * (direction + update.weight_decay * param)


OPTIMIZERS = {"adam": adam}


@jit_update  # compiled by jax.jit once per model and minibatch shape
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
    sys.exit(f"Usage: python jax_lstm.py book.txt ({error})")
vocab = ["<unk>", *sorted(sorted(set(text)), key=text.count, reverse=True)]
tokens = np.array([vocab.index(character) for character in text[:max_tokens]], "int64")
if len(tokens) < (B + 1) * T:
    sys.exit(f"The text has {len(tokens)} characters; {(B + 1) * T} are needed.")

# Initial parameters: normally distributed weights W, and zero biases.
V, H, rng = len(vocab), options.num_hiddens, np.random.RandomState([seed, 1, 0])
shapes = {}
for name in "ifoc":
    shapes |= {f"W_x{name}": (V, H), f"W_h{name}": (H, H), f"b_{name}": (H,)}
shapes |= {"W_hq": (H, V), "b_q": (V,)}
zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
weights = {n: rng.normal(0, sigma, shapes[n]).astype("float32") for n in shapes if "W" in n}
slots = {name: params(zeros, options) for name in ["m", "v"]}
model, losses, t = Model(params(zeros | weights, options), slots), [], 0
for epoch in range(1, num_epochs + 1):
    # Row i of a minibatch continues row i of the previous minibatch.
    offset = np.random.RandomState([seed, 2, epoch]).randint(T)
    width = (len(tokens) - offset - 1) // B
    X, Y = (tokens[s : s + B * width].reshape(B, width) for s in (offset, offset + 1))
    last, epoch_losses = model.state(B), []
    for s in range(0, width - T + 1, T):
        x, y = (tensor(array[:, s : s + T], options.device) for array in (X, Y))
        t += 1
        update = rule._replace(c_m=1 - rule.beta1**t, c_v=1 - rule.beta2**t)
        mean_loss, last = train_minibatch(model, Batch(x, y, {}), last, update)
        epoch_losses.append(mean_loss)
    losses.append(sum(map(float, epoch_losses)) / len(epoch_losses))
    if epoch % max(1, num_epochs // 20) == 0:
        print(f"epoch {epoch}  perplexity {np.exp(losses[-1]):.2f}")
print("".join(vocab[token] for token in predict(model, tokens[:20].tolist(), 300, sample)))
