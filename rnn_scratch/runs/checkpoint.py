"""The checkpoint: a safetensors file, the same for every backend."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..contract import Arrays, RNNScratchError
from ..initial import shapes
from ..settings import Settings
from ..system import files
from ..text.vocabulary import UNKNOWN

FILE = "checkpoint.safetensors"
FORMAT = "rnn-scratch 1"


class Checkpoint(NamedTuple):
    """A model after an epoch, with everything needed to use it and to resume its training."""

    arrays: Arrays
    vocab: list[str]
    settings: Settings
    epoch: int
    text_sha256: str  # of the text before normalization


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file at `path` is replaced only when the new one is complete."""
    from safetensors.numpy import save as to_bytes

    metadata = {
        "format": FORMAT,
        "vocabulary": json.dumps(checkpoint.vocab),
        "settings": json.dumps(dataclasses.asdict(checkpoint.settings)),
        "epoch": str(checkpoint.epoch),
        "text_sha256": checkpoint.text_sha256,
    }
    files.replace(path, to_bytes(checkpoint.arrays, metadata))


def find(run: str | Path) -> Path:
    """The path of a run's checkpoint, from the run's folder or the file itself."""
    path = Path(run)
    if path.is_dir():
        path = path / FILE
    if not path.exists():
        raise RNNScratchError(
            f"There is no checkpoint at {path}.\n"
            "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file."
        )
    return path


def load(path: Path) -> Checkpoint:
    """Read and verify a checkpoint; RNNScratchError if it is damaged or not a checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            ours = metadata.get("format") == FORMAT
            arrays = {name: file.get_tensor(name) for name in file.keys()} if ours else {}  # noqa: SIM118
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error}.") from error
    # The latter two are raised for types of numbers that NumPy does not have.
    except (SafetensorError, TypeError, AttributeError) as error:
        raise RNNScratchError(
            f"{path} is damaged, or not a safetensors file ({error}).\n"
            "Use another copy of it, or train again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise RNNScratchError(
            f"{path} is a safetensors file, but not a checkpoint that this version of rnn-scratch "
            f"can read: the format in its metadata is {metadata.get('format')!r} instead of "
            f"{FORMAT!r}.\nUse the program that wrote it."
        )
    try:
        checkpoint = Checkpoint(
            arrays,
            json.loads(metadata["vocabulary"]),
            Settings(**json.loads(metadata["settings"])),
            int(metadata["epoch"]),
            metadata["text_sha256"],
        )
    except (KeyError, TypeError, ValueError, RNNScratchError) as error:
        raise RNNScratchError(f"The metadata of {path} is damaged: {error!r}.") from error
    _verify(path, checkpoint)
    # The file has the parameters in alphabetical order. Backends add up the norm of the gradients
    # in the order of `shapes`; another order could change the last bit of a resumed run.
    return checkpoint._replace(arrays={name: arrays[name] for name in _shapes(checkpoint)})


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    settings = checkpoint.settings
    sizes = len(checkpoint.vocab), settings.num_hiddens, settings.embedding
    return shapes(*sizes, settings.cell)


def _verify(path: Path, checkpoint: Checkpoint) -> None:
    settings, vocab, arrays = checkpoint.settings, checkpoint.vocab, checkpoint.arrays
    strings = isinstance(vocab, list) and all(isinstance(token, str) for token in vocab)
    characters = strings and vocab[:1] == [UNKNOWN] and all(len(token) == 1 for token in vocab[1:])
    if not characters or len(set(vocab)) != len(vocab):
        raise RNNScratchError(
            f"The vocabulary in {path} is not a list of {UNKNOWN} and distinct characters."
        )
    if checkpoint.epoch < 0:
        raise RNNScratchError(f"The epoch in {path} is {checkpoint.epoch}, below 0.")
    expected = _shapes(checkpoint)
    actual = {name: array.shape for name, array in arrays.items()}
    if actual != expected:
        raise RNNScratchError(
            f"The tensors in {path} don't fit its vocabulary of {len(vocab)} and its "
            f"{settings.num_hiddens} hidden units.\nExpected: {expected}\nIn the file: {actual}"
        )
    for name, array in arrays.items():
        if array.dtype != np.dtype(settings.dtype):
            raise RNNScratchError(
                f"{name} in {path} is {array.dtype}; its settings say {settings.dtype}."
            )
        if not np.isfinite(array).all():
            raise RNNScratchError(f"{name} in {path} has values that are not finite.")
