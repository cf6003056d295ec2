"""Options shared by several commands."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from msgspec import structs

from ..contract import VERBOSE
from ..settings import KINDS, SETTINGS, Settings, checked, option_of
from ..system.kinds import BOOL
from ..text.books import LARGEST_FILE

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
METAVARS: dict[Any, str | None] = {int: "INTEGER", str: None}  # None: click's own


def _converted(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    # The value of an option, checked by the table of `settings`; what is no number remains a text,
    # which is refused.
    kind = KINDS[param.name or ""]
    if isinstance(value, str) and not kind.fits(value):
        with contextlib.suppress(ValueError):
            value = kind.convert(value)
    if value is not None:
        checked(param.name or "", value)
    return value


def _several(ctx: click.Context, param: click.Parameter, value: str) -> list[Any]:
    # Several values, separated by commas.
    return [_converted(ctx, param, word) for word in separated(value)]


def separated(text: str) -> list[str]:
    """The words of a text such as A,B: each once. What has none is a word, as it stands."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or [text]


def option(
    name: str, help: str, default: Any = None, metavar: str | None = None, several: bool = False
) -> Decorator:
    """An option of the table of `settings`, with this default or that which the help names."""
    kind = KINDS[name]
    if kind is BOOL:
        return click.option(option_of(name), name, is_flag=True, default=None, help=help)
    return click.option(
        option_of(name),
        name,
        type=click.Choice(kind.choices) if kind.choices else str,
        callback=_several if several else _converted,
        metavar=metavar or METAVARS.get(kind.convert, "NUMBER"),
        default=default,
        show_default=default is not None,
        help=help,
    )


def options(*decorators: Decorator) -> Decorator:
    """Add these options, in this order."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def settings_options(omit: Sequence[str] = (), **defaults: Any) -> Decorator:
    """Add an option for each setting; its value is None if it is not on the command line.

    The help names the defaults of the settings, or those that the command has instead. `omit` are
    settings for which it has options of its own.
    """
    added, defaults = [], {**structs.asdict(Settings()), **defaults}
    for name, (_, help) in SETTINGS.items():
        if name in omit:
            continue
        default = defaults[name]
        number = f"{default:g}" if isinstance(default, float) else str(default)
        told = "" if isinstance(default, bool) else f"  [default: {number}]"
        added.append(option(name, f"{help}{told}"))
    return options(*added)


def runtime_options(backend: str, model: str, device: str, threads: str) -> Decorator:
    """Add the options that determine where and how a model is computed, with these defaults."""
    return options(
        option(
            "backend",
            f"Backend to use; `rnn-scratch backends` lists them.  [default: {backend}]",
            metavar="NAME",
        ),
        option(
            "model",
            "Variant of the model: the plain implementation, the same optimized by hand, or the "
            f"framework's own layers.  [default: {model}]",
        ),
        option(
            "device",
            "Device: cpu, cuda, mps, or auto for the best one that the backend reports.  "
            f"[default: {device}]",
            metavar="NAME",
        ),
        option("threads", f"Number of threads.  [default: {threads}]", metavar="N"),
        verbose_option,
    )


def text_options(default: str = "time-machine, or tide-clock if that is unavailable") -> Decorator:
    """Add the options that name a text, without which it is the one that `default` describes."""
    return options(
        option(
            "corpus",
            "Text to use: time-machine, war-of-the-worlds, tiny-shakespeare (meant for --normalize "
            "none, which keeps all its 65 characters) or tide-clock (built in).  "
            f"[default: {default}]",
            metavar="NAME",
        ),
        option(
            "text", f"UTF-8 text file to use, of at most {LARGEST_FILE:,} bytes.", metavar="FILE"
        ),
    )


best_option = option(
    "best",
    "Use the checkpoint of the epoch with the lowest loss on held-out text, not the latest one.",
)

unknown_option = option(
    "unknown",
    "Whether characters that the model's vocabulary lacks are an error or are skipped.",
    default="error",
)


def _show_messages(ctx: click.Context, param: click.Parameter, verbose: bool) -> None:
    # Backends read this variable when they are imported.
    if verbose:
        os.environ[VERBOSE] = "1"


verbose_option = click.option(
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_show_messages,
    help="Show the messages of frameworks.",
)


def specified(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are on the command line."""
    return {name: value for name, value in options.items() if value is not None}
