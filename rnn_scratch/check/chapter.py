"""The pieces of the book's chapter whose arguments have no counterpart in the contract.

`get_params` draws the parameters, `RNNModelScratch` stores functions, `predict_ch8` reads
characters, and `train_epoch_ch8` trains a model of the book.
"""

import contextlib
import inspect
import itertools
import math
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..contract import Model, ModelConfig, UpdateRule
from . import naming, training
from .case import Case
from .forms import Form, find_array_module, find_device
from .network_forms import Converter
from .results import Result

# Errata in a function's source, by backend, with their numbers on the errata page.
PATTERNS = {
    "tensorflow": {
        r"reshape\(Y,": "erratum 1: targets are batch-major, although logits are time-major",
        r"grad \*\* 2.*\.numpy\(\)": "erratum 9: `.numpy()` cannot be compiled",
        r"persistent=True": "erratum 14: a persistent tape is used for only one gradient",
    },
    "torch": {r"\.detach_\(\)": "erratum 11: detaching in place is impossible for a view"},
    "mxnet": {r"(?m)^ *\w+\.detach\(\)": "erratum 16: the detached state is discarded"},
}
LEARNING_RATE, THETA = 0.5, 1.0


def list_errata(function: Any, backend: str) -> list[str]:
    """Return the errata of the book that a function's source contains."""
    source = naming.get_source(function)
    return [text for key, text in PATTERNS.get(backend, {}).items() if re.search(key, source)]


class BookModel:
    """A model with the interface of the book's, computed by the project's functions."""

    def __init__(self, case: Case, model: Model) -> None:
        """Store the model, whose parameters may be updated in place."""
        self.case, self.model, self.is_recorded = case, model, False
        self.params = self.trainable_variables = [*model.params.values()]
        self.vocab_size, self.num_hiddens = model.options[:2]

    def __call__(self, X: Any, state: Any, params: Any = None) -> Any:
        """Return time-major logits (T*B, V) and the next state for tokens (B, T)."""
        tokens = self.case.tensor(np.array(self.case.to_arrays(X)).astype("int64"))
        named = dict(zip(self.model.params, params or self.params))
        logits, state = self.case.scratch.forward(tokens, tuple(state), named, self.model.options)
        self.is_recorded |= bool(getattr(logits, "requires_grad", False))
        return logits, state

    def begin_state(self, batch_size: int, *_: Any, **__: Any) -> Any:
        """Return a state of zeros."""
        return self.case.scratch.init_state(batch_size, self.model.options)


class Vocab:
    """A vocabulary with the interface of the book's; its tokens are consecutive characters."""

    def __init__(self, size: int) -> None:
        """Create a vocabulary of `size` characters."""
        self.idx_to_token = [chr(ord("a") + index) for index in range(size)]

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.idx_to_token)

    def __getitem__(self, tokens: Any) -> Any:
        """Return the index of a token, or the indices of several."""
        if isinstance(tokens, str):
            return self.idx_to_token.index(tokens)
        return [self[token] for token in tokens]


def list_params_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `init_params` that draws parameters of given sizes."""
    kinds = ["vocab_size", "num_hiddens", "device"]
    bound = naming.bind_arguments(function, kinds, {}) or []

    def adapted(arrays: Any, options: ModelConfig) -> Any:
        values = dict(zip(kinds, (options.vocab_size, options.num_hiddens, find_device(case))))
        params = function(*(values[kind] for kind in bound))
        if not isinstance(params, dict):
            params = dict(zip(arrays, params, strict=True))
        return {name: params[name] for name in arrays}

    read = getattr(getattr(function, "__code__", None), "co_names", ())
    names = [name for name in inspect.signature(function).parameters if f"{name}s" in read]
    found = [f"erratum 7: it reads the global `{name}s` instead of its argument" for name in names]
    dtype = "float64"
    with contextlib.suppress(Exception):
        dtype = str(case.to_arrays(adapted(case.arrays, case.options)["b_q"]).dtype)
    what = "`init_params` with sizes, which draws the parameters"
    adapted.__name__, cell = role, case.options.cell
    yield Form(role, adapted, what, cell, {"dtype": dtype}, check=init_params, errata=found)


def init_params(case: Case) -> Iterator[Result]:
    """Check that drawn weights have the right shapes and differ, and that biases are zero."""
    for name, param in case.scratch.init_params(case.arrays, case.options).items():
        array = case.to_arrays(param)
        yield Result(f"{name}, shape", str(array.shape), str(case.arrays[name].shape))
        if name.startswith("b_"):
            yield Result(name, array, np.zeros_like(array), 0)
        elif array.size > 1:
            is_drawn = len(np.unique(array)) > array.size // 2 and np.isfinite(array).all()
            yield Result(f"{name}, drawn at random", str(bool(is_drawn)), "True")
        if hasattr(param, "requires_grad"):
            yield Result(f"{name}, requires a gradient", str(param.requires_grad), "True")


def list_model_forms(role: str, cls: type, case: Case) -> Iterator[Form]:
    """Yield the form of `forward` as a class that stores the functions to call."""
    kinds = ["vocab_size", "num_hiddens", "device", "getparams", "initstate", "forwardfn"]
    bound = naming.bind_arguments(cls, kinds, {})
    convert = Converter(case, role)
    if not bound or "forwardfn" not in bound:
        return

    def adapted(x: Any, state: Any, params: Any, options: Any = None, masks: Any = None) -> Any:
        options = options or case.options

        def forward(inputs: Any, state: Any, values: Any) -> Any:
            named, logits = dict(zip(params, values, strict=True)), []
            for vectors in inputs:  # (B, V)
                output, state = case.scratch.step(
                    _cast(case, vectors, options), state, named, options
                )
                logits.append(output)
            return find_array_module(case.backend).concatenate(logits), state

        values = {"vocab_size": params["b_q"].shape[0], "num_hiddens": params["W_hq"].shape[0]}
        values |= {"device": find_device(case), "forwardfn": forward}
        values |= {"getparams": lambda *_: [*params.values()], "initstate": None}
        model = cls(*(values[kind] for kind in bound))
        has_params = "params" in inspect.signature(model).parameters
        result = model(x, state, *[[*params.values()]] * has_params)
        return convert(result, state, params, x.shape[1])

    adapted.__name__ = role
    yield Form(role, adapted, "`forward` of a class that calls a function", case.options.cell)


def list_predict_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `predict` with a prefix of characters."""
    kinds = ["prefix", "num_preds", "model", "vocab", "device", "params"]
    bound = naming.bind_arguments(function, kinds, {}) or []

    def call(book: BookModel, prefix: str, num_preds: int) -> Any:
        values = {"prefix": prefix, "num_preds": num_preds, "vocab": Vocab(book.vocab_size)}
        values |= {"model": book, "device": find_device(case), "params": book.params}
        return function(*(values[kind] for kind in bound))

    def adapted(model: Model, prefix: Any, num_preds: int, _choose_token: Any) -> Any:
        vocab = Vocab(model.options.vocab_size)
        text = call(
            BookModel(case, model),
            "".join(vocab.idx_to_token[token] for token in prefix),
            num_preds,
        )
        return [vocab[character] for character in text]

    book, found = BookModel(case, case.model()), list[str]()
    with contextlib.suppress(Exception):
        call(book, "ab", 2)
    if book.is_recorded:
        found.append("erratum 15: operations are recorded, so the graph grows with every character")
    try:
        call(book, "", 2)
    except Exception as error:
        if isinstance(error, IndexError):
            found.append("erratum 13: an empty prefix raises an IndexError")
    what = "`predict` with a prefix of characters and the most likely characters"
    adapted.__name__ = role
    yield Form(role, adapted, what, case.options.cell, check=predict, errata=found)


def predict(case: Case) -> Iterator[Result]:
    """Compare the most likely tokens after several prefixes."""
    model = case.model({name: array * 8 for name, array in case.arrays.items()})
    for length in (1, 2, 5):
        prefix = [(3 * i + length) % case.options.vocab_size for i in range(length)]
        tokens = case.scratch.predict(model, prefix, 12, lambda logits: int(logits.argmax()))
        yield Result(f"tokens after {length} of the prefix", np.array(tokens), tolerance=0)


def list_epoch_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `train_epoch` with the book's model, iterator and updater."""
    kinds = ["model", "trainiter", "loss", "updater", "device", "userandomiter", "params"]
    bound = naming.bind_arguments(function, kinds, {}) or []

    def adapted(model: Model, minibatches: Any, updates: Any, carry: bool, *_: Any) -> Any:
        batches = [batch.map(case.tensor) for batch in minibatches]
        book, lr = BookModel(case, model), float(next(updates).lr)
        values = {"model": book, "params": book.params, "device": find_device(case)}
        values |= {"trainiter": [(b.X, b.Y) for b in batches], "userandomiter": not carry}
        values |= _make_tools(case.backend.name, book.params, lr)
        result = function(*(values[kind] for kind in bound))
        perplexity = result[0] if isinstance(result, tuple) else result
        arrays = {n: case.to_arrays(p) for n, p in zip(model.params, book.params)}
        model.params = case.scratch.init_params(arrays, model.options)
        return [math.log(float(perplexity))] * len(batches), ()

    what = "`train_epoch` with the book's model, iterator and updater"
    adapted.__name__ = role
    overrides = {"dtype": case.options.dtype}
    yield Form(role, adapted, what, case.options.cell, overrides, check=train_epoch)


def train_epoch(case: Case) -> Iterator[Result]:
    """Compare the perplexity and the parameters after an epoch in which θ is 1."""
    arrays = case.arrays | {"W_hq": case.arrays["W_hq"] * 8}  # so that some gradients exceed θ
    for carry, name in ((True, "sequential"), (False, "random")):
        model, batches = case.model(arrays, "sgd"), case.epoch(0)[0][:3] or [case.batch]
        updates = itertools.repeat(UpdateRule(lr=LEARNING_RATE, theta=THETA))
        losses, _ = case.scratch.train_epoch(model, iter(batches), updates, carry)
        perplexity = math.exp(sum(losses) / len(losses))
        yield Result(f"{name}, perplexity", perplexity, tolerance=training.TOLERANCE)
        yield training.trained_result(case, model, f"{name}, parameters")


def _make_tools(backend: str, params: list[Any], lr: float) -> dict[str, Any]:
    """Return a loss and an updater of the kinds that the book's function expects."""
    if backend == "tensorflow":
        tf = sys.modules["tensorflow"]

        def apply(pairs: Any) -> None:
            for grad, param in pairs:
                param.assign_sub(lr * grad)

        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
        loss = lambda y, y_hat: tf.reduce_mean(cross_entropy(y, y_hat))  # noqa: E731
        return {"loss": loss, "updater": SimpleNamespace(apply_gradients=apply)}
    module = sys.modules[backend]
    nn = module.nn.CrossEntropyLoss if backend == "torch" else module.gluon.loss.SoftmaxCELoss

    def update(batch_size: int = 1) -> None:
        for param in params:
            new = (param.detach() if backend == "torch" else param) - lr * param.grad / batch_size
            (param.data if backend == "torch" else param)[:] = new
            param.grad[:] = 0

    return {"loss": nn(), "updater": update}


def _cast(case: Case, vectors: Any, options: ModelConfig) -> Any:
    return case.tensor(np.array(case.to_arrays(vectors)).astype(options.dtype))
