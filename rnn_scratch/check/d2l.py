"""What the functions of the book's chapter need of its package d2l, which need not be installed."""

import inspect
import math
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from typing import Any

from ..contract import Backend
from .forms import find_array_module


def install(backend: Backend) -> None:
    """Make `from d2l import torch as d2l`, or another framework, import these tools."""
    sys.modules["d2l"], tools = types.ModuleType("d2l"), Tools(backend)
    for name in (backend.name, "torch"):
        setattr(sys.modules["d2l"], name, tools)
        sys.modules[f"d2l.{name}"] = tools


class Parameters:
    """A base class whose objects store the arguments of their constructors."""

    def save_hyperparameters(self) -> None:
        """Store the caller's arguments as attributes."""
        _, _, _, arguments = inspect.getargvalues(inspect.currentframe().f_back)  # type: ignore
        for name in arguments.keys() - {"self", "__class__"}:
            setattr(self, name, arguments[name])


class Accumulator(list[float]):
    """Sums of several numbers."""

    def __init__(self, count: int) -> None:
        """Start `count` sums at 0."""
        super().__init__([0.0] * count)

    def add(self, *values: Any) -> None:
        """Add a number to each sum."""
        self[:] = [total + float(value) for total, value in zip(self, values)]


class Tools(types.ModuleType):
    """The book's tools; other names are those of the framework."""

    HyperParameters, Accumulator = Parameters, Accumulator
    Timer = partial(types.SimpleNamespace, stop=time.perf_counter)

    def __init__(self, backend: Backend) -> None:
        """Choose the functions of a framework."""
        super().__init__("d2l")
        self.framework = np = find_array_module(backend)
        base: Any = np.nn.Module if backend.name == "torch" else object
        self.Module = self.Classifier = type("Module", (Parameters, base), {})
        self.Trainer = type("Trainer", (), {})
        if backend.name == "tensorflow":
            self.framework = tf = sys.modules["tensorflow"]
            self.tensor, self.normal = tf.constant, tf.random.normal
            self.size = lambda tensor: int(tf.size(tensor))
        else:
            self.tensor = np.tensor if backend.name == "torch" else np.array
            self.concat = np.concatenate
            self.size = lambda tensor: math.prod(tensor.shape)

    def __getattr__(self, name: str) -> Any:
        """Return the framework's function."""
        return getattr(self.framework, name)

    def add_to_class(self, cls: type) -> Callable[[Any], Any]:
        """Return a decorator that adds a function to a class; a Trainer's also remains defined."""

        def decorate(function: Any) -> Any:
            setattr(cls, function.__name__, function)
            return function if cls is self.Trainer else None

        return decorate
