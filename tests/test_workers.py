"""Workers that misbehave: each is a row with its reason, and none disturbs what comes after it."""

import functools
import json
import os
import shlex
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL, options, other_packages, start, there

from rnn_scratch import registry
from rnn_scratch.check import exact_mode
from rnn_scratch.check.certificate import Evidence
from rnn_scratch.compare import comparison, events, plan
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs.setup import Place
from rnn_scratch.settings import make
from rnn_scratch.system import host, processes
from rnn_scratch.text import corpus
from rnn_scratch.workers import groups

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the workers are shell scripts")

SHORT = (*options(**SMALL), "--epochs", "2", "--repeats", "1")
TIMES = {"minibatches": [1.0], "products": [1.0], "generation": [1.0]}
READY = events.Ready(
    importing=1.0,
    device="cpu",
    threads=1,
    libraries={},
    machine=host.describe(),
    environment={},
)
CHECKED = (READY, events.Comparison(1), events.Checked(1, []))
EPOCHS = (events.Epoch(1, [2.0], None, 1.0), events.Epoch(2, [1.0], None, 1.0))
TRAINED = events.Trained("a", "b", ["text"], reached=False)
TIMED = events.Timed(
    "a",
    "b",
    1.0,
    **TIMES,
    without_exchange=None,
    memory=1,
    device_memory=None,
    conditions={"seconds": 1.0, "waited": 0.0, "stolen": None, "throttled": None},
)


def sending(*answers):
    """A script that sends these answers, and ends as a worker does."""
    values = [events.message(each) if hasattr(each, "_asdict") else each for each in answers]
    lines = [processes.ENCODER.encode(each).decode() for each in values]
    return "\n".join(f"printf '%s\\n' {shlex.quote(line)}" for line in (*lines, "end"))


# Of a worker, what it does instead of training, and the reason that its row must have.
MISBEHAVING = {
    "silent": ("exit 0", "it ended without an answer; is "),
    "holding": ("sleep 1000 & echo $! > sleeper", "it ended without an answer"),
    "noise": ("echo hello", "it sent a line that is not JSON: 'hello'"),
    "latin": (r"printf '\377\376\n'", r"it sent a line that is not JSON: '\\xff\\xfe'"),
    "deep": (
        "head -c 100000 /dev/zero | tr '\\0' '['; echo",
        "it sent a line that is not JSON: '[[",
    ),
    "endless": ("cat /dev/zero", "it sent a line of more than 16,777,216 bytes"),
    "unended": ("printf null", "it ended without an answer"),
    "signal": ("kill -40 $$", "killed by signal 40"),
    "segfault": ("kill -SEGV $$", "killed by SIGSEGV"),
    "loud": (
        "head -c 100000000 /dev/zero >&2; echo >&2; echo 'the last word' >&2; exit 3",
        "failed with exit code 3: the last word",
    ),
    "escapes": (
        r"printf '\033]0;title\007 oops\n' >&2; exit 1",
        r"failed with exit code 1: \x1b]0;title\x07 oops",
    ),
    "null": (sending(None), "it sent what is no event: None"),
    "object": (sending({}), "it sent what is no event: {}"),
    "number": (sending({"event": 5}), "it sent what is no event: {'event': 5}"),
    "unknown": (sending({"event": "party"}), "it sent what is no event: {'event': 'party'}"),
    "bare": (sending({"event": "ready"}), "it sent a wrong event 'ready': it lacks 'device'"),
    "wordy": (
        sending({**events.message(READY), "threads": "one"}),
        "it sent a wrong event 'ready': threads is 'one', not a whole number",
    ),
    "nowhere": (
        sending({**events.message(READY), "machine": {}}),
        "it sent a wrong event 'ready': machine lacks 'cores'",
    ),
    "negative": (
        sending(*CHECKED, events.Epoch(1, [-0.7], None, 1.0)),
        "it sent a wrong event 'epoch': losses[0] is -0.7, not from -0.69",
    ),
    "boasting": (
        sending(*CHECKED, EPOCHS[0], TRAINED._replace(reached=True)),
        "its perplexities contradict that it has reached the target",
    ),
    "unprepared": (sending(*EPOCHS, TRAINED), "it sent the event 'epoch' out of order"),
    "unchecked": (sending(READY, *EPOCHS, TRAINED), "it sent the event 'epoch' out of order"),
    "short": (sending(*CHECKED, EPOCHS[0], TRAINED), "it did not train 2 epochs"),
    "jumping": (sending(*CHECKED, EPOCHS[1]), "it sent epoch 2 instead of 1"),
    "diverging": (
        sending(*CHECKED, events.Epoch(1, [float("nan")], None, 1.0)),
        "it sent a wrong event 'epoch': losses[0] is nan, not a number",
    ),
    "unfinished": (sending(*CHECKED, *EPOCHS), "it ended without the event 'trained'"),
    "breaking": (sending(*CHECKED).rpartition("\n")[0], "it ended before its last answer"),
    "failing": (sending(events.Failed("line\n\x1b[2J")), r"line \x1b[2J"),
}
# A backend that works, and whose interpreter does so once.
LATE = """
from types import SimpleNamespace
from rnn_scratch.backends import numpy
scratch = numpy.scratch
machine = SimpleNamespace(**{**vars(numpy.machine), "environment": lambda: {"late": "1.0"}})
"""
ONCE = f'[ -e "$0.once" ] && {{ echo null; exit; }}; touch "$0.once"; exec {sys.executable} "$@"'


@pytest.fixture
def interpreter(tmp_path):
    """A function that writes a script which is used as an interpreter."""

    def write(script, name="python"):
        path = tmp_path / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


def is_gone(pid):
    """Whether the process ends within some seconds."""
    for _ in range(200):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def anything() -> Iterator[Any]:
    """What a child is asked to call whose interpreter does something else."""
    yield from ()


def ask(python, timeout=60, **more):
    call = functools.partial(anything)
    return list(processes.ask(call, timeout=timeout, python=str(python), **more))


def test_each_misbehaving_worker_is_a_row_with_its_reason(tmp_path, interpreter):
    scripts = {name: script for name, (script, _) in MISBEHAVING.items()} | {"late": ONCE}
    env = other_packages(tmp_path / "site", {name: LATE for name in scripts})
    pythons = [f"--python={name}={interpreter(scripts[name], name)}" for name in scripts]
    names = ",".join(["numpy", *scripts])
    done = there("compare", "--backends", names, *pythons, *SHORT, "--output", "out", env=env)
    assert done.code == 1, (done.out, done.err)
    assert "Traceback" not in done.err
    record = comparison.read(Path("out"))
    assert record["outcome"] == "finished"
    candidates = {plan.name(each): each for each in record["candidates"]}
    for name, (_, reason) in MISBEHAVING.items():
        assert candidates[name]["state"] == "failed"
        assert candidates[name]["reason"].startswith(reason)
        assert f"{name}: failed: {reason}" in done.out
        assert candidates[name]["speed"][0]["rounds"] == []
    assert is_gone(Path("sleeper").read_text())
    assert "\x1b" not in done.out
    late, numpy = candidates["late"], candidates["numpy"]
    assert late["trainings"][0]["samples"]
    assert late["float64"] == {"state": "failed", "reason": "it sent what is no event: None"}
    assert late["speed"][0]["reason"] == "it sent what is no event: None"
    assert "late: no training in float64: it sent what is no event: None" in done.out
    assert numpy["state"] == "measured"
    assert len(numpy["speed"][0]["rounds"]) == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ((READY, TIMED), "it sent the event 'timed' out of order"),
        ((READY, events.Turn(1)), "it ended without the event 'timed'"),
        ((READY, events.Turn(1), TIMED, TIMED), "it sent the event 'timed' out of order"),
        ((READY, events.Turn(1), TIMED._replace(first=-1.0)), "first is -1.0, not from 0 to"),
        ((READY, events.Turn(1), TIMED._replace(products=[0.0])), "products[0] is 0.0, not from"),
        ((READY, events.Turn(1), TIMED._replace(minibatches=[])), "minibatches is [], not with a"),
        ((READY, READY), "it sent the event 'ready' out of order"),
        ((events.NotOffered("no"),), "it sent the event 'not offered' out of order"),
    ],
)
def test_events_of_timing_that_are_wrong(sent, reason):
    with pytest.raises(RNNScratchError, match="it ") as error:
        list(events.receive(map(events.message, sent), events.TIMING, 2))
    assert reason in str(error.value)


def test_events_in_order():
    pairs: list[events.Pair] = [{"model": 1.0, "layer": 2.0}]
    layer = events.OwnLayer(pairs, pairs)
    turns = (events.Turn(1), events.Turn(2))
    for sent, order in (
        ((*CHECKED, *EPOCHS, TRAINED), events.TRAINING_AFTER_CHECK),
        ((READY, *EPOCHS, TRAINED), events.TRAINING),
        ((events.NotOffered("no"),), events.TRAINING),
        ((READY, *turns, TIMED), events.TIMING),
        ((READY, *turns, TIMED, *turns, layer), events.TIMING_WITH_LAYER),
    ):
        answers = json.loads(json.dumps(list(map(events.message, sent))))
        assert tuple(events.receive(answers, order, 2)) == sent


def test_a_comparison_with_a_failure_in_float64_alone_has_failed():
    candidate = {"state": "measured", "speed": [], "float64": {"state": "failed", "reason": ""}}
    assert comparison.failed({"candidates": [candidate]})
    candidate["float64"]["state"] = "not offered"  # as on a device that has no float64
    assert not comparison.failed({"candidates": [candidate]})


@pytest.mark.parametrize("limit", ["nan", "inf", "1e300"])
def test_a_time_limit_that_is_none(limit):
    done = there("compare", "--backends", "numpy", *SHORT, "--timeout", limit)
    done.refused("--timeout", "1,000,000")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("head -c 200000000 /dev/zero", "it sent a line of more than"),
        ("head -c 200000000 /dev/zero >&2; exit 1", "failed with exit code 1: "),
    ],
)
def test_output_takes_a_bounded_amount_of_memory(interpreter, script, reason):
    tracemalloc.start()
    try:
        with pytest.raises(RNNScratchError, match=reason):
            ask(interpreter(script))
        assert tracemalloc.get_traced_memory()[1] < 5 * processes.LONGEST_ANSWER
    finally:
        tracemalloc.stop()


def test_an_answer_of_the_greatest_length(interpreter):
    number = processes.LONGEST_ANSWER - processes.CHUNK
    python = interpreter(
        f"printf '\"'; head -c {number} /dev/zero | tr '\\0' x; echo '\"'; echo end"
    )
    (answer,) = ask(python)
    assert len(answer) == number


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
def test_a_worker_that_sends_nothing_more_is_stopped_with_what_it_has_started(interpreter, script):
    python = interpreter(f"sleep 1000 & echo $! > sleeper; {script}")
    with pytest.raises(RNNScratchError, match=r"within 0\.5 s"):
        ask(python, timeout=0.5)
    assert is_gone(Path("sleeper").read_text())


def test_a_worker_that_stays_after_its_last_answer_is_ended_at_once_where_it_is_wished(interpreter):
    end = threading.Event()
    end.set()
    with pytest.raises(RNNScratchError, match="it was ended"):
        ask(interpreter("echo end; sleep 1000"), timeout=300, end=end)


def test_a_ctrl_c_before_all_workers_are_started_is_not_lost(monkeypatch):
    starts = []

    def start(thread):
        starts.append(thread)
        if len(starts) == 2:
            raise KeyboardInterrupt
        begin(thread)

    begin = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        list(groups.ask_all([functools.partial(anything)] * 2, timeout=60, python="/nowhere"))


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
            ask(interpreter(f"exec {sys.executable} -S {leaving}"))
        assert not is_gone(Path("sleeper").read_text()), "it has been waited for"
    finally:
        os.kill(int(Path("sleeper").read_text()), signal.SIGKILL)


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


@pytest.mark.parametrize(
    ("how", "wrapped"),
    [("SIGINT", False), ("SIGKILL", False), ("SIGHUP", True), ("SIGKILL", True)],
)
def test_nothing_outlives_the_parent(tmp_path, interpreter, how, wrapped):
    (tmp_path / "another.py").write_text(STARTS_ANOTHER)
    # An interpreter may be a script that waits for Python instead of becoming it.
    python = interpreter(f'{sys.executable} "$@"; exit $?') if wrapped else sys.executable
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with start(python, program=("-c", PARENT), env=env) as process:
        pid = process.stdout.readline()
        process.send_signal(getattr(signal, how))
        process.communicate(timeout=60)
    assert is_gone(pid)


USABLE = {"type": "Usable", "environment": {}, "devices": ["cpu"], "threads": 1}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (sending(None), "it sent a wrong answer: Expected `object`, got `null`"),
        (sending({}), "it sent a wrong answer: Object missing required field `type`"),
        (sending({"type": "Usable"}), "it sent a wrong answer: Object missing required field"),
        (sending({**USABLE, "threads": "1"}), "Expected `int`, got `str` - at `$.threads`"),
        (sending({**USABLE, "devices": []}), "Expected `array` of length >= 1"),
        (sending(USABLE, USABLE), "it sent more than one answer"),
        ("exit 0", "it ended without an answer"),
        ("sleep 1000", "no answer within 1 s"),
    ],
)
def test_probing_a_backend_with_such_an_interpreter(interpreter, script, reason):
    answer = registry.probe("numpy", timeout=1, python=str(interpreter(script)))
    assert reason in answer.reason


def test_backends_that_cannot_be_probed_are_skipped(interpreter):
    lines = []
    pythons = {name: str(interpreter("echo null", name)) for name in registry.names()}
    assert registry.usable(lines.append, pythons) == []
    assert [line.partition(":")[0] for line in lines] == [f"skipping {n}" for n in registry.names()]


def test_exact_mode_with_epochs_that_are_missing(monkeypatch):
    first = exact_mode._Epoch(0, None, "a", [{"b_q": "a"}])
    settings = make({**{k: v for k, v in SMALL.items() if k != "corpus"}, "exact": True})
    text, place = corpus.Text("file", "origin", "text", "sha256"), Place("numpy", device="cpu")
    for answers, reason in (
        ([first, first], "it sent epoch 0 instead of 1"),
        ([first], "it ended before the last epoch"),
    ):
        monkeypatch.setattr(processes, "ask", lambda *_, a=answers, **__: iter(a))
        run = exact_mode.train(place, settings, text, Evidence(), lambda *_: None)
        assert (run.outcome, run.reason) == ("failed", reason)


def test_a_check_that_ends_early_has_failed(tmp_path):
    source = """
        import os
        from types import SimpleNamespace
        from rnn_scratch.backends.numpy import machine, scratch
        scratch = SimpleNamespace(**{**vars(scratch), "clip": lambda grads, theta: os._exit(0)})
    """
    env = other_packages(tmp_path / "site", {"leaving": source})
    done = there("check", "leaving", "--model", "scratch", env=env)
    assert done.code == 1, (done.out, done.err)
    assert "it ended before its last answer" in done.out
