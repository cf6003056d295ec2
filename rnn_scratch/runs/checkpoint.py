"""The checkpoint: a safetensors file that every backend reads and writes alike."""

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
    """A model after an epoch, with all that is needed to use it and to go on from it."""

    arrays: Arrays
    vocab: list[str]
    settings: Settings
    epoch: int
    text_sha256: str  # of the text before it was normalised


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write it; the file at `path` is the old one until the new one is whole."""
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
    """The checkpoint of a run, given as its folder or as the file itself."""
    path = Path(run)
    if path.is_dir():
        path = path / FILE
    if not path.exists():
        raise RNNScratchError(
            f"There is no checkpoint at {path}.\n"
            "Give the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file."
        )
    return path


def load(path: Path) -> Checkpoint:
    """Read and verify it; RNNScratchError if it is damaged, foreign, or does not fit together."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            ours = metadata.get("format") == FORMAT
            arrays = {name: file.get_tensor(name) for name in file.keys()} if ours else {}  # noqa: SIM118
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error}.") from error
    # The two others come with types of numbers that NumPy does not have.
    except (SafetensorError, TypeError, AttributeError) as error:
        raise RNNScratchError(
            f"{path} is damaged, or no safetensors file at all ({error}).\n"
            "Use another copy of it, or train again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise RNNScratchError(
            f"{path} is a safetensors file, but not a checkpoint of this program: its metadata "
            f"say format {metadata.get('format')!r}, wanted is {FORMAT!r}."
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
        raise RNNScratchError(f"The metadata of {path} are damaged: {error!r}.") from error
    _verify(path, checkpoint)
    # The file has them in the order of the alphabet. A backend adds up the gradients' norm in this
    # one, and with another sum a resumed run would not be to the last bit what it was.
    return checkpoint._replace(arrays={name: arrays[name] for name in _shapes(checkpoint)})


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    settings = checkpoint.settings
    return shapes(len(checkpoint.vocab), settings.num_hiddens, settings.embedding)


def _verify(path: Path, checkpoint: Checkpoint) -> None:
    settings, vocab, arrays = checkpoint.settings, checkpoint.vocab, checkpoint.arrays
    strings = isinstance(vocab, list) and all(isinstance(token, str) for token in vocab)
    characters = strings and vocab[:1] == [UNKNOWN] and all(len(token) == 1 for token in vocab[1:])
    if not characters or len(set(vocab)) != len(vocab):
        raise RNNScratchError(
            f"The vocabulary in {path} is no list of {UNKNOWN} and different characters."
        )
    if checkpoint.epoch < 0:
        raise RNNScratchError(f"The epoch in {path} is {checkpoint.epoch}, below 0.")
    expected = _shapes(checkpoint)
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        raise RNNScratchError(
            f"The tensors in {path} don't fit its vocabulary of {len(vocab)} and its "
            f"{settings.num_hiddens} hidden units.\nExpected: {expected}\nFound: {found}"
        )
    for name, array in arrays.items():
        if array.dtype != np.dtype(settings.dtype):
            raise RNNScratchError(
                f"{name} in {path} is {array.dtype}; its settings say {settings.dtype}."
            )
        if not np.isfinite(array).all():
            raise RNNScratchError(f"{name} in {path} has values that are not finite.")
