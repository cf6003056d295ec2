"""The engine for training in several processes: Gloo between CPUs, NCCL between GPUs."""

import atexit
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import distributed, xla_bridge
from jax._src.lib import xla_client
from jax.extend.backend import register_backend_factory
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnn_scratch.contract import VERBOSE
from rnn_scratch.workers import network

from .machine import compiled, device_of, tensor
from .scratch import OPTIMIZERS, clip, gradients, rounded

# Arrays of all workers: each has rows of its own, or all have the same.
WORKERS = "workers"
ROWS, SAME = PartitionSpec(WORKERS), PartitionSpec()


def join(team):
    """Join the other workers of a training run: returns when all have."""
    if not os.environ.get(VERBOSE):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # XLA's messages: only that of a fatal error
    # The workers speak to one another directly, though other programs may need a proxy.
    os.environ["no_grpc_proxy"] = team.addresses[0].rpartition(":")[0]  # noqa: SIM112
    jax.config.update("jax_check_proxy_envs", False)
    terminate = signal.getsignal(signal.SIGTERM)
    network.connect(team, _connect)  # after its own time JAX ends the process
    # JAX has a handler that only takes note of SIGTERM, where a worker is to end.
    signal.signal(signal.SIGTERM, terminate)
    # A worker that ends without `leave` has failed. JAX would have it wait for the others, which
    # wait for its gradients.
    atexit.register(os._exit, 1)


def all_gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = jnp.concatenate([t.reshape(-1) for t in tensors])  # one exchange
    if isinstance(vector, jax.core.Tracer):
        rows = jax.lax.all_gather(vector, WORKERS)
    else:
        mesh = workers_mesh(next(iter(vector.devices())).platform)
        with jax.disable_jit(False):
            rows = own_arrays(_exchange(join_arrays(vector, ROWS, mesh), mesh))
    ends = np.cumsum([t.size for t in tensors])
    parts = jnp.split(rows, ends[:-1], 1)  # for each tensor, N vectors
    return [[part.reshape(t.shape) for part in each] for t, each in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    # XLA would multiply by 1 / N, rounded, if it saw that all elements have the same divisor N.
    mean, *means = (
        sum(parts) / jax.lax.optimization_barrier(jnp.full_like(parts[0], len(parts)))
        for parts in all_gather([mean, *grads.values()])
    )
    return mean, dict(zip(grads, means))


def by_all_workers(function, device):
    """The function `pure`, compiled as one program that all workers execute together.

    Each computes with its own rows, and `all_gather` is an operation among others.
    """
    mesh = workers_mesh(device)

    @functools.partial(jax.jit, static_argnames="how")
    def program(same, own, how):
        each = functools.partial(function, how=how)
        specs = {"in_specs": (SAME, ROWS), "out_specs": ((SAME, ROWS), SAME)}
        # It cannot be checked that results are the same for all, as they are after `all_gather`.
        # Without the check a gradient is that of the worker's own rows, as `gradients` says.
        return jax.shard_map(each, mesh=mesh, **specs, check_vma=False)(same, own)

    def call(same, own, how):
        if jax.config.jax_disable_jit:
            return function(same, own, how)
        same, own = join_arrays(same, SAME, mesh), join_arrays(own, ROWS, mesh)
        return own_arrays(program(same, own, how))

    return call


@functools.partial(compiled, wrapped=by_all_workers)  # one program, which all of them execute
def train_together(model, batch, state, how):
    """One update of all workers, each from its own rows: their mean loss, and its own state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, how.theta)
    OPTIMIZERS[how.optimizer](model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    jax.distributed.shutdown()
    atexit.unregister(os._exit)


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    name = "NCCL and Gloo" if jax.default_backend() == "gpu" else "Gloo"
    return f"{name} of JAX {jax.__version__}"


@functools.cache
def workers_mesh(device):
    """One device of each worker, for a program that all of them compute together."""
    workers = range(jax.process_count(device))
    return Mesh([device_of(device, rank) for rank in workers], WORKERS)


def join_arrays(arrays, spec, mesh):
    """Arrays of this worker as its part of arrays of all workers: the same memory."""

    def joined(array):
        shape = array.shape if spec == SAME else (mesh.size * len(array), *array.shape[1:])
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_single_device_arrays(shape, sharding, [array])

    return jax.tree.map(joined, arrays)


def own_arrays(arrays):
    """This worker's part of arrays of all workers: the same memory."""
    return jax.tree.map(lambda array: array.addressable_data(0), arrays)


@functools.partial(jax.jit, static_argnames="mesh")
def _exchange(vectors, mesh):
    gather = functools.partial(jax.lax.all_gather, axis_name=WORKERS)
    spread = jax.shard_map(gather, mesh=mesh, in_specs=ROWS, out_specs=SAME, check_vma=False)
    return spread(vectors)


def _connect(team):
    jax.distributed.initialize(
        team.addresses[0],
        len(team.addresses),
        team.rank,
        cluster_detection_method="deactivate",  # or it looks for Slurm and the like
        initialization_timeout=2 * network.JOIN,
        heartbeat_timeout_seconds=network.SILENCE,
        coordinator_bind_address=team.addresses[0],
    )
    # By itself JAX has Gloo listen on the address that the machine's own name stands for. NCCL, on
    # GPUs, chooses an interface of the machine, unless the user sets NCCL_SOCKET_IFNAME.
    register_backend_factory("cpu", functools.partial(_cpu, team.host), fail_quietly=False)
    all_gather([tensor(np.zeros(1, "float32"), "cpu")])  # connects the workers with one another


def _cpu(host):
    # What JAX does itself to start on a CPU, apart from the host.
    gloo = xla_client._xla.make_gloo_tcp_collectives(distributed.global_state.client, host)
    return xla_bridge.make_cpu_client(gloo)
