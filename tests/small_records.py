"""Comparison records that are small enough to compute their statistics by hand."""

from rnn_scratch.compare.record import (
    COMPARISON_FORMAT,
    Candidate,
    Comparison,
    EpochResult,
    Plan,
    Ready,
    Round,
    Trial,
)
from rnn_scratch.settings import Settings
from rnn_scratch.system.host import Machine
from rnn_scratch.text.dataset import TextRecord

MACHINE = Machine(
    rnn_scratch="0.1.0", python="3.11", numpy="1.26", platform="Linux", processor="one", cores=2
)
READY = Ready(device="cpu", threads=1, machine=MACHINE, versions={"numpy": "1.26"})
TEXT = TextRecord(
    corpus="file", origin="", sha256="0123456789", vocabulary=28, train_tokens=500, valid_tokens=0
)


def make_round(number=0, seconds=2.0, products=1.0, **fields):
    """Make the timing record of one process, with the medians `seconds` and `products`."""
    common = {"threads": 1, "import_seconds": 1.0, "first_minibatch": 2.0, "memory": 2**20}
    common |= {"generation": [0.5]}
    durations = {"minibatches": [9.0, seconds, seconds], "products": [products] * 3}
    return Round(number=number, **{**common, **durations, **fields})


def make_trial(*perplexities, seed=0, held_out=None, seconds=1.0):
    """Make a complete trial with one epoch per perplexity; each epoch takes `seconds`."""
    epochs = [
        EpochResult(perplexity=perplexity, held_out=held_out, seconds=seconds)
        for perplexity in perplexities
    ]
    return Trial(seed, epochs, 1, ["text"])


def make_candidate(backend, model, *rounds, **fields):
    return Candidate(backend, model, **{"ready": READY, "rounds": list(rounds), **fields})


def make_record(*candidates, epochs=7, plan=None, settings=None, **fields):
    """Make a comparison record of these candidates, by default with 20 characters per minibatch."""
    plan = Plan(**(plan or {}))
    return Comparison(
        **{"format": COMPARISON_FORMAT, "command": "rnn-scratch compare", "started": "12:00"},
        **{"outcome": "finished", "machine": MACHINE, "plan": plan, "text": TEXT},
        settings=Settings(
            **{"batch_size": 4, "num_steps": 5, "num_hiddens": 64, "num_epochs": epochs}
            | (settings or {})
        ),
        candidates=list(candidates),
        **fields,
    )
