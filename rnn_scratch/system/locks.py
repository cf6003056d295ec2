"""Locks: one process at a time writes to a folder.

A file in the folder is locked, and remains. The system releases the lock when its process ends,
however it ends. The file is opened without following a link or changing what is in it: it may be
the name of somebody's other file.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import RNNScratchError
from . import files

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int, shared: bool = False) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int, shared: bool = False) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


LOCK = ".lock"
READ, OPEN = (kind | files.NOFOLLOW for kind in (os.O_RDONLY, os.O_RDWR))
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last ones: on Windows


@contextlib.contextmanager
def hold(folder: Path, message: Callable[[], str]) -> Iterator[None]:
    """Hold the folder's lock.

    Raises RNNScratchError with the message if another process has the lock, or another thread; or
    with the reason if there can be no lock, as on some network file systems.
    """
    with contextlib.ExitStack() as stack:
        with files.named_in_errors(folder / LOCK):
            lock = stack.enter_context(files.descriptor(folder / LOCK, OPEN | os.O_CREAT))
            try:
                _lock(lock)
            except OSError as error:
                if error.errno in HELD:
                    raise RNNScratchError(message()) from error
                raise
        yield


def is_held(folder: Path) -> bool:
    """Return whether a process holds the folder's lock, which may be another user's."""
    with contextlib.suppress(OSError), files.descriptor(folder / LOCK, READ) as lock:
        try:
            _lock(lock, shared=True)
        except OSError as error:
            return error.errno in HELD
    return False  # or there is none, or this user may not read it
