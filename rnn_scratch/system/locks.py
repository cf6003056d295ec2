"""Locks: one process at a time writes to a folder.

The system releases a lock when its process ends, however it ends. The file remains.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from ..contract import RNNScratchError
from . import files

LOCK = ".lock"


@contextlib.contextmanager
def hold(folder: Path, message: Callable[[], str]) -> Iterator[None]:
    """Hold the folder's lock; RNNScratchError with the message if another process has it.

    Another thread of the same process is refused as well.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RNNScratchError(message()) from error
    except NotImplementedError as error:
        raise RNNScratchError(
            f"{folder} is on a file system that has no locks, so that two processes could damage "
            "what is in it.\nChoose a folder on another disk."
        ) from error
    except OSError as error:
        raise files.unwritable(folder / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    if not (folder / LOCK).exists():
        return False
    try:
        with filelock.FileLock(folder / LOCK).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (OSError, NotImplementedError):  # such as a folder in which nobody may write
        return False
