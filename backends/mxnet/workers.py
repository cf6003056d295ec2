"""Several workers, which exchange arrays through MXNet's distributed key-value store.

It needs two more processes, which worker 0 starts: a scheduler, through which the others find each
other, and a server, which adds what the workers push and sends them the sum.
"""

import atexit
import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time

import mxnet
import numpy
from mxnet import np

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.workers import network

from .machine import array

PATIENCE = 45.0  # seconds to wait for the other workers
GRACE = 5.0  # seconds in which scheduler and server end after the workers
BITS = 22  # of an integer that a float32 has exactly, and its sum with zeros too

# What the scheduler and the server run: when MXNet is imported it finds its role in the environment
# and acts in it. They end with worker 0, which has the other end of the pipe that is their stdin.
NODE = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
import numpy
vars(numpy).setdefault("bool", bool)
import mxnet
"""

_team = None
_store = None
_keys: set[str] = set()  # those in the store
_nodes: dict[str, subprocess.Popen] = {}  # scheduler and server, in worker 0
_left = threading.Event()  # from now on they may end


def join(team):
    """Join the other workers of a training run: returns when all have."""
    global _team, _store
    stores, errors = [], []
    # In a thread, because it waits for the others forever.
    creation = threading.Thread(target=_create, args=(stores, errors), daemon=True)
    deadline = time.monotonic() + PATIENCE
    with network.variables(_settings(team)):
        if team.rank == 0:
            for role in ("scheduler", "server"):
                _nodes[role] = _start(role)
        creation.start()
        while not stores and not errors:
            creation.join(0.1)
            if message := _end():
                errors.append(message)
            elif time.monotonic() > deadline:
                errors.append(f"not all have called {team.addresses[0]} within {PATIENCE:g} s.")
    if errors:
        _kill()
        atexit.register(_exit)
        raise RNNScratchError(f"The workers do not find each other: {errors[0]}")
    (_store,) = stores
    _team = team
    _set_barrier(False)
    atexit.register(_delete)
    if _nodes:
        threading.Thread(target=_watch, daemon=True).start()


def gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    # The store only adds, and only float32 (it rounds a float64 to one). So the bits travel as
    # integers, in a matrix with a row for each worker, which the others leave zero.
    vector = numpy.concatenate([array(tensor).reshape(-1) for tensor in tensors])
    integers = _integers(vector)
    matrix = numpy.zeros((len(_team.addresses), integers.size), "float32")
    matrix[_team.rank] = integers
    exchange = np.array(matrix, dtype="float32", ctx=mxnet.cpu())
    key = str(integers.size)
    if key not in _keys:
        _store.init(key, np.zeros_like(exchange))
        _keys.add(key)
    _store.pushpull(key, exchange, out=exchange)
    ends = numpy.cumsum([tensor.size for tensor in tensors])
    vectors = [_vector(row, vector.dtype) for row in array(exchange)]
    parts = zip(*(numpy.split(each, ends[:-1]) for each in vectors))
    return [
        [np.array(p.reshape(tensor.shape), dtype=p.dtype, ctx=tensor.ctx) for p in part]
        for tensor, part in zip(tensors, parts)
    ]


def all_reduce(mean, grads, workers):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(each) / workers for each in gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    _set_barrier(True)
    _delete()  # which waits for the others, and ends the scheduler and the server
    for node in _nodes.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(GRACE)
    _kill()


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    return f"key-value store of MXNet {mxnet.__version__}"


def _settings(team):
    # Environment variables for MXNet. Each process listens on its own host only.
    first, _, port = team.addresses[0].rpartition(":")
    return {
        "DMLC_ROLE": "worker",
        "DMLC_PS_ROOT_URI": network.numeric(first),
        "DMLC_PS_ROOT_PORT": port,
        "DMLC_NODE_HOST": network.numeric(team.host),
        "DMLC_NUM_WORKER": str(len(team.addresses)),
        "DMLC_NUM_SERVER": "1",
    }


def _start(role):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", NODE],
        stdin=subprocess.PIPE,
        stdout=2,  # our stderr
        env={**os.environ, "DMLC_ROLE": role},
    )


def _create(stores, errors):
    try:
        stores.append(mxnet.kv.create("dist_sync"))
    except mxnet.MXNetError as error:
        errors.append(str(error).splitlines()[-1])


def _end():
    # How the scheduler or the server has ended, if one has.
    for role, node in _nodes.items():
        if (code := node.poll()) is not None:
            return f"MXNet's {role} has ended with exit code {code}."
    return None


def _watch():
    # Without one of them the workers wait forever.
    while not _left.wait(0.5):
        if message := _end():
            # A worker that fails ends the server too; its own message comes first.
            if _left.wait(2):
                return
            print(f"Error: {message}", file=sys.stderr, flush=True)
            os._exit(1)


def _kill():
    for node in _nodes.values():
        node.kill()
        node.wait()
        node.stdin.close()
    _nodes.clear()


def _delete():
    global _store
    _left.set()
    _store = None


def _exit():
    # The thread that still waits for the others would abort the process when that exits.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(RNNScratchError.exit_code)


def _set_barrier(wait):
    # Whether the store waits for the other workers when it is deleted.
    mxnet.base.check_call(
        mxnet.base._LIB.MXKVStoreSetBarrierBeforeExit(_store.handle, ctypes.c_int(wait))
    )


def _integers(vector):
    # The vector's bits as integers, the lowest bits of all its elements first.
    bits = vector.view(f"u{vector.itemsize}")
    shifts = range(0, 8 * vector.itemsize, BITS)
    return numpy.concatenate([(bits >> shift) & (2**BITS - 1) for shift in shifts])


def _vector(integers, dtype):
    # And back.
    unsigned = f"u{dtype.itemsize}"
    shifts = range(0, 8 * dtype.itemsize, BITS)
    parts = numpy.split(integers.astype(unsigned), len(shifts))
    bits = sum(part << shift for part, shift in zip(parts, shifts))
    return bits.astype(unsigned, copy=False).view(dtype)
