"""The communication library for several workers: Gloo between CPUs, NCCL between GPUs."""

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

from .machine import device_of, jit_update, tensor
from .scratch import OPTIMIZERS, clip, gradients

# Partition specs: rows sharded over the workers, or replicated.
WORKERS = "workers"
SHARDED, REPLICATED = PartitionSpec(WORKERS), PartitionSpec()


def join(group):
    """Join the other workers of a training run; return when all have joined."""
    if not os.environ.get(VERBOSE):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # only fatal errors of XLA
    # Workers connect to each other directly, even if other programs need a proxy.
    os.environ["no_grpc_proxy"] = group.addresses[0].rpartition(":")[0]  # noqa: SIM112
    jax.config.update("jax_check_proxy_envs", False)
    terminate = signal.getsignal(signal.SIGTERM)
    jax.distributed.initialize(
        group.addresses[0],
        len(group.addresses),
        group.rank,
        cluster_detection_method="deactivate",  # MPI has detected the cluster
        initialization_timeout=mpi.CONNECT_TIMEOUT,
        heartbeat_timeout_seconds=mpi.HEARTBEAT_TIMEOUT,
        coordinator_bind_address=group.addresses[0],
    )
    # JAX installs a SIGTERM handler that does not exit, but a worker must exit.
    signal.signal(signal.SIGTERM, terminate)
    # A worker that ends without `leave` has failed. At exit, JAX would wait for the other workers,
    # which wait for this worker's gradients.
    atexit.register(os._exit, 1)
    all_gather([tensor(np.zeros(1, "float32"), "cpu")])  # connects the workers with each other


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = jnp.concatenate([t.reshape(-1) for t in tensors])  # one exchange
    if isinstance(vector, jax.core.Tracer):
        rows = jax.lax.all_gather(vector, WORKERS)
    else:
        mesh = workers_mesh(next(iter(vector.devices())).platform)
        with jax.disable_jit(False):
            rows = local_shards(_exchange(to_global_arrays(vector, SHARDED, mesh), mesh))
    ends = np.cumsum([t.size for t in tensors])
    parts = jnp.split(rows, ends[:-1], 1)  # N vectors for each tensor
    return [[part.reshape(t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Average the loss and each gradient over the workers, added in rank order."""
    # XLA would multiply by 1 / N, rounded, if it saw that all elements have the same divisor N.
    mean, *means = (
        sum(parts) / jax.lax.optimization_barrier(jnp.full_like(parts[0], len(parts)))
        for parts in all_gather([mean, *grads.values()])
    )
    return mean, dict(zip(grads, means))


def shard_over_workers(function, device):
    """Compile the pure `function` as one program that all workers execute together.

    Each worker computes with its own rows, and `all_gather` is an operation of the program.
    """
    mesh = workers_mesh(device)

    @functools.partial(jax.jit, static_argnames="rule")
    def program(replicated, sharded, rule):
        local = functools.partial(function, rule=rule)
        specs = {
            "in_specs": (REPLICATED, SHARDED),
            "out_specs": ((REPLICATED, SHARDED), REPLICATED),
        }
        # JAX cannot check that `all_gather` makes results equal in all workers. Without the check,
        # a gradient is the gradient of the worker's own rows, as `gradients` requires.
        return jax.shard_map(local, mesh=mesh, **specs, check_vma=False)(replicated, sharded)

    def call(replicated, sharded, rule):
        if jax.config.jax_disable_jit:
            return function(replicated, sharded, rule)
        *tensors, numbers = replicated
        replicated = *to_global_arrays(tensors, REPLICATED, mesh), numbers
        sharded = to_global_arrays(sharded, SHARDED, mesh)
        return local_shards(program(replicated, sharded, rule))

    return call


@functools.partial(jit_update, wrapped=shard_over_workers)
def train_minibatch_distributed(model, batch, state, update):
    """Update all workers' parameters once; return the mean loss and this worker's state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean, state


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    jax.distributed.shutdown()
    atexit.unregister(os._exit)


@functools.cache
def workers_mesh(device):
    """Return a mesh with one device of each worker."""
    workers = range(jax.process_count(device))
    return Mesh([device_of(device, rank) for rank in workers], WORKERS)


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
