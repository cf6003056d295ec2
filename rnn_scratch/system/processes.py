"""Call functions in child processes, so that a framework's crash raises an error.

A child receives a pickled call, ``partial(function, *arguments)``, through its standard input, and
sends the values that the function yields, pickled, through its standard output. In contrast to
`multiprocessing`, children may use another interpreter, and don't execute the parent's script. A
child exits when its standard input is closed, even if the parent crashed. It stays in the parent's
process group, so that Ctrl-C and Ctrl-Z reach it.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from subprocess import PIPE
from types import MappingProxyType
from typing import IO, Any, NamedTuple, TypeVar

from ..errors import RNNScratchError, truncate
from .terminal import printable

MAX_MESSAGE_LENGTH = 600  # characters: enough to name all functions of the contract
POLL_INTERVAL = 0.1  # seconds

Answer = TypeVar("Answer")
Name = TypeVar("Name")
Child = subprocess.Popen[bytes]


class Crashed(RNNScratchError):  # noqa: N818 - a state, as the parent sees it
    """A child exited without its last answer; `signum` is the signal that killed it."""

    signum: int | None = None


class Exited(NamedTuple):
    """The last answer of a child, with the error that its call raised, if any."""

    error: RNNScratchError | None = None


def ask(
    calls: "Mapping[Name, partial[Iterator[Answer]]]",
    *,
    timeout: float,
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[tuple[Name, Answer | Exited]]:
    """Make each call in a child process, and yield the answers with the call's name.

    The last answer of each call is `Exited`, with an error if no child has answered for `timeout`
    seconds. Closing the generator kills the children. For the arguments, see `started`.
    """
    running, num_polls = list(calls), 0
    with started(calls, pythons, environment) as (_, answers):
        for message in answers:
            # Count polls rather than seconds, because time continues during a Ctrl-Z.
            num_polls = 0 if message else num_polls + 1
            if message:
                if isinstance(message[1], Exited):
                    running.remove(message[0])
                yield message
            elif num_polls * POLL_INTERVAL >= timeout:
                late = Exited(RNNScratchError(f"no answer within {timeout:g} s"))
                yield from [(name, late) for name in running]
                return


@contextlib.contextmanager
def started(
    calls: "Mapping[Name, partial[Iterator[Any]]]",
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[dict[Name, Child], Iterator[tuple[Name, Any] | None]]]:
    """Start a child process for each call, and kill the children at the end of the context.

    The iterator yields each answer with the call's name and, after the last answer, `Exited`: with
    the error that the function has raised, or Crashed if the child could not be started or ended
    too early. It yields None after POLL_INTERVAL without an answer, and ends with the last child.
    `pythons` has the interpreters of calls, and `environment` additional environment variables.
    """
    children: dict[Name, Child] = {}
    messages: queue.Queue[tuple[Name, Any]] = queue.Queue()

    def listen(name: Name, call: "partial[Iterator[Any]]", child: Any, stderr: IO[bytes]) -> None:
        # Send the call to the child and collect its answers, in a thread.
        answer = None
        with stderr, child.stdout:
            with contextlib.suppress(Exception):  # the child may exit early or send invalid data
                # Pickle twice, so that the child reads everything before it imports the function.
                pickle.dump(pickle.dumps(call), child.stdin)
                child.stdin.flush()
                while not isinstance(answer := pickle.load(child.stdout), Exited):
                    messages.put((name, answer))
            if not isinstance(answer, Exited) or answer.error is None:
                answer = Exited(_crash(child.wait(), answer, stderr))
        messages.put((name, answer))

    def answers() -> Iterator[tuple[Name, Any] | None]:
        num_running = len(calls)
        while num_running:
            try:
                message = messages.get(timeout=POLL_INTERVAL)
            except queue.Empty:
                yield None
            else:
                num_running -= isinstance(message[1], Exited)
                yield message

    try:
        for name, call in calls.items():
            python = pythons.get(name, sys.executable)
            command = [python, "-c", f"from {__name__} import main; main()"]
            stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `listen` closes it
            env = {**os.environ, **environment}
            try:
                child = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=stderr, env=env)
            except OSError as error:
                crash = Crashed(f"{python} could not be started: {error.strerror}")
                messages.put((name, Exited(crash)))
                continue
            children[name] = child
            arguments = (name, call, child, stderr)
            threading.Thread(target=listen, args=arguments, daemon=True).start()
        yield children, answers()
    finally:
        for child in children.values():
            child.kill()
            child.wait()
            with contextlib.suppress(OSError):
                child.stdin.close()  # type: ignore[union-attr]


def _crash(code: int, last_answer: Any, stderr: IO[bytes]) -> Crashed | None:
    # Return the error of a child with this exit code, or None if it succeeded.
    if code < 0:
        reason = signal.Signals(-code).name
        reason += " (perhaps by the system, out of memory)" if reason == "SIGKILL" else ""
        crash = Crashed(f"killed by {reason}")
        crash.signum = -code
        return crash
    if code:
        stderr.seek(0)
        lines = stderr.read().decode("utf-8", "replace").split("\n")
        last_line = next(filter(None, map(one_line, reversed(lines))), "no message")
        return Crashed(f"failed with exit code {code}: {last_line}")
    if not isinstance(last_answer, Exited):
        return Crashed(
            "the process exited before it finished; is rnn-scratch installed in this Python "
            "environment?"
        )
    return None


def one_line(text: str, length: int = MAX_MESSAGE_LENGTH) -> str:
    """Return a message of another process as a single line: escaped and truncated."""
    line = printable(" ".join(text[: 10 * length].split()))
    return truncate(line, length)


def main() -> None:
    """Make the call that the parent sends, in the child."""
    # Output of a framework must not mix with the answers, and programs that it starts must not
    # read the data that the parent sends.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), sys.stdin.fileno())
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent also gets the signal, and decides
    data = pickle.load(parent)

    def exit_with_parent() -> None:
        os.read(parent.fileno(), 1)  # blocks until the parent closes the pipe
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()

    def all_answers() -> Iterator[Any]:
        try:
            yield from pickle.loads(data)()
        except RNNScratchError as error:
            yield Exited(error)
        else:
            yield Exited()

    with contextlib.suppress(BrokenPipeError):  # the parent has ended
        for answer in all_answers():
            pickle.dump(answer, answers)
            answers.flush()
