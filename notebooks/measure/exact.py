"""Write ``exact.json``, the parity page's record of exact-mode digests and a safety factor.

`python -m measure exact FILE [EPOCHS]` trains all variants of all backends for EPOCHS
epochs (default: 500), and smaller networks with other settings for 20 epochs. The safety factor is
measured on the plain variants, during the first 20 epochs.

Frameworks agree exactly as long as no midpoint between adjacent multiples of the grid separates
their values. They add the terms of clipped gradients and carried states in different orders, but
compute equal parameters from equal gradients. The safety factor is the smallest ratio, over all
gradient and state elements, of the distance from the nearest midpoint to the difference between
two frameworks.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import structs

from measure.measuring import write
from rnn_scratch import exact, registry
from rnn_scratch.check import exact_mode
from rnn_scratch.contract import OPTIMIZERS, VARIANTS, Arrays
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, minibatches
from rnn_scratch.training import schedule
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import RunContext, prepare_run

OBSERVED_EPOCHS = 20
VARIATIONS = (
    *({"cell": cell} for cell in ("gru", "gru-after", "lstm", "rnn-relu")),
    {"optimizer": "momentum", "lr": 0.1},
    {"optimizer": "adam", "lr": 0.002},
    {"num_layers": 2, "dropout": 0.5, "embedding": 32},
)
GRADIENT = "gradient "  # prefix of gradient names


def observe(runs: Sequence[RunContext]) -> Iterator[tuple[list[Arrays], bool]]:
    """Train models on the same minibatches; yield the values that exact mode rounds in each update.

    The values are each model's clipped gradients and carried state; the flag tells whether
    gradients were clipped. Raise SystemExit if the models' parameters differ after an update.
    """
    settings, updates = runs[0].settings, 0
    for epoch in range(1, settings.num_epochs + 1):
        states = [
            run.backend.scratch.init_state(settings.batch_size, run.model.options) for run in runs
        ]
        batches = minibatches.epoch_batches(runs[0].dataset.train, settings, epoch)
        for batch, update in zip(batches, schedule.each_update(settings, updates, updates + 1)):
            values, clipped = [], False
            for index, run in enumerate(runs):
                scratch, model = run.backend.scratch, run.model
                tensors = batch.map(run.backend.machine.tensor, "cpu")
                _, grads, state = model.gradients(
                    model.params, tensors, states[index], model.options
                )
                grads, norm = scratch.clip(grads, update.theta)
                clipped = float(norm) > update.theta
                arrays = {GRADIENT + name: a for name, a in model.to_arrays(grads).items()}
                state_arrays = [run.backend.machine.array(tensor) + 0.0 for tensor in state]
                values.append(arrays | {f"state {i}": a for i, a in enumerate(state_arrays)})
                optimizer = run.backend.exact.make_exact(scratch.OPTIMIZERS[update.optimizer])
                model.params, model.slots = optimizer(model.params, grads, model.slots, update)
                round_to_grid = run.backend.exact.round_to_grid
                states[index] = tuple(round_to_grid(s, exact.STATE_GRID) for s in state)
            digests = {exact.digest(run.model.to_arrays(run.model.params)) for run in runs}
            if len(digests) > 1:
                raise SystemExit("The models are not equal: check --exact says where they differ.")
            updates += 1
            yield values, clipped


def closest_call(expected: Arrays, actual: Arrays, gradient_grid: float) -> dict[str, Any]:
    """Return the element that came closest to rounding differently in the two dicts.

    If all arrays are equal, return only the ratio, which is infinite.
    """
    closest = {"ratio": np.inf}
    for name, array in expected.items():
        grid = gradient_grid if name.startswith(GRADIENT) else exact.STATE_GRID
        pair = array, actual[name]
        distance = np.min([distances(values, grid) for values in pair], axis=0)
        difference = np.abs(pair[0] - pair[1])
        ratio = np.full(array.shape, np.inf)
        np.divide(distance, difference, out=ratio, where=difference > 0)
        index = np.unravel_index(ratio.argmin(), ratio.shape)
        if ratio[index] < closest["ratio"]:
            closest = {"tensor": name, "index": [int(i) for i in index]}
            values = {"ratio": ratio, "distance": distance, "difference": difference}
            closest |= {name: float(array[index]) for name, array in values.items()}
    return closest


def distances(values: np.ndarray, grid: float) -> np.ndarray:
    """Return each value's distance from the nearest midpoint between multiples of `grid`."""
    # These operations are exact, because the grid is a power of two.
    multiples = np.abs(values) / grid
    return np.abs(multiples - np.floor(multiples) - 0.5) * grid


def certify(backends: Sequence[str], settings: Settings, text: books.Text) -> dict[str, Any]:
    """Compare the other backends with the first; return the closest call and the update counts."""
    runtimes = [Runtime(name, device="cpu", threads=1) for name in backends]
    runs = [prepare_run(settings, runtime, text) for runtime in runtimes]
    has_slots = bool(OPTIMIZERS[settings.optimizer].slots)
    gradient_grid = exact.FINE_GRID if has_slots else exact.GRID
    closest, updates, clipped = {"ratio": np.inf}, 0, 0
    for (expected, *arrays), is_clipped in observe(runs):
        updates, clipped = updates + 1, clipped + is_clipped
        for backend, actual in zip(backends[1:], arrays):
            call = closest_call(expected, actual, gradient_grid)
            if call["ratio"] < closest["ratio"]:
                closest = {**call, "backend": backend, "update": updates}
    return {**closest, "updates": updates, "clipped": clipped}


def compare(settings: Settings, text: books.Text) -> exact_mode.ExactResult:
    """Train all variants of all backends; raise SystemExit unless all results are equal."""
    names = registry.BUILTIN_BACKENDS
    runtimes = [Runtime(name, model, "cpu", threads=1) for name in names for model in VARIANTS]
    result = exact_mode.compare(runtimes, settings, text, print, update=lambda **progress: None)
    if not result.equal:
        raise SystemExit("The models are not equal: check --exact says where they differ.")
    return result


def train_variations(text: books.Text) -> Iterator[dict[str, Any]]:
    """Train with each of VARIATIONS; yield the final digest and the number of equal models."""
    for changes in VARIATIONS:
        settings = Settings(num_hiddens=128, num_epochs=OBSERVED_EPOCHS, exact=True, **changes)
        trained = [m for m in compare(settings, text).models if m.outcome == "trained"]
        digest = trained[0].digests[-1].digest
        yield {"settings": changes, "digest": digest, "models": len(trained)}


def main(file: str, epochs: str = "500") -> None:
    """Train with the chapter's settings and their variations, and write the record."""
    text = books.load("time-machine")
    result = compare(Settings(num_epochs=int(epochs), exact=True), text)
    record = structs.asdict(result)
    observed = Settings(num_epochs=min(OBSERVED_EPOCHS, int(epochs)), exact=True)
    certificate = certify(registry.BUILTIN_BACKENDS, observed, text)
    write(file, {**record, "others": list(train_variations(text)), "certificate": certificate})
