"""The checkpoint: a safetensors file in a backend-independent format.

It contains everything needed to use the model and resume training, even in the middle of an
epoch; the parameters after the best epoch; and a digest of the metadata and tensors.
"""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from ..contract import Arrays
from ..errors import RNNScratchError, format_value
from ..parameters import shapes
from ..settings import NonNegativeInt, Settings, model_options
from ..system import files, records
from ..system.files import CorruptedFileError
from ..system.records import Record
from ..text import minibatches
from ..text.dataset import TextRecord
from ..training.events import EMPTY_EPOCH, Epoch, LastEpoch, PartialEpoch
from ..training.runtime import Runtime
from . import run_folder

FILE = "checkpoint.safetensors"
CHECKPOINT_FORMAT = "rnn-scratch 8"
LOSSES, SECONDS, STATE, BEST = "losses", "seconds", "state.", "best."  # tensor names and prefixes


class Checkpoint(Record, eq=False):
    """A model and its training state."""

    vocab: list[str]  #: the character for each token
    settings: Settings  #: the run's settings
    epoch: LastEpoch  #: last complete epoch
    text: TextRecord  #: description of the run's text
    runtime: Runtime  #: the last session's backend, device and threads
    history_size: NonNegativeInt = 0  #: length in bytes of the history up to this epoch
    history_sha256: str = hashlib.sha256().hexdigest()  #: SHA-256 of the history up to this epoch
    best_epoch: LastEpoch = 0  #: epoch with the lowest held-out loss; 0 if none
    # The file stores the fields above as metadata and the fields below as tensors.
    arrays: Arrays = {}  #: parameters and optimizer state
    incomplete: PartialEpoch = EMPTY_EPOCH  #: the next epoch's results so far
    best: Arrays = {}  #: parameters after the best epoch

    @property
    def position(self) -> str:
        """A description of training progress, such as "minibatch 9 of epoch 3"."""
        count = len(self.incomplete.losses)
        return f"minibatch {count} of epoch {self.epoch + 1}" if count else f"epoch {self.epoch}"


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint file, atomically replacing any existing file."""
    incomplete = checkpoint.incomplete
    tensors = checkpoint.arrays | {f"{BEST}{name}": a for name, a in checkpoint.best.items()}
    if incomplete.losses:
        tensors[LOSSES] = np.array(incomplete.losses, np.float64)
        tensors[SECONDS] = np.array(incomplete.seconds, np.float64)
        tensors |= {f"{STATE}{index}": array for index, array in enumerate(incomplete.state)}
    # safetensors writes an array's memory, whatever its order.
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    fields = msgspec.json.encode(replace(checkpoint, arrays={}, incomplete=EMPTY_EPOCH, best={}))
    metadata = {"format": CHECKPOINT_FORMAT, "checkpoint": fields.decode()}
    metadata["sha256"] = _digest(metadata["checkpoint"], tensors)
    files.replace(path, to_bytes(tensors, metadata))


def _digest(fields: str, tensors: Arrays) -> str:
    content = hashlib.sha256(fields.encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        content.update(f"\n{name} {values.dtype.name} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    return content.hexdigest()


def load(run: str | Path, arrays: bool = True) -> Checkpoint:
    """Read and verify a checkpoint file, or the checkpoint in a run folder.

    If `arrays` is false, read only the metadata. Raises CorruptedFileError if the file is corrupted
    or is not a checkpoint, and RNNScratchError if it does not exist.
    """
    path = files.user_path(run)
    path = path / FILE if path.is_dir() else path
    missing_error = RNNScratchError(
        f"No checkpoint found at {path}.",
        "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file.",
    )
    with files.explained_errors(path, "read", missing_error):
        try:
            return _read(path, arrays)
        except (CorruptedFileError, OSError):
            raise
        except Exception as error:  # the file may contain anything
            records.require_extension(path, error)
            raise CorruptedFileError(
                f"{path} is damaged, or not a checkpoint of rnn-scratch "
                f"({format_value(str(error), 600)}).",
                "Use another copy of the file, or train again.",
            ) from error


def _read(path: Path, arrays: bool) -> Checkpoint:
    with safe_open(path, "numpy") as file:
        metadata = file.metadata() or {}
        if metadata["format"] != CHECKPOINT_FORMAT:
            problem = f"{path} was written by another version of rnn-scratch"
            problem += f" (its format is {format_value(metadata['format'], 100)})."
            raise CorruptedFileError(problem, "Use the version that wrote it, or train again.")
        checkpoint = msgspec.json.decode(metadata["checkpoint"], type=Checkpoint)
        if arrays:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if _digest(metadata["checkpoint"], tensors) != metadata["sha256"]:
                raise ValueError("its contents do not match its SHA-256 digest")
            _fill(checkpoint, tensors)
    return checkpoint


def load_latest(folder: Path, arrays: bool = True) -> tuple[Checkpoint | None, list[Epoch]]:
    """Return a run's checkpoint (or None) and the run's history up to the checkpoint."""
    if not (folder / FILE).exists() and not run_folder.read_history(folder):
        return None, []
    saved = load(folder, arrays)
    return saved, run_folder.read_history(folder, saved.history_size, saved.history_sha256)


def _fill(checkpoint: Checkpoint, tensors: Arrays) -> None:
    """Set the fields stored as tensors; raise ValueError if they do not fit the other fields."""
    settings = checkpoint.settings
    options = model_options(settings, len(checkpoint.vocab))
    if {len(character) for character in checkpoint.vocab[1:]} != {1}:  # the first is `UNKNOWN`
        raise ValueError("its vocabulary does not consist of single characters")

    def select(prefix: str, expected_shapes: dict[str, tuple[int, ...]]) -> Arrays:
        for name, shape in expected_shapes.items():
            tensor = tensors[prefix + name]
            if tensor.shape != shape or tensor.dtype != settings.dtype:
                raise ValueError(f"the shape or type of {prefix}{name} does not match the settings")
        return {name: tensors[prefix + name] for name in expected_shapes}

    # Restore the order of `shapes`, because the file sorts tensors by name. Backends compute
    # the gradient norm in this order, and a different order could change its last bit.
    checkpoint.arrays = select("", shapes(options, settings.optimizer))
    if checkpoint.best_epoch:
        checkpoint.best = select(BEST, options.shapes())
    if LOSSES in tensors:
        losses = msgspec.convert(tensors[LOSSES].tolist(), tuple[float, ...])
        names = map(str, range(options.num_states * minibatches.carries_state(settings.sampling)))
        state = select(STATE, dict.fromkeys(names, (settings.batch_size, settings.num_hiddens)))
        checkpoint.incomplete = PartialEpoch(losses, tuple(state.values()), float(tensors[SECONDS]))
