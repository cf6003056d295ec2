"""A character-level recurrent network in TensorFlow: `python tensorflow_rnn.py book.txt`.

It learns to predict the next character of a text, by default a story, and writes new text.
Sizes: B rows of a minibatch, T time steps, V characters in the vocabulary, H hidden units.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

# One thread is almost as fast as two, and on a busy machine much faster.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

B, T, H, num_epochs = 32, 35, 256, 20
lr, theta, sigma = 1.0, 1.0, 0.05  # learning rate, largest gradient norm, size of initial weights
dtype, rng = tf.float32, np.random.RandomState(0)

# Read the text. Each character becomes a token: its index in the vocabulary.
path = sys.argv[1] if len(sys.argv) > 1 else "rnn_scratch/text/books/the_tide_clock.txt"
text = Path(path).read_text(encoding="utf-8-sig")
vocab = sorted(set(text))
tokens, V = np.array([vocab.index(character) for character in text]), len(vocab)
if len(tokens) < (B + 1) * T:
    sys.exit(f"The text has {len(tokens)} characters; {(B + 1) * T} are needed.")

# Initialize the parameters: weights W are random and small, and biases b are zero.
shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
values = {n: rng.normal(0, sigma, s) if "W" in n else np.zeros(s) for n, s in shapes.items()}
params = {name: tf.Variable(array, dtype=dtype) for name, array in values.items()}


def encode(tokens):
    """Return tokens (...) as one-hot vectors (..., V): 1 at the token, and 0 elsewhere."""
    return tf.one_hot(tokens, V, dtype=dtype)


def step(x, h, params):
    """Return the logits (B, V) and the next hidden state, given x (B, V) and h (B, H)."""
    h = tf.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
    return h @ params["W_hq"] + params["b_q"], h


def forward(X, h, params):
    """Read tokens (B, T) step by step; return the logits (T*B, V) and the last hidden state."""
    outputs = []
    for x in tf.unstack(encode(tf.transpose(X))):  # one time step of all rows, (B, V)
        logits, h = step(x, h, params)
        outputs.append(logits)
    return tf.concat(outputs, 0), h


def loss(logits, Y):
    """Return the mean cross-entropy for targets (B, T): the mean of -log p(next character)."""
    labels = tf.reshape(tf.transpose(Y), [-1])  # in the order of the logits
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


@tf.function  # compile the function, which is faster
def gradients(X, Y, h, params):
    """Return the loss, its gradient w.r.t. each parameter, and the last hidden state."""
    with tf.GradientTape() as tape:
        logits, h = forward(X, h, params)
        mean_loss = loss(logits, Y)
    return mean_loss, tape.gradient(mean_loss, params), h


def update(params, grads):
    """Take one step of gradient descent, after clipping the gradients to norm theta."""
    norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))
    scale = tf.minimum(theta / norm, 1)
    for name, param in params.items():
        param.assign_sub(lr * scale * grads[name])
    return params


def generate(prefix, length, temperature=0.5):
    """Continue the prefix to `length` characters; a lower temperature is more cautious."""
    rng = np.random.RandomState(0)  # so that samples differ only by what was learned
    h, written = tf.zeros((1, H), dtype), [vocab.index(character) for character in prefix]
    for t in range(length - 1):
        logits, h = step(encode(written[t : t + 1]), h, params)
        if t + 1 == len(written):  # the prefix has been read
            scores = np.asarray(logits[0], "float64") / temperature
            p = np.exp(scores - scores.max())
            written.append(rng.choice(V, p=p / p.sum()))
    return "".join(vocab[token] for token in written)


# Train. In each epoch, cut the text into B long rows, from another offset. A minibatch has T tokens
# of each row. It continues the previous minibatch and starts with its last hidden state.
for epoch in range(1, num_epochs + 1):
    offset = rng.randint(T)
    width = (len(tokens) - offset - 1) // B
    rows = tf.constant(tokens[offset : offset + B * width + 1])
    X, Y = tf.reshape(rows[:-1], (B, width)), tf.reshape(rows[1:], (B, width))
    h, losses = tf.zeros((B, H), dtype), []
    for t in range(0, width - T + 1, T):
        mean_loss, grads, h = gradients(X[:, t : t + T], Y[:, t : t + T], h, params)
        params = update(params, grads)
        losses.append(float(mean_loss))
    print(f"epoch {epoch:2}  loss {np.mean(losses):.3f}  {generate(text[:20], 60)!r}")
print(generate(text[:20], 400))
