"""Backends by name: missing ones, ones that fail or crash, and those of other packages."""

import errno

import pytest
from helpers import SMALL, options, other_packages, there

from rnn_scratch import registry

# Each is a package of its own, installed as pip would: an entry point in a .dist-info folder.
# Objects take the place of modules, of which only the attributes count: NumPy's, with some
# functions replaced or missing.
FOREIGN = {
    "healthy": """
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import deep, machine, scratch
        def devices(dtype):
            return ["npu", "cpu"]
        def environment():
            print("noise on stdout")
            return {"library": "1.2.3"}
        answer = {"devices": devices, "environment": environment}
        machine = SimpleNamespace(**{**vars(machine), **answer})
    """,
    "lacking": """
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import deep, machine, scratch
        machine, scratch = SimpleNamespace(**vars(machine)), SimpleNamespace(**vars(scratch))
        del scratch.clip, scratch.predict, machine.tensor
    """,
    "no_machine": "from rnn_scratch.backends.numpy import deep, scratch",
    "own_words": """
        from rnn_scratch.contract import RNNScratchError
        raise RNNScratchError("Own Words needs its framework: pip install own-words")
    """,
    "segfault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exits": "import sys; sys.exit(3)",
    "raises": "raise RuntimeError('no such driver')",
    "needy": "import a_module_that_nobody_has",
    "breaks": """
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import deep, machine, scratch
        def environment():
            raise OSError("the device was removed")
        machine = SimpleNamespace(**{**vars(machine), "environment": environment})
    """,
}


@pytest.fixture
def foreign(tmp_path):
    """An environment in which other packages with backends are installed."""
    return other_packages(tmp_path / "site", FOREIGN)


def test_the_list_of_backends_survives_a_crash_of_any(foreign):
    done = there("backends", env=foreign).ended(err="")
    head, *lines = done.out.splitlines()
    assert head.split("  ")[0].strip() == "backend"
    # The second line of a message has nothing in the first column.
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if not line.startswith("  ")}
    ours = [name for name in registry.OURS if name in rows]
    assert list(rows)[: len(ours)] == ours
    assert set(rows) >= {*registry.names(), *FOREIGN}
    assert rows["numpy"].startswith("numpy yes cpu numpy ")
    assert rows["healthy"] == "healthy yes npu, cpu library 1.2.3"
    for name, reason in {
        "lacking": "lacks scratch.clip, scratch.predict, machine.tensor",
        "no_machine": "machine.devices, machine.set_threads",
        "own_words": "Own Words needs its framework: pip install own-words",
        "segfault": "killed by SIGSEGV",
        "exits": "The exits backend did not load: SystemExit: 3",
        "raises": "The raises backend did not load: RuntimeError: no such driver",
        "needy": "needs the Python module a_module_that_nobody_has",
        "breaks": "the device was removed",
    }.items():
        assert rows[name].startswith(f"{name} no ")
        assert reason in rows[name]
    for hint in ("rnn_scratch.contract specifies what", "see the documentation of needy_rnn"):
        assert hint in done.out
    done = there("train", "--backend", "raises", *options(**SMALL), env=foreign)
    done.refused("The raises backend did not load: RuntimeError: no such driver")


def test_a_core_and_backends_of_two_clones_are_refused(copy):
    (copy / "rnn_scratch" / "backends").unlink()  # where no clone has them
    small = options(**SMALL, num_epochs=1)
    for command in (("train", *small), ("check", "numpy"), ("show", "step", "--backends", "numpy")):
        done = there(*command, env={"PYTHONPATH": copy})
        done.refused(f"{copy / 'rnn_scratch'}, but its backends are in", "pip install -e .")


# No folder can be listed, as when a process has opened too many files.
LIMITED = """
import resource
from rnn_scratch import registry
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    registry.find("numpy")
except OSError as error:
    print(error.errno)
"""


def test_too_many_open_files_are_not_a_missing_backend():
    pytest.importorskip("resource")
    assert there(program=("-c", LIMITED)).ended(err="").out == f"{errno.EMFILE}\n"


# Without a command that computes, nothing of theirs is imported, nor what downloads a book.
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


def test_the_core_imports_no_framework():
    out = there(program=("-c", IMPORTED)).out
    assert "--num-hiddens" in out
    assert "def train_epoch" in out
    assert out.endswith("set()\n")


WITHOUT = """
import sys
from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError
for name in registry.FRAMEWORKS:
    sys.modules[name] = None  # as if it were not installed
    try:
        registry.load(name)
    except RNNScratchError as error:
        print(error)
"""


def test_frameworks_that_are_not_installed():
    assert there(program=("-c", WITHOUT)).out.splitlines() == [
        line
        for name, framework in registry.FRAMEWORKS.items()
        for line in (
            f"The {name} backend needs {framework}, which is not installed.",
            registry.how_to_install(name),
        )
    ]


NO_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from rnn_scratch.cli.main import main
main()
"""


def test_training_uses_numpy_where_pytorch_is_not_installed(copy):
    small, program = options(**SMALL, num_epochs=1), ("-c", NO_TORCH)
    said, begun, *_ = there("train", *small, program=program).ended(err="").out.splitlines()
    assert said.startswith("PyTorch is not installed, so training uses NumPy. Install it ")
    assert "in the folder of the clone: pip install -e '.[torch]'" in said
    assert begun.startswith("numpy (scratch) on cpu")
    done = there("train", "--backend", "torch", *small, program=program, env={"PYTHONPATH": copy})
    done.refused("PyTorch, which is not installed", "Install it: pip install 'rnn-scratch[torch]'")
