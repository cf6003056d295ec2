"""The command line: calls the command, and prints errors as messages."""

import contextlib
import datetime
import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

import click

from ..errors import RNNScratchError, shown
from ..settings import GONE
from ..system import signals
from ..system.terminal import echo, leave

# By name, the modules of the commands: each is imported when it is called.
COMMANDS = {
    "train": "train",
    "predict": "predict",
    "evaluate": "predict",
    "play": "play",
    "runs": "listings",
    "backends": "listings",
    "show": "show",
    "standalone": "show",
    "check": "check",
    "compare": "compare",
    "report": "compare",
}
OUT_OF_MEMORY = re.compile(
    "out of memory|enough memory|allocate.* memory|bad_alloc|OOM when|failed to map segment", re.I
)


class Commands(click.Group):
    """The commands, which start faster because none imports what only another one needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, imported now; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        # The list of commands has the whole first paragraph: click would cut it to fit a line.
        command.short_help, _, _ = inspect.cleandoc(command.help or "").partition("\n\n")
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-scratch", prog_name="rnn-scratch")
def cli() -> None:
    """A recurrent language model from scratch, in several frameworks.

    For example:  rnn-scratch train --backend torch
    """
    try:
        os.getcwd()
    except OSError as error:
        raise RNNScratchError(
            f"The working folder no longer exists: {error.strerror}.",
            "Change to an existing folder: cd FOLDER",
        ) from error
    try:
        datetime.datetime.now().astimezone()
    except ValueError as error:
        raise RNNScratchError(
            f"The time zone {shown(os.environ.get('TZ', ''))} is 24 hours or more from UTC, and "
            "Python has no such time zone.",
            "Set the environment variable TZ to another time zone, or unset it.",
        ) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; errors become messages without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks must not stop training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(arguments, prog_name="rnn-scratch", standalone_mode=False)
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        option = error.option_name if isinstance(error, click.NoSuchOption) else ""
        hint = GONE.get(option.removeprefix("--"))
        _fail(
            "\n".join(filter(None, [message.getvalue().removesuffix("\n"), hint])), error.exit_code
        )
    except RNNScratchError as error:
        _fail(f"Error: {error}", error.exit_code)
    except KeyboardInterrupt as error:
        sys.exit(signals.exit_code(error))
    except click.Abort as error:  # which click makes of it
        sys.exit(signals.exit_code(error.__context__ or error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if not where:  # it may be stdout: its reader has exited, or its disk is full
            _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        _fail(f"Error: {where}{error.strerror or error}.")
    except Exception as error:
        if str(error) == "can't start new thread":  # Python's words
            _fail("Error: The system refuses to start another thread (ulimit -u, or memory).")
        # Each framework has its own exception for too little memory; only the messages are alike.
        # A library that is imported may give the reason as the cause of its own error.
        cause: BaseException = error
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            cause = error.__cause__ or error
            if not OUT_OF_MEMORY.search(str(cause)):
                raise
        reason = (str(cause).splitlines() or ["none is left"])[0].removesuffix(".")
        # An exit by Python would wait for the threads of OpenBLAS, and they for memory.
        _fail(f"Error: There is not enough memory: {reason}.", end=leave)


def _fail(message: str, code: int = 2, end: Callable[[int], NoReturn] = sys.exit) -> NoReturn:
    # Print the message and end with the code, even if nothing can be printed.
    try:
        echo(message, err=True)
    except OSError:
        _discard(sys.stderr)
    end(code)


def _discard(stream: TextIO) -> None:
    # Without this, Python would report once more at exit what the stream does not take.
    with contextlib.suppress(OSError):  # too many open files, and then it is not the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
