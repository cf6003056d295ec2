"""A character-level recurrent network in TensorFlow, one file: `python tensorflow_rnn.py book.txt`.

It learns to predict the next character of a text (by default, a short story), and then writes.
Shapes: B rows of text, T time steps, V characters in the vocabulary, H hidden units.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

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
    params[name] = tf.Variable(array.astype("float32").astype(dtype))


def step(x, h, params):
    """Return the logits (B, V) and the next hidden state (B, H) from x (B, V) and h (B, H)."""
    h = tf.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
    return h @ params["W_hq"] + params["b_q"], h


def forward(X, h, params):
    """Read tokens (B, T); return the logits (T*B, V), step by step, and the last hidden state."""
    outputs = []
    for x in tf.unstack(one_hot(tf.transpose(X))):  # the tokens of one time step, (B, V)
        logits, h = step(x, h, params)
        outputs.append(logits)
    return tf.concat(outputs, 0), h


def one_hot(tokens):
    """Return tokens (...) as one-hot vectors (..., V)."""
    return tf.one_hot(tokens, V, dtype=dtype)


@tf.function  # compile: without it, each operation is started by Python
def gradients(X, Y, h, params):
    """Return the mean loss of targets Y, its gradients, and the last hidden state."""
    with tf.GradientTape() as tape:
        logits, h = forward(X, h, params)
        labels = tf.reshape(tf.transpose(Y), [-1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        mean_loss = tf.reduce_mean(losses)
    return mean_loss, tape.gradient(mean_loss, params), h


def update(params, grads):
    """Take a step of gradient descent, after scaling the gradients to a norm of at most theta."""
    norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))
    for name, grad in grads.items():
        params[name].assign_sub(lr * tf.minimum(theta / norm, 1) * grad)


def generate(prefix, length, temperature=0.5):
    """Return a text of `length` characters that starts with the prefix; draw the other ones."""
    h, written = tf.zeros((1, H), dtype), [vocab.index(character) for character in prefix]
    for t in range(length - 1):
        logits, h = step(one_hot(written[t : t + 1]), h, params)
        if t + 1 == len(written):
            scores = logits[0].numpy().astype("float64")
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
    h, losses = tf.zeros((B, H), dtype), []
    for t in range(0, width - T + 1, T):
        x, y = (tf.constant(array[:, t : t + T]) for array in (X, Y))
        mean_loss, grads, h = gradients(x, y, h, params)
        update(params, grads)
        losses.append(float(mean_loss))
    print(f"epoch {epoch:2}: loss {sum(losses) / len(losses):.3f}  {generate(text[:20], 50)!r}")
print(generate(text[:20], 400))
