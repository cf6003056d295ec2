"""Check exact mode: compare each model's digests with the first model's after every update."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import exact, registry
from ..contract import VARIANTS, Batch, Params, Slots, State
from ..errors import NotSupportedError, RNNScratchError, truncate
from ..parameters import trained_arrays
from ..randomness import generator
from ..settings import Settings
from ..system import processes
from ..system.processes import one_line
from ..system.records import Record
from ..system.terminal import LogLine
from ..text import books, minibatches
from ..training import loop
from ..training.runtime import Runtime
from ..training.setup import RunContext, prepare_run

EPOCH_TIMEOUT = 24 * 3600.0  # seconds to wait for one epoch
NUM_DIGESTS = 10  # approximate number per model, excluding epoch 0
DISTANCE = 1e-6  # relative distance between states, small enough that tanh is nearly linear
MAX_GROWTH = 1e3  # growth was at least 8e3 in runs whose final digests differed between frameworks


class EpochDigest(Record):
    """A model's digest at the end of an epoch; epoch 0 stands for the initial parameters."""

    epoch: int
    perplexity: float | None  # None for epoch 0 or if not finite
    updates: int  # number of updates so far
    digest: str  # digest of all parameters and optimizer slots


class ExactModel(Record):
    """The outcome of training a model."""

    backend: str
    variant: str
    outcome: str  # "trained", "failed" or "not supported"
    reason: str  # reason for an outcome other than "trained"
    digests: list[EpochDigest]  # one per selected epoch, starting with epoch 0

    @property
    def title(self) -> str:
        """The backend and, unless it is the default, the variant."""
        return self.backend + f" ({self.variant})" * (self.variant != VARIANTS[0])


class ExactResult(Record):
    """The result of an exact-mode check, as printed by `check --exact --json`."""

    settings: Settings
    text: str  # SHA-256 digest of the text
    models: list[ExactModel]
    equal: bool  # whether at least one model trained, none failed, and all digests matched

    @property
    def summary(self) -> str:
        """What was compared, and what was not."""
        trained = [model for model in self.models if model.digests]
        titles, end = ", ".join(model.title for model in trained), trained[0].digests[-1]
        names = " ".join(dict.fromkeys(model.backend for model in trained))
        if not trained[1:]:
            end_digest = f"after {end.updates:,} updates, digest {end.digest}"
            return f"{titles}: nothing to compare with {end_digest}."
        return (
            f"{titles}: equal after each of {end.updates:,} updates, digest {end.digest}.\n"
            "A small error may appear only in later updates. To compare each function, run:\n"
            f"rnn-scratch check {names}"
        )


def compare(
    runtimes: Sequence[Runtime], settings: Settings, text: books.Text, log: LogLine, update: Any
) -> ExactResult:
    """Train each runtime's model in exact mode and compare the models after every update.

    `log` receives a line for each model, and `update` receives the progress after each epoch.
    """
    is_warned = False
    with contextlib.suppress(NotSupportedError):  # the reference may lack the cell
        reference = prepare_run(settings, Runtime("numpy"), text)
        if is_warned := (factor := measure_growth(reference)) >= MAX_GROWTH:
            log(describe(factor))
    # Put the reference first if `runtimes` contains it.
    runtimes = sorted(runtimes, key=lambda r: r != Runtime("numpy", device=r.device))
    models, first_title, expected = list[ExactModel](), "", list[dict[str, str]]()
    interval = max(1, settings.num_epochs // NUM_DIGESTS)
    for runtime in runtimes:
        model = ExactModel(runtime.backend, runtime.variant, "trained", "", [])
        models.append(model)
        log(f"training {model.title} ...")
        digests, task = list[dict[str, str]](), (runtime, settings, text, first_title, expected)
        reports = processes.ask(_train, *task, timeout=EPOCH_TIMEOUT)
        try:
            for epoch_digest, new_digests, factor in reports:
                digests += new_digests
                is_last = epoch_digest.epoch == settings.num_epochs
                if factor >= MAX_GROWTH and not is_warned and not is_last:
                    log(f"After epoch {epoch_digest.epoch:,}: {describe(factor)}")
                    is_warned = True
                line = f"{model.title}: epoch {epoch_digest.epoch:,} of {settings.num_epochs:,}"
                update(completed=epoch_digest.epoch / settings.num_epochs, description=line)
                if epoch_digest.epoch % interval == 0 or epoch_digest.epoch == settings.num_epochs:
                    model.digests.append(epoch_digest)
        except RNNScratchError as error:
            model.outcome = "not supported" if isinstance(error, NotSupportedError) else "failed"
            model.reason = one_line(str(error))
        else:
            if not first_title:
                first_title, expected = model.title, digests
    equal = bool(first_title) and all(m.outcome in ("trained", "not supported") for m in models)
    return ExactResult(settings=settings, text=text.sha256, models=models, equal=equal)


def _train(
    runtime: Runtime,
    settings: Settings,
    text: books.Text,
    first_title: str,
    expected: list[dict[str, str]],
) -> Iterator[tuple[EpochDigest, list[dict[str, str]], float]]:
    """Train a model in a child process, yielding digests at the start and after each epoch.

    Each item contains the model's digest, the new digests of its tensors, one dict per update, and,
    for the first model, the factor by which rounding errors now grow (0 for the others). Raises
    RNNScratchError on the first digest that differs from `expected`.
    """
    context = prepare_run(settings, runtime, text)
    digests, num_sent, array = list[dict[str, str]](), 0, context.backend.machine.array
    advice = f"To check each function, run: rnn-scratch check {runtime.backend}"

    def compare_digests(state: State) -> str:
        """Append the current digests; return the names of tensors that differ from `expected`."""
        arrays, update = trained_arrays(context.model), len(digests)
        if minibatches.carries_state(settings.sampling):  # adding 0 turns -0 into 0
            arrays |= {f"state {i}": array(tensor) + 0.0 for i, tensor in enumerate(state)}
        digests.append({name: exact.digest({name: value}) for name, value in arrays.items()})
        pairs = expected[update].items() if update < len(expected) else ()
        names = [name for name, digest in pairs if digests[-1].get(name, digest) != digest]
        return truncate(", ".join(names), 80)

    train_minibatch = context.model.train_minibatch

    def watched_step(params: Params, slots: Slots, batch: Batch, state: State, *others: Any) -> Any:
        arrays = trained_arrays(context.model) if expected else {}
        results = train_minibatch(params, slots, batch, state, *others)
        _, context.model.params, context.model.slots, last_state = results
        if names := compare_digests(last_state):
            # Measure error growth with the parameters that the update started from.
            options = context.model.options
            previous_model = registry.build(context.backend, runtime.variant, arrays, options)
            X, *start = map(array, (batch.X, *state))
            factor = measure_growth(replace(context, model=previous_model), X, np.stack(start))
            place = f"after update {len(digests) - 1:,}, in {names}. {describe(factor)}"
            hint = advice if factor < MAX_GROWTH else ""
            raise RNNScratchError(f"It differs from {first_title} {place}", hint)
        return results

    if names := compare_digests(()):
        raise RNNScratchError(f"It differs from {first_title} from the start, in {names}.", advice)
    context.model.train_minibatch = watched_step
    epochs = ((epoch.epoch, epoch.perplexity) for epoch in loop.epochs(context))
    for epoch, perplexity in itertools.chain([(0, None)], epochs):
        digest = exact.digest(trained_arrays(context.model))
        factor = 0.0 if expected else measure_growth(context)
        yield EpochDigest(epoch, perplexity, len(digests) - 1, digest), digests[num_sent:], factor
        num_sent = len(digests)


@np.errstate(all="ignore")  # the model may be diverging
def measure_growth(
    context: RunContext, X: np.ndarray | None = None, start: np.ndarray | None = None
) -> float:
    """Return the factor by which rounding errors grow over a minibatch, or infinity if unknown.

    Its logarithm, divided by T, estimates the largest Lyapunov exponent (Benettin et al., 1980).
    The model reads tokens `X` (B, T), once from states `start` (n, B, H) and once from
    states a small distance away. By default, `X` is the first minibatch, and `start` is the state
    after reading it. After each step, the difference is rescaled to this distance, or redrawn if
    it is zero. Rounding errors are proportional to the state, so the product of the per-step growth
    factors is multiplied by the state's largest absolute element if that element exceeds 1.
    """
    model, machine, device = context.model, context.backend.machine, context.runtime.device
    if X is None:
        X = next(minibatches.epoch_batches(context.dataset.train, context.settings, 1)).X

    def read(tokens: np.ndarray, state: np.ndarray) -> np.ndarray:
        tensors = tuple(machine.tensor(array, device) for array in state)
        tokens = machine.tensor(tokens, device)
        _, last = model.forward(tokens, tensors, model.params, model.options)
        return np.stack([machine.array(tensor) for tensor in last])

    zeros = np.zeros((model.options.num_states, len(X), model.options.num_hiddens))
    state, rng = read(X, zeros) if start is None else start, generator(0, "growth")
    difference, product, largest = rng.normal(size=state.shape), 1.0, 1.0
    for t in range(X.shape[1]):
        if not difference.any():
            difference, product = rng.normal(size=state.shape), 1.0
        distance = DISTANCE * max(1.0, float(np.linalg.norm(state)) / state.size**0.5)
        difference *= distance / np.linalg.norm(difference)
        tokens = X[:, t : t + 1]
        shifted_state, state = read(tokens, state + difference), read(tokens, state)
        difference = shifted_state - state
        largest = max(largest, float(np.abs(state).max()))
        product *= float(np.linalg.norm(difference)) / distance
    return product * largest if math.isfinite(product * largest) else math.inf


def describe(factor: float) -> str:
    """Describe how rounding errors grow and whether digests may differ between frameworks."""
    if factor < 1:
        return "Within a minibatch, rounding errors in the state shrink, so they are not the cause."
    size = f"{factor:.0f}" if factor < MAX_GROWTH else f"{factor:.0e}"
    sentence = f"Within a minibatch, rounding errors in the state grow by a factor of {size}."
    if factor < MAX_GROWTH:
        return sentence
    return (
        f"{sentence} Therefore, frameworks may end with different digests in exact mode. "
        "To reduce this growth, use a smaller `sigma` or `num_steps`, or the cell lstm."
    )
