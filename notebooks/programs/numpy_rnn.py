"""A character-level recurrent network in NumPy, in one file: `python numpy_rnn.py book.txt`.

It learns to predict the next character of a text (by default, a short story), and then writes.
Shapes: B rows of text, T time steps, V characters in the vocabulary, H hidden units.
"""

import sys
from pathlib import Path

import numpy as np

B, T, H = 32, 35, 256
num_epochs, lr, theta, sigma = 10, 1.0, 1.0, 0.05
dtype, seed = "float32", 0

# Read the text. Each character becomes a token, its index in `vocab`; token 0 is unused.
story = Path(__file__).parents[2] / "rnn_scratch/text/books/the_tide_clock.txt"
text = Path(sys.argv[1] if sys.argv[1:] else story).read_text(encoding="utf-8")
vocab = ["<unk>", *sorted(sorted(set(text)), key=text.count, reverse=True)]
tokens, V = np.array([vocab.index(character) for character in text]), len(vocab)
print(f"{len(text):,} characters, {V - 1} different")

# Draw the parameters: weights W near zero, and zero biases b.
shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
rng, params = np.random.RandomState([seed, 1, 0]), {}
for name, shape in shapes.items():
    array = rng.normal(0, sigma, shape) if name.startswith("W") else np.zeros(shape)
    params[name] = array.astype("float32").astype(dtype)


def step(x, h, params):
    """Return the logits (B, V) and the next hidden state (B, H) from x (B, V) and h (B, H)."""
    h = np.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
    return h @ params["W_hq"] + params["b_q"], h


def forward(X, h, params):
    """Read tokens (B, T); return the logits of each time step and all T + 1 hidden states."""
    outputs, states = [], [h]
    for x in one_hot(X.T):  # the tokens of one time step, (B, V)
        logits, h = step(x, h, params)
        outputs.append(logits)
        states.append(h)
    return outputs, states


def one_hot(tokens):
    """Return tokens (...) as one-hot vectors (..., V)."""
    return np.eye(V, dtype=dtype)[tokens]


def gradients(X, Y, h, params):
    """Return the mean loss of targets Y, its gradients, and the last hidden state."""
    outputs, states = forward(X, h, params)
    logits, labels = np.concatenate(outputs), one_hot(Y.T.reshape(-1))
    log_p = logits - logits.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    mean_loss = -(log_p * labels).sum() / len(labels)  # cross-entropy
    d_outputs = np.split((np.exp(log_p) - labels) / len(labels), T)
    grads, d_h = {name: np.zeros_like(param) for name, param in params.items()}, np.zeros_like(h)
    for t in reversed(range(T)):  # backpropagation through time
        d_h = d_h + d_outputs[t] @ params["W_hq"].T
        d_z = d_h * (1 - states[t + 1] ** 2)  # the derivative of tanh(z) is 1 - tanh(z)**2
        grads["W_hq"] += states[t + 1].T @ d_outputs[t]
        grads["b_q"] += d_outputs[t].sum(0)
        grads["W_xh"] += one_hot(X[:, t]).T @ d_z
        grads["W_hh"] += states[t].T @ d_z
        grads["b_h"] += d_z.sum(0)
        d_h = d_z @ params["W_hh"].T
    return mean_loss, grads, states[-1]


def update(params, grads):
    """Take a step of gradient descent, after scaling the gradients to a norm of at most theta."""
    norm = np.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    for name, grad in grads.items():
        params[name] -= lr * min(1, theta / norm) * grad


def generate(prefix, length, temperature=0.5):
    """Return a text of `length` characters that starts with the prefix; draw the other ones."""
    h, written = np.zeros((1, H), dtype), [vocab.index(character) for character in prefix]
    for t in range(length - 1):
        logits, h = step(one_hot(written[t : t + 1]), h, params)
        if t + 1 == len(written):
            scores = logits[0].astype("float64")
            p = np.exp((scores - scores.max()) / temperature)
            p[0] = 0  # the unused token
            written.append(rng.choice(V, p=p / p.sum()))
    return "".join(vocab[token] for token in written)


for epoch in range(1, num_epochs + 1):
    # Cut the text into B rows, from another offset in each epoch. A minibatch has T characters of
    # each row and continues where the previous minibatch ended, so the state is carried over.
    offset = np.random.RandomState([seed, 2, epoch]).randint(T)
    width = (len(tokens) - offset - 1) // B
    X, Y = (tokens[s : s + B * width].reshape(B, width) for s in (offset, offset + 1))
    h, losses = np.zeros((B, H), dtype), []
    for t in range(0, width - T + 1, T):
        mean_loss, grads, h = gradients(X[:, t : t + T], Y[:, t : t + T], h, params)
        update(params, grads)
        losses.append(float(mean_loss))
    print(f"epoch {epoch:2}: loss {sum(losses) / len(losses):.3f}  {generate(text[:20], 50)!r}")
print(generate(text[:20], 400))
