"""Shared fixtures and command-line options, such as which backends and devices to test."""

import functools
import io
import os
import re
import shutil
import signal
import sys
import tempfile
from importlib.util import find_spec
from types import SimpleNamespace

import hypothesis
import pytest
from helpers import CLONE, SMALL, CommandResult, exit_code, python_path

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check import user_file
from rnn_scratch.errors import RNNScratchError

hypothesis.settings.register_profile("no deadline", deadline=None)  # machines may be slow
hypothesis.settings.load_profile("no deadline")

# A shell's background jobs ignore SIGINT, and commands run with `nohup` ignore SIGHUP. Processes
# that the tests interrupt would inherit this behavior, so restore the default handlers.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Control characters that a terminal would interpret, except tabs and line breaks.
CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
# Environment variable for JAX's compilation cache; set before the xdist workers start.
JAX_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """Share compiled JAX programs among all processes of this test run, including child processes.

    Compilation takes half of JAX's test time, because many tests compile the same functions for
    every model. JAX reuses a cached program only if the operations and JAX version are identical.
    """
    if JAX_CACHE in os.environ:  # set by the xdist controller or by the user
        return
    folder = tempfile.mkdtemp(prefix="jax-")
    # Cache programs of any size, regardless of their compile time.
    limits = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}
    os.environ[JAX_CACHE] = folder
    os.environ.update({f"JAX_PERSISTENT_CACHE_{name}": limit for name, limit in limits.items()})

    @config.add_cleanup
    def remove():
        del os.environ[JAX_CACHE]
        shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default="all",
        help="Comma-separated names of the backends to test; a backend that fails to load fails "
        "the tests. Default: all registered backends for this Python and platform.",
    )
    parser.addoption(
        "--devices",
        default="all",
        help="Comma-separated names of the devices to test on, such as cpu or cuda. "
        "Default: all devices that a backend reports.",
    )


SESSIONS = ("frameworks", "mutations", "student", "notebooks", "faults")


def pytest_collection_modifyitems(config, items):
    """Deselect tests for other nox sessions, unless the command line selects them explicitly.

    A marker's `by_default` lists the backends whose tests remain selected.
    """
    explicit = config.option.markexpr or any("::" in argument for argument in config.args)
    if explicit or config.getoption("--backends") != "all":
        return

    def belongs_to_session(item):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        backends = {parameters[name] for name in (*CHOICES, "backend") if name in parameters}
        for mark in filter(lambda mark: mark.name in SESSIONS, item.iter_markers()):
            defaults = mark.kwargs.get("by_default")
            if not defaults or (backends and not backends & set(defaults)):
                return True
        return False

    deselected = [item for item in items if belongs_to_session(item)]
    items[:] = [item for item in items if not belongs_to_session(item)]
    # Start the longest tests first, so that all xdist workers finish at about the same time.
    items.sort(key=lambda item: item.name.partition("[")[0] != "test_model_equals_the_reference")
    config.hook.pytest_deselected(items=deselected)


def backends_to_test(config):
    names = config.getoption("--backends")
    if names == "all":
        # MXNet is not available on every platform, and JAX is not available for Python 3.10.
        return [n for n in registry.names() if n not in ("mxnet", "jax") or find_spec(n)]
    return names.split(",")


@functools.cache
def reported_devices(names):
    """Load the backends in parallel; return the devices that each reports, keyed by backend."""
    probes = registry.probes(names)
    # If a backend cannot be loaded, its tests should run and fail.
    return {name: getattr(probe, "devices", ["cpu"]) for name, probe in probes.items()}


@pytest.hookimpl(optionalhook=True)  # xdist defines this hook
def pytest_configure_node(node):
    """Find the devices once, not in each xdist worker, because loading all backends is slow."""
    node.workerinput["devices"] = devices_to_test(node.config)


def devices_to_test(config):
    if hasattr(config, "workerinput"):
        return config.workerinput["devices"]
    names, selection = tuple(backends_to_test(config)), config.getoption("--devices")
    if selection == "cpu":  # every backend supports the CPU, so don't load any
        return {name: ["cpu"] for name in names}
    devices_by_name = reported_devices(names)
    if selection == "all":
        return devices_by_name
    selected = selection.split(",")
    if unknown := set(selected).difference(*devices_by_name.values()):
        raise pytest.UsageError(f"--devices: no backend reports {', '.join(sorted(unknown))}")
    return {
        name: [device for device in devices if device in selected]
        for name, devices in devices_by_name.items()
    }


# Predicates that select which backends to pass, keyed by test function argument.
CHOICES = {
    "backend_name": lambda name: True,
    "candidate": lambda name: name != "numpy",  # NumPy is the reference
    "builtin_name": lambda name: name in registry.BUILTIN_BACKENDS,
}


def pytest_generate_tests(metafunc):
    """Run a test once per backend or, if it takes `device`, once per device of each backend."""
    names = backends_to_test(metafunc.config)
    for argument in CHOICES.keys() & set(metafunc.fixturenames):
        selected = list(filter(CHOICES[argument], names))
        if "device" in metafunc.fixturenames:
            devices = devices_to_test(metafunc.config)
            pairs = [(name, device) for name in selected for device in devices[name]]
            metafunc.parametrize((argument, "device"), pairs)
        else:
            metafunc.parametrize(argument, selected)


def pytest_report_header(config):
    names = ", ".join(backends_to_test(config))
    return f"backends: {names}; devices: {config.getoption('--devices')}"


@pytest.fixture
def backend(request):
    """Return the backend under test; if it cannot be loaded, fail the test rather than skip it."""
    (argument,) = CHOICES.keys() & set(request.fixturenames)
    try:
        return registry.load(request.getfixturevalue(argument))
    except RNNScratchError as error:
        pytest.fail(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Skip a test of another package's backend if it needs something that the backend lacks."""
    try:
        return (yield)
    except registry.NotSupportedError as error:
        parameters = pyfuncitem.callspec.params if hasattr(pyfuncitem, "callspec") else {}
        names = {parameters[name] for name in CHOICES if name in parameters}
        if names and not names & {*registry.BUILTIN_BACKENDS}:
            pytest.skip(f"unsupported: {error.problem}")
        raise


@pytest.fixture
def backend_names(request):
    return backends_to_test(request.config)


@pytest.fixture
def emulated(tmp_path):
    """Return environment variables that give a framework an "emu" device alongside the CPU."""
    (tmp_path / "sitecustomize.py").write_text("import emulated\nemulated.install()\n")
    return {**python_path(tmp_path, CLONE / "tests"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Copy the code to a folder from which child processes import it; return the folder."""
    clone = tmp_path / "clone"
    for folder in ("rnn_scratch", "backends"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CLONE / folder, clone / folder, ignore=ignored)
    monkeypatch.setenv("PYTHONPATH", str(clone))
    return clone


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    """Start every test in a new working directory, without variables that simulate a terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _in_the_clone(monkeypatch, _empty_folder):
    monkeypatch.chdir(CLONE)


@pytest.fixture
def _without_children(monkeypatch):
    """Check functions in this process, because each child process would reimport the framework.

    The grader's own tests still run in child processes, because they replace the clock.
    """
    call = SimpleNamespace(ask=lambda function, *arguments, **_: function(*arguments))
    monkeypatch.setattr(user_file, "processes", call)


@pytest.fixture
def small_run():
    """Train a small NumPy model for two epochs; return the run folder."""
    return rnn_scratch.train("numpy", num_epochs=2, output="r", **SMALL).folder


@pytest.fixture
def on_terminal(monkeypatch):
    """Return a function that runs a command in this process, on a simulated terminal.

    The returned output omits colors and Rich's status line.
    """

    def run(*arguments, columns=300):
        stream = io.StringIO()
        stream.isatty = lambda: True
        with monkeypatch.context() as patch:
            patch.setenv("TERM", "xterm-256color")
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            code = exit_code(*arguments)
        output = re.sub(r"\r?\x1b\[[?\d;]*[a-zA-Z]", "", stream.getvalue())
        assert not CONTROL_CHARACTERS.search(output), (arguments, output)
        return CommandResult(code, re.sub("[\u2800-\u28ff] [^\n]*\n?", "", output), "")

    return run
