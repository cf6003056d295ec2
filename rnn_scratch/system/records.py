"""Records: types that describe, and verify, the contents of files and of pipes."""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError, format_value
from . import files
from .files import Damaged

LARGEST_RECORD = 6 * 2**20  # bytes; a crafted record takes up to twenty times more memory

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"
Line = Annotated[str, Meta(max_length=1000, pattern=ONE_LINE)]
Count = Annotated[int, Meta(ge=1, le=2**31)]
Versions = Annotated[dict[Line, Line], Meta(max_length=100)]  # versions, keyed by library name


class Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A record. Fields that have their default value are not written."""


Stored = TypeVar("Stored", bound=Record)


def line(record: Record) -> bytes:
    """Return the record as a line of JSON."""
    return msgspec.json.encode(record) + b"\n"


def read(path: Path, kind: type[Stored], format: int, absence: RNNScratchError) -> Stored:
    """Return the record in a JSON file that has this format number.

    Raises Damaged if the file is not such a record, RNNScratchError if it has another format or
    cannot be opened, and `absence` if there is no file.
    """
    data = files.read(path, LARGEST_RECORD, absence)
    try:
        number = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", b"null")
        version = msgspec.json.decode(number, type=int | None)
        if version in (format, None):
            return msgspec.json.decode(data, type=kind)
    # Errors of msgspec are ValueErrors, and errors of settings are RNNScratchErrors.
    except (ValueError, RecursionError, RNNScratchError) as error:
        raise Damaged(f"{path} is damaged: {format_value(str(error), 300)}.") from error
    problem = f"{path} has format {format_value(version)}, and this version of rnn-scratch reads"
    raise RNNScratchError(f"{problem} format {format}.", "Use the version that wrote it.")


def write(path: Path, record: Record) -> None:
    """Write the record as JSON, one value on each line, as `files.replace` does."""
    files.replace(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
