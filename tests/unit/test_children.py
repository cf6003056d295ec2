"""Child processes that misbehave: the parent has a reason, in bounded time."""

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import CLONE, error_of, is_running, start, wait_until

from rnn_scratch import registry
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import processes
from rnn_scratch.workers import groups

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the children are shell scripts")

# The environment in which a child has the functions of this module.
HERE = {
    "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, CLONE / "tests", *sys.path)))
}


def ask(function, *arguments, timeout=60, **more):
    call = partial(function, *arguments)
    return processes.ask(call, timeout=timeout, environment=HERE, **more)


def numbers() -> Iterator[list[int]]:
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
    lines = [*map(json.dumps, answers), "end"]
    return "\n".join(f"printf '%s\\n' {shlex.quote(line)}" for line in lines)


def is_gone(pid, seconds=10):
    """Whether the process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "it ended without an answer; is "),
        ("printf null", "it ended without an answer"),
        ("echo '[1]'", "it ended before its last answer"),
        ("echo hello", "it sent a line that is not JSON: 'hello'"),
        (r"printf '\377\376\n'", r"it sent a line that is not JSON: '\\xff\\xfe'"),
        (sending(None), "it sent a wrong answer: Expected `array`, got `null`"),
        (sending([1], ["2"]), "it sent a wrong answer: Expected `int`, got `str` - at `$[0]`"),
        ("kill -40 $$", "killed by signal 40"),
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
def test_each_misbehaving_child_is_an_error_with_its_reason(interpreter, script, reason):
    assert error_of(list, ask(numbers, python=interpreter(script))).startswith(reason)


@pytest.mark.parametrize(
    "script",
    [
        "sleep 1000",
        "while :; do printf x; sleep 0.05; done",
        "exec >&-; sleep 1000",
        "echo end; sleep 1000",
    ],
    ids=["silent", "dripping", "closed", "staying"],
)
def test_a_child_that_sends_nothing_more_is_stopped_with_what_it_has_started(interpreter, script):
    python = interpreter(f"sleep 1000 & echo $! > sleeper; {script}")
    with pytest.raises(RNNScratchError, match=r"within 0\.5 s"):
        list(ask(numbers, python=python, timeout=0.5))
    assert is_gone(Path("sleeper").read_text())


def test_a_ctrl_c_before_all_children_are_started_is_not_lost(monkeypatch):
    starts = []

    def start(thread):
        starts.append(thread)
        if len(starts) == 2:
            raise KeyboardInterrupt
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        list(groups.ask_all([partial(numbers)] * 2, timeout=60, python="/nowhere"))


def test_a_process_that_leaves_the_group_does_not_make_anybody_wait(tmp_path, interpreter):
    leaving = tmp_path / "leaving.py"
    leaving.write_text(
        "import os, time\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    open('sleeper', 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "while not os.path.exists('sleeper'): time.sleep(0.01)\n"
    )
    try:
        with pytest.raises(RNNScratchError, match="it ended without an answer"):
            list(ask(numbers, python=interpreter(f"exec {sys.executable} -S {leaving}")))
        assert not is_gone(Path("sleeper").read_text(), 1), "it has been waited for"
    finally:
        os.kill(int(Path("sleeper").read_text()), signal.SIGKILL)


def answer(threads: int, pause: float) -> Iterator[Any]:
    """Send from several threads, then wait."""

    def send(name):
        for number in range(200):
            processes.send([name, number, "x" * 1000])

    senders = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    time.sleep(pause)
    yield "last"


def test_answers_of_several_threads_are_not_mixed():
    *sent, last = ask(answer, 3, 0)
    assert last == "last"
    assert len(sent) == 600
    for name in range(3):
        assert [number for each, number, _ in sent if each == name] == list(range(200))


def test_a_child_can_be_ended(interpreter):
    wish = threading.Event()
    for answers in (
        ask(answer, 1, 1000, end=wish),
        ask(numbers, python=interpreter("echo '[1]'; echo end; sleep 1000"), end=wish),
    ):
        wish.clear()
        next(answers)
        wish.set()
        with pytest.raises(RNNScratchError, match="it was ended"):
            list(answers)


STARTS_ANOTHER = """
import subprocess, time
from collections.abc import Iterator
def work() -> Iterator[int]:
    yield subprocess.Popen(["sleep", "1000"]).pid
    time.sleep(1000)
"""
PARENT = """
import sys
from functools import partial
from another import work
from rnn_scratch.system import processes
for pid in processes.ask(partial(work), timeout=600, python=sys.argv[1]):
    print(pid, flush=True)
"""


@pytest.fixture
def parent(tmp_path):
    """A function that starts a process with a child, by an interpreter, that starts another."""
    (tmp_path / "another.py").write_text(STARTS_ANOTHER)
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return partial(start, program=("-c", PARENT), env=env)


@pytest.mark.parametrize(
    ("how", "wrapped"), [("SIGINT", False), ("SIGKILL", False), ("SIGHUP", True), ("SIGKILL", True)]
)
def test_nothing_outlives_the_parent(parent, interpreter, how, wrapped):
    # An interpreter may be a script that waits for Python instead of becoming it.
    python = interpreter(f'{sys.executable} "$@"; exit $?') if wrapped else sys.executable
    with parent(python) as process:
        pid = process.stdout.readline()
        process.send_signal(getattr(signal, how))
        process.communicate(timeout=60)
    assert is_gone(pid)


@pytest.mark.skipif(
    sys.platform != "linux", reason="a stopped process stays where nothing wakes it"
)
def test_a_stopped_child_does_not_outlive_the_parent_either(parent):
    with parent(sys.executable) as process:
        process.stdout.readline()
        child, grandchild = psutil.Process(process.pid).children(recursive=True)
        child.suspend()
        process.kill()
    assert is_gone(child.pid)
    assert is_gone(grandchild.pid)


def test_ctrl_z_stops_the_children_as_well(parent):
    with parent(sys.executable) as process:
        process.stdout.readline()
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        process.send_signal(signal.SIGTSTP)  # as the terminal does, for this one's group
        wait_until(lambda: {each.status() for each in family} == {psutil.STATUS_STOPPED})
        process.send_signal(signal.SIGCONT)  # as `fg` does
        wait_until(lambda: psutil.STATUS_STOPPED not in {each.status() for each in family})
        process.kill()
    assert len(family) == 3


def test_backends_that_cannot_be_probed_are_skipped(interpreter):
    lines = []
    pythons = {name: interpreter("echo null", name) for name in registry.names()}
    assert registry.loadable(lines.append, pythons) == []
    assert [line.partition(":")[0] for line in lines] == [f"skipping {n}" for n in registry.names()]
