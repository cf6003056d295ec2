"""The reference's gradients against finite differences: what all the others are held to."""

import numpy as np
import pytest

from rnn_scratch import initial, registry
from rnn_scratch.contract import Options

B, T, H, V = 3, 5, 7, 4
STEP = 1e-6


@pytest.fixture(params=[("tanh", 0), ("relu", 0), ("tanh", 2)], ids=["tanh", "relu", "embedding"])
def case(request):
    numpy = registry.load("numpy")
    activation, embedding = request.param
    options = Options(activation, "float64", "cpu")
    chance = np.random.RandomState(0)
    arrays = initial.initial(V, H, 0.5, 0, embedding)
    for name in ("b_h", "b_q"):
        arrays[name] = chance.normal(0, 0.5, arrays[name].shape)
    tokens = chance.randint(0, V, (B, T + 1))
    state = (chance.uniform(-1, 1, (B, H)),)
    return numpy, options, arrays, tokens[:, :-1], tokens[:, 1:], state


def loss_at(case, arrays):
    numpy, options, _, X, Y, state = case
    logits, _ = numpy.forward(X, state, numpy.params(arrays, options), options)
    return numpy.loss(logits, Y)


def test_gradients_equal_the_slopes_of_the_loss(case):
    numpy, options, arrays, X, Y, state = case
    loss, grads, _ = numpy.gradients(numpy.scratch(arrays, options), X, Y, state)
    assert loss == pytest.approx(loss_at(case, arrays), rel=1e-14)
    assert list(grads) == list(arrays)
    for name, grad in grads.items():
        slopes = slopes_of(case, arrays, name)
        # Central differences are good to about 1e-16 / STEP here.
        np.testing.assert_allclose(grad, slopes, atol=2e-9, rtol=0, err_msg=name)
        assert np.abs(slopes).max() > 1e-3, "a gradient of zeros would prove nothing"


def slopes_of(case, arrays, name):
    slopes = np.empty_like(arrays[name])
    for index in np.ndindex(slopes.shape):
        ends = []
        for sign in (1, -1):
            moved = {key: values.copy() for key, values in arrays.items()}
            moved[name][index] += sign * STEP
            ends.append(loss_at(case, moved))
        slopes[index] = (ends[0] - ends[1]) / (2 * STEP)
    return slopes


def test_the_reference_has_all_parameters():
    assert sorted(initial.shapes(V, H)) == sorted(["W_xh", "W_hh", "b_h", "W_hq", "b_q"])
    assert list(initial.shapes(V, H, 2)) == ["W_e", *initial.shapes(V, H)]
