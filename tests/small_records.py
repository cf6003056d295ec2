"""Records of comparisons, small enough to compute their figures by hand."""

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


def round_of(number=0, seconds=2.0, products=1.0, **more):
    """The times of one process, most of them the same in each turn."""
    common = {"threads": 1, "parameters": "a", "minibatches_seen": "b", "generation": [0.5]}
    common |= {"importing": 1.0, "first": 2.0, "memory": 2**20, "operations": 10**9, "peak": [4.0]}
    times = {"minibatches": [9.0, seconds, seconds], "products": [products] * 3}
    return Round(number=number, **{**common, **times, **more})


def trial_of(*perplexities, seed=0, held_out=None, seconds=1.0):
    """A trial that has ended; all its epochs take the same time."""
    epochs = [
        EpochResult(perplexity=perplexity, held_out=held_out, seconds=seconds)
        for perplexity in perplexities
    ]
    return Trial(seed, epochs, 1, "a", "b", ["text"])


def candidate_of(backend, model, *rounds, **more):
    return Candidate(backend, model, **{"ready": READY, "rounds": list(rounds), **more})


def record_of(*candidates, epochs=7, plan=None, settings=None, **more):
    """A record of these candidates; a minibatch has 20 characters."""
    plan = Plan(**(plan or {}))
    return Comparison(
        **{"format": COMPARISON_FORMAT, "command": "rnn-scratch compare", "started": "12:00"},
        **{"outcome": "finished", "machine": MACHINE, "plan": plan, "text": TEXT},
        settings=Settings(
            **{"batch_size": 4, "num_steps": 5, "num_hiddens": 64, "num_epochs": epochs}
            | (settings or {})
        ),
        candidates=list(candidates),
        **more,
    )
