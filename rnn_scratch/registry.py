"""Backends by name: find, load, start and build them, and explain failures."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Annotated

import numpy as np
from msgspec import Meta

from .contract import MODULES, OPTIMIZERS, Arrays, Backend, Model, Options, bind
from .errors import NotOffered, RNNScratchError, format_value
from .settings import Threads, Variant, closest, validate
from .system import host, processes
from .system.records import Line, Record, Versions

GROUP = "rnn_scratch.backends"
OPTIONAL = ("fast", "concise", "workers")  # modules that a backend may lack
BUILTIN_BACKENDS = ("numpy", "torch", "tensorflow", "mxnet", "jax")  # order of listings
PROBE_TIMEOUT = 120.0  # seconds for a backend to load
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "mxnet": "MXNet", "jax": "JAX"}


class Usable(Record):
    """The library versions and the devices, best first, that a backend reports."""

    environment: Versions
    devices: Annotated[list[Line], Meta(min_length=1, max_length=1000)]


def names() -> list[str]:
    """Return the names of all backends: this project's, then other packages'."""
    registered = _entry_points()
    return [name for name in BUILTIN_BACKENDS if name in registered] + sorted(
        set(registered) - set(BUILTIN_BACKENDS)
    )


def find(name: str) -> str:
    """Return the module of the backend with this name; raise RNNScratchError for a wrong name."""
    if name not in (registered := _entry_points()):
        suggestion = closest(name, registered)
        raise RNNScratchError(
            f"Unknown backend {name!r}." + (f" Did you mean {suggestion}?" if suggestion else ""),
            f"The backends are: {', '.join(names())}.",
        )
    return registered[name].module


def load(name: str) -> Backend:
    """Import the backend with this name and its framework.

    Raises RNNScratchError if the name is wrong, the framework is missing or fails to start, or the
    backend lacks a function of the contract. An RNNScratchError that the backend raises during its
    import is passed on, because it explains how to install the framework.
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
    except (Exception, SystemExit) as error:  # frameworks raise all kinds of exceptions
        raise RNNScratchError(
            f"The {name} backend failed to load: {type(error).__name__}: {error}"
        ) from error
    missing = [  # names such as "scratch.step"
        f"{module_name}.{function.__name__}"
        for module_name, functions in MODULES.items()
        if module_name not in OPTIONAL or hasattr(backend, module_name)
        for function in functions
        if not hasattr(getattr(backend, module_name, None), function.__name__)
    ]
    if missing:
        raise RNNScratchError(
            f"The {name} backend ({module}) lacks {', '.join(missing)}.",
            "rnn_scratch.contract specifies the functions of a backend.",
        )
    return backend


def how_to_install(name: str) -> str:
    """Return the command that installs the framework of a built-in backend."""
    return f"Install it{host.by_pip(name)}"


def default(log: Callable[[str], object]) -> str:
    """Return the default backend: torch or, after a line to `log`, numpy without PyTorch."""
    if find_spec("torch") is not None:
        return "torch"
    log(f"PyTorch is not installed, so training uses NumPy. {how_to_install('torch')}")
    return "numpy"


def start(name: str, threads: int | None) -> tuple[Backend, int]:
    """Load the backend and set its number of threads; return it and the number in use."""
    if threads is not None:  # records from elsewhere may have any number
        validate("threads", threads, Threads)
    backend = load(name)
    # Before any computation, because TensorFlow fixes the number when it first lists devices.
    return backend, backend.machine.set_threads(threads)


def check_device(names: Sequence[str], device: str) -> None:
    """Raise RNNScratchError if none of these backends reports the device."""
    if device in ("auto", "cpu"):  # all backends support them
        return
    answers = probes(names)
    devices = {n: usable.devices for n, usable in answers.items() if not isinstance(usable, str)}
    if devices and not any(device in names for names in devices.values()):
        lines = "".join(f"\n  {name}: {', '.join(names)}" for name, names in devices.items())
        raise RNNScratchError(
            f"`device` must be auto or a device of this machine (got {format_value(device)}).",
            f"The devices are:{lines}",
        )


def choose_device(name: str, backend: Backend, device: str, dtype: str) -> str:
    """Return the device, or for ``auto`` the best device for this dtype; or raise an error."""
    devices = backend.machine.devices(dtype)
    if device == "auto":
        return devices[0]
    if device not in devices:
        raise RNNScratchError(
            f"The {name} backend cannot use the device {format_value(device)} with {dtype} on this "
            "machine.",
            f"Choose another `device`: {', '.join(devices)}.",
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
    """Build a variant of the model with these parameters; raise NotOffered if it is missing.

    The optimizer's state is in the arrays, named as by `parameters.trained_arrays`, or zeros.
    """
    validate("model", variant, Variant)  # records from elsewhere may have any name
    if not hasattr(backend, variant):
        raise NotOffered(f"The {name} backend has no {variant} model.", "Use the model scratch.")
    params = {parameter: arrays[parameter] for parameter in options.shapes()}
    build = getattr(backend, variant).build
    if variant == "scratch" and options.deep:
        build = partial(_build_deep, backend)
    try:
        built = build(params, options)
        for slot in OPTIMIZERS[optimizer].slots:
            # Build the slots with the same `build`, so that they have the layout of the parameters.
            values = {
                parameter: arrays.get(f"{slot}.{parameter}", np.zeros_like(array))
                for parameter, array in params.items()
            }
            built.slots[slot] = build(values, options).params
        return built
    except RNNScratchError as error:
        if variant == "scratch":
            raise
        raise NotOffered(error.problem, error.hint) from error


def _build_deep(backend: Backend, arrays: Arrays, options: Options) -> Model:
    # Build the plain model with the functions of ``deep``.
    plain, deep = backend.scratch.build(arrays, options), backend.deep
    backward = plain.backward and deep.deep_backward
    forward, state, to_arrays = deep.deep_forward, backend.scratch.state, plain.to_arrays
    return bind(plain.params, options, forward, state, to_arrays, backward)


def workers(name: str, backend: Backend) -> ModuleType:
    """Return the backend's module for workers; raise NotOffered if it is missing."""
    if not hasattr(backend, "workers"):
        raise NotOffered(f"The {name} backend does not support several workers.", "Use 1 worker.")
    return backend.workers


def loadable(log: Callable[[str], None], pythons: Mapping[str, str] | None = None) -> list[str]:
    """Return the backends that load; call `log` with a line about each other backend.

    `pythons` has the interpreters of backends in separate environments.
    """
    answers = probes(names(), pythons or {})
    for name, answer in answers.items():
        if isinstance(answer, str):
            log(f"skipping {name}: {answer}")
    return [name for name, answer in answers.items() if not isinstance(answer, str)]


def probes(
    names: Sequence[str], pythons: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Usable | str]:
    """Load each backend in its own process, because it may crash; return its report or error."""
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
    backend.machine.set_threads(None)  # TensorFlow requires this before devices()
    yield Usable(
        environment=backend.machine.environment(), devices=backend.machine.devices("float32")
    )


@cache
def _entry_points() -> dict[str, EntryPoint]:
    # Cached because Python reads a file of every installed package to find them.
    return {entry.name: entry for entry in entry_points(group=GROUP)}
