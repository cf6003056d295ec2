"""Options and fixtures of all tests: the backends and devices to test, and an empty folder."""

import functools
import io
import os
import re
import shutil
import signal
import sys
import tempfile

import hypothesis
import pytest
from helpers import CLONE, SMALL, Done, exit_code, python_path

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError

hypothesis.settings.register_profile("no deadline", deadline=None)  # no test measures time
hypothesis.settings.load_profile("no deadline")

# A shell's background job ignores Ctrl-C, and under nohup the end of the terminal; and so would the
# processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# What a terminal would execute, but for tabs and the ends of lines.
EXECUTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
# The folder in which JAX keeps what it has compiled; set before the processes of xdist start.
JAX_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """Let all processes of this run, also those that tests start, share what JAX compiles.

    Half of its time goes into that, and many tests compile the same: the functions of a minibatch,
    for each model anew. What is found there was compiled from the same operations by the same JAX.
    """
    if JAX_CACHE in os.environ:  # a process of xdist, or a folder that the user has chosen
        return
    folder = tempfile.mkdtemp(prefix="jax-")
    everything = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}  # however small
    os.environ[JAX_CACHE] = folder
    os.environ.update({f"JAX_PERSISTENT_CACHE_{name}": each for name, each in everything.items()})

    @config.add_cleanup
    def remove():
        del os.environ[JAX_CACHE]
        shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default="all",
        help="Comma-separated names of the backends to test; one that does not load is a failure. "
        "Default: all registered ones that are available for this Python and platform.",
    )
    parser.addoption(
        "--devices",
        default="all",
        help="Comma-separated names of the devices to test on, such as cpu or cuda. "
        "Default: all that each backend reports.",
    )
    parser.addoption(
        "--trials", type=int, help="Number of trials of each campaign with random faults."
    )
    parser.addoption("--seeds", help="Comma-separated seeds of the campaign of faults.")
    parser.addoption("--record", help="File for the counts of the campaign of faults.")


@pytest.fixture
def trials(request):
    """The number of trials of a campaign that was asked for; None for its default."""
    return request.config.getoption("--trials")


SESSIONS = ("frameworks", "sabotages", "student", "notebooks", "team", "faults")


def pytest_collection_modifyitems(config, items):
    """Leave the tests of sessions to these, unless they, a test or backends are asked for by name.

    A marker's `by_default` names backends whose tests are not left out.
    """
    explicit = config.option.markexpr or any("::" in argument for argument in config.args)
    if explicit or config.getoption("--backends") != "all":
        return

    def is_left(item):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        backends = {parameters[name] for name in (*CHOICES, "backend") if name in parameters}
        for mark in filter(lambda mark: mark.name in SESSIONS, item.iter_markers()):
            chosen = mark.kwargs.get("by_default")
            if not chosen or (backends and not backends & set(chosen)):
                return True
        return False

    left = [item for item in items if is_left(item)]
    items[:] = [item for item in items if not is_left(item)]
    # The longest first, so that none of them is alone at the end.
    items.sort(key=lambda item: item.name.partition("[")[0] != "test_a_model_equals_the_reference")
    config.hook.pytest_deselected(items=left)


def backends_to_test(config):
    names = config.getoption("--backends")
    if names == "all":
        return [name for name in registry.names() if registry.available(name)]
    return names.split(",")


@functools.cache
def reported_devices(names):
    """The devices that each backend reports, which are loaded in parallel."""
    answers = registry.probes(names)
    # Where a backend does not load, its tests are to run, and to fail.
    return {name: getattr(answer, "devices", ["cpu"]) for name, answer in answers.items()}


def devices_to_test(config):
    names, selection = tuple(backends_to_test(config)), config.getoption("--devices")
    if selection == "cpu":  # which every backend has
        return {name: ["cpu"] for name in names}
    devices = reported_devices(names)
    if selection == "all":
        return devices
    selected = selection.split(",")
    if unknown := set(selected).difference(*devices.values()):
        raise pytest.UsageError(f"--devices: no backend reports {', '.join(sorted(unknown))}")
    return {name: [d for d in each if d in selected] for name, each in devices.items()}


# Arguments of tests, and the backends that each stands for.
CHOICES = {
    "backend_name": lambda name: True,
    "candidate": lambda name: name != "numpy",  # which is the reference
    "own_name": lambda name: name in registry.OURS,
}


def pytest_generate_tests(metafunc):
    """Run a test once for each backend, and for each of its devices if it takes `device`."""
    names = backends_to_test(metafunc.config)
    for argument in CHOICES.keys() & set(metafunc.fixturenames):
        chosen = list(filter(CHOICES[argument], names))
        if "device" in metafunc.fixturenames:
            devices = devices_to_test(metafunc.config)
            pairs = [(name, device) for name in chosen for device in devices[name]]
            metafunc.parametrize((argument, "device"), pairs)
        else:
            metafunc.parametrize(argument, chosen)


def pytest_report_header(config):
    names = ", ".join(backends_to_test(config))
    return f"backends: {names}; devices: {config.getoption('--devices')}"


@pytest.fixture
def backend(request):
    """The backend under test; if it does not load, the test fails and is not skipped."""
    (argument,) = CHOICES.keys() & set(request.fixturenames)
    try:
        return registry.load(request.getfixturevalue(argument))
    except RNNScratchError as error:
        pytest.fail(str(error))


@pytest.fixture
def backend_names(request):
    return backends_to_test(request.config)


@pytest.fixture
def emulated(request, tmp_path):
    """The environment of a process in which each framework has the device emu beside the CPU."""
    if "torch" in request.node.callspec.params.values():
        registration = pytest.importorskip("torch").utils.backend_registration
        if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
            pytest.skip("this PyTorch has no devices that are written in Python")
    (tmp_path / "sitecustomize.py").write_text("import emulated\nemulated.install()\n")
    return {**python_path(tmp_path, CLONE / "tests"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def copy(tmp_path):
    """A copy of the code, laid out as in a clone, which Python finds first when it runs there."""
    clone = tmp_path / "clone"
    for folder in ("rnn_scratch", "backends"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CLONE / folder, clone / folder, ignore=ignored)
    (clone / "rnn_scratch" / "backends").symlink_to(clone / "backends")
    return clone


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    """Every test starts in an empty folder, so that runs/ is its own, and writes to no terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _in_the_clone(monkeypatch, _empty_folder):
    monkeypatch.chdir(CLONE)


@pytest.fixture
def small_run():
    """The folder of a run in NumPy that has made two epochs."""
    return rnn_scratch.train("numpy", num_epochs=2, run="r", **SMALL).folder


@pytest.fixture
def on_terminal(monkeypatch):
    """A function that runs a command here, with a terminal for its output and its errors.

    The output is without what Rich writes of its own: colors, and a line about what is being done.
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
        assert not EXECUTED.search(output), (arguments, output)
        return Done(code, re.sub("[\u2800-\u28ff] [^\n]*\n?", "", output), "")

    return run
