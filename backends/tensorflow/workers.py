"""The communication library for several workers: TensorFlow's collective operations over gRPC.

`tf.distribute.MultiWorkerMirroredStrategy` uses the same operations, but it also starts a
coordination service, which waits for the other workers forever and then ignores SIGTERM, and its
`gather` exchanges the shapes first.
"""

import contextlib
import os

import tensorflow as tf

from rnn_scratch.workers import mpi

from .machine import compile_update, device_scope
from .scratch import OPTIMIZERS, clip, gradients

_DEVICE = "/job:worker/replica:0/task:{}"  # name of the device of a rank
_size = 1  # number of workers
_gather_index = [0]  # position of each rank in the gathered tensor


def join(group):
    """Join the other workers of a training run; return when all have joined."""
    global _size, _gather_index
    from tensorflow.python.eager import context  # `enable_collective_ops` has no public name

    # Otherwise gRPC would use the environment's HTTP proxy to reach the other workers.
    hosts = [address.rpartition(":")[0].strip("[]") for address in group.addresses]
    os.environ["no_grpc_proxy"] = ",".join(hosts)  # noqa: SIM112 - gRPC's name
    context.context().configure_collective_ops(
        collective_leader=_DEVICE.format(0), device_filters=[_DEVICE.format(group.rank)]
    )
    # The server listens on all interfaces of the machine: "0.0.0.0" is a constant in TensorFlow.
    server = tf.train.ServerDef(
        cluster=tf.train.ClusterSpec({"worker": group.addresses}).as_cluster_def(),
        job_name="worker",
        task_index=group.rank,
        default_session_config=context.context().config,
        protocol="grpc",
    )
    context.context().enable_collective_ops(server)
    _size = len(group.addresses)
    ranks = _exchange(tf.constant([group.rank]), mpi.CONNECT_TIMEOUT).numpy().tolist()
    # TensorFlow sorts the workers by name, so that "task:10" comes before "task:2".
    _gather_index = [ranks.index(rank) for rank in range(_size)]


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = tf.concat([tf.reshape(t, [-1]) for t in tensors], 0)  # one exchange
    # Bits rather than numbers, so that no operation on the way can change one.
    bits = tf.bitcast(vector, tf.int32)
    everything = _exchange(tf.reshape(bits, [-1]), mpi.HEARTBEAT_TIMEOUT)
    rows = tf.unstack(tf.bitcast(tf.reshape(everything, [_size, *bits.shape]), vector.dtype))
    sizes = [t.shape.num_elements() for t in tensors]
    ranked = (tf.split(rows[index], sizes) for index in _gather_index)
    parts = zip(*ranked)  # N vectors for each tensor
    return [[tf.reshape(part, t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Average the loss and each gradient over the workers, added in rank order."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


@compile_update  # as one graph, as `train_minibatch` is
def train_minibatch_distributed(model, batch, state, update):
    """Update all workers' parameters once; return the mean loss and this worker's state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean, state


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    # Ignore errors: another worker may have finished and exited before it replied.
    if _size > 1:
        with contextlib.suppress(tf.errors.OpError):
            _exchange(tf.zeros([1], tf.int32), mpi.CONNECT_TIMEOUT)


def _exchange(vector, seconds):
    # Concatenate the vectors (n,) of all workers, on the CPU: there the operations are the same
    # for all workers, whatever the model's device.
    with device_scope("cpu"):
        return tf.raw_ops.CollectiveGatherV2(
            input=vector,
            group_size=_size,
            group_key=1,
            # Operations with the same key belong together and must always have the same shape.
            instance_key=vector.shape[0],
            ordering_token=[],
            communication_hint="ring",
            timeout_seconds=seconds,
        )
