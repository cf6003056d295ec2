"""Checks of training and prediction in sequence: resume, train, evaluate, train again, predict.

The sequence reveals bugs that single calls would hide, such as a state lost after many updates.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract import Batch, Model
from ..parameters import trained_arrays
from ..settings import Settings
from ..text import books
from ..training import loop
from ..training.runtime import Runtime
from ..training.setup import prepare_run
from .case import LEARNING_RATES, Case
from .results import Result, weighted_sum

TOLERANCE = 1e-9  # updates amplify rounding errors in losses, states and logits
PARAMS_TOLERANCE = 1e-12  # for parameters after a few updates; scaled for float32
FIRST_PART = 2  # number of updates in an epoch's first part
MANY_UPDATES = 100  # a draw with more updates also has more tokens and models
PREFIX_LENGTH, NUM_TOKENS, MANY_TOKENS = 7, 12, 300
NUM_MODELS = 40  # number of models that are freed and rebuilt
# Trainings of the reference whose results are recorded, because all backends share the order of
# minibatches, the masks, the learning rates and the measures.
TRAININGS = {
    "sequential": Settings(
        cell="lstm",
        num_layers=2,
        embedding=4,
        dropout=0.3,
        num_hiddens=8,
        num_steps=9,
        batch_size=4,
        max_tokens=400,
        valid_share=0.2,
        num_epochs=2,
        optimizer="momentum",
        weight_decay=0.1,
        schedule="cosine",
        warmup=3,
        sigma=0.3,
        theta=0.1,
        dtype="float64",
    ),
    "random, exact": Settings(
        num_hiddens=8,
        num_steps=7,
        batch_size=3,
        max_tokens=300,
        valid_tokens=50,
        num_epochs=2,
        sampling="random",
        optimizer="adam",
        lr=0.05,
        sigma=0.3,
        theta=0.1,
        seed=1,
        exact=True,
    ),
}


def train_minibatch(case: Case, model: Model | None = None) -> Iterator[Result]:
    """Compare one update, starting from a nonzero state."""
    model = model or case.model()
    (batch, start), (_, updates) = case.minibatch(), case.epoch(0)
    loss, state = case.train(model, batch, start, next(updates))
    yield Result("loss", loss, tolerance=TOLERANCE)
    yield trained_result(case, model, "parameters")
    yield Result("state", state, tolerance=TOLERANCE)
    logits, _ = case.forward(model, batch._replace(masks=None), start)
    yield Result("logits afterwards", logits, tolerance=TOLERANCE)
    if case.draw.optimizer not in LEARNING_RATES:  # NaN has a sign of 0 in some frameworks
        return
    # Infinite logits must make each parameter infinite or NaN, so that divergence is noticed. (In
    # MXNet, some elements stay finite if a norm of NaN is not larger than theta.)
    model = case.model({**case.arrays, "b_q": case.arrays["b_q"] * np.inf})
    with np.errstate(all="ignore"):
        case.train(model, batch, start, next(updates))
    finite = {name: np.isfinite(array).all() for name, array in trained_arrays(model).items()}
    yield Result("finite parameters after divergence", finite, tolerance=0)


def train_epoch(case: Case, model: Model, epoch: int = 0) -> Iterator[Result]:
    """Train an epoch; in epoch 0, a second call continues from the state of the first."""
    carry = case.draw.carry == (epoch == 0)  # the second epoch uses the other sampling method
    state = case.minibatch()[1] if epoch == 0 else None
    parts = ((0, None),) if epoch else ((0, FIRST_PART), (FIRST_PART, None))
    for index, (num_skipped, end) in enumerate(parts, 1):
        batches, updates = case.epoch(epoch, num_skipped)
        part = iter(batches[:end])
        losses, last = case.scratch.train_epoch(model, part, updates, carry, state)
        state = last if epoch == 0 else None
        name = f"epoch {epoch + 1}, {'sequential' if carry else 'random'}, part {index}"
        yield trained_result(case, model, f"{name}, parameters")
        yield Result(f"{name}, type of losses", _types(losses, *losses), "list float")
        yield Result(f"{name}, losses", np.array(losses), tolerance=TOLERANCE)
        yield Result(f"{name}, state", last, tolerance=TOLERANCE)


def to_arrays(case: Case) -> Iterator[Result]:
    """Check that `to_arrays` returns copies that do not change when the parameters do."""
    model = case.model()
    arrays = model.to_arrays(model.params)
    expected = {name: array.copy() for name, array in arrays.items()}
    case.scratch.sgd(model.params, dict(model.params), {}, next(case.epoch(0)[1]))
    yield Result("copies, which do not change", arrays, expected, 0)


def evaluate(case: Case, model: Model | None = None) -> Iterator[Result]:
    """Evaluate a text twice and compare each mean loss with the reference's."""
    model, draw = model or case.model(), case.draw
    rng, expected = np.random.RandomState(draw.seed or 0), trained_arrays(model)
    shape = max(draw.num_updates, 4), draw.batch_size, draw.num_steps + 1
    tokens = rng.randint(0, draw.options.vocab_size, shape, "int64")
    batches = [Batch(rows[:, :-1], rows[:, 1:]) for rows in tokens]
    if draw.num_steps > 1:  # a text's last minibatch may be shorter
        batches.append(Batch(tokens[0, :, :-2], tokens[0, :, 1:-1]))
    for name in ("", ", again"):
        total, count = case.scratch.evaluate(model, iter(batches))
        yield Result(f"type of the loss{name}", _types(total), "float")
        yield Result(f"mean loss{name}", total / count, tolerance=TOLERANCE)
        yield Result(f"tokens{name}", count, tolerance=0)
    yield Result("parameters afterwards", trained_arrays(model), expected, 0)
    if draw.num_updates > MANY_UPDATES:
        losses = []
        for index in range(NUM_MODELS):  # each has the identity of an earlier one, which was freed
            arrays = {name: array * (1 + index / 100) for name, array in case.arrays.items()}
            model = case.model(arrays)
            losses.append(case.scratch.evaluate(model, batches[:1])[0])
            del model
        yield Result("losses of models that are freed", np.array(losses), tolerance=TOLERANCE)


def predict(case: Case, model: Model | None = None) -> Iterator[Result]:
    """Compare the logits that `predict` computes for tokens chosen in advance."""
    model, draw = model or case.model(), case.draw
    rng, expected = np.random.RandomState(draw.seed or 0), trained_arrays(model)
    is_long = draw.seed is None or draw.num_updates > MANY_UPDATES
    num_tokens = MANY_TOKENS if is_long else NUM_TOKENS
    tokens = rng.randint(0, draw.options.vocab_size, 3 * MANY_TOKENS).tolist()
    remaining, logits = iter(tokens), list[np.ndarray]()
    prefix = [next(remaining) for _ in range(PREFIX_LENGTH)]

    def choose_token(values: np.ndarray) -> int:
        logits.append(values)
        return next(remaining)

    text = case.scratch.predict(model, prefix, num_tokens, choose_token)
    text += case.scratch.predict(model, prefix[:1], NUM_TOKENS, choose_token)
    yield Result("parameters afterwards", trained_arrays(model), expected, 0)
    yield Result("tokens", np.array(text), tolerance=0)
    yield Result("prefix afterwards", np.array(prefix), np.array(tokens[:PREFIX_LENGTH]), 0)
    yield Result("type of tokens", _types(text, *text), "list int")
    arrays = [np.array(values) for values in logits] or [np.zeros(1)]
    yield Result("logits", np.stack(arrays), tolerance=TOLERANCE)
    yield Result("type of logits", _types(*logits), "ndarray")


def sequence(case: Case) -> Iterator[Result]:
    """Train for two epochs, evaluate between them, and predict, as specified by the draw.

    If the draw resumes, training starts from the reference's values after a few updates.
    """
    draw = case.draw
    if not draw.num_updates:
        return
    model = case.model()
    if draw.resumes:
        origin = case.reference if case.has_reference else case
        reference, (_, updates) = origin.model(), origin.epoch(0)
        for _ in range(FIRST_PART):
            update = next(updates)._replace(theta=math.inf)
            origin.train(reference, *origin.minibatch(), update)
        # Add an offset so that no value is representable in float32.
        offset = 2.0**-40 if draw.options.dtype == "float64" else 0.0
        model = case.model({name: a + offset for name, a in trained_arrays(reference).items()})
    # Each generator has its function's `__name__`, which labels the results below.
    parts: list[Any] = [train_minibatch(case, model), train_epoch(case, model)]
    parts += [evaluate(case, model)] if draw.evaluates else []
    parts += [train_epoch(case, model, 1)]
    parts += [predict(case, model)] if draw.predicts else []
    for part in parts:
        try:
            for result in part:
                yield result._replace(function=part.__name__)
        except Exception as error:
            yield Result("raised", error, "", function=part.__name__)


def train_reference() -> dict[str, dict[str, float | None]]:
    """Return perplexities and a sum of the parameters after each epoch of each training."""
    sums = {}
    for name, settings in TRAININGS.items():
        context = prepare_run(settings, Runtime("numpy"), books.load(books.BUILT_IN))
        for epoch in loop.epochs(context):
            sums[f"{name}, epoch {epoch.epoch}"] = {
                "perplexity": epoch.perplexity,
                "held-out perplexity": epoch.valid_perplexity,
                "sum of parameters": weighted_sum(trained_arrays(context.model)),
            }
    return sums


def trained_result(case: Case, model: Model, name: str) -> Result:
    """Return the parameters and slots as a `Result`, with zero tolerance in exact mode."""
    tolerance = 0 if case.draw.exact else PARAMS_TOLERANCE
    arrays = trained_arrays(model)
    return Result(name, arrays, tolerance=tolerance, tensors=(model.params, model.slots))


def _types(*values: Any) -> str:
    """Return the values' distinct type names."""
    return " ".join(dict.fromkeys(type(value).__name__ for value in values))
