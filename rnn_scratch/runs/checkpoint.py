"""The checkpoint: a safetensors file, the same for every backend.

It has all that is needed to use the model and to go on with its training, within an epoch as well,
and a digest of every byte, so that a file that has changed is never taken for the one that was
written.
"""

import dataclasses
import hashlib
import json
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import Arrays, RNNScratchError
from ..settings import Settings, model_options, shown
from ..system import files
from ..system.files import Damaged
from ..text.vocabulary import UNKNOWN

FILE = "checkpoint.safetensors"
FORMAT = "rnn-scratch 2"  # as written
FORMATS = ("rnn-scratch 1", FORMAT)  # that can be read; the first has no digest
# In the file's metadata. The digest is that of the file in which it is replaced by zeros.
DIGEST, ZEROS = b'"sha256":"', b"0" * 64
LARGEST_HEADER = 2**24  # bytes; a vocabulary of all the characters of Unicode needs a fifth of it
LOSSES, STATE = "losses", "state."  # names of the tensors of an incomplete epoch


class Incomplete(NamedTuple):
    """What has been trained of an epoch: the minibatches up to some point."""

    losses: tuple[float, ...] = ()  # of each minibatch, the mean in nats
    state: tuple[np.ndarray, ...] = ()  # after them; none if it is not carried
    seconds: float = 0.0


class Checkpoint(NamedTuple):
    """A model during its training, with everything needed to use it and to resume the training."""

    arrays: Arrays
    vocab: list[str]
    settings: Settings
    epoch: int  # the last complete one
    text: dict[str, Any]  # as in the run's record; ``sha256`` is of the text before normalization
    place: dict[str, Any]  # backend, model, device, threads, eager; empty in the first format
    incomplete: Incomplete = Incomplete()  # of the epoch after it


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file at `path` is replaced only when the new one is complete."""
    from safetensors.numpy import save as to_bytes

    incomplete = checkpoint.incomplete
    tensors = dict(checkpoint.arrays)
    if incomplete.losses:
        tensors[LOSSES] = np.array(incomplete.losses, np.float64)
        tensors |= {f"{STATE}{number}": array for number, array in enumerate(incomplete.state)}
    metadata = {
        "format": FORMAT,
        "vocabulary": json.dumps(checkpoint.vocab),
        "settings": json.dumps(dataclasses.asdict(checkpoint.settings)),
        "epoch": str(checkpoint.epoch),
        "seconds": repr(incomplete.seconds),
        "text": json.dumps(checkpoint.text),
        "place": json.dumps(checkpoint.place),
        "sha256": ZEROS.decode(),
    }
    data = to_bytes(tensors, metadata)
    digest = hashlib.sha256(data).hexdigest().encode()
    files.replace(path, data.replace(DIGEST + ZEROS, DIGEST + digest, 1))


def find(run: str | Path) -> Path:
    """The path of a run's checkpoint, from the run's folder or the file itself."""
    path = Path(run)
    try:
        if path.is_dir():
            path = path / FILE
        path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"There is no checkpoint at {path}.\n"
            "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file."
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return path


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint; Damaged if it is damaged or not a checkpoint."""
    from safetensors.numpy import load as to_arrays

    data = _read(path)
    metadata = _metadata(path, data)
    if metadata.get("format") not in FORMATS:
        raise RNNScratchError(
            f"{path} is a safetensors file, but not a checkpoint that this version of rnn-scratch "
            f"can read: the format in its metadata is {shown(metadata.get('format'))} instead of "
            f"{FORMAT!r}.\nUse the program that wrote it."
        )
    if metadata["format"] == FORMAT or "sha256" in metadata:
        _verify_digest(path, data, metadata)
    try:
        tensors = to_arrays(data)
    except Exception as error:  # of several types, such as one for numbers that NumPy lacks
        raise _damaged(path, error) from error
    try:
        checkpoint = _checkpoint(tensors, metadata)
    except Exception as error:  # what the metadata of another program may lead to
        raise Damaged(f"The metadata of {path} is damaged: {shown(error)}.") from error
    _verify(path, checkpoint)
    # The file has the parameters in alphabetical order. Backends add up the norm of the gradients
    # in the order of ``Options.shapes``; another order could change the last bit of a resumed run.
    return checkpoint._replace(arrays={name: tensors[name] for name in _shapes(checkpoint)})


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RNNScratchError(f"{path} is not a file: a checkpoint is one.")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    # A safetensors file begins with the length of its header, which is JSON.
    length = int.from_bytes(data[:8], "little")
    try:
        if len(data) < 8 or length > len(data) - 8:
            raise ValueError("its header is incomplete")
        if length > LARGEST_HEADER:
            raise ValueError(f"its header has more than {LARGEST_HEADER:,} bytes")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not texts")
    except (ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    return metadata


def _verify_digest(path: Path, data: bytes, metadata: dict[str, str]) -> None:
    digest = metadata.get("sha256", "").encode()
    field = DIGEST + digest + b'"'
    before, _, after = data.partition(field)
    hashed = hashlib.sha256(before)
    for rest in (DIGEST, ZEROS, b'"', after):
        hashed.update(rest)
    if hashed.hexdigest().encode() != digest:
        raise _damaged(path, "its SHA-256 is not the one in its metadata")


def _checkpoint(tensors: Arrays, metadata: dict[str, str]) -> Checkpoint:
    settings = Settings(**json.loads(metadata["settings"]))
    vocab, epoch = json.loads(metadata["vocabulary"]), int(metadata["epoch"])
    if metadata["format"] == FORMAT:
        text, place = json.loads(metadata["text"]), json.loads(metadata["place"])
        if not (isinstance(text["sha256"], str) and isinstance(place, dict)):
            raise ValueError("the account of the text is incomplete")
    else:
        text, place = {"sha256": metadata["text_sha256"]}, {}
    arrays, incomplete = dict(tensors), Incomplete()
    if LOSSES in arrays:
        losses = tuple(float(loss) for loss in arrays.pop(LOSSES))
        count = model_options(settings, len(vocab)).num_states
        names = [f"{STATE}{number}" for number in range(count)]
        state = tuple(arrays.pop(name) for name in names if name in arrays)
        if not losses or len(state) not in (0, count):
            raise ValueError("the incomplete epoch has no losses, or not every tensor of the state")
        incomplete = Incomplete(losses, state, float(metadata["seconds"]))
    return Checkpoint(arrays, vocab, settings, epoch, text, place, incomplete)


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return model_options(checkpoint.settings, len(checkpoint.vocab)).shapes()


def _verify(path: Path, checkpoint: Checkpoint) -> None:
    settings, vocab, arrays = checkpoint.settings, checkpoint.vocab, checkpoint.arrays
    strings = isinstance(vocab, list) and all(isinstance(token, str) for token in vocab)
    characters = strings and vocab[:1] == [UNKNOWN] and all(len(token) == 1 for token in vocab[1:])
    if not characters or len(set(vocab)) != len(vocab):
        raise Damaged(
            f"The vocabulary in {path} is not a list of {UNKNOWN} and distinct characters."
        )
    if checkpoint.epoch < 0:
        raise Damaged(f"The epoch in {path} is {checkpoint.epoch}, below 0.")
    expected = _shapes(checkpoint)
    state = {f"{STATE}{number}": array for number, array in enumerate(checkpoint.incomplete.state)}
    expected |= {name: (settings.batch_size, settings.num_hiddens) for name in state}
    arrays = arrays | state
    actual = {name: array.shape for name, array in arrays.items()}
    if actual != expected:
        raise Damaged(
            f"The tensors in {path} don't fit its vocabulary of {len(vocab)} and its "
            f"{settings.num_hiddens} hidden units.\nExpected: {expected}\n"
            f"In the file: {shown(actual, 2000)}"
        )
    for name, array in arrays.items():
        if array.dtype != np.dtype(settings.dtype):
            raise Damaged(f"{name} in {path} is {array.dtype}; its settings say {settings.dtype}.")
        if not np.isfinite(array).all():
            raise Damaged(f"{name} in {path} has values that are not finite.")
    if not np.isfinite([*checkpoint.incomplete.losses, checkpoint.incomplete.seconds]).all():
        raise Damaged(f"The losses in {path} are not finite.")


def _damaged(path: Path, reason: object) -> Damaged:
    reason = reason if isinstance(reason, str) else shown(reason)
    return Damaged(
        f"{path} is damaged, or not a safetensors file ({reason}).\n"
        "Use another copy of it, or train again."
    )


def _unreadable(path: Path, error: OSError | ValueError) -> RNNScratchError:
    reason = getattr(error, "strerror", None) or error
    return RNNScratchError(f"{path} could not be read: {reason}.")
