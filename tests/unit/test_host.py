"""The machine: threads, peak memory and TF32."""

import os
import sys

import pytest
from helpers import SMALL, history, linux, options, run_subprocess

from rnn_scratch import registry

# A network wide enough for TensorFlow to distribute the columns of W_hh among threads.
WIDE = {**SMALL, "num_hiddens": 256, "dtype": "float64", "num_epochs": 2}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_two_threads_give_the_same_numbers(backend_name):
    losses = []
    for name, threads in (("numpy", 1), (backend_name, 2)):
        settings = options(**WIDE, backend=name, threads=threads, run=f"{name}{threads}")
        run_subprocess("train", *settings).assert_exit()
        losses.append([row["loss"] for row in history(f"{name}{threads}")])
    expected, actual = losses
    assert actual == pytest.approx(expected, rel=1e-12)


def allows_tf32(framework):
    """Return whether an imported framework may multiply matrices in TF32."""
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


@linux
def test_peak_memory_is_the_maximum():
    # Use a new process, because this process may have used more memory earlier.
    program = """if True:
        import numpy as np
        from rnn_scratch.compare.tasks import peak_memory
        initial = peak_memory()
        block = np.ones(2**26)  # half a GiB
        with_block = peak_memory()
        del block
        print(initial, with_block, peak_memory())
    """
    initial, with_block, final = map(int, run_subprocess(program=("-c", program)).out.split())
    assert 2**28 < with_block - initial < 2**30
    assert final > 0.99 * with_block  # the system's page counts are approximate
