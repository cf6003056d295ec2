"""The command line: calls the command, and prints errors as messages."""

import io
import os
import re
import sys
from collections.abc import Sequence

import click

from ..contract import RNNScratchError
from ..system import signals
from ..system.terminal import echo
from .check import check
from .compare import compare, report
from .listings import backends, runs
from .predict import evaluate, predict
from .show import show
from .train import train

COMMANDS = (train, predict, evaluate, runs, backends, show, check, compare, report)
OUT_OF_MEMORY = re.compile("out of memory|enough memory|allocate.* memory|bad_alloc|OOM when", re.I)


@click.group(
    commands={command.name: command for command in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="rnn-scratch", prog_name="rnn-scratch")
def cli() -> None:
    """A recurrent language model from scratch, in several frameworks.

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
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        echo(message.getvalue().removesuffix("\n"), err=True)
        sys.exit(error.exit_code)
    except RNNScratchError as error:
        echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        sys.exit(signals.exit_code(error))
    except click.Abort as error:  # which click makes of it
        sys.exit(signals.exit_code(error.__cause__ or error))
    except OSError as error:
        if error.filename is None:
            # The error is one of stdout: its reader has exited, or its disk is full. Without this,
            # Python would report it once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        echo(f"Error: {error.filename or 'The output'}: {error.strerror}.", err=True)
        sys.exit(2)
    except Exception as error:
        # Each framework has its own exception for too little memory; only the messages are alike.
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        reason = (str(error).splitlines() or ["none is left"])[0].removesuffix(".")
        echo(f"Error: There is not enough memory: {reason}.", err=True)
        sys.exit(2)
