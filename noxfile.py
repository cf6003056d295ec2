"""Nox sessions for development, each in its own environment with packages installed by pip.

`nox` runs the style and type checks, and the tests with all backends. `nox -l` lists the sessions;
`nox -s NAME` runs one. Arguments after `--` go to pytest, unless the session says otherwise.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox

nox.options.sessions = ["lint", "all"]
nox.options.default_venv_backend = "venv"

# Use one thread for reproducible numbers, and because test processes share the cores. Disable JAX's
# compiler optimizations, because the tests spend much more time compiling than computing.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}
# Limit each library to AVX2. Other kernels round differently, so a test fails that depends on the
# last digits of a long training run in float32.
OLDER_PROCESSOR = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "XLA_FLAGS": f"{ENVIRONMENT['XLA_FLAGS']} --xla_cpu_max_isa=AVX2",
}
TOOLS = {"PYTHONPATH": "notebooks"}  # makes the `make` and `measure` packages importable

BACKENDS = ("numpy", "torch", "tensorflow", "mxnet", "jax")
MLX = "mlx" if sys.platform == "darwin" else "mlx[cpu]"
VARIANTS = ("scratch", "fast", "concise")
# Code of the lessons that must work without a clone.
LESSONS = """
from rnn_scratch.support import grading, lesson
lesson.text(), lesson.record("exercises"), lesson.run("learn/cosine")
assert not grading.grade("numpy", ["def loss(logits, targets): return 0"], "loss")[0]
"""
# Training runs that use the settings from the book's chapter.
RECORDS = {
    "chapter/sequential": "--backend numpy",
    "chapter/random": "--backend numpy --sampling random",
}
for backend in BACKENDS:
    RECORDS[f"float64/{backend}"] = f"--backend {backend} --dtype float64 --epochs 100"
# Training runs that the lesson *Make it learn well* compares.
SMALL = "--backend numpy --variant fast --corpus tide-clock --normalize spaced --valid-tokens 5000"
SMALL += " --cell lstm --optimizer adam"
for name, options in {
    "constant": "--num-hiddens 64 --epochs 30 --lr 0.05",
    "cosine": "--num-hiddens 64 --epochs 30 --lr 0.05 --schedule cosine --warmup 20",
    "one-layer": "--num-hiddens 96 --epochs 40 --lr 0.01",
    "dropout": "--num-hiddens 96 --epochs 40 --lr 0.01 --dropout 0.5",
    "two-layers": "--num-hiddens 96 --epochs 40 --lr 0.01 --dropout 0.3 --layers 2",
}.items():
    RECORDS[f"learn/{name}"] = f"{SMALL} {options}"

SPEED = ("--variants", ",".join(VARIANTS), "--sweep", "threads=1,2", "--seconds", "400")
# The text and network of the preset `minute`.
PRESET = "--corpus tide-clock --normalize none --cell lstm --num-hiddens 256 --batch-size 16"
PRESET += " --num-steps 20 --optimizer adam --lr 0.005 --dropout 0.3"
COMPARISONS = {
    "speed": SPEED,
    "preset": (*SPEED, *PRESET.split()),
    "sizes": ("--variants", "fast", "--sweep", "num_hiddens=128,512,1024"),
    "curves": ("--variants", "fast", "--seconds", "0", "--epochs", "500"),
}
# Measurements, each with a module and a record of the same name.
MEASUREMENTS = (
    *("compilers", "exercises", "frameworks", "gates", "growth", "optimizations", "presets"),
    *("programs", "recall", "workers"),
)


def newest_python() -> str:
    """Return the latest supported Python version installed on this machine."""
    for version in ("3.13", "3.12", "3.11"):
        if path := shutil.which(f"python{version}"):
            result = subprocess.run([path, "--version"], capture_output=True, text=True)
            if result.stdout.startswith(f"Python {version}."):
                return version
    return "3.10"


def run_tests(
    session: nox.Session,
    extras: str,
    *options: str,
    pins: Sequence[str] = (),
    variables: Mapping[str, str] = ENVIRONMENT,
) -> None:
    """Install the project with `extras` and `pins`, then run the tests with pytest `options`."""
    session.install("-e", f".[{extras},test]", *pins)
    # Use two processes. Test durations differ, so let an idle process steal tests.
    processes = ("-n", "2", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *processes, *options, env=variables)


@nox.session
def lint(session: nox.Session) -> None:
    """Check code style, types and the CI workflow."""
    session.install("-e", ".", "ruff", "mypy", "check-jsonschema", "zizmor")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    support = (f"notebooks/support/{name}.py" for name in ("drawings", "grading", "lesson"))
    session.run("mypy", "rnn_scratch", "notebooks/make", *support)
    # The backends have no annotations of their own, so report errors in this file alone.
    session.run("mypy", "--follow-imports=silent", "tests/protocols.py")
    # Check the workflow's schema and security. Actionlint would also check expressions, but pip
    # cannot install it when only package indexes are reachable.
    workflow = ".github/workflows/ci.yml"
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
    session.run("zizmor", "--offline", "--quiet", workflow)


@nox.session(name="all")
def all_backends(session: nox.Session) -> None:
    """Test all backends available on this platform in one environment.

    For the coverage, add `-- --cov rnn_scratch --cov backends`. It excludes code that runs only in
    child processes, such as the candidates of `compare`.
    """
    session.install("pytest-cov")
    run_tests(session, "all", *session.posargs)


@nox.session
def older_processor(session: nox.Session) -> None:
    """Run the default tests with the instructions of an older x86 processor."""
    run_tests(session, "all", *session.posargs, variables=ENVIRONMENT | OLDER_PROCESSOR)


@nox.session(python=newest_python())
def numpy(session: nox.Session) -> None:
    """Test the core and the NumPy backend on the latest Python, without any framework."""
    run_tests(session, "workers", "--backends", "numpy", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """Test the PyTorch backend alone, with the latest NumPy."""
    run_tests(session, "torch", "--backends", "numpy,torch", *session.posargs)


@nox.session
def tensorflow(session: nox.Session) -> None:
    """Test the TensorFlow backend alone, with the latest NumPy that TensorFlow supports."""
    run_tests(session, "tensorflow", "--backends", "numpy,tensorflow", *session.posargs)


@nox.session
def mxnet(session: nox.Session) -> None:
    """Test the MXNet backend alone, with NumPy 1.26."""
    run_tests(session, "mxnet", "--backends", "numpy,mxnet", *session.posargs)


@nox.session(python=newest_python())
def jax(session: nox.Session) -> None:
    """Test the JAX backend alone, with the latest versions of JAX, Python and NumPy."""
    run_tests(session, "jax", "--backends", "numpy,jax", *session.posargs)


@nox.session
def mlx(session: nox.Session) -> None:
    """Follow the guide to writing a backend, with MLX, on Linux or a Mac."""
    session.install(MLX)
    run_tests(session, "test", "--backends", "numpy", "tests/parity/test_backend_guide.py")


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """Test the NumPy and PyTorch backends with the lowest supported version of every dependency."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    requirements = (*project["dependencies"], *project["optional-dependencies"]["torch"])
    pins = [requirement.replace(">=", "==") for requirement in requirements]
    run_tests(session, "torch", "--backends", "numpy,torch", *session.posargs, pins=pins)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the `frameworks` tests with every backend; in the `all` session, they use only a few."""
    run_tests(session, "all", "-m", "frameworks", *session.posargs)


@nox.session
def mutations(session: nox.Session) -> None:
    """Run the mutation tests: the check must detect the bugs inserted into each backend."""
    run_tests(session, "all", "-m", "mutations", *session.posargs)


@nox.session
def draws(session: nox.Session) -> None:
    """Check each backend with 200 new random draws, whose seeds depend on the date."""
    session.install("-e", ".[all]")
    seed = int(time.time()) // 86_400 * 1_000
    for backend in BACKENDS:
        # Limit each process to 50 draws, because compiled programs accumulate in memory.
        for first in range(0, 200, 50):
            options = ("--seed", str(seed + first), "--cases", "50")
            session.run("rnn-scratch", "check", backend, *options)


@nox.session
def faults(session: nox.Session) -> None:
    """Run the fault-injection tests, which kill processes at many random points."""
    run_tests(session, "all", "-m", "faults", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Compare all backends briefly; options after `--` go to `rnn-scratch compare`."""
    session.install("-e", ".[all]")
    options = f"--variants {','.join(VARIANTS)} --epochs 2 --sweep threads=1,2"
    session.run("rnn-scratch", "compare", *options.split(), *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist and wheel, then test the wheel in a new environment outside the clone."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        folders = ("rnn_scratch", "backends", "notebooks/support")
        tracked = session.run("git", "ls-files", *folders, external=True, silent=True)
        lines = tracked.replace("notebooks/support", "rnn_scratch/support").split()
        expected = {re.sub("^backends", "rnn_scratch/backends", line) for line in lines}
        with zipfile.ZipFile(wheel) as packed, tarfile.open(sdist) as source:
            if missing := expected - set(packed.namelist()):
                session.error(f"The wheel lacks {', '.join(sorted(missing))}.")
            if tests := [name for name in source.getnames() if "/tests/" in name]:
                session.error(f"The sdist contains {len(tests)} test files, which need a clone.")
        session.run("python", "-m", "venv", f"{folder}/venv")
        scripts = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin")
        session.run(str(scripts / "python"), "-m", "pip", "install", str(wheel), external=True)
        Path(folder, "empty").mkdir()
        with session.chdir(Path(folder, "empty")):
            for command in (
                *("train --epochs 20", "predict last", "play last --no-browser", "check"),
                *("compare --epochs 1 --seconds 10", "show step"),
            ):
                session.run(str(scripts / "rnn-scratch"), *command.split(), external=True)
            session.run(str(scripts / "python"), "-c", LESSONS, external=True)


@nox.session
def pages(session: nox.Session) -> None:
    """Generate the pages and README results from code, templates and records."""
    session.install("-e", ".")
    session.run("python", "-m", "make.pages", env=TOOLS)


def build_site(session: nox.Session) -> None:
    """Write the site's pages and build them into build/site; fail on warnings."""
    session.run("python", "-m", "make.site", env=TOOLS)
    shutil.rmtree("build/site", ignore_errors=True)
    strict = ("--fresh-env", "--fail-on-warning", "--keep-going", "--quiet")
    folders = ("--conf-dir", "notebooks/site", "--doctree-dir", "build/doctrees")
    session.run("python", "-m", "sphinx", *strict, *folders, "build/pages", "build/site")


@nox.session
def site(session: nox.Session) -> None:
    """Build the site and check its links; with `-- serve`, also serve it locally."""
    session.install("-e", ".[site,test]")
    build_site(session)
    options = [option for option in session.posargs if option != "serve"]
    session.run("python", "-m", "pytest", "tests/pages/built_site.py", *options)
    if "serve" in session.posargs:
        session.log("Serving the site at http://127.0.0.1:8000/; press Ctrl-C to stop.")
        folder = ("--bind", "127.0.0.1", "--directory", "build/site")
        session.run("python", "-m", "http.server", "8000", *folder)


@nox.session
def browser(session: nox.Session) -> None:
    """Test pages in an installed Chromium or in Playwright's (`playwright install chromium`)."""
    session.install("-e", ".[site,test]", "nbconvert", "playwright", "axe-playwright-python")
    build_site(session)
    names = ("site", "play", "lab", "run", "notebooks")
    pages = [f"tests/pages/browser_{name}.py" for name in names]
    session.run("python", "-m", "pytest", *pages, *session.posargs, env=ENVIRONMENT)


@nox.session
def records(session: nox.Session) -> None:
    """Make all records that the README and pages quote (takes hours), or only those after `--`."""
    session.install("-e", ".[all]")

    def is_selected(name: str) -> bool:
        return not session.posargs or name in session.posargs

    if is_selected("frameworks"):
        session.install(MLX, "onnx", "onnxruntime", "optax")
    for name, options in filter(lambda item: is_selected(item[0]), RECORDS.items()):
        folder = f"notebooks/records/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = ("train", "--corpus", "time-machine", "--threads", "1", "--output", folder)
        session.run("rnn-scratch", *command, *options.split())
        for file in Path(folder).iterdir():
            if not file.match("*.json*"):
                file.unlink()  # the pages don't need checkpoints, which take up a megabyte each
    for name, options in filter(lambda item: is_selected(item[0]), COMPARISONS.items()):
        folder = f"notebooks/comparisons/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = ("compare", "--backends", ",".join(BACKENDS), "--corpus", "time-machine")
        session.run("rnn-scratch", *command, *options, "--output", folder)
    if is_selected("exact"):
        command = ("python", "-m", "measure", "exact", "notebooks/records/exact.json")
        session.run(*command, env=TOOLS)
    for name in filter(is_selected, MEASUREMENTS):
        command = ("python", "-m", "measure", name, f"notebooks/records/{name}.json")
        session.run(*command, env=TOOLS)
    session.run("python", "-m", "make.pages", env=TOOLS)


# Notebooks that use several backends, and the extras to install for them.
MULTI_BACKEND = {"side_by_side": "torch,tensorflow,", "comparison": "torch,"}


@nox.session
@nox.parametrize("name", [nox.param(name, id=name) for name in (*BACKENDS, *MULTI_BACKEND)])
def notebooks(session: nox.Session, name: str) -> None:
    """Make a framework's notebooks or one in MULTI_BACKEND; install only the frameworks needed.

    Only notebooks whose code or records have changed are executed, or all with `-- --execute`.
    """
    frameworks = {"numpy": "", **MULTI_BACKEND}.get(name, f"{name},")
    session.install("-e", f".[{frameworks}notebooks]")
    lessons = ("build", "gates", "learn", "fast")
    parts = [f"{lesson}{end}" for lesson in lessons for end in ("", "-student")]
    names = [name] if name in MULTI_BACKEND else [f"{name}-{part}" for part in parts]
    session.run("python", "-m", "make.notebooks", *names, *session.posargs, env=TOOLS)


@nox.session
def play(session: nox.Session) -> None:
    """Train the networks for the play page and the memory lab."""
    session.install("-e", ".[torch]")
    for module in ("make.play", "make.lab"):
        session.run("python", "-m", module, env={**ENVIRONMENT, **TOOLS})


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def student(session: nox.Session, backend: str) -> None:
    """Test the student workflow in a fresh clone: write and grade functions, train, edit code."""
    clone = Path(session.create_tmp(), "clone")
    shutil.rmtree(clone, ignore_errors=True)
    session.run("git", "clone", "--quiet", str(Path.cwd()), str(clone), external=True)
    session.chdir(clone)
    extras = "notebooks" if backend == "numpy" else f"{backend},notebooks"
    options = ("-m", "student", "--backends", backend, *session.posargs)
    session.install("nbgrader", "nbconvert")
    run_tests(session, extras, *options)


@nox.session(name="everything", venv_backend="none")
def run_all(session: nox.Session) -> None:
    """Run all release checks one after another, which also executes the notebooks."""
    for name in (
        *("lint", "all", "older_processor", "lowest", "frameworks", "mutations", "draws", "faults"),
        *("site", "browser", "wheel", "mlx"),
        *(f"student({backend})" for backend in BACKENDS),
    ):
        session.notify(name)
    for name in (*BACKENDS, *MULTI_BACKEND):
        session.notify(f"notebooks({name})", posargs=["--execute"])
