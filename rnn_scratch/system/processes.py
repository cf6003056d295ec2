"""Call functions in child processes, so that a framework's crash raises an error.

A child receives a pickled call, ``partial(function, *arguments)``, through its standard input, and
sends the values that the function yields, pickled, through its standard output. Unlike with
`multiprocessing`, children don't execute the parent's script. A child exits when its standard input
closes, which happens even if the parent crashes. It stays in the parent's process group, so that
Ctrl-C and Ctrl-Z reach it.
"""

import contextlib
import math
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from subprocess import PIPE, Popen
from typing import IO, Any, TypeVar

from ..errors import RNNScratchError, truncate
from .terminal import printable

MAX_MESSAGE_LENGTH = 600  # characters: enough to name all functions of the contract
POLL_INTERVAL = 0.1  # seconds
# Python adds the current folder to the path, where a file such as `random.py` would hide a module
# of the standard library. (Python 3.11 has the option -P.)
PROGRAM = f"import sys; sys.path[:] = filter(None, sys.path); from {__name__} import main; main()"
Answer = TypeVar("Answer")
_requests = threading.Semaphore(0)  # in a child: the parent's requests


class CrashError(RNNScratchError):
    """The error for a child that was killed or failed: a signal, or an exit code and message."""


class AbortError(CrashError):
    """The error for a child that a library aborted with SIGABRT."""


@contextlib.contextmanager
def start(
    calls: "Mapping[Any, partial[Iterator[Any]]]",
    timeout: float = math.inf,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[dict[Any, Popen[bytes]], Iterator[tuple[Any, Any]]]]:
    """Start a child process for each call, and kill the children when the context exits.

    The iterator yields the name of a call and an answer, or (None, None) after POLL_INTERVAL
    without an answer. A call's last answer is None or, if the call fails, an RNNScratchError: the
    error that the function raised, CrashError if the child exited too early, or an error if no
    child answered for `timeout` seconds. `environment` contains additional environment variables.
    """
    children: dict[Any, Popen[bytes]] = {}
    messages: queue.Queue[tuple[Any, Any, bool]] = queue.Queue()
    try:
        for name, call in calls.items():
            stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `_listen` closes it
            env = {**os.environ, **(environment or {})}
            command = [sys.executable, "-c", PROGRAM]
            child = Popen(command, stdin=PIPE, stdout=PIPE, stderr=stderr, env=env)
            children[name] = child
            arguments = (name, call, child, stderr, messages)
            threading.Thread(target=_listen, args=arguments, daemon=True).start()
        yield children, _answers(messages, set(calls), timeout)
    finally:
        for child in children.values():
            with contextlib.suppress(OSError), child:  # closes its pipes and waits for it to exit
                child.kill()


def ask(
    function: Callable[..., Iterator[Answer]],
    *arguments: Any,
    timeout: float = math.inf,
    environment: Mapping[str, str] | None = None,
) -> Generator[Answer]:
    """Call a function in a child process, and yield its answers, except None, as they arrive.

    Raises the errors that `start` describes.
    """
    with start({"": partial(function, *arguments)}, timeout, environment) as (_, answers):
        for _, answer in answers:
            if isinstance(answer, RNNScratchError):
                raise answer
            if answer is not None:
                yield answer


def _listen(
    name: Any, call: "partial[Any]", child: Any, stderr: IO[bytes], messages: "queue.Queue[Any]"
) -> None:
    # In a thread, send the call to the child and put its answers into the queue. A tuple contains
    # an answer; the child's last message is an error or None.
    message: Any = ()
    with stderr:
        with contextlib.suppress(Exception):  # the child may exit early or send invalid data
            pickle.dump(call, child.stdin)
            child.stdin.flush()
            while isinstance(message := pickle.load(child.stdout), tuple):
                messages.put((name, *message, False))
        if not isinstance(message, RNNScratchError) and (child.wait() or message is not None):
            message = _crash(child.wait(), stderr)
    messages.put((name, message, True))


def _answers(messages: "queue.Queue[Any]", running: set[Any], timeout: float) -> Iterator[Any]:
    num_polls = 0  # measures time, but not while Ctrl-Z suspends the process
    while running:
        try:
            name, answer, is_last = messages.get(timeout=POLL_INTERVAL)
        except queue.Empty:
            num_polls += 1
            if num_polls * POLL_INTERVAL >= timeout:
                timeout_error = RNNScratchError(f"timed out after {timeout:g} s")
                yield from [(name, timeout_error) for name in running]
                return
            yield None, None
        else:
            num_polls = 0
            if is_last:
                running.remove(name)
            yield name, answer


def _crash(code: int, stderr: IO[bytes]) -> CrashError:
    # Return the error for a child that exited with this code, before or after its last message.
    if code < 0:
        name = signal.Signals(-code).name
        cause = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
        return (AbortError if name == "SIGABRT" else CrashError)(f"killed by {name}{cause}")
    stderr.seek(0)
    lines = stderr.read().decode("utf-8", "replace").strip().split("\n")
    return CrashError(f"failed with exit code {code}: {one_line(lines[-1]) or 'no message'}")


def request(child: Popen[bytes]) -> None:
    """Request another answer from a child whose function calls `wait_for_request`."""
    assert child.stdin is not None
    child.stdin.write(b".")
    child.stdin.flush()


def wait_for_request() -> None:
    """In a child process, block until the parent requests another answer."""
    _requests.acquire()


def one_line(text: str) -> str:
    """Return another process's message as a single line, escaped and truncated."""
    return truncate(printable(" ".join(text.split())), MAX_MESSAGE_LENGTH)


def main() -> None:
    """Receive a call from the parent, execute it in this child, and send its answers."""
    # A framework's output must not mix with the answers, and programs that the framework starts
    # must not read the data that the parent sends.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent gets SIGINT and decides what to do
    call = pickle.load(parent)

    def listen_to_parent() -> None:
        while parent.read(1):
            _requests.release()
        os._exit(1)  # the parent has closed the pipe

    def send(message: Any) -> None:
        pickle.dump(message, answers)
        answers.flush()

    threading.Thread(target=listen_to_parent, daemon=True).start()
    try:
        for answer in call():
            send((answer,))
    except RNNScratchError as error:
        send(error)
    else:
        send(None)
