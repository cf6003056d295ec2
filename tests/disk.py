"""A model of a disk that loses power, which replays the system calls of a training.

`recorded` notes the calls that `rnn_scratch.system.files` makes. `remains` are the folders that a
power cut after any of them may leave: what was synced is there; what was not may be there or not,
data and names each on their own, as file systems differ in this.
"""

import contextlib
import os
import stat
from pathlib import Path

from rnn_scratch.system import files


class _Recorder:
    """The module `os`, with an account of the calls that change files."""

    def __init__(self, calls):
        self.calls, self.handles = calls, {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, mode=0o777):
        is_new = not os.path.exists(path)
        handle = os.open(path, flags, mode)
        self.handles[handle] = str(path)
        if is_new:
            self.calls.append(("create", str(path)))
        return handle

    def write(self, handle, data):
        size = os.write(handle, data)
        self.calls.append(("write", self.handles[handle], bytes(data[:size])))
        return size

    def fsync(self, handle):
        os.fsync(handle)
        kind = "sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync"
        self.calls.append((kind, self.handles[handle]))

    def replace(self, source, target):
        os.replace(source, target)
        self.calls.append(("rename", str(source), str(target)))

    def unlink(self, path):
        os.unlink(path)
        self.calls.append(("remove", str(path)))


@contextlib.contextmanager
def recorded():
    """A list, to which each call is added that changes a file or syncs one."""
    calls = []
    files.os = _Recorder(calls)
    try:
        yield calls
    finally:
        files.os = os


class _File:
    def __init__(self):
        self.written = self.synced = b""


def remains(calls):
    """For each number of calls before the power cut, what may be left: name to contents."""
    names, synced_names = {}, {}  # path to file, now and on the disk for certain
    for number, (kind, path, *more) in enumerate(calls, 1):
        if kind == "create":
            names[path] = _File()
        elif kind == "write":
            names[path].written += more[0]
        elif kind == "sync":
            names[path].synced = names[path].written
        elif kind == "rename":
            names[more[0]] = names.pop(path)
        elif kind == "remove":
            names.pop(path)
        elif kind == "sync folder":
            for known in (names, synced_names):
                for name in [name for name in known if str(Path(name).parent) == path]:
                    if known is synced_names and name not in names:
                        del synced_names[name]
                    elif name in names:
                        synced_names[name] = names[name]
        for left in (names, synced_names):
            for contents in (_all, _synced, _half, _zeros):
                yield number, {name: contents(file) for name, file in left.items()}


def _all(file):
    return file.written


def _synced(file):
    return file.synced


def _half(file):
    return file.written[: (len(file.synced) + len(file.written)) // 2]


def _zeros(file):  # the size has reached the disk before the data
    return file.synced + bytes(len(file.written) - len(file.synced))
