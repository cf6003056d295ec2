"""Every thread can train, and a process that was forked trains or says why it cannot."""

import os
import re

import pytest
from helpers import SMALL, there

from rnn_scratch import registry

pytestmark = pytest.mark.faults(by_default=("numpy", "torch"))

# Trains in threads and processes, and prints a line for each.
PROGRAM = f"""
import os, signal, sys, threading
import rnn_scratch
from rnn_scratch import registry

name, what, *threads = sys.argv[1:]
settings = {SMALL!r}

def train(run, threads=1, model="scratch"):
    try:
        done = rnn_scratch.train(
            name, run=run, model=model, device="cpu", threads=threads, num_epochs=1, **settings
        )
        print(run, done.perplexity, flush=True)
    except rnn_scratch.RNNScratchError as error:
        print(run, "refused:", error, flush=True)

def in_thread(*arguments):
    thread = threading.Thread(target=train, args=arguments)
    thread.start()
    thread.join()

def in_fork(*arguments):
    process = os.fork()
    if not process:
        signal.alarm(300)  # it would be waiting for a thread that the parent has
        train(*arguments)
        os._exit(0)
    print(arguments[0], "ended", os.waitpid(process, 0)[1], flush=True)

if what == "threads":
    loading = threading.Thread(target=registry.load, args=(name,))
    loading.start()
    loading.join()
    train("main")
    for number, model in enumerate(("scratch", "scratch", "fast")):
        in_thread(f"thread-{{number}}", 1, model)
else:
    registry.load(name)
    in_fork("early", int(threads[0]))
    train("parent", int(threads[0]))
    in_fork("late", int(threads[0]))
    in_fork("default", None)
"""


def lines_of(*arguments):
    """What the program prints, by the names of its runs."""
    done = there(*arguments, program=("-c", PROGRAM)).ended()
    return re.findall(r"^([a-z]+(?:-\d)?) (\S+) ?(.*)$", done.out, re.MULTILINE)


def test_every_thread_can_train(backend_name):
    runs = {name: value for name, value, _ in lines_of(backend_name, "threads")}
    assert runs.keys() == {"main", "thread-0", "thread-1", "thread-2"}
    numbers = {name: float(value) for name, value in runs.items()}
    assert numbers["thread-0"] == numbers["thread-1"] == numbers["main"]
    assert numbers["thread-2"] == pytest.approx(numbers["main"], rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_trains_or_is_refused(backend_name):
    rows = lines_of(backend_name, "forks", 2)
    ended = {name: rest for name, value, rest in rows if value == "ended"}
    assert ended == {"early": "0", "late": "0", "default": "0"}, "a child that hangs is killed"
    refused = {name: rest for name, value, rest in rows if value == "refused:"}
    trained = {name: float(value) for name, value, _ in rows if value[0].isdigit()}
    late = {"late", "default"}
    expected = {"torch": {"early", "late"}, "tensorflow": late, "jax": late}
    if backend_name in registry.OURS:
        assert refused.keys() == expected.get(backend_name, set())
    assert trained.keys() | refused.keys() == {"early", "parent", "late", "default"}
    for value in trained.values():
        assert value == pytest.approx(trained["parent"], rel=1e-4)
    for reason in refused.values():
        assert "forked" in reason
