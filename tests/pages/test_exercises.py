"""What lessons and worked solutions say about what was measured is what the records show."""

import json

import numpy as np
import pytest
from helpers import RECORDS
from make import readme
from measure import gates
from measure.exercises import train_epoch_not_detached
from measure.measuring import write

from rnn_scratch import parameters, registry
from rnn_scratch.check import growth
from rnn_scratch.contract import Batch, Options, Rates, Update
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset


def read(name):
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def test_the_statements_of_the_solutions_are_true():
    record = read("exercises")
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


def test_the_statements_of_the_lesson_on_gates_are_true():
    runs = read("gates")["runs"]

    def reach(name, epoch):
        norms = runs[name]["norms"][str(epoch)]
        return next((n for n, norm in enumerate(norms, 1) if norm < norms[0] / 10), len(norms))

    for seed in range(3):
        rnn, *gated, biased = (
            [reach(f"{name}, seed {seed}", epoch) for epoch in (0, 20, 50, 100, 500)]
            for name in ("rnn", "gru", "lstm", "lstm, forget bias 1")
        )
        # The plain cell's grows first, the gated cells' hardly for a hundred epochs.
        assert rnn[3] > 3 * rnn[0]
        assert all(abs(cell[n] - cell[0]) < 2 for cell in gated for n in (1, 2, 3))
        assert biased[0] == 9
        assert biased[3] in (5, 6)
        # At the end all are dozens of steps, and most with the bias.
        assert biased[4] > max(rnn[4], gated[0][4], gated[1][4])
        assert min(rnn[4], gated[0][4], gated[1][4]) > 36
        # In the cell of its training the network is best at the end, and in the other much worse.
        read_as = runs[f"gru, seed {seed}"]["read as"]
        assert read_as["500"]["gru"] == min(each["gru"] for each in read_as.values())
        assert read_as["500"]["gru-after"] > 3 * read_as["100"]["gru-after"]


def test_the_statements_about_the_growth_of_differences_are_true():
    record = read("growth")
    assert {*record["equal"]} == {*registry.OURS[1:]}
    grown = {cell: dict(rows) for cell, rows in record["growth"].items()}
    for rows in record["equal"].values():
        for scale, equal, made in rows:
            if scale <= 3:
                assert equal == made
            elif scale >= 5:
                assert equal < made
    # A warning comes before the first trainings that differ.
    assert grown["rnn"][3] < growth.UNLIKELY < grown["rnn"][3.5]
    for scale, factor in grown["rnn"].items():
        assert factor > 100 * max(grown["gru"][scale], grown["lstm"][scale]) or scale < 1.5


def test_the_statements_of_make_it_learn_well_are_true():
    held_out = {
        path.name: [row.valid_perplexity for row in history]
        for path, _, history in readme.recorded(RECORDS / "learn")
    }
    best = {name: min(curve) for name, curve in held_out.items()}
    # A schedule: equally good at best, and best at the end.
    assert best["cosine"] == pytest.approx(best["constant"], rel=0.01)
    assert held_out["cosine"][-1] < 1.01 * best["cosine"]
    assert held_out["constant"][-1] > 1.3 * best["constant"]
    # Dropout: better, and little or no rise.
    assert held_out["one-layer"].index(best["one-layer"]) == 22
    assert held_out["one-layer"][-1] > 1.2 * best["one-layer"]
    assert held_out["dropout"][-1] < 1.05 * best["dropout"] < 1.05 * best["one-layer"]
    assert held_out["two-layers"][-1] == best["two-layers"]
    # The preset: one of the settings tried is better and takes longer.
    record = read("presets")
    (chosen,) = record["presets"]["minute"]["trainings"]
    better = [each for each in record["tried"] if min(each["held_out"]) < min(chosen["held_out"])]
    assert len(better) == 1
    minute = record["presets"]["minute"]["arguments"]
    assert better[0]["arguments"]["num_epochs"] > minute["num_epochs"]


def test_how_the_reach_of_gradients_is_measured(monkeypatch):
    changes = {"BACKEND": "numpy", "SETTINGS": Settings(num_hiddens=4, num_epochs=2)}
    for name, value in {**changes, "EPOCHS": (0, 2)}.items():
        monkeypatch.setattr(gates, name, value)
    text = dataset.prepare(books.load(books.BUILT_IN), gates.SETTINGS)
    measured = gates.run("gru", 0, 0, registry.start("numpy", threads=1)[0], text)
    assert {*measured["perplexity"]} == {"2"}
    assert {name: len(norms) for name, norms in measured["norms"].items()} == {"0": 100, "2": 100}
    assert {*measured["read as"]["2"]} == {"gru", "gru-after"}


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = {"lines": ["two  spaces", "a \n line"], "rows": [{"row": [1, 2.5]}, None]}
    write(tmp_path / "record.json", record)
    written = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert written.pop("machine")["rnn_scratch"]
    assert written == record


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
