"""The checkpoint: a safetensors file, the same for every backend.

It has all that is needed to use the model and to go on with its training, within an epoch as well,
and a digest of every byte, so that a file that has changed is never taken for the one that was
written.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from ..contract import Arrays
from ..errors import RNNScratchError, shown
from ..parameters import shapes
from ..settings import Settings, model_options
from ..system import files, records
from ..system.files import Damaged
from ..system.records import Line, Record
from ..text.dataset import TextRecord
from . import run_folder
from .run_folder import LastEpoch
from .runtime import Runtime

FILE, BEST = "checkpoint.safetensors", "best.safetensors"
CHECKPOINT_FORMAT = "rnn-scratch 5"
# In the file's metadata. The digest is that of the file in which it is replaced by zeros. Within
# any other text of the metadata the quotation marks are escaped.
DIGEST, ZEROS = b'"sha256":"%b"', b"0" * 64
LARGEST_HEADER = 2**26  # bytes; with all characters of Unicode, it has fewer
LOSSES, DURATION, STATE = "losses", "seconds", "state."  # tensors of an incomplete epoch


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
    history: Line  # the digest of this epoch; before the first, the identity
    text: TextRecord
    runtime: Runtime
    # In the file these are tensors, and what is above is metadata.
    arrays: Arrays = {}  # all that training changes, as `parameters.trained_arrays` names it
    incomplete: Incomplete = NOTHING  # of the epoch after the last complete one


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file at `path` is replaced only when the new one is complete.

    Raises RNNScratchError if it could not be read again, or not be written.
    """
    from safetensors.numpy import save as to_bytes

    incomplete = checkpoint.incomplete
    tensors = dict(checkpoint.arrays)
    if incomplete.losses:
        tensors[LOSSES] = np.array(incomplete.losses, np.float64)
        tensors[DURATION] = np.array(incomplete.seconds, np.float64)
        tensors |= {f"{STATE}{number}": array for number, array in enumerate(incomplete.state)}
    about = msgspec.json.encode(replace(checkpoint, arrays={}, incomplete=NOTHING))
    records.require_readable(path, about, Checkpoint, LARGEST_HEADER // 4)  # without its escapes
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "checkpoint": about.decode(),
        "sha256": ZEROS.decode(),
    }
    data = to_bytes(tensors, metadata)
    digest = hashlib.sha256(data).hexdigest().encode()
    files.replace(path, data.replace(DIGEST % ZEROS, DIGEST % digest, 1))


def find(run: str | Path) -> Path:
    """The path of a run's checkpoint, from the run's folder or the file itself."""
    return Path(run, FILE) if os.path.isdir(run) else Path(run)


def latest(folder: Path) -> Checkpoint:
    """The checkpoint from which a run goes on: the later one of its two.

    The best one is written first, so after a kill it may be the later one. Raises as `load` does.
    """
    saved = load(folder)
    try:
        best = load(folder / BEST) if files.exists(folder / BEST) else saved
    except Damaged as error:
        raise Damaged(f"{error}\nWithout that file the run goes on from {FILE}.") from error
    return best if best.epoch > saved.epoch else saved


def load(run: str | Path) -> Checkpoint:
    """Read and verify the checkpoint of a run's folder, or a file.

    Raises Damaged if it is damaged, not a checkpoint, or one of another run than the record beside
    it, and RNNScratchError if there is none.
    """
    from safetensors.numpy import load as to_arrays

    path = find(run)
    try:
        data, metadata = _read(path)
        tensors = to_arrays(data)
        if metadata["format"] == CHECKPOINT_FORMAT:
            checkpoint = _checkpoint(tensors, metadata["checkpoint"])
            _require_own(path, checkpoint)
            return checkpoint
    except Damaged:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"There is no checkpoint at {path}.\n"
            "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file."
        ) from error
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error.strerror}.") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever another program may have written, with this digest
        raise Damaged(
            f"{path} is damaged, or not a checkpoint of rnn-scratch ({shown(str(error), 2000)}).\n"
            "Use another copy of it, or train again."
        ) from error
    raise RNNScratchError(
        f"{path} has the format {shown(metadata['format'])}, and this version of rnn-scratch reads "
        f"{CHECKPOINT_FORMAT!r}.\nUse the version that wrote it."
    )


def _require_own(path: Path, checkpoint: Checkpoint) -> None:
    # A checkpoint may be anywhere; only beside the record of a run it has a name that is the run's.
    own = run_folder.identity(path.parent)
    if path.name in (FILE, BEST) and own not in ("", checkpoint.identity):
        raise Damaged(
            f"{path} is a checkpoint of another run than the one whose {run_folder.RUN_FILE} is "
            "beside it.\nRestore the file that belongs there, or move this one elsewhere to use it."
        )


def _read(path: Path) -> tuple[bytes, dict[str, str]]:
    # All of a file with a digest that is its own, and its metadata. It begins with the length of
    # its header, which is JSON; how long the file is stands there.
    with files.opened(path) as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError(f"its header has more than {LARGEST_HEADER:,} bytes")
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        if size != 8 + length + max(tensor["data_offsets"][1] for tensor in header.values()):
            raise ValueError("its size is not that of its tensors")
        file.seek(0)
        data = file.read(size)
    found = re.search(DIGEST % b"([0-9a-f]{64})", data[: 8 + length])
    if found is None:
        raise ValueError("it has no SHA-256 of its own")
    hashed = hashlib.sha256(memoryview(data)[: found.start(1)])
    hashed.update(ZEROS)
    hashed.update(memoryview(data)[found.end(1) :])
    if hashed.hexdigest().encode() != found[1]:
        raise ValueError("its SHA-256 is not the one in its metadata")
    return data, metadata


def _checkpoint(tensors: Arrays, metadata: str) -> Checkpoint:
    # Raises an error of some kind if tensors and metadata do not fit together.
    checkpoint = msgspec.json.decode(metadata, type=Checkpoint)
    settings, vocab = checkpoint.settings, checkpoint.vocab
    characters = set(vocab[1:])
    if not characters or len(characters) < len(vocab) - 1 or set(map(len, characters)) != {1}:
        raise ValueError("its vocabulary is not <unk> and different characters")
    options = model_options(settings, len(vocab))
    whole = shapes(options, settings.optimizer)
    expected = dict(whole)
    if LOSSES in tensors:
        losses, seconds = tensors.pop(LOSSES), tensors.pop(DURATION)
        states = [f"{STATE}{number}" for number in range(options.num_states)]
        if states[0] not in tensors:  # each minibatch starts without
            states = []
        expected |= dict.fromkeys(states, (settings.batch_size, settings.num_hiddens))
        state = tuple(tensors[name] for name in states)
        checkpoint.incomplete = Incomplete(tuple(losses.tolist()), state, float(seconds))
        if not (checkpoint.incomplete.seconds > 0 and np.isfinite([*losses, seconds]).all()):
            raise ValueError("an incomplete epoch has losses, and has taken some time")
    actual = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    if actual != (wanted := {name: (expected[name], settings.dtype) for name in expected}):
        wrong = {name: each for name, each in actual.items() if wanted.get(name) != each}
        right = {name: each for name, each in wanted.items() if actual.get(name) != each}
        raise ValueError(f"its tensors are {wrong} instead of {right}")
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
    # The file has the parameters in alphabetical order. Backends add up the norm of the gradients
    # in the order of `shapes`; another order could change the last bit of a resumed run.
    checkpoint.arrays = {name: tensors[name] for name in whole}
    return checkpoint
