"""Whether a run can be resumed: its files belong together, and there is something left to train."""

from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from ..errors import RNNScratchError
from ..settings import Settings, by_option, differences
from . import checkpoint, run_folder
from .checkpoint import Checkpoint
from .run_folder import Epoch, History, RunRecord


class Saved(NamedTuple):
    """What there is of a run in its folder."""

    record: RunRecord
    history: History  # up to the checkpoint
    checkpoint: Checkpoint  # the latest state


def resumed(folder: Path, record: RunRecord, num_epochs: int, values: dict[str, Any]) -> Settings:
    """Return the settings of a run that is to be resumed, as its record has them.

    RNNScratchError if one of the settings in `values` differs, or the schedule ends elsewhere.
    """
    before, settings = record.settings, replace(record.settings, num_epochs=num_epochs)
    given = replace(settings, **values)
    if changed := differences(by_option(settings), by_option(given)):
        raise RNNScratchError(
            f"You can resume the run in {folder} only with its settings. These differ: "
            + "; ".join(changed)
            + ".",
            "Omit these options, or train a new run.",
        )
    if settings.schedule != "constant" and num_epochs != before.num_epochs:
        raise RNNScratchError(
            f"The run in {folder} has `--schedule {settings.schedule}` to the end of epoch "
            f"{before.num_epochs} (got `--epochs {num_epochs}`).",
            f"Resume it with `--epochs {before.num_epochs}`, or train a new run.",
        )
    return settings


def read(folder: Path) -> Saved:
    """Read all of a run, each file once, and repair what a kill has left.

    The session that calls it has the folder's lock. Raises Damaged if a file is damaged or does not
    belong to the others.
    """
    record = run_folder.read(folder)
    path, before = checkpoint.latest(folder, identity=record.identity)
    settings = replace(record.settings, num_epochs=before.settings.num_epochs)
    if (settings, record.text) != (before.settings, before.text):
        raise run_folder.damaged(
            folder,
            f"{folder / run_folder.RUN_FILE} is damaged: it does not belong to the checkpoint of "
            f"epoch {before.epoch} beside it.",
        )
    history = run_folder.read_history(folder, before.epoch, before.history)
    if path.name == checkpoint.BEST:  # the later one
        checkpoint.save(folder / checkpoint.FILE, before)
    run_folder.repair(folder, history)
    return Saved(record, history, before)


def require_more(folder: Path, saved: Saved, num_epochs: int, patience: int) -> None:
    """Raise RNNScratchError if there is nothing left to train."""
    last = saved.checkpoint.epoch
    if num_epochs <= last:
        raise RNNScratchError(
            f"Nothing left to train: the run in {folder} has {last} epochs.",
            "Pass a larger `--epochs`.",
        )
    if reason := early_stop_reason(run_folder.best(saved.history.epochs), last, patience):
        raise RNNScratchError(
            f"The run in {folder} ended after epoch {last}: {reason}.",
            "Pass a larger `--patience`, or `--patience 0` to train all epochs.",
        )


def require_held_out(settings: Settings, patience: int) -> None:
    """Raise RNNScratchError for a patience without held-out text."""
    if patience and not settings.holds_out:
        raise RNNScratchError(
            f"`--patience {patience}` needs held-out text to compare epochs on.",
            "Begin a run with held-out text, `--valid-share 0.1`, or omit `--patience`.",
        )


def early_stop_reason(best: Epoch | None, last: int, patience: int) -> str | None:
    """Return why training ends after epoch `last`, or None if it does not: the patience is over."""
    if best is None or not 0 < patience <= last - best.epoch:
        return None
    return f"{last - best.epoch} epochs no better than epoch {best.epoch} (--patience {patience})"
