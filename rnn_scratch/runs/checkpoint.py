"""The checkpoint: a safetensors file, the same for every backend.

It has all that is needed to use the model and to resume its training, within an epoch as well; the
parameters after the best epoch; and a digest of its metadata and tensors: a file that has changed
is never taken for the one that was written.
"""

import contextlib
import hashlib
import json
import os
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from ..contract import Arrays, Options
from ..errors import RNNScratchError, shown
from ..parameters import shapes
from ..settings import Settings, model_options
from ..system import files, records
from ..system.files import Damaged
from ..system.records import Line, Record
from ..text.dataset import TextRecord
from . import run_folder
from .run_folder import LastEpoch, Mark
from .runtime import Runtime

FILE = "checkpoint.safetensors"
CHECKPOINT_FORMAT = "rnn-scratch 7"
LARGEST_HEADER = 2**22  # bytes; with all characters that Unicode has assigned, it has fewer
LOSSES, DURATION, STATE = "losses", "seconds", "state."  # tensors of an incomplete epoch
BEST = "best."  # begins the names of the parameters after the best epoch


class Incomplete(NamedTuple):
    """What has been trained of an epoch: the minibatches up to some point."""

    losses: tuple[float, ...] = ()  # of each minibatch, the mean in nats
    state: tuple[np.ndarray, ...] = ()  # after them; none if it is not carried
    seconds: float = 0.0


NOTHING = Incomplete()


class Checkpoint(Record, eq=False):
    """A model during its training, with everything needed to use it and to resume the training."""

    vocab: list[str]
    settings: Settings
    identity: Line  # of the run
    epoch: LastEpoch
    history: Mark  # the lines up to this epoch
    text: TextRecord
    runtime: Runtime
    best_epoch: LastEpoch = 0  # with the lowest loss on held-out text; 0: none has one
    # In the file these are tensors, and what is above is metadata.
    arrays: Arrays = {}  # all that training changes, as `parameters.trained_arrays` names it
    incomplete: Incomplete = NOTHING  # of the epoch after the last complete one
    best: Arrays = {}  # the parameters after the best epoch

    @property
    def position(self) -> str:
        """How far the model has been trained, in words."""
        more = len(self.incomplete.losses)
        words = f" and {more} minibatch{'es' if more > 1 else ''} of the next" if more else ""
        return f"epoch {self.epoch}{words}"


def save(path: Path, checkpoint: Checkpoint, verify: files.Verify = lambda: None) -> None:
    """Write a checkpoint as `files.replace` does.

    Raises RNNScratchError if the checkpoint could not be read again, or not be written.
    """
    from safetensors.numpy import save as to_bytes

    incomplete = checkpoint.incomplete
    tensors = checkpoint.arrays | {f"{BEST}{name}": a for name, a in checkpoint.best.items()}
    if incomplete.losses:
        tensors[LOSSES] = np.array(incomplete.losses, np.float64)
        tensors[DURATION] = np.array(incomplete.seconds, np.float64)
        tensors |= {f"{STATE}{number}": array for number, array in enumerate(incomplete.state)}
    about = msgspec.json.encode(replace(checkpoint, arrays={}, incomplete=NOTHING, best={}))
    records.require_readable(path, about, Checkpoint, LARGEST_HEADER // 2)  # without its escapes
    metadata = {"format": CHECKPOINT_FORMAT, "checkpoint": about.decode()}
    metadata["sha256"] = _digest(metadata["checkpoint"], tensors)
    files.replace(path, to_bytes(tensors, metadata), verify)


def _digest(about: str, tensors: Arrays) -> str:
    # Of the metadata and of every bit of the tensors.
    content = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        content.update(f"\n{name} {values.dtype.name} {values.shape} ".encode())
        content.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    return content.hexdigest()


def load(run: str | Path, arrays: bool = True) -> Checkpoint:
    """Read and verify the checkpoint in a run's folder, or in a file; without `arrays` metadata.

    Raises Damaged if the file is damaged, not a checkpoint, or one of another run than the record
    beside it, and RNNScratchError if there is none.
    """
    path = Path(run, FILE) if os.path.isdir(run) else Path(run)
    try:
        with files.opened(path) as file:
            metadata, tensors = _header(file)
            if metadata["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"its format is {metadata['format']}, not {CHECKPOINT_FORMAT}")
            checkpoint = msgspec.json.decode(metadata["checkpoint"], type=Checkpoint)
            # Before the numbers are read, which may be many.
            _require_consistent(checkpoint, tensors)
            if arrays:
                _fill(checkpoint, metadata, file)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"There is no checkpoint at {path}.",
            "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file.",
        ) from error
    except OSError as error:
        raise files.unreadable(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever another program may have written, with this digest
        raise Damaged(
            f"{path} is damaged, or not a checkpoint of this version of rnn-scratch "
            f"({shown(str(error), 600)}).",
            "Use another copy of it or the version that wrote it, or train again.",
        ) from error
    identity = checkpoint.identity
    # Only beside the record of a run is such a name the run's.
    if path.name == FILE and files.exists(path.with_name(run_folder.RUN_FILE)):
        with contextlib.suppress(Damaged):  # then the run is unknown
            identity = run_folder.read(path.parent).identity
    if identity != checkpoint.identity:
        raise Damaged(
            f"{path} belongs to another run than the {run_folder.RUN_FILE} beside it.",
            "Restore the right file, or move this one to another folder to use it.",
        )
    return checkpoint


def _header(file: BinaryIO) -> tuple[dict[str, str], dict[str, Any]]:
    # The metadata and the description of each tensor. The file begins with the length of its
    # header, which is JSON; after it are the tensors, one after another.
    size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"its header has more than {LARGEST_HEADER:,} bytes")
    tensors = json.loads(file.read(length))
    metadata = tensors.pop("__metadata__", {})
    sizes = (prod(each["shape"]) * int(each["dtype"][1:]) // 8 for each in tensors.values())
    if size != 8 + length + sum(sizes):
        raise ValueError("its size is not that of its tensors")
    return metadata, tensors


def _require_consistent(checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
    # Raise an error of some kind unless the vocabulary is one and the tensors are the settings'.
    settings, vocab = checkpoint.settings, checkpoint.vocab
    characters = set(vocab[1:])
    if not characters or len(characters) < len(vocab) - 1 or set(map(len, characters)) != {1}:
        raise ValueError("its vocabulary is not <unk> and different characters")
    options = model_options(settings, len(vocab))
    expected = shapes(options, settings.optimizer)
    if checkpoint.best_epoch:
        expected |= {f"{BEST}{name}": size for name, size in options.shapes().items()}
    doubles: dict[str, tuple[int, ...]] = {}
    if LOSSES in tensors:
        (number,) = tensors[LOSSES]["shape"]
        doubles = {LOSSES: (number,), DURATION: ()}
        states = _states(options)
        if states[0] in tensors:  # otherwise each minibatch starts without
            expected |= dict.fromkeys(states, (settings.batch_size, settings.num_hiddens))
    wanted = {name: (size, settings.dtype) for name, size in expected.items()}
    wanted |= {name: (size, "float64") for name, size in doubles.items()}
    names = {f"F{size}": f"float{size}" for size in (16, 32, 64)}
    actual = {
        name: (tuple(tensor["shape"]), names.get(tensor["dtype"], tensor["dtype"]))
        for name, tensor in tensors.items()
    }
    if actual != wanted:
        wrong = {name: kind for name, kind in actual.items() if wanted.get(name) != kind}
        right = {name: kind for name, kind in wanted.items() if actual.get(name) != kind}
        raise ValueError(f"its tensors are {wrong} instead of {right}")


def _states(options: Options) -> list[str]:
    return [f"{STATE}{number}" for number in range(options.num_states)]


def _fill(checkpoint: Checkpoint, metadata: dict[str, str], file: BinaryIO) -> None:
    # Read the tensors; raise ValueError if they are not those that were written, or not finite.
    from safetensors.numpy import load as to_arrays

    file.seek(0)
    tensors = to_arrays(file.read())
    if _digest(metadata["checkpoint"], tensors) != metadata["sha256"]:
        raise ValueError("its SHA-256 is not the one in its metadata")
    options = model_options(checkpoint.settings, len(checkpoint.vocab))
    if LOSSES in tensors:
        losses, seconds = tensors.pop(LOSSES), tensors.pop(DURATION)
        state = tuple(tensors[name] for name in _states(options) if name in tensors)
        checkpoint.incomplete = Incomplete(tuple(losses.tolist()), state, float(seconds))
        if not (checkpoint.incomplete.seconds > 0 and np.isfinite([*losses, seconds]).all()):
            raise ValueError("an incomplete epoch has losses, and has taken some time")
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
    # The file has the parameters in alphabetical order. Backends add up the norm of the gradients
    # in the order of `shapes`; another order could change the last bit of a resumed run.
    whole = shapes(options, checkpoint.settings.optimizer)
    checkpoint.arrays = {name: tensors[name] for name in whole}
    if checkpoint.best_epoch:
        checkpoint.best = {name: tensors[f"{BEST}{name}"] for name in options.shapes()}
