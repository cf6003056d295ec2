"""The runtime: what computes a run, and may differ between its sessions."""

from typing import Any

from msgspec.structs import replace

from ..system.records import Count, Line, Record


class Runtime(Record, omit_defaults=False):
    """A backend, a variant of its model, and what computes it."""

    backend: Line = "torch"
    model: Line = "scratch"
    device: Line = "auto"
    threads: Count | None = None  # None: 1 for a small network, else the framework's own choice
    eager: bool = False  # True: run functions uncompiled, to debug them
    workers: Count = 1  # processes that share every minibatch

    def but(self, **chosen: Any) -> "Runtime":
        """Return a copy with these values; None keeps the present one."""
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})
