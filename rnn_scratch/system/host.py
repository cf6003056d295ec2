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
    """Return the processor's name with its family and model, or its architecture if unknown.

    Cloud providers shorten names, such as "AMD EPYC", which several generations have.
    """
    path = Path("/proc/cpuinfo")
    text = path.read_text("utf-8") if path.exists() else ""
    found = dict(re.findall(r"^(model name|cpu family|model)\s*: *(.+?) *$", text, re.MULTILINE))
    if "model name" not in found:
        return platform.processor() or platform.machine()
    family, model = found.get("cpu family"), found.get("model")
    return found["model name"] + (f", family {family}, model {model}" if family and model else "")
