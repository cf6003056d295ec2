"""The `rnn-scratch` command, which prints error messages, not tracebacks."""

import difflib
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from ..errors import RNNScratchError

# Each command's module, and its description in the list of commands. Only the module of the command
# that runs is imported, and the list imports none: importing all takes several times as long.
COMMANDS = {
    "train": ("train", "Train a model on a text and print text that it generates."),
    "predict": ("inference", "Generate text with RUN's model."),
    "evaluate": ("inference", "Compute the loss and the perplexity of RUN's model on a text."),
    "play": ("inference", "Open RUN's network in the browser."),
    "runs": ("listings", "List the runs in FOLDER, newest first."),
    "backends": ("listings", "List the backends with their devices and versions."),
    "show": ("show", "Show the source of FUNCTION in several backends, in columns."),
    "check": ("check", "Verify backends, or your functions, against the reference."),
    "vectors": ("vectors", "Write test vectors for programs in any language."),
    "compare": ("compare", "Benchmark several backends: compare their speeds and results."),
    "report": ("compare", "Regenerate the report of a comparison from its record in FOLDER."),
}

# Options that were renamed; the old names still work in this version.
RENAMED = {"--model": "--variant", "--models": "--variants", "--draws": "--cases"}
RENAMED |= {"--vary": "--sweep", "--run": "--output"}


class Commands(click.Group):
    """A command group that accepts old option names and suggests similar command names."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and replace old option names in its arguments with the new names."""
        name, command, arguments = super().resolve_command(ctx, args)
        options = {option for param in command.params for option in param.opts} if command else ()
        for index, argument in enumerate(arguments):
            option, equals, value = argument.partition("=")
            if option not in options and RENAMED.get(option) in options:
                arguments[index] = RENAMED[option] + equals + value
                _print(f"`{option}` is now `{RENAMED[option]}`.")
        return name, command, arguments

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, or suggest another command."""
        matches = difflib.get_close_matches(cmd_name, COMMANDS, 1)
        matches = ["train --resume RUN"] if cmd_name == "resume" else matches
        if cmd_name not in COMMANDS:
            if matches:
                ctx.fail(f"No such command {cmd_name!r}. Did you mean `{matches[0]}`?")
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f".{module}", __package__), cmd_name)
        return command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return [*COMMANDS]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-scratch", prog_name="rnn-scratch")
def cli() -> None:
    """Train and use recurrent language models implemented from scratch.

    For example:  rnn-scratch train --backend torch
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code; report errors without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal's encoding lacks must not stop training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(arguments, prog_name="rnn-scratch", standalone_mode=False)
        sys.stdout.flush()  # a full disk is reported here, not by Python at exit
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        message = text.getvalue().removesuffix("\n")
        if getattr(error, "option_name", "") == "--workers":
            from ..settings import START_WORKERS

            message += f" {START_WORKERS}"
        if "rnn-scratch train" in message and "unexpected extra argument" in message:
            message += "\nTo train on a text file, use `--text FILE`."
        _fail(message, error.exit_code)
    except RNNScratchError as error:
        from .options import name_flags

        _fail(f"Error: {name_flags(str(error))}", error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:  # click raises Abort from KeyboardInterrupt
        number = getattr(error.__cause__ or error, "number", signal.SIGINT)
        sys.exit(128 + number)  # the exit code that shells expect after a signal
    except OSError as error:
        prefix = f"{error.filename}: " if error.filename else "The output cannot be written: "
        if not error.filename:  # probably stdout: its reader has exited, or its disk is full
            # Otherwise, Python would report at exit that it cannot write to stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        _fail(f"Error: {prefix}{error.strerror or error}.")
    except MemoryError as error:
        _fail(f"Error: Out of memory: {error}.")


def _fail(message: str, code: int = 2) -> NoReturn:
    """Print the message (in worker 0 only, if all workers fail together) and exit with the code."""
    from .. import workers

    if not workers.is_silent():
        _print(message)
    sys.exit(code)


def _print(message: str) -> None:
    """Print a message to stderr."""
    from .screen import Screen

    Screen(stderr=True).print_line(message)
