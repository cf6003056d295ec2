"""What a backend computes on: threads, memory, bare products."""

import platform
import sys

import numpy as np
import pytest
from helpers import SMALL, history, options, there

# Wide enough for TensorFlow to share the columns of W_hh out among threads.
WIDE = {**SMALL, "num_hiddens": 256, "dtype": "float64", "num_epochs": 2}


def test_two_threads_give_the_same_numbers(backend_name):
    for name, threads in (("numpy", 1), (backend_name, 2)):
        done = there("train", "--backend", name, "--threads", threads, "--run", f"{name}{threads}",
                     *options(**WIDE))  # fmt: skip
        assert done.code == 0, done.err
    found, expected = (
        [row["loss"] for row in history(run)] for run in (f"{backend_name}2", "numpy1")
    )
    assert found == pytest.approx(expected, rel=1e-12)


def test_multiply_is_products_one_after_another(backend):
    chance = np.random.RandomState(0)
    h, W = chance.normal(size=(3, 5)), chance.normal(size=(5, 5))
    found = backend.array(backend.multiply(backend.tensor(h, "cpu"), backend.tensor(W, "cpu"), 3))
    expected = h @ W @ W @ W, h @ W.T @ W.T @ W.T  # either way
    assert min(np.abs(found - product).max() for product in expected) < 1e-12


def test_memory_of_a_device_that_is_none(backend):
    assert backend.memory("cpu") is None


def tf32_of_torch():
    import torch

    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32


def tf32_of_tensorflow():
    import tensorflow

    return tensorflow.config.experimental.tensor_float_32_execution_enabled()


def test_tf32_is_off_unless_asked_for(backend, backend_name):
    allowed = {"torch": tf32_of_torch, "tensorflow": tf32_of_tensorflow}.get(backend_name)
    if allowed is None:
        return  # NumPy has no GPU, and MXNet reads it when it multiplies
    assert not allowed()
    backend.set_tf32(True)
    assert allowed()
    backend.set_tf32(False)
    assert not allowed()


def test_peak_memory_is_the_most_there_was():
    # In a process of its own: this one may have had more before.
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
    assert after > 0.99 * with_it  # the system's count is not to the page


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not count pages so")
def test_memory_that_is_kept_is_not_given_back():
    program = """if True:
        import resource
        import numpy as np
        from rnn_scratch.system import host
        host.keep_memory()
        for _ in range(50):
            arrays = [np.ones(2**18) for _ in range(8)]  # 16 MiB, 4,096 pages
            del arrays
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    """
    done = there(program=("-c", program))
    pages = int(done.out)
    other = there(program=("-c", program.replace("host.keep_memory()", "pass")))
    if platform.libc_ver()[0] == "glibc":
        assert pages < int(other.out) / 2
