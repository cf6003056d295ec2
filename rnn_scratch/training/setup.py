"""Set up a run: prepare the text, start the backend, draw the parameters, build the model.

Training, the check of exact mode, comparison and inference all start here.
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

# These frameworks divide every matrix product among their threads. With fewer weights in W_h, the
# threads wait for each other longer than they compute (two threads, rnn with 128 hidden units: 0.55
# to 0.75 of one thread's speed). TensorFlow and JAX divide only large products.
DIVIDE_ALL_PRODUCTS, MIN_WEIGHTS = ("numpy", "torch", "mxnet"), 2**16


class Setup(NamedTuple):
    """The model and data of a run, and the functions that compute it."""

    settings: Settings
    runtime: Runtime  # device and number of threads in use
    backend: Backend
    model: Model
    data: Dataset | None  # None if the model is only used
    group: WorkerGroup = exchange.ALONE  # a single worker is a group of one
    watch: Callable[[State], None] | None = None  # exact mode calls it after each update

    @property
    def dataset(self) -> Dataset:
        """The dataset, in a setup for training."""
        assert self.data is not None
        return self.data


def set_up(
    settings: Settings,
    runtime: Runtime,
    text: Text | None = None,
    arrays: Arrays | None = None,
    group: WorkerGroup | None = None,
) -> Setup:
    """Prepare the text, start the backend, draw the parameters and build the model.

    With `arrays`, these are the parameters, and no text is needed. Several workers join each other
    and start from worker 0's parameters. Raises RNNScratchError for a text that does not fit the
    settings, a backend that does not start, workers that do not find each other, a device that the
    backend does not have, or a model that it does not offer, in this order.
    """
    data = None if text is None else dataset.prepare(text, settings)
    threads, weights = runtime.threads, len(CELLS[settings.cell].gates) * settings.num_hiddens**2
    if threads is None and runtime.backend in DIVIDE_ALL_PRODUCTS and weights < MIN_WEIGHTS:
        threads = 1
    backend, threads = registry.start(runtime.backend, threads)
    backend.machine.set_eager(runtime.eager)
    group = group or exchange.ALONE
    if len(group.addresses) > 1:
        registry.workers(runtime.backend, backend).join(group)
    device = registry.choose_device(runtime.backend, backend, runtime.device, settings.dtype)
    vocab_size = len(data.vocab if data is not None else (arrays or {})["b_q"])
    options = model_options(settings, vocab_size, device)
    arrays = arrays or initial(options, settings.sigma, settings.seed, settings.optimizer)
    # Other processors may draw numbers that differ in the last bit.
    drawn = [array.astype(settings.dtype) for array in arrays.values()]
    gathered = exchange.all_gather(group, backend, device, drawn)
    arrays = {name: copies[0] for name, copies in zip(arrays, gathered)}
    optimizer = "sgd" if data is None else settings.optimizer
    model = registry.build(runtime.backend, backend, runtime.model, arrays, options, optimizer)
    runtime = msgspec.structs.replace(runtime, device=device, threads=threads)
    return Setup(settings, runtime, backend, model, data, group)
