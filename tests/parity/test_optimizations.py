"""Undo the optimizations of `fast`, and compare their names with the record."""

import numpy as np
import pytest
from helpers import RECORDS, require_tested
from make.optimizations import names as names_in_code
from make.optimizations import read
from measure import optimizations

from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig
from rnn_scratch.errors import NotSupportedError

SIZES = {"num_hiddens": 13, "num_steps": 5, "batch_size": 4}


def gradients(backend, cell, vocabulary, num_hiddens, num_steps, batch_size):
    """Return a float64 `fast` model's loss and gradients as a dict of arrays."""
    options = ModelConfig(vocabulary, num_hiddens, cell, dtype="float64")
    model = backend.fast.build(parameters.draw_parameters(options, 0.3, 0), options)
    tokens = np.random.RandomState(0).randint(0, vocabulary, (batch_size, num_steps + 1), "int64")
    batch = Batch(tokens[:, :-1].copy(), tokens[:, 1:].copy()).map(backend.machine.tensor, "cpu")
    state = backend.scratch.init_state(batch_size, options)
    loss, grads, _ = model.gradients(model.params, batch, state, options)
    return {"loss": backend.machine.array(loss), **model.to_arrays(grads)}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("vocabulary", [11, 150])
def test_undoing_optimizations_keeps_gradients(backend, builtin_name, vocabulary, tmp_path):
    cases = optimizations.cases(builtin_name)
    expected = {
        cell: gradients(backend, cell, vocabulary, **SIZES) for cell in {c.cell for c in cases}
    }
    for case in cases:
        undone = optimizations.undo(backend, case, tmp_path)
        for name, result in gradients(undone, case.cell, vocabulary, **SIZES).items():
            label = f"{case.name}: {name}"
            np.testing.assert_allclose(
                result, expected[case.cell][name], rtol=0, atol=1e-14, err_msg=label
            )


def test_record_code_and_patches_list_equal_optimizations(builtin_name):
    names = [case.name for case in optimizations.cases(builtin_name)]
    recorded = read(RECORDS / "optimizations.json").backends[builtin_name]
    assert [gain.name for gain in recorded] == names
    assert sorted(names_in_code(builtin_name)) == sorted(names)
    # Each optimization speeds up at least one of the two network sizes by 3% or more.
    assert [gain.name for gain in recorded if max(gain.num_hiddens.values()) < 1.03] == []


def test_fast_refuses_cells_without_a_loop(builtin_name):
    options = ModelConfig(11, 13, "gru")
    arrays = parameters.draw_parameters(options, 0.1, 0)
    with pytest.raises(NotSupportedError, match="cell gru") as error:
        registry.build(registry.load(builtin_name), "fast", arrays, options)
    assert error.value.hint == 'Use `variant="scratch"`.'


@pytest.mark.parametrize("is_amd", [False, True])
def test_products_are_right_on_all_processors(backend_names, monkeypatch, is_amd):
    require_tested(backend_names, "torch")
    import torch

    from rnn_scratch.backends.torch import products

    if is_amd and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch lacks oneDNN")
    monkeypatch.setattr(products, "has_amd_processor", lambda: is_amd)
    random = torch.Generator().manual_seed(0)
    W, h, z = (torch.rand(shape, generator=random) for shape in ((512, 513), (6, 512), (6, 513)))
    for weights, x, y in ((W, h, z), (W.T, z, h)):
        matmul, expected = products.make_matmul(weights, 2), x.double() @ weights.double()
        torch.testing.assert_close(matmul(x).double(), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(matmul(x, y).double(), expected + y, rtol=1e-5, atol=0)
    grad = products.weight_grad(h.reshape(2, 3, -1), z.reshape(2, 3, -1))
    torch.testing.assert_close(grad, h.T @ z)
