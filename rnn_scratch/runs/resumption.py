"""Whether a run can be resumed: its files belong together, and there is something left to train."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..errors import RNNScratchError
from ..settings import Settings, by_option, differences
from ..text import books, dataset
from . import checkpoint, run_folder
from .checkpoint import Checkpoint
from .run_folder import Epoch, RunRecord


def resumable(
    folder: Path,
    num_epochs: int,
    text: books.Text | None,
    values: dict[str, Any],
    patience: int = 0,
) -> tuple[Checkpoint, RunRecord, books.Text]:
    """Checkpoint and record of a run that is to be resumed, with its new settings, and its text.

    RNNScratchError if the text (loaded again if it is None) has changed, one of the settings in
    `values` differs from the run's, nothing is left to train, or a file is damaged.
    """
    before, record = checkpoint.latest(folder), run_folder.read(folder)
    history = run_folder.history(folder, before.epoch)
    _require_consistent(folder, before, record, history)
    settings = replace(before.settings, num_epochs=num_epochs)
    given = replace(settings, **values)
    if changed := differences(by_option(settings), by_option(given)):
        raise RNNScratchError(
            f"The run in {folder} can only be resumed with its own settings; these differ:\n"
            + "\n".join(changed)
            + "\nOmit these options, or train a new run."
        )
    if settings.schedule != "constant" and num_epochs != before.settings.num_epochs:
        raise RNNScratchError(
            f"The run in {folder} has --schedule {settings.schedule} to the end of epoch "
            f"{before.settings.num_epochs}, and --epochs is {num_epochs}.\nResume it with --epochs "
            f"{before.settings.num_epochs}, or train a new run."
        )
    if num_epochs <= before.epoch:
        raise RNNScratchError(
            f"The run in {folder} has {before.epoch} epochs already, and --epochs is "
            f"{num_epochs}: there is nothing left to train. Choose a larger number."
        )
    best = run_folder.best(history)
    if reason := early_stop_reason(best, before.epoch, patience):
        raise RNNScratchError(
            f"The run in {folder} has ended after epoch {before.epoch}: {reason}.\n"
            "Choose a larger --patience, or --patience 0 to train all epochs."
        )
    text = dataset.reload_and_verify(record.text, text)
    record.settings = before.settings = settings
    return before, record, text


def _require_consistent(
    folder: Path, before: Checkpoint, record: RunRecord, history: list[Epoch]
) -> None:
    # Raise Damaged if record or history is not what the checkpoint, which is verified, belongs to.
    last = history[-1].digest if history else record.identity
    settings = replace(record.settings, num_epochs=before.settings.num_epochs)
    same = (settings, record.identity, record.text)
    for file, belongs in (
        (run_folder.RUN_FILE, same == (before.settings, before.identity, before.text)),
        (run_folder.HISTORY, last == before.history),
    ):
        if not belongs:
            raise run_folder.damaged(
                folder,
                f"{folder / file} is damaged: it does not belong to the checkpoint of epoch "
                f"{before.epoch} beside it.",
            )


def require_held_out(settings: Settings, patience: int) -> None:
    """Raise RNNScratchError for a patience without held-out text."""
    if patience and not settings.holds_out:
        raise RNNScratchError(
            f"--patience {patience} needs held-out text, on which epochs are compared.\n"
            "Hold some out when the run begins, with --valid-share 0.1, or omit --patience."
        )


def early_stop_reason(best: Epoch | None, last: int, patience: int) -> str | None:
    """Why training ends after epoch `last`, if it does: so many have been no better than `best`."""
    if best is None or not 0 < patience <= last - best.epoch:
        return None
    return f"{last - best.epoch} epochs no better than epoch {best.epoch} (--patience {patience})"
