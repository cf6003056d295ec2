"""The reference's gradients against finite differences: what all the others are compared with."""

import numpy as np
import pytest

from rnn_scratch import parameters, registry
from rnn_scratch.contract import CELLS, Batch, Options

B, T, H, V = 3, 5, 7, 4
STEP = 1e-6


@pytest.fixture(params=["scratch", "fast"])
def build(request):
    """The reference's plain model and its optimized one."""
    return getattr(registry.load("numpy"), request.param).build


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


@pytest.fixture(params=[("tanh", 0), ("relu", 0), ("tanh", 2)], ids=["tanh", "relu", "embedding"])
def case(request, cell):
    options = Options(V, H, cell, *request.param, "float64")
    chance = np.random.RandomState(0)
    arrays = parameters.initial(options, 0.5, 0)
    for name in arrays:
        if name.startswith("b_"):
            arrays[name] = chance.normal(0, 0.5, arrays[name].shape)
    tokens = chance.randint(0, V, (B, T + 1))
    state = tuple(chance.uniform(-1, 1, (B, H)) for _ in range(options.num_states))
    return options, arrays, Batch(tokens[:, :-1], tokens[:, 1:]), state


def test_gradients_equal_finite_differences_of_the_loss(build, case):
    scratch = registry.load("numpy").scratch
    options, arrays, batch, state = case

    def loss_at(arrays):
        logits, _ = build(arrays, options).forward(batch.X, state)
        return scratch.loss(logits, batch.Y)

    model = build(arrays, options)
    loss, grads, _ = scratch.gradients(model, batch, state)
    grads = model.to_arrays(grads)
    assert loss == pytest.approx(loss_at(arrays), rel=1e-14)
    assert list(grads) == list(arrays)
    for name, grad in grads.items():
        differences = finite_differences(loss_at, arrays, name)
        # Central differences are accurate to about 1e-16 / STEP here.
        np.testing.assert_allclose(grad, differences, atol=2e-9, rtol=0, err_msg=name)
        assert np.abs(differences).max() > 1e-3, "a gradient of zeros would prove nothing"


def finite_differences(function, arrays, name):
    """Central differences of a function of the arrays, for each element of one of them."""
    differences = np.empty_like(arrays[name])
    for index in np.ndindex(differences.shape):
        values = []
        for sign in (1, -1):
            moved = {key: array.copy() for key, array in arrays.items()}
            moved[name][index] += sign * STEP
            values.append(function(moved))
        differences[index] = (values[0] - values[1]) / (2 * STEP)
    return differences


def test_the_reference_has_all_parameters():
    plain = Options(V, H).shapes()
    assert list(plain) == ["W_xh", "W_hh", "b_h", "W_hq", "b_q"]
    assert list(Options(V, H, embedding=2).shapes()) == ["W_e", *plain]
