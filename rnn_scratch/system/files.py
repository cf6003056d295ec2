"""Writing so that a kill at any moment leaves either the old file or the new one, whole."""

import contextlib
import os
import tempfile
from pathlib import Path

from ..contract import RNNScratchError

TEMPORARY = ".part"


def replace(path: Path, data: bytes) -> None:
    """Write the bytes to a temporary file beside `path`, then rename it to `path`.

    Raises RNNScratchError if it cannot be written, for want of room say; the old file then stays.
    """
    try:
        handle, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)  # mkstemp gives the file to its owner alone
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files that a kill in the middle of `replace` left in a folder."""
    for left in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            left.unlink()


def unwritable(path: Path, error: OSError) -> RNNScratchError:
    """The error for a file that could not be written."""
    return RNNScratchError(f"{path} could not be written: {error.strerror or error}.")
