"""A long output in the user's pager, as git does: PAGER, or less."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess

import rich.pager
from rich.console import Console


def paged(screen: Console) -> contextlib.AbstractContextManager[object]:
    """Show what is printed in this context in the pager, if that is longer than the terminal."""
    # FORCE_COLOR makes Rich take a pipe for a terminal, so the file itself is asked too. An old
    # Windows console and the one in an editor do not understand what a pager writes.
    usable = screen.file.isatty() and not screen.legacy_windows and not screen.is_dumb_terminal
    if usable and (command := _command()):
        return screen.pager(Pager(screen, command), styles=True)
    return contextlib.nullcontext()


class Pager(rich.pager.Pager):
    """A program that shows a long output page by page."""

    def __init__(self, screen: Console, command: str) -> None:
        """For the output of this console."""
        self.screen, self.command = screen, command

    def show(self, content: str) -> None:
        """Show the output, or print it if all of it fits the terminal, or nothing can show it."""
        if content.count("\n") < self.screen.height or not self._started(content):
            self.screen.file.write(content)
            self.screen.file.flush()

    def _started(self, content: str) -> bool:
        self.screen.file.flush()
        encoding = getattr(self.screen.file, "encoding", None) or "utf-8"
        # git's options for less: R passes colours on, X leaves the output on the screen at the end.
        env = {"LESS": "FRX", **os.environ}
        # Ctrl-C is for the pager alone. Unlike SIG_IGN, a handler is not inherited by it.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            command = self.command if os.name == "nt" else shlex.split(self.command)
            process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env)
            # If the user quits early, communicate ignores that nobody reads the rest.
            process.communicate(content.encode(encoding, "backslashreplace"))
        except (OSError, ValueError):  # it does not exist, or its quotes do not match
            return False
        finally:
            signal.signal(signal.SIGINT, before)
        return True


def _command() -> str:
    # The user's pager; empty for none.
    chosen = os.environ.get("PAGER", "less" if shutil.which("less") else "").strip()
    return "" if chosen == "cat" else chosen
