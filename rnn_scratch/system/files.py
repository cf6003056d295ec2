"""Replaces files safely: a kill at any moment leaves either the old file or the new one."""

import contextlib
import os
import tempfile
from pathlib import Path

from ..contract import RNNScratchError

TEMPORARY = ".part"


def replace(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file in the same folder, then rename it to `path`.

    Raises RNNScratchError if it cannot be written, such as to a full disk; the old file remains.
    """
    try:
        handle, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)  # mkstemp lets only the owner read it
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def delete_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder, which a kill during `replace` may have left."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def unwritable(path: Path, error: OSError) -> RNNScratchError:
    """The error for a file that could not be written."""
    return RNNScratchError(f"{path} could not be written: {error.strerror or error}.")
