"""Call functions in child processes, so that a framework crash becomes an exception.

A child reads a pickled call from its standard input and writes each value that the function yields,
also pickled, to its standard output. Unlike `multiprocessing` workers, children don't execute the
parent's script. A child exits when its standard input closes, for example because the parent
crashed. It stays in the parent's process group, so that Ctrl-C and Ctrl-Z reach it.
"""

import contextlib
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any

from ..errors import RNNScratchError, truncate
from .terminal import printable

MAX_MESSAGE_LENGTH = 600  # in characters; enough to list all contract functions
# Remove the current folder from the path, where a file such as `random.py` would shadow a standard
# library module. (In Python 3.11 and later, the -P option does this.)
# But import the parent's clone of this package, even if the current folder contains it.
CLONE = str(Path(__file__).parents[2])
PROGRAM = f"""import sys; sys.path[:] = filter(None, sys.path); clone = {CLONE!r}
if clone not in sys.path: sys.path.insert(0, clone)
from {__name__} import main; main()"""
_requests = threading.Semaphore(0)  # in a child, counts the parent's requests


class ChildError(RNNScratchError):
    """Raised when a child exits before its function has returned."""

    code: int  # exit code, or minus the number of the signal that killed the child


@contextlib.contextmanager
def start(
    function: Callable[..., Iterator[Any]],
    *arguments: Any,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Popen[bytes], Iterator[Any]]]:
    """Call a function in a child process; kill the child when the context exits.

    Yields the child and an iterator over the results. The iterator raises RNNScratchError if the
    function does, if the child exits early, or if a result takes longer than `timeout` seconds.
    `environment` contains additional environment variables.
    """
    command, env = [sys.executable, "-c", PROGRAM], {**os.environ, **(environment or {})}
    with tempfile.TemporaryFile() as stderr:
        child: Any = Popen(command, stdin=PIPE, stdout=PIPE, stderr=stderr, env=env)
        try:
            with contextlib.suppress(OSError):  # the child may exit early
                pickle.dump(partial(function, *arguments), child.stdin)
                child.stdin.flush()
            yield child, _results(child, stderr, timeout)
        finally:
            with contextlib.suppress(OSError), child:  # closes its pipes and waits for it to exit
                child.kill()


def ask(function: Callable[..., Iterator[Any]], *arguments: Any, **options: Any) -> Generator[Any]:
    """Call a function in a child process and yield its results; see `start` for the arguments."""
    with start(function, *arguments, **options) as (_, results):
        yield from results


def _results(child: Any, stderr: IO[bytes], timeout: float) -> Iterator[Any]:
    while True:
        start_time, watchdog = time.monotonic(), threading.Timer(timeout, child.kill)
        watchdog.daemon = True  # Python can then exit even if Ctrl-C prevented `cancel`
        try:
            watchdog.start()
            message = pickle.load(child.stdout)
        except Exception as error:  # the child exited or sent invalid data
            if time.monotonic() - start_time >= timeout:
                raise RNNScratchError(f"timed out after {timeout:g} s") from error
            crash = ChildError(_describe_crash(child.wait(), stderr))
            crash.code = child.returncode
            raise crash from error
        finally:
            watchdog.cancel()
        if message is None:  # the function has returned
            return
        if isinstance(message, RNNScratchError):
            raise message
        yield message[0]


def _describe_crash(code: int, stderr: IO[bytes]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        cause = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
        return f"killed by {name}{cause}"
    stderr.seek(0)
    lines = stderr.read().decode("utf-8", "replace").strip().split("\n")
    return f"failed with exit code {code}: {one_line(lines[-1]) or 'no message'}"


def request(child: Any) -> None:
    """Request another result from a child whose function calls `wait_for_request`."""
    child.stdin.write(b".")
    child.stdin.flush()


def wait_for_request() -> None:
    """Block this child process until its parent requests another result."""
    _requests.acquire()


def one_line(text: str) -> str:
    """Return another process's message as a single line, escaped and truncated."""
    return truncate(printable(" ".join(text.split())), MAX_MESSAGE_LENGTH)


def main() -> None:
    """Receive a call from the parent, execute it in this child, and send back the results."""
    # A framework's output must not mix with the results, and programs that the framework starts
    # must not read the data that the parent sends.
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent also gets SIGINT and handles it
    call = pickle.load(parent)

    def listen_to_parent() -> None:
        while parent.read(1):
            _requests.release()
        os._exit(1)  # the parent has closed the pipe

    def send(message: Any) -> None:
        pickle.dump(message, results)
        results.flush()

    threading.Thread(target=listen_to_parent, daemon=True).start()
    try:
        for result in call():
            send((result,))
        send(None)
    except RNNScratchError as error:
        send(error)
