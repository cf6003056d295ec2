"""What only JAX has: a switch for 64 bits, tracers, the cache of compiled functions, and export."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
from helpers import SMALL, require_tested, there

from rnn_scratch import registry
from rnn_scratch.check.inputs import DEEP, make_case
from rnn_scratch.contract import CELLS, OPTIMIZERS, VARIANTS, Batch, Options, Rates, Update
from rnn_scratch.errors import NotOffered
from rnn_scratch.parameters import initial

X64 = f"""if True:
    import rnn_scratch, sys
    assert "jax" not in sys.modules
    from rnn_scratch.backends import jax as backend
    import jax
    print("imported", jax.config.jax_enable_x64)
    for dtype in ("float32", "float64"):
        rnn_scratch.train("jax", dtype=dtype, run=dtype, num_epochs=1, **{SMALL!r})
        print(dtype, jax.config.jax_enable_x64)
"""


@pytest.fixture
def jax(backend_names):
    require_tested(backend_names, "jax")
    return registry.load("jax")


def model_and_minibatch(jax, model="scratch"):
    options = Options(5, 7)
    built = registry.build("jax", jax, model, initial(options, 0.5, 0), options)
    tokens = np.arange(12).reshape(3, 4) % 5
    rates = Rates(np.asarray(0.5, "float32"))
    return built, Batch(tokens, tokens, rates=rates).map(jax.machine.tensor, "cpu")


@pytest.mark.usefixtures("jax")
def test_64_bits_are_switched_on_by_the_first_float64_only():
    done = there(program=("-c", X64))
    assert done.out.splitlines()[-3:] == ["imported False", "float32 False", "float64 True"]


@pytest.mark.parametrize("model", ["scratch", "fast", "concise"])
def test_the_compiler_keeps_neither_a_model_nor_its_program(jax, model):
    def programs_after_training():
        built, batch = model_and_minibatch(jax, model)
        jax.scratch.train_minibatch(built, batch, built.state(3), Update())
        reference = weakref.ref(built)
        del built
        gc.collect()
        assert reference() is None
        return len(jax.machine.device_of("cpu").client.live_executables())

    assert programs_after_training() == programs_after_training()


def test_python_executes_a_compiled_function_once_per_shape(jax, monkeypatch):
    built, batch = model_and_minibatch(jax)
    executed, step = [], jax.scratch.step

    def noted(x, *others):
        executed.append(type(x).__name__)
        return step(x, *others)

    monkeypatch.setattr(jax.scratch, "step", noted)
    for _ in range(3):
        jax.scratch.train_minibatch(built, batch, built.state(3), Update())
    assert len(executed) == 4  # time steps
    assert all(name.endswith("Tracer") for name in executed)
    shorter = batch._replace(X=batch.X[:, 1:], Y=batch.Y[:, 1:])
    jax.scratch.train_minibatch(built, shorter, built.state(3), Update())
    assert len(executed) == 4 + 3


@pytest.mark.frameworks
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("model", VARIANTS)
def test_training_lowers_for_accelerators_that_are_not_there(jax, model, cell, optimizer):
    from jax import export, jit

    case = make_case("jax", jax, model, DEEP._replace(cell=cell, dtype="float32"))
    try:
        built = case.model(optimizer=optimizer)
    except NotOffered as reason:
        pytest.skip(str(reason))
    batch, state = case.minibatch()
    arrays = built.params, built.slots, batch._replace(rates=case.rates(0.1, optimizer)), state

    def update(params, slots, batch, state):
        changed = dataclasses.replace(built, params=params, slots=slots)
        update = jax.scratch.train_minibatch.__wrapped__
        result = update(changed, batch, state, Update(optimizer=optimizer))
        return result, changed.params, changed.slots

    exported = export.export(jit(update), platforms=["cuda", "tpu"])(*arrays)
    assert exported.platforms == ("cuda", "tpu")
