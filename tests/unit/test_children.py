"""Child processes that fail or hang cause an error that states the reason."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers import (
    CLONE,
    SMALL,
    is_running,
    options,
    python_path,
    raised_message,
    run_subprocess,
    start,
    wait_until,
)

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.errors import NotSupportedError, RNNScratchError
from rnn_scratch.system import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the children are shell scripts")

# Environment in which a child process can import this module.
ENVIRONMENT = python_path(Path(__file__).parent, CLONE / "tests", *sys.path)


ask = partial(processes.ask, timeout=60, environment=ENVIRONMENT)


def square(*values: float) -> Iterator[tuple[str, float]]:
    """Yield the square of each value."""
    for value in values:
        yield "square", value**2


@pytest.fixture
def python_script(tmp_path, monkeypatch):
    """Return a function that makes child processes run a shell script instead of Python."""

    def write(script):
        path = tmp_path / "python.sh"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


def test_arguments_and_answers_keep_their_types():
    values = [0.5 * index for index in range(8_000)]  # exceeds a pipe's capacity
    assert list(ask(square, *values)) == [("square", value**2) for value in values]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (r"printf '\377\376\n'", "failed with exit code 0: no message"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("kill -KILL $$", "killed by SIGKILL (perhaps by the system, out of memory)"),
        (
            "head -c 1000000 /dev/zero >&2; echo >&2; echo 'the last word' >&2; exit 3",
            "failed with exit code 3: the last word",
        ),
        (
            r"printf '\033]0;t\007 oops\n' >&2; exit 1",
            r"failed with exit code 1: \x1b]0;t\x07 oops",
        ),
    ],
)
def test_crash_of_a_child_names_the_reason(python_script, script, reason):
    python_script(script)
    with pytest.raises(RNNScratchError) as raised:
        list(ask(square))
    assert raised.value.problem.startswith(reason)


@pytest.mark.parametrize("end", ["raise MemoryError('none left')", "os.kill(os.getpid(), 6)"])
def test_answers_before_a_crash_are_received(end):
    answers = ask(answer_and_crash, end)
    assert next(answers) == 1
    reason = "killed by SIGABRT" if "kill" in end else "exit code 1: MemoryError: none left"
    assert reason in raised_message(list, answers)


def answer_and_crash(end: str) -> Iterator[int]:
    yield 1
    exec(end)


def test_silent_child_is_stopped(python_script):
    python_script("echo $$ > child; exec sleep 1000")
    error = raised_message(list, ask(square, timeout=3))
    assert "timed out after 3 s" in error
    wait_until(lambda: not is_running(Path("child").read_text()))


@pytest.mark.parametrize("error", [NotSupportedError, RNNScratchError])
def test_error_of_the_function_keeps_problem_and_hint(error):
    with pytest.raises(error) as raised:
        list(ask(fail, error is NotSupportedError))
    assert type(raised.value) is error
    assert (raised.value.problem, raised.value.hint) == ("two\nlines", "a hint")


def fail(not_offered: bool) -> Iterator[int]:
    """Raise a user-facing error after printing output as a framework might."""
    print("from Python", flush=True)
    os.system("echo from another program; cat")  # `cat` exits at once, because its input is empty
    raise (NotSupportedError if not_offered else RNNScratchError)("two\nlines", "a hint")
    yield 0


TASK = """
import os, time
from collections.abc import Iterator
def task() -> Iterator[int]:
    yield os.getpid()
    time.sleep(1000)
"""
PARENT = """
from another import task
from rnn_scratch.system import processes
for pid in processes.ask(task, timeout=2000):
    print(pid, flush=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_child_ends_with_its_parent(tmp_path, name):
    (tmp_path / "another.py").write_text(TASK)
    env = python_path(tmp_path)
    with start(program=("-c", PARENT), env=env, preexec_fn=os.setpgrp) as process:
        pid = process.stdout.readline()
        process.send_signal(getattr(signal, name))  # signals the parent, not its process group
        process.communicate(timeout=60)
    wait_until(lambda: not is_running(pid))


def test_current_folder_hides_no_module():
    """Run in a folder that contains a student's `random.py` and another `rnn_scratch` package."""
    for name in ("random", "queue", "tempfile"):
        Path(f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    train = ("train", "--backend", "numpy", "--epochs", "1", *options(**SMALL))
    run_subprocess(*train).assert_exit()
    Path("rnn_scratch").mkdir()
    Path("rnn_scratch", "__init__.py").write_text("raise SystemExit('another package')")
    assert registry.probes(["numpy"])["numpy"].devices == ["cpu"]
    # A clone of the project has the same `__main__.py`, but its backends are in another folder.
    Path("rnn_scratch", "__init__.py").write_text("")
    shutil.copy(Path(rnn_scratch.__file__).with_name("__main__.py"), "rnn_scratch")
    run_subprocess(*train).assert_exit()


def test_backends_that_cannot_be_probed_are_skipped(python_script):
    log_lines = []
    python_script("echo null")
    assert registry.list_loadable(log_lines.append) == []
    skipped = [line.partition(":")[0] for line in log_lines]
    assert skipped == [f"skipping {name}" for name in registry.names()]
