"""A character-level recurrent language model from scratch, in several frameworks.

Functions:
    train: Train a new model and return its run.
    resume: Continue training a run, up to a larger number of epochs.
    predict: Generate text with a run's model.
    evaluate: Compute the loss of a run's model on a text.

Classes and constants:
    Run: The result of training: history, settings, vocabulary and parameters.
    Evaluation: The loss and perplexity that `evaluate` returns.
    Settings: The hyperparameters, which are keyword arguments of `train`.
    PRESETS: Named sets of arguments for `train`.
    RNNScratchError: An error for the user, with a problem and a hint.
    Report: Base class for receivers of training events.
    Started, Progress, Epoch, Message, Ended: Training events.
"""

TYPE_CHECKING = False  # Importing `typing` here would delay the handling of Ctrl-C.
if TYPE_CHECKING:
    from typing import Any

    from .api import evaluate, predict, resume, train
    from .errors import RNNScratchError
    from .runs.inference import Evaluation
    from .runs.presets import PRESETS
    from .runs.run import Run
    from .runs.run_folder import Epoch
    from .settings import Settings
    from .training.events import Ended, Message, Progress, Report, Started

__all__ = ["evaluate", "predict", "resume", "train"]
__all__ += ["PRESETS", "Evaluation", "RNNScratchError", "Run", "Settings"]
__all__ += ["Ended", "Epoch", "Message", "Progress", "Report", "Started"]


def __getattr__(name: str) -> "Any":
    if name in __all__:
        from . import api
        from .runs import presets
        from .training import events

        return {**vars(events), **vars(presets), **vars(api)}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return __all__
