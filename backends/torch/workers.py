"""PyTorch's engine for training in several processes: Gloo between CPUs, NCCL between GPUs."""

import contextlib
import os
import socket
import struct
from datetime import timedelta

import torch
from torch import distributed

from rnn_scratch.contract import RNNScratchError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

JOIN = timedelta(seconds=45)  # to wait for the other workers
EXCHANGE = timedelta(minutes=10)  # and for what they send, which they may still have to compute


def join(team):
    """Join the other workers of a training."""
    if not distributed.is_available():
        raise RNNScratchError("This PyTorch was built without its package torch.distributed.")
    # Each library listens on the first address of the interface with this name.
    interface = _interface(team.host)
    if interface:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        os.environ["NCCL_SOCKET_IFNAME"] = f"={interface}"  # "=": not a prefix of names
    engines = "gloo"
    if torch.cuda.is_available():
        engines = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(team.rank % torch.cuda.device_count())
    try:
        distributed.init_process_group(
            engines,
            store=_store(team),
            rank=team.rank,
            world_size=len(team.addresses),
            timeout=EXCHANGE,
        )
    except (RuntimeError, OSError) as error:  # DistError of PyTorch is a RuntimeError
        raise RNNScratchError(
            f"Worker {team.rank} did not reach the others at {', '.join(team.addresses)}: "
            f"{str(error).splitlines()[0]}"
        ) from error


def gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])  # one exchange
    if vector.device.type == "mps":
        raise RNNScratchError("PyTorch has no engine for several workers on MPS.\nUse the CPU.")
    rows = [torch.empty_like(vector) for _ in range(distributed.get_world_size())]
    distributed.all_gather(rows, vector)
    sizes = [tensor.numel() for tensor in tensors]
    parts = zip(*(row.split(sizes) for row in rows), strict=True)  # for each tensor, N vectors
    return [[part.reshape(t.shape) for part in each] for t, each in zip(tensors, parts)]


def leave():
    """Leave the other workers, at the end of a training."""
    distributed.barrier()
    distributed.destroy_process_group()


def engine():
    """The engine's name and version."""
    name = "NCCL and Gloo" if torch.cuda.is_available() else "Gloo"
    return f"{name} of PyTorch {torch.__version__}"


def _store(team):
    # Where the workers exchange their own addresses: a server in the first of them. By itself it
    # would listen on all interfaces, so it gets a socket that is bound to the team's host only.
    host, _, port = team.addresses[0].rpartition(":")
    server = socket.create_server((host, int(port))).detach() if team.rank == 0 else None
    return distributed.TCPStore(
        host, int(port), len(team.addresses), team.rank == 0, JOIN, master_listen_fd=server
    )


def _interface(host):
    # The name of the network interface with this address, or None where it is unknown.
    address = socket.inet_aton(socket.gethostbyname(host))
    loopback = socket.inet_aton("127.0.0.1")
    if address[0] == loopback[0]:
        address = loopback  # its interface has all addresses that begin with 127
    SIOCGIFADDR = 0x8915
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an address
                request = struct.pack("256s", name.encode())
                if fcntl.ioctl(any_socket, SIOCGIFADDR, request)[20:24] == address:
                    return name
    return None
