"""Backends by name: those that are missing, break, crash, or come from another package."""

import importlib.util
import subprocess
import sys
import textwrap

import pytest
from helpers import SMALL, environment, here, options, other_packages, there

from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError

# Each is a package of its own, installed as pip would: an entry point in a .dist-info folder.
FOREIGN = {
    "healthy": """
        from rnn_scratch.backends.numpy import *
        def devices(dtype):
            return ["fast", "cpu"]
        def environment():
            print("noise on stdout")
            return {"healthy": "1.2.3"}
    """,
    "lacking": """
        from rnn_scratch.backends.numpy import *
        del clip, tensor, predict
    """,
    "segfault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exits": "import sys; sys.exit(3)",
    "vanishes": "import os; os._exit(0)",
    "raises": "raise RuntimeError('no such driver')",
    "needy": "import a_module_that_nobody_has",
    "breaks": """
        from rnn_scratch.backends.numpy import *
        def environment():
            raise OSError("the device has gone")
    """,
}


@pytest.fixture
def foreign(tmp_path):
    """An environment in which other packages bring backends."""
    return other_packages(tmp_path / "site", FOREIGN)


def test_ours_come_first_in_the_order_in_which_they_are_told():
    names = registry.names()
    ours = [name for name in registry.OURS if name in names]
    assert ours[:2] == ["numpy", "torch"]
    assert names[: len(ours)] == ours


def test_what_a_backend_says_of_itself(backend_name):
    found = registry.probe(backend_name)
    assert found["ready"], found
    assert found["environment"][backend_name]
    assert "cpu" in found["devices"]
    assert found["threads"] >= 1


def test_the_table_has_a_row_for_each_and_no_crash_takes_it_down(foreign):
    done = there("backends", env=foreign)
    assert (done.code, done.err) == (0, "")
    head, *rows = done.out.splitlines()
    assert head.split("  ")[0].strip() == "backend"
    told = {row.split()[0]: " ".join(row.split()) for row in rows if row.split()[0] != row.strip()}
    assert list(told)[:2] == ["numpy", "torch"]
    assert set(told) >= {*registry.names(), *FOREIGN}
    assert told["numpy"].startswith("numpy yes cpu numpy ")
    assert told["healthy"] == "healthy yes fast, cpu healthy 1.2.3"
    for name, reason in {
        "lacking": "lacks clip, predict, tensor",
        "segfault": "SIGSEGV",
        "exits": "SystemExit: 3",
        "vanishes": "without an answer",
        "raises": "RuntimeError: no such driver",
        "needy": "No module named 'a_module_that_nobody_has'",
        "breaks": "the device has gone",
    }.items():
        assert told[name].startswith(f"{name} no ")
        assert reason in told[name]


def test_a_backend_of_another_package_trains_by_its_name(foreign):
    settings = {**SMALL, "num_epochs": 2, "run": "r"}
    done = there("train", "--backend", "healthy", *options(**settings), env=foreign)
    assert (done.code, done.err) == (0, "")
    assert "healthy (scratch) on fast" in done.out
    wrote = there("predict", "r", "--prefix", "the ", env=foreign)
    same = there("predict", "r", "--prefix", "the ", "--backend", "numpy", env=foreign)
    assert wrote.out == same.out != ""
    there("predict", "r", "--prefix", "the ").refused("There is no backend 'healthy'", "numpy")


def test_a_run_goes_on_where_it_was_unless_told_otherwise(foreign):
    settings = {**SMALL, "num_epochs": 1, "run": "r", "backend": "healthy", "device": "cpu"}
    assert there("train", *options(**settings), env=foreign).code == 0
    for epochs, more, where in (
        (2, [], "healthy (scratch) on cpu"),
        (3, ["--device", "auto"], "healthy (scratch) on fast"),
        (4, ["--backend", "numpy"], "numpy (scratch) on cpu"),
        (5, ["--backend", "healthy"], "healthy (scratch) on fast"),
    ):
        done = there("train", "--resume", "r", "--epochs", epochs, *more, env=foreign)
        assert (done.code, done.err) == (0, "")
        assert where in done.out


@pytest.mark.parametrize(("name", "words"), [
    ("lacking", ["lacks clip, predict, tensor", "rnn_scratch.contract"]),
    ("raises", ["RuntimeError: no such driver"]),
    ("needy", ["No module named 'a_module_that_nobody_has'"]),
    ("exits", ["SystemExit: 3"]),
])  # fmt: skip
def test_a_backend_that_does_not_load(foreign, name, words):
    done = there("train", "--backend", name, *options(**SMALL), env=foreign)
    done.refused(f"The {name} backend", *words)


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
from rnn_scratch.cli import main as cli
cli.main(sys.argv[2:])
"""


@pytest.mark.parametrize("name", [n for n in registry.names() if n in registry.FRAMEWORKS])
def test_a_framework_that_is_not_installed(name):
    done = there(name, "train", "--backend", name, *options(**SMALL), program=("-c", WITHOUT))
    done.refused(
        f"The {name} backend needs {registry.FRAMEWORKS[name]}, which is not installed.",
        registry.install(name),
    )


def test_a_name_that_is_none():
    with pytest.raises(
        RNNScratchError, match=r"no backend 'pytorch'. Did you mean torch\?\n.*numpy"
    ):
        registry.load("pytorch")
    with pytest.raises(RNNScratchError, match=r"no backend 'xyz'.\nThe backends are: numpy"):
        registry.load("xyz")


def test_devices(backend):
    assert registry.choose_device(backend, "cpu", "float64") == "cpu"
    assert registry.choose_device(backend, "auto", "float32") == backend.devices("float32")[0]
    with pytest.raises(
        RNNScratchError, match=r"--device tpu was asked for; .* float32 here on: .*cpu"
    ):
        registry.choose_device(backend, "tpu", "float32")


def test_a_new_reader_of_the_core_needs_no_framework():
    program = textwrap.dedent("""
        import sys, io
        import rnn_scratch
        from rnn_scratch import registry
        from rnn_scratch.cli import main as cli
        for arguments in (["--help"], ["train", "--help"], ["runs"], ["--version"]):
            cli.main(arguments)
        registry.names()
        frameworks = {"torch", "tensorflow", "keras", "mxnet", "jax"} & set(sys.modules)
        assert not frameworks, frameworks
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--num-hiddens" in done.stdout


def missing():
    """Our backends whose framework this environment really lacks: none where all are installed."""
    return [name for name in registry.FRAMEWORKS if importlib.util.find_spec(name) is None]


def test_what_is_not_installed_is_told_with_the_line_that_installs_it(asked_backends):
    for name in missing():
        with pytest.raises(RNNScratchError, match="which is not installed") as told:
            registry.load(name)
        assert registry.install(name) in str(told.value)
        answer = registry.probe(name)
        assert not answer["ready"]
        assert registry.install(name) in answer["reason"]
    # And with it missing everything else works: the other tests are run in the same environment.
    assert not set(missing()) & set(asked_backends)


def test_check_without_names_leaves_out_what_is_missing(capsys):
    lacking = missing()
    if not lacking:
        pytest.skip("all frameworks are installed here")
    done = here(capsys, "check", "--exact", "--corpus", "tide-clock", "--num-hiddens", 8,
                "--epochs", 1)  # fmt: skip
    assert done.code == 0, done
    for name in lacking:
        assert f"{name} is left out" in done.out
