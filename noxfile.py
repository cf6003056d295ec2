"""The project's environments, each made by pip in a folder of its own.

`nox` runs the style and type checks and the tests with all four backends; `nox -l` lists the
sessions, `nox -s NAME` runs one. What stands after `--` goes to pytest.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "all"]
nox.options.default_venv_backend = "venv"

TEST = ["hypothesis", "pytest", "ipykernel", "nbclient", "nbformat"]
# One thread: the tests compare numbers, and tests in several processes share the cores.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}

# MXNet 1.9.1 is there for Python 3.12 at most, on Linux or an Intel Mac; elsewhere it is left out.
INTEL_MAC = sys.platform == "darwin" and platform.machine() == "x86_64"
MXNET = sys.version_info < (3, 13) and (sys.platform == "linux" or INTEL_MAC)
FOUR = ("numpy", "torch", "tensorflow", *(["mxnet"] if MXNET else []))
RECORDS = {
    f"{backend}-{model}-{sampling}": (
        "--backend", backend, "--model", model, "--sampling", sampling, "--threads", "1"
    )
    for model, sampling in (
        ("scratch", "sequential"), ("scratch", "random"), ("concise", "sequential")
    )
    for backend in (FOUR if model == "scratch" else FOUR[1:])
} | {
    f"float64/{backend}": (
        "--backend", backend, "--dtype", "float64", "--epochs", "100", "--threads", "1"
    )
    for backend in FOUR
}  # fmt: skip

COMPARISONS = {
    "speed": ("--models", "scratch,concise", "--vary", "threads=1,2"),
    "curves": ("--epochs", "500", "--repeats", "1"),
    "scaling": ("--epochs", "2", "--repeats", "3", "--vary", "num_hiddens=64,128,256,512,1024"),
}


def newest_python() -> str:
    """The newest Python that this machine has and the project supports."""
    for version in ("3.13", "3.12", "3.11"):
        if path := shutil.which(f"python{version}"):
            done = subprocess.run([path, "--version"], capture_output=True, text=True)
            if done.stdout.startswith(f"Python {version}."):
                return version
    return "3.10"


def run_tests(session: nox.Session, extra: str, backends: str) -> None:
    """Install the project with what an extra brings, and hold these backends to the tests."""
    session.install("-e", f".{extra}", *TEST)
    session.run("python", "-m", "pytest", "--backends", backends, *session.posargs, env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".", "ruff", "mypy", "types-requests")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "rnn_scratch")


@nox.session(name="all")
def all_four(session: nox.Session) -> None:
    """All four backends in one environment, or those that this machine can have."""
    run_tests(session, "[all]", ",".join(FOUR))


@nox.session(python=newest_python())
def numpy(session: nox.Session) -> None:
    """The core and the NumPy backend on the newest Python, with no framework installed."""
    run_tests(session, "", "numpy")


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch alone, on the newest NumPy."""
    run_tests(session, "[torch]", "numpy,torch")


@nox.session
def tensorflow(session: nox.Session) -> None:
    """TensorFlow alone, on the newest NumPy it works with."""
    run_tests(session, "[tensorflow]", "numpy,tensorflow")


@nox.session
def mxnet(session: nox.Session) -> None:
    """MXNet alone, on NumPy 1.26."""
    run_tests(session, "[mxnet]", "numpy,mxnet")


@nox.session
def benchmark(session: nox.Session) -> None:
    """A small comparison of all backends, at one thread and at two; it leaves its record."""
    session.install("-e", ".[all]")
    session.run(
        "rnn-scratch", "compare", "--backends", ",".join(FOUR), "--models", "scratch,concise",
        "--epochs", "2", "--repeats", "3", "--vary", "threads=1,2", *session.posargs,
    )  # fmt: skip


def build_site(session: nox.Session) -> None:
    """Write the site's pages, and have build/site made of them; a warning is an error."""
    session.run("python", "-m", "make.site")
    # The generator's advertisement for its successor is no warning about the site.
    session.run("python", "-m", "mkdocs", "build", "--strict", "--clean",
                "--config-file", "notebooks/site/mkdocs.yml",
                env={"NO_MKDOCS_2_WARNING": "1"})  # fmt: skip


@nox.session
def site(session: nox.Session) -> None:
    """The site, for `rnn-scratch site` to serve; and every link in it followed."""
    session.install("-e", ".[site]", *TEST)
    build_site(session)
    session.run("python", "-m", "pytest", "tests/built_site.py", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Pages in a real browser: Chromium, or what `playwright install chromium` gives."""
    session.install("-e", ".[torch,site]", *TEST, "playwright", "axe-playwright-python")
    build_site(session)
    pages = ("tests/browser_report.py", "tests/browser_site.py")
    session.run("python", "-m", "pytest", *pages, *session.posargs)


@nox.session
def records(session: nox.Session) -> None:
    """Train and compare what the README quotes, hours of work, and write it there; or: -- NAME."""
    session.install("-e", ".[all]")
    for name, options in RECORDS.items():
        if session.posargs and name not in session.posargs:
            continue
        folder = f"notebooks/records/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        session.run("rnn-scratch", "train", "--corpus", "time-machine", "--run", folder, *options)
        Path(folder, "checkpoint.safetensors").unlink()  # a megabyte that no page quotes
    for name, options in COMPARISONS.items():
        if session.posargs and name not in session.posargs:
            continue
        folder = f"notebooks/comparisons/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = ("compare", "--backends", ",".join(FOUR), "--corpus", "time-machine")
        session.run("rnn-scratch", *command, *options, "--output", folder)
    if not session.posargs or "exact" in session.posargs:
        with Path("notebooks/records/exact.json").open("w", encoding="utf-8") as file:
            command = ("check", *FOUR, "--exact", "--epochs", "500", "--every", "25", "--json")
            session.run("rnn-scratch", *command, "--corpus", "time-machine", stdout=file)
    if not session.posargs or "exercises" in session.posargs:
        file = "notebooks/records/exercises.json"
        session.run("python", "tests/tools/exercises.py", file, env={"PYTHONPATH": "tests"})
    if not session.posargs or "odds" in session.posargs:
        session.run("python", "tests/tools/odds.py", "notebooks/records/odds.json")
    session.run("python", "-m", "make.records")


# Notebooks with two backends in them, and the frameworks of these; NumPy is there anyway.
TOGETHER = {"side_by_side": "torch,tensorflow,", "comparison": "torch,"}


@nox.session
@nox.parametrize("which", [nox.param(name, id=name) for name in (*FOUR, *TOGETHER)])
def notebooks(session: nox.Session, which: str) -> None:
    """Make the notebooks of a framework with it alone installed, or one with two with both."""
    frameworks = {"numpy": "", **TOGETHER}.get(which, f"{which},")
    session.install("-e", f".[{frameworks}notebooks]")
    names = [which] if which in TOGETHER else [which, f"{which}-student"]
    session.run("python", "-m", "make.notebooks", *names)
