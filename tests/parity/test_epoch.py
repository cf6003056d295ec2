"""Some numbers of whole runs as literals, learning rates and masks."""

import math
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, here

import rnn_scratch
from rnn_scratch.runs import schedule
from rnn_scratch.settings import Settings

TEXT = "one clock is right and two clocks are never sure\n" * 8
SETTINGS = {"num_hiddens": 8, "num_steps": 5, "batch_size": 3, "sigma": 1.0, "dtype": "float64"}


@pytest.fixture
def train(backend_name):
    """A function that trains on TEXT, in float64 and with weights that are not small."""
    Path("t.txt").write_text(TEXT)
    return lambda **more: rnn_scratch.train(backend_name, text="t.txt", **{**SETTINGS, **more})


# Settings, and the losses of three epochs: on the training text and on the held-out text.
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
def test_losses_of_the_first_epochs(train, case):
    # All backends could be wrong together; they were not when these were written down.
    run = train(num_epochs=3, valid_tokens=60, **dict(case))
    losses = [(row.loss, row.valid_loss) for row in run.history]
    np.testing.assert_allclose(losses, LOSSES[case], rtol=1e-9)


# Learning rates and masks by update, and runs that go on with them


COSINE = {"optimizer": "adam", "lr": 0.5, "schedule": "cosine", "warmup": 4}
DEEP = {**SMALL, "num_layers": 2, "dropout": 0.3}


class Batches:
    """Keeps the rates and the masks of all updates."""

    def __init__(self, monkeypatch):
        self.rates, self.masks, self.original = [], [], schedule.with_rates
        monkeypatch.setattr(schedule, "with_rates", self.keep)

    def keep(self, *arguments):
        for batch in self.original(*arguments):
            self.rates.append([float(rate) for rate in batch.rates if rate is not None])
            self.masks.append(batch.masks)
            yield batch


def test_learning_rates_of_warm_up_and_cosine():
    settings = Settings(**COSINE)
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    # In a line to 0.5, and then 0.5 (1 + cos(π k / 8)) / 2 for k from 0 to 7.
    line = [0.125, 0.25, 0.375, 0.5]
    wave = [0.5, 0.4809698831278217, 0.4267766952966369, 0.34567085809127246]
    assert rates == pytest.approx([*line, *wave, 0.25, *(0.5 - each for each in wave[:0:-1])])
    settings = Settings(**{**COSINE, "schedule": "constant"})
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    assert rates == [*line, *[0.5] * 8]


def test_each_update_of_a_run_has_its_rates(monkeypatch):
    batches = Batches(monkeypatch)
    settings = {**SMALL, **COSINE, "num_epochs": 3, "dtype": "float64"}
    rnn_scratch.train("numpy", **settings)
    made = Settings(**{n: v for n, v in settings.items() if n != "corpus"})
    total = len(batches.rates)
    assert total == schedule.updates(SMALL["max_tokens"], made, 3) > 40
    for update, (lr, m, v) in enumerate(batches.rates, 1):
        assert lr == schedule.learning_rate(made, update, total)
        assert m == pytest.approx(1 - 0.9**update, rel=1e-12)
        assert v == pytest.approx(1 - math.exp(update * math.log(0.999)), rel=1e-9)


def test_masks_are_those_of_seed_epoch_and_minibatch(monkeypatch):
    with monkeypatch.context() as patch:
        first = Batches(patch)
        rnn_scratch.train("numpy", num_epochs=2, run="r", **DEEP)
    with monkeypatch.context() as patch:
        other = Batches(patch)
        rnn_scratch.train("numpy", num_epochs=2, **{**DEEP, "seed": 1})
    masks = np.stack(first.masks)
    assert masks.shape[1:] == (6, 2, 4, 12)  # T, L, B, H
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    assert not {mask.tobytes() for mask in other.masks} & {mask.tobytes() for mask in masks}
    dropped = round(0.3 * 2**16)  # of the 16 bits that are drawn
    assert set(np.unique(masks)) == {0, np.float32(2**16 / (2**16 - dropped))}
    # Of so many, the share of zeros has a standard deviation below 0.003.
    assert abs((masks == 0).mean() - 0.3) < 0.012
    resumed = Batches(monkeypatch)
    rnn_scratch.resume("r", 3)
    assert not {mask.tobytes() for mask in resumed.masks} & {mask.tobytes() for mask in masks}


def test_a_cosine_is_resumed_to_its_own_end_only(capsys):
    rnn_scratch.train("numpy", run="cosine", num_epochs=2, **{**DEEP, **COSINE})
    words = "The cosine schedule of the run in"
    here(capsys, "train", "--resume", "cosine", "--epochs", 3).refused(words, "--epochs 2")
