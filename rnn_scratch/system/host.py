"""What a run was made on: for the record, so that a figure can be believed."""

import ctypes
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]


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


def keep_memory() -> None:
    """Let this process keep the memory that arrays have freed, for the next ones."""
    # Of large arrays glibc gives it back to the system at once, and every minibatch pays for the
    # same pages again: up to a tenth of the time of training (measured).
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that it takes


def load() -> float | None:
    """How many processes were at work in the last minute, on average; None where not told."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak_memory() -> int | None:
    """The most bytes of memory that this process has had at once; None where it is not told."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])
    except (OSError, IndexError):
        pass  # not Linux
    if resource is None:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on a Mac


def processor() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
