"""Functions that several tests share: small runs, and the command line, here or in a process."""

import contextlib
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
import safetensors.numpy

from rnn_scratch import registry
from rnn_scratch.cli.main import main
from rnn_scratch.contract import VARIANTS, Options
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.parameters import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.run_folder import Epoch
from rnn_scratch.settings import option_of
from rnn_scratch.system import locks

CLONE = Path(__file__).parent.parent
SITE = CLONE / "build" / "site"
RECORDS = CLONE / "notebooks" / "records"
COMPARISONS = CLONE / "notebooks" / "comparisons"
TEST_FILES = {path.stem: path for path in (CLONE / "tests").rglob("test_*.py")}
# A run of these takes a few hundredths of a second.
SETTINGS = {"num_hiddens": 12, "num_steps": 6, "batch_size": 4, "max_tokens": 400}
SMALL = {"corpus": "tide-clock", **SETTINGS}

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def options(**settings):
    """Settings as the command line takes them."""
    return [word for name, value in settings.items() for word in (option_of(name), str(value))]


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    def ended(self, code=0, err=None):
        """Check that it ended with this exit code, and perhaps this on stderr; returns itself."""
        assert self.code == code, (self.out, self.err)
        assert "Traceback" not in (self.err or "")
        assert err is None or self.err.strip() == err.strip(), self.err
        return self

    def refused(self, *words):
        """Check that it ended with exit code 2 and an error that contains these words."""
        self.ended(2)
        *_, message = re.split("^Error: ", self.err, flags=re.MULTILINE)
        for word in words:
            assert word in message, (word, self.err)


def variants(name):
    """The variants that a backend offers; one of another package may have the plain one only."""
    offered, options = [], Options(3, 2)
    for model in VARIANTS:
        try:
            registry.build(name, registry.load(name), model, initial(options, 0.1, 0), options)
            offered.append(model)
        except registry.NotOffered:
            pass
    return offered


def require_tested(backend_names, *needed):
    """Skip a test if one of these backends is not tested."""
    if missing := set(needed) - set(backend_names):
        pytest.skip(f"not tested: {', '.join(sorted(missing))}")


def has_engine(name):
    """Whether workers of this backend can exchange here: those of NumPy and MXNet need an MPI."""
    with contextlib.suppress(RNNScratchError):
        return name not in ("numpy", "mxnet") or bool(registry.load("numpy").workers.engine())
    return False


def require_engine(name):
    """Skip a test where workers of this backend cannot exchange."""
    if name not in registry.OURS or not has_engine(name):
        pytest.skip(f"{name} has no engine for workers here; MPI is pip install -e '.[workers]'")


def exit_code(*arguments):
    """Run a command in this process, and return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code
    return 0


def here(capsys, *arguments):
    capsys.readouterr()
    return Done(exit_code(*arguments), *capsys.readouterr())


def error_of(function, *arguments, **named):
    """The message of the error for the user that a call raises."""
    with pytest.raises(RNNScratchError) as raised:
        function(*arguments, **named)
    return str(raised.value)


def environment(**more):
    """This process's environment, without variables that make a pipe look like a terminal."""
    rest = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return {**rest, **{name: str(value) for name, value in more.items()}}


def python_path(*folders):
    """The environment in which Python finds modules in these folders, too."""
    folders = (*folders, os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def other_packages(folder, sources):
    """Install backends as packages of their own, as pip would; returns the environment for them."""
    for name, source in sources.items():
        package, info = folder / f"{name}_rnn", folder / f"{name}_rnn-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-rnn\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rnn_scratch.backends]\n{name} = {name}_rnn\n")
    return python_path(folder)


def skip_without(backend, device, dtype):
    """Skip a test where the device cannot compute in this dtype: MPS has no float64."""
    if device not in backend.machine.devices(dtype):
        pytest.skip(f"{device} has no {dtype}")


class Process(subprocess.Popen):
    """A process that an error in the test, such as its timeout, ends with all it has started."""

    def __exit__(self, kind, *error):
        if kind and self.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.pid).children(recursive=True):
                    child.kill()
            self.kill()
        super().__exit__(kind, *error)


def start(*arguments, program=("-m", "rnn_scratch"), prefix=(), env=None, **more):
    """Start a command in a process of its own, and return while it runs."""
    return Process(
        [*prefix, sys.executable, *program, *map(str, arguments)],
        env=environment(**{"PYTHONIOENCODING": "utf-8", **(env or {})}),
        text=True,
        encoding="utf-8",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


def parallel(calls):
    """The results of these calls in threads of their own, or their errors."""
    results = [None] * len(calls)

    def run(number, call):
        try:
            results[number] = call()
        except RNNScratchError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=call) for call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


# A training that saves a checkpoint after every part of it, however much of the time that takes.
SAVING = """
from rnn_scratch.cli.main import main
from rnn_scratch.runs import sessions
sessions.SHARE = 1e9
main()
"""


# A limit on the size of files simulates a full disk; the history is the first file to reach it.
LIMITED = """
import resource, sys
from rnn_scratch.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


# Several commands in one process: a framework's import takes longer than these trainings.
COMMANDS = """
import json, sys
from rnn_scratch.cli.main import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as error:
        assert not error.code, command
    print(end="\f")
"""


def in_one_process(*commands, **more):
    """The outputs of commands that run one after another in a process of their own."""
    words = [[str(word) for word in command] for command in commands]
    done = there(json.dumps(words), program=("-c", COMMANDS), **more).ended(err="")
    return done.out.split("\f")[:-1]


def there(*arguments, **more):
    """Run a command, or with `program` something else, in a process of its own."""
    return finish(start(*arguments, **more))


def finish(process):
    with process:
        out, err = process.communicate()
        return Done(process.returncode, out, err)


def is_running(pid):
    """Whether a process runs; one that has ended may still have its number."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, process=None):
    """Return when a condition holds, before a process ends; a test's timeout is against a hang."""
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def lines(folder):
    """The lines of a run's history so far."""
    path = Path(folder) / "history.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def wait_for_epochs(process, folder, number):
    """Return when the history of a running training has this number of epochs."""
    wait_until(lambda: len(lines(folder)) >= number, process)
    assert process.poll() is None


def history(folder):
    """The rows of a run's history, read without the project's own reader."""
    return [json.loads(line) for line in lines(folder)]


def figures(folder):
    """The history without the times, which are measured and not computed."""
    return [{**row, "seconds": None} for row in history(folder)]


def parameters(run):
    return checkpoint.load(getattr(run, "folder", run)).arrays


def assert_same(actual, expected, tolerance=0):
    """Check that two sets of parameters are equal to the last bit, or within a tolerance."""
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype
        if tolerance:
            np.testing.assert_allclose(actual[name], values, rtol=0, atol=tolerance, err_msg=name)
        else:
            difference = np.abs(actual[name] - values).max()
            assert actual[name].tobytes() == values.tobytes(), (name, difference)


def assert_same_run(run, expected):
    """Check that two runs have equal parameters, the latest and the best, and equal figures."""
    folders = [getattr(each, "folder", each) for each in (run, expected)]
    states = [checkpoint.load(folder) for folder in folders]
    assert_same(*(state.arrays for state in states))
    assert_same(*(state.best for state in states))
    assert figures(folders[0]) == figures(folders[1])


def safetensors_parts(path):
    """The header of a safetensors file, and the numbers after it."""
    data = path.read_bytes()
    length = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:length]), data[length:]


def put_together(path, header, numbers):
    """Write the file, with the digest that belongs to it, as a program that is ours would."""
    metadata = header.get("__metadata__", {})
    for _ in range(2):
        text = json.dumps(header, separators=(",", ":")).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + numbers)
        with contextlib.suppress(Exception):  # what the format does not allow has no digest
            digest = hashlib.sha256(metadata["checkpoint"].encode())
            for name, values in sorted(safetensors.numpy.load(path.read_bytes()).items()):
                shape = values.shape or (1,)
                digest.update(f"\n{name} {values.dtype.name} {shape} ".encode() + values.tobytes())
            metadata["sha256"] = digest.hexdigest()


# What is no file, or has no end, in place of a file. Windows has none of these.
ENDLESS = {}
if sys.platform != "win32":
    ENDLESS = {
        "a pipe": os.mkfifo,
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a sparse file": lambda path: (path.touch(), os.truncate(path, 10**11)),
    }


def hidden_files(folder):
    """Temporary files that an incomplete write has left behind."""
    names = (path.name for path in Path(folder).iterdir())
    return [name for name in names if name.startswith(".") and name != locks.LOCK]


def epoch_row(number, **fields):
    row = {"loss": 1.0, "perplexity": np.e, "valid_loss": None, "valid_perplexity": None}
    row |= {"tokens": 100, "seconds": 0.1, "backend": "numpy", "sample": None}
    return Epoch(epoch=number, **{**row, **fields})


CONTRIBUTING = (CLONE / "notebooks" / "site" / "contributing.md").read_text(encoding="utf-8")


def lion(name):
    """The optimizer of the page for contributors, with what it says to change for this backend."""
    (source,) = re.findall(r"```python\n(@torch.no_grad.*?\n)```", CONTRIBUTING, re.DOTALL)
    if name == "torch":
        return source
    source = source.replace("@torch.no_grad()\n", "")
    source = source.replace("torch.", f"{({'tensorflow': 'tf', 'jax': 'jnp'}).get(name, 'np')}.")
    if name == "tensorflow":
        source = re.sub(r"(m_of\[name\]) = (.*)", r"\1.assign(\2)", source)
        source = re.sub(r"param -= (.*)", r"param.assign_sub(\1)", source)
    if name == "jax":
        product = r"how\.beta\d \* m_of\[name\]|\(1 - how\.beta\d\) \* grad|how\.w\w+ \* param"
        source = re.sub(product, r"apart(\g<0>)", source)
        source = source.replace("param -= ", "model.params[name] = param - ")
    if name == "mxnet":
        source = source.replace("    m_of =", "    how = numbers(how, model.options)\n    m_of =")
    return source
