"""The runtime: what computes a run, and may differ between its sessions."""

from typing import NamedTuple

import msgspec

from ..system.records import Count, Line, Record


class Runtime(Record, kw_only=False, omit_defaults=False):
    """A backend, a variant of its model, and what computes it."""

    backend: Line = "torch"
    model: Line = "scratch"
    device: Line = "auto"
    threads: Count | None = None  # None: the framework's own choice
    eager: bool = False  # True: run functions uncompiled, to debug them
    workers: Count = 1  # processes that share every minibatch


class Choice(NamedTuple):
    """What a user chooses of a runtime; None where there is a default."""

    backend: str | None = None
    model: str | None = None
    device: str | None = None
    threads: int | None = None
    eager: bool | None = None

    def over(self, default: Runtime) -> Runtime:
        """The runtime, which is the default one in all that is not chosen."""
        chosen = {name: value for name, value in self._asdict().items() if value is not None}
        return msgspec.structs.replace(default, **chosen)
