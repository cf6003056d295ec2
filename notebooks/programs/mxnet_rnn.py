"""A character-level recurrent network in MXNet, in one file: `python mxnet_rnn.py book.txt`.

It learns to predict the next character of a text (by default, a short story), and then writes.
Shapes: B rows of text, T time steps, V characters in the vocabulary, H hidden units.
"""

import sys
from pathlib import Path

import numpy

numpy.bool = bool  # MXNet 1.9.1 uses a name that NumPy 1.24 removed
from mxnet import autograd, np, npx  # noqa: E402

npx.set_np()

B, T, H = 32, 35, 256
num_epochs, lr, theta, sigma = 10, 1.0, 1.0, 0.05
dtype, seed = "float32", 0

# Read the text. Each character becomes a token, its index in `vocab`; token 0 is unused.
story = Path(__file__).parents[2] / "rnn_scratch/text/books/the_tide_clock.txt"
text = Path(sys.argv[1] if sys.argv[1:] else story).read_text(encoding="utf-8")
vocab = ["<unk>", *sorted(sorted(set(text)), key=text.count, reverse=True)]
tokens, V = numpy.array([vocab.index(character) for character in text]), len(vocab)
print(f"{len(text):,} characters, {V - 1} different")

# Draw the parameters: weights W near zero, and zero biases b.
shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
rng, params = numpy.random.RandomState([seed, 1, 0]), {}
for name, shape in shapes.items():
    array = rng.normal(0, sigma, shape) if name.startswith("W") else numpy.zeros(shape)
    params[name] = np.array(array.astype("float32"), dtype=dtype)
    params[name].attach_grad()


def step(x, h, params):
    """Return the logits (B, V) and the next hidden state (B, H) from x (B, V) and h (B, H)."""
    h = np.tanh(np.dot(x, params["W_xh"]) + np.dot(h, params["W_hh"]) + params["b_h"])
    return np.dot(h, params["W_hq"]) + params["b_q"], h


def forward(X, h, params):
    """Read tokens (B, T); return the logits (T*B, V), step by step, and the last hidden state."""
    outputs = []
    for x in one_hot(X.T):  # the tokens of one time step, (B, V)
        logits, h = step(x, h, params)
        outputs.append(logits)
    return np.concatenate(outputs), h


def one_hot(tokens):
    """Return tokens (...) as one-hot vectors (..., V)."""
    return npx.one_hot(np.array(tokens, dtype="int32"), V).astype(dtype)


def gradients(X, Y, h, params):
    """Return the mean loss of targets Y, its gradients, and the last hidden state."""
    with autograd.record():
        logits, h = forward(X, h, params)
        log_p = npx.log_softmax(logits)
        mean_loss = -(log_p * one_hot(Y.T.reshape(-1))).sum() / len(log_p)
    mean_loss.backward()
    return mean_loss, {name: param.grad for name, param in params.items()}, h.detach()


def update(params, grads):
    """Take a step of gradient descent, after scaling the gradients to a norm of at most theta."""
    norm = np.sqrt(sum((grad * grad).sum() for grad in grads.values()))
    for name, grad in grads.items():
        params[name] -= lr * np.minimum(1, theta / norm) * grad


def generate(prefix, length, temperature=0.5):
    """Return a text of `length` characters that starts with the prefix; draw the other ones."""
    h, written = np.zeros((1, H), dtype=dtype), [vocab.index(character) for character in prefix]
    for t in range(length - 1):
        logits, h = step(one_hot(written[t : t + 1]), h, params)
        if t + 1 == len(written):
            scores = logits[0].asnumpy().astype("float64")
            p = numpy.exp((scores - scores.max()) / temperature)
            p[0] = 0  # the unused token
            written.append(rng.choice(V, p=p / p.sum()))
    return "".join(vocab[token] for token in written)


for epoch in range(1, num_epochs + 1):
    # Cut the text into B rows, from another offset in each epoch. A minibatch has T characters of
    # each row and continues where the previous minibatch ended, so the state is carried over.
    offset = numpy.random.RandomState([seed, 2, epoch]).randint(T)
    width = (len(tokens) - offset - 1) // B
    X, Y = (tokens[s : s + B * width].reshape(B, width) for s in (offset, offset + 1))
    h, losses = np.zeros((B, H), dtype=dtype), []
    for t in range(0, width - T + 1, T):
        mean_loss, grads, h = gradients(X[:, t : t + T], Y[:, t : t + T], h, params)
        update(params, grads)
        losses.append(float(mean_loss))
    print(f"epoch {epoch:2}: loss {sum(losses) / len(losses):.3f}  {generate(text[:20], 50)!r}")
print(generate(text[:20], 400))
