"""The engine for training in several processes: TensorFlow's collective operations over gRPC.

`tf.distribute.MultiWorkerMirroredStrategy` stands on the same operations, but it starts a
coordination service too, which waits for the other workers forever and then ignores SIGTERM, and
its `gather` exchanges the shapes first.
"""

import contextlib
import os

import tensorflow as tf
from tensorflow.python.eager import context  # without a public name for `enable_collective_ops`

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.workers import network

from .machine import on, on_its_device
from .scratch import OPTIMIZERS, clip, gradients, rounded

_DEVICE = "/job:worker/replica:0/task:{}"  # of a rank
_size = 1  # number of workers
_places = [0]  # of each rank, in what the engine gathers


def join(team):
    """Join the other workers of a training run: returns when all have."""
    global _size, _places
    # Otherwise gRPC would look for the workers behind a proxy that the environment names for HTTP.
    hosts = [address.rpartition(":")[0].strip("[]") for address in team.addresses]
    os.environ["no_grpc_proxy"] = ",".join(hosts)  # noqa: SIM112 - which nothing but gRPC reads
    context.context().configure_collective_ops(
        collective_leader=_DEVICE.format(0), device_filters=[_DEVICE.format(team.rank)]
    )
    # The server listens on the port of this worker's address, on all interfaces of the machine: in
    # TensorFlow "0.0.0.0" is a constant, and no option, field or environment variable changes it.
    server = tf.train.ServerDef(
        cluster=tf.train.ClusterSpec({"worker": team.addresses}).as_cluster_def(),
        job_name="worker",
        task_index=team.rank,
        default_session_config=context.context().config,
        protocol="grpc",
    )
    context.context().enable_collective_ops(server)
    _size = len(team.addresses)
    try:
        ranks = _exchange(tf.constant([team.rank]), network.JOIN).numpy().tolist()
    except tf.errors.OpError as error:
        raise RNNScratchError(
            f"Worker {team.rank} did not reach the others at {', '.join(team.addresses)} within "
            f"{network.JOIN} seconds: {error.message}."
        ) from error
    # The engine sorts the workers by their names, and so "task:10" comes before "task:2".
    _places = [ranks.index(rank) for rank in range(_size)]


def all_gather(tensors):
    """For each of these tensors, those of all workers in its place, in the order of their ranks."""
    vector = tf.concat([tf.reshape(t, [-1]) for t in tensors], 0)  # one exchange
    # Bits rather than numbers, so that no operation on the way can change one.
    bits = tf.bitcast(vector, tf.int32)
    everything = _exchange(tf.reshape(bits, [-1]), network.SILENCE)
    rows = tf.unstack(tf.bitcast(tf.reshape(everything, [_size, *bits.shape]), vector.dtype))
    sizes = [t.shape.num_elements() for t in tensors]
    parts = zip(*(tf.split(rows[place], sizes) for place in _places))  # for each tensor, N vectors
    return [[tf.reshape(part, t.shape) for part in each] for t, each in zip(tensors, parts)]


def all_reduce(mean, grads):
    """Mean over the workers of the loss and of each gradient, added in the order of their ranks."""
    mean, *means = (sum(parts) / len(parts) for parts in all_gather([mean, *grads.values()]))
    return mean, dict(zip(grads, means))


@on_its_device
@tf.function  # compiled as one graph, as `train_minibatch` is
def train_together(model, batch, state, how):
    """One update of all workers, each from its own rows: their mean loss, and its own state."""
    mean, grads, state = gradients(model, batch, state)
    mean, grads = all_reduce(mean, grads)
    grads, _ = clip(grads, how.theta)
    OPTIMIZERS[how.optimizer](model, grads, how, batch.rates)
    return mean, tuple(rounded(each, how.state_grid) for each in state)


def leave():
    """Leave the other workers, at the end of a training run: every worker calls it."""
    # An error here is that of a worker which is through, and has ended before its answer was sent.
    if _size > 1:
        with contextlib.suppress(tf.errors.OpError):
            _exchange(tf.zeros([1], tf.int32), network.JOIN)


def engine():
    """The engine's name and version, such as "Gloo of PyTorch 2.13.0"."""
    return f"collective operations of TensorFlow {tf.__version__} over gRPC"


def _exchange(vector, seconds):
    # The vectors (n,) of all workers, one after another.
    # On the CPU, wherever the model is: there the operations are the same for all workers.
    with on("cpu"):
        return tf.raw_ops.CollectiveGatherV2(
            input=vector,
            group_size=_size,
            group_key=1,
            # Operations with the same key belong together, and have the same shape in all calls.
            instance_key=vector.shape[0],
            ordering_token=[],
            communication_hint="ring",
            timeout_seconds=seconds,
        )
