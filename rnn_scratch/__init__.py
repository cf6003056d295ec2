"""A character-level recurrent language model, implemented from scratch in several frameworks.

`train` trains a network, and `resume` continues training it; both return a `Run`. `load` returns a
run's `Network`, which predicts text and returns an `Evaluation` on a text; `predict` and `evaluate`
load a network for a single call.
`Settings` declares the hyperparameters, which `train` takes as keyword arguments; `PRESETS`
contains named sets of arguments. A `Report` receives the events `Started`, `Progress`, `Epoch`,
`Message` and `Ended`. An `RNNScratchError` describes a problem and offers a hint.
"""

import os
import sys

# In a clone, the backends are next to this package, and the modules of the lessons (`support`) and
# their `records` in the folder `notebooks`. Do not use those of an installed clone.
_clone = os.path.dirname(__path__[0])
__path__ = [*__path__, _clone, os.path.join(_clone, "notebooks")]
# In the folder of the backends, `import numpy` would import the backend.
sys.path[:] = [p for p in sys.path if not os.path.exists(os.path.join(p, "numpy", "machine.py"))]

TYPE_CHECKING = False  # Importing `typing` here would delay Ctrl-C handling.
if TYPE_CHECKING:
    from typing import Any

    from .api import evaluate, predict, resume, train
    from .errors import RNNScratchError
    from .runs.inference import Evaluation, Network, load
    from .runs.presets import PRESETS
    from .runs.run import Run
    from .runs.run_folder import Epoch
    from .settings import Settings
    from .training.events import Ended, Message, Progress, Report, Started

__all__ = ["evaluate", "load", "predict", "resume", "train"]
__all__ += ["PRESETS", "Evaluation", "Network", "RNNScratchError", "Run", "Settings"]
__all__ += ["Ended", "Epoch", "Message", "Progress", "Report", "Started"]


def __getattr__(name: str) -> "Any":
    if name in __all__:
        from . import api
        from .runs import inference, presets
        from .training import events

        return {**vars(events), **vars(inference), **vars(presets), **vars(api)}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return __all__
