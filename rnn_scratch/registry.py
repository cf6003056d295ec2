"""Backends by name: load one, start it, and say what to do where that fails."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points, requires
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated

import numpy as np
from msgspec import Meta
from packaging.requirements import Requirement

from .contract import MODULES, OPTIMIZERS, Arrays, Backend, Model, Options, bind
from .errors import NotOffered, RNNScratchError, shown
from .settings import checked
from .system import host, processes
from .system.records import Line, Record, Versions

GROUP = "rnn_scratch.backends"
OPTIONAL = ("fast", "concise", "workers")  # modules that a backend may lack
OURS = ("numpy", "torch", "tensorflow", "mxnet", "jax")  # this project's, in the order of listings
PROBE_TIMEOUT = 120.0  # seconds for a backend to load
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "mxnet": "MXNet", "jax": "JAX"}


class Usable(Record):
    """What a backend that loads says of itself."""

    environment: Versions
    devices: Annotated[list[Line], Meta(min_length=1, max_length=1000)]


def names() -> list[str]:
    """Return the registered backends: this project's, then those of other packages."""
    registered = _entry_points()
    return [name for name in OURS if name in registered] + sorted(set(registered) - set(OURS))


def find(name: str) -> str:
    """Return the module of the backend with this name; raise RNNScratchError if there is none.

    Also where it would be another clone's: Python may take the core from one folder, which comes
    first on its path, and the backends from that of the installation.
    """
    if name not in (registered := _entry_points()):
        close = difflib.get_close_matches(name, registered, 1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise RNNScratchError(
            f"There is no backend {name!r}.{meant}", f"The backends are: {', '.join(names())}."
        )
    module = registered[name].module
    if module.startswith(f"{__package__}.backends."):
        core = Path(__file__).resolve().parent
        (folder,) = importlib.import_module(f"{__package__}.backends").__path__
        if Path(folder).resolve() not in (core / "backends", core.parent / "backends"):
            raise RNNScratchError(
                f"rnn-scratch runs from {core}, but its backends are in another clone, {folder}.",
                "To use one clone, run in its folder: pip install -e .",
            )
    return module


def load(name: str) -> Backend:
    """Import the backend with this name, and with it its framework.

    Raises RNNScratchError if no backend has this name, its framework is missing or does not start,
    or it lacks a function of the contract. An RNNScratchError that the backend itself raises when
    it is imported is passed on: a backend can say best how to install what it needs.
    """
    module = find(name)
    try:
        backend = importlib.import_module(module)
    except RNNScratchError:
        raise
    except ModuleNotFoundError as error:
        if name in FRAMEWORKS and error.name == name:
            raise RNNScratchError(
                f"The {name} backend needs {FRAMEWORKS[name]}, which is not installed.",
                how_to_install(name),
            ) from error
        raise RNNScratchError(
            f"The {name} backend needs the Python module {error.name}, which is not installed.",
            f"Install the package that contains it, or see the documentation of {module}.",
        ) from error
    except (Exception, SystemExit) as error:  # a framework that fails to start may raise anything
        raise RNNScratchError(
            f"The {name} backend did not load: {type(error).__name__}: {error}"
        ) from error
    missing = [  # names such as "scratch.step"; the other variants and the engine are optional
        f"{module_name}.{function.__name__}"
        for module_name, functions in MODULES.items()
        if module_name not in OPTIONAL or hasattr(backend, module_name)
        for function in functions
        if not hasattr(getattr(backend, module_name, None), function.__name__)
    ]
    if missing:
        raise RNNScratchError(
            f"The {name} backend ({module}) lacks {', '.join(missing)}.",
            "rnn_scratch.contract specifies what a backend must have.",
        )
    return backend


def how_to_install(name: str) -> str:
    """Return the command that installs what one of our backends needs, or why none does."""
    if not available(name):
        return (
            f"It is not available for this Python ({sys.version_info.major}."
            f"{sys.version_info.minor}) on this platform ({sys.platform})."
        )
    return f"Install it{host.by_pip(name)}"


def default(say: Callable[[str], object]) -> str:
    """Return the default backend, torch or without PyTorch numpy, and a line about it."""
    if find_spec("torch") is not None:
        return "torch"
    say(f"PyTorch is not installed, so training uses NumPy. {how_to_install('torch')}")
    return "numpy"


def available(name: str) -> bool:
    """Return whether the framework of a backend is available for this Python and platform.

    The conditions, such as MXNet's, are those of the extra ``all`` in this project's metadata.
    """
    requirements = [Requirement(line) for line in requires("rnn-scratch") or []]
    markers = [line.marker for line in requirements if name in line.extras and line.marker]
    return any(marker.evaluate({"extra": "all"}) for marker in markers) or not markers


def start(name: str, threads: int | None) -> tuple[Backend, int]:
    """Load the backend and set its number of threads: the backend, and the number in use."""
    if threads is not None:  # which may be in a record from elsewhere
        checked("threads", threads)
    host.disable_malloc_trim()
    backend = load(name)
    # Before anything is computed: TensorFlow fixes the number when it first looks for devices.
    return backend, backend.machine.set_threads(threads)


def check_device(names: Sequence[str], device: str) -> None:
    """Raise RNNScratchError for a device that none of these backends reports."""
    if device in ("auto", "cpu"):  # which every backend has
        return
    answers = probes(names)
    devices = {n: usable.devices for n, usable in answers.items() if not isinstance(usable, str)}
    if devices and not any(device in names for names in devices.values()):
        lines = "".join(f"\n  {name}: {', '.join(names)}" for name, names in devices.items())
        raise RNNScratchError(
            f"`--device` must be auto or a device of this machine (got {shown(device)}).",
            f"The devices are:{lines}",
        )


def choose_device(name: str, backend: Backend, device: str, dtype: str) -> str:
    """Return this device, or for ``auto`` the best one for this dtype; or raise RNNScratchError."""
    devices = backend.machine.devices(dtype)
    if device == "auto":
        return devices[0]
    if device not in devices:
        raise RNNScratchError(
            f"The {name} backend has no device {shown(device)} for {dtype} on this machine.",
            f"It has: {', '.join(devices)}. Choose one with `--device`.",
        )
    return device


def build(
    name: str,
    backend: Backend,
    variant: str,
    arrays: Arrays,
    options: Options,
    optimizer: str = "sgd",
) -> Model:
    """Build a variant of the model with these parameters; NotOffered if the backend has none.

    The optimizer's state is among the arrays, named as by `parameters.trained_arrays`, or zeros.
    """
    checked("model", variant)  # which may be in a record from elsewhere
    if not hasattr(backend, variant):
        raise NotOffered(f"The {name} backend has no {variant} model.", "Use `--model scratch`.")
    params = {parameter: arrays[parameter] for parameter in options.shapes()}
    build = getattr(backend, variant).build
    if variant == "scratch" and options.deep:
        build = partial(_build_deep, backend)
    try:
        built = build(params, options)
        for slot in OPTIMIZERS[optimizer].slots:
            # Whatever layout the variant keeps its parameters in: it makes others, as it did these.
            others = {
                parameter: arrays.get(f"{slot}.{parameter}", np.zeros_like(array))
                for parameter, array in params.items()
            }
            built.slots[slot] = build(others, options).params
        return built
    except RNNScratchError as error:
        if variant == "scratch":
            raise
        raise NotOffered(error.problem, error.hint) from error


def _build_deep(backend: Backend, arrays: Arrays, options: Options) -> Model:
    # The plain model, but with the functions of ``deep``.
    plain, deep = backend.scratch.build(arrays, options), backend.deep
    backward = plain.backward and deep.deep_backward
    forward, state, to_arrays = deep.deep_forward, backend.scratch.state, plain.to_arrays
    return bind(plain.params, options, forward, state, to_arrays, backward)


def workers(name: str, backend: Backend) -> ModuleType:
    """Return the module of its engine for workers; raise NotOffered if the backend has none."""
    if not hasattr(backend, "workers"):
        problem = f"The {name} backend cannot train with several workers."
        raise NotOffered(problem, "Use `--workers 1`.")
    return backend.workers


def loadable(say: Callable[[str], None], pythons: Mapping[str, str] | None = None) -> list[str]:
    """Return the backends that load; call `say` with a line about each of the others.

    `pythons` names the interpreter of a backend that has an environment of its own.
    """
    answers = probes(names(), pythons or {})
    for name, answer in answers.items():
        if isinstance(answer, str):
            say(f"skipping {name}: {answer}")
    return [name for name, answer in answers.items() if not isinstance(answer, str)]


def probes(
    names: Sequence[str], pythons: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Usable | str]:
    """Return what each backend says of itself, or why it does not load.

    Each is tried in a process of its own, because it may crash.
    """
    calls = {name: partial(_describe, name) for name in names}
    usable: dict[str, Usable | str] = {}
    for name, answer in processes.ask(calls, timeout=PROBE_TIMEOUT, pythons=pythons):
        if not isinstance(answer, processes.Exited):
            usable[name] = answer
        elif answer.error:
            usable[name] = str(answer.error)
    return {name: usable[name] for name in names}


def _describe(name: str) -> Iterator[Usable]:
    backend = load(name)
    backend.machine.set_threads(None)  # before it looks for devices, as in `start`
    yield Usable(
        environment=backend.machine.environment(), devices=backend.machine.devices("float32")
    )


@cache
def _entry_points() -> dict[str, EntryPoint]:
    # Python reads a file of every installed package to find them, which takes long. A folder that
    # it cannot list is empty to it: where no folder can be listed, this raises the reason.
    os.listdir(Path(__file__).parent)
    return {entry.name: entry for entry in entry_points(group=GROUP)}
