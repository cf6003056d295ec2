"""Backends by name: missing backends, failing backends, and backends from other packages."""

from pathlib import Path

import pytest
from helpers import SMALL, install_packages, options, run_subprocess

from rnn_scratch import registry

# Sources of packages to install with an entry point, as pip would. Some use objects in place of
# modules: the NumPy backend's modules with some functions replaced or missing.
FOREIGN = {
    "healthy": """
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import deep, exact, machine, scratch
        def devices(dtype):
            return ["npu", "cpu"]
        def versions():
            print("noise on stdout")
            return {"library": "1.2.3"}
        answer = {"devices": devices, "versions": versions}
        machine = SimpleNamespace(**{**vars(machine), **answer})
    """,
    "lacking": """
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import deep, exact, machine, scratch
        machine, scratch = SimpleNamespace(**vars(machine)), SimpleNamespace(**vars(scratch))
        del scratch.clip, scratch.predict, machine.tensor
    """,
    "segfault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "raise RuntimeError('no such driver')",
    "needy": "import a_module_that_nobody_has",
}


@pytest.fixture
def foreign(tmp_path):
    """Install the packages in FOREIGN and hide the frameworks; return the environment variables."""
    variables = install_packages(tmp_path / "site", FOREIGN)
    for name in registry.FRAMEWORKS:  # loading them would take several seconds
        source = f"raise ModuleNotFoundError(name={name!r})"
        (tmp_path / "site" / f"{name}.py").write_text(source)
    return variables


def test_backends_lists_crashing_backends(foreign):
    result = run_subprocess("backends", env=foreign).assert_exit(err="")
    head, *lines = result.out.splitlines()
    assert head.split("  ")[0].strip() == "backend"
    # A message's continuation lines have an empty first column.
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if not line.startswith("  ")}
    ours = [name for name in registry.BUILTIN_BACKENDS if name in rows]
    assert list(rows)[: len(ours)] == ours
    assert set(rows) >= {*registry.names(), *FOREIGN}
    assert rows["numpy"].startswith("numpy yes cpu numpy ")
    assert rows["healthy"] == "healthy yes npu, cpu library 1.2.3"
    for name, reason in {
        "torch": "The torch backend needs PyTorch, which is not installed.",
        "lacking": "lacks scratch.clip, scratch.predict, machine.tensor",
        "segfault": "killed by SIGSEGV",
        "raises": "The raises backend failed to load: RuntimeError: no such driver",
        "needy": "ModuleNotFoundError: No module named 'a_module_that_nobody_has'",
    }.items():
        assert rows[name].startswith(f"{name} no ")
        assert reason in rows[name]
    assert "rnn_scratch.contract specifies the functions" in result.out
    result = run_subprocess("train", "--backend", "raises", *options(**SMALL), env=foreign)
    result.assert_error("The raises backend failed to load: RuntimeError: no such driver")


# Program that prints which frameworks and download libraries lightweight commands import.
IMPORTED = """
import sys
from rnn_scratch import registry
from rnn_scratch.cli.main import main
from rnn_scratch.text import books
commands = [["--help"], ["train", "--help"], ["runs"], ["--version"]]
commands += [["show", "train_epoch"], ["show", "forward", "--diff", "mxnet", "mxnet:fast"]]
for arguments in commands:
    main(arguments)
registry.names()
modules = {"torch", "tensorflow", "keras", "mxnet", "jax", "flax", "rnn_scratch.backends.numpy"}
print({*modules, "requests", "urllib3", "platformdirs"} & set(sys.modules))
"""


def test_light_commands_import_no_framework():
    out = run_subprocess(program=("-c", IMPORTED)).out
    assert "--num-hiddens" in out
    assert "def train_epoch" in out
    assert out.endswith("set()\n")


NO_TORCH = """
import sys
sys.modules["torch"] = None  # an import raises ModuleNotFoundError
from rnn_scratch.cli.main import main
main()
"""


def test_train_uses_numpy_without_pytorch():
    small, program = options(**SMALL, num_epochs=1), ("-c", NO_TORCH)
    notice, first_line, *_ = (
        run_subprocess("train", *small, program=program).assert_exit(err="").out.splitlines()
    )
    assert notice.startswith("PyTorch is not installed, so training uses NumPy. To install it")
    assert "run in the clone's folder: pip install -e '.[torch]'" in notice
    assert first_line.startswith("numpy (scratch) on cpu")
    arguments = ("train", "--backend", "torch", "--corpus", "not-read")
    result = run_subprocess(*arguments, program=program)
    result.assert_error("PyTorch, which is not installed", "pip install -e '.[torch]'")


# Program that prints the file of a core module and of a backend, here and in a child process.
FILES = """
from rnn_scratch import registry
from rnn_scratch.system import processes
print(registry.__file__, registry.load("numpy").scratch.__file__)
print(*processes.ask(eval, "[__import__('rnn_scratch.registry').__file__]", timeout=60))
"""


def test_clone_uses_its_own_code(copy, monkeypatch):
    for path, folder in ((str(copy), Path()), ("", copy)):
        monkeypatch.setenv("PYTHONPATH", path)
        result = run_subprocess(program=("-c", FILES), cwd=folder).assert_exit()
        assert all(file.startswith(str(copy)) for file in result.out.split()), result.out


def test_import_works_in_the_folder_of_the_backends(copy):
    program = ("-c", "import rnn_scratch, numpy; print(rnn_scratch.train, numpy.ndarray)")
    run_subprocess(program=program, cwd=copy / "backends").assert_exit()
