"""The runtime: backend, model variant, device and threads, which may differ between sessions."""

from typing import Any

from msgspec.structs import replace

from ..system.records import Count, Line, Record


class Runtime(Record, omit_defaults=False):
    """A backend, a variant of its model, and the device, threads and workers that compute it."""

    backend: Line = "torch"
    model: Line = "scratch"
    device: Line = "auto"
    threads: Count | None = None  # None: 1 for a small network, else the framework's default
    eager: bool = False  # True: run functions uncompiled, to debug them
    workers: Count = 1  # processes that share every minibatch

    def but(self, **values: Any) -> "Runtime":
        """Return a copy with these values; None keeps the present value."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})
