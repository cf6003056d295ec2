"""The command line: run a command, and print errors as messages."""

import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from .. import workers
from ..errors import RNNScratchError
from ..settings import START_WORKERS
from ..system import signals
from .options import name_flags
from .screen import Screen

# Command modules; a module is imported when its command is called.
COMMANDS = {
    "train": "train",
    "predict": "predict",
    "evaluate": "predict",
    "play": "play",
    "runs": "listings",
    "backends": "listings",
    "show": "show",
    "check": "check",
    "compare": "compare",
    "report": "compare",
}
OUT_OF_MEMORY = re.compile(
    "out of memory|enough memory|allocate.* memory|bad_alloc|OOM when|failed to map segment", re.I
)


class Commands(click.Group):
    """The group of all commands, which imports only the module of the called command."""

    called: click.Command | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command with this name, or None for an unknown name."""
        if cmd_name == "resume":
            ctx.fail("No such command 'resume'. Did you mean `train --resume RUN`?")
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name)
        self.called = command
        # The list of commands shows the whole first paragraph, which click would truncate.
        command.short_help, _, _ = inspect.cleandoc(command.help or "").partition("\n\n")
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-scratch", prog_name="rnn-scratch")
def cli() -> None:
    """Train and use recurrent language models implemented from scratch.

    For example:  rnn-scratch train --backend torch
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; errors become messages without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks must not stop training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(arguments, prog_name="rnn-scratch", standalone_mode=False)
        sys.stdout.flush()  # a full disk is reported here, not by Python at exit
    except click.ClickException as error:
        if getattr(error, "option_name", "") == "--workers":
            problem = f"{error.message} {START_WORKERS}"
            error = click.UsageError(problem, getattr(error, "ctx", None))
        message = io.StringIO()
        error.show(message)
        _fail(message.getvalue().removesuffix("\n"), error.exit_code)
    except RNNScratchError as error:
        text = name_flags(str(error), cli.called) if cli.called else str(error)
        _fail(f"Error: {text}", error.exit_code)
    except KeyboardInterrupt as error:
        signals.ignore()
        sys.exit(signals.exit_code(error))
    except click.Abort as error:  # raised by click for a KeyboardInterrupt
        sys.exit(signals.exit_code(error.__context__ or error))
    except OSError as error:
        prefix = f"{error.filename}: " if error.filename else ""
        if not prefix:  # perhaps stdout: its reader has exited, or its disk is full
            # Without this, Python would report at exit that it cannot write to stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        _fail(f"Error: {prefix}{error.strerror or error}.")
    except Exception as error:
        # When memory is exhausted, frameworks raise different exceptions with similar messages.
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            reason = str(error).partition("\n")[0] or "no memory is left"
            _fail(f"Error: Out of memory: {reason.removesuffix('.')}.")
        raise


def _fail(message: str, code: int = 2) -> NoReturn:
    """Print the message, but only in worker 0 if all workers fail together; exit with the code."""
    if not workers.is_silent():
        Screen(stderr=True).print_line(message)
    sys.exit(code)
