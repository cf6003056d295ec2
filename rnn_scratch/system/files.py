"""Reads and replaces files safely.

A kill or a power cut at any moment leaves either the old file or the new one: data reach the disk
before the name that refers to them does. Every file of a run is written and read by these
functions.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..contract import RNNScratchError

TEMPORARY = ".part"
# Windows translates line ends in files that are not opened as binary.
BINARY = getattr(os, "O_BINARY", 0)
# To open a pipe waits for its other end, but not with this.
NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class Damaged(RNNScratchError):  # noqa: N818 - a state, as a file's reader sees it
    """A file has been changed, or was written only in part."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading; ValueError for a pipe or a device, which may have no end.

    OSError if it cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield file


def read(path: Path, largest: int) -> bytes:
    """All of a regular file; ValueError if it is none, or has more than `largest` bytes.

    OSError if it cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        return file.read(size)


def replace(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file in the same folder, then rename it to `path`.

    Raises RNNScratchError if it cannot be written, such as to a full disk; the old file remains.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        try:
            _write(temporary, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def append(path: Path, data: bytes) -> None:
    """Add the bytes to a file; they reach the disk with the next call of `sync`, or earlier."""
    try:
        _write(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND, sync=False)
    except OSError as error:
        raise unwritable(path, error) from error


def sync(path: Path) -> None:
    """Return when the contents of a file, or the names of those in a folder, are on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which does not open folders
        return
    try:
        handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | BINARY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error


def _write(path: Path, data: bytes, flags: int, sync: bool = True) -> None:
    # Through the calls of the system alone, so that a test can cut the power between any two.
    handle = os.open(path, flags | BINARY, 0o666)  # less what the umask takes away
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)


def delete_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder, which a kill during `replace` may have left."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def unwritable(path: Path, error: OSError) -> RNNScratchError:
    """The error for a file that could not be written."""
    if not path.parent.exists():
        return RNNScratchError(
            f"{path} could not be written: the folder {path.parent} no longer exists."
        )
    return RNNScratchError(f"{path} could not be written: {error.strerror or error}.")
