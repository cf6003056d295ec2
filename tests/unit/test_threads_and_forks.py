"""Training in threads and in forked processes, which train or fail with a reason."""

import os
import re

import pytest
from helpers import SMALL, run_subprocess

from rnn_scratch import registry

pytestmark = pytest.mark.faults(by_default=("numpy", "torch"))

# Trains in threads and processes, and prints a line per thread or process.
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
        signal.alarm(300)  # a deadlocked child waits for a thread of its parent
        train(*arguments)
        os._exit(0)
    print(arguments[0], "ended", os.waitpid(process, 0)[1], flush=True)

if what == "threads":
    train("main")
    for number, model in enumerate(("scratch", "fast")):
        in_thread(f"thread-{{number}}", 1, model)
else:
    registry.load(name)
    train("parent", int(threads[0]))
    in_fork("late", int(threads[0]))
"""


def lines_of(*arguments):
    """Run the program; return (run name, value, remaining text) for every line."""
    result = run_subprocess(*arguments, program=("-c", PROGRAM)).assert_exit()
    return re.findall(r"^([a-z]+(?:-\d)?) (\S+) ?(.*)$", result.out, re.MULTILINE)


def test_every_thread_can_train(backend_name):
    runs = {name: value for name, value, _ in lines_of(backend_name, "threads")}
    assert runs.keys() == {"main", "thread-0", "thread-1"}
    values = {name: float(value) for name, value in runs.items()}
    assert values["thread-0"] == values["main"]
    assert values["thread-1"] == pytest.approx(values["main"], rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires os.fork")
def test_forked_process_trains_or_is_refused(backend_name):
    rows = lines_of(backend_name, "forks", 2)
    assert ("late", "ended", "0") in rows, "a child that hangs is killed"
    refused = [reason for _, value, reason in rows if value == "refused:"]
    trained = {name: float(value) for name, value, _ in rows if value[0].isdigit()}
    if backend_name in registry.BUILTIN_BACKENDS:
        assert bool(refused) == (backend_name in ("torch", "tensorflow", "jax"))
    assert trained.keys() == ({"parent"} if refused else {"parent", "late"})
    assert trained.get("late", trained["parent"]) == pytest.approx(trained["parent"], rel=1e-4)
    assert all("forked" in reason for reason in refused)
