"""The machine: processor, memory and load, for records and messages."""

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
    """The machine of a run or a comparison.

    Attributes:
        rnn_scratch: Version of this project.
        python: Version of Python.
        numpy: Version of NumPy.
        platform: Name and version of the operating system.
        processor: Name of the processor.
        cores: Number of cores that the process may use.
    """

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


def source_version(package: str) -> str:
    """Return the project's version and a short digest of a package's source."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations or [] if spec else []
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return f"{version('rnn-scratch')}, source {digest[:8]}"


def by_pip(extra: str) -> str:
    """Return the end of a sentence: the command that installs an extra of this project."""
    if (Path(__file__).parents[2] / "pyproject.toml").exists():
        return f" in the folder of the clone: pip install -e '.[{extra}]'"
    return f": pip install 'rnn-scratch[{extra}]'"


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def load() -> float | None:
    """Return the average number of running processes in the last minute; None if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def memory() -> int | None:
    """Return the machine's memory in bytes; None on Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory() -> int | None:
    """Return the largest memory that this process has used in bytes; None except on Linux."""
    kilobytes = re.search(r"VmHWM:\s*(\d+) kB", _read("/proc/self/status"))
    return 1024 * int(kilobytes[1]) if kilobytes else None


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not report the name."""
    name = re.search(r"model name\s*: *(.+)", _read("/proc/cpuinfo"))
    return name[1].strip() if name else platform.processor() or platform.machine()


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if os.path.exists(path) else ""
