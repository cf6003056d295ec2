"""A recurrent language model in NumPy, from scratch: `python numpy_rnn.py book.txt`.

It trains on a UTF-8 text file and prints generated text. Start with `step`.
B: batch size, T: time steps, V: vocabulary size, H: hidden units.
"""

import sys
from collections import namedtuple
from pathlib import Path

import numpy as np

B, T, num_epochs, max_tokens = 32, 35, 500, 10000  # max_tokens: number of characters to train on
sigma, seed = 0.01, 0  # standard deviation of the initial weights, random seed
ModelConfig = namedtuple("ModelConfig", "cell num_hiddens num_states dtype device")
options = ModelConfig(cell="rnn", num_hiddens=512, num_states=1, dtype="float32", device="cpu")
Model = namedtuple("Model", "params options forward")
Batch = namedtuple("Batch", "X Y")
UpdateRule = namedtuple("UpdateRule", "lr optimizer theta")
rule = UpdateRule(1.0, "sgd", 1.0)  # theta: clip gradients to this norm


def init_params(arrays, options):
    """Create the parameters W_xh (V, H), W_hh (H, H), b_h (H,), W_hq (H, V) and b_q (V,)."""
    return {name: values.astype(options.dtype) for name, values in arrays.items()}


def init_state(batch_size, options):
    """Return the initial state: a tuple of zero tensors (B, H)."""
    shape = batch_size, options.num_hiddens
    return tuple(np.zeros(shape, options.dtype) for _ in range(options.num_states))


def encode(tokens, params):
    """Encode tokens (...) as one-hot vectors (..., V)."""
    return np.eye(len(params["b_q"]), dtype=params["b_q"].dtype)[tokens]


def rnn(x, state, params):
    """Compute the next state from x (B, V) and the current state."""
    (h,) = state
    h = np.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])  # (B, H)
    return (h,)


def rnn_backward(d_next_state, next_state, x, state, params):
    """Backpropagate through `rnn`; return gradients w.r.t. x, state and the cell's parameters."""
    (d_h,), (next_h,), (h,) = d_next_state, next_state, state
    dz = d_h * (1 - next_h * next_h)  # the derivative of tanh is 1 - tanh**2
    grads = {"W_xh": x.T @ dz, "W_hh": h.T @ dz, "b_h": dz.sum(0)}
    return dz @ params["W_xh"].T, (dz @ params["W_hh"].T,), grads


CELLS = {"rnn": rnn}
CELL_BACKWARD = {"rnn": rnn_backward}


def step(x, state, params, options):
    """Compute logits (B, V) and the next state from x (B, V) and the current state."""
    state = CELLS[options.cell](x, state, params)
    return state[0] @ params["W_hq"] + params["b_q"], state


def step_backward(d_logits, d_next_state, next_state, x, state, params, options):
    """Backpropagate through `step`; return gradients w.r.t. `state` and `params`."""
    grads = {"W_hq": next_state[0].T @ d_logits, "b_q": d_logits.sum(0)}
    d_h, *d_rest = d_next_state  # gradients from the next time step
    d_next_state = (d_h + d_logits @ params["W_hq"].T, *d_rest)
    _, d_state, cell_grads = CELL_BACKWARD[options.cell](d_next_state, next_state, x, state, params)
    return d_state, grads | cell_grads


def forward(tokens, state, params, options):
    """Run the model over tokens (B, T); return time-major logits (T*B, V) and the last state."""
    outputs = []
    for x in encode(tokens.T, params):  # x: (B, V)
        logits, state = step(x, state, params, options)
        outputs.append(logits)
    return np.concatenate(outputs), state


def loss(logits, targets):
    """Return the mean cross-entropy between time-major logits (T*B, V) and targets (B, T)."""
    labels = targets.T.reshape(-1)  # (T*B,), in the same order as the logits
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def loss_backward(logits, targets):
    """Return the gradient of `loss` w.r.t. the logits: (softmax - one-hot) / (T*B)."""
    labels = targets.T.reshape(-1)  # (T*B,)
    d_logits = np.exp(log_softmax(logits))  # (T*B, V)
    d_logits[np.arange(len(labels)), labels] -= 1
    return d_logits / len(labels)


def log_softmax(logits):
    """Convert logits (T*B, V) to log-probabilities (T*B, V)."""
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def detach(state):
    """Detach the state from the graph so that no gradient flows back through it."""
    return state  # NumPy does not record a graph


def gradients(params, batch, state, options):
    """Return a minibatch's loss, the gradient w.r.t. each parameter, and the detached state."""
    # NumPy has no automatic differentiation.
    return bptt([(step, step_backward)] * batch.X.shape[1], params, batch, state, options)


def bptt(steps, params, batch, state, options):
    """Backpropagate through time, with each step's functions in `steps`; see `gradients`."""
    inputs, states, outputs = encode(batch.X.T, params), [state], []  # inputs: (T, B, V)
    for (step, _), x in zip(steps, inputs):
        logits, state = step(x, state, params, options)
        outputs.append(logits)
        states.append(state)
    logits = np.concatenate(outputs)  # (T*B, V)
    d_outputs = np.split(loss_backward(logits, batch.Y), len(inputs))  # T arrays (B, V)
    grads = {name: np.zeros_like(param) for name, param in params.items()}
    d_state = tuple(np.zeros_like(s) for s in state)
    for t, (_, step_backward) in reversed(list(enumerate(steps))):
        tensors = d_outputs[t], d_state, states[t + 1], inputs[t], states[t]
        d_state, step_grads = step_backward(*tensors, params, options)
        for name, grad in step_grads.items():
            grads[name] += grad
    return loss(logits, batch.Y), grads, detach(state)


def clip(grads, theta):
    """Clip gradients to global norm theta; return the clipped gradients and the original norm."""
    norm = np.sqrt(sum((grad * grad).sum() for _, grad in sorted(grads.items())))
    scale = np.minimum(theta / norm, 1)
    return {name: grad * scale for name, grad in grads.items()}, norm


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


def predict(model, prefix, num_preds, choose_token):
    """Return `prefix` plus `num_preds` tokens, each chosen by `choose_token` from logits (V,)."""
    state, outputs = init_state(1, model.options), [prefix[0]]
    for t in range(1, len(prefix) + num_preds):
        token = np.array([outputs[-1:]])  # B = T = 1
        logits, state = model.forward(token, state, model.params, model.options)
        # Warm-up: take the next token from the prefix until it is exhausted.
        outputs.append(prefix[t] if t < len(prefix) else choose_token(logits[0]))
    return outputs


def sample(logits, temperature=0.5):
    """Draw a token from softmax(logits / temperature), excluding token 0, <unk>."""
    sums = np.exp((logits[1:].astype("float64") - logits.max()) / temperature).cumsum()
    return 1 + int(np.searchsorted(sums, rng.random_sample() * sums[-1]))


try:
    text = Path(sys.argv[1]).read_text(encoding="utf-8-sig")
except (IndexError, OSError, UnicodeDecodeError) as error:
    sys.exit(f"Usage: python numpy_rnn.py book.txt ({error})")
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
