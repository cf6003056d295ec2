"""Replaces files safely, and reads records.

A kill at any moment leaves either the old file or the new one.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def read_record(
    path: Path, formats: Sequence[int], prepare: Callable[[dict[str, Any]], None], absence: str
) -> dict[str, Any]:
    """The record in a JSON file, of one of these formats.

    `prepare` verifies the record, and converts one of an older format; any error that it raises
    means that the record is damaged. Raises RNNScratchError if the record is damaged, of another
    format, or absent; then `absence` is the message.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        format = record["format"]
        if format in formats:
            prepare(record)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(absence) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RNNScratchError) as error:
        raise RNNScratchError(f"{path} could not be read or is damaged: {error!r}.") from error
    if format not in formats:
        raise RNNScratchError(
            f"{path} has format {format!r}, and this version of rnn-scratch reads formats "
            f"{' and '.join(map(str, formats))}.\nUse the version that wrote it, or a newer one."
        )
    return record


def delete_temporary(folder: Path) -> None:
    """Delete the temporary files in a folder, which a kill during `replace` may have left."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def unwritable(path: Path, error: OSError) -> RNNScratchError:
    """The error for a file that could not be written."""
    return RNNScratchError(f"{path} could not be written: {error.strerror or error}.")
