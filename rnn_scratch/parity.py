"""One backend held against the NumPy reference, piece by piece.

Each piece is given what the reference would give it, so that the first row that is off names the
piece that is wrong. All sizes differ, so that no wrong axis can hide. Learning rate and θ are such
that the clip acts in many of the updates, but not in all.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import corpus, decoding, minibatches, registry, vocabulary
from .contract import Arrays, Backend, Model, Options, RNNScratchError, State, Update
from .exact import GRID
from .initial import initial

B, T, H, V = 5, 7, 13, 11  # the text that is trained on has its own V, 28
SIGMA, LR, THETA = 0.2, 0.5, 0.4
UPDATES = (1, 10, 100)
# What rounding may do in float64; in float32 it is 2**29 times as much, but no more than 0.0005.
ROUNDING = 1e-14
AFTER = dict(zip(UPDATES, (1e-14, 1e-12, 1e-10)))


class Row(NamedTuple):
    """One comparison: the piece, which of its results, how far off at most and where."""

    piece: str
    result: str
    case: str  # dtype and activation
    difference: float | None  # None: it is not a number, or there was none to compare
    where: str
    allowed: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is no larger than allowed."""
        return self.difference is not None and self.difference <= self.allowed


class Case(NamedTuple):
    """The candidate and the inputs that it and the reference are given."""

    reference: Backend
    backend: Backend
    model: str  # "scratch" or "concise"
    ours: Options
    theirs: Options
    arrays: Arrays  # of parameters
    X: np.ndarray  # (B, T)
    Y: np.ndarray  # (B, T)
    h: np.ndarray  # (B, H), a state

    def models(self, arrays: Arrays) -> tuple[Model, Model]:
        """A fresh model of the reference and one of the candidate, from the same parameters."""
        candidate = getattr(self.backend, self.model)(arrays, self.theirs)
        return self.reference.scratch(arrays, self.ours), candidate

    def tensor(self, array: np.ndarray) -> Any:
        """An array as the candidate's tensor."""
        return self.backend.tensor(array, self.theirs.device)

    def params(self) -> Any:
        """The parameters as the candidate's tensors."""
        return self.backend.params(self.arrays, self.theirs)

    def row(
        self, piece: str, result: str, expected: Any, found: Any,
        allowed: float = ROUNDING, note: str = "",
    ) -> Row:  # fmt: skip
        """Compare arrays, or dicts or tuples of them; the worst element makes the row."""
        difference, where = worst(expected, found)
        if self.ours.dtype == "float32":
            allowed = min(allowed, 1e-12) * 2.0**29
        return Row(piece, result, self.name, difference, where, allowed, note)

    @property
    def name(self) -> str:
        """The dtype and the activation."""
        return f"{self.ours.dtype} {self.ours.activation}"


def hold(
    backend: Backend, model: str = "scratch", device: str = "cpu", short: bool = False
) -> Iterator[Row]:
    """Compare a backend's model with the reference in every case; the rows come as they are found.

    A concise model is compared as a whole, as it has no pieces of its own. A piece that raises is
    a row that is off. `short` leaves out ReLU and all but ten of the updates.
    """
    for dtype in ("float64", "float32"):
        for activation in ("tanh",) if short else ("tanh", "relu"):
            case = make_case(backend, model, Options(activation, dtype, device))
            try:
                case.models(case.arrays)
            except RNNScratchError as error:  # not offered, and it says so
                yield Row("concise", "", case.name, 0, "", 0, str(error).splitlines()[0])
                continue
            except Exception:
                pass  # what is wrong shows below, in the piece that it is wrong in
            pieces = (_forward, *WHOLE) if model == "concise" else (*SINGLE, *WHOLE)
            for piece in pieces:
                try:
                    yield from piece(case, short) if piece is _train_epoch else piece(case)
                except Exception as error:
                    words = (str(error).strip().splitlines() or [""])[0]
                    name = piece.__name__.lstrip("_")
                    yield Row(
                        name, "raised", case.name, None, f"{type(error).__name__}: {words}", 0
                    )


def make_case(backend: Backend, model: str, options: Options) -> Case:
    """Inputs for one dtype and activation, the same at any time."""
    chance = np.random.RandomState(0)
    arrays = initial(V, H, SIGMA, 0)
    for name in ("b_h", "b_q"):  # biases of zero would hide that one is left out
        arrays[name] = chance.normal(0, SIGMA, arrays[name].shape)
    tokens = chance.randint(0, V, (B, T + 1))
    h = chance.uniform(-0.5, 0.5, (B, H)).astype(options.dtype)
    return Case(
        registry.load("numpy"), backend, model, options._replace(device="cpu"), options,
        {name: array.astype(options.dtype) for name, array in arrays.items()},
        tokens[:, :-1], tokens[:, 1:], h,
    )  # fmt: skip


def worst(expected: Any, found: Any) -> tuple[float | None, str]:
    """The largest difference and where it is; None where they cannot be compared."""
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return None, f"names {', '.join(found)} in place of {', '.join(expected)}"
        each = [(name, worst(expected[name], found[name])) for name in expected]
        name, (difference, where) = max(each, key=lambda one: _size(one[1][0]))
        return difference, f"{name}{where if where.startswith('[') or not where else ': ' + where}"
    if isinstance(expected, tuple):
        if len(expected) != len(found):
            return None, f"{len(found)} tensors in place of {len(expected)}"
        return max(map(worst, expected, found), key=lambda one: _size(one[0]))
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return None, f"shape {found.shape} in place of {expected.shape}"
    if expected.dtype.kind == "f" and expected.dtype != found.dtype and expected.shape:
        return None, f"{found.dtype} in place of {expected.dtype}"
    differences = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    index = np.unravel_index(np.argmax(differences), differences.shape)  # NaN counts as largest
    largest = float(differences[index])
    where = f"[{', '.join(str(int(i)) for i in index)}]" if index else ""
    return (largest, where) if math.isfinite(largest) else (None, f"{where} {found[index]}")


def _size(difference: float | None) -> float:
    return math.inf if difference is None else difference


def _arrays(case: Case, tensors: State) -> tuple[np.ndarray, ...]:
    return tuple(case.backend.array(tensor) for tensor in tensors)


# The pieces of the contract, each alone.


def _params(case: Case) -> Iterator[Row]:
    given = {name: array.copy() for name, array in case.arrays.items()}
    _, candidate = case.models(given)
    for array in given.values():
        array[...] = math.nan  # shows if memory is shared
    yield case.row("params", "values", case.arrays, candidate.to_arrays(candidate.params), 0)


def _state(case: Case) -> Iterator[Row]:
    found = _arrays(case, case.backend.state(B, H, case.theirs))
    yield case.row("state", "zeros", case.reference.state(B, H, case.ours), found, 0)


def _encode(case: Case) -> Iterator[Row]:
    found = case.backend.array(case.backend.encode(case.tensor(case.X), case.params()))
    yield case.row("encode", "one-hot", case.reference.encode(case.X, case.arrays), found, 0)


def _step(case: Case) -> Iterator[Row]:
    x = case.reference.encode(case.X[:, 0], case.arrays)  # (B, V)
    logits, state = case.reference.step(x, (case.h,), case.arrays, case.ours)
    found, found_state = case.backend.step(
        case.tensor(x), (case.tensor(case.h),), case.params(), case.theirs
    )
    yield case.row("step", "logits", logits, case.backend.array(found))
    yield case.row("step", "state", state, _arrays(case, found_state))


def _loss(case: Case) -> Iterator[Row]:
    logits, _ = case.reference.forward(case.X, (case.h,), case.arrays, case.ours)
    found = case.backend.loss(case.tensor(logits), case.tensor(case.Y))
    expected = case.reference.loss(logits, case.Y)
    yield case.row("loss", "mean", expected, case.backend.array(found))


def _detach(case: Case) -> Iterator[Row]:
    # A graph over two minibatches, the state detached between them: the second's gradients must
    # be those that the reference finds for it alone, from the same state.
    model, candidate = case.models(case.arrays)
    if candidate.backward is not None:
        return  # differentiated by hand: there is no graph
    _, _, state = case.reference.gradients(model, case.X, case.Y, (case.h,))
    _, expected, _ = case.reference.gradients(model, case.X, case.Y, state)

    def both(tokens: Any, state: State, params: Any, options: Options) -> Any:
        _, state = candidate.forward(tokens, state, params, options)
        return candidate.forward(tokens, case.backend.detach(state), params, options)

    _, found, _ = case.backend.gradients(
        candidate._replace(forward=both),
        case.tensor(case.X), case.tensor(case.Y), (case.tensor(case.h),),
    )  # fmt: skip
    yield case.row("detach", "gradients", expected, candidate.to_arrays(found))


def _clip(case: Case) -> Iterator[Row]:
    model, _ = case.models(case.arrays)
    _, grads, _ = case.reference.gradients(model, case.X, case.Y, (case.h,))
    _, norm = case.reference.clip(grads, None)
    for theta, name in (
        (norm / 2, "θ half the norm"),
        (norm * 2, "θ twice the norm"),
        (None, "no θ"),
    ):
        theta = None if theta is None else float(theta)
        expected, expected_norm = case.reference.clip(grads, theta)
        given = {name: case.tensor(grad.copy()) for name, grad in grads.items()}
        found, found_norm = case.backend.clip(given, theta)
        yield case.row("clip", f"norm, {name}", expected_norm, case.backend.array(found_norm))
        arrays = {name: case.backend.array(grad) for name, grad in found.items()}
        yield case.row("clip", f"result, {name}", expected, arrays)


def _update(case: Case) -> Iterator[Row]:
    model, _ = case.models(case.arrays)
    _, grads, _ = case.reference.gradients(model, case.X, case.Y, (case.h,))
    ties = {name: np.round(grad / GRID) * GRID + GRID / 2 for name, grad in grads.items()}
    trials: list[Any] = [("plain", grads, LR, None, ROUNDING)]
    if case.ours.dtype == "float64":  # the only one with exact mode
        trials += [("on the grid", grads, LR, GRID, 0), ("ties on the grid", ties, 1.0, GRID, 0)]
    for name, given, lr, grid, allowed in trials:
        # A model of the candidate, because some tensors of a framework cannot be updated in place.
        expected, candidate = case.models(case.arrays)
        case.reference.update(expected.params, given, lr, grid)
        tensors = {name: case.tensor(grad) for name, grad in given.items()}
        case.backend.update(candidate.params, tensors, lr, grid)
        found = candidate.to_arrays(candidate.params)
        yield case.row("update", name, expected.params, found, allowed)


# What a model does as a whole, scratch or concise.


def _forward(case: Case) -> Iterator[Row]:
    _, candidate = case.models(case.arrays)
    state: State = (case.h,)
    steps = []
    for t in range(T):  # the loop that every forward must equal
        x = case.reference.encode(case.X[:, t], case.arrays)
        logits, state = case.reference.step(x, state, case.arrays, case.ours)
        steps.append(logits)
    found, found_state = candidate.forward(
        case.tensor(case.X), (case.tensor(case.h),), candidate.params, candidate.options
    )
    yield case.row("forward", "logits", np.concatenate(steps), case.backend.array(found))
    yield case.row("forward", "state", state, _arrays(case, found_state))


def _gradients(case: Case) -> Iterator[Row]:
    model, candidate = case.models(case.arrays)
    loss, grads, state = case.reference.gradients(model, case.X, case.Y, (case.h,))
    found_loss, tensors, found_state = case.backend.gradients(
        candidate, case.tensor(case.X), case.tensor(case.Y), (case.tensor(case.h),)
    )
    found = candidate.to_arrays(tensors)
    yield case.row("gradients", "loss", loss, case.backend.array(found_loss))
    for name, grad in grads.items():
        yield case.row("gradients", name, {name: grad}, {name: found[name]})
    yield case.row("gradients", "state", state, _arrays(case, found_state))


def _train_epoch(case: Case, short: bool = False) -> Iterator[Row]:
    tokens, arrays = _text()
    how = Update(LR, THETA, None)
    for sampling in ("sequential", "random"):
        carry = minibatches.carries(sampling)
        batches = list(minibatches.of_epoch(tokens, B, T, sampling, 0, 1))[: UPDATES[-1]]
        acted = _clip_acts(case, batches, how, carry)
        for updates in UPDATES[:2] if short else UPDATES:
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
            "train_epoch", f"{sampling}, state", state, _arrays(case, found_state), allowed
        )


def _evaluate(case: Case) -> Iterator[Row]:
    tokens, arrays = _text()
    model, candidate = case.models(arrays)
    batches = list(minibatches.whole(tokens[:500], B, T))
    for carry in (True, False):
        summed, count = case.reference.evaluate(model, batches, carry)
        found, found_count = case.backend.evaluate(candidate, iter(batches), carry)
        how = "state carried" if carry else "state from zeros"
        yield case.row("evaluate", how, summed / count, found / found_count)
        yield case.row("evaluate", f"{how}, tokens", count, found_count, 0)


def _predict(case: Case) -> Iterator[Row]:
    if case.ours.activation != "tanh":
        return
    tokens, arrays = _trained()
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


# In the order in which one is made of another, so that the first that is off is the one to mend.
Piece = Callable[..., Iterator[Row]]
SINGLE: tuple[Piece, ...] = (
    _params,
    _state,
    _encode,
    _step,
    _forward,
    _loss,
    _detach,
    _clip,
    _update,
)
WHOLE: tuple[Piece, ...] = (_gradients, _train_epoch, _evaluate, _predict)


def _clip_acts(case: Case, batches: list, how: Update, carry: bool) -> list[bool]:
    # In which of the updates the reference's gradient is longer than θ.
    acted, state = [], None
    model, _ = case.models(_text()[1])
    for X, Y in batches:
        if state is None or not carry:
            state = model.state(len(X), model.num_hiddens, model.options)
        _, grads, state = case.reference.gradients(model, X, Y, state)
        grads, norm = case.reference.clip(grads, how.theta)
        case.reference.update(model.params, grads, how.lr, how.grid)
        acted.append(bool(norm > how.theta))
    return acted


@functools.cache
def _text() -> tuple[np.ndarray, Arrays]:
    # The built-in text, and starting values for its vocabulary.
    text = vocabulary.normalize(corpus.load(corpus.BUILT_IN, print).content, "chapter")
    vocab = vocabulary.build(text)
    return vocabulary.encode(text, vocab), initial(len(vocab), H, SIGMA, 0)


@functools.cache
def _trained() -> tuple[np.ndarray, Arrays]:
    # A model that has learnt to write words, so that its text has something to get wrong.
    tokens, _ = _text()
    numpy = registry.load("numpy")
    model = numpy.scratch(initial(int(tokens.max()) + 1, 48, 0.05, 0), Options("tanh", "float64"))
    for epoch in range(1, 41):
        batches = minibatches.of_epoch(tokens[:2000], B, 2 * T, "sequential", 0, epoch)
        numpy.train_epoch(model, batches, Update(), True)
    return tokens, model.to_arrays(model.params)
