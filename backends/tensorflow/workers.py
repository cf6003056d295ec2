"""Communication between workers via TensorFlow's collective operations over gRPC.

`tf.distribute.MultiWorkerMirroredStrategy` uses these operations, too. However, it also starts a
coordination service, which can wait forever for other workers while ignoring SIGTERM, and its
`gather` first exchanges the shapes.
"""

import contextlib
import os

import tensorflow as tf

from rnn_scratch.workers import mpi

from .machine import compile_update, device_scope
from .scratch import OPTIMIZERS, clip, gradients

_DEVICE = "/job:worker/replica:0/task:{}"  # format of a worker's device name
_size = 1  # number of workers
_gather_index = [0]  # position of each rank's data in a gathered tensor


def join(group):
    """Connect to the other workers; return when all workers have joined."""
    global _size, _gather_index
    from tensorflow.python.eager import context  # `enable_collective_ops` is not public

    # Bypass the environment's HTTP proxy, which gRPC would use to reach the other workers.
    hosts = [address.rpartition(":")[0] for address in group.addresses]
    os.environ["no_grpc_proxy"] = ",".join(hosts)  # noqa: SIM112 - the name that gRPC reads
    context.context().configure_collective_ops(
        collective_leader=_DEVICE.format(0), device_filters=[_DEVICE.format(group.rank)]
    )
    # TensorFlow's server always listens on all interfaces: "0.0.0.0" is hard-coded.
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
    # TensorFlow sorts the workers by name, so "task:10" comes before "task:2".
    _gather_index = [ranks.index(rank) for rank in range(_size)]


def all_gather(tensors):
    """Gather each tensor from all workers; return the copies in rank order."""
    vector = tf.concat([tf.reshape(t, [-1]) for t in tensors], 0)  # one exchange for all tensors
    # Send bits instead of numbers, so that no conversion can change the values.
    bits = tf.bitcast(vector, tf.int32)
    gathered = _exchange(tf.reshape(bits, [-1]), mpi.HEARTBEAT_TIMEOUT)
    rows = tf.unstack(tf.bitcast(tf.reshape(gathered, [_size, *bits.shape]), vector.dtype))
    sizes = [t.shape.num_elements() for t in tensors]
    ranked = (tf.split(rows[index], sizes) for index in _gather_index)
    parts = zip(*ranked)  # per tensor, one vector per worker
    return [[tf.reshape(part, t.shape) for part in copies] for t, copies in zip(tensors, parts)]


def all_reduce(mean_loss, grads):
    """Average the loss and each gradient over all workers, adding in rank order."""
    mean_loss, *mean_grads = (
        sum(parts) / len(parts) for parts in all_gather([mean_loss, *grads.values()])
    )
    return mean_loss, dict(zip(grads, mean_grads))


@compile_update  # compiled by tf.function, like `train_minibatch`
def train_minibatch_distributed(model, batch, state, update):
    """Train on the workers' averaged gradients; return the mean loss and this worker's state."""
    mean_loss, grads, state = gradients(model, batch, state)
    mean_loss, grads = all_reduce(mean_loss, grads)
    grads, _ = clip(grads, update.theta)
    OPTIMIZERS[update.optimizer](model, grads, update)
    return mean_loss, state


def leave():
    """Disconnect from the other workers after training; every worker must call this."""
    # Ignore errors, because another worker may exit before it replies.
    with contextlib.suppress(tf.errors.OpError):
        _exchange(tf.zeros([1], tf.int32), mpi.CONNECT_TIMEOUT)


def _exchange(vector, seconds):
    # Concatenate the vectors (n,) of all workers. Exchange them on the CPU, which all workers have,
    # regardless of their models' devices.
    with device_scope("cpu"):
        return tf.raw_ops.CollectiveGatherV2(
            input=vector,
            group_size=_size,
            group_key=1,
            # Calls with equal keys form one collective operation, and need inputs of equal shape.
            instance_key=vector.shape[0],
            ordering_token=[],
            communication_hint="ring",
            timeout_seconds=seconds,
        )
