"""The engine for training in several processes: MPI, by the library MPICH and by mpi4py.

Processes of MPI are started by a launcher, such as mpiexec or srun, which tells each of them where
the others are. Where none has started these workers, worker 0 starts mpiexec until all have joined.
"""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
import time
from importlib import metadata

import numpy as np

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.system import host
from rnn_scratch.workers import meeting, network
from rnn_scratch.workers.launch import Launch

from .scratch import OPTIMIZERS, clip, gradients, rounded

INSTALL = f"Install them{host.by_pip('workers')}"
_MPI = None  # the module mpi4py.MPI
_launched = False  # by a launcher


def join(team):
    """Join the other workers of a training run: returns when all have."""
    global _MPI, _launched
    _MPI = _library()
    _launched = any(name.startswith(network.MPI_VARIABLES) for name in os.environ)
    network.connect(team, _initialize if _launched else _start)  # MPI would wait forever


def all_gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = np.concatenate([t.reshape(-1) for t in tensors])  # one exchange
    rows = np.empty((_MPI.COMM_WORLD.size, vector.size), vector.dtype)
    try:
        # Bytes rather than numbers, so that no operation on the way can change one.
        request = _MPI.COMM_WORLD.Iallgather([vector, _MPI.BYTE], [rows, _MPI.BYTE])
        # MPICH would wait in a busy loop, and take the core from a worker that still computes.
        pause = 0.0
        while not request.Test():
            if network.lost.is_set():  # MPICH itself would wait forever
                raise network.Lost("Another worker has ended.")
            time.sleep(pause)
            pause = min(pause + 1e-6, 1e-3)
    except _MPI.Exception as error:
        raise network.Lost(f"The exchange with the other workers failed: {error}") from error
    ends = np.cumsum([t.size for t in tensors])
    parts = zip(*(np.split(row, ends[:-1]) for row in rows))  # for each tensor, N vectors
    return [[part.reshape(t.shape) for part in each] for t, each in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def train_together(model, batch, state, how):
    """One update of all workers, each from its own rows: their mean loss, and its own state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, how.theta)
    OPTIMIZERS[how.optimizer](model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    # After the first, the others may still miss what MPI has sent or is about to send, because
    # that may wait for a connection. The second finds all connections made.
    for _ in range(2):
        all_gather([np.zeros(1)])
    if _launched:  # the launcher takes the end of a process for a failure until all say this
        _MPI.Finalize()


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    name, numbers = _library().get_vendor()
    return f"{name} {'.'.join(map(str, numbers))} through mpi4py {metadata.version('mpi4py')}"


def _library():
    # The module mpi4py.MPI, which would start and end MPI by itself.
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the latter where it finds no MPI
        raise RNNScratchError(f"These workers need mpi4py and MPICH: {error}.", INSTALL) from error
    return MPI


def _start(team):
    # The processes that mpiexec starts here do nothing: the workers take their places.
    with contextlib.ExitStack() as stack:
        launch = Launch(len(team.addresses), team.rank, team.addresses[0], network.JOIN)
        port = stack.enter_context(_mpiexec(launch.workers)) if team.rank == 0 else 1
        answer = meeting.meet(launch, {}, address=f"{team.host}:{port}")
        variables = {"PMI_PORT": answer.addresses[0], "PMI_ID": str(team.rank)}
        # All exchanges go through TCP, on one machine as between two. Shared memory is faster, but
        # a container may have little of it, and may have the name of another one, by which MPICH
        # would take both for the same machine.
        variables |= {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi"}
        variables |= {"FI_PROVIDER": "tcp", "FI_TCP_IFACE": network.interface(team.host)}
        os.environ.update(variables)
        _initialize(team)
    # MPICH has a file of shared memory all the same, which a killed process would leave behind.
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:  # on Linux
        for path in set(re.findall(r"/dev/shm/mpich_shm_\w+", maps.read())):
            os.unlink(path)


@contextlib.contextmanager
def _mpiexec(workers):
    # The port at which mpiexec tells this number of processes where the others are. The package
    # mpich has put it beside the interpreter.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    options = f"-launcher fork -rmk user -pmi-port -n {workers} sh -c".split()
    mpiexec = shutil.which("mpiexec", path=path)
    if mpiexec is None:
        raise RNNScratchError("These workers need mpiexec of MPICH.", INSTALL)
    command = [mpiexec, *options, "echo $PMI_PORT; cat"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        try:
            port = process.stdout.readline().rpartition(b":")[2].strip()
            if not port.isdigit():
                raise RNNScratchError(f"{mpiexec} is not MPICH's.", INSTALL)
            yield int(port)
        finally:
            process.terminate()


def _initialize(team):
    # Not MPI.Init, during which no other thread of Python runs.
    start = ctypes.CDLL(_MPI.__file__).MPI_Init_thread
    code = start(None, None, _MPI.THREAD_MULTIPLE, ctypes.byref(ctypes.c_int()))
    world = _MPI.COMM_WORLD
    if code or (world.rank, world.size) != (team.rank, len(team.addresses)):
        raise RNNScratchError(f"{engine()} does not connect these workers.", INSTALL)
    world.Set_errhandler(_MPI.ERRORS_RETURN)  # which become exceptions
    world.Barrier()  # from here on nobody needs mpiexec
