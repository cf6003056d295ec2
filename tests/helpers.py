"""What several tests do: small runs, and the command line here or in a process of its own."""

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_scratch.cli import main
from rnn_scratch.runs import checkpoint

# A run of these takes a few hundredths of a second.
SETTINGS = {"num_hiddens": 12, "num_steps": 6, "batch_size": 4, "max_tokens": 400}
SMALL = {"corpus": "tide-clock", **SETTINGS}


def options(**settings):
    """Settings as the command line takes them."""
    settings = {"epochs" if name == "num_epochs" else name: v for name, v in settings.items()}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in settings.items()]
    return [part for pair in pairs for part in pair]


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    def refused(self, *words):
        """Check that it ended with exit code 2 and an error that has these words."""
        assert self.code == 2, (self.out, self.err)
        assert "Traceback" not in self.err
        *_, message = re.split("^Error: ", self.err, flags=re.MULTILINE)
        for word in words:
            assert word in message, (word, self.err)


def here(capsys, *arguments):
    """Run a command in this process."""
    capsys.readouterr()
    code = 0
    try:
        main.main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = left.code
    return Done(code, *capsys.readouterr())


def environment(**more):
    """This process's environment, without what makes a pipe look like a terminal."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def other_packages(place, sources):
    """Backends in packages of their own, installed as pip would; what makes Python see them."""
    for name, source in sources.items():
        package, info = place / f"{name}_rnn", place / f"{name}_rnn-1.0.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-rnn\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rnn_scratch.backends]\n{name} = {name}_rnn\n")
    return {"PYTHONPATH": f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def start(*arguments, program=("-m", "rnn_scratch.cli"), env=None, **more):
    """A command in a process of its own, which goes on while the test does."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        env=environment(**{"PYTHONIOENCODING": "utf-8", **(env or {})}), text=True,
        encoding="utf-8", **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )  # fmt: skip


def there(*arguments, **more):
    """Run a command, or with `program` something else, in a process of its own."""
    with start(*arguments, **more) as process:
        out, err = process.communicate(timeout=300)
        return Done(process.returncode, out, err)


def lines(folder):
    """The lines of a run's history so far."""
    path = Path(folder) / "history.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def wait_for_epochs(process, folder, number):
    """Return when so many epochs are in the history of a run that still goes on."""
    deadline = time.monotonic() + 300  # against a hang, on however busy a machine
    while len(lines(folder)) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert process.poll() is None


def history(folder):
    """What an independent reader makes of the history."""
    return [json.loads(line) for line in lines(folder)]


def figures(folder):
    """The history without what is measured and not computed."""
    return [{**row, "seconds": None} for row in history(folder)]


def parameters(run):
    """The parameters in a run's checkpoint."""
    return checkpoint.load(checkpoint.find(getattr(run, "folder", run))).arrays


def assert_same(found, expected):
    """Two sets of parameters are the same to the last bit."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes(), (
            name, np.abs(found[name] - values).max(),
        )  # fmt: skip


def hidden_files(folder):
    """What a write that was not completed has left behind."""
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(".")]
