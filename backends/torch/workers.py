"""PyTorch's engine for training in several processes: Gloo between CPUs, NCCL between GPUs."""

import os
import socket
import struct
import sys
import threading
from datetime import timedelta

import torch
from torch import distributed

from rnn_scratch.contract import RNNScratchError

JOIN = 45  # seconds to wait for the other workers
EXCHANGE = timedelta(minutes=10)  # to wait for what they send, which they may have to compute


def join(team):
    """Join the other workers of a training."""
    if not distributed.is_available():
        raise RNNScratchError("This PyTorch was built without its package torch.distributed.")
    if torch.cuda.is_available():  # workers on one machine share its GPUs
        torch.cuda.set_device(team.rank % torch.cuda.device_count())
    errors = []

    def connect():
        try:
            _connect(team)
        except Exception as error:  # whatever the engine raises
            errors.append(error)

    # In a thread, since it cannot be interrupted, and after its own time it prints a lot.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(JOIN)
    if thread.is_alive() or errors:
        reason = f"{errors[0]}".splitlines()[0] if errors else f"not all came within {JOIN} seconds"
        raise RNNScratchError(
            f"Worker {team.rank} did not reach the others at {', '.join(team.addresses)}: {reason}."
        )


def gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])  # one exchange
    if vector.device.type == "mps":
        raise RNNScratchError(
            "PyTorch has no engine for several workers on MPS.\nUse --device cpu."
        )
    rows = [torch.empty_like(vector) for _ in range(distributed.get_world_size())]
    distributed.all_gather(rows, vector)
    sizes = [tensor.numel() for tensor in tensors]
    parts = zip(*(row.split(sizes) for row in rows), strict=True)  # for each tensor, N vectors
    return [[part.reshape(t.shape) for part in each] for t, each in zip(tensors, parts)]


def leave():
    """Leave the other workers, at the end of a training."""
    gather([torch.zeros(1)])  # all are here, and need the server of the first one no more
    distributed.destroy_process_group()


def engine():
    """The engine's name and version."""
    name = "NCCL and Gloo" if torch.cuda.is_available() else "Gloo"
    return f"{name} of PyTorch {torch.__version__}"


def _connect(team):
    interface = _interface(team.host)
    if interface:  # each library listens on the first address of the interface with this name
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        os.environ["NCCL_SOCKET_IFNAME"] = f"={interface}"  # not a prefix of several names
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=_store(team),
        rank=team.rank,
        world_size=len(team.addresses),
        timeout=EXCHANGE,
    )


def _store(team):
    # Where the workers publish on which ports they listen: a server in the first of them. By itself
    # it would listen on all addresses, so it gets a socket that is bound to the team's only.
    host, _, port = team.addresses[0].rpartition(":")
    server = socket.create_server((host, int(port))).detach() if team.rank == 0 else None
    return distributed.TCPStore(
        host,
        int(port),
        len(team.addresses),
        is_master=team.rank == 0,
        timeout=timedelta(seconds=2 * JOIN),
        master_listen_fd=server,
    )


def _interface(host):
    # The name of the network interface with this address.
    if sys.platform != "linux":
        return None  # unknown: Gloo listens on the address that the machine's own name stands for
    import fcntl  # which Windows does not have

    address = socket.inet_aton(socket.gethostbyname(host))
    loopback = socket.inet_aton("127.0.0.1")
    if address[0] == loopback[0]:
        address = loopback  # the first one of its interface, which has all that begin with 127
    SIOCGIFADDR = 0x8915  # asks the system for the first address of an interface
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            if reply[20:24] == address:
                return name
    raise RNNScratchError(f"{host} is not the first address of a network interface here")
