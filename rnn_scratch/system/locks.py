"""Locks: one process at a time writes to a folder.

The system releases a lock when its process ends, however it ends. The folder itself is locked, so
that nothing that is renamed or deleted lets another process in, and a file in it: a lock on a
folder is not seen by the other machines of a network. The file remains. It is opened without
following a link or changing what is in it: it may be the name of somebody's other file.
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

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCK = ".lock"
OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last ones: on Windows
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def hold(folder: Path, message: Callable[[], str]) -> Iterator[None]:
    """Hold the folder's lock, and the folder, as `files.held` does.

    Raises RNNScratchError with the message if another process has the lock, or another thread.
    """
    with files.held(folder) as own:
        try:
            handle = files.descriptor(folder / LOCK, OPEN | os.O_CREAT)
        except OSError as error:
            raise files.unwritable(folder / LOCK, error) from error
        try:
            try:
                for each in (handle,) if own is None else (own, handle):
                    _lock(each)
            except OSError as error:
                if error.errno in HELD:
                    raise RNNScratchError(message()) from error
                if error.errno in NO_LOCKS:
                    raise RNNScratchError(
                        f"{folder} is on a file system that has no locks, so that two processes "
                        "could damage what is in it.\nChoose a folder on another disk."
                    ) from error
                raise files.unwritable(folder / LOCK, error) from error
            yield
        finally:
            os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, OPEN)):
        try:
            handle = os.open(path, flags)
        except OSError:  # there is none, or nobody may write it
            continue
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in HELD:
                return True
        finally:
            os.close(handle)
    return False
