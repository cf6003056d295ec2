"""What the worked solutions say of the measured exercises, held against the record."""

import json
from pathlib import Path

import numpy as np
import pytest
from tools.exercises import train_epoch_not_detached

from rnn_scratch import initial, registry
from rnn_scratch.contract import Options, Update

RECORD = Path(__file__).parent.parent / "notebooks" / "records" / "exercises.json"


def test_what_the_solutions_say_of_the_measured_exercises_is_so():
    found = json.loads(RECORD.read_text(encoding="utf-8"))
    curves = {name: each["perplexity"] for name, each in found["runs"].items()}
    unseen = {name: each["held out"] for name, each in found["runs"].items()}
    # 2: lower where it was trained with more units, and no better on what was held out.
    assert curves["512 hidden units"][-1] < curves["tanh, seed 0"][-1] < 1.6
    assert curves["64 hidden units"][-1] > 3
    for name in ("64 hidden units", "512 hidden units", "10 time steps", "random sampling"):
        assert abs(min(unseen[name]) - min(unseen["tanh, seed 0"])) < 0.5
        assert unseen[name][-1] > min(unseen[name]) + 1
    assert min(unseen["20,000 characters"]) < min(unseen["tanh, seed 0"]) - 1
    assert curves["learning rate 3"][-1] > 28
    # And embeddings: late at first, the later the fewer numbers; lower in the end, by heart.
    begun = []
    for size in (2, 8, 32):
        for seed in range(3):
            name, plain = f"embedding {size}, seed {seed}", f"tanh, seed {seed}"
            assert curves[plain][19] < 10 < 16 < curves[name][19] < 17
            assert curves[name][-1] < curves[plain][-1]
            assert min(unseen[name]) > min(unseen[plain])
            begun.append(next(n for n, each in enumerate(curves[name]) if each < 10))
    assert min(begun[:3]) > max(begun[3:6]) >= min(begun[3:6]) > max(begun[6:])
    # 4: the same at first, and lost late, most of the time.
    free = {seed: curves[f"tanh, not clipped, seed {seed}"] for seed in range(6)}
    assert sum(max(curve[50:]) > 28 for curve in free.values()) > 3
    for seed in (0, 1, 2):
        clipped = curves[f"tanh, seed {seed}"]
        assert free[seed][49] == clipped[49]
        assert max(clipped) < 28
        # 6: ReLU is faster clipped.
        assert curves[f"relu, seed {seed}"][-1] < clipped[-1]
    # And a little worse not clipped.
    clipped = max(curves[f"relu, seed {seed}"][-1] for seed in (0, 1, 2))
    for seed in range(6):
        assert clipped < curves[f"relu, not clipped, seed {seed}"][-1] < 2
    assert found["runs"]["relu, not clipped, sigma 0.07"]["outcome"] == "failed"
    assert found["runs"]["relu, not clipped, sigma 0.07"]["epochs"] == 0
    assert curves["tanh, not clipped, sigma 0.07"][-1] > 28
    assert curves["relu, sigma 0.07"][-1] < curves["tanh, sigma 0.07"][-1] < 28
    # 5: longer, and not better.
    for reached in found["not detached"].values():
        seconds, perplexity = ([each[key] for each in reached.values()]
                               for key in ("seconds", "perplexity"))  # fmt: skip
        assert seconds == sorted(seconds)
        assert min(perplexity) > perplexity[0] - 0.05


def test_what_is_measured_as_not_detached(candidate):
    backend = registry.load(candidate)
    tokens = np.random.RandomState(0).randint(0, 5, (3, 17))
    batches = [(tokens[:, i : i + 4], tokens[:, i + 1 : i + 5]) for i in (0, 4, 8, 12)]
    arrays = initial.initial(5, 7, 1.0, 0)
    losses = {}
    for reach in (1, 2, 4):
        model = backend.scratch(arrays, Options("tanh", "float64", "cpu"))
        losses[reach] = train_epoch_not_detached(backend, model, batches, reach)
    model = backend.scratch(arrays, Options("tanh", "float64", "cpu"))
    total, number, _ = backend.train_epoch(model, batches, Update(), True)
    assert losses[1] == pytest.approx(total / number, rel=1e-12)
    assert len({f"{loss:.6f}" for loss in losses.values()}) == 3, losses
