"""Training and prediction of a backend held against the NumPy reference.

Learning rate and θ are such that the clip acts in many of the updates, but not in all: a check in
which it never acts proves nothing about it, and the rows say how often it did.
"""

import functools
from collections.abc import Iterator

import numpy as np

from .. import registry
from ..contract import Arrays, Options, Update
from ..exact import GRID
from ..initial import initial
from ..runs import decoding
from ..text import corpus, minibatches, vocabulary
from .cases import ROUNDING, SIGMA, B, Case, H, Row, T, tensors_as_arrays

LR, THETA = 0.5, 0.4
UPDATES = (1, 10, 100)
AFTER = dict(zip(UPDATES, (1e-14, 1e-12, 1e-10)))  # allowed, in float64


def train_epoch(case: Case) -> Iterator[Row]:
    """Parameters after 1, 10 and 100 updates, loss and state, in both ways of sampling."""
    tokens, arrays = built_in_text(case.embedding)
    how = Update(LR, THETA, None)
    for sampling in ("sequential", "random"):
        carry = minibatches.carries(sampling)
        batches = list(minibatches.of_epoch(tokens, B, T, sampling, 0, 1))[: UPDATES[-1]]
        acted = clip_acts(case, batches, how, carry)
        for updates in UPDATES[:2] if case.short else UPDATES:
            model, candidate = case.models(arrays)
            summed, count, state = case.reference.train_epoch(model, batches[:updates], how, carry)
            found_sum, found_count, found_state = case.backend.train_epoch(
                candidate, iter(batches[:updates]), how, carry
            )
            after = f"{sampling}, {updates} updates"
            note = f"the clip acted in {sum(acted[:updates])} of {updates}"
            found = candidate.to_arrays(candidate.params)
            allowed = AFTER[updates]
            yield case.row("train_epoch", after, model.params, found, allowed, note)
        yield case.row(
            "train_epoch", f"{sampling}, loss", summed / count, found_sum / count, allowed
        )
        yield case.row("train_epoch", f"{sampling}, tokens", count, found_count, 0)
        yield case.row(
            "train_epoch",
            f"{sampling}, state",
            state,
            tensors_as_arrays(case, found_state),
            allowed,
        )


def evaluate(case: Case) -> Iterator[Row]:
    """The loss of a text, with the state carried and without."""
    tokens, arrays = built_in_text(case.embedding)
    model, candidate = case.models(arrays)
    batches = list(minibatches.whole(tokens[:500], B, T))
    for carry in (True, False):
        summed, count = case.reference.evaluate(model, batches, carry)
        found, found_count = case.backend.evaluate(candidate, iter(batches), carry)
        how = "state carried" if carry else "state from zeros"
        yield case.row("evaluate", how, summed / count, found / found_count)
        yield case.row("evaluate", f"{how}, tokens", count, found_count, 0)


def predict(case: Case) -> Iterator[Row]:
    """Greedy text of a trained model in float64, its logits in float32."""
    if case.ours.activation != "tanh" or case.embedding:
        return  # the trained model is another one
    tokens, arrays = trained_model()
    model, candidate = case.models(arrays)
    prefix = tokens[:15].tolist()
    if case.ours.dtype == "float64":
        expected = case.reference.predict(model, prefix, 100, decoding.greedy)
        found = case.backend.predict(candidate, prefix, 100, decoding.greedy)
        yield case.row("predict", "greedy tokens", np.array(expected), np.array(found), 0)
        return
    # In float32 two logits may be too close to call, and the texts part: compare the logits.
    kept: list[list[np.ndarray]] = [[], []]
    for backend, network, logits in (
        (case.reference, model, kept[0]), (case.backend, candidate, kept[1]),
    ):  # fmt: skip
        written = iter(tokens[15:115].tolist())

        def choose(row: np.ndarray, logits: list = logits, written: Iterator = written) -> int:
            logits.append(np.array(row))
            return next(written)

        backend.predict(network, prefix, 100, choose)
    yield case.row("predict", "logits", np.stack(kept[0]), np.stack(kept[1]), 10 * ROUNDING)


def clip_acts(case: Case, batches: list, how: Update, carry: bool) -> list[bool]:
    """In which of the updates the reference's gradient is longer than θ."""
    acted, state = [], None
    model, _ = case.models(built_in_text(case.embedding)[1])
    for X, Y in batches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        _, grads, state = case.reference.gradients(model, X, Y, state)
        grads, norm = case.reference.clip(grads, how.theta)
        case.reference.update(model.params, grads, how.lr, how.grid)
        acted.append(bool(norm > how.theta))
    return acted


@functools.cache
def built_in_text(embedding: int) -> tuple[np.ndarray, Arrays]:
    """Tokens of the built-in text, and starting values for its vocabulary."""
    text = vocabulary.normalize(corpus.load(corpus.BUILT_IN, print).content, "chapter")
    vocab = vocabulary.build(text)
    return vocabulary.encode(text, vocab), initial(len(vocab), H, SIGMA, 0, embedding)


@functools.cache
def trained_model() -> tuple[np.ndarray, Arrays]:
    """The same tokens, and a model that has learnt to write words: text to get wrong."""
    tokens, _ = built_in_text(0)
    numpy = registry.load("numpy")
    model = numpy.scratch(initial(int(tokens.max()) + 1, 48, 0.05, 0), Options("tanh", "float64"))
    for epoch in range(1, 41):
        batches = minibatches.of_epoch(tokens[:2000], B, 2 * T, "sequential", 0, epoch)
        # In exact mode: rounding, which grows, would make it another one on each machine.
        numpy.train_epoch(model, batches, Update(grid=GRID), True)
    return tokens, model.to_arrays(model.params)
