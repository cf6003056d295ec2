"""What a run was made on: for the record, so that a figure can be believed."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np


def describe() -> dict[str, str | int]:
    """Versions of this project, Python and NumPy; platform, processor and number of cores."""
    return {
        "rnn_scratch": version("rnn-scratch"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
    }


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
