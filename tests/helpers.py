"""Test helpers: settings for small runs, and commands run in this or a separate process."""

import contextlib
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
import safetensors.numpy

from rnn_scratch import registry
from rnn_scratch.cli.main import main
from rnn_scratch.contract import VARIANTS, ModelConfig
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.run_folder import Epoch
from rnn_scratch.settings import option_name
from rnn_scratch.system import files

CLONE = Path(__file__).parent.parent
SITE = CLONE / "build" / "site"
RECORDS = CLONE / "notebooks" / "records"
COMPARISONS = CLONE / "notebooks" / "comparisons"
# Settings for a run that finishes in tens of milliseconds.
SETTINGS = {"num_hiddens": 12, "num_steps": 6, "batch_size": 4, "max_tokens": 400}
SMALL = {"corpus": "tide-clock", **SETTINGS}

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")


def options(**settings):
    """Convert settings to command-line arguments."""
    pairs = ((option_name(name), str(value)) for name, value in settings.items())
    return [argument for pair in pairs for argument in pair]


class CommandResult(NamedTuple):
    """Exit code, stdout and stderr of a finished command."""

    code: int
    out: str
    err: str

    def assert_exit(self, code=0, err=None):
        """Check the exit code and, if `err` is given, stderr; return self."""
        assert self.code == code, (self.out, self.err)
        assert "Traceback" not in (self.err or "")
        assert err is None or self.err.strip() == err.strip(), self.err
        return self

    def assert_error(self, *expected_messages):
        """Check that the exit code is 2 and that the error contains all `expected_messages`."""
        self.assert_exit(2)
        *_, message = re.split("^Error: ", self.err, flags=re.MULTILINE)
        for message_part in expected_messages:
            assert message_part in message, (message_part, self.err)


def variants(name):
    """Return the variants that a backend supports; third-party backends may have only `scratch`."""
    supported, options = [], ModelConfig(3, 2)
    for model in VARIANTS:
        try:
            registry.build(registry.load(name), model, draw_parameters(options, 0.1, 0), options)
            supported.append(model)
        except registry.NotSupportedError:
            pass
    return supported


def require_tested(backend_names, *required):
    """Skip the test if a required backend is not selected for testing."""
    if missing := set(required) - set(backend_names):
        pytest.skip(f"not tested: {', '.join(sorted(missing))}")


def require_any(backend_names, builtin_names):
    """Return the backends in `builtin_names` or in other packages; skip the test if none are."""
    others = set(backend_names) - set(registry.BUILTIN_BACKENDS)
    names = [name for name in backend_names if name in {*builtin_names, *others}]
    if not names:
        pytest.skip(f"not tested: {', '.join(sorted(builtin_names))}")
    return names


def require_cell(backend_name, cell):
    """Skip the test if a backend of another package does not have the cell."""
    is_builtin = backend_name in registry.BUILTIN_BACKENDS
    if not is_builtin and cell not in registry.load(backend_name).scratch.CELLS:
        pytest.skip(f"unsupported: the cell {cell}")


def exit_code(*arguments):
    """Run a command in this process; return its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code
    return 0


def run_in_process(capsys, *arguments):
    capsys.readouterr()
    return CommandResult(exit_code(*arguments), *capsys.readouterr())


def raised_message(function, *arguments, **kwargs):
    """Return the message of the RNNScratchError that a call raises."""
    with pytest.raises(RNNScratchError) as raised:
        function(*arguments, **kwargs)
    return str(raised.value)


def environment(**variables):
    """Return os.environ plus `variables`, minus the variables that simulate a terminal."""
    rest = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return {**rest, **{name: str(value) for name, value in variables.items()}}


def python_path(*folders):
    """Return a dict that sets PYTHONPATH to `folders` followed by the current entries."""
    folders = (*folders, os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def install_packages(folder, sources):
    """Install backends as packages in `folder`, like pip; return a dict that sets PYTHONPATH."""
    for name, source in sources.items():
        package, info = folder / f"{name}_rnn", folder / f"{name}_rnn-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-rnn\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rnn_scratch.backends]\n{name} = {name}_rnn\n")
    return python_path(folder)


def skip_without(backend, device, dtype):
    """Skip the test if the device does not support `dtype`; MPS, for example, lacks float64."""
    if device not in backend.machine.devices(dtype):
        pytest.skip(f"{device} does not support {dtype}")


class Process(subprocess.Popen):
    """A process that is killed, along with its children, if the test fails or times out."""

    def __exit__(self, kind, *error):
        if kind and self.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.pid).children(recursive=True):
                    child.kill()
            self.kill()
        super().__exit__(kind, *error)


def start(*arguments, program=("-m", "rnn_scratch"), prefix=(), env=None, **kwargs):
    """Start a command in a separate process; return the process without waiting."""
    return Process(
        [*prefix, sys.executable, *program, *map(str, arguments)],
        env=environment(**{"PYTHONIOENCODING": "utf-8", **(env or {})}),
        text=True,
        encoding="utf-8",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs},
    )


# Program that saves a checkpoint after every chunk, regardless of how long saving takes.
SAVING = """
from rnn_scratch.cli.main import main
from rnn_scratch.runs import run_writer
run_writer.CHECKPOINT_TIME_FRACTION = 1e9
main()
"""


# Program that runs several commands but pays for the slow framework import only once.
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


def in_one_process(*commands, **kwargs):
    """Run commands one after another in a separate process; return their outputs."""
    commands = [[str(argument) for argument in command] for command in commands]
    result = run_subprocess(json.dumps(commands), program=("-c", COMMANDS), **kwargs).assert_exit()
    return result.out.split("\f")[:-1]


def run_subprocess(*arguments, **kwargs):
    """Run a command, or the given `program`, in a separate process; return its result."""
    return finish(start(*arguments, **kwargs))


def finish(process):
    with process:
        out, err = process.communicate()
        return CommandResult(process.returncode, out, err)


def is_running(pid):
    """Return whether a process has a running thread; even a zombie may have one."""
    try:
        process = psutil.Process(int(pid))
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, process=None):
    """Wait until `condition` returns true; fail if the process exits first."""
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def history_lines(folder):
    """Return the complete lines of a run's history."""
    path = Path(folder) / "history.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def wait_for_epochs(process, folder, num_epochs):
    """Wait until the history that a process writes to `folder` has `num_epochs` epochs."""
    wait_until(lambda: len(history_lines(folder)) >= num_epochs, process)
    assert process.poll() is None


def history(folder):
    """Return the rows of a run's history, parsed without the project's reader."""
    return [json.loads(line) for line in history_lines(folder)]


def history_without_times(folder):
    """Return a history's rows without their durations, which differ between runs."""
    return [{**row, "seconds": None} for row in history(folder)]


def parameters(run):
    return checkpoint.load(getattr(run, "folder", run)).arrays


def assert_same(actual, expected, tolerance=0):
    """Check that two sets of parameters are equal, either bit for bit or within a tolerance."""
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype
        if tolerance:
            np.testing.assert_allclose(actual[name], values, rtol=0, atol=tolerance, err_msg=name)
        else:
            difference = np.abs(actual[name] - values).max()
            assert actual[name].tobytes() == values.tobytes(), (name, difference)


def assert_same_run(run, expected):
    """Check that two runs have equal parameters (latest and best) and equal metrics."""
    folders = [getattr(run_or_folder, "folder", run_or_folder) for run_or_folder in (run, expected)]
    states = [checkpoint.load(folder) for folder in folders]
    assert_same(*(state.arrays for state in states))
    assert_same(*(state.best for state in states))
    assert history_without_times(folders[0]) == history_without_times(folders[1])


def safetensors_parts(path):
    """Return a safetensors file's header as a dict, and its tensor data as bytes."""
    data = path.read_bytes()
    length = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:length]), data[length:]


def write_safetensors(path, header, data):
    """Write a safetensors file and set the digest in its metadata.

    Args:
        path: File to write.
        header: Header as a dict; the digest is stored in its "__metadata__".
        data: Tensor bytes. Invalid contents are written without a digest.
    """
    metadata = header.get("__metadata__", {})
    for _ in range(2):
        text = json.dumps(header, separators=(",", ":")).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        with contextlib.suppress(Exception):  # invalid contents have no digest
            digest = hashlib.sha256(metadata["checkpoint"].encode())
            for name, values in sorted(safetensors.numpy.load(path.read_bytes()).items()):
                shape = values.shape or (1,)
                digest.update(f"\n{name} {values.dtype.name} {shape} ".encode() + values.tobytes())
            metadata["sha256"] = digest.hexdigest()


def hidden_files(folder):
    """Return the names of temporary files that an incomplete write left behind."""
    names = (path.name for path in Path(folder).iterdir())
    return [name for name in names if name.startswith(".") and name != files.LOCK]


def epoch_row(epoch, **fields):
    row = {"loss": 1.0, "perplexity": np.e, "valid_loss": None, "valid_perplexity": None}
    row |= {"tokens": 100, "seconds": 0.1, "backend": "numpy", "sample": None}
    return Epoch(epoch=epoch, **{**row, **fields})


EXTENDING = (CLONE / "notebooks" / "site" / "extending.md").read_text(encoding="utf-8")


def lion(name):
    """Return extending.md's source code for Lion, adapted to a backend as that page describes."""
    (source,) = re.findall(r"```python\n(@torch.no_grad.*?\n)```", EXTENDING, re.DOTALL)
    if name == "torch":
        return source
    module = {"tensorflow": "tf", "jax": "jnp"}.get(name, "np")
    source = source.replace("@torch.no_grad()\n", "").replace("torch.", f"{module}.")
    if name == "tensorflow":
        source = re.sub(r"(m\[name\]) = (.*)", r"\1.assign(\2)", source)
        source = re.sub(r"param -= (.*)", r"param.assign_sub(\1)", source)
    if name == "jax":
        source = source.replace("param -= ", "params[name] = param - ")
    return source
