"""What several workers exchange costs, and what it leads to: `python -m measure engines FILE`.

The site's page on several workers quotes the file that this writes. It has two parts, and with
names after FILE only these are made, and the rest of the file stays:

``workers``        the engines of all backends: milliseconds of an exchange between two workers, and
                   of the engine's own all-reduce, in turns; milliseconds of a minibatch without
                   an exchange; in how many elements a sum differs from the one in rank order
``workers-exact``  digests of trainings in exact mode, with different numbers of workers

The times are those of one thread for each worker, and need a machine with nothing else to do.
"""

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from measure.measuring import ask, rounded, write
from rnn_scratch import registry
from rnn_scratch.contract import Batch, Options, Rates, Team, Update
from rnn_scratch.parameters import initial
from rnn_scratch.settings import Settings
from rnn_scratch.system import host
from rnn_scratch.workers import groups

WORKERS = 2  # that exchange something when it is timed
SUMMED = (2, 4)  # numbers of workers whose sums are compared, bit by bit
ELEMENTS = 1000  # of these sums
VOCABULARY, STEPS = 28, Settings().num_steps
LR = 1e-4  # at which no training diverges: some numbers would take longer than others
TIMEOUT = 600.0  # seconds for one answer
DTYPE = "float32"


HIDDENS = (128, 512, 1024)  # of the cell rnn
BATCH_SIZES = (16, 32, 64, 128, 256)
TURNS = 15  # of an exchange; a minibatch takes a third of them
# In exact mode, the backends, and the number of epochs.
EXACT = (("numpy torch tensorflow mxnet jax", 5), ("numpy torch", 20))


def mpi_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return MPI's own all-reduce, of NumPy's arrays and of what others are converted to."""
    from mpi4py import MPI

    def work():
        values = backend.machine.array(vector)
        out = np.empty_like(values)
        MPI.COMM_WORLD.Allreduce(values, out)
        return backend.machine.tensor(out, "cpu")

    return work


def torch_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return the all-reduce of torch.distributed, which replaces the vector by the sum."""
    from torch import distributed

    def work():
        out = vector.clone()
        distributed.all_reduce(out)
        return out

    return work


def tensorflow_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return TensorFlow's collective operation."""
    import tensorflow as tf

    def work():
        return tf.raw_ops.CollectiveReduceV2(
            input=vector,
            group_size=backend.workers._size,
            group_key=1,
            instance_key=2**30 + len(vector),  # which no gather has
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
            communication_hint="ring",
            timeout_seconds=TIMEOUT,
        )

    return work


def jax_sum(backend: Any, vector: Any) -> Callable[[], Any]:
    """Return JAX's `psum` in a function that all workers execute together."""
    import jax

    work = jax_compiled(backend, lambda part: jax.lax.psum(part, backend.workers.WORKERS))
    return lambda: work(vector)


def tensorflow_compiled(backend: Any, function: Callable) -> Callable:
    """Compile a function of a vector, as `train_minibatch` is."""
    import tensorflow as tf

    return tf.function(function)


def jax_compiled(backend: Any, function: Callable) -> Callable:
    """Compile a function of a vector for all workers together."""
    import jax

    workers = backend.workers
    mesh = workers.workers_mesh("cpu")
    specs = {"in_specs": workers.ROWS, "out_specs": workers.SAME}
    compiled = jax.jit(jax.shard_map(function, mesh=mesh, **specs, check_vma=False))
    return lambda vector: workers.own_arrays(
        compiled(workers.join_arrays(vector, workers.ROWS, mesh))
    )


OWN_SUMS = {
    "numpy": mpi_sum,
    "torch": torch_sum,
    "tensorflow": tensorflow_sum,
    "mxnet": mpi_sum,
    "jax": jax_sum,
}
COMPILED = {"tensorflow": tensorflow_compiled, "jax": jax_compiled}


def exchange(team: Team, name: str, sizes: list[int], turns: int) -> Iterator[dict[str, Any]]:
    """Time exchanges of vectors of these sizes, as one of the workers.

    ``gather`` is the exchange alone, ``all_reduce`` also adds in rank order, as training does, and
    ``own`` is the engine's own all-reduce. All begin when every worker is ready.
    """
    backend = _join(team, name)
    machine = backend.machine
    one = machine.tensor(np.zeros(1, DTYPE), "cpu")
    for size in sizes:
        values = np.random.RandomState(team.rank).normal(0, 1, size).astype(DTYPE)
        works = _exchanges(backend, name, machine.tensor(values, "cpu"))
        milliseconds: dict[str, list[float]] = {what: [] for what in works}
        for turn in range(turns + 2):
            for what, work in works.items():
                machine.synchronize(backend.workers.all_gather([one])[0], "cpu")  # all are ready
                start = time.perf_counter()
                machine.synchronize(work(), "cpu")
                if turn > 1:  # the first ones compile, or connect
                    milliseconds[what].append(1000 * (time.perf_counter() - start))
        yield {"numbers": size, **{what: spread(times) for what, times in milliseconds.items()}}
    yield {"engine": backend.workers.engine(), "environment": machine.environment()}
    backend.workers.leave()


def _exchanges(backend: Any, name: str, vector: Any) -> dict[str, Callable[[], list[Any]]]:
    # By name, functions that return tensors; compiled where training is.
    def all_gather(vector):
        return backend.workers.all_gather([vector])[0]

    def all_reduce(vector):
        return list(backend.workers.all_reduce(vector[:1], {"all": vector})[1].values())

    engine_sum = OWN_SUMS[name](backend, vector)
    if name in COMPILED:
        all_gather, all_reduce = (COMPILED[name](backend, f) for f in (all_gather, all_reduce))
    return {
        "gather": lambda: all_gather(vector),
        "all_reduce": lambda: all_reduce(vector),
        "own": lambda: [engine_sum()],
    }


def order(team: Team, name: str) -> Iterator[dict[str, Any]]:
    """Compare sums over the workers with one in rank order, and count the elements that differ."""
    backend = _join(team, name)
    machine, number = backend.machine, len(team.addresses)
    chances = map(np.random.RandomState, range(number))
    vectors = [chance.normal(0, 1, ELEMENTS).astype(DTYPE) for chance in chances]
    expected = sum(vectors[1:], vectors[0])
    vector = machine.tensor(vectors[team.rank], "cpu")
    engine_sum = machine.array(OWN_SUMS[name](backend, vector)())
    _, means = backend.workers.all_reduce(vector, {"all": vector})
    mean = machine.array(means["all"])
    yield {
        "workers": number,
        "elements": ELEMENTS,
        "own": int((engine_sum != expected).sum()),
        "all_reduce": int((mean != expected / np.float32(number)).sum()),
    }
    backend.workers.leave()


def compute(
    name: str, model_name: str, hiddens: list[int], batch_sizes: list[int], turns: int
) -> Iterator[dict[str, Any]]:
    """Time a minibatch of each size, of a single worker on one thread."""
    backend, _ = registry.start(name, 1)
    chance = np.random.RandomState(0)
    for num_hiddens in hiddens:
        options = Options(VOCABULARY, num_hiddens, dtype=DTYPE)
        arrays = initial(options, Settings().sigma, 0)
        model = registry.build(name, backend, model_name, arrays, options)
        for B in batch_sizes:
            rates = Rates(np.asarray(LR, DTYPE))
            batch = Batch(*chance.randint(0, VOCABULARY, (2, B, STEPS), "int64"), rates=rates)
            milliseconds = []
            for turn in range(turns + 1):
                start = time.perf_counter()
                _, state = backend.scratch.train_epoch(model, [batch] * 2, Update(), True)
                backend.machine.synchronize([*state, *model.params.values()], "cpu")
                if turn:  # the first one compiles
                    milliseconds.append(1000 * (time.perf_counter() - start) / 2)
            yield {"num_hiddens": num_hiddens, "batch_size": B, **spread(milliseconds)}


def _join(team: Team, name: str) -> Any:
    backend, _ = registry.start(name, 1)
    backend.workers.join(team)
    return backend


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and largest, with the digits that a page could print."""
    ends = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: rounded(value) for name, value in ends.items()}


def engines() -> dict[str, Any]:
    """Make the part ``workers`` of the record."""
    numbers = {H: parameters(H) + 1 for H in HIDDENS}  # with the loss
    sizes, model = [1, *numbers.values()], "fast"
    answers: dict[str, Any] = {}
    for name in OWN_SUMS:
        task = name, sizes, TURNS
        *times, about = groups.ask(exchange, WORKERS, *task, timeout=TIMEOUT)
        task = name, model, HIDDENS, BATCH_SIZES, TURNS // 3
        minibatches = list(ask(compute, *task, timeout=TIMEOUT))
        sums = [
            answer
            for number in SUMMED
            for answer in groups.ask(order, number, name, timeout=TIMEOUT)
        ]
        answers[name] = {**about, "exchanges": times, "minibatches": minibatches, "sums": sums}
        print(name, json.dumps(times[-1]), flush=True)
    settings = {"num_steps": STEPS, "vocabulary": VOCABULARY, "dtype": DTYPE, "cell": "rnn"}
    return {
        "settings": {**settings, "model": model, "workers": WORKERS, "threads": 1},
        "engines": answers,
    }


def parameters(num_hiddens: int) -> int:
    """Count the parameters of the cell rnn."""
    return sum(int(np.prod(shape)) for shape in Options(VOCABULARY, num_hiddens).shapes().values())


def exact() -> dict[str, Any]:
    """Make the part ``workers-exact`` of the record."""
    trainings = []
    for backends, epochs in EXACT:
        options = f"--corpus time-machine --workers 1,2,4 --epochs {epochs} --every {epochs}"
        command = f"check --exact {options} --json {backends}"
        start = time.perf_counter()
        program = [sys.executable, "-m", "rnn_scratch.cli", *shlex.split(command)]
        # Where parameters differ, or a training fails, there is nothing to record.
        done = subprocess.run(
            program, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
        )
        seconds = round(time.perf_counter() - start)
        print(command, f"{seconds} s", flush=True)
        answer = json.loads(done.stdout)
        trainings.append({"command": f"rnn-scratch {command}", "seconds": seconds, **answer})
    return {"trainings": trainings}


PARTS = {"workers": engines, "workers-exact": exact}


def main(file: str, *parts: str) -> None:
    """Make these parts, or all."""
    path = Path(file)
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in parts or PARTS:
        about = {"command": f"nox -s records -- {name}", "load": host.load()}
        record[name] = {**about, "machine": host.describe(), **PARTS[name]()}
        write(file, record)
