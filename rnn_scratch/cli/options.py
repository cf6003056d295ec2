"""The options that several commands share."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import click

from ..contract import VARIANTS, RNNScratchError
from ..settings import Settings, option_of

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each setting; one that is not given is None, so that it can be told."""
    for item in reversed(dataclasses.fields(Settings)):
        choices, default = item.metadata["choices"], item.default
        if isinstance(default, bool):
            command = click.option(
                option_of(item.name),
                item.name,
                is_flag=True,
                default=None,
                help=item.metadata["help"],
            )(command)
            continue
        kind = click.Choice(choices) if choices else type(default)
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        help = f"{item.metadata['help']}  [default: {shown}]"
        command = click.option(option_of(item.name), item.name, type=kind, help=help)(command)
    return click.option("--no-clip", is_flag=True, help="Don't clip gradients.")(command)


def place_options(backend_help: str) -> Decorator:
    """Add the options that say where something is computed."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--verbose", is_flag=True, help="Show the framework's own messages."),
            click.option("--threads", type=click.IntRange(1), help="Threads to compute with."),
            click.option("--device", help="cpu, cuda, mps; auto: the best one."),
            click.option("--model", type=click.Choice(VARIANTS),
                         help="Plain, optimised by hand, or on the framework's own layers."),
            click.option("--backend", help=backend_help),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate


def text_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a text."""
    command = click.option("--text", metavar="FILE", help="A UTF-8 text file of your own.")(command)
    return click.option(
        "--corpus",
        metavar="NAME",
        help="time-machine, war-of-the-worlds or tide-clock (built in).  "
        "[default: time-machine, or tide-clock where that can't be had]",
    )(command)


unknown_option = click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with characters that the model's vocabulary lacks.",
)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def settings_from(options: dict[str, Any], no_clip: bool) -> dict[str, Any]:
    """The settings that were given; RNNScratchError for two that exclude each other."""
    settings = given(options)
    if no_clip and "theta" in settings:
        raise RNNScratchError("--theta and --no-clip were both given: they exclude each other.")
    return {**settings, "theta": None} if no_clip else settings


def show_messages(verbose: bool) -> None:
    """Let the frameworks print their own messages: backends read this when they start."""
    if verbose:
        os.environ["RNN_SCRATCH_VERBOSE"] = "1"
