"""Find, load and start backends by name, build their models, and explain failures."""

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .contract import MODULES, OPTIMIZERS, Arrays, Backend, Model, Options, bind
from .errors import NotSupportedError, RNNScratchError, format_value
from .settings import Threads, Variant, closest, validate
from .system import processes
from .system.terminal import LogLine

GROUP = "rnn_scratch.backends"
OPTIONAL = ("fast", "concise", "workers")  # modules that a backend may lack
BUILTIN_BACKENDS = ("numpy", "torch", "tensorflow", "mxnet", "jax")  # listed in this order
PROBE_TIMEOUT = 120.0  # seconds within which a backend must load
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "mxnet": "MXNet", "jax": "JAX"}


class BackendReport(NamedTuple):
    """The report of a backend that loads: its libraries' versions, and its devices, best first."""

    environment: dict[str, str]
    devices: list[str]


def names() -> list[str]:
    """Return the names of all backends, built-in backends first."""
    registered = _entry_points()
    return [name for name in BUILTIN_BACKENDS if name in registered] + sorted(
        set(registered) - set(BUILTIN_BACKENDS)
    )


def find(name: str) -> str:
    """Return the name of a backend's module; raise RNNScratchError for an unknown backend."""
    if not isinstance(name, str) or name not in (registered := _entry_points()):
        suggestion = closest(str(name), names())
        raise RNNScratchError(
            f"Unknown backend {name!r}." + (f" Did you mean {suggestion}?" if suggestion else ""),
            f"The backends are: {', '.join(names())}.",
        )
    return registered[name].module


def load(name: str) -> Backend:
    """Import the backend with this name, together with its framework.

    Raises RNNScratchError if the name is unknown, the framework is missing or fails to start, or
    the backend lacks a function of the contract. An RNNScratchError that the backend raises on
    import is propagated unchanged, because it explains how to install the framework.
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
    missing_names = [  # names such as "scratch.step"
        f"{module_name}.{function.__name__}"
        for module_name, functions in MODULES.items()
        if module_name not in OPTIONAL or hasattr(backend, module_name)
        for function in functions
        if not hasattr(getattr(backend, module_name, None), function.__name__)
    ]
    if missing_names:
        raise RNNScratchError(
            f"The {name} backend ({module}) lacks {', '.join(missing_names)}.",
            "rnn_scratch.contract specifies the functions of a backend.",
        )
    return backend


def source_version(package: str) -> str:
    """Return the project's version and a short digest of a package's source."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations or [] if spec else []
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return f"{version('rnn-scratch')}, source {digest[:8]}"


def how_to_install(name: str) -> str:
    """Return a hint with the command that installs an extra, such as a backend's framework."""
    return f"To install it, run in the clone's folder: pip install -e '.[{name}]'"


def default(log: LogLine) -> str:
    """Return "torch" or, if PyTorch is not installed, log a hint and return "numpy"."""
    if find_spec("torch") is not None:
        return "torch"
    log(f"PyTorch is not installed, so training uses NumPy. {how_to_install('torch')}")
    return "numpy"


def start(name: str, threads: int | None) -> tuple[Backend, int]:
    """Load a backend and set its number of threads; return the backend and the number in use."""
    if threads is not None:  # a run from someone else may contain any value
        validate("threads", threads, Threads)
    backend = load(name)
    # TensorFlow fixes the number of threads when it first lists devices.
    return backend, backend.machine.set_threads(threads)


def check_device(names: Sequence[str], device: str) -> None:
    """Raise RNNScratchError if none of these backends reports the device."""
    if device in ("auto", "cpu"):  # supported by all backends
        return
    reports = probes(names)
    available = {name: r.devices for name, r in reports.items() if not isinstance(r, str)}
    if available and not any(device in devices for devices in available.values()):
        lines = "".join(f"\n  {name}: {', '.join(devices)}" for name, devices in available.items())
        raise RNNScratchError(
            f"`device` must be auto or a device of this machine (got {format_value(device)}).",
            f"The devices are:{lines}",
        )


def choose_device(name: str, backend: Backend, device: str, dtype: str) -> str:
    """Return `device`, or for ``auto`` the best device; raise RNNScratchError if unavailable."""
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
    """Build a variant of the model from arrays; raise NotSupportedError if this is impossible.

    The optimizer's state starts at zero, unless `arrays` contains slots (see `parameters.shapes`).
    """
    validate("model", variant, Variant)  # a run from someone else may contain any name
    if not hasattr(backend, variant):
        raise NotSupportedError(
            f"The {name} backend has no {variant} model.", "Use the scratch model."
        )
    params = {parameter: arrays[parameter] for parameter in options.shapes()}
    build = getattr(backend, variant).build
    if variant == "scratch" and options.deep:
        build = partial(_build_deep, backend)
    try:
        built = build(params, options)
        for slot in OPTIMIZERS[optimizer].slots:
            # Build slots like parameters, so that both have the same layout.
            values = {
                parameter: arrays.get(f"{slot}.{parameter}", np.zeros_like(array))
                for parameter, array in params.items()
            }
            built.slots[slot] = build(values, options).params
        return built
    except RNNScratchError as error:
        if variant == "scratch":
            raise
        raise NotSupportedError(error.problem, error.hint) from error


def _build_deep(backend: Backend, arrays: Arrays, options: Options) -> Model:
    # Build the scratch model with the functions of ``deep``.
    plain, deep = backend.scratch.build(arrays, options), backend.deep
    backward = plain.backward and deep.deep_backward
    forward, state, to_arrays = deep.deep_forward, backend.scratch.state, plain.to_arrays
    return bind(plain.params, options, forward, state, to_arrays, backward)


def workers(name: str, backend: Backend) -> ModuleType:
    """Return the backend's ``workers`` module; raise NotSupportedError if the backend lacks it."""
    if not hasattr(backend, "workers"):
        raise NotSupportedError(
            f"The {name} backend does not support several workers.", "Use 1 worker."
        )
    return backend.workers


def list_loadable(log: LogLine) -> list[str]:
    """Return the names of the backends that load; log the error of every other backend."""
    answers = probes(names())
    for name, answer in answers.items():
        if isinstance(answer, str):
            log(f"skipping {name}: {answer}")
    return [name for name, answer in answers.items() if not isinstance(answer, str)]


def probes(names: Sequence[str]) -> dict[str, BackendReport | str]:
    """Load each backend in a child process, which may crash; return reports or errors by name."""
    calls = {name: partial(_describe, name) for name in names}
    reports: dict[str, BackendReport | str] = {}
    with processes.start(calls, timeout=PROBE_TIMEOUT) as (_, answers):
        for name, answer in answers:
            if answer is not None:
                reports[name] = str(answer) if isinstance(answer, RNNScratchError) else answer
    return {name: reports[name] for name in names}


def _describe(name: str) -> Iterator[BackendReport]:
    backend = load(name)
    backend.machine.set_threads(None)  # TensorFlow requires this before devices()
    yield BackendReport(
        environment=backend.machine.versions(), devices=backend.machine.devices("float32")
    )


@cache
def _entry_points() -> dict[str, EntryPoint]:
    # Cached, because finding entry points reads a file of every installed package.
    return {entry.name: entry for entry in entry_points(group=GROUP)}
