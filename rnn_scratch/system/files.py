"""Reads and replaces files safely.

A kill or a power cut at any moment leaves either the old file or the new one: data reach the disk
before the name that refers to them does. Every file of a run is written and read by these
functions.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from ..errors import RNNScratchError

TEMPORARY = ".part"
# Windows translates line ends in files that are not opened as binary.
BINARY = getattr(os, "O_BINARY", 0)
# To open a pipe waits for its other end, but not with this.
NONBLOCK, NOFOLLOW = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW"))


class Damaged(RNNScratchError):  # noqa: N818 - a state, as a file's reader sees it
    """A file has been changed, or was written only in part."""


# The folders that are held, by their paths.
_held: ContextVar[Mapping[Path, int]] = ContextVar("held", default=MappingProxyType({}))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """Let this thread's paths lead into this folder, wherever it is moved and whatever follows it.

    Only paths of files directly in it, and in the functions of this module. Yields the descriptor
    of the folder; None on Windows, where a folder with an open file cannot be moved.
    """
    if os.name == "nt":
        yield None
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise unwritable(folder, error) from error
    token = _held.set({**_held.get(), folder: handle})
    try:
        yield handle
    finally:
        _held.reset(token)
        os.close(handle)


def require_in_place(folder: Path) -> None:
    """Raise RNNScratchError if the path of a folder that is held leads to it no longer."""
    if (handle := _held.get().get(folder)) is not None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(folder), os.fstat(handle)):
                return
        raise RNNScratchError(
            f"The folder {folder} is not the one in which this began: that was moved, replaced or "
            "deleted.\nThe work ends here. If the folder was moved, all is saved in it."
        )


def remove(folder: Path) -> None:
    """Remove a folder that is held, with the files in it, unless there is something else in it."""
    with contextlib.suppress(OSError):
        for name in os.listdir(_held.get().get(folder, folder)):
            _unlink(folder / name)
        os.rmdir(folder)


def _at(path: Path) -> tuple[Path | str, int | None]:
    # The path for the system's calls, and the descriptor of the folder in which it begins.
    folder = _held.get().get(path.parent)
    return (path, None) if folder is None else (path.name, folder)


def descriptor(path: Path, flags: int) -> int:
    """A descriptor of a file; OSError if it cannot be opened."""
    name, folder = _at(path)
    # What is created gets this mode, less what the umask takes away.
    return os.open(name, flags | BINARY | NONBLOCK, 0o666, dir_fd=folder)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading; ValueError for a pipe or a device, which may have no end.

    OSError if it cannot be opened.
    """
    with open(path, "rb", opener=lambda _, flags: descriptor(path, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield file


def exists(path: Path) -> bool:
    """Whether there is a file, or a link, at this path."""
    name, folder = _at(path)
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


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
    (source, folder), (target, _) = _at(temporary), _at(path)
    try:
        try:
            _write(temporary, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.replace(source, target, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(temporary)
            raise
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def append(path: Path, data: bytes) -> None:
    """Add the bytes to a file that is there, and no link.

    They reach the disk with the next call of `sync`, or earlier.
    """
    try:
        _write(path, data, os.O_WRONLY | os.O_APPEND | NOFOLLOW, sync=False)
    except OSError as error:
        raise unwritable(path, error) from error


def sync(path: Path) -> None:
    """Return when the contents of a file, or the names of those in a folder, are on the disk."""
    try:
        if (folder := _held.get().get(path)) is not None:
            os.fsync(folder)
            return
        is_folder = os.path.isdir(path)
        if is_folder and os.name == "nt":  # which does not open folders
            return
        file = descriptor(path, os.O_RDONLY if is_folder else os.O_RDWR | NOFOLLOW)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise unwritable(path, error) from error


def _write(path: Path, data: bytes, flags: int, sync: bool = True) -> None:
    # Through the calls of the system alone, so that a test can cut the power between any two.
    file = descriptor(path, flags)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def _unlink(path: Path) -> None:
    name, folder = _at(path)
    os.unlink(name, dir_fd=folder)


def delete_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder, which a kill during `replace` may have left."""
    for name in os.listdir(_held.get().get(folder, folder)):
        if name.startswith(".") and name.endswith(TEMPORARY):
            with contextlib.suppress(OSError):
                _unlink(folder / name)


def unwritable(path: Path, error: OSError) -> RNNScratchError:
    """The error for a file that could not be written."""
    return RNNScratchError(f"{path} could not be written: {error.strerror or error}.")
