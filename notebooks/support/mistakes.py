"""The mistakes that students find in the lessons, as changes to the source of each backend."""

from typing import NamedTuple

from rnn_scratch.registry import BUILTIN_BACKENDS


class Mistake(NamedTuple):
    """A mistake.

    Attributes:
        name: The description that students read.
        function: The function that contains the mistake.
        changes: For each backend, old and new source texts in alternation.
    """

    name: str
    function: str
    changes: dict[str, tuple[str, ...]]


def everywhere(*change: str) -> dict[str, tuple[str, ...]]:
    """Return a dict with the same change for every backend."""
    return dict.fromkeys(BUILTIN_BACKENDS, change)


MISTAKES = [
    Mistake("targets not transposed", "loss", {
        **everywhere("targets.T.reshape(-1)", "targets.reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets, [-1])"),
    }),
    Mistake("W_hh transposed in the step", "rnn", {
        **everywhere('h @ params["W_hh"] + ', 'h @ params["W_hh"].T + '),
        "tensorflow": ('h @ params["W_hh"] + ', 'h @ tf.transpose(params["W_hh"]) + '),
    }),
    Mistake("clip by the norm of one parameter instead of all", "clip", everywhere(
        "for grad in grads.values())", "for grad in [*grads.values()][:1])")),
    Mistake("learning rate applied twice", "sgd", everywhere(
        "update.lr *", "update.lr * update.lr *")),
    Mistake("state carried in random sampling", "train_epoch", everywhere(
        "if state is None or not carry:", "if state is None:")),
    Mistake("argmax over the wrong axis", "predict", {
        "numpy": ("choose_token(logits[0])", "choose_token(logits[:, 0])"),
        "torch": ("choose_token(logits.cpu().numpy()[0])",
                  "choose_token(logits.cpu().numpy()[:, 0])"),
        "tensorflow": ("choose_token(logits.numpy()[0])", "choose_token(logits.numpy()[:, 0])"),
        "mxnet": ("choose_token(logits.asnumpy()[0])", "choose_token(logits.asnumpy()[:, 0])"),
        "jax": ("choose_token(np.asarray(logits)[0])", "choose_token(np.asarray(logits)[:, 0])"),
    }),
    Mistake("the candidate added in full", "gru", everywhere(
        "(z * h + (1 - z) * h_tilde,)", "(z * h + h_tilde,)")),
]  # fmt: skip
