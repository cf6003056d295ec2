"""Finds a backend by name, and says what to do when it is not there."""

import difflib
import importlib
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from .contract import MACHINE, PIECES, Arrays, Backend, Model, Options, RNNScratchError
from .system import host, processes

GROUP = "rnn_scratch.backends"
OURS = ("numpy", "torch", "tensorflow", "mxnet")  # the order in which they are told
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "mxnet": "MXNet"}


def names() -> list[str]:
    """The backends there are: ours, then those of other packages."""
    found = {entry.name for entry in entry_points(group=GROUP)}
    return [name for name in OURS if name in found] + sorted(found - set(OURS))


def known(name: str) -> str:
    """The module of the backend of that name; RNNScratchError if there is none."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        close = difflib.get_close_matches(name, found, 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise RNNScratchError(
            f"There is no backend {name!r}.{hint}\nThe backends are: {', '.join(names())}."
        )
    return found[name].module


def load(name: str) -> Backend:
    """The backend of that name, its framework imported.

    Raises RNNScratchError when there is none of that name, its framework is missing or does not
    start, or it lacks a piece of the contract.
    """
    module = known(name)
    try:
        backend = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != name or name not in FRAMEWORKS:
            raise RNNScratchError(f"The {name} backend did not load: {error}.") from error
        raise RNNScratchError(
            f"The {name} backend needs {FRAMEWORKS[name]}, which is not installed.\n"
            f"Install it, in the folder of the clone: {install(name)}"
        ) from error
    except (Exception, SystemExit) as error:  # one that breaks as it starts may raise anything
        raise RNNScratchError(
            f"The {name} backend did not load: {type(error).__name__}: {error}"
        ) from error
    pieces = [piece.__name__ for piece in (*PIECES, *MACHINE)]
    if lacking := [piece for piece in pieces if not hasattr(backend, piece)]:
        raise RNNScratchError(
            f"The {name} backend ({module}) lacks {', '.join(lacking)}: "
            "rnn_scratch.contract says what each must be."
        )
    return backend


def install(name: str) -> str:
    """The line that installs what a backend of ours needs, or why none can."""
    if name == "mxnet" and not mxnet_can_be_had():
        return "it cannot be; MXNet 1.9.1 is there up to Python 3.12, on Linux or an Intel Mac"
    return f"pip install -e '.[{name}]'"


def start(name: str, threads: int | None) -> tuple[Backend, int]:
    """The backend of that name, computing with so many threads, and how many they will be."""
    if threads is not None and threads < 1:
        raise RNNScratchError(f"--threads is {threads}; it must be a whole number from 1 on.")
    host.keep_memory()
    backend = load(name)
    return backend, backend.set_threads(threads)


def mxnet_can_be_had() -> bool:
    """Whether there is an MXNet 1.9.1 for this Python and platform; the extra says the same."""
    intel_mac = sys.platform == "darwin" and platform.machine() == "x86_64"
    return sys.version_info < (3, 13) and (sys.platform == "linux" or intel_mac)


def choose_device(backend: Backend, asked: str, dtype: str) -> str:
    """The device asked for, or with ``auto`` the best that can compute in this dtype."""
    usable = backend.devices(dtype)
    if asked == "auto":
        return usable[0]
    if asked not in usable:
        short = backend.__name__.rsplit(".", 1)[-1]
        raise RNNScratchError(
            f"--device {asked} was asked for; the {short} backend computes {dtype} here on: "
            f"{', '.join(usable)}."
        )
    return asked


def build(backend: Backend, model: str, arrays: Arrays, options: Options) -> Model:
    """The ``scratch`` or the ``concise`` model of a backend, with these parameters."""
    if model not in ("scratch", "concise"):
        raise RNNScratchError(f"--model is {model!r}; it must be scratch or concise.")
    return getattr(backend, model)(arrays, options)


def ready(say: Callable[[str], None], pythons: Mapping[str, str] | None = None) -> list[str]:
    """The backends that are ready, in an interpreter of their own if they have one.

    A line is said for each that is not.
    """
    found = []
    for name in names():
        answer = probe(name, python=(pythons or {}).get(name, sys.executable))
        if answer["ready"]:
            found.append(name)
        else:
            say(f"{name} is left out: {answer['reason']}")
    return found


def probe(name: str, timeout: float = 120, python: str = sys.executable) -> dict[str, Any]:
    """What the backend says of itself, asked in a process of its own: a crash is an answer too.

    It is ``ready``, with ``environment``, ``devices`` and ``threads``, or not, with a ``reason``.
    """
    try:
        answers = list(
            processes.ask("rnn_scratch.registry:describe", name, timeout=timeout, python=python)
        )
    except RNNScratchError as error:
        return {"ready": False, "reason": str(error)}
    return answers[0] if answers else {"ready": False, "reason": "it ended without an answer"}


def describe(name: str) -> Iterator[dict[str, Any]]:
    """Yield what `probe` returns."""
    try:
        backend = load(name)
    except RNNScratchError as error:
        yield {"ready": False, "reason": str(error)}
        return
    threads = backend.set_threads(None)
    yield {
        "ready": True,
        "environment": backend.environment(),
        "devices": backend.devices("float32"),
        "threads": threads,
    }
