"""Communication between workers via MPI (MPICH and mpi4py).

MPI (MPICH 5.0) connects only processes that its launcher has started. On one machine, the workers
are child processes of the `train` command instead. Therefore, worker 0 starts a launcher with idle
processes, one per worker, and each worker assumes the identity of an idle process.
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
from rnn_scratch.workers import mpi

from .scratch import OPTIMIZERS, clip, gradients


def join(group):
    """Connect to the other workers; return when all workers have joined."""
    if not any(name.startswith(mpi.VARIABLES) for name in os.environ):
        _use_launcher(group)
    mpi.wait(mpi.world().Ibarrier())


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = np.concatenate([t.reshape(-1) for t in tensors])  # one exchange for all tensors
    rows = np.empty((mpi.world().size, vector.size), vector.dtype)
    # Send bytes instead of numbers, so that no conversion can change the values.
    mpi.wait(mpi.world().Iallgather(vector.view(np.uint8), rows.view(np.uint8)))
    ends = np.cumsum([t.size for t in tensors])
    parts = zip(*(np.split(row, ends[:-1]) for row in rows))  # per tensor, one vector per worker
    return [[part.reshape(t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean_loss, grads):
    """Average the loss and each gradient over all workers, adding in rank order."""
    mean_loss, *mean_grads = (
        sum(parts) / len(parts) for parts in all_gather([mean_loss, *grads.values()])
    )
    return mean_loss, dict(zip(grads, mean_grads))


def train_minibatch_distributed(model, batch, state, update):
    """Train on the workers' averaged gradients; return the mean loss and this worker's state."""
    mean_loss, grads, state = gradients(model, batch, state)
    mean_loss, grads = all_reduce(mean_loss, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean_loss, state


def leave():
    """Disconnect from the other workers after training; every worker must call this."""
    mpi.finalize()
    if "PMI_PORT" in os.environ:  # skip the exit handlers, which crash in MPICH 5.0
        atexit.register(mpi.leave, 0)


def _use_launcher(group):
    # Tell MPI the address of worker 0's launcher, and this worker's rank. Use TCP over the loopback
    # interface instead of shared memory, because a container may have little shared memory.
    host, _, port = group.addresses[0].rpartition(":")
    with contextlib.ExitStack() as stack:
        if group.rank == 0:
            pmi_port = stack.enter_context(_launcher(len(group.addresses)))
            server = stack.enter_context(socket.create_server((host, int(port))))
            connections = [stack.enter_context(server.accept()[0]) for _ in group.addresses[1:]]
            for connection in connections:
                connection.sendall(pmi_port)
        else:
            pmi_port = stack.enter_context(_connect(host, int(port))).makefile("rb").readline()
        address = f"{host}:{pmi_port.decode().strip()}"
        os.environ.update(PMI_PORT=address, PMI_ID=str(group.rank), MPIR_CVAR_NOLOCAL="1")
        os.environ.update(MPIR_CVAR_CH4_NETMOD="ofi", FI_PROVIDER="tcp")
        os.environ["FI_TCP_IFACE"] = mpi.LOOPBACK_INTERFACE
        mpi.world().Barrier()  # wait for all workers, because the launcher ends next


@contextlib.contextmanager
def _launcher(workers):
    # Start mpiexec, and yield the port of its process manager. The `mpich` package installs mpiexec
    # next to the interpreter.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    options = f"-launcher fork -rmk user -pmi-port -n {workers} sh -c".split()
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        raise RNNScratchError("Several workers need MPICH's `mpiexec`.", mpi.INSTALL)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [mpiexec, *options, "echo $PMI_PORT; cat"]
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            port = process.stdout.readline().rpartition(b":")[2]
            if not port.strip().isdigit():
                raise RNNScratchError(f"{mpiexec} does not belong to MPICH.", mpi.INSTALL)
            yield port
        finally:
            process.terminate()


def _connect(host, port):
    # Connect to worker 0; retry until it listens.
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port))
        time.sleep(0.1)
