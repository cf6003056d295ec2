"""The project's optimizers match the frameworks' optimizers, except for the placement of ε.

Adam implementations add ε in different places. Here, ε is added to the square root of the
bias-corrected v, as in the paper's Algorithm 1, PyTorch and Optax. In Keras and MXNet, ε is the
paper's ε̂, added to √v before the bias correction, as if ε were divided by √(1 - β2**t).
"""

from functools import partial

import numpy as np
import pytest
from helpers import assert_same
from measure import updates

from rnn_scratch import registry
from rnn_scratch.contract import ModelConfig, UpdateRule
from rnn_scratch.parameters import draw_parameters, trained_arrays

OPTIONS = ModelConfig(5, 4, dtype="float64")
LR, DECAY, EPSILON = 2.0**-6, 0.25, 2.0**-10  # exact in float32, to which Keras rounds
BETAS = 0.875, 1 - 2.0**-10
NUM_UPDATES = 10
RNG = np.random.RandomState(0)
GRADS = [  # gradients as small as ε, so that its placement matters
    {name: RNG.normal(0, EPSILON, shape) for name, shape in OPTIONS.shapes().items()}
    for _ in range(NUM_UPDATES)
]
BUILTIN = {
    "torch": updates.Torch(),
    "tensorflow": updates.Keras(),
    "mxnet": updates.MXNet(),
    "jax": updates.Optax(),
}
EPSILON_HAT = {"tensorflow", "mxnet"}  # frameworks that use the paper's ε̂
WITHOUT_DECAY = {"mxnet"}
# MXNet rounds the bias-corrected learning rate to float32.
TOLERANCES = {("mxnet", "adam"): 1e-9}


def train(name, update, corrected=False):
    """Return the parameters after the updates; if `corrected`, divide ε by √(1 - β2**t)."""
    backend = registry.load(name)
    tensor = partial(backend.machine.tensor, device="cpu")
    arrays = draw_parameters(OPTIONS, 1.0, 0)
    model = registry.build(backend, "scratch", arrays, OPTIONS, update.optimizer)
    for t, grads in enumerate(GRADS, 1):
        c_m, c_v = 1 - update.beta1**t, 1 - update.beta2**t
        epsilon = update.epsilon / c_v**0.5 if corrected else update.epsilon
        rule = update._replace(lr=LR, c_m=c_m, c_v=c_v, epsilon=epsilon)
        tensors = {parameter: tensor(grad) for parameter, grad in grads.items()}
        optimizer = backend.scratch.OPTIMIZERS[update.optimizer]
        model.params, model.slots = optimizer(model.params, tensors, model.slots, rule)
    return model.to_arrays(model.params)


@pytest.mark.frameworks(by_default=("torch",))
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.usefixtures("backend")
def test_optimizer_equals_the_builtin_optimizer(candidate, optimizer):
    if candidate not in BUILTIN:
        pytest.skip("a framework that this test does not know")
    if candidate == "jax":
        pytest.importorskip("optax")
    decay = 0.0 if optimizer == "momentum" or candidate in WITHOUT_DECAY else DECAY
    beta1, beta2 = BETAS
    update = UpdateRule(
        optimizer=optimizer, weight_decay=decay, beta1=beta1, beta2=beta2, epsilon=EPSILON
    )
    corrected = optimizer == "adam" and candidate in EPSILON_HAT
    rules = [update._replace(lr=LR)] * NUM_UPDATES
    result = BUILTIN[candidate].train(draw_parameters(OPTIONS, 1.0, 0), GRADS, rules)
    tolerance = TOLERANCES.get((candidate, optimizer), 1e-14)
    assert_same(result, train(candidate, update, corrected), tolerance)
    if optimizer == "adam":
        other = train(candidate, update, not corrected)
        assert all(np.abs(result[name] - other[name]).max() > LR / 100 for name in other)


def test_subnormal_slots_become_zero():
    # `trained_arrays` flushes subnormal numbers to zero, because only some frameworks do so.
    params = draw_parameters(OPTIONS, 1.0, 0)
    for value, expected in ((1e-310, 0), (1e-300, 1e-300)):
        slots = {f"m.{name}": np.full(array.shape, value) for name, array in params.items()}
        numpy, arrays = registry.load("numpy"), {**params, **slots}
        model = registry.build(numpy, "scratch", arrays, OPTIONS, "momentum")
        assert (trained_arrays(model)["m.b_q"] == expected).all()
