"""The machine: threads, memory, TF32 and the products that limit training."""

import os
import platform
import sys

import pytest
from helpers import SMALL, history, options, there

from rnn_scratch import registry

# Wide enough for TensorFlow to share the columns of W_hh out among threads.
WIDE = {**SMALL, "num_hiddens": 256, "dtype": "float64", "num_epochs": 2}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_two_threads_give_the_same_numbers(backend_name):
    losses = []
    for name, threads in (("numpy", 1), (backend_name, 2)):
        settings = options(**WIDE, backend=name, threads=threads, run=f"{name}{threads}")
        there("train", *settings).ended()
        losses.append([row["loss"] for row in history(f"{name}{threads}")])
    expected, actual = losses
    assert actual == pytest.approx(expected, rel=1e-12)


def allows_tf32(framework):
    """Whether a framework that is imported multiplies in TF32."""
    module = sys.modules[framework]
    if framework == "torch":
        return module.backends.cuda.matmul.allow_tf32 or module.backends.cudnn.allow_tf32
    if framework == "tensorflow":
        return module.config.experimental.tensor_float_32_execution_enabled()
    if framework == "mxnet":
        return os.environ["MXNET_CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION"] != "0"
    return module.config.jax_default_matmul_precision != "float32"


def test_tf32_is_off_by_default(backend, backend_name):
    if backend_name not in registry.FRAMEWORKS:
        return  # NumPy has no GPU
    assert not allows_tf32(backend_name)
    backend.machine.set_tf32(True)
    assert allows_tf32(backend_name)
    backend.machine.set_tf32(False)
    assert not allows_tf32(backend_name)


def test_peak_memory_is_the_maximum():
    # In a process of its own: this one may have used more before.
    program = """if True:
        import numpy as np
        from rnn_scratch.system import host
        before = host.peak_memory()
        block = np.ones(2**26)  # half a GiB
        with_it = host.peak_memory()
        del block
        print(before, with_it, host.peak_memory())
    """
    before, with_it, after = map(int, there(program=("-c", program)).out.split())
    assert 2**28 < with_it - before < 2**30
    assert after > 0.99 * with_it  # the system does not count every page


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others do not return such memory")
def test_freed_memory_is_reused():
    program = """if True:
        import resource
        import numpy as np
        from rnn_scratch.system import host
        host.disable_malloc_trim()
        for _ in range(50):
            arrays = [np.ones(2**18) for _ in range(8)]  # 16 MiB, 4,096 pages
            del arrays
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    """
    other = program.replace("host.disable_malloc_trim()", "pass")
    pages, pages_of_other = (int(there(program=("-c", each)).out) for each in (program, other))
    assert pages < pages_of_other / 2
