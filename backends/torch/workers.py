"""The communication library for several workers: Gloo between CPUs, NCCL between GPUs."""

import os
import socket
from datetime import timedelta

import torch
from torch import distributed

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.workers import mpi

from .scratch import OPTIMIZERS, clip, gradients

# Keeps the tensors of the last exchange alive: if a PyTorch thread held the last reference to a
# tensor, older versions (such as 2.2) could deadlock at exit.
_last_tensors = []


def join(group):
    """Join the other workers of a training run; return when all have joined."""
    if torch.cuda.is_available():  # workers on one machine share its GPUs
        torch.cuda.set_device(group.rank % torch.cuda.device_count())
    if group.host == mpi.LOOPBACK:  # else the libraries choose an interface, or the user does
        os.environ["GLOO_SOCKET_IFNAME"] = mpi.LOOPBACK_INTERFACE
        os.environ["NCCL_SOCKET_IFNAME"] = mpi.LOOPBACK_INTERFACE
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=_store(group),
        rank=group.rank,
        world_size=len(group.addresses),
        timeout=timedelta(seconds=mpi.HEARTBEAT_TIMEOUT),
    )


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = torch.cat([t.detach().reshape(-1) for t in tensors])  # one exchange
    if vector.device.type == "mps":
        raise RNNScratchError("PyTorch has no communication library for MPS.", "Use --device cpu.")
    rows = [torch.empty_like(vector) for _ in range(distributed.get_world_size())]
    _last_tensors[:] = [vector, *rows]
    try:
        distributed.all_gather(rows, vector)
    except RuntimeError as error:  # another worker has ended
        raise mpi.PeerLost(f"The exchange with the other workers failed: {error}") from error
    sizes = [t.numel() for t in tensors]
    parts = zip(*(row.split(sizes) for row in rows))  # N vectors for each tensor
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
    all_gather(
        [torch.zeros(1)]
    )  # all workers have arrived, so worker 0's store is no longer needed
    distributed.destroy_process_group()


def _store(group):
    # Worker 0's server, where workers publish their ports. By default it would listen on all
    # interfaces, so it gets a socket that is bound to the group's address.
    first, _, port = group.addresses[0].rpartition(":")
    server = socket.create_server((first, int(port))).detach() if group.rank == 0 else None
    return distributed.TCPStore(
        first,
        int(port),
        len(group.addresses),
        is_master=group.rank == 0,
        timeout=timedelta(seconds=mpi.CONNECT_TIMEOUT),
        master_listen_fd=server,
    )
