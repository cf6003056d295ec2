"""Learning rates by update, and runs that go on with them; what does not fit is refused."""

import math

import numpy as np
import pytest
from helpers import SMALL, here

import rnn_scratch
from rnn_scratch.runs import schedule
from rnn_scratch.runs.training import Report
from rnn_scratch.settings import make

COSINE = {"optimizer": "adam", "lr": 0.5, "schedule": "cosine", "warmup": 4}
DEEP = {**SMALL, "num_layers": 2, "dropout": 0.3}


class Batches(Report):
    """Keeps the rates and the masks of all updates."""

    def __init__(self):
        self.rates, self.masks = [], []

    def minibatch(self, batch):
        self.rates.append([float(rate) for rate in batch.rates or ()])
        self.masks.append(batch.masks)


def test_learning_rates_of_warm_up_and_cosine():
    settings = make(COSINE)
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    # In a line to 0.5, and then 0.5 (1 + cos(π k / 8)) / 2 for k from 0 to 7.
    line = [0.125, 0.25, 0.375, 0.5]
    wave = [0.5, 0.4809698831278217, 0.4267766952966369, 0.34567085809127246]
    assert rates == pytest.approx([*line, *wave, 0.25, *(0.5 - each for each in wave[:0:-1])])
    settings = make({**COSINE, "schedule": "constant"})
    rates = [schedule.learning_rate(settings, update, 12) for update in range(1, 13)]
    assert rates == [*line, *[0.5] * 8]


def test_each_update_of_a_run_has_its_rates():
    report = Batches()
    settings = {**SMALL, **COSINE, "num_epochs": 3, "dtype": "float64"}
    rnn_scratch.train("numpy", report=report, **settings)
    total, made = len(report.rates), make({n: v for n, v in settings.items() if n != "corpus"})
    assert total == schedule.updates(SMALL["max_tokens"], made, 3) > 40
    for update, (lr, m, v) in enumerate(report.rates, 1):
        assert lr == schedule.learning_rate(made, update, total)
        assert m == pytest.approx(1 - 0.9**update, rel=1e-12)
        assert v == pytest.approx(1 - math.exp(update * math.log(0.999)), rel=1e-9)


@pytest.mark.parametrize("more", [{}, {"weight_decay": 0.1}, {"optimizer": "momentum"}], ids=str)
def test_where_the_rate_stays_there_are_none(more):
    report = Batches()
    rnn_scratch.train("numpy", report=report, num_epochs=1, **{**SMALL, **more})
    assert report.rates == [[]] * len(report.rates)


def test_masks_are_those_of_seed_epoch_and_minibatch():
    first, other, resumed = Batches(), Batches(), Batches()
    rnn_scratch.train("numpy", report=first, num_epochs=2, run="r", **DEEP)
    rnn_scratch.train("numpy", report=other, num_epochs=2, **{**DEEP, "seed": 1})
    masks = np.stack(first.masks)
    assert masks.shape[1:] == (4, 6, 2, 12)  # B, T, L, H
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    assert not {mask.tobytes() for mask in other.masks} & {mask.tobytes() for mask in masks}
    dropped = round(0.3 * 2**16)  # of the 16 bits that are drawn
    assert set(np.unique(masks)) == {0, np.float32(2**16 / (2**16 - dropped))}
    # Of so many, the share of zeros has a standard deviation below 0.003.
    assert abs((masks == 0).mean() - 0.3) < 0.012
    rnn_scratch.resume("r", 3, report=resumed)
    assert not {mask.tobytes() for mask in resumed.masks} & {mask.tobytes() for mask in masks}


def test_a_cosine_is_resumed_to_its_own_end_only(capsys):
    rnn_scratch.train("numpy", run="cosine", num_epochs=2, **{**DEEP, **COSINE})
    words = "--schedule cosine to the end of epoch 2, and --epochs is 3"
    here(capsys, "train", "--resume", "cosine", "--epochs", 3).refused(words, "--epochs 2")
