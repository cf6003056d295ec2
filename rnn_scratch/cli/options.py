"""Options shared by several commands."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from msgspec import structs

from ..contract import VERBOSE
from ..settings import OPTIONS, SETTINGS, Settings, checked, option_of
from ..system.kinds import BOOL

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
METAVARS: dict[Any, str | None] = {int: "INTEGER", str: None}  # None: click's own


def _checked(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    # The value of the option's kind, for which text is converted; "none" stays as it is, because
    # None says that the option is not on the command line.
    name = param.name or ""
    kind = OPTIONS[name].kind
    if isinstance(value, str) and not kind.fits(value):
        with contextlib.suppress(ValueError):  # of what is no number, which is refused next
            value = kind.convert(value)
    if value is None:
        return None
    converted = checked(name, value)
    return value if converted is None else converted


def _several(ctx: click.Context, param: click.Parameter, value: str) -> list[Any]:
    return [_checked(ctx, param, word) for word in separated(value)]


def separated(text: str) -> list[str]:
    """Return the different words of a text such as A,B, or the text if it has none."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or [text]


def option(
    name: str,
    help: str = "",
    default: Any = None,
    metavar: str | None = None,
    several: bool = False,
    implied: str = "",
    alone: str | None = None,
) -> Decorator:
    """Add an option as OPTIONS describes it, or with this help.

    `implied` says what the command does if the option has no default and is not given, and `alone`
    is its value if it is given without one.
    """
    kind, words = OPTIONS[name]
    words = (help or words) + (f"  [default: {implied}]" if implied else "")
    if kind is BOOL:
        return click.option(option_of(name), name, is_flag=True, default=None, help=words)
    more: dict[str, Any] = {"is_flag": False, "flag_value": alone} if alone else {}
    return click.option(
        option_of(name),
        name,
        type=click.Choice(kind.choices) if kind.choices else str,
        callback=_several if several else _checked,
        metavar=metavar or METAVARS.get(kind.convert, "NUMBER"),
        default=default,
        show_default=default is not None,
        help=words,
        **more,
    )


def options(*decorators: Decorator) -> Decorator:
    """Return a decorator that adds these options, in this order."""

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
    defaults = {**structs.asdict(Settings()), **defaults}
    return options(
        *(option(name, implied=_shown(defaults[name])) for name in SETTINGS if name not in omit)
    )


def _shown(default: Any) -> str:
    # A flag has none.
    if isinstance(default, bool):
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def runtime_options(backend: str, model: str, device: str, threads: str) -> Decorator:
    """Add the options that say where and how to compute a model, with these defaults."""
    return options(
        option("backend", implied=backend, metavar="NAME"),
        option("model", implied=model),
        option("device", implied=device, metavar="NAME"),
        option("threads", implied=threads, metavar="N"),
        verbose_option,
    )


def text_options(implied: str = "time-machine, or tide-clock if that is unavailable") -> Decorator:
    """Add the options that name a text; `implied` describes the default."""
    return options(
        option("corpus", implied=implied, metavar="NAME"), option("text", metavar="FILE")
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


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
    """Return the options that are on the command line."""
    return {name: value for name, value in options.items() if value is not None}
