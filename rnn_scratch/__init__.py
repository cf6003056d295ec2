"""One recurrent language model from scratch, in several frameworks behind one contract.

`train`, `resume`, `predict` and `evaluate` do what the commands of the same names do. Nothing
here loads a framework until a backend is used, and nothing is imported before it is needed.
"""

TYPE_CHECKING = False  # without the module `typing`, so that Ctrl-C is handled from the start on
if TYPE_CHECKING:
    from typing import Any

    from .api import evaluate, predict, resume, train
    from .errors import RNNScratchError
    from .runs.events import Ended, Message, Progress, Report, Started
    from .runs.inference import Evaluation
    from .runs.presets import PRESETS
    from .runs.run import Run
    from .runs.run_folder import Epoch
    from .settings import Settings
    from .workers.launch import Launch

__all__ = ["evaluate", "predict", "resume", "train"]
__all__ += ["PRESETS", "Evaluation", "Launch", "RNNScratchError", "Run", "Settings"]
__all__ += ["Ended", "Epoch", "Message", "Progress", "Report", "Started"]


def __getattr__(name: str) -> "Any":
    # Imported when first used, so that the command line starts at once.
    if name == "__version__":
        from importlib.metadata import version

        return version("rnn-scratch")
    if name in __all__:
        from . import api
        from .runs import events, inference, presets

        modules = api, events, inference, presets
        return next(vars(module)[name] for module in modules if name in vars(module))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return __all__
