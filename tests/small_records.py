"""Comparison records with statistics simple enough to compute by hand."""

from rnn_scratch.compare.record import (
    COMPARISON_FORMAT,
    Candidate,
    CandidateEnvironment,
    Comparison,
    EpochResult,
    Plan,
)
from rnn_scratch.settings import Settings
from rnn_scratch.system.host import Machine
from rnn_scratch.text.dataset import TextRecord

MACHINE = Machine(
    rnn_scratch="0.1.0", python="3.11", numpy="1.26", platform="Linux", processor="one", cores=2
)
TEXT = TextRecord(
    corpus="file", origin="", sha256="0123456789", vocabulary=28, train_tokens=500, valid_tokens=0
)


def make_candidate(name, *speeds, threads=1, perplexities=(), **fields):
    """Make a candidate from a name such as "torch fast" and its per-cycle training speeds."""
    return Candidate(
        *name.split(" "),
        **{
            "environment": CandidateEnvironment("cpu", threads, {"numpy": "1.26"}),
            "epochs": [EpochResult(epoch, value) for epoch, value in enumerate(perplexities, 1)],
            "sample": "text" if perplexities else None,
            "training_speeds": list(speeds),
            "generation_speeds": [10.0 * speed for speed in speeds],
            **fields,
        },
    )


def make_record(*candidates, **plan):
    """Make a comparison record from candidates and plan fields."""
    return Comparison(
        **{"format": COMPARISON_FORMAT, "command": "rnn-scratch compare", "started": "12:00"},
        **{"outcome": "finished", "machine": MACHINE, "plan": Plan(**plan), "text": TEXT},
        settings=Settings(batch_size=4, num_steps=5, num_hiddens=64, num_epochs=2),
        candidates=list(candidates),
    )
