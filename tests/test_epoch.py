"""An epoch against one computed here, and a few numbers of whole runs as literals."""

from pathlib import Path

import numpy as np
import pytest

import rnn_scratch
from rnn_scratch.contract import Options
from rnn_scratch.parameters import initial
from rnn_scratch.settings import Settings
from rnn_scratch.text import minibatches, vocabulary

TEXT = "one clock is right and two clocks are never sure\n" * 8
SETTINGS = {"num_hiddens": 8, "num_steps": 5, "batch_size": 3, "sigma": 1.0, "dtype": "float64"}


@pytest.fixture
def train(backend_name):
    """A function that trains on TEXT, in float64 and with weights that are not small."""
    Path("t.txt").write_text(TEXT)
    return lambda **more: rnn_scratch.train(backend_name, text="t.txt", **{**SETTINGS, **more})


def loss_by_hand(vocab, sampling, carry):
    """Mean loss of the first epoch of a model that doesn't learn."""
    p = initial(Options(len(vocab), 8), 1.0, 0)
    tokens = vocabulary.encode(vocabulary.normalize(TEXT, "chapter"), vocab)
    losses, h = [], None
    settings = Settings(batch_size=3, num_steps=5, sampling=sampling)
    for X, Y, *_ in minibatches.of_epoch(tokens, settings, 1):
        if h is None or not carry:
            h = np.zeros((3, 8))
        for x, y in zip(X.T, Y.T):
            h = np.tanh(p["W_xh"][x] + h @ p["W_hh"] + p["b_h"])
            logits = h @ p["W_hq"] + p["b_q"]
            losses += list(np.log(np.exp(logits).sum(1)) - logits[np.arange(3), y])
    return np.mean(losses)


@pytest.mark.frameworks(by_default=("numpy", "torch"))
@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_the_state_is_carried_in_sequential_partitioning_only(train, sampling):
    run = train(num_epochs=1, lr=1e-15, sampling=sampling)
    carried, fresh = (loss_by_hand(run.vocab, sampling, carry) for carry in (True, False))
    assert abs(carried - fresh) > 0.001, "or this would test nothing"
    expected = carried if sampling == "sequential" else fresh
    assert run.history[0].loss == pytest.approx(expected, rel=1e-12)


# Settings, and the losses of three epochs: on the training text and on the held-out text.
LOSSES = {
    (("sampling", "sequential"), ("lr", 0.3), ("sigma", 0.3)): [
        (2.763920036006193, 2.581825296931381),
        (2.4628438344173733, 2.333703753419005),
        (2.173516986829658, 2.0110428406294347),
    ],
    (("sampling", "random"), ("lr", 0.3), ("sigma", 0.3)): [
        (2.775371617886674, 2.5949023067424335),
        (2.48575063639356, 2.359185615694766),
        (2.2491871921105515, 2.0933575056287497),
    ],
    (("activation", "relu"), ("sigma", 0.1), ("theta", None), ("lr", 0.1)): [
        (2.9133917386166615, 2.8766838737895943),
        (2.8543998156313553, 2.823403175507596),
        (2.808178473232453, 2.780852392309467),
    ],
    (("theta", 0.01), ("seed", 5), ("normalize", "none")): [
        (4.670520802857835, 4.38073742460462),
        (4.614301466207771, 4.30759726334607),
        (4.535127691101985, 4.242121175354047),
    ],
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses_of_the_first_epochs(train, case):
    # All backends could be wrong together; they were not when these were written down.
    run = train(num_epochs=3, valid_tokens=60, **dict(case))
    losses = [(row.loss, row.valid_loss) for row in run.history]
    np.testing.assert_allclose(losses, LOSSES[case], rtol=1e-9)
