"""All models match the reference when checked with the code behind `rnn-scratch check`."""

import contextlib
import itertools

import numpy as np
import pytest
from backend_mutations import fixed_draws
from helpers import require_tested, skip_without, variants

from rnn_scratch import registry
from rnn_scratch.check import draws, functions, results, runner
from rnn_scratch.check.case import make_case
from rnn_scratch.check.results import CheckResult, find_worst_mismatch
from rnn_scratch.contract import CELLS, ModelConfig, UpdateRule
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, minibatches

# TensorFlow and JAX take one to two minutes to build their layer graphs.
CONCISE = pytest.mark.frameworks(by_default=("numpy", "torch", "mxnet"))
MODELS = ("scratch", "fast", pytest.param("concise", marks=CONCISE))


@pytest.mark.parametrize("model", MODELS)
def test_model_equals_the_reference(backend, backend_name, device, model):
    rows = list(
        runner.check(
            backend, model, [draws.draw(seed, device=device) for seed in range(draws.NUM_DRAWS)]
        )
    )
    failures = [row for row in rows if not row.passed]
    assert not failures, "\n".join(map(str, failures))
    supported = [row for row in rows if row.supported]
    if model not in variants(backend_name):
        assert {row.function for row in supported} <= {"signature"}
        reasons = {row.location for row in rows if not row.supported}
        pytest.skip(f"unsupported: {' '.join(sorted(reasons))}")
    expected = set(functions.MODEL_FUNCTIONS if model != "scratch" else functions.FUNCTIONS)
    expected -= {functions.detach, functions.cell, functions.optimizer}
    if backend_name not in registry.BUILTIN_BACKENDS and not backend.exact:
        expected -= {functions.round_to_grid}
    assert {check.__name__ for check in expected} <= {row.function for row in supported}
    if backend_name in registry.BUILTIN_BACKENDS:  # other packages may support fewer cells
        cells = {row.case.split()[1] for row in supported if row.case}
        offered = {"scratch": {*CELLS}, "fast": {*CELLS} - {"gru"}, "concise": {"rnn", "lstm"}}
        assert offered[model] <= cells


def test_float32_layer_refuses_float64(backend_names):
    require_tested(backend_names, "mxnet")  # only MXNet has such a layer
    cases = fixed_draws(ModelConfig(11, 13, "rnn-relu"))
    rows = runner.check(registry.load("mxnet"), "concise", cases)
    (refusal,) = (row for row in rows if not row.supported)
    assert refusal.case == "float64 rnn-relu"
    assert "computes relu on the CPU in float32" in refusal.location


def test_tolerances_depend_on_dtype_and_device():
    def scale(dtype, device, tolerance=1e-14):
        return results.scale_tolerance(tolerance, dtype, device)

    assert scale("float64", "cpu") == scale("float64", "cuda")
    assert (
        1e-6 < scale("float32", "cpu") < scale("float32", "cuda") < scale("float32", "mps") < 1e-3
    )
    assert scale("float32", "mps", 0) == 0


def test_check_clips_some_updates():
    # The check tests clipping only if some, but not all, of its updates are clipped.
    scratch, clipped = registry.load("numpy").scratch, []
    for draw in map(draws.draw, range(draws.NUM_DRAWS)):
        case = make_case(registry.load("numpy"), "scratch", draw)
        for batch, update in zip(*case.epoch(0)):
            _, grads, _ = case._replace(batch=batch).gradients()
            clipped.append(scratch.clip(grads, update.theta)[1] > update.theta)
    assert 0 < np.mean(clipped) < 1


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize(
    "sampling", ["sequential", pytest.param("random", marks=pytest.mark.frameworks)]
)
def test_chapter_updates_equal_the_reference(candidate, device, sampling):
    skip_without(registry.load(candidate), device, "float64")
    settings = Settings(sampling=sampling)
    text = dataset.prepare(books.load("tide-clock"), settings)
    options = ModelConfig(len(text.vocab), 512, dtype="float64", device=device)
    arrays, carry = draw_parameters(options, 0.01, 0), minibatches.carries_state(sampling)
    batches = [
        batch
        for epoch in (1, 2)
        for batch in minibatches.epoch_batches(text.train, settings, epoch)
    ]

    def train(name, variant, options, count):
        backend = registry.load(name)
        model = registry.build(backend, variant, arrays, options)
        backend.scratch.train_epoch(model, batches[:count], itertools.repeat(UpdateRule()), carry)
        return model.to_arrays(model.params)

    for count, tolerance in ((1, 1e-14), (10, 1e-12)):
        expected = train("numpy", "scratch", options._replace(device="cpu"), count)
        for variant in ("scratch", "fast"):
            with contextlib.suppress(registry.NotSupportedError):
                difference, location, *_ = find_worst_mismatch(
                    expected, train(candidate, variant, options, count)
                )
                assert difference <= tolerance, (variant, location)


ZEROS = {"W": np.zeros((2, 3)), "b": np.zeros(3)}


@pytest.mark.parametrize(
    ("changes", "worst"),
    [
        ({"W": np.array([[0, 0, 0], [0, -0.5, 0]]), "b": np.full(3, 0.25)}, (0.5, "W[1, 1]")),
        ({"W": np.zeros((3, 2))}, (None, "W: shape (3, 2) instead of (2, 3)")),
        ({"W": np.zeros((2, 3), np.float32)}, (None, "W: dtype float32 instead of float64")),
        ({"W": np.full((2, 3), np.nan)}, (None, "W[0, 0]: nan instead of 0")),
        ({"c": np.zeros(1)}, (None, "names W, b, c instead of W, b")),
    ],
)
def test_find_worst_names_element_or_problem(changes, worst):
    assert find_worst_mismatch(ZEROS, {**ZEROS, **changes})[:2] == worst
    assert not CheckResult("step", "logits", "", *worst, 0.1).passed


def test_layers_refuse_a_reset_before_the_product(backend, builtin_name):
    if builtin_name == "numpy":
        pytest.skip("NumPy has no layers")
    if builtin_name == "tensorflow":
        pytest.skip("TensorFlow's layer also applies the reset gate before the product")
    options = ModelConfig(11, 13, "gru")
    with pytest.raises(registry.NotSupportedError) as error:
        registry.build(backend, "concise", draw_parameters(options, 0.1, 0), options)
    for part in ("applies the reset gate after the product", 'cell="gru-after"'):
        assert part in str(error.value)


@pytest.mark.parametrize("model", ["scratch", "fast"])
def test_clip_gets_all_gradients(backend, builtin_name, model, monkeypatch):
    def linear(x, state, params):  # has a parameter without effect, W_hh
        return (x @ params["W_xh"] + params["b_h"],)

    def recorded_clip(grads, theta):
        names.append(sorted(grads))
        return clip(grads, theta)

    names, clip = [], backend.scratch.clip
    monkeypatch.setitem(backend.scratch.CELLS, "rnn", linear)
    monkeypatch.setattr(backend.scratch, "clip", recorded_clip)
    # Sizes that no other test has, because compiled functions are shared.
    case = make_case(backend, model, draws.CaseSpec(ModelConfig(5, 19)))
    built = case.model()
    case.train(built, *case.minibatch(), UpdateRule())
    assert names == [sorted(built.params)]
