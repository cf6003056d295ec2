"""What the presets reach: `python tests/tools/presets.py FILE`.

Each is trained with PyTorch on one thread, from the command that `train --preset` stands for. The
README quotes the file that this writes. It takes about ten minutes.
"""

import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import asdict

import rnn_scratch
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.system import host
from tools.exercises import rounded, write

BACKEND = "torch"
TEXTS = {"corpus": "time-machine"}  # of a preset that names none
SAMPLE = {"length": 300, "temperature": 0.7, "seed": 1}


def measured(name):
    """The held-out loss of each epoch in nats, the CPU seconds of it all, and a sample."""
    with tempfile.TemporaryDirectory() as parent:
        start = time.process_time()
        arguments = {**TEXTS, **PRESETS[name], "threads": 1, "run": Path(parent, name)}
        run = rnn_scratch.train(BACKEND, **arguments)
        seconds = time.process_time() - start
        return {
            "arguments": {**TEXTS, **PRESETS[name]},
            "cpu_seconds": round(seconds),
            "held_out": [rounded(epoch.valid_loss) for epoch in run.history],
            "best_epoch": run.best.epoch,
            "sample": rnn_scratch.predict(run, best=True, **SAMPLE),
        }


if __name__ == "__main__":
    presets = {name: measured(name) for name in PRESETS if name != "chapter"}
    write(
        Path(sys.argv[1]),
        {"machine": asdict(host.describe()), "backend": BACKEND, "presets": presets},
    )
