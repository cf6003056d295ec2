"""The machine: processor, memory and load, for the records of runs and comparisons."""

import ctypes
import functools
import hashlib
import os
import platform
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .records import Count, Line, Record


class Machine(Record):
    """The machine, its Python, and the versions of this project and NumPy."""

    rnn_scratch: Line
    python: Line
    numpy: Line
    platform: Line
    processor: Line
    cores: Count


def describe() -> Machine:
    """Describe this machine."""
    return Machine(
        rnn_scratch=version("rnn-scratch"),
        python=platform.python_version(),
        numpy=np.__version__,
        platform=platform.platform(),
        processor=processor(),
        cores=cores(),
    )


@functools.cache
def source_version(package: str) -> str:
    """Return the project's version, and the first digits of a digest of a package's source."""
    spec = find_spec(package)
    content = hashlib.sha256()
    for folder in sorted(spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*.py")):
            content.update(f"{path.relative_to(folder).as_posix()} ".encode() + path.read_bytes())
    return f"{version('rnn-scratch')}, source {content.hexdigest()[:8]}"


def by_pip(extra: str) -> str:
    """Return how to install an extra of this project, as the end of a sentence."""
    if (Path(__file__).parents[2] / "pyproject.toml").exists():
        return f" in the folder of the clone: pip install -e '.[{extra}]'"
    return f": pip install 'rnn-scratch[{extra}]'"


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def disable_malloc_trim() -> None:
    """Let this process reuse the memory of deleted arrays for new ones."""
    # By default glibc returns the memory of large arrays to the system, which then has to provide
    # it again for every minibatch: up to a tenth of the time of training (measured).
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that it takes


def load() -> float | None:
    """Return the average number of running processes in the last minute; None if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def memory() -> int | None:
    """Return the bytes of memory that this machine has; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # on Windows
        return None


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process has used at a time; None if unknown."""
    kilobytes = re.search(r"VmHWM:\s*(\d+) kB", _read("/proc/self/status"))  # on Linux
    return 1024 * int(kilobytes[1]) if kilobytes else None


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not report the name."""
    name = re.search(r"model name\s*: *(.+)", _read("/proc/cpuinfo"))
    return name[1].strip() if name else platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:  # not Linux
        return ""
