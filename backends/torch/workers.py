"""Communication between workers via Gloo on CPUs and NCCL on GPUs."""

import os
import socket
from datetime import timedelta

import torch
from torch import distributed

from rnn_scratch.workers import mpi

from .scratch import OPTIMIZERS, clip, gradients

# Keep the tensors of the last two exchanges alive: if a PyTorch thread held a tensor's last
# reference, older versions of PyTorch (such as 2.2) could deadlock in `leave` or at exit.
_last_tensors = []


def join(group):
    """Connect to the other workers; return when all workers have joined."""
    if torch.cuda.is_available():  # workers on one machine share its GPUs
        torch.cuda.set_device(group.rank % torch.cuda.device_count())
    if group.host == mpi.LOOPBACK:  # otherwise, the libraries or the user choose the interface
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
    vector = torch.cat([t.detach().reshape(-1) for t in tensors])  # one exchange for all tensors
    rows = [torch.empty_like(vector) for _ in range(distributed.get_world_size())]
    _last_tensors[:] = [*_last_tensors[-1:], (vector, *rows)]
    try:
        distributed.all_gather(rows, vector)
    except RuntimeError as error:  # another worker has ended, or the device is MPS
        raise mpi.PeerLost(f"The exchange with the other workers failed: {error}") from error
    sizes = [t.numel() for t in tensors]
    parts = zip(*(row.split(sizes) for row in rows))  # per tensor, one vector per worker
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
    # After this exchange, the workers no longer need worker 0's store.
    all_gather([torch.zeros(1)])
    distributed.destroy_process_group()


def _store(group):
    # Connect to worker 0's server, where workers publish their ports. By default, the server would
    # listen on all interfaces, so pass a socket that is bound to the group's address.
    host, _, port = group.addresses[0].rpartition(":")
    server = socket.create_server((host, int(port))).detach() if group.rank == 0 else None
    return distributed.TCPStore(
        host,
        int(port),
        len(group.addresses),
        is_master=group.rank == 0,
        timeout=timedelta(seconds=mpi.CONNECT_TIMEOUT),
        master_listen_fd=server,
    )
