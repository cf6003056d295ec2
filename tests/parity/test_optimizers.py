"""Optimizers: equal to the frameworks' own.

Where ε stands in Adam differs. Here it is outside of the root and of the correction of the bias, as
in the paper's Algorithm 1, in PyTorch and in optax. In Keras and in MXNet it is what the paper
calls ε̂, added to the root of v before its bias is corrected, which is as if ε were divided by the
root of 1 - β2**t.
"""

from functools import partial

import numpy as np
import pytest
from helpers import assert_same
from measure.optimizers import OPTIMIZERS

from rnn_scratch import registry
from rnn_scratch.check import inputs
from rnn_scratch.contract import Options, Rates, Update
from rnn_scratch.parameters import initial, trained_arrays

OPTIONS = Options(5, 4, dtype="float64")
# Keras keeps learning rate and decays as float32. And it matters where such an ε is added.
LR, DECAY, EPSILON = 2.0**-6, 0.25, 2.0**-10
BETAS = 0.875, 1 - 2.0**-10
UPDATES = 10
CHANCE = np.random.RandomState(0)
# Of each update and parameter, and no larger than ε.
GRADS = [
    {name: CHANCE.normal(0, EPSILON, shape) for name, shape in OPTIONS.shapes().items()}
    for _ in range(UPDATES)
]


INSIDE = {"tensorflow", "mxnet"}  # whose ε is the paper's ε̂
WITHOUT_DECAY = {"mxnet"}
# It computes the learning rate with the correction of the bias in it, and rounds that to float32.
TOLERANCE = {("mxnet", "adam"): 1e-9}


def trained(name, how, corrected=False):
    """The parameters after updates with these gradients; perhaps with ε corrected like the bias."""
    backend = registry.load(name)
    tensor = partial(backend.machine.tensor, device="cpu")
    arrays = initial(OPTIONS, 1.0, 0)
    model = registry.build(name, backend, "scratch", arrays, OPTIONS, how.optimizer)
    for t, grads in enumerate(GRADS, 1):
        means = 1 - how.beta1**t, 1 - how.beta2**t
        rates = Rates(*(tensor(np.asarray(each)) for each in (LR, *means)))
        own = how._replace(epsilon=how.epsilon / means[1] ** 0.5) if corrected else how
        tensors = {parameter: tensor(grad) for parameter, grad in grads.items()}
        backend.scratch.OPTIMIZERS[how.optimizer](model, tensors, own, rates)
    return model.to_arrays(model.params)


@pytest.mark.frameworks(by_default=("torch",))
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_it_is_that_of_the_framework(backend, candidate, optimizer):
    if candidate not in OPTIMIZERS:
        pytest.skip("a framework that this test does not know")
    decay = 0.0 if optimizer == "momentum" or candidate in WITHOUT_DECAY else DECAY
    beta1, beta2 = BETAS
    how = Update(optimizer=optimizer, weight_decay=decay, beta1=beta1, beta2=beta2, epsilon=EPSILON)
    inside = optimizer == "adam" and candidate in INSIDE
    same, other = (trained(candidate, how, corrected) for corrected in (inside, not inside))
    if candidate == "jax":
        pytest.importorskip("optax")
    result = OPTIMIZERS[candidate][1](initial(OPTIONS, 1.0, 0), GRADS, how)
    assert_same(result, same, TOLERANCE.get((candidate, optimizer), 1e-14))
    if optimizer == "adam":
        assert all(np.abs(result[name] - other[name]).max() > LR / 100 for name in other)


def test_what_is_no_normal_number_counts_as_zero():
    # Some frameworks replace such numbers by zero, and others do not.
    case = inputs.make_case("numpy", registry.load("numpy"), "scratch", inputs.PLAIN)
    for value, kept in ((1e-310, 0), (1e-300, 1e-300)):
        means = {f"m.{name}": np.full(array.shape, value) for name, array in case.arrays.items()}
        options = case.options._replace(dtype="float64")
        arrays = {**case.arrays, **means}
        model = registry.build("numpy", case.backend, "scratch", arrays, options, "momentum")
        assert (trained_arrays(model)["m.b_q"] == kept).all()
