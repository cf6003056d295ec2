"""Communication between workers via Gloo on CPUs and NCCL on GPUs."""

import atexit
import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnn_scratch.contract import VERBOSE
from rnn_scratch.workers import mpi

from .machine import get_device, jit_update, tensor
from .scratch import OPTIMIZERS, clip, gradients

# Partition specs for rows sharded over the workers, and for values replicated on all workers.
WORKERS = "workers"
SHARDED, REPLICATED = PartitionSpec(WORKERS), PartitionSpec()


def join(group):
    """Connect to the other workers; return when all workers have joined."""
    if not os.environ.get(VERBOSE):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # show only XLA's fatal errors
    # Bypass the environment's HTTP proxy, which gRPC would use to reach worker 0.
    os.environ["no_grpc_proxy"] = group.addresses[0].rpartition(":")[0]  # noqa: SIM112
    terminate = signal.getsignal(signal.SIGTERM)
    jax.distributed.initialize(
        group.addresses[0],
        len(group.addresses),
        group.rank,
        cluster_detection_method="deactivate",  # `workers.mpi` has already detected the cluster
        initialization_timeout=mpi.CONNECT_TIMEOUT,
        heartbeat_timeout_seconds=mpi.HEARTBEAT_TIMEOUT,
        coordinator_bind_address=group.addresses[0],
    )
    # Restore the SIGTERM handler: JAX's handler does not exit, but a worker must exit on SIGTERM.
    signal.signal(signal.SIGTERM, terminate)
    # A worker that exits without calling `leave` has failed. At exit, JAX would wait for the other
    # workers, which wait for this worker's gradients.
    atexit.register(os._exit, 1)
    all_gather([tensor(np.zeros(1, "float32"), "cpu")])  # connects the workers to each other


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = jnp.concatenate([t.reshape(-1) for t in tensors])  # one exchange for all tensors
    if isinstance(vector, jax.core.Tracer):
        rows = jax.lax.all_gather(vector, WORKERS)
    else:
        mesh = workers_mesh(next(iter(vector.devices())).platform)
        with jax.disable_jit(False):
            rows = local_shards(_exchange(to_global_arrays(vector, SHARDED, mesh), mesh))
    ends = np.cumsum([t.size for t in tensors])
    parts = jnp.split(rows, ends[:-1], 1)  # per tensor, one vector per worker
    return [[part.reshape(t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean_loss, grads):
    """Average the loss and each gradient over all workers, adding in rank order."""
    # Hide the constant divisor N from XLA, which would instead multiply by a rounded 1 / N.
    mean_loss, *mean_grads = (
        sum(parts) / jax.lax.optimization_barrier(jnp.full_like(parts[0], len(parts)))
        for parts in all_gather([mean_loss, *grads.values()])
    )
    return mean_loss, dict(zip(grads, mean_grads))


def shard_over_workers(function, device):
    """Compile the pure `function` as one program that all workers execute together.

    Each worker computes on its own rows, and `all_gather` is an operation of the program.
    """
    mesh = workers_mesh(device)

    @functools.partial(jax.jit, static_argnames="constants")
    def program(replicated, sharded, constants):
        local = functools.partial(function, constants=constants)
        specs = {
            "in_specs": (REPLICATED, SHARDED),
            "out_specs": ((REPLICATED, SHARDED), REPLICATED),
        }
        # JAX cannot verify that `all_gather` makes results equal in all workers. With
        # check_vma=False, a gradient depends only on the worker's rows, as `gradients` requires.
        return jax.shard_map(local, mesh=mesh, **specs, check_vma=False)(replicated, sharded)

    def call(replicated, sharded, constants):
        if jax.config.jax_disable_jit:
            return function(replicated, sharded, constants)
        *tensors, scalars = replicated
        replicated = *to_global_arrays(tensors, REPLICATED, mesh), scalars
        sharded = to_global_arrays(sharded, SHARDED, mesh)
        return local_shards(program(replicated, sharded, constants))

    return call


@functools.partial(jit_update, wrap=shard_over_workers)
def train_minibatch_distributed(model, batch, state, update):
    """Train on the workers' averaged gradients; return the mean loss and this worker's state."""
    mean_loss, grads, state = gradients(model, batch, state)
    mean_loss, grads = all_reduce(mean_loss, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean_loss, state


def leave():
    """Disconnect from the other workers after training; every worker must call this."""
    jax.distributed.shutdown()
    atexit.unregister(os._exit)


@functools.cache
def workers_mesh(device):
    """Return a mesh with one device per worker."""
    workers = range(jax.process_count(device))
    return Mesh([get_device(device, rank) for rank in workers], WORKERS)


def to_global_arrays(arrays, spec, mesh):
    """Wrap this worker's arrays as shards of global arrays, without copying."""

    def wrap(array):
        shape = (mesh.size * len(array), *array.shape[1:]) if spec == SHARDED else array.shape
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_single_device_arrays(shape, sharding, [array])

    return jax.tree.map(wrap, arrays)


def local_shards(arrays):
    """Return this worker's shards of global arrays, without copying."""
    return jax.tree.map(lambda array: array.addressable_data(0), arrays)


@functools.partial(jax.jit, static_argnames="mesh")
def _exchange(vectors, mesh):
    gather = functools.partial(jax.lax.all_gather, axis_name=WORKERS)
    specs = {"in_specs": SHARDED, "out_specs": REPLICATED}
    return jax.shard_map(gather, mesh=mesh, **specs, check_vma=False)(vectors)
