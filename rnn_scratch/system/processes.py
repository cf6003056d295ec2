"""Calls functions in processes of their own, so that a crash of a framework is only an error.

The parent calls `ask` with the name of a generator function of this package and its arguments. The
child calls that function, and sends each value that it yields as a line of JSON.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..contract import RNNScratchError


def ask(
    function: str,
    *arguments: Any,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """Call ``module:function`` in a child process, and yield what it yields.

    The child is run by the interpreter `python`, in this process's environment with the variables
    of `environment` added. Raises RNNScratchError with the reason if it cannot be started, fails,
    is killed, or yields nothing for `timeout` seconds. The child never outlives this generator.
    """
    command = [python, "-m", "rnn_scratch.system.processes", function]
    timed_out = threading.Event()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as stdin,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
    ):
        # In a file: a command line is too short for a text, and a pipe could block.
        json.dump(arguments, stdin)
        stdin.seek(0)
        try:
            child = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise RNNScratchError(f"{python} could not be started: {error.strerror}") from error

        def stop() -> None:
            timed_out.set()
            child.kill()

        assert child.stdout is not None
        timer = _after(timeout, stop)
        try:
            for line in child.stdout:
                timer.cancel()
                yield json.loads(line)
                timer = _after(timeout, stop)
            child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.wait()
            child.stdout.close()
        if timed_out.is_set():
            raise RNNScratchError(f"no answer within {timeout:g} s")
        if child.returncode < 0:
            name = signal.Signals(-child.returncode).name
            hint = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
            raise RNNScratchError(f"killed by {name}{hint}")
        if child.returncode:
            stderr.seek(0)
            messages = [line for line in stderr.read().splitlines() if line.strip()]
            last = messages[-1] if messages else "no message"
            raise RNNScratchError(f"failed with exit code {child.returncode}: {last}")


def _after(seconds: float, function: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer


def _exit_with_parent() -> None:
    # A parent that is killed cannot end its child, so the child watches for another parent.
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """The child: call the function named on the command line."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    module, name = sys.argv[1].split(":")
    arguments = json.load(sys.stdin)
    # Text that a framework prints must not be mixed with the lines of JSON.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        for answer in getattr(importlib.import_module(module), name)(*arguments):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except RNNScratchError as error:
        sys.exit(str(error).replace("\n", " "))
    except KeyboardInterrupt:  # the parent was interrupted as well, and reports it
        sys.exit(130)
    finally:
        with contextlib.suppress(BrokenPipeError):
            answers.close()


if __name__ == "__main__":
    main()
