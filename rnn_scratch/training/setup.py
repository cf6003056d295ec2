"""Set up a run: prepare the text, start the backend, draw the parameters and build the model.

Training, the exact-mode check, comparisons and inference start with `prepare_run`.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .. import registry
from ..contract import CELLS, Arrays, Backend, Model, State, WorkerGroup
from ..parameters import initial
from ..settings import Settings, model_options
from ..text import dataset
from ..text.books import Text
from ..text.dataset import Dataset
from . import exchange
from .runtime import Runtime

# These frameworks divide every matrix product among threads. If W_h has fewer than MIN_WEIGHTS
# elements, threads wait longer than they compute: for rnn with 128 hidden units, two threads train
# at 0.55 to 0.75 times one thread's speed. TensorFlow and JAX divide only large products.
DIVIDE_ALL_PRODUCTS, MIN_WEIGHTS = ("numpy", "torch", "mxnet"), 2**16


class RunContext(NamedTuple):
    """The model and data of a run, and the backend that computes the model."""

    settings: Settings
    runtime: Runtime  # device and number of threads in use
    backend: Backend
    model: Model
    data: Dataset | None  # None for inference
    group: WorkerGroup = exchange.SINGLE_WORKER  # a single worker is a group of one
    watch: Callable[[State], None] | None = None  # exact mode: called with each update's state

    @property
    def dataset(self) -> Dataset:
        """The dataset, which a setup for inference lacks."""
        assert self.data is not None
        return self.data


def prepare_run(
    settings: Settings,
    runtime: Runtime,
    text: Text | None = None,
    arrays: Arrays | None = None,
    group: WorkerGroup | None = None,
) -> RunContext:
    """Prepare the text, start the backend, draw the parameters and build the model.

    If `arrays` is passed, it contains the parameters, and `text` may be None. Several workers
    connect to each other and start from worker 0's parameters. Raises RNNScratchError if, checked
    in this order, the text does not fit the settings, the backend does not start, the workers
    cannot connect, or the backend does not support the device or the model.
    """
    data = None if text is None else dataset.prepare(text, settings)
    threads, weights = runtime.threads, len(CELLS[settings.cell].gates) * settings.num_hiddens**2
    if threads is None and runtime.backend in DIVIDE_ALL_PRODUCTS and weights < MIN_WEIGHTS:
        threads = 1
    backend, threads = registry.start(runtime.backend, threads)
    backend.machine.set_eager(runtime.eager)
    group = group or exchange.SINGLE_WORKER
    if len(group.addresses) > 1:
        registry.workers(runtime.backend, backend).join(group)
    device = registry.choose_device(runtime.backend, backend, runtime.device, settings.dtype)
    vocab_size = len(data.vocab if data is not None else (arrays or {})["b_q"])
    options = model_options(settings, vocab_size, device)
    arrays = arrays or initial(options, settings.sigma, settings.seed, settings.optimizer)
    # Use worker 0's values: if a run is resumed, only worker 0 has read the checkpoint.
    initial_arrays = [array.astype(settings.dtype) for array in arrays.values()]
    gathered = exchange.all_gather(group, backend, device, initial_arrays)
    arrays = {name: copies[0] for name, copies in zip(arrays, gathered)}
    optimizer = "sgd" if data is None else settings.optimizer
    model = registry.build(runtime.backend, backend, runtime.model, arrays, options, optimizer)
    runtime = msgspec.structs.replace(runtime, device=device, threads=threads)
    return RunContext(settings, runtime, backend, model, data, group)
