"""What the tests share: the backends they are asked to hold to the contract."""

import signal

import hypothesis
import pytest

from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.text import corpus

hypothesis.settings.register_profile("patient", deadline=None)  # no test here is about time
hypothesis.settings.load_profile("patient")

# A shell's background job ignores Ctrl-C, and so would what the tests start, and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default="all",
        help="Comma-separated names of the backends to test; one that does not load is a failure. "
        "Default: all that are registered.",
    )


def asked(config):
    names = config.getoption("--backends")
    return registry.names() if names == "all" else names.split(",")


def pytest_generate_tests(metafunc):
    """Run a test that takes `backend_name` (or `candidate`: not the reference) once for each."""
    names = asked(metafunc.config)
    if "backend_name" in metafunc.fixturenames:
        metafunc.parametrize("backend_name", names)
    if "candidate" in metafunc.fixturenames:
        metafunc.parametrize("candidate", [name for name in names if name != "numpy"])


def pytest_report_header(config):
    return f"backends: {', '.join(asked(config))}"


@pytest.fixture
def backend(backend_name):
    """The backend; a test that wants one that does not load fails, and is not skipped."""
    try:
        return registry.load(backend_name)
    except RNNScratchError as error:
        pytest.fail(str(error))


@pytest.fixture
def asked_backends(request):
    """The names of all backends that the tests were asked to hold to the contract."""
    return asked(request.config)


@pytest.fixture(autouse=True)
def _away_from_home(monkeypatch, tmp_path):
    """Every test starts in an empty folder, so that runs/ is its own, and writes to no terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def book():
    """The Time Machine, where it is at hand; no test fetches it."""
    path = corpus.data_folder() / corpus.BOOKS["time-machine"].filename
    if not path.exists():
        pytest.skip(f"The Time Machine is not at {path}")
    return corpus.load("time-machine", print)
