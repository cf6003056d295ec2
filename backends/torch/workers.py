"""The engine for training in several processes: Gloo between CPUs, NCCL between GPUs."""

import os
import socket
from datetime import timedelta

import torch
from torch import distributed

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.workers import network

from .scratch import OPTIMIZERS, clip, gradients, rounded

# The tensors of the last exchange. If one of PyTorch's threads had the last reference to a tensor,
# older versions, such as 2.2, could wait forever at the end: Python for that thread, and it for
# Python.
_kept = []


def join(team):
    """Join the other workers of a training run: returns when all have."""
    if not distributed.is_available():
        raise RNNScratchError("This PyTorch was built without its package torch.distributed.")
    if torch.cuda.is_available():  # workers on one machine share its GPUs
        torch.cuda.set_device(team.rank % torch.cuda.device_count())
    network.connect(team, _connect)  # after its own time PyTorch prints a lot


def all_gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = torch.cat([t.detach().reshape(-1) for t in tensors])  # one exchange
    if vector.device.type == "mps":
        raise RNNScratchError("PyTorch has no engine for workers on MPS.", "Use --device cpu.")
    rows = [torch.empty_like(vector) for _ in range(distributed.get_world_size())]
    _kept[:] = [vector, *rows]
    try:
        distributed.all_gather(rows, vector)
    except RuntimeError as error:  # another worker has ended
        raise network.Lost(f"The exchange with the other workers failed: {error}") from error
    sizes = [t.numel() for t in tensors]
    parts = zip(*(row.split(sizes) for row in rows))  # for each tensor, N vectors
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
    all_gather([torch.zeros(1)])  # all are here, and need the server of the first one no more
    distributed.destroy_process_group()


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    name = "NCCL and Gloo" if torch.cuda.is_available() else "Gloo"
    return f"{name} of PyTorch {torch.__version__}"


def _connect(team):
    # Each library listens on the first address of the interface with this name.
    name = network.interface(team.host)
    os.environ["GLOO_SOCKET_IFNAME"] = name
    os.environ["NCCL_SOCKET_IFNAME"] = f"={name}"  # not a prefix of several names
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=_store(team),
        rank=team.rank,
        world_size=len(team.addresses),
        timeout=timedelta(seconds=network.SILENCE),
    )


def _store(team):
    # Where the workers publish on which ports they listen: a server in the first of them. By itself
    # it would listen on all addresses, so it gets a socket that is bound to the team's only.
    first, _, port = team.addresses[0].rpartition(":")
    server = socket.create_server((first, int(port))).detach() if team.rank == 0 else None
    return distributed.TCPStore(
        first,
        int(port),
        len(team.addresses),
        is_master=team.rank == 0,
        timeout=timedelta(seconds=2 * network.JOIN),
        master_listen_fd=server,
    )
