"""Read, replace and lock files so that a kill or a power cut leaves the old file or the new one."""

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RNNScratchError

LOCK, TEMPORARY = ".lock", ".part"


class Damaged(RNNScratchError):  # noqa: N818 - a state, as a file's reader sees it
    """A file was changed, or was written only in part."""


def read(path: Path, largest: int, absence: RNNScratchError) -> bytes:
    """Return the contents of a file; raise `absence` if it is missing, Damaged if it is large."""
    try:
        with open(path, "rb") as file:
            data = file.read(largest + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise absence from error
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error.strerror or error}.") from error
    if len(data) > largest:
        raise Damaged(f"{path} is damaged: it has more than {largest:,} bytes.")
    return data


def replace(path: Path, data: bytes) -> None:
    """Write a temporary file in the same folder, sync it, and rename it to `path`.

    Raises RNNScratchError if the file cannot be written; after any error the old file remains.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with named_in_errors(path):
            temporary.unlink(missing_ok=True)  # a kill has left it
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append the bytes to a file, and block until they are on the disk."""
    with named_in_errors(path), open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Block until the names in a folder are on the disk, if the file system can sync folders."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's lock; raise RNNScratchError if another process or thread holds it."""
    if (folder / LOCK).is_symlink():  # the library's older versions would write to its target
        raise RNNScratchError(f"{folder / LOCK} is a link to another file.", "Delete the link.")
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"The run in {folder} is being trained by another session."
        raise RNNScratchError(problem, "Wait until it ends, or stop it.") from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.ENOLCK):
            hint = "Copy the folder and use the copy."
            raise RNNScratchError(f"{folder} cannot be locked: {error}.", hint) from error
        warnings.warn(f"{folder} has no locks: use it in one command at a time.", stacklevel=1)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the folder's lock, or another user could hold it."""
    try:
        with locked(folder):
            return False
    except RNNScratchError:
        return True


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Raise RNNScratchError with the name of the file instead of an OSError."""
    try:
        yield
    except OSError as error:
        raise RNNScratchError(f"{path} could not be written: {error.strerror or error}.") from error
