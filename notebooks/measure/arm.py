"""Exact mode on two processor architectures: `nox -s arm`, on Debian or Ubuntu.

Each case trains here and on ARM, in exact mode and in ordinary float64, and FILE gets the digests
of the parameters side by side. ARM is QEMU's, which runs one program of another architecture; the
system's arm64 packages and the libraries' wheels for it go to a temporary folder. Nothing is
installed, and nothing needs root but QEMU itself. It takes half an hour.
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

QEMU = "qemu-aarch64"
# One without SVE: with QEMU's emulation of these instructions (-cpu max) products are wrong.
PROCESSOR = "neoverse-n1"
MIRRORS = {"debian": "deb.debian.org/debian", "ubuntu": "ports.ubuntu.com/ubuntu-ports"}
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
PLATFORMS = [f"manylinux{name}_aarch64" for name in ("_2_28", "_2_27", "_2_17", "2014")]
# PyTorch's newer wheels need a GPU's libraries, gigabytes of them.
TORCH = ("torch<2.11", "typing_extensions", "sympy", "mpmath", "networkx", "fsspec", "setuptools")
ANSWER = "import sys; from measure import arm; arm.answer(sys.argv[1])"
MODES = {"exact": {"exact": True}, "ordinary": {"dtype": "float64"}}
COMMON = {"corpus": "tide-clock", "sigma": 0.1, "threads": 1}
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
    """Return the cases of one backend."""
    return [case for case in CASES if case[0] == backend]


def train(case, mode):
    """Train a case in one of the modes, without keeping the folder; return the run."""
    backend, model, cell, units, epochs = case
    settings = {"cell": cell, "num_hiddens": units, "num_epochs": epochs, **COMMON, **MODES[mode]}
    with tempfile.TemporaryDirectory() as folder:
        return rnn_scratch.train(backend, model=model, run=Path(folder, "run"), **settings)


def answer(backend):
    """Train a backend's cases here, and print the versions and digests of parameters as JSON."""
    runs = [{mode: train(case, mode) for mode in MODES} for case in cases(backend)]
    session = runs[-1]["exact"].record.sessions[-1]
    versions = {**msgspec.to_builtins(session.machine), **session.environment}
    digests = [{mode: exact.digest(trained[mode].arrays) for mode in MODES} for trained in runs]
    print(json.dumps({"versions": versions, "digests": digests}))


def run(*command, say=None, **options):
    """Run a command, and return what it writes; its failure ends this program."""
    if say:
        print(say, flush=True)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        sys.exit("\n".join([f"{command[0]} failed:", *lines[-10:]]))
    return done.stdout


def arm_python(folder, distribution):
    """Unpack this system's Python for ARM in the folder; return the command that runs it."""
    root, source = folder / "root", folder / "sources.list"
    site = MIRRORS[distribution["ID"]]
    key = f"/usr/share/keyrings/{distribution['ID']}-archive-keyring.gpg"
    suite = f"{distribution['VERSION_CODENAME']} main"
    source.write_text(f"deb [arch=arm64 signed-by={key}] http://{site} {suite}\n")
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    # Of folders of its own, as of a system of that architecture where nothing is installed.
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={source}", "-o", "APT::Architecture=arm64"]
    apt += ["-o", "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Architectures::=arm64"]
    apt += ["-o", f"Dir::State={folder}", "-o", f"Dir::State::status={folder / 'status'}"]
    apt += ["-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User=root"]
    apt += ["-o", "APT::Update::Error-Mode=any"]
    run(*apt, "update", say="Fetching Python for ARM")
    run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES)
    for package in (folder / "archives").glob("*.deb"):
        run("dpkg", "-x", package, root)
    for name in ("bin", "lib"):  # which a package of the base system links, when it is installed
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    return [QEMU, "-cpu", PROCESSOR, "-L", root, root / "usr/bin/python3"]


def libraries(folder, version):
    """Install the project and the libraries that its cases need for ARM; return their folder."""
    wheels, site = folder / "wheels", folder / "site"
    pip = [sys.executable, "-m", "pip"]
    fetch = [*pip, "download", "--only-binary=:all:", "--python-version", version, "-d", wheels]
    fetch += [option for name in PLATFORMS for option in ("--platform", name)]
    run(*fetch, ".[jax]", say="Fetching the libraries for ARM")
    shutil.rmtree("build/lib", ignore_errors=True)  # modules that are gone would be in the wheel
    run(*fetch, "--no-deps", *TORCH)
    run(*pip, "wheel", "--no-deps", "-w", wheels, ".")
    for wheel in wheels.glob("*.whl"):
        shutil.unpack_archive(wheel, site, "zip")
    return site


def main(file):
    """Train every case on both architectures, and write the record."""
    distribution = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    if distribution.get("ID") not in MIRRORS or platform.machine() != "x86_64":
        sys.exit("This needs Debian or Ubuntu on x86-64.")
    if not shutil.which(QEMU):
        sys.exit(f"This needs {QEMU}. Install it: sudo apt-get install qemu-user")
    record = {"emulator": run(QEMU, "--version").splitlines()[0], "processor": PROCESSOR}
    record |= {"settings": COMMON, "x86-64": {}, "ARM": {}, "cases": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = arm_python(folder, distribution)
        version = run(*python, "-c", "import platform; print(platform.python_version())")
        site = libraries(folder, version.strip())
        pythons = {"x86-64": ([sys.executable], []), "ARM": (python, [site])}
        for backend in dict.fromkeys(case[0] for case in CASES):
            digests = []
            for architecture, (command, site) in pythons.items():
                paths = os.pathsep.join(map(str, [Path(__file__).parents[1], *site]))
                environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "HOME": name}
                environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # emulated as well
                say = f"Training {backend} on {architecture}"
                output = run(*command, "-c", ANSWER, backend, say=say, env=environment, cwd=folder)
                answers = json.loads(output)
                record[architecture] |= answers["versions"]
                digests.append(answers["digests"])
            for case, ours, theirs in zip(cases(backend), *digests):
                both = {mode: {"x86-64": ours[mode], "ARM": theirs[mode]} for mode in MODES}
                record["cases"].append({**dict(zip(FIELDS, case)), **both})
                print(*case, *(" ".join(both[mode].values()) for mode in MODES), sep="  ")
            write(file, record)
    if any(len(set(case["exact"].values())) > 1 for case in record["cases"]):
        sys.exit("In exact mode the digests of the two architectures differ.")
