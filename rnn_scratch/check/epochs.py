"""Training and prediction of a backend compared with the NumPy reference.

θ is such that many of the updates are clipped, but not all: a check in which none is proves nothing
about clipping, and the rows say how many were.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..contract import OPTIMIZERS, Arrays, Backend, Batch, Model, Options, Rates, State, Update
from ..exact import FINE_GRID, GRID, STATE_GRID
from ..parameters import initial, trained_arrays
from ..settings import Settings
from ..text import books, minibatches, vocabulary
from .inputs import LR, PLAIN, SIGMA, B, Case, T, make_case, masks
from .results import ROUNDING, Computed, Row, fact

SEQUENTIAL = Settings(batch_size=B, num_steps=T)
RANDOM = Settings(batch_size=B, num_steps=T, sampling="random")
UPDATES = (1, 10, 100)
AFTER = dict(zip(UPDATES, (1e-14, 1e-12, 1e-10)))  # allowed, in float64
FEW = 3  # updates
DIVIDING = 1e-11  # allowed, in float64, of an optimizer that divides gradients by their size
CHOSEN = 120  # tokens


def clipping(case: Case) -> Update:
    """An update in which the gradients of the case's minibatch are clipped to half their norm."""
    _, norm = case.reference.scratch.clip(case.reference.gradients()[1], math.inf)
    return Update(theta=float(norm) / 2)


def updated(
    case: Case, how: Update, model: Model | None = None, train: Any = None
) -> tuple[Arrays, np.ndarray, State]:
    """Parameters, losses and state after a few updates with the case's minibatch."""
    model, (batch, state), losses = model or case.model(), case.minibatch(), []
    for _ in range(FEW):
        mean, state = (train or case.scratch.train_minibatch)(model, batch, state, how)
        losses.append(float(mean))
    return model.to_arrays(model.params), np.array(losses), state


def train_minibatch(case: Case) -> Iterator[Computed | Row]:
    """One update, clipped, and another one as in exact mode; `forward` uses the new parameters."""
    model = case.model()
    loss, state = case.scratch.train_minibatch(model, *case.minibatch(), clipping(case))
    yield Computed("parameters", model.to_arrays(model.params), tensors=model.params)
    yield Computed("loss", loss)
    yield Computed("state", state)
    logits, _ = model.forward(case.tensor(case.batch.X), case.state())
    yield Computed("logits afterwards", logits)
    if case.options.deep:
        return  # settings of an update do the same in any model, as optimizers do with any cell
    # What is compiled, or remembered, for the first update must not determine the second.
    exact = case.options.dtype == "float64"  # the only one with exact mode
    grid, state_grid = (GRID, STATE_GRID) if exact else (None, None)
    how = Update(theta=math.inf, grid=grid, state_grid=state_grid)
    batch, state = case.minibatch()
    batch = batch._replace(rates=case.rates(2 * LR))
    _, state = case.scratch.train_minibatch(model, batch, state, how)
    yield Computed("parameters after another one", model.to_arrays(model.params))
    if exact:
        yield Computed("state in exact mode", state, allowed=0)
    if case.options.cell != PLAIN.cell:
        return
    # And what an optimizer remembers must be the same to the last bit, whatever is compiled.
    for name, optimizer in OPTIMIZERS.items():
        if not optimizer.slots:
            continue
        model, (batch, state) = case.model(optimizer=name), case.minibatch()
        grid = FINE_GRID if exact else None
        decay = 0.1 if optimizer.decays else 0.0
        how = how._replace(optimizer=name, weight_decay=decay, grid=grid, grad_grid=grid)
        for number in range(1, 1 + FEW):
            rated = batch._replace(rates=case.rates(LR / number, name, number))
            _, state = case.scratch.train_minibatch(model, rated, state, how)
        allowed, arrays = 0 if exact else DIVIDING, trained_arrays(model)
        yield Computed(f"parameters and slots with {name}", arrays, allowed=allowed)


def to_arrays(case: Case) -> Iterator[Computed | Row]:
    """Copies, which do not change when the parameters do."""
    model = case.model()
    arrays = model.to_arrays(model.params)
    expected = {name: array.copy() for name, array in arrays.items()}
    case.scratch.train_minibatch(model, *case.minibatch(), clipping(case))
    yield Computed("copies, which do not change", arrays, expected, 0)


def train_epoch(case: Case) -> Iterator[Computed | Row]:
    """Parameters after some updates, up to 100; losses and state, in both ways of sampling."""
    _, arrays = built_in_text(case.options)
    # Because of the time, many updates in one case of each cell only, and both ways of sampling,
    # which no cell knows of, with one cell.
    deep = case.options.deep
    many = not deep and case.options.dtype == "float64" and not case.short
    both = not deep and case.options.cell == PLAIN.cell
    milestones: tuple[int, ...] = UPDATES if many else UPDATES[:2]
    if (case.options.dtype, case.options.cell) == ("float32", "rnn-relu"):
        milestones = UPDATES[:1]  # nothing limits the states, and float32's errors grow with them
    allowed = AFTER[milestones[-1]]
    for settings in (SEQUENTIAL, RANDOM) if both else (SEQUENTIAL,):
        sampling, carry = settings.sampling, minibatches.carries(settings.sampling)
        batches = first_batches(case, settings, max(milestones[-1], 10))
        theta, clipped = threshold(case.reference.backend, case.options, settings, len(batches))
        model, first = case.model(arrays), 0
        state: Any = case.state()
        for updates in milestones:
            some, first = batches[first:updates], updates
            # From that state, then from zeros, as an epoch begins, and on from where it ended.
            start = None if updates == UPDATES[1] else state
            how = Update(theta=theta)
            losses, state = case.scratch.train_epoch(model, iter(some), how, carry, start)
            params = model.to_arrays(model.params)
            note = f"{clipped[:updates].sum()} of {updates} were clipped"
            name = f"{sampling}, {updates} updates"
            yield Computed(name, params, allowed=AFTER[updates], note=note, tensors=model.params)
        name = f"{sampling}, losses"
        if isinstance(losses, list) and {type(each) for each in losses} == {float}:
            yield Computed(name, np.array(losses), allowed=allowed)
        else:
            yield fact(name, False, "not a list of floats")
        yield Computed(f"{sampling}, state", state, allowed=allowed)


@functools.cache
def threshold(
    reference: Backend, options: Options, settings: Settings, number: int
) -> tuple[float, np.ndarray]:
    """A θ by which about half of so many updates are clipped, and which of them."""
    _, arrays = built_in_text(options)
    case = make_case("numpy", reference, "scratch", options._replace(device="cpu"))
    batches = first_batches(case, settings, number)
    carry = minibatches.carries(settings.sampling)

    def norms_of(theta: float) -> np.ndarray:
        # Those of the gradients when the reference is trained as in `train_epoch`.
        model, state, norms = case.model(arrays), case.state(), []
        for update, batch in enumerate(batches):
            if update == 1 or not carry:
                state = model.state(B)
            _, grads, state = case.scratch.gradients(model, batch, state)
            grads, norm = case.scratch.clip(grads, theta)
            case.scratch.sgd(model, grads, Update(), batch.rates)
            norms.append(float(norm))
        return np.array(norms)

    theta = round(float(np.median(norms_of(math.inf))), 2)
    return theta, norms_of(theta) > theta


def first_batches(case: Case, settings: Settings, number: int) -> list[Batch]:
    """The first minibatches of the built-in text, each with rates and masks of its own."""
    tokens, _ = built_in_text(case.options)
    rng, dtype = np.random.RandomState(0), case.options.dtype
    batches = itertools.islice(minibatches.epoch_batches(tokens, settings, 1), number)
    return [
        batch._replace(
            masks=masks(case.options, rng),
            rates=Rates(np.asarray(LR * (1 - update / number / 2), dtype)),
        )
        for update, batch in enumerate(batches)
    ]


def evaluate(case: Case) -> Iterator[Computed | Row]:
    """The loss of a text, the state carried from minibatch to minibatch."""
    tokens, arrays = built_in_text(case.options)
    model = case.model(arrays)
    before = model.to_arrays(model.params)
    batches = list(minibatches.whole(tokens[:210], SEQUENTIAL))  # the last one is shorter
    summed, count = case.backend.deep.evaluate(model, iter(batches))
    yield Computed("mean loss", summed / count)
    yield Computed("tokens", count, allowed=0)
    types = type(summed).__name__, type(count).__name__
    yield fact("a float and a number of tokens", types == ("float", "int"), str(types))
    yield Computed("parameters afterwards", model.to_arrays(model.params), before, 0)


def predict(case: Case) -> Iterator[Computed | Row]:
    """A text that is chosen in advance, and the logits for each choice."""
    tokens, arrays = built_in_text(case.options)
    following, logits, types = iter(tokens[15:].tolist()), list[np.ndarray](), set[type]()
    model = case.model(arrays)
    before = model.to_arrays(model.params)

    def choose(each: np.ndarray) -> int:
        types.add(type(each))
        logits.append(np.array(each))
        return next(following)

    text = case.scratch.predict(model, tuple(tokens[:15].tolist()), CHOSEN, choose)
    text += case.scratch.predict(model, tuple(tokens[:1].tolist()), FEW, choose)
    yield Computed("parameters afterwards", model.to_arrays(model.params), before, 0)
    yield Computed("tokens", np.array(text), allowed=0)
    types |= {type(text), *map(type, text)}
    names = ", ".join(sorted(each.__name__ for each in types))
    yield fact("a list of integers, from arrays", types == {np.ndarray, list, int}, names)
    yield Computed("logits", np.stack(logits), allowed=10 * ROUNDING)


@functools.cache
def built_in_text(options: Options) -> tuple[np.ndarray, Arrays]:
    """Tokens of the built-in text, and starting values for its vocabulary."""
    text = vocabulary.normalize(books.load(books.BUILT_IN).content, "chapter")
    vocab = vocabulary.build(text)
    arrays = initial(options._replace(vocab_size=len(vocab)), SIGMA, 0)
    return vocabulary.encode(text, vocab), arrays


TRAINING = (train_minibatch, to_arrays, train_epoch, evaluate, predict)
