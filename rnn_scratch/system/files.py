"""Read, replace and lock files; a kill or a power cut leaves either the old or the new file."""

import contextlib
import errno
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import RNNScratchError

LOCK, TEMPORARY = ".lock", ".part"
RETRY_SECONDS, RETRY_INTERVAL = 5.0, 0.1
# Errors for which files on some network and FUSE file systems cannot be locked at all.
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
# Instead of a lock, filelock then writes a marker file; its warning would show source code.
warnings.filterwarnings("ignore", "flock not supported")


class CorruptedFileError(RNNScratchError):
    """The error for a file that has been changed or was only partly written."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a user's path with ``~`` expanded, which shells do not expand in ``--run=~/folder``.

    Raises RNNScratchError if the path contains a NUL character.
    """
    name = os.path.expanduser(os.fspath(path))
    if "\0" in name:
        raise RNNScratchError(f"The path {name!r} contains a NUL character.", "Remove it.")
    return Path(name)


def read(path: Path, max_size: int, missing_error: RNNScratchError) -> bytes:
    """Return a file's bytes; raise `missing_error`, or CorruptedFileError if it is too large."""
    try:
        with _retry(open, path, "rb") as file:
            data = file.read(max_size + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing_error from error
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error.strerror or error}.") from error
    if len(data) > max_size:
        raise CorruptedFileError(f"{path} is damaged: it has more than {max_size:,} bytes.")
    return data


def replace(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, sync it, and rename it to `path`.

    Raises RNNScratchError if the file cannot be written; after any error, the old file remains.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with _named_in_errors(path):
        try:
            temporary.unlink(missing_ok=True)  # a kill may have left it
            _write(temporary, "xb", data)
            _retry(os.replace, temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append `data` to a file, and sync the file to disk."""
    with _named_in_errors(path):
        _write(path, "ab", data)


def _write(path: Path, mode: str, data: bytes) -> None:
    with _retry(open, path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _retry(function: Callable[..., Any], *arguments: Any) -> Any:
    # Call the function again while another program holds the file, such as a virus scanner or a
    # synchronization program. On Windows, the error is PermissionError, as for missing permissions.
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return function(*arguments)
        except OSError as error:
            is_held = error.errno == errno.EBUSY or (
                sys.platform == "win32" and isinstance(error, PermissionError)
            )
            if not is_held or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to disk, if the file system can sync folders."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Lock a run's folder; yield a warning if its file system has no locks, otherwise "".

    Raises RNNScratchError if another process or thread holds the lock.
    """
    path, warning = folder / LOCK, ""
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"The run in {folder} is being trained by another session."
        hint = "Wait until it ends, or stop it."
        if path.stat().st_size:  # a marker, which remains if another computer crashes
            hint += f" If no session is running on any computer, delete {path}."
        raise RNNScratchError(problem, hint) from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in UNSUPPORTED:
            hint = "Copy the folder and use the copy."
            raise RNNScratchError(f"{folder} cannot be locked: {error}.", hint) from error
        warning = f"Could not lock {folder}. Do not run two commands on it at once."
    try:
        yield warning
    finally:
        lock.release()


@contextlib.contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    # Replace an OSError with an RNNScratchError that names the file.
    try:
        yield
    except OSError as error:
        problem = f"{path} could not be written: {error.strerror or error}."
        hint = "Copy the folder and use the copy." if isinstance(error, PermissionError) else ""
        raise RNNScratchError(problem, hint) from error
