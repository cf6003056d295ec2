"""Sets up a run: prepares the text, starts the backend, draws parameters, builds the model.

Training, exact mode's check, comparison and inference all start here. (The check of the single
functions has fixed arrays and no text, and builds its models from these.)
"""

from typing import NamedTuple

from .. import registry
from ..contract import Arrays, Backend, Model, RNNScratchError
from ..initial import initial
from ..settings import Settings, model_options
from ..text import dataset
from ..text.corpus import Text
from ..text.dataset import Prepared


class Place(NamedTuple):
    """Where and how a run computes: this may differ between the sessions of one run."""

    backend: str = "torch"
    model: str = "scratch"
    device: str = "auto"
    threads: int | None = None  # None: the framework's own choice
    eager: bool = False  # True: run functions uncompiled, to debug them


class Setup(NamedTuple):
    """Everything that computes a run."""

    settings: Settings
    place: Place  # with the device and the number of threads in use
    backend: Backend
    model: Model
    prepared: Prepared | None  # the text, if there is one

    @property
    def text(self) -> Prepared:
        """The prepared text of a setup that has one."""
        assert self.prepared is not None
        return self.prepared


def set_up(
    settings: Settings, place: Place, text: Text | None = None, arrays: Arrays | None = None
) -> Setup:
    """Prepare the text, start the backend, draw the parameters and build the model.

    With `arrays`, these are the parameters, and no text is needed. Raises RNNScratchError for a
    text that does not fit the settings, a backend that does not start, a device that it does not
    have, or a model that it does not offer, checked in this order.
    """
    prepared = None if text is None else dataset.prepare(text, settings)
    backend, threads = registry.start(place.backend, place.threads)
    backend.machine.set_eager(place.eager)
    device = registry.choose_device(place.backend, backend, place.device, settings.dtype)
    if arrays is None:
        if prepared is None:
            raise RNNScratchError("A model needs a text to train on, or parameters to start from.")
        arrays = initial(
            len(prepared.vocab),
            settings.num_hiddens,
            settings.sigma,
            settings.seed,
            settings.embedding,
            settings.cell,
        )
    options = model_options(settings, device)
    model = registry.build(place.backend, backend, place.model, arrays, options)
    return Setup(settings, place._replace(device=device, threads=threads), backend, model, prepared)
