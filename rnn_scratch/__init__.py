"""One recurrent language model from scratch, in several frameworks behind one contract.

`train`, `resume`, `predict` and `evaluate` do what the commands of the same names do. Nothing
here loads a framework until a backend is used, and nothing is imported before it is needed.
"""

TYPE_CHECKING = False  # without the module `typing`, so that Ctrl-C is handled from the start on
if TYPE_CHECKING:
    from typing import Any

    from .api import evaluate, predict, resume, train
    from .errors import RNNScratchError

__all__ = ["RNNScratchError", "evaluate", "predict", "resume", "train"]


def __getattr__(name: str) -> "Any":
    # Imported when first used, so that the command line starts at once.
    if name == "__version__":
        from importlib.metadata import version

        return version("rnn-scratch")
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return __all__
