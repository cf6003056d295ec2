"""Read, lock and replace files; after a crash or power cut, the old or the new file is intact."""

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
# Errors raised while another program holds a file; on Windows, EACCES may also mean no permission.
HELD = (errno.EBUSY, errno.EACCES) if sys.platform == "win32" else (errno.EBUSY,)
# If locks are unsupported, filelock uses a marker file. Hide its warning, which shows source code.
warnings.filterwarnings("ignore", "flock not supported")


class CorruptedFileError(RNNScratchError):
    """Raised when a file has been modified or only partly written."""


def cache_folder() -> Path:
    """Return the user's folder for files that can be fetched or made again."""
    import pooch  # imported when needed, so that commands start quickly

    return Path(pooch.os_cache("rnn-scratch"))


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a user's path with ``~`` expanded; raise RNNScratchError if it contains NUL."""
    name = os.path.expanduser(
        os.fspath(path)
    )  # shells do not expand ``~`` in ``--output=~/folder``
    if "\0" in name:
        raise RNNScratchError(f"The path {name!r} contains a NUL character.", "Remove it.")
    return Path(name)


@contextlib.contextmanager
def explained_errors(
    path: Path, action: str, missing_error: RNNScratchError | None = None
) -> Iterator[None]:
    """Replace an OSError with "x could not be read" or, if x is missing, with `missing_error`."""
    try:
        yield
    except OSError as error:
        if missing_error and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise missing_error from error
        problem = f"{path} could not be {action}: {error.strerror or error}."
        hint = "Copy the folder and use the copy." if isinstance(error, PermissionError) else ""
        raise RNNScratchError(problem, hint) from error


def read(path: Path, max_size: int, missing_error: RNNScratchError) -> bytes:
    """Return a file's bytes; raise `missing_error` if missing, CorruptedFileError if too large."""
    with explained_errors(path, "read", missing_error), _retry(open, path, "rb") as file:
        data: bytes = file.read(max_size + 1)
    if len(data) > max_size:
        raise CorruptedFileError(f"{path} is damaged: it has more than {max_size:,} bytes.")
    return data


def replace(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file in the same folder, sync it, and rename it to `path`.

    Raises RNNScratchError if the file cannot be written; the old file then remains unchanged.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with explained_errors(path, "written"):
        try:
            temporary.unlink(missing_ok=True)  # a killed process may have left it
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _retry(os.replace, temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def _retry(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, retrying while another program, such as a virus scanner, holds the file."""
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return function(*arguments)
        except OSError as error:
            if error.errno not in HELD or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL)


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to disk if the file system supports it."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Lock a run's folder; yield "", or a warning if the file system does not support locks.

    Raises RNNScratchError if another process or thread holds the lock.
    """
    path, warning = folder / LOCK, ""
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"The run in {folder} is being trained by another session."
        hint = "Wait until it ends, or stop it."
        if path.stat().st_size:  # a marker file, which a crash leaves behind
            hint += f" If no session is running on any computer, delete {path}."
        raise RNNScratchError(problem, hint) from error
    except (OSError, NotImplementedError) as error:
        warning = f"Could not lock {folder} ({error}). Do not run two commands on it at once."
    try:
        yield warning
    finally:
        lock.release()
