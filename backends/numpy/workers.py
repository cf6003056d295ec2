"""The communication library for several workers: MPI, by MPICH and mpi4py.

MPI connects only processes that its launcher has started. On one machine, where the workers are
children of the command, worker 0 therefore starts a launcher with as many idle processes, and the
workers take their places: MPICH 5.0 cannot connect processes that no launcher has started.
"""

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sysconfig
import time

import numpy as np

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.system import terminal
from rnn_scratch.workers import mpi

from .scratch import OPTIMIZERS, clip, gradients


def join(group):
    """Join the other workers of a training run; return when all have joined."""
    mpi.library()  # is it installed?
    if not any(name.startswith(mpi.VARIABLES) for name in os.environ):
        _take_places(group)
    mpi.wait(mpi.world().Ibarrier())


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = np.concatenate([t.reshape(-1) for t in tensors])  # one exchange
    rows = np.empty((mpi.world().size, vector.size), vector.dtype)
    # Bytes rather than numbers, so that no operation on the way can change one.
    mpi.wait(mpi.world().Iallgather(vector.view(np.uint8), rows.view(np.uint8)))
    ends = np.cumsum([t.size for t in tensors])
    parts = zip(*(np.split(row, ends[:-1]) for row in rows))  # N vectors for each tensor
    return [[part.reshape(t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Average the loss and each gradient over the workers, added in rank order."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def train_minibatch_distributed(model, batch, state, update):
    """Update all workers' parameters once; return the mean loss and this worker's state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean, state


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    mpi.finalize()
    if "PMI_PORT" in os.environ:  # MPICH 5.0 would crash at exit
        atexit.register(terminal.leave, 0)


def _take_places(group):
    # Tell MPI where worker 0's launcher listens, and whose place this worker takes. TCP over the
    # loopback interface instead of shared memory, of which a container may have little.
    host, _, port = group.addresses[0].rpartition(":")
    with contextlib.ExitStack() as stack:
        if group.rank == 0:
            pmi_port = stack.enter_context(_launcher(len(group.addresses)))
            server = stack.enter_context(socket.create_server((host, int(port))))
            others = [stack.enter_context(server.accept()[0]) for _ in group.addresses[1:]]
            for other in others:
                other.sendall(pmi_port)
        else:
            pmi_port = stack.enter_context(_connect(host, int(port))).makefile("rb").readline()
        address = f"{host}:{pmi_port.decode().strip()}"
        os.environ.update(
            {"PMI_PORT": address, "PMI_ID": str(group.rank), "MPIR_CVAR_NOLOCAL": "1"}
        )
        os.environ.update({"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"})
        os.environ["FI_TCP_IFACE"] = mpi.LOOPBACK_INTERFACE
        mpi.world().Barrier()  # the launcher is no longer needed


@contextlib.contextmanager
def _launcher(workers):
    # Start mpiexec, and return the port at which it tells workers of each other. The package mpich
    # has put it next to the interpreter.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    options = f"-launcher fork -rmk user -pmi-port -n {workers} sh -c".split()
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        raise RNNScratchError("These workers need mpiexec of MPICH.", mpi.INSTALL)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [mpiexec, *options, "echo $PMI_PORT; cat"]
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            port = process.stdout.readline().rpartition(b":")[2]
            if not port.strip().isdigit():
                raise RNNScratchError(f"{mpiexec} is not MPICH's.", mpi.INSTALL)
            yield port
        finally:
            process.terminate()


def _connect(host, port):
    # Connect to worker 0, which may not listen yet.
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port))
        time.sleep(0.1)
