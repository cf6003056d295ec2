"""Prepare a run: tokenize the text, start the backend, draw the parameters and build the model."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from .. import registry, steps
from ..contract import Arrays, Backend, Model
from ..parameters import draw_parameters
from ..settings import Settings, model_options, update_rule
from ..text import dataset
from ..text.books import Text
from ..text.dataset import Dataset
from ..workers import WorkerGroup
from .runtime import Runtime


class LoadedModel(NamedTuple):
    """A model and the backend that runs it."""

    runtime: Runtime  # device and number of threads in use
    backend: Backend
    model: Model


@dataclass(frozen=True)
class RunContext:
    """A run's model and data, and the backend that runs the model."""

    settings: Settings
    runtime: Runtime  # device and number of threads in use
    backend: Backend
    model: Model
    dataset: Dataset
    group: WorkerGroup | None = None  # None for a single worker


def start_model(
    settings: Settings,
    runtime: Runtime,
    vocab_size: int,
    arrays: Arrays | None = None,
    optimizer: str = "sgd",
) -> LoadedModel:
    """Start the backend and build the model from `arrays` or random initial parameters.

    Raises RNNScratchError if the backend does not start or does not support the device or model.
    """
    backend, threads = registry.start(runtime.backend, runtime.threads)
    backend.machine.set_eager(runtime.eager)
    device = registry.choose_device(backend, runtime.device, settings.dtype)
    options = model_options(settings, vocab_size, device)
    arrays = arrays or draw_parameters(options, settings.sigma, settings.seed, optimizer)
    model = registry.build(backend, runtime.variant, arrays, options, optimizer, settings.exact)
    registry.require_settings(backend, runtime.variant, update_rule(settings))
    runtime = msgspec.structs.replace(runtime, device=device, threads=threads)
    return LoadedModel(runtime, backend, model)


def prepare_run(
    settings: Settings,
    runtime: Runtime,
    text: Text,
    arrays: Arrays | None = None,
    group: WorkerGroup | None = None,
) -> RunContext:
    """Prepare the text and build the model from `arrays` or random initial parameters.

    Raises RNNScratchError if the text does not fit the settings, or if `start_model` fails.
    """
    data = dataset.prepare(text, settings)
    runtime, backend, model = start_model(
        settings, runtime, len(data.vocab), arrays, settings.optimizer
    )
    if group is not None:
        step = steps.make_training_step(backend, settings.exact, group.distribute)
        model = replace(model, train_minibatch=step)
    return RunContext(settings, runtime, backend, model, data, group)
