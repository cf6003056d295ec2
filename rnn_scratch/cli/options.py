"""Options shared by several commands."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import click

from ..contract import VARIANTS, VERBOSE, RNNScratchError
from ..registry import MOST_THREADS
from ..settings import Settings, option_of
from ..text.corpus import LARGEST_FILE
from ..workers.groups import MOST_WORKERS
from ..workers.launch import COORDINATOR

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def settings_options(**defaults: Any) -> Decorator:
    """Add an option for each setting; its value is None if it is not on the command line.

    The help names the defaults of the settings, or those that the command has instead.
    """
    return lambda command: _add_settings(command, defaults)


def _add_settings(command: Callable[..., None], defaults: dict[str, Any]) -> Callable[..., None]:
    for item in reversed(dataclasses.fields(Settings)):
        choices, default = item.metadata["choices"], defaults.get(item.name, item.default)
        if isinstance(default, bool):
            option = click.option(
                option_of(item.name),
                item.name,
                is_flag=True,
                default=None,
                help=item.metadata["help"],
            )
        else:
            number = f"{default:g}" if isinstance(default, float) else str(default)
            option = click.option(
                option_of(item.name),
                item.name,
                type=click.Choice(choices) if choices else type(default),
                help=f"{item.metadata['help']}  [default: {number}]",
            )
        command = option(command)
    return click.option("--no-clip", is_flag=True, help="Do not clip the gradients.")(command)


def place_options(backend: str, model: str, device: str, threads: str) -> Decorator:
    """Add the options that determine where and how a model is computed, with these defaults."""
    options = (
        click.option(
            "--backend",
            metavar="NAME",
            help=f"Backend to use; `rnn-scratch backends` lists them.  [default: {backend}]",
        ),
        click.option(
            "--model",
            type=click.Choice(VARIANTS),
            help="Variant of the model: the plain implementation, the same optimized by hand, or "
            f"the framework's own layers.  [default: {model}]",
        ),
        click.option(
            "--device",
            metavar="NAME",
            help="Device: cpu, cuda, mps, or auto for the best one that the backend reports.  "
            f"[default: {device}]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1, MOST_THREADS),
            metavar="N",
            help=f"Number of threads.  [default: {threads}]",
        ),
        verbose_option,
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def workers_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for training with several workers."""
    options = (
        click.option(
            "--workers",
            type=click.IntRange(1, MOST_WORKERS),
            metavar="N",
            help="Number of processes that each train on a share of every minibatch; on this "
            "machine, unless --rank is given.  [default: 1]",
        ),
        click.option(
            "--rank",
            type=click.IntRange(0, MOST_WORKERS - 1),
            metavar="K",
            help="Start only worker K, from 0 to N-1; the same command with the other ranks starts "
            "the others, here or on other machines.",
        ),
        click.option(
            "--coordinator",
            metavar="HOST:PORT",
            help="With --rank: where worker 0 waits for the others. Nothing that is sent there is "
            f"encrypted: private networks only.  [default: {COORDINATOR}]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def text_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a text."""
    command = click.option(
        "--text", metavar="FILE", help=f"UTF-8 text file to use, of at most {LARGEST_FILE:,} bytes."
    )(command)
    return click.option(
        "--corpus",
        metavar="NAME",
        help="Text to use: time-machine, war-of-the-worlds or tide-clock (built in).  "
        "[default: time-machine, or tide-clock if that is unavailable]",
    )(command)


unknown_option = click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Whether characters that the model's vocabulary lacks are an error or are skipped.",
)

verbose_option = click.option("--verbose", is_flag=True, help="Show the messages of frameworks.")


class Numbers(click.ParamType):
    """Numbers of workers, separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The numbers, each once."""
        if not isinstance(value, str):
            return list(value)
        texts = [text.strip() for text in value.split(",")]
        if not all(
            text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_WORKERS for text in texts
        ):
            self.fail(
                f"{value!r} is not a list such as 1,2,4, of numbers from 1 to {MOST_WORKERS}."
            )
        return list(dict.fromkeys(map(int, texts)))


def specified(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def settings_from(options: dict[str, Any], no_clip: bool) -> dict[str, Any]:
    """The settings on the command line; RNNScratchError for two that exclude each other."""
    settings = specified(options)
    if no_clip and "theta" in settings:
        raise RNNScratchError("--theta and --no-clip exclude each other: omit one of them.")
    return {**settings, "theta": None} if no_clip else settings


def show_messages(verbose: bool) -> None:
    """Let frameworks print their messages; backends read this variable when they are imported."""
    if verbose:
        os.environ[VERBOSE] = "1"
