"""The growth of a small difference in the state, and the warning that exact mode will not hold."""

import numpy as np
import pytest
from helpers import require_engine, there

from rnn_scratch import api
from rnn_scratch.check.growth import growth
from rnn_scratch.contract import CELLS
from rnn_scratch.parameters import initial
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text import books

SMALL = {"num_hiddens": 32, "batch_size": 4, "num_steps": 30, "max_tokens": 1_000}
COMMAND = ("--exact", "--corpus", "tide-clock", "--epochs", "1")
COMMAND += ("--num-hiddens", "32", "--batch-size", "4", "--max-tokens", "1000")
WARNING = "Exact mode is unlikely to hold"


def small(backend, cell="rnn", arrays=None, **changes):
    settings = Settings(**{**SMALL, "cell": cell, "exact": True, **changes})
    return set_up(settings, Runtime(backend, device="cpu"), books.load("tide-clock"), arrays)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_around_a_state_of_zeros_each_step_multiplies_a_difference_by_the_weights(
    backend_name, factor
):
    options = model_options(Settings(**{**SMALL, "exact": True}), len(small("numpy").dataset.vocab))
    arrays = {name: 0 * array for name, array in initial(options, 1.0, 0).items()}
    arrays["W_hh"] = factor * np.eye(SMALL["num_hiddens"])
    found = growth(small(backend_name, arrays=arrays))
    assert found == pytest.approx(factor ** SMALL["num_steps"], rel=1e-6)


# (The slope of ReLU jumps, and with it the factor of a step.)
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "rnn-relu"])
def test_it_is_that_of_two_states_after_all_steps_and_changes_nothing(backend_name, cell):
    setup = small(backend_name, cell, sigma=0.3)
    before = setup.model.to_arrays(setup.model.params)
    found = growth(setup)
    after = setup.model.to_arrays(setup.model.params)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert found == pytest.approx(growth(small("numpy", cell, sigma=0.3)), rel=1e-4)
    assert found < growth(small("numpy", cell, sigma=1.2)) / 10


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"exact": True, "sigma": 2.0}, True),
        ({"exact": True, "sigma": 2.0, "num_steps": 5}, False),
        ({"exact": True, "sigma": 0.1}, False),
        ({"sigma": 2.0}, False),
    ],
    ids=str,
)
def test_training_in_exact_mode_begins_with_a_warning_where_it_will_not_hold(settings, warned):
    lines = []
    api.train("numpy", corpus="tide-clock", num_epochs=1, report=lines.append, **SMALL | settings)
    found = [line for line in lines if line.startswith(WARNING)]
    assert len(found) == warned
    assert all("smaller `sigma`, fewer `num_steps`" in line for line in found)


@pytest.mark.parametrize(
    "command", [("check", "numpy"), ("train", "--backend", "numpy", "--workers", "2")], ids=len
)
def test_a_command_warns_once(command):
    if "--workers" in command:
        require_engine("numpy")
    done = there(*command, *COMMAND, "--sigma", "2").ended()
    assert " ".join(done.out.split()).count(WARNING) == 1, done.out


@pytest.mark.parametrize(("sigma", "doubtful"), [("1", True), ("0.01", False)])
def test_a_digest_that_frameworks_may_not_reach_is_called_so(sigma, doubtful):
    done = there("train", "--backend", "numpy", *COMMAND, "--lr", "1e-3", "--sigma", sigma).ended()
    assert ("Another framework may not reach this digest" in done.out) == doubtful, done.out


def test_steps_below_half_of_the_grid_are_named():
    lines = []
    values = {"exact": True, "optimizer": "adam", "num_epochs": 2, **SMALL}
    for lr in (4e-7, 4e-3):
        api.train("numpy", corpus="tide-clock", report=lines.append, lr=lr, **values)
    assert sum("No parameter has changed in epoch 1" in line for line in lines) == 1
