"""Tests of students' functions that no backend has, on inputs that nobody knows in advance.

`grading` passes a student's function and the backend to the function's test, which draws new inputs
and yields the mistakes.
"""

import copy
import random
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy

from .solutions import best_run, faster_logits, find, next_probabilities

NUM_TESTS = 20  # drawn inputs for each function


def try_best_run(function: Callable[..., Any], backend: Any) -> Iterator[str]:
    """Yield the mistake in a student's `best_run`, if any."""
    draw, tests = random.SystemRandom(), list[Mapping[str, Any]]()
    for _ in range(NUM_TESTS):
        names, epochs = draw.sample("abcdefghijklmnop", 6), range(draw.randint(3, 5))
        tests.append({name: [_draw_epoch(draw) for _ in epochs] for name in names})
    selected = [function(copy.deepcopy(test)) for test in tests]  # it could change the losses
    expected = [*map(best_run, tests)]
    pairs = zip(selected, expected)  # `!=` of an array without elements is not true
    wrong = [pair for pair in pairs if not isinstance(pair[0], str) or pair[0] != pair[1]]
    for found, right in wrong[:1]:
        rules = [rule for rule, choose in WRONG_RULES.items() if selected == [*map(choose, tests)]]
        reason = f", the run with the {rules[0]}" if rules else ""
        reason = reason or ", which is not a name" * (not isinstance(found, str))
        problem = f"it returns {found!r}{reason}. Return {right!r}, the run with"
        yield f"{problem} the lowest held-out loss of any epoch"


def _draw_epoch(draw: random.Random) -> Any:
    return types.SimpleNamespace(loss=draw.uniform(1, 4), valid_loss=draw.uniform(1, 4))


def _lowest(measure: Callable[[Any], float]) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that chooses the run whose epochs have the lowest measure."""
    return lambda histories: min(histories, key=lambda name: measure(histories[name]))


WRONG_RULES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "lowest loss of the training text": _lowest(lambda run: min(e.loss for e in run)),
    "lowest held-out loss of the last epoch": _lowest(lambda run: run[-1].valid_loss),
    "lowest held-out loss of the first epoch": _lowest(lambda run: run[0].valid_loss),
    "lowest mean of the held-out losses": _lowest(lambda run: sum(e.valid_loss for e in run)),
    "highest held-out loss": _lowest(lambda run: -max(e.valid_loss for e in run)),
    "highest of the lowest held-out losses": _lowest(lambda run: -min(e.valid_loss for e in run)),
    "lowest of the highest held-out losses": _lowest(lambda run: max(e.valid_loss for e in run)),
    "lowest sum of both losses": _lowest(lambda run: min(e.loss + e.valid_loss for e in run)),
    "lowest held-out loss in the epoch with the lowest loss of the training text": _lowest(
        lambda run: min(run, key=lambda e: e.loss).valid_loss
    ),
    "lowest training loss of the last epoch": _lowest(lambda run: run[-1].loss),
    "smallest difference between the losses": _lowest(
        lambda run: min(abs(e.valid_loss - e.loss) for e in run)
    ),
    "last place in `histories`": lambda histories: [*histories][-1],
    "first place in `histories`": lambda histories: next(iter(histories)),
}


def try_next_probabilities(function: Callable[..., Any], backend: Any) -> Iterator[str]:
    """Yield the mistake in a student's `next_probabilities`, if any."""
    rng, tests = _generator(), list[tuple[Any, ...]]()
    for shift in numpy.linspace(0, 2000, NUM_TESTS):  # the larger ones overflow
        tests.append((rng.normal(shift, 2, 12), rng.uniform(0.3, 2), rng.uniform(0.2, 0.95)))
    tests = [(logits, t, 1.0 if n < 3 else p) for n, (logits, t, p) in enumerate(tests)]
    results = [_array(function(logits.copy(), *rest)) for logits, *rest in tests]
    finite = [bool(numpy.isfinite(result).all()) for result in results]
    if all(finite[:2]) and not any(finite[-5:]):  # logits of about 0 to 105, and 1579 to 2000
        yield "an exponential overflows: first subtract the largest logit"
    yield from _explain(results, tests, next_probabilities, _probabilities, WRONG_PROBABILITIES)
    logits, *rest = tests[-1]
    before = logits.copy()
    function(logits, *rest)
    if (logits != before).any():
        yield "it changes its argument `logits`. Make a new array"


def _probabilities(logits: Any, temperature: float, top_p: float, change: str) -> Any:
    """Compute the probabilities with one change."""
    temperature = {"none": 1.0, "times": 1 / temperature}.get(change, temperature)
    scores = (logits - logits.max()) / temperature
    powers = numpy.exp(scores)
    ranked = numpy.exp(logits - logits.max()) if change == "order" else powers
    order = ranked.argsort()[:: 1 if change == "least" else -1]
    sums = ranked[order].cumsum() / ranked.sum()
    num_kept = (sums < top_p).sum() + {"reached": 0, "more": 2}.get(change, 1)
    num_kept = len(order) if change == "all" else num_kept
    is_kept = numpy.isin(numpy.arange(len(order)), order[:num_kept])
    if change in ("threshold", "min-p"):
        is_kept = powers >= top_p * (powers.sum() if change == "threshold" else 1)
    if change == "positions":
        is_kept = numpy.arange(len(order)) < num_kept
    if change == "zeros":
        kept = numpy.exp(scores * is_kept)
    elif change == "twice":
        kept = numpy.exp(powers * is_kept / powers.sum())
    else:
        kept = powers * is_kept
    kept = kept[order] if change == "sorted" else kept
    return kept / (powers.sum() if change == "sum" else kept.sum())


WRONG_PROBABILITIES = {
    "the temperature is left out": "none",
    "the logits are multiplied by the temperature": "times",
    "top-p is left out": "all",
    "top-p is applied before the temperature": "order",
    "the character that reaches p is excluded": "reached",
    "the least likely characters are kept": "least",
    "the probabilities that are left do not add up to 1": "sum",
    "one character too many is kept": "more",
    "every character with a probability of at least p is kept: add probabilities up": "threshold",
    "min-p instead of top-p": "min-p",
    "the result is sorted: put each probability in the place of its character": "sorted",
    "the first places are kept: they belong to characters, not to the sorted order": "positions",
    "logits are set to 0, but a logit of 0 has the exponential 1: set probabilities to 0": "zeros",
    "the softmax is applied twice": "twice",
}


class _CountedArray(numpy.ndarray):
    """An array that records the matrix products in which it takes part."""

    name = ""
    products: Sequence[tuple[str, numpy.ndarray]] = ()  # names, and the sorted results

    def __array_finalize__(self, source: Any) -> None:
        self.name, self.products = (getattr(source, field, None) for field in ("name", "products"))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        self._count(ufunc is numpy.matmul, inputs, result)
        return result

    def __array_function__(self, function: Any, kinds: Any, inputs: Any, options: Any) -> Any:
        result = super().__array_function__(function, kinds, inputs, options)
        products = numpy.dot, numpy.inner, numpy.einsum, numpy.tensordot
        self._count(function in products, inputs, result)
        return result

    def _count(self, is_product: bool, inputs: Iterable[Any], result: Any) -> None:
        for x in inputs if is_product else ():
            if isinstance(x, _CountedArray):
                self.products.append((x.name, numpy.sort(_plain(result), None)))


def _plain(value: Any) -> Any:
    return value.view(numpy.ndarray) if isinstance(value, _CountedArray) else value


def try_faster_logits(function: Callable[..., Any], backend: Any) -> Iterator[str]:
    """Yield the mistake in a student's `faster_logits`, if any."""
    rng, products, tests, results = _generator(), list[list[Any]](), list[Any](), list[Any]()
    for _ in range(NUM_TESTS):
        B, T, V, H = rng.permutation([2, 3, 5, 6])
        shapes = {"W_xh": (V, H), "W_hh": (H, H), "b_h": (H,), "W_hq": (H, V), "b_q": (V,)}
        params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        tests.append((rng.integers(V, size=(B, T)), rng.normal(size=(B, H)), params))
        counted = {name: values.copy().view(_CountedArray) for name, values in params.items()}
        products.append([])
        for name, values in counted.items():
            values.name, values.products = name, products[-1]
        results.append(_array(function(tests[-1][0].copy(), tests[-1][1].copy(), counted)))
    yield from _explain(results, tests, faster_logits, _logits, WRONG_LOGITS)
    for recorded, (tokens, _, params), result in zip(products, tests, results):
        steps, count = f"{tokens.shape[1]} steps", Counter(name for name, _ in recorded)
        if count["W_hq"] > 1:
            problem = f"the numbers are right, but W_hq is in {count['W_hq']} products for {steps}"
            yield f"{problem}. Collect the states, and multiply all of them at once"
        # Without this comparison, the products of a copy of W_hq would not be counted.
        logits = numpy.sort(result - params["b_q"], None)
        is_whole = any(_agree([product], [logits]) for name, product in recorded if name == "W_hq")
        if not is_whole or not count["W_hh"]:
            yield "its products cannot be counted. Multiply the arrays in `params` with @"
    tokens, h, params = tests[-1]
    # A product depends on all rows, also on the row of a token that does not occur.
    W_xh = numpy.append(params["W_xh"], numpy.full((1, h.shape[1]), numpy.nan), 0)
    if not numpy.isfinite(_array(function(tokens, h, {**params, "W_xh": W_xh}))).all():
        problem = "the numbers are right, but W_xh is in a product"
        yield f"{problem}. Select its rows by the tokens instead"


def _logits(tokens: Any, h: Any, params: Any, change: str) -> Any:
    """Compute the logits with one change."""
    params = {name: (name != change) * values for name, values in params.items()}
    states, first = [], h
    if change == "reshaped":
        tokens = tokens.reshape(tokens.shape[::-1]).T
    if change == "W_hh transposed":
        params["W_hh"] = params["W_hh"].T
    for t in range(tokens.shape[1]):
        h = first if change == "state" else h
        states += [h] if change == "before" else []
        x, product = params["W_xh"][tokens[:, t]] + params["b_h"], h @ params["W_hh"]
        h = numpy.tanh(x) + product if change == "outside" else x + product
        h = h if change in ("tanh", "outside") else numpy.tanh(h)
        states += [] if change == "before" else [h]
    hiddens = numpy.stack(states, 1 if change == "order" else 0).reshape(-1, h.shape[1])
    return hiddens @ params["W_hq"] + params["b_q"]


WRONG_LOGITS = {
    "the rows are batch-major: all rows of a step belong together": "order",
    "every step starts from the first state": "state",
    "tanh is left out": "tanh",
    "b_h is left out": "b_h",
    "b_q is left out": "b_q",
    "h @ W_hh is left out": "W_hh",
    "h @ W_hh is added after tanh": "outside",
    "W_hh is transposed": "W_hh transposed",
    "each row of logits comes from the state before the step, not after it": "before",
    "the tokens are reshaped, not transposed": "reshaped",
}


def try_attend(function: Callable[..., Any], backend: Any) -> Iterator[str]:
    """Yield the mistake in a student's `attend`, if any."""
    rng, tests, results = _generator(), list[Any](), list[Any]()
    solution, machine = find("attend", "numpy"), backend.machine
    for _ in range(NUM_TESTS):
        T, B, H = rng.permutation([3, 4, 5])
        hiddens, W_a = rng.normal(size=(T, B, H)), rng.normal(size=(H, H))
        # Frameworks refuse to mix precisions, and the notebook's tensors are float32.
        params = {"W_a": machine.tensor(W_a.astype("float32"), "cpu")}
        result = function(machine.tensor(hiddens.astype("float32"), "cpu"), params)
        if not isinstance(result, tuple | list) or len(result) != 2:
            yield "it does not return two results: the context and the weights"
        tests.append((hiddens, {"W_a": W_a}))
        results.append([_array(machine.array(part)) for part in result])
    names = "context", "weights"
    for n, name in enumerate(names):
        shape, right = results[0][n].shape, solution(*tests[0])[n].shape
        if shape != right:
            is_swapped = results[0][1 - n].shape == right
            hint = ". Return the context first" if is_swapped else ""
            yield f"the shape of the {name} is {shape} instead of {right}{hint}"
    for n in (1, 0):  # the context depends on the weights
        yield from _explain(
            [result[n] for result in results],
            tests,
            lambda *inputs, n=n: solution(*inputs)[n],
            lambda *inputs, n=n: _attend(*inputs)[n],
            WRONG_ATTENTION,
            f"{names[n]}: ",
        )


def _attend(hiddens: Any, params: Any, change: str) -> Any:
    """Compute attention with one change."""
    h, earlier = hiddens[-1], hiddens if change in ("last", "sum") else hiddens[:-1]
    query = h @ (params["W_a"].T if change == "transposed" else params["W_a"])
    query = h if change == "W_a" else query
    T, _, H = hiddens.shape
    scales = {"scale": 1, "H": H, "after": 1, "steps": T**0.5, "earlier steps": (T - 1) ** 0.5}
    scores = (earlier * query).sum(-1) / scales.get(change, H**0.5)
    axis = 1 if change == "axis" else 0
    powers = scores if change == "softmax" else numpy.exp(scores - scores.max(axis, keepdims=True))
    weights = powers / powers.sum(axis, keepdims=True) / (H**0.5 if change == "after" else 1)
    if change == "sum":
        earlier, weights = earlier[:-1], weights[:-1]
    context = (
        weights[..., None] * (earlier @ params["W_a"] if change == "values" else earlier)
    ).sum(0)
    changed = {"mean": earlier.mean(0), "h": context + h, "divided": context / (T - 1)}
    return changed.get(change, context), weights


WRONG_ATTENTION = {
    "the scores are not divided by the square root of H": "scale",
    "W_a is transposed": "transposed",
    "the last output is compared with itself, too": "last",
    "the weights do not add up to 1: exclude the last output before the softmax": "sum",
    "the softmax is over the rows of the minibatch, not over the steps": "axis",
    "the scores are divided by their sum, without exponentials": "softmax",
    "the context is the mean without the weights": "mean",
    "the scores are divided by H, not by its square root": "H",
    "the scores are divided by the square root of all steps, not of H": "steps",
    "the scores are divided by the square root of the earlier steps, not of H": "earlier steps",
    "the weights are divided by the square root of H: divide the scores": "after",
    "W_a is left out": "W_a",
    "the earlier outputs in the context are multiplied by W_a": "values",
    "the last output is added to the context": "h",
    "the context is the mean of the weighted outputs, not their sum": "divided",
}


def _generator() -> numpy.random.Generator:
    """Return a generator whose numbers nobody knows in advance."""
    return numpy.random.default_rng()


def _array(value: Any) -> numpy.ndarray:
    return numpy.asarray(_plain(value), dtype="float64")


def _explain(
    results: list[numpy.ndarray],
    tests: list[Any],
    solution: Callable[..., Any],
    mistaken: Callable[..., Any],
    mistakes: Mapping[str, str],
    title: str = "",
) -> Iterator[str]:
    """Yield a description of the first difference from the solution, if any.

    If the results agree with those of `mistaken` for one of the mistakes, name it: `mistakes` maps
    descriptions to the last argument of `mistaken`.
    """
    expected = [solution(*test) for test in tests]
    if _agree(results, expected):
        return
    found, right = next(pair for pair in zip(results, expected) if not _agree(*zip(pair)))
    if found.shape != right.shape:
        yield f"{title}the shape is {found.shape} instead of {right.shape}"
    with numpy.errstate(all="ignore"):
        for reason, change in mistakes.items():
            if _agree(results, [mistaken(*test, change) for test in tests]):
                yield f"{title}{reason}"
    place = numpy.unravel_index(numpy.argmax(~numpy.isclose(found, right)), right.shape)
    index = ", ".join(map(str, place))
    yield f"{title}element [{index}] is {found[place]:.4g} instead of {right[place]:.4g}"


def _agree(results: Iterable[Any], expected: Iterable[Any]) -> bool:
    """Return whether all arrays have the expected shapes and, up to rounding, values."""
    return all(
        result.shape == right.shape
        and numpy.allclose(result, right, rtol=1e-5, atol=1e-5, equal_nan=True)
        for result, right in zip(results, expected)
    )


# Tests, keyed by the function's name.
TESTS = {
    "best_run": try_best_run,
    "next_probabilities": try_next_probabilities,
    "faster_logits": try_faster_logits,
    "attend": try_attend,
}
