"""Child processes that misbehave: the parent has a reason, in bounded time."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from helpers import CLONE, error_of, is_running, python_path, start, wait_until

from rnn_scratch import registry
from rnn_scratch.errors import NotOffered, RNNScratchError
from rnn_scratch.system import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the children are shell scripts")

# The environment in which a child has the functions of this module.
HERE = python_path(Path(__file__).parent, CLONE / "tests", *sys.path)


def ask(function, *arguments, timeout=60, python=sys.executable):
    calls, pythons = {"": partial(function, *arguments)}, {"": python}
    for _, sent in processes.ask(calls, timeout=timeout, pythons=pythons, environment=HERE):
        if not isinstance(sent, processes.Exited):
            yield sent
        elif sent.error:
            raise sent.error


def numbers(text: str = "") -> Iterator[list[int]]:
    """What a child is asked to call whose interpreter does something else."""
    yield from ()


@pytest.fixture
def interpreter(tmp_path):
    """A function that writes a script which is used as an interpreter."""

    def write(script, name="python"):
        path = tmp_path / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return write


def sending(*answers):
    """A script that sends these answers, and ends as a child does."""
    lines = [*map(json.dumps, answers), "end null"]
    return "\n".join(f"printf '%s\\n' {shlex.quote(line)}" for line in lines)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "it ended before its last answer; is rnn-scratch installed for this Python?"),
        ("printf null", "it ended before its last answer"),
        ("echo '[1]'", "it ended before its last answer"),
        ("echo hello", "it sent 'hello': JSON is malformed"),
        (r"printf '\377\376\n'", r"it sent '\\xff\\xfe': JSON is malformed"),
        (sending(None), "it sent 'null': Expected `array`, got `null`"),
        ("echo end of all", "it sent 'of all': JSON is malformed"),
        (sending([1], ["2"]), """it sent '["2"]': Expected `int`, got `str` - at `$[0]`"""),
        pytest.param(
            *("kill -40 $$", "killed by signal 40"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="others have no such signal"),
        ),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("kill -KILL $$", "killed by SIGKILL (perhaps by the system, out of memory)"),
        ("exit 3", "failed with exit code 3: no message"),
        (
            "head -c 100000000 /dev/zero >&2; echo >&2; echo 'the last word' >&2; exit 3",
            "failed with exit code 3: the last word",
        ),
        (
            r"printf '\033]0;t\007 oops\n' >&2; exit 1",
            r"failed with exit code 1: \x1b]0;t\x07 oops",
        ),
    ],
)
def test_a_misbehaving_child_is_an_error_with_its_reason(interpreter, script, reason):
    assert error_of(list, ask(numbers, python=interpreter(script))).startswith(reason)


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 1000",
        "while :; do printf x; sleep 0.05; done",
        "exec >&-; exec sleep 1000",
        "echo end null; exec sleep 1000",
    ],
    ids=["silent", "dripping", "closed", "staying"],
)
def test_a_child_that_sends_nothing_more_is_stopped(interpreter, script):
    python = interpreter(f"echo $$ > child; {script}")
    many = "x" * 2**20  # more than a pipe holds
    assert "no answer within 3 s" in error_of(list, ask(numbers, many, python=python, timeout=3))
    wait_until(lambda: not is_running(Path("child").read_text()))


@pytest.mark.parametrize("error", [NotOffered, RNNScratchError])
def test_an_error_of_the_function_has_its_problem_and_its_hint(error):
    with pytest.raises(error) as raised:
        list(ask(fail, error is NotOffered))
    assert type(raised.value) is error
    assert (raised.value.problem, raised.value.hint) == ("two\nlines", "a hint")


def fail(not_offered: bool) -> Iterator[int]:
    """Raise an error for the user, after framework code has printed something."""
    print("from Python", flush=True)
    os.system("echo from another program; cat")  # which has no input
    raise (NotOffered if not_offered else RNNScratchError)("two\nlines", "a hint")
    yield 0


WORK = """
import os, time
from collections.abc import Iterator
def work() -> Iterator[int]:
    yield os.getpid()
    time.sleep(1000)
"""
PARENT = """
import sys
from functools import partial
from another import work
from rnn_scratch.system import processes
pythons = {"work": sys.argv[1]}
for _, pid in processes.ask({"work": partial(work)}, timeout=600, pythons=pythons):
    print(pid, flush=True)
"""


@pytest.fixture
def parent(tmp_path):
    """A function that starts a process with a child, by an interpreter, as a shell does."""
    (tmp_path / "another.py").write_text(WORK)
    env = python_path(tmp_path)
    return partial(start, program=("-c", PARENT), env=env, preexec_fn=os.setpgrp)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_child_ends_with_its_parent(parent, interpreter, how, wrapped):
    # An interpreter may be a script that waits for Python instead of becoming it.
    python = interpreter(f'{sys.executable} "$@"; exit $?') if wrapped else sys.executable
    with parent(python) as process:
        pid = process.stdout.readline()
        process.send_signal(getattr(signal, how))  # to the parent alone
        process.communicate(timeout=60)
    wait_until(lambda: not is_running(pid))


def test_ctrl_c_in_a_terminal_ends_both(parent):
    with parent(sys.executable) as process:
        pid = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert messages.splitlines()[-1] == "KeyboardInterrupt"  # the parent's
    wait_until(lambda: not is_running(pid))


def test_ctrl_z_stops_both_until_they_go_on_or_end(parent):
    with parent(sys.executable) as process:
        process.stdout.readline()
        family = [psutil.Process(process.pid)]
        family += family[0].children()
        os.killpg(process.pid, signal.SIGTSTP)  # as the terminal does
        wait_until(lambda: {p.status() for p in family} == {psutil.STATUS_STOPPED})
        os.killpg(process.pid, signal.SIGCONT)  # as `fg` does
        wait_until(lambda: psutil.STATUS_STOPPED not in {p.status() for p in family})
        os.killpg(process.pid, signal.SIGTSTP)
        wait_until(lambda: {p.status() for p in family} == {psutil.STATUS_STOPPED})
        process.kill()
    assert len(family) == 2
    wait_until(lambda: not is_running(family[1].pid))


def test_backends_that_cannot_be_probed_are_skipped(interpreter):
    lines = []
    pythons = {name: interpreter("echo null", name) for name in registry.names()}
    assert registry.loadable(lines.append, pythons) == []
    assert [line.partition(":")[0] for line in lines] == [f"skipping {n}" for n in registry.names()]


def test_a_parent_without_memory_for_an_answer_does_not_wait_for_another(monkeypatch, interpreter):
    def no_memory(line, decoder):
        raise MemoryError

    monkeypatch.setattr(processes, "_value", no_memory)
    python = interpreter(f"{sending([1])}\nexec sleep 60")
    assert "no memory" in error_of(list, ask(numbers, python=python))
