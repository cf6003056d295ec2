"""Work done in a process of its own, so that a framework that crashes is an answer, not a crash.

The parent calls `ask` with a function of this package and its arguments; the child calls that
function, which yields, and sends each thing it yields as a line of JSON.
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
    """What ``module:function`` yields for these arguments, as it comes.

    The child is run by the interpreter `python`, with what `environment` adds to this process's.
    Raises RNNScratchError with the reason when it cannot be started, fails, is killed, or says
    nothing for `timeout` seconds. No process is left behind, whatever happens here.
    """
    command = [python, "-m", "rnn_scratch.system.processes", function]
    late = threading.Event()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as given,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as noise,
    ):
        # In a file: a command line is too short for a text, and a pipe could block.
        json.dump(arguments, given)
        given.seek(0)
        try:
            child = subprocess.Popen(
                command, stdin=given, stdout=subprocess.PIPE, stderr=noise, encoding="utf-8",
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except OSError as error:
            raise RNNScratchError(f"{python} could not be started: {error.strerror}") from error

        def give_up() -> None:
            late.set()
            child.kill()

        assert child.stdout is not None
        timer = _after(timeout, give_up)
        try:
            for line in child.stdout:
                timer.cancel()
                yield json.loads(line)
                timer = _after(timeout, give_up)
            child.wait()
        finally:
            timer.cancel()
            child.kill()
            child.wait()
            child.stdout.close()
        if late.is_set():
            raise RNNScratchError(f"no answer within {timeout:g} s")
        if child.returncode < 0:
            hint = " (by the system, perhaps, for want of memory)"
            name = signal.Signals(-child.returncode).name
            raise RNNScratchError(f"killed by {name}{hint if name == 'SIGKILL' else ''}")
        if child.returncode:
            noise.seek(0)
            said = [line for line in noise.read().splitlines() if line.strip()]
            last = said[-1] if said else "it said nothing"
            raise RNNScratchError(f"failed with exit code {child.returncode}: {last}")


def _after(seconds: float, do: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
    return timer


def _leave_with_the_parent() -> None:
    # A parent that is killed cannot end its child: the child notices that it has been left.
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Answer a parent that has called `ask`."""
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    module, name = sys.argv[1].split(":")
    arguments = json.load(sys.stdin)
    # What a framework prints must not get between the lines of JSON.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        for answer in getattr(importlib.import_module(module), name)(*arguments):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except RNNScratchError as error:
        sys.exit(str(error).replace("\n", " "))
    except KeyboardInterrupt:  # the parent was interrupted too, and says so
        sys.exit(130)
    finally:
        with contextlib.suppress(BrokenPipeError):
            answers.close()


if __name__ == "__main__":
    main()
