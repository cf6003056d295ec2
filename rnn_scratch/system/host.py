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

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]


class Machine(Record):
    """The machine, its Python, and the versions of this project and NumPy."""

    rnn_scratch: Line
    python: Line
    numpy: Line
    platform: Line
    processor: Line
    cores: Count
    governor: Line | None = None  # of the processor's frequency, where the system has one
    numa_nodes: Count = 1  # of the memory


def describe() -> Machine:
    """This machine."""
    nodes = list(Path("/sys/devices/system/node").glob("node[0-9]*"))
    return Machine(
        rnn_scratch=version("rnn-scratch"),
        python=platform.python_version(),
        numpy=np.__version__,
        platform=platform.platform(),
        processor=processor(),
        cores=cores(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        numa_nodes=max(1, len(nodes)),
    )


def waiting() -> dict[str, float | None]:
    """Seconds that this process could not compute, so far; None for what the system does not tell.

    ``waited`` for a core, by the main thread; ``stolen`` by the host of a virtual machine, from a
    core on average; ``throttled`` by a limit on CPU time.
    """
    schedule = _read("/proc/self/schedstat").split()
    steal = re.match(r"cpu +" + r"\d+ +" * 7 + r"(\d+)", _read("/proc/stat"))
    ticks = os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1) if steal else 1
    throttled = re.search(r"throttled_usec (\d+)", _read("/sys/fs/cgroup/cpu.stat"))
    return {
        "waited": int(schedule[1]) / 1e9 if len(schedule) > 1 else None,
        "stolen": int(steal[1]) / ticks if steal else None,
        "throttled": int(throttled[1]) / 1e6 if throttled else None,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # another system
        return ""


@functools.cache
def source_version(package: str) -> str:
    """The version of this project, and the first digits of a digest of a package's source."""
    spec = find_spec(package)
    content = hashlib.sha256()
    for folder in sorted(spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*.py")):
            content.update(f"{path.relative_to(folder).as_posix()} ".encode() + path.read_bytes())
    return f"{version('rnn-scratch')}, source {content.hexdigest()[:8]}"


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> None:
    """Let this process reuse the memory of deleted arrays for new ones."""
    # By default glibc returns the memory of large arrays to the system, which then has to provide
    # it again for every minibatch: up to a tenth of the time of training (measured).
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the largest that it takes


def total_memory() -> int | None:
    """The bytes of memory that the machine has; None where it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def load() -> float | None:
    """The average number of running processes in the last minute; None where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak_memory() -> int | None:
    """The most bytes of memory that this process has used at a time; None where unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])
    except (OSError, IndexError):
        pass  # not Linux
    if resource is None:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on a Mac


def processor() -> str:
    """The processor's name, or its architecture where the system does not report the name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
