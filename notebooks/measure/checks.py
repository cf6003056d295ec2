"""Measure how long `check` takes with each backend: `python -m measure checks FILE`.

The parity page quotes the record: seconds until the result of `step` is printed, and in total.
Timings need an idle machine.
"""

import os
import subprocess
import sys
import time

from measure.measuring import rounded, write
from rnn_scratch import registry


def check(backend):
    """Check all variants of a backend; return the times in seconds."""
    command = [sys.executable, "-m", "rnn_scratch.cli", "check", backend]
    start, step = time.perf_counter(), None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout:
            if step is None and line.startswith("step "):
                step = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"check {backend} failed; run it to see why.")
    return {"step": rounded(step), "total": rounded(time.perf_counter() - start)}


def main(file):
    """Measure all backends, and write the record to `file`."""
    load = os.getloadavg()[0]
    times = {name: check(name) for name in registry.BUILTIN_BACKENDS}
    write(file, {"load": load, "times": times})
