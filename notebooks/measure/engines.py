"""Measure the exchange between workers: `python -m measure engines FILE [PART ...]`.

The site's page on several workers quotes FILE. Only the named parts, by default both, are measured;
the rest of the file is kept. The parts are:

``workers``        the communication libraries of all backends: times in milliseconds of an
                   exchange between two workers and of the library's all-reduce, measured in turns,
                   and of a minibatch without an exchange; the number of elements in which the
                   library's sum differs from the sum in rank order
``workers-exact``  digests in exact mode, with different numbers of workers

Every worker uses one thread. Timings need an idle machine.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from make.site_workers import parameters

from measure.measuring import ask, rounded, write
from rnn_scratch import registry
from rnn_scratch.contract import Batch, Options, Update, WorkerGroup
from rnn_scratch.parameters import initial
from rnn_scratch.settings import Settings
from rnn_scratch.system import host
from rnn_scratch.workers import groups

WORKERS = 2  # number of workers in a timed exchange
SUMMED = (2, 4)  # numbers of workers for the bitwise comparison of sums
ELEMENTS = 1000  # length of the compared sums
VOCABULARY, STEPS = 28, Settings().num_steps
LR = 1e-4  # small, to prevent divergence: operations on non-finite values may take longer
TIMEOUT = 600.0  # seconds for one answer
DTYPE = "float32"
LIBRARIES = {  # communication library of each backend
    "numpy": "MPI through mpi4py",
    "torch": "Gloo of PyTorch",
    "tensorflow": "collective operations of TensorFlow over gRPC",
    "mxnet": "MPI through mpi4py",
    "jax": "Gloo of JAX",
}
MODEL = "fast"
HIDDENS = (128, 512, 1024)  # hidden units of the `rnn` cell
BATCH_SIZES = (16, 32, 64, 128, 256)
TURNS = 15  # repetitions of an exchange; minibatches are repeated a third as often
# For each run in exact mode: the backends and the number of epochs.
EXACT = (("numpy torch tensorflow mxnet jax", 5), ("numpy torch", 20))


def mpi_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return a function that sums `vector` over all workers with MPI, via NumPy arrays."""
    from mpi4py import MPI

    def all_reduce():
        values = backend.machine.array(vector)
        out = np.empty_like(values)
        MPI.COMM_WORLD.Allreduce(values, out)
        return backend.machine.tensor(out, "cpu")

    return all_reduce


def torch_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return a function that sums a copy of `vector` over all workers with torch.distributed."""
    from torch import distributed

    def all_reduce():
        out = vector.clone()
        distributed.all_reduce(out)
        return out

    return all_reduce


def tensorflow_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return a function that sums `vector` over all workers with TensorFlow's collective op."""
    import tensorflow as tf

    def all_reduce():
        return tf.raw_ops.CollectiveReduceV2(
            input=vector,
            group_size=backend.workers._size,
            group_key=1,
            instance_key=2**30 + len(vector),  # differs from the keys of gather operations
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
            communication_hint="ring",
            timeout_seconds=TIMEOUT,
        )

    return all_reduce


def jax_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return a function that sums `vector` over all workers with JAX's `psum`."""
    import jax

    all_reduce = jax_compiled(backend, lambda part: jax.lax.psum(part, backend.workers.WORKERS))
    return lambda: all_reduce(vector)


def tensorflow_compiled(backend: Any, function: Callable) -> Callable:
    """Compile a function of a vector with `tf.function`, like `train_minibatch`."""
    import tensorflow as tf

    return tf.function(function)


def jax_compiled(backend: Any, function: Callable) -> Callable:
    """Compile a function of a vector as one program for all workers."""
    import jax

    workers = backend.workers
    mesh = workers.workers_mesh("cpu")
    specs = {"in_specs": workers.SHARDED, "out_specs": workers.REPLICATED}
    compiled = jax.jit(jax.shard_map(function, mesh=mesh, **specs, check_vma=False))
    return lambda vector: workers.local_shards(
        compiled(workers.to_global_arrays(vector, workers.SHARDED, mesh))
    )


LIBRARY_SUMS = {
    "numpy": mpi_sum,
    "torch": torch_sum,
    "tensorflow": tensorflow_sum,
    "mxnet": mpi_sum,
    "jax": jax_sum,
}
COMPILED = {"tensorflow": tensorflow_compiled, "jax": jax_compiled}


def exchange(group: WorkerGroup, name: str) -> Iterator[dict[str, Any]]:
    """Time one worker's exchanges of a number, and of loss and gradients for each model size.

    ``gather`` is the exchange alone; ``all_reduce`` also adds in rank order, as in training;
    ``own`` is the library's all-reduce. A timing starts when all workers are ready.
    """
    backend = _join(group, name)
    machine = backend.machine
    scalar = machine.tensor(np.zeros(1, DTYPE), "cpu")
    for size in (1, *(parameters(H, VOCABULARY) + 1 for H in HIDDENS)):
        values = np.random.RandomState(group.rank).normal(0, 1, size).astype(DTYPE)
        exchanges = _exchanges(backend, name, machine.tensor(values, "cpu"))
        milliseconds: dict[str, list[float]] = {kind: [] for kind in exchanges}
        for turn in range(TURNS + 2):
            for kind, function in exchanges.items():
                # Wait until all workers are ready.
                machine.synchronize(backend.workers.all_gather([scalar])[0], "cpu")
                start = time.perf_counter()
                machine.synchronize(function(), "cpu")
                if turn > 1:  # the first two turns may compile or connect
                    milliseconds[kind].append(1000 * (time.perf_counter() - start))
        yield {"numbers": size, **{kind: median(values) for kind, values in milliseconds.items()}}
    yield {"engine": LIBRARIES[name], "environment": machine.versions()}
    backend.workers.leave()


def _exchanges(backend: Any, name: str, vector: Any) -> dict[str, Callable[[], list[Any]]]:
    # Return the functions to time, keyed by name; compile them if the backend compiles training.
    def all_gather(vector):
        return backend.workers.all_gather([vector])[0]

    def all_reduce(vector):
        return list(backend.workers.all_reduce(vector[:1], {"all": vector})[1].values())

    engine_sum = LIBRARY_SUMS[name](backend, vector)
    if name in COMPILED:
        all_gather, all_reduce = (COMPILED[name](backend, f) for f in (all_gather, all_reduce))
    return {
        "gather": lambda: all_gather(vector),
        "all_reduce": lambda: all_reduce(vector),
        "own": lambda: [engine_sum()],
    }


def order(group: WorkerGroup, name: str) -> Iterator[dict[str, Any]]:
    """Count the elements in which sums over the workers differ from the sum in rank order."""
    backend = _join(group, name)
    machine, num_workers = backend.machine, len(group.addresses)
    generators = map(np.random.RandomState, range(num_workers))
    vectors = [rng.normal(0, 1, ELEMENTS).astype(DTYPE) for rng in generators]
    expected = sum(vectors[1:], vectors[0])
    vector = machine.tensor(vectors[group.rank], "cpu")
    engine_sum = machine.array(LIBRARY_SUMS[name](backend, vector)())
    _, means = backend.workers.all_reduce(vector, {"all": vector})
    mean_vector = machine.array(means["all"])
    yield {
        "workers": num_workers,
        "elements": ELEMENTS,
        "own": int((engine_sum != expected).sum()),
        "all_reduce": int((mean_vector != expected / np.float32(num_workers)).sum()),
    }
    backend.workers.leave()


def compute(name: str) -> Iterator[dict[str, Any]]:
    """Time minibatches of all sizes in a process with one thread and without other workers."""
    backend, _ = registry.start(name, 1)
    rng = np.random.RandomState(0)
    for num_hiddens in HIDDENS:
        options = Options(VOCABULARY, num_hiddens, dtype=DTYPE)
        arrays = initial(options, Settings().sigma, 0)
        model = registry.build(name, backend, MODEL, arrays, options)
        for B in BATCH_SIZES:
            batch = Batch(*rng.randint(0, VOCABULARY, (2, B, STEPS), "int64"))
            milliseconds = []
            for turn in range(TURNS // 3 + 1):
                start = time.perf_counter()
                _, state = backend.scratch.train_epoch(
                    model, [batch] * 2, [Update(lr=LR)] * 2, True
                )
                backend.machine.synchronize([*state, *model.params.values()], "cpu")
                if turn:  # the first turn compiles
                    milliseconds.append(1000 * (time.perf_counter() - start) / 2)
            yield {"num_hiddens": num_hiddens, "batch_size": B, **median(milliseconds)}


def _join(group: WorkerGroup, name: str) -> Any:
    backend, _ = registry.start(name, 1)
    backend.workers.join(group)
    return backend


def median(values: list[float]) -> dict[str, float]:
    """Return the median of `values`, rounded, as a dict for the record."""
    return {"median": rounded(statistics.median(values))}


def engines() -> dict[str, Any]:
    """Return the ``workers`` part of the record: measurements of the communication libraries."""
    answers: dict[str, Any] = {}
    for name in LIBRARY_SUMS:
        *timings, metadata = groups.ask(exchange, WORKERS, name, timeout=TIMEOUT)
        minibatches = list(ask(compute, name, timeout=TIMEOUT))
        sums = [
            answer
            for num_workers in SUMMED
            for answer in groups.ask(order, num_workers, name, timeout=TIMEOUT)
        ]
        measurements = {"exchanges": timings, "minibatches": minibatches, "sums": sums}
        answers[name] = {**metadata, **measurements}
        print(name, json.dumps(timings[-1]), flush=True)
    settings = {"num_steps": STEPS, "vocabulary": VOCABULARY, "dtype": DTYPE, "cell": "rnn"}
    return {
        "settings": {**settings, "model": MODEL, "workers": WORKERS, "threads": 1},
        "engines": answers,
    }


def exact() -> dict[str, Any]:
    """Return the ``workers-exact`` part of the record: the output of `check --exact`."""
    runs = []
    for backends, epochs in EXACT:
        options = f"--corpus time-machine --workers 1,2,4 --epochs {epochs}"
        command = f"check --exact {options} --json {backends}"
        program = [sys.executable, "-m", "rnn_scratch.cli", *shlex.split(command)]
        # If parameters differ or a run fails, raise an error instead of writing the record.
        result = subprocess.run(
            program, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
        )
        print(command, flush=True)
        runs.append({"command": f"rnn-scratch {command}", **json.loads(result.stdout)})
    return {"trainings": runs}


PARTS = {"workers": engines, "workers-exact": exact}


def main(file: str, *parts: str) -> None:
    """Measure the named parts, or all parts, and write them to `file`."""
    path = Path(file)
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in parts or PARTS:
        metadata = {"command": f"nox -s records -- {name}", "load": os.getloadavg()[0]}
        record[name] = {**metadata, "machine": host.describe(), **PARTS[name]()}
        write(file, record)
