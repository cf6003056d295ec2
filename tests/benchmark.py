"""Speed of training, measured in turns in one process: `nox -s benchmark`.

Minibatches of the chapter's settings in float32, one after another in each model and again from
the beginning, so that a machine that slows down slows them all. Beside them stands the limit: the
matrix products that a minibatch is made of, and nothing else, timed in the same turns. Nothing
here is asserted.
"""

import argparse
import statistics
import time

import numpy as np

from rnn_scratch import machine, registry
from rnn_scratch.contract import Options, RNNScratchError, Update
from rnn_scratch.initial import initial

B, T, H, V = 32, 35, 512, 28


def minibatch(backend, model):
    """A function that trains one minibatch and waits for the device."""
    chance = np.random.RandomState(0)
    tokens = chance.randint(0, V, (B, T + 1))
    X, Y = (backend.tensor(tokens[:, part], "cpu") for part in (slice(0, T), slice(1, T + 1)))
    state = model.state(B, H, model.options)

    def once():
        nonlocal state
        loss, state = backend.train_minibatch(model, X, Y, state, Update())
        float(loss)
        backend.synchronize("cpu")

    return once


def products(backend):
    """A function that does the matrix products of one minibatch: the limit for any of them."""
    chance = np.random.RandomState(0)
    h, W, hs, dz = (
        backend.tensor(chance.normal(size=shape).astype("float32"), "cpu")
        for shape in ((B, H), (H, H), (H, T * B), (T * B, H))
    )
    matmul = (lambda a, b: a.dot(b)) if hasattr(h, "asnumpy") else (lambda a, b: a @ b)

    def once():
        for _ in range(2 * T):  # forward and back, a step each
            product = matmul(h, W)
        product = matmul(hs, dz)  # the gradient of W_hh, over all steps at once
        backend.array(product)
        backend.synchronize("cpu")

    return once


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="numpy,torch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--per-round", type=int, default=4)
    asked = parser.parse_args()

    arrays = initial(V, H, 0.01, 0)
    trials = {}
    for name in asked.backends.split(","):
        backend = registry.load(name)
        backend.set_threads(asked.threads)
        trials[f"{name} limit"] = products(backend)
        for kind in ("scratch", "concise"):
            try:
                model = getattr(backend, kind)(arrays, Options())
            except RNNScratchError:
                continue
            trials[f"{name} {kind}"] = minibatch(backend, model)
    for once in trials.values():
        for _ in range(5):  # compile, warm up
            once()
    seconds = {name: [] for name in trials}
    for _ in range(asked.rounds):
        for name, once in trials.items():
            start = time.perf_counter()
            for _ in range(asked.per_round):
                once()
            seconds[name].append((time.perf_counter() - start) / asked.per_round)

    median = {name: statistics.median(values) for name, values in seconds.items()}
    limit = min(value for name, value in median.items() if name.endswith("limit"))
    print(f"{machine.processor()}, threads: {asked.threads}, B {B}, T {T}, H {H}, V {V}, float32")
    columns = "ms", "tokens/s", "of own limit", "of best limit", "to own layer", "to torch layer"
    print(f"{'':20}" + "".join(f"{column:>15}" for column in columns))
    for name, value in median.items():
        backend = name.split()[0]
        cells = (
            f"{1e3 * value:.2f}",
            f"{B * T / value:,.0f}",
            f"{median[f'{backend} limit'] / value:.0%}",
            f"{limit / value:.0%}",
            _ratio(median.get(f"{backend} concise"), value),
            _ratio(median.get("torch concise"), value),
        )
        print(f"{name:20}" + "".join(f"{cell:>15}" for cell in cells))


def _ratio(other, value):
    return f"{other / value:.2f}" if other else "-"


if __name__ == "__main__":
    main()
