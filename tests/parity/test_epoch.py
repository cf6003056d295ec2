"""Training losses, learning rates, bias corrections and dropout masks."""

import math
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, run_in_process

import rnn_scratch
from rnn_scratch.settings import Settings
from rnn_scratch.text import minibatches
from rnn_scratch.training import schedule

TEXT = "one clock is right and two clocks are never sure\n" * 8
SETTINGS = {"num_hiddens": 8, "num_steps": 5, "batch_size": 3, "sigma": 1.0, "dtype": "float64"}


@pytest.fixture
def train(backend_name):
    """Return a function that trains on TEXT, by default in float64 and with large weights."""
    Path("t.txt").write_text(TEXT)
    return lambda **changes: rnn_scratch.train(
        backend_name, text="t.txt", **{**SETTINGS, **changes}
    )


# Training and held-out losses for three epochs. They were verified when they were recorded, so they
# reveal mistakes that all backends share.
LOSSES = {
    (("sampling", "sequential"), ("lr", 0.3), ("sigma", 0.3)): [
        (2.763920032596339, 2.5818252944169733),
        (2.4628438303890023, 2.3337037504447515),
        (2.173516981626556, 2.0110428375645926),
    ],
    (("sampling", "random"), ("lr", 0.3), ("sigma", 0.3)): [
        (2.7753716149980385, 2.5949023044288047),
        (2.485750632212615, 2.359185613007481),
        (2.2491871874069322, 2.0933575026111755),
    ],
    (("cell", "rnn-relu"), ("sigma", 0.1), ("theta", None), ("lr", 0.1)): [
        (2.9133917385782473, 2.8766838737034788),
        (2.8543998155798613, 2.8234031754024325),
        (2.8081784731720383, 2.780852392177545),
    ],
    (("theta", 0.01), ("seed", 5), ("normalize", "none")): [
        (4.670520809376894, 4.380737440684067),
        (4.6143013692479755, 4.307597298740537),
        (4.535127478969571, 4.242121467946261),
    ],
}


@pytest.mark.parametrize("case", LOSSES)
def test_first_epochs_have_recorded_losses(train, case):
    run = train(num_epochs=3, valid_tokens=60, **dict(case))
    losses = [(row.loss, row.valid_loss) for row in run.history]
    np.testing.assert_allclose(losses, LOSSES[case], rtol=1e-9)


COSINE = {"optimizer": "adam", "lr": 0.5, "schedule": "cosine", "warmup": 4}
DEEP = {**SMALL, "num_layers": 2, "dropout": 0.3}


@pytest.fixture
def record(monkeypatch):
    """Return a function that trains and returns all updates and dropout masks."""
    epoch_batches, each_update = minibatches.epoch_batches, schedule.each_update

    def record(train, *args, **kwargs):
        updates, masks = [], []

        def recorded_batches(*arguments):
            for batch in epoch_batches(*arguments):
                masks.append(batch.masks)
                yield batch

        def recorded_updates(*arguments):
            for update in each_update(*arguments):
                updates.append(update)
                yield update

        monkeypatch.setattr(minibatches, "epoch_batches", recorded_batches)
        monkeypatch.setattr(schedule, "each_update", recorded_updates)
        train(*args, **kwargs)
        return updates, masks

    return record


def test_learning_rate_warms_up_and_decays():
    settings = Settings(**COSINE)
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    # A linear warmup to 0.5, then cosine decay: 0.5 (1 + cos(π k / 8)) / 2 for k from 0 to 7.
    line = [0.125, 0.25, 0.375, 0.5]
    wave = [0.5, 0.4809698831278217, 0.4267766952966369, 0.34567085809127246]
    assert rates == pytest.approx([*line, *wave, 0.25, *(0.5 - rate for rate in wave[:0:-1])])
    updates = schedule.each_update(settings, 0, total=4)
    assert [next(updates).lr for _ in range(9)] == [*line, *[0.5] * 5]
    settings = Settings(**{**COSINE, "schedule": "constant"})
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    assert rates == [*line, *[0.5] * 8]


def test_updates_have_scheduled_hyperparameters(record):
    settings = {**SMALL, **COSINE, "num_epochs": 3, "dtype": "float64"}
    updates, _ = record(rnn_scratch.train, "numpy", **settings)
    settings = Settings(**{n: v for n, v in settings.items() if n != "corpus"})
    total = len(updates)
    assert total == schedule.num_updates(SMALL["max_tokens"], settings, 3) > 40
    for t, update in enumerate(updates, 1):
        assert update.lr == schedule.learning_rate(settings, t, total)
        assert update.c_m == pytest.approx(1 - 0.9**t, rel=1e-12)
        assert update.c_v == pytest.approx(1 - math.exp(t * math.log(0.999)), rel=1e-9)


def test_masks_depend_on_seed_and_update(record):
    _, masks = record(rnn_scratch.train, "numpy", num_epochs=2, output="r", **DEEP)
    _, other_seed = record(rnn_scratch.train, "numpy", num_epochs=2, **{**DEEP, "seed": 1})
    _, resumed = record(rnn_scratch.resume, "r", 3)
    groups = [{mask.tobytes() for mask in group} for group in (masks, other_seed, resumed)]
    assert len(set.union(*groups)) == sum(map(len, (masks, other_seed, resumed)))
    masks = np.stack(masks)
    assert masks.shape[1:] == (6, 2, 4, 12)  # T, L, B, H
    num_dropped = round(0.3 * 2**16)  # each random number has 2**16 possible values
    assert set(np.unique(masks)) == {0, np.float32(2**16 / (2**16 - num_dropped))}
    # The standard deviation of the fraction of zeros is below 0.003.
    assert abs((masks == 0).mean() - 0.3) < 0.012


def test_cosine_resumes_only_to_its_end(capsys):
    rnn_scratch.train("numpy", output="cosine", num_epochs=2, **{**DEEP, **COSINE})
    run_in_process(capsys, "train", "--resume", "cosine", "--num-epochs", 3).assert_error(
        "`--num-epochs`: 2 before, 3 now.\nThe cosine schedule fixes the total number of epochs."
    )
