"""Training in threads and forked processes, and the TF32 setting."""

import os
import re
import sys

import pytest
from helpers import SMALL, run_subprocess, variants

from rnn_scratch import registry

# Program that trains in threads or forked processes and prints a line for each run.
PROGRAM = f"""
import os, signal, sys, threading
import rnn_scratch

name, mode = sys.argv[1:]
settings = {{**{SMALL!r}, "report": None}}

def train(run, threads=1, variant="scratch"):
    try:
        result = rnn_scratch.train(
            name, output=run, variant=variant, threads=threads, num_epochs=1, **settings
        )
        print(run, result.perplexity, flush=True)
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

if mode == "threads":
    train("main")
    for variant in ("scratch", "fast"):
        in_thread(f"thread-{{variant}}", 1, variant)
else:
    train("parent", 2)
    in_fork("fork", 2)
"""


def output_rows(*arguments):
    """Run the program; return (run name, value, remaining text) for every line."""
    result = run_subprocess(*arguments, program=("-c", PROGRAM)).assert_exit()
    return re.findall(r"^([a-z-]+) (\S+) ?(.*)$", result.out, re.MULTILINE)


@pytest.mark.faults(by_default=("numpy", "torch"))
def test_every_thread_can_train(backend_name):
    runs = {name: value for name, value, _ in output_rows(backend_name, "threads")}
    assert runs.keys() == {"main", "thread-scratch", "thread-fast"}
    if backend_name not in registry.BUILTIN_BACKENDS and "fast" not in variants(backend_name):
        assert runs.pop("thread-fast") == "refused:"
    values = {name: float(value) for name, value in runs.items()}
    assert values["thread-scratch"] == values["main"]
    assert values.get("thread-fast", values["main"]) == pytest.approx(values["main"], rel=1e-4)


@pytest.mark.faults(by_default=("numpy", "torch"))
@pytest.mark.skipif(not hasattr(os, "fork"), reason="requires os.fork")
def test_forked_process_trains_or_is_refused(backend_name):
    rows = output_rows(backend_name, "forks")
    assert ("fork", "ended", "0") in rows, "the child hung and was killed"
    refused = [reason for _, value, reason in rows if value == "refused:"]
    trained = {name: float(value) for name, value, _ in rows if value[0].isdigit()}
    if backend_name in registry.BUILTIN_BACKENDS:
        assert bool(refused) == (backend_name in ("torch", "tensorflow", "jax"))
    assert trained.keys() == ({"parent"} if refused else {"parent", "fork"})
    assert trained.get("fork", trained["parent"]) == pytest.approx(trained["parent"], rel=1e-4)
    assert all("forked" in reason for reason in refused)


def allows_tf32(framework):
    """Return whether an imported framework is allowed to multiply matrices in TF32."""
    module = sys.modules[framework]
    if framework == "torch":
        return module.backends.cuda.matmul.allow_tf32 or module.backends.cudnn.allow_tf32
    if framework == "tensorflow":
        return module.config.experimental.tensor_float_32_execution_enabled()
    if framework == "mxnet":
        return os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] != "0"
    return module.config.jax_default_matmul_precision != "float32"


def test_tf32_is_off(backend, backend_name):
    if backend_name not in registry.FRAMEWORKS:
        pytest.skip("the names of this backend's settings are unknown")
    assert not allows_tf32(backend_name)
