"""The growth of a small difference in the state, and the warning that exact mode will not hold."""

import numpy as np
import pytest
from helpers import require_engine, run_subprocess

from rnn_scratch import api
from rnn_scratch.check.exact_mode import Divergence
from rnn_scratch.check.growth import growth
from rnn_scratch.contract import CELLS
from rnn_scratch.parameters import initial
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text import books
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import set_up

SMALL = {"num_hiddens": 32, "batch_size": 4, "num_steps": 30, "max_tokens": 1_000}
COMMAND = ("--exact", "--corpus", "tide-clock", "--epochs", "1")
COMMAND += ("--num-hiddens", "32", "--batch-size", "4", "--max-tokens", "1000")
WARNING = "Exact mode is unlikely to hold"


def small(backend, cell="rnn", arrays=None, **changes):
    settings = Settings(**{**SMALL, "cell": cell, "exact": True, **changes})
    return set_up(settings, Runtime(backend, device="cpu"), books.load("tide-clock"), arrays)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_each_step_from_zeros_multiplies_a_difference_by_the_weights(backend_name, factor):
    options = model_options(Settings(**{**SMALL, "exact": True}), len(small("numpy").dataset.vocab))
    arrays = {name: 0 * array for name, array in initial(options, 1.0, 0).items()}
    arrays["W_hh"] = factor * np.eye(SMALL["num_hiddens"])
    found = growth(small(backend_name, arrays=arrays))
    assert found.factor == pytest.approx(factor ** SMALL["num_steps"], rel=1e-6)


# (The slope of ReLU jumps, and with it the factor of a step.)
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "rnn-relu"])
def test_growth_is_equal_in_all_backends_and_changes_no_parameter(backend_name, cell):
    setup = small(backend_name, cell, sigma=0.3)
    before = setup.model.to_arrays(setup.model.params)
    found = growth(setup).factor
    after = setup.model.to_arrays(setup.model.params)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert found == pytest.approx(growth(small("numpy", cell, sigma=0.3)).factor, rel=1e-4)
    assert found < growth(small("numpy", cell, sigma=1.2)).factor / 10


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
def test_training_in_exact_mode_warns_if_it_will_not_hold(settings, warned):
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
    result = run_subprocess(*command, *COMMAND, "--sigma", "2").assert_exit()
    assert " ".join(result.out.split()).count(WARNING) == 1, result.out


@pytest.mark.parametrize(("sigma", "doubtful"), [("1", True), ("0.01", False)])
def test_a_doubtful_digest_is_reported(sigma, doubtful):
    result = run_subprocess(
        "train", "--backend", "numpy", *COMMAND, "--lr", "1e-3", "--sigma", sigma
    ).assert_exit()
    assert ("Another framework may not reach this digest" in result.out) == doubtful, result.out


@pytest.mark.parametrize("scale", [1e3, 1e9, 1e15])
def test_large_states_of_relu_are_measured_and_doubted(scale):
    # A fixed distance vanishes in the rounding of large states; their rounding errors are larger.
    options = model_options(Settings(**{**SMALL, "exact": True}), len(small("numpy").dataset.vocab))
    options = options._replace(cell="rnn-relu")
    arrays = {name: 0 * array for name, array in initial(options, 1.0, 0).items()}
    arrays["W_hh"], arrays["b_h"] = np.eye(SMALL["num_hiddens"]), arrays["b_h"] + scale
    found = growth(small("numpy", "rnn-relu", arrays))
    assert found.factor == pytest.approx(1, rel=1e-3)
    assert found.errors == pytest.approx(found.largest) == 2 * SMALL["num_steps"] * scale
    assert found.is_doubtful
    assert found.is_unlikely_to_hold == (scale > 1e6)


def test_rounding_is_never_excluded_if_the_measured_difference_vanished():
    fields = {"models": ["numpy", "torch"], "update": 3, "tensors": ["W_hh"]}
    reasons = {
        (0.0, 1.0): "vanished, so rounding may be the reason",
        (2.0, 1.0): "so rounding is unlikely to be the reason",
        (2.0, 5e12): "so rounding is the likely reason",
        (1e4, 1.0): "so rounding may be the reason",
    }
    for (factor, largest), reason in reasons.items():
        assert reason in Divergence(**fields, growth=factor, largest=largest).sentence


UNTRAINED = "No parameter has changed"


@pytest.mark.parametrize(("lr", "untrained"), [("4e-7", True), ("4e-3", False)])
@pytest.mark.parametrize("command", [("train", "--backend"), ("check",)], ids=len)
def test_steps_below_half_of_the_grid_are_named(command, lr, untrained):
    more = ("--optimizer", "adam", "--epochs", "2", "--lr", lr)
    result = run_subprocess(*command, "numpy", *COMMAND, *more).assert_exit()
    assert (UNTRAINED in result.out) == untrained, result.out
