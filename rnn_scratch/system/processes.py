"""Calls functions in processes of their own, so that a crash of a framework is only an error.

The parent calls `ask` with a generator function of a module and its arguments, as a `partial`. The
child calls that function, and sends each value that it yields as a line of JSON, and a last line
that says that there are no more. The function's annotations are the protocol: arguments become the
types of its parameters, and answers are verified against the type that it yields. Within the
function, `send` sends further values of that type, and `end_at_once` makes the process end sooner.

The child may be any program, because its interpreter can be named. Whatever it does, the parent
gets either answers or an error with the reason, in bounded time and memory. The child leads a
session and a group of processes of its own, so that all that it starts can be killed with it.
"""

import contextlib
import importlib
import inspect
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO, Any, TypeVar, get_args, get_type_hints

import msgspec

from ..contract import RNNScratchError
from .terminal import printable

# Bytes of an answer. The longest is that of an epoch: 16 MiB have the losses of 700,000
# minibatches, which by default are those of 780 million characters.
LONGEST_ANSWER = 2**24
MOST_MESSAGES = 2**28  # bytes on stderr, which are in a file until the child has ended
LAST_MESSAGES = 2**16  # bytes of these, among which is the reason of a failure
EXCERPT = 500  # characters of a message
END = b"end\n"  # the last line, which is no JSON
NOTICE = 0.1  # seconds until it is noticed that a child has ended while its output is still open
REST = 1.0  # seconds to wait for what is left of the output after that

Answer = TypeVar("Answer")


def _plain(value: Any) -> str:
    if isinstance(value, str):  # of a type of its own, as PyTorch's version is
        return str.__str__(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def ask(
    call: "partial[Iterator[Answer]]",
    *,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    end: threading.Event | None = None,
) -> Iterator[Answer]:
    """Call a function of a module in a child process, and yield what it yields.

    The child is run by the interpreter `python`, in this process's environment with the variables
    of `environment` added. Raises RNNScratchError with the reason if it cannot be started, fails,
    is killed, yields nothing for `timeout` seconds, or sends anything but its answers, and when
    `end` is set. The child never outlives this generator, and neither do the processes that it
    starts, except for those that leave its group.
    """
    function = call.func
    name = f"{function.__module__}:{function.__qualname__}"
    hints = get_type_hints(function, include_extras=True)
    decoder = msgspec.json.Decoder(get_args(hints["return"])[0])
    arguments = ENCODER.encode([call.args, call.keywords])
    child = _Child([python, "-m", __name__, name], arguments, environment)
    number = 0  # of answers
    with contextlib.closing(child):
        for line in child.lines(timeout, end):
            yield _value(line, decoder)
            number += 1
        child.require_success()
    if not child.is_done:
        raise RNNScratchError(
            "it ended before its last answer"
            if number
            else f"it ended without an answer; is {python} a Python that has rnn-scratch?"
        )


def one_line(text: str, length: int = EXCERPT) -> str:
    """A message of another process as a line that can be shown: escaped, and shortened."""
    line = printable(" ".join(text[: 10 * length].split()))
    return line if len(line) <= length else f"{line[: length - 4]} ..."


class _Child:
    """A running process, and a thread that reads what it writes, whether anybody waits or not."""

    def __init__(
        self, command: list[str], arguments: bytes, environment: Mapping[str, str] | None
    ) -> None:
        # Lines of stdout, and an empty one when that is closed and the process has ended.
        self.output: queue.Queue[bytes] = queue.Queue(2)
        self.is_done = False  # whether it has sent all answers
        self.is_killed = False
        self.is_closed = False
        try:
            self.messages = tempfile.TemporaryFile()  # noqa: SIM115 - stderr, closed in `close`
            # Arguments in a file: a command line is too short for a text, and a pipe could block.
            with tempfile.TemporaryFile() as stdin:
                stdin.write(arguments)
                stdin.seek(0)
                self.process = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=self.messages,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,  # ignored by Windows
                )
        except OSError as error:
            raise RNNScratchError(
                f"{command[0]} could not be started: {error.strerror or error}"
            ) from error
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def lines(self, timeout: float, end: threading.Event | None) -> Iterator[bytes]:
        """The lines of its stdout up to END; it has ended when they have."""
        deadline = time.monotonic() + timeout
        while True:
            if end is not None and end.is_set():
                raise RNNScratchError("it was ended")
            if time.monotonic() > deadline:
                if self.is_killed:
                    return  # a process that has left the group has its output open
                what = "it did not end" if self.is_done else "no answer"
                raise RNNScratchError(f"{what} within {timeout:g} s")
            if os.fstat(self.messages.fileno()).st_size > MOST_MESSAGES:
                raise RNNScratchError(f"it sent messages of more than {MOST_MESSAGES:,} bytes")
            try:
                line = self.output.get(timeout=NOTICE)
            except queue.Empty:
                if not self.is_killed and self.process.poll() is not None:
                    self.kill()  # what it has started, and what has its output open
                    timeout = REST
                    deadline = time.monotonic() + timeout
                continue
            if not line:
                return
            if len(line) > LONGEST_ANSWER:
                raise RNNScratchError(f"it sent a line of more than {LONGEST_ANSWER:,} bytes")
            self.is_done = self.is_done or line == END
            if line.endswith(b"\n") and not self.is_done:  # one that has not ended is no answer
                yield line
            deadline = time.monotonic() + timeout

    def kill(self) -> None:
        """Kill it with all processes of its group, and wait for its end."""
        if self.is_killed:  # its number may be that of another process by now
            return
        if hasattr(os, "killpg"):  # not on Windows
            # Some systems do not permit it where only a process that has ended is left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.is_killed = True

    def close(self) -> None:
        """Kill it, and read nothing more."""
        self.kill()
        self.is_closed = True
        with contextlib.suppress(queue.Empty):
            while True:  # the reader may wait for room
                self.output.get_nowait()
        self.messages.close()

    def require_success(self) -> None:
        """Raise an error that says how it ended, if it was not with exit code 0."""
        code = self.process.returncode
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:  # a system may have more than Python has names for
                name = f"signal {-code}"
            hint = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
            raise RNNScratchError(f"killed by {name}{hint}")
        if code:
            self.messages.seek(max(0, self.messages.seek(0, os.SEEK_END) - LAST_MESSAGES))
            lines = self.messages.read(LAST_MESSAGES).decode("utf-8", "replace").splitlines()
            last = next(filter(None, map(one_line, reversed(lines))), "no message")
            raise RNNScratchError(f"failed with exit code {code}: {last}")

    def _read(self, stream: IO[bytes]) -> None:
        with stream, contextlib.suppress(OSError):
            while not self.is_closed and (line := stream.readline(LONGEST_ANSWER + 1)):
                self.output.put(line)
        self.process.wait()
        self.output.put(b"")


def _value(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise RNNScratchError(f"it sent a wrong answer: {one_line(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = one_line(line.decode("utf-8", "backslashreplace"), 80)
        raise RNNScratchError(f"it sent a line that is not JSON: {text!r}") from error


def _end_with_parent(answers: int) -> None:
    # A parent that is killed cannot end its child, but then nobody has the other end of the pipe,
    # or, where a system does not report that, the child has another parent.
    parent, pipe = os.getppid(), select.poll()
    pipe.register(answers, 0)  # for errors only
    while os.getppid() == parent and not pipe.poll(1000):
        pass
    if os.getpgrp() == os.getsid(0):  # as `ask` starts it
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


answers: IO[bytes]  # of the child
sending = threading.Lock()
finalize = True


def send(answer: Any) -> None:
    """In the child: send a value to the parent, from any thread."""
    line = ENCODER.encode(answer) + b"\n"
    with sending:
        answers.write(line)
        answers.flush()


def end_at_once() -> None:
    """In the child: end right after the last answer, without Python's finalization.

    That of a framework takes up to a second. Not for one that has to leave a team of workers.
    """
    global finalize
    finalize = False


def _call(function: Callable[..., Iterator[Any]], data: bytes) -> Iterator[Any]:
    # Call it with these arguments, as the types of its parameters.
    positional, named = msgspec.json.decode(data)
    hints, signature = get_type_hints(function, include_extras=True), inspect.signature(function)
    arguments = signature.bind(*positional, **named).arguments
    return function(**{key: msgspec.convert(value, hints[key]) for key, value in arguments.items()})


def main() -> None:
    """The child: call the function named on the command line."""
    global answers
    # Text that a framework prints must not be mixed with the lines of JSON.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if hasattr(select, "poll"):  # not on Windows
        watched = os.dup(answers.fileno())  # which stays open until the process ends
        threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()
    module, name = sys.argv[1].split(":")
    try:
        function = getattr(importlib.import_module(module), name)
        for answer in _call(function, sys.stdin.buffer.read()):
            send(answer)
        with sending:
            answers.write(END)
    except RNNScratchError as error:
        sys.exit(str(error).replace("\n", " "))
    except KeyboardInterrupt:  # sent to it alone
        sys.exit(130)
    finally:
        with contextlib.suppress(BrokenPipeError):
            answers.close()
    if not finalize:
        os._exit(0)


if __name__ == "__main__":
    # In the module that others import, which is not this one, as it is called __main__.
    importlib.import_module(__spec__.name).main()
