"""Find and load backends by name, build their models, and explain failures."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import extensions, steps
from .contract import (
    CELLS,
    MACHINE_DEFAULTS,
    MODULES,
    OPTIMIZERS,
    SETTINGS,
    Arrays,
    Backend,
    Machine,
    Model,
    ModelConfig,
    UpdateRule,
)
from .errors import NotSupportedError, RNNScratchError, format_value
from .system import memory, processes
from .system.terminal import LogLine

GROUP = "rnn_scratch.backends"
BUILTIN_BACKENDS = ("numpy", "torch", "tensorflow", "mxnet", "jax")  # listed in this order
PROBE_TIMEOUT = 120.0  # time limit for loading a backend, in seconds
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "mxnet": "MXNet", "jax": "JAX"}


def names() -> list[str]:
    """Return the names of all backends, built-in backends first."""
    registered_names = extensions.find_entry_points(GROUP).keys()
    builtin_names = [name for name in BUILTIN_BACKENDS if name in registered_names]
    return builtin_names + sorted(registered_names - set(builtin_names))


def find(name: str) -> str:
    """Return a backend's module name; raise RNNScratchError if the backend is unknown."""
    if name not in names():
        hint = f"The backends are: {', '.join(names())}."
        raise RNNScratchError(f"Unknown backend {name!r}.", hint)
    return extensions.find_entry_points(GROUP)[name].module


def require_framework(name: str) -> None:
    """Raise RNNScratchError if a backend is unknown, or its framework is not installed."""
    find(name)
    if name in FRAMEWORKS and find_spec(name) is None:
        raise _missing_framework(name)


def _missing_framework(name: str) -> RNNScratchError:
    problem = f"The {name} backend needs {FRAMEWORKS[name]}, which is not installed."
    return RNNScratchError(problem, how_to_install(name))


def load(name: str) -> Backend:
    """Import a backend and its framework; raise RNNScratchError if either cannot be used."""
    module = find(name)
    try:
        package = importlib.import_module(module)
    except RNNScratchError:  # the backend's own explanation, such as how to install a framework
        raise
    except (Exception, SystemExit) as error:  # frameworks raise all kinds of exceptions
        if isinstance(error, ModuleNotFoundError) and error.name == name in FRAMEWORKS:
            raise _missing_framework(name) from error
        problem = f"The {name} backend failed to load: {type(error).__name__}: {error}"
        raise RNNScratchError(problem) from error
    return assemble(name, package)


def assemble(name: str, package: Any) -> Backend:
    """Return the backend implemented by a package; raise RNNScratchError if it is incomplete."""
    modules = {module: getattr(package, module, None) for module in MODULES}
    defaults = {name: partial(getattr(Machine, name), None) for name in MACHINE_DEFAULTS}
    modules["machine"] = SimpleNamespace(**defaults | getattr(modules["machine"], "__dict__", {}))
    missing_names = [  # names such as "scratch.step"
        f"{module}.{function.__name__}"
        for module, functions in MODULES.items()
        for function in functions
        if (modules[module] or module == "scratch")
        and not hasattr(modules[module], function.__name__)
    ]
    if missing_names:
        problem = f"The {name} backend ({package.__name__}) lacks {', '.join(missing_names)}."
        hint = "rnn_scratch.contract specifies the functions of a backend."
        raise RNNScratchError(problem, hint)
    extensions.define(name, modules["scratch"])
    return Backend(name, package.__name__, **modules)


def how_to_install(name: str) -> str:
    """Return a hint with the command that installs an extra, such as a backend's framework."""
    return f"To install it, run in the clone's folder: pip install -e '.[{name}]'"


def choose_default(log: LogLine) -> str:
    """Return "torch" or, if PyTorch is not installed, log a hint and return "numpy"."""
    if find_spec("torch") is not None:
        return "torch"
    log(f"PyTorch is not installed, so training uses NumPy. {how_to_install('torch')}")
    return "numpy"


def start(name: str, threads: int | None) -> tuple[Backend, int]:
    """Load a backend and set its thread count; return the backend and the actual thread count.

    None means one thread, or the number that the framework has already fixed. A second thread gains
    little with these small products and, on a busy machine, makes training many times slower.
    """
    backend = load(name)
    memory.keep_freed_memory()
    # Do this before listing devices, which fixes TensorFlow's number of threads.
    if threads is None:
        with suppress(RNNScratchError):  # it is too late to change the number
            return backend, backend.machine.set_threads(1)
    return backend, backend.machine.set_threads(threads)


def choose_device(backend: Backend, device: str, dtype: str) -> str:
    """Resolve ``auto`` to the best device; raise RNNScratchError if `device` is unavailable."""
    devices = backend.machine.devices(dtype)
    device = devices[0] if device == "auto" else device
    if device not in devices:
        problem = f"The {backend.name} backend cannot use the device {format_value(device)}"
        hint = f"Choose another `device`: {', '.join(devices)}."
        raise RNNScratchError(f"{problem} with {dtype} on this machine.", hint)
    return device


def build(
    backend: Backend,
    variant: str,
    arrays: Arrays,
    options: ModelConfig,
    optimizer: str = "sgd",
    exact: bool = False,
) -> Model:
    """Build a model variant from arrays, with slots for an optimizer.

    The arrays are parameters and, optionally, slots (see `parameters.shapes`); missing slots
    start at zero. With `exact`, the model trains in exact mode. Raises NotSupportedError if the
    backend does not support the variant, options, optimizer or exact mode.
    """
    _require_support(backend, variant, options, optimizer, exact)
    require_settings(backend, variant, options)
    module = getattr(backend, variant)
    needs_deep = variant == "scratch" and options.needs_deep
    build = backend.deep.build_deep if needs_deep else module.build
    try:
        model: Model = build({name: arrays[name] for name in options.shapes()}, options)
    except RNNScratchError as error:
        if variant == "scratch":
            raise
        raise NotSupportedError(error.problem, error.hint) from error
    for slot in OPTIMIZERS[optimizer].slots:
        shapes = options.shapes().items()
        values = {name: arrays.get(f"{slot}.{name}", np.zeros(shape)) for name, shape in shapes}
        model.slots[slot] = module.init_params(values, options)
    if exact:
        model = replace(model, train_minibatch=steps.make_training_step(backend, exact))
    return model


def _require_support(
    backend: Backend, variant: str, options: ModelConfig, optimizer: str, exact: bool
) -> None:
    """Raise NotSupportedError for the first feature that the backend does not support."""
    if variant not in backend.variants:
        problem = f"The {backend.name} backend does not support the {variant} variant."
        raise NotSupportedError(problem, f"Use one of: {', '.join(backend.variants)}.")
    features = {
        f"the optimizer {optimizer}": optimizer in backend.scratch.OPTIMIZERS,
        "exact mode": backend.exact or not exact,
    }
    if variant == "scratch":
        features[f"the cell {options.cell}"] = options.cell in backend.scratch.CELLS
        features["several layers, embeddings or dropout"] = backend.deep or not options.needs_deep
    packages = {  # the functions of other packages' cells and optimizers
        f"the cell {options.cell}": CELLS[options.cell].functions,
        f"the optimizer {optimizer}": OPTIMIZERS[optimizer].functions,
    }
    for feature, is_supported in features.items():
        if not is_supported:
            problem, hint = f"The {backend.name} backend does not support {feature}.", ""
            if functions := packages.get(feature):
                use = f"Use one of these backends: {', '.join(functions)}"
                hint = f'{use}; or add a function for "{backend.name}" to the declaration.'
            raise NotSupportedError(problem, hint)


def require_settings(backend: Backend, variant: str, values: ModelConfig | UpdateRule) -> None:
    """Raise NotSupportedError if a variant does not know a setting that differs from its default.

    A variant knows the contract's SETTINGS, and those in its module's tuple SETTINGS, if any.
    """
    module = getattr(backend, variant)
    for name in set(values._fields) - {*SETTINGS, *getattr(module, "SETTINGS", ())}:
        if (value := getattr(values, name)) != values._field_defaults[name]:
            problem = f"The {variant} variant of the {backend.name} backend does not know `{name}`"
            hint = f'Implement it and add "{name}" to SETTINGS in {module.__name__}, or omit it.'
            raise NotSupportedError(f"{problem} ({format_value(value)}).", hint)


@dataclass(frozen=True)
class BackendReport:
    """A report on a working backend: its library versions and devices (best first)."""

    environment: dict[str, str]
    devices: list[str]


def probes(names: Sequence[str]) -> dict[str, BackendReport | str]:
    """Load each backend in a child process in case it crashes; return reports or errors by name."""
    reports: dict[str, BackendReport | str] = {}
    with ExitStack() as stack:
        calls = [processes.start(_describe, name, timeout=PROBE_TIMEOUT) for name in names]
        children = [stack.enter_context(call) for call in calls]  # all children run concurrently
        for name, (_, results) in zip(names, children):
            try:
                reports[name] = next(results)
            except RNNScratchError as error:
                reports[name] = str(error)
    return reports


def list_loadable(log: LogLine) -> list[str]:
    """Return the names of loadable backends; log why other backends cannot be loaded."""
    reports = probes(names())
    errors = {name: report for name, report in reports.items() if isinstance(report, str)}
    for name, error in errors.items():
        log(f"skipping {name}: {error}")
    return [name for name in reports if name not in errors]


def _describe(name: str) -> Iterator[BackendReport]:
    machine = load(name).machine
    machine.set_threads(None)  # TensorFlow requires this call before `devices`
    yield BackendReport(environment=machine.versions(), devices=machine.devices("float32"))
