"""Compare exact mode on two processor architectures: `nox -s arm`, on Debian or Ubuntu.

Train every case on this machine and on ARM, in exact mode and in ordinary float64, and write the
parameter digests to a record. QEMU emulates ARM for individual programs; a temporary folder holds
the distribution's arm64 packages and the libraries' wheels. QEMU must be installed beforehand, as
root; nothing else is installed. The comparison takes half an hour.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

import rnn_scratch
from measure.measuring import write
from rnn_scratch import exact
from rnn_scratch.text import books

QEMU = "qemu-aarch64"
# Emulate a processor without SVE, because QEMU's SVE (-cpu max) computes wrong products.
PROCESSOR = "neoverse-n1"
MIRRORS = {"debian": "deb.debian.org/debian", "ubuntu": "ports.ubuntu.com/ubuntu-ports"}
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
PLATFORMS = [f"manylinux{name}_aarch64" for name in ("_2_28", "_2_27", "_2_17", "2014")]
# Avoid newer PyTorch wheels, which need gigabytes of GPU libraries.
TORCH = ("torch<2.11", "typing_extensions", "sympy", "mpmath", "networkx", "fsspec", "setuptools")
ANSWER = "import sys; from measure import arm; arm.answer(sys.argv[1])"
MODES = {"exact": {"exact": True}, "ordinary": {"dtype": "float64"}}
CHARACTERS = 31_511  # train only on the start of the built-in text
COMMON = {"sigma": 0.1, "threads": 1}
FIELDS = ("backend", "model", "cell", "num_hiddens", "num_epochs")
CASES = (
    ("numpy", "scratch", "rnn", 32, 2),
    ("numpy", "fast", "rnn", 32, 2),
    ("numpy", "scratch", "lstm", 32, 3),
    ("numpy", "scratch", "gru", 24, 3),
    ("numpy", "scratch", "rnn", 96, 4),
    ("torch", "scratch", "rnn", 32, 2),
    ("jax", "scratch", "rnn", 32, 2),
)


def cases(backend):
    """Return the cases that use this backend."""
    return [case for case in CASES if case[0] == backend]


def train(case, mode):
    """Train a case in `mode`, using a temporary folder; return the run."""
    backend, model, cell, units, epochs = case
    settings = {"cell": cell, "num_hiddens": units, "num_epochs": epochs, **COMMON, **MODES[mode]}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text(books.load(books.BUILT_IN).content[:CHARACTERS], encoding="utf-8")
        return rnn_scratch.train(
            backend, text=text, model=model, run=Path(folder, "run"), **settings
        )


def answer(backend):
    """Train a backend's cases in this process; print versions and parameter digests as JSON."""
    runs = [{mode: train(case, mode) for mode in MODES} for case in cases(backend)]
    session = runs[-1]["exact"].record.sessions[-1]
    versions = {**msgspec.to_builtins(session.machine), **session.environment}
    digests = [{mode: exact.digest(trained[mode].arrays) for mode in MODES} for trained in runs]
    print(json.dumps({"versions": versions, "digests": digests}))


def run(*command, log=None, **options):
    """Run a command and return its output; exit with a message if it fails."""
    if log:
        print(log, flush=True)
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()
        sys.exit("\n".join([f"{command[0]} failed:", *lines[-10:]]))
    return result.stdout


def arm_python(folder, distribution):
    """Unpack this distribution's Python for ARM into `folder`; return the command that runs it."""
    root, source = folder / "root", folder / "sources.list"
    site = MIRRORS[distribution["ID"]]
    key = f"/usr/share/keyrings/{distribution['ID']}-archive-keyring.gpg"
    suite = f"{distribution['VERSION_CODENAME']} main"
    source.write_text(f"deb [arch=arm64 signed-by={key}] http://{site} {suite}\n")
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    # Make apt treat `folder` as the state of an arm64 system with no installed packages.
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={source}", "-o", "APT::Architecture=arm64"]
    apt += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Architectures::=arm64"]
    apt += ["-o", f"Dir::State={folder}", "-o", f"Dir::State::status={folder / 'status'}"]
    apt += ["-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User=root"]
    apt += ["-o", "APT::Update::Error-Mode=any"]
    run(*apt, "update", log="Fetching Python for ARM")
    run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES)
    for package in (folder / "archives").glob("*.deb"):
        run("dpkg", "-x", package, root)
    for name in ("bin", "lib"):  # symlinks that a full base system provides
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    return [QEMU, "-cpu", PROCESSOR, "-L", root, root / "usr/bin/python3"]


def unpack_libraries(folder, version):
    """Unpack the project and the cases' libraries for ARM into `folder`; return the import path."""
    wheels, site = folder / "wheels", folder / "site"
    pip = [sys.executable, "-m", "pip"]
    fetch = [*pip, "download", "--only-binary=:all:", "--python-version", version, "-d", wheels]
    fetch += [option for name in PLATFORMS for option in ("--platform", name)]
    run(*fetch, ".[jax]", log="Fetching the libraries for ARM")
    shutil.rmtree("build/lib", ignore_errors=True)  # it may contain deleted modules
    run(*fetch, "--no-deps", *TORCH)
    run(*pip, "wheel", "--no-deps", "-w", wheels, ".")
    for wheel in wheels.glob("*.whl"):
        shutil.unpack_archive(wheel, site, "zip")
    return site


def main(file):
    """Train every case on both architectures and write the record to `file`."""
    distribution = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    if distribution.get("ID") not in MIRRORS or platform.machine() != "x86_64":
        sys.exit("This program requires Debian or Ubuntu on x86-64.")
    if not shutil.which(QEMU):
        sys.exit(f"{QEMU} is not installed. Install it: sudo apt-get install qemu-user")
    record = {"emulator": run(QEMU, "--version").splitlines()[0], "processor": PROCESSOR}
    record |= {"settings": COMMON, "x86-64": {}, "ARM": {}, "cases": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = arm_python(folder, distribution)
        version = run(*python, "-c", "import platform; print(platform.python_version())")
        site = unpack_libraries(folder, version.strip())
        pythons = {"x86-64": ([sys.executable], []), "ARM": (python, [site])}
        for backend in dict.fromkeys(case[0] for case in CASES):
            digests = []
            for architecture, (command, site) in pythons.items():
                paths = os.pathsep.join(map(str, [Path(__file__).parents[1], *site]))
                environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "HOME": name}
                environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # emulation is slow
                log = f"Training {backend} on {architecture}"
                output = run(*command, "-c", ANSWER, backend, log=log, env=environment, cwd=folder)
                results = json.loads(output)
                record[architecture] |= results["versions"]
                digests.append(results["digests"])
            for case, x86, arm in zip(cases(backend), *digests):
                pairs = {mode: {"x86-64": x86[mode], "ARM": arm[mode]} for mode in MODES}
                record["cases"].append({**dict(zip(FIELDS, case)), **pairs})
                print(*case, *(" ".join(pairs[mode].values()) for mode in MODES), sep="  ")
            write(file, record)
    if any(len(set(case["exact"].values())) > 1 for case in record["cases"]):
        sys.exit("The digests of the two architectures differ in exact mode.")
