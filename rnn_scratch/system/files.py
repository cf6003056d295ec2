"""Read, replace and lock files; a kill or a power cut leaves either the old or the new file."""

import contextlib
import errno
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RNNScratchError

LOCK, TEMPORARY = ".lock", ".part"
RENAME_RETRIES, RETRY_SECONDS = 5, 0.1


class CorruptedFileError(RNNScratchError):
    """The error for a file that has been changed or was only partly written."""


def read(path: Path, max_size: int, missing_error: RNNScratchError) -> bytes:
    """Return a file's bytes; raise `missing_error`, or CorruptedFileError if it is too large."""
    try:
        with open(path, "rb") as file:
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
            _rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append `data` to a file, and sync the file to disk."""
    with _named_in_errors(path):
        _write(path, "ab", data)


def _write(path: Path, mode: str, data: bytes) -> None:
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _rename(source: Path, target: Path) -> None:
    # On Windows, renaming fails while another program, such as a virus scanner, reads the target.
    for _ in range(RENAME_RETRIES):
        with contextlib.suppress(PermissionError):
            return os.replace(source, target)
        time.sleep(RETRY_SECONDS)
    os.replace(source, target)


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to disk, if the file system can sync folders."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run's folder; raise RNNScratchError if another process or thread holds the lock."""
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
        warnings.warn(f"{folder} cannot be locked: use it in one command at a time.", stacklevel=1)
    try:
        yield
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
