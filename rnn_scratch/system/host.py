"""Describe the machine for records and messages: its processor, cores and versions."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .records import Count, Line, Record


class Machine(Record):
    """The machine on which a run or a comparison takes place.

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


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name, or its architecture if the system does not report the name."""
    path = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: *(.+)", path.read_text("utf-8") if path.exists() else "")
    return name[1].strip() if name else platform.processor() or platform.machine()
