"""JAX's engine for training in several processes: Gloo between CPUs, NCCL between GPUs."""

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

from rnn_scratch.contract import VERBOSE
from rnn_scratch.workers import network

from .machine import (
    ROWS,
    SAME,
    WORKERS,
    compiled_together,
    join_arrays,
    own_arrays,
    tensor,
    workers_mesh,
)
from .scratch import OPTIMIZERS, clip, gradients, rounded

SILENCE = 600  # seconds without a sign of life, after which a worker is given up


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


def gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = jnp.concatenate([each.ravel() for each in tensors])  # one exchange
    if isinstance(vector, jax.core.Tracer):
        rows = jax.lax.all_gather(vector, WORKERS)
    else:
        mesh = workers_mesh(next(iter(vector.devices())).platform)
        with jax.disable_jit(False):
            rows = own_arrays(_all_gather(join_arrays(vector, ROWS, mesh), mesh))
    results, start = [], 0
    for each in tensors:
        parts = rows[:, start : start + each.size]
        results.append([part.reshape(each.shape) for part in parts])
        start += each.size
    return results


def all_reduce(mean, grads):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(parts) / len(parts) for parts in gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


@compiled_together  # as one program, which all of them execute together
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


@functools.partial(jax.jit, static_argnames="mesh")
def _all_gather(vectors, mesh):
    exchange = functools.partial(jax.lax.all_gather, axis_name=WORKERS)
    spread = jax.shard_map(exchange, mesh=mesh, in_specs=ROWS, out_specs=SAME, check_vma=False)
    return spread(vectors)


def _connect(team):
    jax.distributed.initialize(
        team.addresses[0],
        len(team.addresses),
        team.rank,
        cluster_detection_method="deactivate",  # or it looks for Slurm and the like
        initialization_timeout=2 * network.JOIN,
        heartbeat_timeout_seconds=SILENCE,
        coordinator_bind_address=team.addresses[0],
    )
    # By itself JAX has Gloo listen on the address that the machine's own name stands for. NCCL, on
    # GPUs, chooses an interface of the machine, unless the user sets NCCL_SOCKET_IFNAME.
    register_backend_factory("cpu", functools.partial(_cpu, team.host), fail_quietly=False)
    gather([tensor(np.zeros(1, "float32"), "cpu")])  # connects the workers with one another


def _cpu(host):
    # What JAX does itself to start on a CPU, apart from the host.
    gloo = xla_client._xla.make_gloo_tcp_collectives(distributed.global_state.client, host)
    return xla_bridge.make_cpu_client(gloo)
