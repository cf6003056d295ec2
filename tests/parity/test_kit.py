"""A backend that `rnn_scratch.kit` derives from PyTorch's primitives."""

from types import SimpleNamespace

import pytest

from rnn_scratch import kit, registry
from rnn_scratch.check import draws, runner
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.exact import digest
from rnn_scratch.parameters import draw_parameters, trained_arrays
from rnn_scratch.settings import Settings, model_options
from rnn_scratch.text import books, dataset, minibatches
from rnn_scratch.training import schedule

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

SETTINGS = Settings(
    cell="lstm",
    optimizer="adam",
    num_hiddens=16,
    max_tokens=2000,
    batch_size=8,
    num_steps=10,
    dtype="float64",
    exact=True,
)


def value_and_grad(function, params):
    params = {name: param.detach().requires_grad_() for name, param in params.items()}
    results = function(params)
    grads = torch.autograd.grad(results[0], list(params.values()), materialize_grads=True)
    return results, dict(zip(params, grads))


PRIMITIVES = {
    "devices": lambda dtype: ["cpu"],
    "tensor": lambda array, device: torch.as_tensor(array),
    "array": lambda tensor: tensor.detach().numpy(),
    "astype": lambda x, dtype: x.to(getattr(torch, dtype)),
    "one_hot": lambda tokens, like: torch.eye(len(like), dtype=like.dtype)[tokens],
    "concatenate": torch.cat,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "sqrt": torch.sqrt,
    "minimum": lambda x, number: torch.clamp(x, max=number),
    "round": torch.round,
    "cross_entropy": torch.nn.functional.cross_entropy,
    "stop_gradient": torch.detach,
    "value_and_grad": value_and_grad,
}


def backend(**functions):
    modules = kit.complete(SimpleNamespace(**PRIMITIVES | functions))
    names = "scratch", "cells", "deep", "exact", "machine"
    package = SimpleNamespace(__name__="kit", **dict.fromkeys(names, modules))
    return registry.assemble("kit", package)


def failures(candidate):
    rows = runner.check(candidate, cases=map(draws.draw, range(draws.NUM_DRAWS)))
    return {row.function for row in rows if not row.passed}


def test_derived_functions_agree_with_the_reference():
    assert failures(backend()) == set()


def test_own_functions_take_precedence():
    def clip(grads, theta):
        norm = torch.sqrt(sum((grad * grad).sum() for grad in grads.values()))
        return {name: grad * theta for name, grad in grads.items()}, norm  # wrong on purpose

    def lstm(x, state, params):
        return state  # wrong on purpose

    assert failures(backend(clip=clip)) >= {"clip", "train_minibatch"}
    assert failures(backend(lstm=lstm)) >= {"lstm", "step", "forward"}


def test_exact_training_ends_at_the_digest_of_numpy():
    data, digests = dataset.prepare(books.load("tide-clock"), SETTINGS), []
    options = model_options(SETTINGS, len(data.vocab), "cpu")
    for candidate in (backend(), registry.load("numpy")):
        arrays = draw_parameters(options, 0.1, 0, "adam")
        model = registry.build(candidate, "scratch", arrays, options, "adam", exact=True)
        batches = minibatches.epoch_batches(data.train, SETTINGS, 1)
        updates = schedule.each_update(SETTINGS, 0, 1000)
        losses, _ = candidate.scratch.train_epoch(model, batches, updates, carry=True)
        digests.append(digest(trained_arrays(model)))
    assert len(losses) > 1
    assert digests[0] == digests[1]


def test_missing_primitives_are_named():
    primitives = {name: f for name, f in PRIMITIVES.items() if name not in ("tanh", "round")}
    with pytest.raises(RNNScratchError, match="missing: tanh, round"):
        kit.complete(SimpleNamespace(**primitives))
