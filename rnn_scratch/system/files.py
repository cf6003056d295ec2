"""Reads and replaces files safely.

A kill or a power cut at any moment leaves either the old file or the new one: data reach the disk
before the name that refers to them does. Every file of a run is written and read by these
functions.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import RNNScratchError

TEMPORARY = ".part"
# Windows translates line ends in files that are not opened as binary. To open a pipe waits for its
# other end, but not with O_NONBLOCK.
ALWAYS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


class Damaged(RNNScratchError):  # noqa: N818 - a state, as a file's reader sees it
    """A file has been changed, or was written only in part."""


@contextlib.contextmanager
def descriptor(path: Path, flags: int) -> Iterator[int]:
    """Open a file as a descriptor; OSError if it cannot be opened."""
    # What is created gets this mode, less what the umask takes away.
    file = os.open(path, flags | ALWAYS, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def exists(path: Path) -> bool:
    """Return whether a file, folder or link has this name; RNNScratchError if nobody can know."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(path, error) from error
    return True


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; ValueError for a pipe or a device, which may have no end.

    OSError if it cannot be opened.
    """
    with open(path, "rb", opener=lambda _, flags: os.open(path, flags | ALWAYS)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield file


def read(path: Path, largest: int) -> bytes:
    """Return all of a regular file; ValueError if it is none, or has more than `largest` bytes.

    OSError if it cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        return file.read(size)


Verify = Callable[[], None]  # raises an error if a file must not be written after all


def replace(path: Path, data: bytes, verify: Verify = lambda: None) -> None:
    """Write the bytes to a temporary file in the same folder, then rename it to `path`.

    `verify` is called between the two: if the folder has another place by then, either this call
    or the renaming fails. Raises RNNScratchError if the file cannot be written, such as to a full
    disk. After any error the old file remains.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with named_in_errors(path):
            with descriptor(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                _write(file, data)
                os.fsync(file)
            verify()
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync(path.parent)


def append(path: Path, data: bytes, verify: Verify = lambda: None) -> None:
    """Append the bytes to an existing file, which is no link, unless `verify` raises an error.

    They reach the disk with the next call of `sync`, or earlier.
    """
    with named_in_errors(path), descriptor(path, os.O_WRONLY | os.O_APPEND | NOFOLLOW) as file:
        verify()
        _write(file, data)


def truncate(path: Path, size: int) -> None:
    """Let an existing file, which is no link, end after this number of bytes."""
    with named_in_errors(path), descriptor(path, os.O_RDWR | NOFOLLOW) as file:
        os.ftruncate(file, size)
        os.fsync(file)


def sync(path: Path) -> None:
    """Return when the contents of a file, or the names of those in a folder, are on the disk."""
    is_folder = os.path.isdir(path)
    if is_folder and os.name == "nt":  # which does not open folders
        return
    flags = os.O_RDONLY if is_folder else os.O_RDWR | NOFOLLOW
    with named_in_errors(path), descriptor(path, flags) as file:
        os.fsync(file)


def _write(file: int, data: bytes) -> None:
    # By calls of the system alone, so that a test can cut the power between any two.
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def remove(folder: Path, *names: str) -> None:
    """Remove a folder with these files, unless there is something else in it."""
    # Without a list of what is in it: there may be too many open files to make one.
    with contextlib.suppress(OSError):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def delete_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder, which a kill during `replace` may have left."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            os.unlink(path)


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Raise RNNScratchError with the name of the file in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise RNNScratchError(f"{path} could not be written: {error.strerror or error}.") from error


def unreadable(path: Path, error: OSError) -> RNNScratchError:
    """Return the error for a file that could not be read, which may be right all the same."""
    return RNNScratchError(f"{path} could not be read: {error.strerror or error}.")
