"""What the worked solutions say about the measured exercises is what the record shows."""

import json

import numpy as np
import pytest
from helpers import RECORDS
from measure.exercises import train_epoch_not_detached

from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, Options, Rates, Update


def test_the_statements_of_the_solutions_are_true():
    record = json.loads((RECORDS / "exercises.json").read_text(encoding="utf-8"))
    curves = {name: run["perplexity"] for name, run in record["runs"].items()}
    held_out = {name: run["held out"] for name, run in record["runs"].items()}
    # 2: lower on the training text with more units, and no better on held-out text.
    assert curves["512 hidden units"][-1] < curves["tanh, seed 0"][-1] < 1.6
    assert curves["64 hidden units"][-1] > 3
    for name in ("64 hidden units", "512 hidden units", "10 time steps", "random sampling"):
        assert abs(min(held_out[name]) - min(held_out["tanh, seed 0"])) < 0.5
        assert held_out[name][-1] > min(held_out[name]) + 1
    assert min(held_out["20,000 characters"]) < min(held_out["tanh, seed 0"]) - 1
    assert curves["learning rate 3"][-1] > 28
    # Embeddings: a slow start, the slower the fewer numbers; lower in the end, by memorizing.
    starts = []
    for size in (2, 8, 32):
        for seed in range(3):
            name, plain = f"embedding {size}, seed {seed}", f"tanh, seed {seed}"
            assert curves[plain][19] < 10 < 16 < curves[name][19] < 17
            assert curves[name][-1] < curves[plain][-1]
            assert min(held_out[name]) > min(held_out[plain])
            starts.append(next(n for n, each in enumerate(curves[name]) if each < 10))
    assert min(starts[:3]) > max(starts[3:6]) >= min(starts[3:6]) > max(starts[6:])
    # The other book is a little harder, and far below its baseline.
    for run in record["books"].values():
        assert run["held out"][-1] < min(run["held out"]) + 0.2
        assert abs(run["held out"][-1] - run["perplexity"][-1]) < 0.6
        assert run["held out"][-1] < run["other book"] < run["held out"][-1] + 1
        assert run["other book"] < run["unigrams of the other book"] / 2
    # 4: the same at first; most of the runs diverge late.
    free = {seed: curves[f"tanh, not clipped, seed {seed}"] for seed in range(6)}
    assert sum(max(curve[50:]) > 28 for curve in free.values()) > 3
    for seed in (0, 1, 2):
        clipped = curves[f"tanh, seed {seed}"]
        assert free[seed][49] == clipped[49]
        assert max(clipped) < 28
        # 6: with clipping, ReLU is faster than tanh.
        assert curves[f"relu, seed {seed}"][-1] < clipped[-1]
    # Without, it is a little worse.
    clipped = max(curves[f"relu, seed {seed}"][-1] for seed in (0, 1, 2))
    for seed in range(6):
        assert clipped < curves[f"relu, not clipped, seed {seed}"][-1] < 2
    assert record["runs"]["relu, not clipped, sigma 0.07"]["outcome"] == "failed"
    assert record["runs"]["relu, not clipped, sigma 0.07"]["epochs"] == 0
    assert curves["tanh, not clipped, sigma 0.07"][-1] > 28
    assert curves["relu, sigma 0.07"][-1] < curves["tanh, sigma 0.07"][-1] < 28
    # 5: slower, and not better.
    for reaches in record["not detached"].values():
        seconds, perplexity = (
            [reach[key] for reach in reaches.values()] for key in ("seconds", "perplexity")
        )
        assert seconds == sorted(seconds)
        assert min(perplexity) > perplexity[0] - 0.05


@pytest.mark.frameworks(by_default=("torch",))
@pytest.mark.parametrize("model", ["scratch", "fast"])
def test_gradients_that_are_not_detached(backend, candidate, model):
    if candidate not in registry.OURS:
        pytest.skip(f"{candidate} is a backend of another package")
    tokens = np.random.RandomState(0).randint(0, 5, (3, 17), "int64")
    rates = Rates(np.array(1.0))
    starts = (0, 4, 8, 12)
    batches = [Batch(tokens[:, i : i + 4], tokens[:, i + 1 : i + 5], rates=rates) for i in starts]
    options = Options(5, 7, dtype="float64")
    arrays = parameters.initial(options, 1.0, 0)

    def build():
        return getattr(backend, model).build(arrays, options)

    losses = {
        reach: train_epoch_not_detached(backend, build(), batches, reach) for reach in (1, 2, 4)
    }
    expected, _ = backend.scratch.train_epoch(build(), batches, Update(), True)
    np.testing.assert_allclose(losses[1], expected, rtol=1e-12)
    assert len({f"{sum(values):.6f}" for values in losses.values()}) == 3, losses
    # While the parameters stay the same, so do the losses.
    expected, _ = backend.scratch.train_epoch(build(), batches, Update(theta=1e-20), True)
    for reach in (1, 2, 4):
        constant = train_epoch_not_detached(backend, build(), batches, reach, Update(theta=1e-20))
        np.testing.assert_allclose(constant, expected, rtol=1e-12)
