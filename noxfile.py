"""The project's environments, each made by pip in a folder of its own.

`nox` runs the style and type checks and the tests with all backends; `nox -l` lists the sessions,
`nox -s NAME` runs one. What follows `--` is passed on to pytest, or as the session says.
"""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "all"]
nox.options.default_venv_backend = "venv"

# One thread: the tests compare numbers, and tests in several processes share the cores. And JAX's
# compiler should not optimize: the tests compile much more than they compute.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}
TOOLS = {"PYTHONPATH": "notebooks"}  # where the packages `make` and `measure` are

BACKENDS = ("numpy", "torch", "tensorflow", "mxnet", "jax")
VARIANTS = ("scratch", "fast", "concise")
GATED = ("gru", "gru-after", "lstm")
RECORDS = {
    f"{backend}-{model}-{sampling}": f"--backend {backend} --model {model} --sampling {sampling}"
    for model, sampling in (
        ("scratch", "sequential"),
        ("scratch", "random"),
        ("concise", "sequential"),
    )
    for backend in (BACKENDS[1:] if model == "concise" else BACKENDS)
}
for backend in BACKENDS:
    RECORDS[f"float64/{backend}"] = f"--backend {backend} --dtype float64 --epochs 100"
    for cell in GATED:
        RECORDS[f"{backend}-fast-{cell}"] = f"--backend {backend} --model fast --cell {cell}"
# What the lesson *Make it learn well* compares.
SMALL = "--backend numpy --model fast --corpus tide-clock --valid-tokens 5000"
SMALL += " --cell lstm --optimizer adam"
for name, options in {
    "constant": "--num-hiddens 64 --epochs 30 --lr 0.05",
    "cosine": "--num-hiddens 64 --epochs 30 --lr 0.05 --schedule cosine --warmup 20",
    "one-layer": "--num-hiddens 96 --epochs 40 --lr 0.01",
    "dropout": "--num-hiddens 96 --epochs 40 --lr 0.01 --dropout 0.5",
    "two-layers": "--num-hiddens 96 --epochs 40 --lr 0.01 --dropout 0.3 --layers 2",
}.items():
    RECORDS[f"learn/{name}"] = f"{SMALL} {options}"

# Three sizes of the network, each with a small and a large minibatch.
SIZES = (
    "--models",
    "fast",
    "--epochs",
    "2",
    "--repeats",
    "3",
    "--vary",
    "num_hiddens=128,512,1024",
)
CURVES = ("--models", "fast", "--repeats", "1", "--epochs")
# 128 units, with which an LSTM learns the whole book in a minute.
SEEDS = ("--seeds", "3", "--repeats", "1")
TARGET = ("--models", "fast", "--num-hiddens", "128", "--target", "7", *SEEDS)
COMPARISONS = {
    "speed": ("--models", ",".join(VARIANTS), "--vary", "threads=1,2", "--repeats", "7"),
    "curves": (*CURVES, "500"),
    "curves-story": (*CURVES, "250", "--corpus", "tide-clock"),
    "sizes-32": (*SIZES, "--batch-size", "32"),
    "sizes-128": (*SIZES, "--batch-size", "128"),
    "target-rnn": TARGET,
    "target-lstm": (*TARGET, "--cell", "lstm"),
}


def newest_python() -> str:
    """The newest Python that this machine has and the project supports."""
    for version in ("3.13", "3.12", "3.11"):
        if path := shutil.which(f"python{version}"):
            done = subprocess.run([path, "--version"], capture_output=True, text=True)
            if done.stdout.startswith(f"Python {version}."):
                return version
    return "3.10"


def run_tests(session: nox.Session, extras: str, *options: str) -> None:
    """Install the project with these extras, and run tests in two processes."""
    session.install("-e", f".[{extras},test]")
    # Some tests take much longer than others: a process that has none left takes the other's.
    processes = ("-n", "2", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *processes, *options, env=ENVIRONMENT)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types, and the workflow of continuous integration."""
    session.install("-e", ".", "ruff", "mypy", "types-requests", "check-jsonschema", "zizmor")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    beside_them = (f"notebooks/{name}.py" for name in ("drawings", "grading", "lesson"))
    session.run("mypy", "rnn_scratch", "notebooks/make", *beside_them)
    # Its keys, and what an attacker could use. The linter actionlint would also check expressions,
    # but pip cannot install it where only packages can be downloaded.
    workflow = ".github/workflows/ci.yml"
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow)
    session.run("zizmor", "--offline", "--quiet", workflow)


@nox.session(name="all")
def all_backends(session: nox.Session) -> None:
    """All backends that are available on this platform, in one environment."""
    run_tests(session, "all", *session.posargs)


@nox.session(python=newest_python())
def numpy(session: nox.Session) -> None:
    """The core and the NumPy backend on the newest Python, with no framework installed."""
    run_tests(session, "workers", "--backends", "numpy", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """PyTorch alone, on the newest NumPy."""
    run_tests(session, "torch", "--backends", "numpy,torch", *session.posargs)


@nox.session
def tensorflow(session: nox.Session) -> None:
    """TensorFlow alone, on the newest NumPy that it works with."""
    run_tests(session, "tensorflow", "--backends", "numpy,tensorflow", *session.posargs)


@nox.session
def mxnet(session: nox.Session) -> None:
    """MXNet alone, on NumPy 1.26."""
    run_tests(session, "mxnet", "--backends", "numpy,mxnet", *session.posargs)


@nox.session(python=newest_python())
def jax(session: nox.Session) -> None:
    """JAX alone, the newest on the newest Python, with the newest NumPy."""
    run_tests(session, "jax", "--backends", "numpy,jax", *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """NumPy and PyTorch on the lowest versions that pyproject.toml names of what runs."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    lowest = [each.replace(">=", "==") for each in (*project["dependencies"], *extras["torch"])]
    session.install("-e", ".", *lowest, *extras["test"])
    options = ("-n", "2", "--dist", "worksteal", "--backends", "numpy,torch", *session.posargs)
    session.run("python", "-m", "pytest", *options, env=ENVIRONMENT)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Tests that `all` runs with some backends only: of the core, and of frameworks' own layers."""
    run_tests(session, "all", "-m", "frameworks", *session.posargs)


@nox.session
def sabotages(session: nox.Session) -> None:
    """Mistakes in each function of all backends, which the check must detect and name."""
    run_tests(session, "all", "-m", "sabotages", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kills at random moments, damages at random places: many of each.

    The campaign's record: tests/runs/test_campaign.py --record notebooks/records/faults.json -n 0
    """
    run_tests(session, "all", "-m", "faults", *session.posargs)


@nox.session
def team(session: nox.Session) -> None:
    """Several workers of each backend: launchers, kills, signals, and mistakes in workers' code."""
    run_tests(session, "all", "-m", "team", *session.posargs)


@nox.session
def arm(session: nox.Session) -> None:
    """Exact mode on ARM, emulated, beside this machine; it makes the record that a page quotes."""
    session.install("-e", ".[torch,jax]")
    session.run("python", "-m", "measure", "arm", "notebooks/records/arm.json", env=TOOLS)


@nox.session
def benchmark(session: nox.Session) -> None:
    """A small comparison of all backends, with one thread and with two; it leaves its record."""
    session.install("-e", ".[all]")
    session.run(
        "rnn-scratch",
        "compare",
        "--models",
        ",".join(VARIANTS),
        "--epochs",
        "2",
        "--repeats",
        "3",
        "--vary",
        "threads=1,2",
        *session.posargs,
    )


@nox.session
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel, and use the wheel in a new environment, outside the clone."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        tracked = session.run(
            "git", "ls-files", "rnn_scratch", "backends", external=True, silent=True
        )
        expected = {re.sub("^backends", "rnn_scratch/backends", line) for line in tracked.split()}
        with zipfile.ZipFile(wheel) as packed, tarfile.open(sdist) as source:
            if missing := expected - set(packed.namelist()):
                session.error(f"The wheel lacks {', '.join(sorted(missing))}.")
            if tests := [name for name in source.getnames() if "/tests/" in name]:
                session.error(f"The sdist has {len(tests)} of the tests, which need the rest.")
        session.run("python", "-m", "venv", f"{folder}/venv")
        scripts = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin")
        session.run(str(scripts / "python"), "-m", "pip", "install", str(wheel), external=True)
        Path(folder, "empty").mkdir()
        with session.chdir(Path(folder, "empty")):
            for words in (
                *("train --epochs 20", "predict last", "play last --no-browser", "check"),
                *("compare --epochs 1 --repeats 1", "show step", "standalone numpy"),
            ):
                session.run(str(scripts / "rnn-scratch"), *words.split(), external=True)


def build_site(session: nox.Session) -> None:
    """Write the site's pages, and build build/site from them; a warning is an error."""
    session.run("python", "-m", "make.site", env=TOOLS)
    shutil.rmtree("build/site", ignore_errors=True)
    strict = ("--fresh-env", "--fail-on-warning", "--keep-going", "--quiet")
    folders = ("--conf-dir", "notebooks/site", "--doctree-dir", "build/doctrees")
    session.run("python", "-m", "sphinx", *strict, *folders, "build/pages", "build/site")


@nox.session
def site(session: nox.Session) -> None:
    """Build the site and follow every link in it; with -- serve, serve it on this machine."""
    session.install("-e", ".[site,test]")
    build_site(session)
    options = [option for option in session.posargs if option != "serve"]
    session.run("python", "-m", "pytest", "tests/pages/built_site.py", *options)
    session.run("python", "-m", "pytest", "tests/pages/test_notebooks.py", "-k", "slide", *options)
    if "serve" in session.posargs:
        session.log("The site is at http://127.0.0.1:8000/ until Ctrl-C.")
        folder = ("--bind", "127.0.0.1", "--directory", "build/site")
        session.run("python", "-m", "http.server", "8000", *folder)


@nox.session
def browser(session: nox.Session) -> None:
    """Pages in a real browser: Chromium, or the one that `playwright install chromium` installs."""
    session.install("-e", ".[site,test]", "playwright", "axe-playwright-python")
    build_site(session)
    names = ("site", "play", "run", "train", "scratch", "slides")
    pages = [f"tests/pages/browser_{name}.py" for name in names]
    session.run("python", "-m", "pytest", *pages, *session.posargs, env=ENVIRONMENT)


@nox.session
def records(session: nox.Session) -> None:
    """Make the records that the README and the pages quote, in hours; or with -- NAME, these."""
    session.install("-e", ".[all]")

    def wanted(name: str) -> bool:
        return not session.posargs or name in session.posargs

    for name, options in filter(lambda item: wanted(item[0]), RECORDS.items()):
        folder = f"notebooks/records/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = ("train", "--corpus", "time-machine", "--threads", "1", "--run", folder)
        session.run("rnn-scratch", *command, *options.split())
        for file in Path(folder).glob("*.safetensors"):
            file.unlink()  # a megabyte that no page quotes
    for name, options in filter(lambda item: wanted(item[0]), COMPARISONS.items()):
        folder = f"notebooks/comparisons/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        corpus = () if "--corpus" in options else ("--corpus", "time-machine")
        command = ("compare", "--backends", ",".join(BACKENDS), *corpus, *options)
        session.run("rnn-scratch", *command, "--output", folder)
    if wanted("exact"):
        command = ("python", "-m", "measure", "certificate", "notebooks/records/exact.json")
        session.run(*command, env=TOOLS)
    for name in filter(
        wanted,
        (
            "digests",
            "exercises",
            "gates",
            "growth",
            "optimizations",
            "optimizers",
            "presets",
        ),
    ):
        command = ("python", "-m", "measure", name, f"notebooks/records/{name}.json")
        session.run(*command, env=TOOLS)
    for name in filter(wanted, ("workers", "workers-exact")):  # two parts of one record
        command = ("python", "-m", "measure", "engines", "notebooks/records/workers.json", name)
        session.run(*command, env=TOOLS)
    session.run("python", "-m", "make.readme", env=TOOLS)


# Notebooks with two backends in them, and the frameworks of these; NumPy is always there.
TOGETHER = {"side_by_side": "torch,tensorflow,", "comparison": "torch,"}


@nox.session
@nox.parametrize("which", [nox.param(name, id=name) for name in (*BACKENDS, *TOGETHER)])
def notebooks(session: nox.Session, which: str) -> None:
    """Make the notebooks of one framework, or one with two, with only these installed."""
    frameworks = {"numpy": "workers,", **TOGETHER}.get(which, f"{which},")
    session.install("-e", f".[{frameworks}notebooks]")
    lessons = ("build", "gates", "learn", "fast")
    parts = [f"{lesson}{end}" for lesson in lessons for end in ("", "-student")]
    names = [which] if which in TOGETHER else [f"{which}-{part}" for part in parts]
    session.run("python", "-m", "make.notebooks", *names, env=TOOLS)


@nox.session
def slides(session: nox.Session) -> None:
    """Slides of the lessons, from their notebooks, in build/slides; or with -- NAME, these."""
    session.install("-e", ".[site]")
    session.run("python", "-m", "make.slides", *session.posargs, env=TOOLS)


@nox.session
def play(session: nox.Session) -> None:
    """Train the networks of the site's page to play with; with -- RUN, but the preset's run."""
    session.install("-e", ".[torch]")
    session.run("python", "-m", "make.play", *session.posargs, env={**ENVIRONMENT, **TOOLS})


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def student(session: nox.Session, backend: str) -> None:
    """A student's path from a clean clone: write the functions, be graded, train, edit a line."""
    clone = Path(session.create_tmp(), "clone")
    shutil.rmtree(clone, ignore_errors=True)
    session.run("git", "clone", "--quiet", str(Path.cwd()), str(clone), external=True)
    session.chdir(clone)
    framework = "workers" if backend == "numpy" else backend
    options = ("-m", "student", "--backends", backend, *session.posargs)
    session.install("nbgrader", "nbconvert")
    run_tests(session, f"{framework},notebooks", *options)


@nox.session(venv_backend="none")
def everything(session: nox.Session) -> None:
    """The tests that `nox` alone runs, and those of the sessions besides it, one after another."""
    for name in (
        *("lint", "all", "lowest", "frameworks", "sabotages", "faults", "team"),
        *("site", "browser", "wheel"),
        *(f"student({backend})" for backend in BACKENDS),
        *(f"notebooks({name})" for name in (*BACKENDS, *TOGETHER)),
        *(("arm",) if shutil.which("qemu-aarch64") else ()),
    ):
        session.notify(name)
