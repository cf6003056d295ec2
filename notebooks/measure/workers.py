"""Measure how much faster two workers train than one: `python -m measure workers FILE`.

The guide quotes the record. Runs with one and two workers take turns, because other programs
may also use the processor. Each worker uses one thread. The measurement takes about five minutes.
"""

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure.measuring import round_digits, take_turns, write
from rnn_scratch.runs import run_folder

BACKEND = "torch"
SIZES = ((128, 32), (512, 128), (1024, 256))  # hidden units and batch size
NUM_TURNS = 6  # the first turn is a warm-up
OPTIONS = "--corpus time-machine --variant fast --epochs 2 --max-tokens 40000 --threads 1"


def measure(num_workers, num_hiddens, batch_size):
    """Train with this many workers; return the second epoch's speed in characters per second."""
    with tempfile.TemporaryDirectory() as folder:
        command = ("mpiexec", "-n", str(num_workers), sys.executable, "-m", "rnn_scratch", "train")
        sizes = ("--num-hiddens", str(num_hiddens), "--batch-size", str(batch_size))
        run = ("--backend", BACKEND, "--output", f"{folder}/run")
        subprocess.run([*command, *OPTIONS.split(), *sizes, *run], check=True)
        last = run_folder.read_history(Path(folder, "run"))[-1]
    return last.tokens / last.seconds


def main(file):
    """Measure all sizes and write the record."""
    sizes = []
    for size in SIZES:
        functions = [partial(measure, num_workers, *size) for num_workers in (1, 2)]
        ratios = [two / one for one, two in zip(*take_turns(functions, 0, NUM_TURNS))]
        summary = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        summary = {name: round_digits(ratio) for name, ratio in summary.items()}
        sizes.append({"num_hiddens": size[0], "batch_size": size[1], **summary})
    write(file, {"backend": BACKEND, "options": OPTIONS, "speedups": sizes})
