"""Sets up a run: prepares the text, starts the backend, draws parameters, builds the model.

Training, exact mode's check, comparison and inference all start here. (The check of the single
functions has fixed arrays and no text, and builds its models from these.)
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from .. import registry
from ..contract import CELLS, Arrays, Backend, Model, Options, Team
from ..errors import RNNScratchError
from ..parameters import initial, shapes
from ..settings import Settings, model_options
from ..system import host
from ..text import dataset
from ..text.books import Text
from ..text.dataset import Dataset
from . import exchange, schedule
from .runtime import Runtime

# These frameworks share each product among their threads. With fewer weights than LARGE in W_h the
# threads wait for each other longer than they compute (two threads, rnn with 128 hidden units: 0.55
# to 0.75 of one thread's speed). TensorFlow and JAX share only what is large enough.
SHARE_ALL, LARGE = ("numpy", "torch", "mxnet"), 2**16


class Setup(NamedTuple):
    """Everything that computes a run."""

    settings: Settings
    runtime: Runtime  # with the device and the number of threads in use
    backend: Backend
    model: Model
    data: Dataset | None  # of the text, if there is one
    team: Team | None = None  # the workers, if there are several

    @property
    def dataset(self) -> Dataset:
        """The dataset of a setup that has a text."""
        assert self.data is not None
        return self.data


def set_up(
    settings: Settings,
    runtime: Runtime,
    text: Text | None = None,
    arrays: Arrays | None = None,
    team: Team | None = None,
) -> Setup:
    """Prepare the text, start the backend, draw the parameters and build the model.

    With `arrays`, these are the parameters, and no text is needed. With a team, its workers are
    joined, and the parameters are those of the first. Raises RNNScratchError for a text that does
    not fit the settings, a backend that does not start, workers that do not find each other, a
    device that it does not have, or a model that it does not offer, checked in this order.
    """
    data = None if text is None else dataset.prepare(text, settings)
    if data is not None:
        schedule.require(len(data.train), settings)
    threads = runtime.threads
    if threads is None and runtime.backend in SHARE_ALL and _weights(settings) < LARGE:
        threads = 1
    backend, threads = registry.start(runtime.backend, threads)
    _allocate_buffers()
    backend.machine.set_eager(runtime.eager)
    if team is not None:
        registry.workers(runtime.backend, backend).join(team)
    device = registry.choose_device(runtime.backend, backend, runtime.device, settings.dtype)
    if data is not None:
        vocab_size = len(data.vocab)
    else:
        assert arrays is not None
        vocab_size = len(arrays["b_q"])
    options = model_options(settings, vocab_size, device)
    if arrays is None:
        _require_memory(options, settings.optimizer)
        arrays = initial(options, settings.sigma, settings.seed, settings.optimizer)
    if team is not None:
        # Other processors may draw numbers that differ in the last bit.
        drawn = [array.astype(settings.dtype) for array in arrays.values()]
        arrays = dict(zip(arrays, exchange.of_the_first(backend, device, drawn)))
    optimizer = "sgd" if data is None else settings.optimizer  # which is for training only
    model = registry.build(runtime.backend, backend, runtime.model, arrays, options, optimizer)
    runtime = msgspec.structs.replace(runtime, device=device, threads=threads)
    return Setup(settings, runtime, backend, model, data, team)


def _weights(settings: Settings) -> int:
    # Of W_h: what the hidden state is multiplied with at every time step.
    return len(CELLS[settings.cell].gates) * settings.num_hiddens**2


def _allocate_buffers() -> None:
    # OpenBLAS allocates a buffer of 32 MiB in its first product, which it keeps. Where a limit on
    # the address space leaves no room for it, OpenBLAS would try again forever: MemoryError.
    np.empty(2**26, np.uint8)
    some = np.ones((200, 200), np.float32)
    some @ some


def _require_memory(options: Options, optimizer: str) -> None:
    # The least that it takes: the starting values, which are drawn in float64, and the model's own.
    # A system that promises more than it has would end the process instead of refusing.
    numbers = sum(math.prod(shape) for shape in shapes(options, optimizer).values())
    least, memory = numbers * (8 + np.dtype(options.dtype).itemsize), host.memory()
    if memory is not None and least > memory:
        raise RNNScratchError(
            f"The {numbers:,} numbers of the parameters and the optimizer's state take at least "
            f"{least / 2**30:,.0f} GiB of memory, and this machine has {memory / 2**30:,.0f}.",
            "Use fewer `--num-hiddens` or `--layers`.",
        )
