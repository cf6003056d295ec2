"""Training and prediction of a backend compared with the NumPy reference.

θ is such that many of the updates are clipped, but not all: a check in which none is proves nothing
about clipping, and the rows say how many were.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import registry
from ..contract import Arrays, Backend, Batch, Model, Options, Params, State, Tensor, Update
from ..exact import GRID
from ..parameters import initial
from ..runs import decoding
from ..settings import Settings
from ..text import corpus, minibatches, vocabulary
from .inputs import PLAIN, ROUNDING, SIGMA, B, Case, Row, T, fact

LR = 0.5
SEQUENTIAL = Settings(batch_size=B, num_steps=T)
RANDOM = Settings(batch_size=B, num_steps=T, sampling="random")
UPDATES = (1, 10, 100)
AFTER = dict(zip(UPDATES, (1e-14, 1e-12, 1e-10)))  # allowed, in float64


def train_minibatch(case: Case) -> Iterator[Row]:
    """One update, clipped: parameters, loss, state, and that `forward` uses the new parameters."""
    model, candidate = case.models(case.arrays)
    _, grads, _ = case.reference.scratch.gradients(model, case.batch, case.states)
    _, norm = case.reference.scratch.clip(grads, None)
    how = Update(LR, float(norm) / 2)
    before = candidate.to_arrays(candidate.params)
    copies = {name: array.copy() for name, array in before.items()}
    loss, state = case.reference.scratch.train_minibatch(model, case.batch, case.states, how)
    actual_loss, actual_state = case.backend.scratch.train_minibatch(
        candidate, *case.minibatch(), how
    )
    actual = candidate.to_arrays(candidate.params)
    yield case.row("train_minibatch", "parameters", model.params, actual)
    yield case.row("train_minibatch", "loss", loss, case.array(actual_loss))
    yield case.row("train_minibatch", "state", state, case.state_arrays(actual_state))
    expected, _ = model.forward(case.batch.X, case.states)
    logits, _ = candidate.forward(case.tensor(case.batch.X), case.state())
    yield case.row("train_minibatch", "logits afterwards", expected, case.array(logits))
    yield case.compare("to_arrays", "copies, which do not change", copies, before, 0)


def train_epoch(case: Case) -> Iterator[Row]:
    """Parameters after some updates, up to 100; losses and state, in both ways of sampling."""
    tokens, arrays = built_in_text(case.options)
    # Many updates, and both ways of sampling, in one case of each cell only, because of the time.
    many = case.plain and case.options.dtype == "float64" and not case.short
    milestones: tuple[int, ...] = UPDATES if many else UPDATES[:2]
    if (case.options.dtype, case.options.activation) == ("float32", "relu"):
        milestones = UPDATES[:1]  # nothing limits the states, and float32's errors grow with them
    for settings in (SEQUENTIAL, RANDOM) if case.plain else (SEQUENTIAL,):
        sampling, carry = settings.sampling, minibatches.carries(settings.sampling)
        batches = list(minibatches.of_epoch(tokens, settings, 1))[: max(milestones[-1], 10)]
        theta = median_norm(case.reference, case.models(arrays)[0], batches, carry)
        how = Update(LR, theta)
        model, candidate = case.models(arrays)
        model, norms = with_norms(case.reference, model)
        first = 0
        state: Any = None
        actual_state: Any = None
        for updates in milestones:
            some, first = batches[first:updates], updates
            losses, state = case.reference.scratch.train_epoch(model, some, how, carry, state)
            actual_losses, actual_state = case.backend.scratch.train_epoch(
                candidate, iter(some), how, carry, actual_state
            )
            actual, allowed = candidate.to_arrays(candidate.params), AFTER[updates]
            note = f"{sum(norm > theta for norm in norms)} of {updates} were clipped"
            result = f"{sampling}, {updates} updates"
            yield case.row("train_epoch", result, model.params, actual, allowed, note)
        result = f"{sampling}, losses"
        if isinstance(actual_losses, list) and {type(x) for x in actual_losses} == {float}:
            yield case.row("train_epoch", result, losses, actual_losses, allowed)
        else:
            yield fact("train_epoch", result, case.label, False, "not a list of floats")
        arrays_of_state = case.state_arrays(actual_state)
        yield case.row("train_epoch", f"{sampling}, state", state, arrays_of_state, allowed)


def evaluate(case: Case) -> Iterator[Row]:
    """The loss of a text, with the state carried and without."""
    tokens, arrays = built_in_text(case.options)
    model, candidate = case.models(arrays)
    batches = list(minibatches.whole(tokens[:200], SEQUENTIAL))
    for carry in (True, False):
        summed, count = case.reference.scratch.evaluate(model, batches, carry)
        actual, actual_count = case.backend.scratch.evaluate(candidate, iter(batches), carry)
        result = "state carried" if carry else "state from zeros"
        yield case.row("evaluate", result, summed / count, actual / actual_count)
        yield case.row("evaluate", f"{result}, tokens", count, actual_count, 0)


def predict(case: Case) -> Iterator[Row]:
    """Greedy text of a trained model in float64, its logits in float32."""
    if not case.plain:
        return  # the trained model is another one
    tokens, arrays = trained_model(case.options.cell)
    model, candidate = case.models(arrays)
    prefix = tokens[:15].tolist()
    both = ((case.reference, model), (case.backend, candidate))
    if case.options.dtype == "float64":
        expected, actual = (
            np.array(backend.scratch.predict(each, prefix, 50, decoding.greedy))
            for backend, each in both
        )
        yield case.row("predict", "greedy tokens", expected, actual, 0)
        return
    # In float32 two logits may be too close for the same choice: compare the logits of one text.
    logits = []
    for backend, each in both:
        chooser = Chooser(tokens[15:65].tolist())
        backend.scratch.predict(each, prefix, 50, chooser)
        logits.append(np.stack(chooser.logits))
    expected, actual = logits
    yield case.row("predict", "logits", expected, actual, 10 * ROUNDING)


class Chooser:
    """Chooses the tokens of a text, and remembers the logits."""

    def __init__(self, tokens: list[int]) -> None:
        """Start at the first token."""
        self.tokens, self.logits = iter(tokens), list[np.ndarray]()

    def __call__(self, logits: np.ndarray) -> int:
        """Return the next token."""
        self.logits.append(np.array(logits))
        return next(self.tokens)


def with_norms(reference: Backend, model: Model) -> tuple[Model, list[float]]:
    """The reference's model, and a list to which each minibatch adds the norm of its gradients."""
    norms: list[float] = []

    def backward(batch: Batch, state: State) -> tuple[Tensor, Params, State]:
        assert model.backward is not None
        loss, grads, state = model.backward(batch, state)
        norms.append(float(reference.scratch.clip(grads, None)[1]))
        return loss, grads, state

    return dataclasses.replace(model, backward=backward), norms


def median_norm(reference: Backend, model: Model, batches: list, carry: bool) -> float:
    """The median norm of the gradients when the reference's model is trained without clipping."""
    model, norms = with_norms(reference, model)
    reference.scratch.train_epoch(model, batches, Update(LR, None), carry)
    return round(float(np.median(norms)), 2)


@functools.cache
def built_in_text(options: Options) -> tuple[np.ndarray, Arrays]:
    """Tokens of the built-in text, and starting values for its vocabulary."""
    text = vocabulary.normalize(corpus.load(corpus.BUILT_IN, print).content, "chapter")
    vocab = vocabulary.build(text)
    arrays = initial(options._replace(vocab_size=len(vocab)), SIGMA, 0)
    return vocabulary.encode(text, vocab), arrays


@functools.cache
def trained_model(cell: str) -> tuple[np.ndarray, Arrays]:
    """The same tokens, and a model that has learned to write words."""
    tokens, _ = built_in_text(PLAIN)
    scratch = registry.load("numpy").scratch
    options = Options(int(tokens.max()) + 1, 48, cell, dtype="float64")
    model = scratch.build(initial(options, 0.05, 0), options)
    settings = Settings(batch_size=B, num_steps=2 * T)
    for epoch in range(1, 16):
        batches = minibatches.of_epoch(tokens[:2000], settings, epoch)
        # In exact mode: rounding differences, which grow, would make another model on each machine.
        scratch.train_epoch(model, batches, Update(grid=GRID), True)
    return tokens, model.to_arrays(model.params)
