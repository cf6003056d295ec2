"""JAX-specific behavior: the 64-bit setting, tracers, cached compiled functions and export."""

import numpy as np
import pytest
from helpers import SMALL, require_tested, run_subprocess

from rnn_scratch import registry
from rnn_scratch.check.case import make_case
from rnn_scratch.check.draws import CaseSpec
from rnn_scratch.contract import CELLS, OPTIMIZERS, VARIANTS, Batch, ModelConfig, UpdateRule
from rnn_scratch.errors import NotSupportedError
from rnn_scratch.parameters import draw_parameters

X64 = f"""if True:
    import rnn_scratch, sys
    assert "jax" not in sys.modules
    from rnn_scratch.backends import jax as backend
    import jax
    print("imported", jax.config.jax_enable_x64)
    for dtype in ("float32", "float64"):
        rnn_scratch.train("jax", dtype=dtype, output=dtype, num_epochs=1, report=None, **{SMALL!r})
        print(dtype, jax.config.jax_enable_x64)
"""


@pytest.fixture
def jax(backend_names):
    require_tested(backend_names, "jax")
    return registry.load("jax")


def build_with_minibatch(jax, variant="scratch"):
    """Return a small model and a minibatch for it."""
    options = ModelConfig(5, 7)
    model = registry.build(jax, variant, draw_parameters(options, 0.5, 0), options)
    tokens = np.arange(12).reshape(3, 4) % 5
    return model, Batch(tokens, tokens).map(jax.machine.tensor, "cpu")


@pytest.mark.usefixtures("jax")
def test_first_float64_array_enables_64_bits():
    command_result = run_subprocess(program=("-c", X64))
    assert command_result.out.splitlines()[-3:] == [
        "imported False",
        "float32 False",
        "float64 True",
    ]


def test_compiled_function_is_traced_once_per_shape(jax, monkeypatch):
    from jax import jit

    model, batch = build_with_minibatch(jax)
    types, step = [], jax.scratch.step
    # Compile a copy, because compiled functions are shared.
    train = jit(jax.scratch.train_minibatch.__wrapped__, static_argnames=("options", "gradients"))

    def train_minibatch(batch, lr):
        start, rule = jax.scratch.init_state(3, model.options), UpdateRule(lr=lr)
        train(model.params, {}, batch, start, rule, model.options, jax.scratch.gradients)

    def recorded_step(x, *others):
        types.append(type(x).__name__)
        return step(x, *others)

    monkeypatch.setattr(jax.scratch, "step", recorded_step)
    for lr in (1.0, 0.5, 0.25):  # `lr` is an argument, so a new value needs no new trace
        train_minibatch(batch, lr)
    assert len(types) == 4  # one trace, with one call per time step
    assert all(name.endswith("Tracer") for name in types)
    shorter = batch._replace(X=batch.X[:, 1:], Y=batch.Y[:, 1:])
    train_minibatch(shorter, 1.0)
    assert len(types) == 4 + 3


@pytest.mark.frameworks
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("model", VARIANTS)
def test_training_lowers_for_absent_accelerators(jax, model, cell, optimizer):
    from jax import export, jit

    case = make_case(jax, model, CaseSpec(ModelConfig(11, 13, cell, 5, 3, 0.4)))
    try:
        built = case.model(optimizer=optimizer)
    except NotSupportedError as reason:
        pytest.skip(str(reason))
    batch, state = case.minibatch()
    arrays = built.params, built.slots, batch, state

    def update(params, slots, batch, state):
        train, rule = jax.scratch.train_minibatch.__wrapped__, UpdateRule(optimizer=optimizer)
        return train(params, slots, batch, state, rule, built.options, built.gradients)

    exported = export.export(jit(update), platforms=["cuda", "tpu"])(*arrays)
    assert exported.platforms == ("cuda", "tpu")
