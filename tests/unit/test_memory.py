"""Memory that a started backend keeps for the next minibatch."""

import ctypes
import platform
import sys

import pytest
from helpers import run_subprocess

from rnn_scratch.system import memory

# Program that allocates and frees arrays repeatedly, and prints, in MiB, how much memory the system
# provided after the first repetition, and how much the process keeps at the end.
PROGRAM = """
import os, resource, sys
import numpy as np
from rnn_scratch import registry

def use(count, size):
    arrays = [np.ones(size * 2**17) for _ in range(count)]  # `size` MiB each

def to_mib(pages):
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20

def provided():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def kept():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

if sys.argv[1] == "started":
    registry.start("numpy", 1)
count, size, before = int(sys.argv[2]), int(sys.argv[3]), kept()
use(count, size)
first = provided()
for _ in range(4):
    use(count, size)
print(to_mib(provided() - first), to_mib(kept() - before))
"""


def run(*arguments):
    """Return the two sizes that the program prints."""
    result = run_subprocess(*arguments, program=("-c", PROGRAM)).assert_exit()
    return [int(word) for word in result.out.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc returns memory")
def test_started_backend_keeps_a_limited_amount_of_memory():
    assert run("not started", 64, 2)[0] > 300  # otherwise, the function is no longer necessary
    provided, kept = run("started", 64, 2)
    assert provided < 10
    assert 100 < kept < 200
    assert run("started", 200, 2)[1] < 270  # the limit is 256 MiB
    assert run("started", 3, 40)[1] < 50  # large arrays are returned at once


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_keep_their_allocator(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("loaded a C library"))
    memory.keep_freed_memory()


def test_c_library_without_mallopt_is_accepted(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # such as musl
    memory.keep_freed_memory()
