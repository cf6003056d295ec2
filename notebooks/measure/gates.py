"""Measure how far back gradients reach in each cell: `python -m measure gates FILE`.

The lesson *Gates* quotes the record. Networks train on the built-in text with PyTorch on one
thread. After certain epochs, the NumPy backend's backward passes compute the gradients step by
step, in float64, from a copy of the parameters. The runs take about ten minutes in total.
"""

import itertools

import numpy as np
from msgspec.structs import replace

from measure.measuring import round_digits, write
from rnn_scratch import registry
from rnn_scratch.contract import ModelConfig
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.text import books, dataset, minibatches
from rnn_scratch.training import events

BACKEND = "torch"
SETTINGS = Settings(num_hiddens=128, num_epochs=500, normalize="spaced")
# For each run: the cell, initial forget-gate bias, and seed.
RUNS = {
    f"{name}, seed {seed}": (cell, bias, seed)
    for seed in range(3)
    for name, cell, bias in (
        ("rnn", "rnn", 0),
        ("gru", "gru", 0),
        ("lstm", "lstm", 0),
        ("lstm, forget bias 1", "lstm", 1),
    )
}
GRUS = ("gru", "gru-after")  # with a recurrent bias of zero, both have the same parameters
EPOCHS = (0, 20, 50, 100, 200, 300, 400, 500)  # gradients are computed after these epochs
ROWS, STEPS = 64, 100  # input shape for the gradients


def choose_variant(cell):
    """Return the fastest equivalent variant that supports the cell."""
    return "scratch" if cell == "gru" else "fast"


def run(cell, bias, seed, backend, text):
    """Train a network; return perplexities and gradient norms after the epochs in EPOCHS."""
    options = ModelConfig(len(text.vocab), SETTINGS.num_hiddens, cell)
    arrays = draw_parameters(options, SETTINGS.sigma, seed)
    if bias:
        arrays["b_f"] += bias
    model = registry.build(backend, choose_variant(options.cell), arrays, options)
    settings = replace(SETTINGS, seed=seed)
    perplexities, norms, swaps = {}, {"0": reach(arrays, cell, text.train)}, {}
    for epoch in range(1, settings.num_epochs + 1):
        batches = minibatches.epoch_batches(text.train, settings, epoch)
        updates = itertools.repeat(update_rule(settings))  # a constant learning rate
        carry = minibatches.carries_state(settings.sampling)
        losses, _ = backend.scratch.train_epoch(model, batches, updates, carry)
        if epoch in EPOCHS:
            mean_loss = sum(losses) / len(losses)
            perplexities[str(epoch)] = round_digits(events.perplexity(mean_loss))
            trained = model.to_arrays(model.params)
            norms[str(epoch)] = reach(trained, cell, text.train)
            if cell in GRUS:
                swaps[str(epoch)] = {
                    name: evaluate(trained, options._replace(cell=name), backend, text)
                    for name in GRUS
                }
    return {"perplexity": perplexities, "norms": norms, **({"read as": swaps} if swaps else {})}


def evaluate(arrays, options, backend, text):
    """Return the training-text perplexity of a model with these parameters and options."""
    arrays = {"b_hh": np.zeros(options.num_hiddens), **arrays}
    model = registry.build(backend, choose_variant(options.cell), arrays, options)
    total, count = backend.scratch.evaluate(
        model, minibatches.evaluation_batches(text.train, SETTINGS)
    )
    return round_digits(events.perplexity(total / count))


def reach(arrays, cell, tokens):
    """Return norms of the last loss's gradients with respect to the state 1, 2, ... steps earlier.

    Each norm is taken over all tensors of the state and averaged over the rows.
    """
    numpy = registry.load("numpy").scratch
    H, V = arrays["W_hq"].shape
    options = ModelConfig(V, H, cell, dtype="float64")
    params, state = numpy.init_params(arrays, options), numpy.init_state(ROWS, options)
    starts = np.linspace(0, len(tokens) - STEPS - 1, ROWS).astype(int)
    X = np.stack([tokens[start : start + STEPS] for start in starts])
    Y = np.stack([tokens[start + STEPS : start + STEPS + 1] for start in starts])
    inputs, states = numpy.encode(X.T, params), [state]
    for x in inputs:
        logits, state = numpy.step(x, state, params, options)
        states.append(state)
    d_logits = numpy.loss_backward(logits, Y) * ROWS  # the gradient of the loss summed over rows
    d_state = (d_logits @ params["W_hq"].T, *(np.zeros_like(s) for s in state[1:]))
    norms = []
    for t in reversed(range(STEPS)):
        cell_backward = numpy.CELL_BACKWARD[cell]
        _, d_state, _ = cell_backward(d_state, states[t + 1], inputs[t], states[t], params)
        norms.append(round_digits(np.sqrt(sum((d * d).sum(1) for d in d_state)).mean()))
    return norms


def main(file):
    """Measure all runs and write the record to `file`."""
    backend, _ = registry.start(BACKEND, threads=1)
    text = dataset.prepare(books.load("tide-clock"), SETTINGS)
    record = {"runs": {}}
    for name, settings in RUNS.items():
        record["runs"][name] = run(*settings, backend, text)
    write(file, record)
