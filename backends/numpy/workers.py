"""Several workers, which exchange arrays through MPI, the engine of mpi4py.

MPI's processes are usually started by its own command, mpiexec, which tells each its rank and where
the others are. These workers are started by somebody else, so worker 0 answers MPI's questions
itself. They are those of MPICH and MPIs derived from it (the protocol is called PMI-1), and what
depends on MPICH is in `join`, `_answer` and `_settings`.
"""

import contextlib
import ctypes
import os
import re
import socket
import struct
import threading
import time
import uuid
from importlib.metadata import version

import numpy as np

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.workers import network

INSTALL = "Install them in the folder of the clone: pip install -e '.[workers]'"
PATIENCE = 45.0  # seconds to wait for the other workers
_MPI = None  # the module mpi4py.MPI


def join(team):
    """Join the other workers of a training run: returns when all have."""
    global _MPI
    MPI = _library()
    settings = _settings(team)
    connection = _connection(team)
    settings["PMI_FD"] = str(os.dup(connection.fileno()))
    # Without the variables of a scheduler such as Slurm.
    with network.variables(settings, without="PMI"):
        # Not MPI.Init, which would keep the thread that answers in worker 0 from running.
        code = ctypes.CDLL(MPI.__file__).MPI_Init(None, None)
    if code != MPI.SUCCESS or MPI.COMM_WORLD.size != len(team.addresses):
        raise RNNScratchError(
            f"{engine()} does not connect the workers of the numpy backend, which need MPICH.\n"
            + INSTALL
        )
    # When a process ends, MPICH says so to the thread and waits for an answer, but no thread of
    # Python runs then. After MPI.Finalize it would even crash without one, so nobody calls that.
    connection.shutdown(socket.SHUT_RD)
    _unlink_shared_memory()
    MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)  # which become exceptions
    _MPI = MPI


def gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = np.concatenate([tensor.reshape(-1) for tensor in tensors])
    vectors = np.empty((_MPI.COMM_WORLD.size, vector.size), vector.dtype)
    try:
        request = _MPI.COMM_WORLD.Iallgather([vector, _MPI.BYTE], [vectors, _MPI.BYTE])
        # MPICH would wait in a busy loop, and take the core from a worker that still computes.
        pause = 0.0
        while not request.Test():
            time.sleep(pause)
            pause = min(pause + 1e-6, 1e-3)
    except _MPI.Exception as error:
        raise RNNScratchError(f"The exchange with the other workers failed: {error}") from error
    ends = np.cumsum([tensor.size for tensor in tensors])
    parts = zip(*(np.split(each, ends[:-1]) for each in vectors))
    return [[p.reshape(tensor.shape) for p in part] for tensor, part in zip(tensors, parts)]


def all_reduce(mean, grads, workers):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(each) / workers for each in gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    # After the first, the others may still miss what MPI has sent or is about to send, because
    # that may wait for a connection. The second finds all connections made.
    for _ in range(2):
        gather([np.zeros(1)])


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    name, numbers = _library().get_vendor()
    return f"{name} {'.'.join(map(str, numbers))} through mpi4py {version('mpi4py')}"


def _library():
    # The module mpi4py.MPI, which would start and end MPI by itself.
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the latter where it finds no MPI
        raise RNNScratchError(
            f"The workers of the numpy backend need mpi4py and MPICH: {error}.\n" + INSTALL
        ) from error
    return MPI


def _connection(team):
    # This worker's end of a connection with the thread of worker 0 that answers it, which is made
    # once all workers have called. RNNScratchError if they have not in time.
    first, _, port = team.addresses[0].rpartition(":")
    deadline = time.monotonic() + PATIENCE
    try:
        if team.rank == 0:
            connections = _accept(team, first, int(port), deadline)
            mine, connections[0] = socket.socketpair()
            values, barrier = {}, threading.Barrier(len(team.addresses))
            name = uuid.uuid4().hex  # MPICH derives names of shared memory from it
            for connection in connections.values():
                arguments = connection, name, len(team.addresses), values, barrier
                threading.Thread(target=_answer, args=arguments, daemon=True).start()
        else:
            mine = _call(first, int(port), deadline)
            mine.sendall(struct.pack("!I", team.rank))
            mine.settimeout(PATIENCE + 5)
            if not mine.recv(1):  # it is sent when all workers have called
                raise OSError("worker 0 has ended")
            mine.settimeout(None)
    except (OSError, ValueError) as error:
        raise RNNScratchError(f"The workers do not find each other: {error}.") from error
    return mine


def _accept(team, own, port, deadline):
    # Connections with all other workers, by rank.
    connections = {}
    ranks = set(range(1, len(team.addresses)))
    with socket.create_server((own, port)) as server:
        while missing := ranks - set(connections):
            try:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                connection, _ = server.accept()
            except TimeoutError:
                which = ", ".join(map(str, sorted(missing)))
                raise OSError(f"no call from worker {which} within {PATIENCE:g} s") from None
            with contextlib.suppress(OSError, struct.error):  # somebody else's
                connection.settimeout(1)
                (rank,) = struct.unpack("!I", connection.recv(4))
                connection.settimeout(None)
                if rank in missing:
                    connections[rank] = connection
    for connection in connections.values():
        connection.sendall(b".")
    return connections


def _call(first, port, deadline):
    # A connection with worker 0, which may start later than this one.
    while True:
        try:
            return socket.create_connection((first, port), timeout=5)
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                raise
            time.sleep(0.1)


def _answer(connection, name, size, values, barrier):
    # Answer what MPICH asks when it starts: a line for a line, of words KEY=VALUE. By `put` a
    # process names its address, which others `get` after they all have met at a barrier.
    answers = {
        "init": "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
        "get_maxes": "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024",
        "get_appnum": "cmd=appnum rc=0 appnum=0",
        "get_my_kvsname": f"cmd=my_kvsname rc=0 kvsname={name}",
        "get_universe_size": f"cmd=universe_size rc=0 size={size}",
        "put": "cmd=put_result rc=0 msg=success",
        "barrier_in": "cmd=barrier_out rc=0",
    }
    with contextlib.suppress(OSError), connection.makefile("rw") as lines:
        for line in lines:
            words = dict(word.split("=", 1) for word in line.split())
            answer = answers.get(words["cmd"], "cmd=unknown rc=-1")
            if words["cmd"] == "put":
                values[words["key"]] = words["value"]
            elif words["cmd"] == "barrier_in":
                barrier.wait()
            elif words["cmd"] == "get":
                value = values.get(words["key"])
                answer = "cmd=get_result " + (f"rc=0 value={value}" if value else "rc=-1")
            lines.write(answer + "\n")
            lines.flush()


def _settings(team):
    # Environment variables for MPICH. All exchanges go through TCP, on one machine as between two.
    # Shared memory is faster, but a container may have little of it, and may have the name of
    # another one, by which MPICH would take both for the same machine.
    return {
        "PMI_RANK": str(team.rank),
        "PMI_SIZE": str(len(team.addresses)),
        "MPIR_CVAR_NOLOCAL": "1",
        "MPIR_CVAR_CH4_NETMOD": "ofi",
        "FI_PROVIDER": "tcp",
        "FI_TCP_IFACE": os.environ.get("FI_TCP_IFACE") or network.interface(team.host),
    }


def _unlink_shared_memory():
    # MPICH has a file of shared memory, and would leave it behind if the process were killed.
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:  # on Linux
        for path in set(re.findall(r"/dev/shm/mpich_shm_\w+", maps.read())):
            os.unlink(path)
