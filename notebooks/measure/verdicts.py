"""Whether `compare --against` can be believed: `python -m measure verdicts FILE`.

Twice, two comparisons of all backends in a row, between which nothing has changed; and twice, one
of a copy of the project whose minibatches take 5 % longer. The verdicts go into the record FILE,
with the seconds that each comparison took. It needs a machine with nothing else to do.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure.measuring import write
from rnn_scratch import registry
from rnn_scratch.compare import changes
from rnn_scratch.compare.record import read
from rnn_scratch.system import host

SLOWER = 1.05  # times as long
SLOWED = ("numpy", "torch")  # those that compute at once, so that what follows them takes longer
TRIES = 2
WRAPPER = f"""

import functools
import time

as_it_is = train_minibatch


@functools.wraps(as_it_is)  # the check compares signatures
def train_minibatch(*arguments):
    start = time.perf_counter()
    result = as_it_is(*arguments)
    end = start + {SLOWER} * (time.perf_counter() - start)
    while time.perf_counter() < end:
        pass
    return result
"""


def compare(folder, backends, against=None, copy=None):
    """Compare as `rnn-scratch compare` does without options, and return seconds and verdicts."""
    options = ["--backends", ",".join(backends), "--output", str(folder)]
    options += ["--against", str(against)] if against else []
    environment = {**os.environ, **({"PYTHONPATH": str(copy)} if copy else {})}
    start = time.perf_counter()
    command = [sys.executable, "-m", "rnn_scratch.cli", "compare", *options]
    # In the copy's folder, because Python looks for modules where it is started first.
    subprocess.run(
        command, check=True, env=environment, cwd=copy or folder.parent, stdout=subprocess.DEVNULL
    )
    record = read(folder)
    result = {"seconds": round(time.perf_counter() - start), "load": record.load}
    if against:
        result["verdicts"] = {
            row.now.candidate.name: {"verdict": row.verdict, "ratio": round(row.ratio, 3)}
            for row in changes.speeds(record)
        }
    return result


def main(file):
    """Compare, and write the record."""
    record = {"machine": host.describe(), "unchanged": [], "slowed": []}
    record |= {"slower": SLOWER, "slowed backends": SLOWED}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = folder / "copy" / "rnn_scratch"
        shutil.copytree("rnn_scratch", package)
        shutil.copytree("backends", package / "backends")
        for backend in SLOWED:
            with Path(package, "backends", backend, "scratch.py").open("a") as source:
                source.write(WRAPPER)
        for number in range(TRIES):
            first, second, third = (folder / f"{what}-{number}" for what in "abc")
            before = compare(first, registry.OURS)
            record["unchanged"].append({"first": before, **compare(second, registry.OURS, first)})
            record["slowed"].append(compare(third, SLOWED, second, folder / "copy"))
    write(file, record)
