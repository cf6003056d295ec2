"""One mistake at a time, made in the source of a backend or of the core.

Each sabotage is a change of text: what stands in the source, and what is put in its place. A
source in which the text does not stand exactly where it is expected fails the test, so that the
sabotages follow the code.
"""

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import NamedTuple

COUNTER = itertools.count()


class Sabotage(NamedTuple):
    """A mistake: the piece that `check` must name first, and the change in each backend."""

    mistake: str
    piece: str
    result: str  # what the row's result or place begins with; "" for any
    changes: dict[str, tuple[str, ...]]  # what stands there, what is put there; and so on


CARRY = "if state is None or not carry:"  # stands in train_epoch first, then in evaluate

SABOTAGES = [
    Sabotage("targets not transposed", "loss", "mean", {
        "numpy": ("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "torch": ("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "mxnet": ("labels = targets.T.reshape(-1)", "labels = targets.reshape(-1)"),
        "tensorflow": ("tf.reshape(tf.transpose(targets), [-1])", "tf.reshape(targets, [-1])"),
    }),
    Sabotage("sum in place of mean", "loss", "mean", {
        "numpy": (
            "return -_log_softmax(logits)[np.arange(len(labels)), labels].mean()",
            "return -_log_softmax(logits)[np.arange(len(labels)), labels].sum()",
        ),
        "torch": ("entropy(logits, labels)", "entropy(logits, labels, reduction='sum')"),
        "tensorflow": ("tf.reduce_mean(tf.nn.sparse", "tf.reduce_sum(tf.nn.sparse"),
        "mxnet": (".mean()", ".sum()"),
    }),
    Sabotage("state not carried", "train_epoch", "sequential", dict.fromkeys(
        ("numpy", "torch", "tensorflow", "mxnet"), (CARRY, "if True:"))),
    Sabotage("state carried in random sampling", "train_epoch", "random", dict.fromkeys(
        ("numpy", "torch", "tensorflow", "mxnet"), (CARRY, "if state is None:"))),
    Sabotage("state not detached", "detach", "gradients", {
        "torch": ("return tuple(s.detach() for s in state)", "return state"),
        "tensorflow": ("return tuple(tf.stop_gradient(s) for s in state)", "return state"),
        "mxnet": ("return tuple(s.detach() for s in state)", "return state"),
    }),
    Sabotage("clip per parameter instead of over all", "clip", "result", {
        "numpy": (
            "{name: grad * scale for name, grad in grads.items()}",
            "{name: grad * (theta / max(np.sqrt((grad * grad).sum()), theta))"
            " for name, grad in grads.items()}",
        ),
        "torch": (
            "{name: grad * scale for name, grad in grads.items()}",
            "{name: grad * (theta / (grad * grad).sum().sqrt().clamp(min=theta))"
            " for name, grad in grads.items()}",
        ),
        "tensorflow": (
            "{name: grad * scale for name, grad in grads.items()}",
            "{name: grad * (theta / tf.maximum(tf.sqrt(tf.reduce_sum(grad * grad)), theta))"
            " for name, grad in grads.items()}",
        ),
        "mxnet": (
            "{name: grad * scale for name, grad in grads.items()}",
            "{name: grad * (theta / np.maximum(np.sqrt((grad * grad).sum()), theta))"
            " for name, grad in grads.items()}",
        ),
    }),
    Sabotage("clip by norm + 1e-6", "clip", "result", {
        "numpy": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
        "torch": ("theta / norm.clamp(min=theta)", "(theta / (norm + 1e-6)).clamp(max=1)"),
        "tensorflow": ("theta / tf.maximum(norm, theta)", "tf.minimum(1.0, theta / (norm + 1e-6))"),
        "mxnet": ("theta / np.maximum(norm, theta)", "np.minimum(1, theta / (norm + 1e-6))"),
    }),
    Sabotage("tanh derivative from the pre-activation", "gradients", "W_xh", {
        "numpy": ("return 1 - h * h if", "return 1 - np.arctanh(h) ** 2 if"),
    }),
    Sabotage("bias gradient missing", "gradients", "b_h", {
        "numpy": ('"b_h": dz.sum(0)', '"b_h": np.zeros_like(params["b_h"])'),
    }),
    Sabotage("learning rate applied twice", "update", "plain", {
        "numpy": ("param -= change", "param -= lr * change"),
        "torch": ("param -= change", "param -= lr * change"),
        "tensorflow": ("param.assign_sub(change)", "param.assign_sub(lr * change)"),
        "mxnet": ("param -= change", "param -= lr * change"),
    }),
    Sabotage("argmax over the wrong axis", "predict", "", dict.fromkeys(
        ("numpy", "torch", "tensorflow", "mxnet"),
        ("choose(array(logits)[0])", "choose(array(logits)[:, 0])"))),
    Sabotage("clip on unsummed sparse rows", "clip", "own gradients", {
        "tensorflow": (
            "inputs = rows(", "inputs = tf.gather(",  # whose gradient is sparse
            "grads = {name: tf.convert_to_tensor(grad) for name, grad in grads.items()}",
            "grads = dict(grads)",
            "norm = tf.sqrt(sum(tf.reduce_sum(grad * grad) for grad in grads.values()))",
            "norm = tf.linalg.global_norm(list(grads.values()))",
        ),
    }),
    Sabotage("W_hh transposed in the step", "step", "logits", {
        **dict.fromkeys(("numpy", "torch", "mxnet"),
                        ('H @ params["W_hh"] + ', 'H @ params["W_hh"].T + ')),
        "tensorflow": ('H @ params["W_hh"] + ', 'H @ tf.transpose(params["W_hh"]) + '),
    }),
    Sabotage("W_hh not transposed on the way back", "gradients", "W_xh", {
        "numpy": ('dz[t + 1] @ params["W_hh"].T', 'dz[t + 1] @ params["W_hh"]'),
        "torch": ("dz[t + 1], W_hh.T", "dz[t + 1], W_hh"),
        "tensorflow": ('tf.einsum("ij->ji", W_hh)', "W_hh"),
        "mxnet": ("product(dz[-1], W_hh)", "product(dz[-1], W_hh.T)"),
    }),
    Sabotage("first step left out of the gradient of W_hh", "gradients", "W_hh", {
        "numpy": ('"W_hh": before.T @ dz', '"W_hh": before[B:].T @ dz[B:]'),
        "torch": ("d_W_hh += H.T @ dz[0]", "pass"),
        "tensorflow": ("_flat(hiddens[:-1]), shared(_flat(dz),",
                       "_flat(hiddens[1:-1]), shared(_flat(dz[1:]),"),
        "mxnet": ("outer(before, dz)",
                  "outer(before[len(H) :], dz[len(H) :])"),
    }),
    Sabotage("input bias left out of the forward pass", "forward", "logits", {
        **dict.fromkeys(("numpy", "torch", "tensorflow", "mxnet"),
                        ('_table(params) + params["b_h"]', '_table(params) + 0')),
    }),
]  # fmt: skip


def sabotaged(backend, change: tuple[str, ...], folder: Path):
    """A copy of the backend with a change in its `scratch`, loaded as a module of its own."""
    name = f"sabotaged_{next(COUNTER)}"
    package = folder / name
    package.mkdir()
    for path in Path(backend.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "scratch.py":
            for old, new in zip(change[::2], change[1::2]):
                assert old in text, f"{old!r} is not in {path}: make the sabotage follow the code"
                text = text.replace(old, new, 1)
        (package / path.name).write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(
        name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
