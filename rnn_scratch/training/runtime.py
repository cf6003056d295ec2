"""The runtime: backend, variant, device and threads, which can differ between sessions."""

from typing import Any

import msgspec
from msgspec.structs import replace

from ..settings import Threads
from ..system.records import Count, Record


class Runtime(Record, omit_defaults=False):
    """A backend, variant and device, with thread and worker counts."""

    backend: str = "torch"
    variant: str = msgspec.field(default="scratch", name="model")
    device: str = "cpu"
    threads: Threads | None = None  # per worker; None: one, unless the framework has fixed it
    eager: bool = False  # whether to run functions uncompiled, for debugging
    workers: Count = 1  # number of processes that share every minibatch

    def override(self, **values: Any) -> "Runtime":
        """Return a copy with these values; None keeps the current value."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})
