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

from ..contract import Arrays, RNNScratchError
from ..parameters import shapes
from ..settings import Settings, model_options, shown
from ..system import files
from ..system.files import Damaged
from ..system.records import Record
from ..text.dataset import TextRecord
from .folder import LastEpoch
from .runtime import Runtime

FILE, BEST = "checkpoint.safetensors", "best.safetensors"
CHECKPOINT_FORMAT = "rnn-scratch 4"
# In the file's metadata. The digest is that of the file in which it is replaced by zeros. Within
# any other text of the metadata the quotation marks are escaped.
DIGEST, ZEROS = b'"sha256":"%b"', b"0" * 64
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
    epoch: LastEpoch
    text: TextRecord
    runtime: Runtime
    # In the file these are tensors, and what is above is metadata.
    arrays: Arrays = {}  # all that training changes, as `parameters.everything` names it
    incomplete: Incomplete = NOTHING  # of the epoch after the last complete one


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file at `path` is replaced only when the new one is complete."""
    from safetensors.numpy import save as to_bytes

    incomplete = checkpoint.incomplete
    tensors = dict(checkpoint.arrays)
    if incomplete.losses:
        tensors[LOSSES] = np.array(incomplete.losses, np.float64)
        tensors[DURATION] = np.array(incomplete.seconds, np.float64)
        tensors |= {f"{STATE}{number}": array for number, array in enumerate(incomplete.state)}
    about = replace(checkpoint, arrays={}, incomplete=NOTHING)
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "checkpoint": msgspec.json.encode(about).decode(),
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
        best = load(folder / BEST) if (folder / BEST).exists() else saved
    except Damaged as error:
        raise Damaged(f"{error}\nWithout that file the run goes on from {FILE}.") from error
    return best if best.epoch > saved.epoch else saved


def load(run: str | Path) -> Checkpoint:
    """Read and verify the checkpoint of a run's folder, or a file.

    Raises Damaged if it is damaged or not a checkpoint, and RNNScratchError if there is none.
    """
    from safetensors.numpy import load as to_arrays

    path = find(run)
    data = _read(path)
    _verify_digest(path, data)
    try:
        tensors = to_arrays(data)
        # The file begins with the length of its header, which is JSON.
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        metadata = json.loads(header)["__metadata__"]
        if metadata["format"] == CHECKPOINT_FORMAT:
            return _checkpoint(tensors, metadata["checkpoint"])
    except Exception as error:  # whatever another program may have written, with this digest
        raise _damaged(path, shown(str(error), 2000)) from error
    raise RNNScratchError(
        f"{path} has the format {shown(metadata['format'])}, and this version of rnn-scratch reads "
        f"{CHECKPOINT_FORMAT!r}.\nUse the version that wrote it."
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RNNScratchError(
            f"There is no checkpoint at {path}.\n"
            "Pass the folder of a run (`rnn-scratch runs` lists them) or a checkpoint file."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RNNScratchError(f"{path} could not be read: {reason}.") from error


def _verify_digest(path: Path, data: bytes) -> None:
    # Before anything else in the file is believed.
    found = re.search(DIGEST % b"([0-9a-f]{64})", data)
    if found is None:
        raise _damaged(path, "it has no SHA-256 of its own")
    hashed = hashlib.sha256(memoryview(data)[: found.start(1)])
    hashed.update(ZEROS)
    hashed.update(memoryview(data)[found.end(1) :])
    if hashed.hexdigest().encode() != found[1]:
        raise _damaged(path, "its SHA-256 is not the one in its metadata")


def _checkpoint(tensors: Arrays, metadata: str) -> Checkpoint:
    # Raises an error of some kind if tensors and metadata do not fit together.
    checkpoint = msgspec.json.decode(metadata, type=Checkpoint)
    settings = checkpoint.settings
    options = model_options(settings, len(checkpoint.vocab))
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
    actual = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    if actual != (wanted := {name: (expected[name], settings.dtype) for name in expected}):
        wrong = {name: each for name, each in actual.items() if wanted.get(name) != each}
        right = {name: each for name, each in wanted.items() if actual.get(name) != each}
        raise ValueError(f"its tensors are {wrong} instead of {right}")
    # The file has the parameters in alphabetical order. Backends add up the norm of the gradients
    # in the order of `shapes`; another order could change the last bit of a resumed run.
    checkpoint.arrays = {name: tensors[name] for name in whole}
    return checkpoint


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(
        f"{path} is damaged, or not a checkpoint of rnn-scratch ({reason}).\n"
        "Use another copy of it, or train again."
    )
