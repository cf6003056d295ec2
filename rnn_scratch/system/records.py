"""Records: types that describe file contents and validate them when files are read."""

import re
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError, format_value
from . import files
from .files import CorruptedFileError

MAX_RECORD_BYTES = 6 * 2**20  # a decoded malicious record can use 20 times as much memory

Count = Annotated[int, Meta(ge=1, le=2**31)]
Versions = Annotated[dict[str, str], Meta(max_length=100)]  # versions, keyed by library name


class Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The base class for records; fields equal to their defaults are not written."""


Stored = TypeVar("Stored", bound=Record)


def read(path: Path, kind: type[Stored], missing_error: RNNScratchError) -> Stored:
    """Read a record of type `kind` from a JSON file; raise the same errors as `files.read`."""
    data = files.read(path, MAX_RECORD_BYTES, missing_error)
    try:
        return msgspec.json.decode(data, type=kind)
    # msgspec raises ValueError; invalid settings raise RNNScratchError.
    except (ValueError, RecursionError, RNNScratchError) as error:
        require_extension(path, error)
        problem = f"{path} is damaged: {format_value(str(error), 300)}."
        hint = "Restore it from a backup."
        if str(error).endswith("`$.format`"):
            problem = f"{path} was written by another version of rnn-scratch."
            hint = "Use the version that wrote it."
        raise CorruptedFileError(problem, hint) from error


def require_extension(path: Path, error: Exception) -> None:
    """Raise RNNScratchError if a file names a cell or an optimizer that no package adds."""
    unknown = re.search(r"Invalid enum value '(.+?)' - at `\$.*\.(cell|optimizer)`", str(error))
    if unknown:
        problem = f"{path} uses the {unknown[2]} {unknown[1]}, which is not installed."
        raise RNNScratchError(problem, "Install the package that adds it.") from error


def write(path: Path, record: Record) -> None:
    """Write a record to a file as JSON, one value per line (see `files.replace`)."""
    files.replace(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
