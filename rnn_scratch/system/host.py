"""Describe the machine for records and messages: processor, cores and software versions."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .records import Count, Record


class Machine(Record):
    """The machine on which a run or comparison is executed."""

    rnn_scratch: str  #: project version
    python: str  #: Python version
    numpy: str  #: NumPy version
    platform: str  #: operating system name and version
    processor: str  #: processor name
    cores: Count  #: number of cores that the process may use


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


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not report the name."""
    path = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: *(.+)", path.read_text("utf-8") if path.exists() else "")
    return name[1].strip() if name else platform.processor() or platform.machine()
