"""Records: what is written to files and sent between processes, each described by one type.

A type says what a record has, with its bounds, and verifies what is read. What the bounds of single
fields cannot say is said in ``__post_init__``, by a ValueError.
"""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ..errors import RNNScratchError, shown
from . import files
from .files import Damaged

# Bytes; thousands of sessions, or a comparison, have fewer. In memory a crafted record takes up to
# twenty times as many.
LARGEST_RECORD = 6 * 2**20

ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"
Line = Annotated[str, Meta(max_length=1000, pattern=ONE_LINE)]
Count = Annotated[int, Meta(ge=1, le=2**31)]
Versions = Annotated[dict[Line, Line], Meta(max_length=100)]  # by the names of libraries


class Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A record. A field that has its default value is not written."""


class _Format(msgspec.Struct):
    # What is read of a record before it is known whether it has the right format.
    format: int | None = None


Stored = TypeVar("Stored", bound=Record)


def encoded(record: Record) -> bytes:
    """Return the record as the bytes of a JSON file, one value on each line."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def line(record: Record) -> bytes:
    """Return the record as a line of JSON."""
    return msgspec.json.encode(record) + b"\n"


def read(path: Path, kind: type[Stored], format: int, absence: RNNScratchError) -> Stored:
    """Return the record in a JSON file, which has a number of its format.

    Raises Damaged, with the place and the reason, if the file is not such a record or is too large,
    RNNScratchError if it has another format or cannot be opened, and `absence` if there is none.
    """
    try:
        data = files.read(path, LARGEST_RECORD)
        version = msgspec.json.decode(data, type=_Format).format
        if version in (format, None):
            return msgspec.json.decode(data, type=kind)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise absence from error
    except OSError as error:
        raise files.unreadable(path, error) from error
    # Errors of msgspec are ValueErrors, those of settings are ours.
    except (ValueError, RecursionError, RNNScratchError) as error:
        reason = shown(str(error), 300)
        raise Damaged(f"{path} is damaged: {reason}.") from error
    raise RNNScratchError(
        f"{path} has format {shown(version)}, and this version of rnn-scratch reads format "
        f"{format}.",
        "Use the version that wrote it.",
    )


def require_readable(
    path: Path, data: bytes, kind: type[Record], largest: int = LARGEST_RECORD
) -> None:
    """Raise RNNScratchError if a record, which is to be written there, could not be read again.

    Types are verified when something is read, not when it is made.
    """
    try:
        if len(data) > largest:
            raise ValueError(f"it has more than {largest:,} bytes")
        msgspec.json.decode(data, type=kind)
    except ValueError as error:
        reason = shown(str(error), 300)
        raise RNNScratchError(
            f"{path} is not written, as it could not be read: {reason}"
        ) from error


def write(path: Path, record: Record, verify: files.Verify = lambda: None) -> bytes:
    """Write the record as `files.replace` does, and return its bytes.

    Raises RNNScratchError if it could not be read again, or not be written.
    """
    data = encoded(record)
    require_readable(path, data, type(record))
    files.replace(path, data, verify)
    return data
