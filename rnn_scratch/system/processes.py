"""Calls functions in processes of their own, so that a crash of a framework is only an error.

The parent calls `ask` with a generator function of a module and its arguments, as a `partial`. The
child calls that function, and sends each value that it yields as a line of JSON, and a last line
that says that there are no more. The function's annotations are the protocol: arguments become the
types of its parameters, and answers are verified against the type that it yields. Within the
function, `send` sends further values of that type.

The child may be any program, because its interpreter can be named. Whatever it does, the parent
gets either answers or an error with the reason, in bounded time. The child leads a session and a
group of processes of its own, so that all that it starts can be killed with it.
"""

import contextlib
import ctypes
import importlib
import inspect
import math
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import IO, Any, TypeVar, get_args, get_type_hints

import msgspec

from ..errors import RNNScratchError, shortened
from .terminal import printable

LAST_MESSAGES = 2**16  # bytes on stderr, among which is the reason of a failure
EXCERPT = 600  # characters of a message; the names of all functions of the contract fit
END = b"end\n"  # the last line, which is no JSON
LOOK = 0.1  # seconds between looks at what else may have happened, wherever something is awaited
PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when its parent dies
REST = 1.0  # seconds to wait for what is left of the output of a child that has ended

children: set[int] = set()  # the processes of this one that run, by number

Answer = TypeVar("Answer")


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
    hints = get_type_hints(function, include_extras=True)
    decoder = msgspec.json.Decoder(get_args(hints["return"])[0])
    command = [python, "-m", __name__, f"{function.__module__}:{function.__qualname__}"]
    lines: queue.Queue[bytes] = queue.Queue()  # of its output; an empty one when it has ended
    last = b""
    # Messages are those on stderr: a pipe could fill up.
    with tempfile.TemporaryFile() as messages, stopped_together():
        arguments = msgspec.json.encode([call.args, call.keywords])
        process = _start(command, arguments, messages, {**os.environ, **(environment or {})})
        children.add(process.pid)
        reader = threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True)
        follower = threading.Thread(target=_follow, args=(process, reader, lines.put), daemon=True)
        try:
            reader.start()
            follower.start()
            while line := _next(lines, "end" if last == END else "answer", timeout, end):
                if line.endswith(b"\n") and line != END:  # one that is cut off is no answer
                    yield _value(line, decoder)
                last = line
        finally:
            process.kill()
            if follower.is_alive():
                follower.join()
            process.wait()
            children.discard(process.pid)
        _require_success(process.returncode, messages)
    if last != END:
        raise RNNScratchError(
            "it ended before its last answer"
            if last.endswith(b"\n")
            else f"it ended without an answer; is {python} a Python that has rnn-scratch?"
        )


@contextlib.contextmanager
def stopped_together() -> Iterator[None]:
    """Within this, and in the main thread, Ctrl-Z stops the children as well, until ``fg``."""

    def stop(number: int, frame: FrameType | None) -> None:
        _signal_children(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # this process, which goes on from here
        _signal_children(signal.SIGCONT)

    is_main = threading.current_thread() is threading.main_thread()
    if sys.platform == "win32" or not is_main or signal.getsignal(signal.SIGTSTP) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _signal_children(number: int) -> None:
    for child in list(children):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # one that ends
            os.killpg(child, number)


def one_line(text: str, length: int = EXCERPT) -> str:
    """A message of another process as a line that can be shown: escaped, and shortened."""
    line = printable(" ".join(text[: 10 * length].split()))
    return shortened(line, length)


def _start(
    command: list[str], arguments: bytes, messages: IO[bytes], environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    try:
        # Arguments in a file: a command line is too short for a text, and a pipe could block.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(arguments)
            stdin.seek(0)
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=messages,
                env=environment,
                start_new_session=True,  # ignored by Windows
            )
    except OSError as error:
        reason = error.strerror or error
        raise RNNScratchError(f"{command[0]} could not be started: {reason}") from error


def _read(output: IO[bytes], put: Callable[[bytes], object]) -> None:
    # Pass on a child's output.
    with output:
        for line in output:
            put(line)


def _follow(
    process: "subprocess.Popen[bytes]", reader: threading.Thread, put: Callable[[bytes], object]
) -> None:
    # When the child has ended, end what it has started, and then what is read of its output.
    process.wait()
    if hasattr(os, "killpg"):  # not on Windows
        # Some systems do not permit it where only a process that has ended is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    reader.join(REST)  # a process that has left the group may have the output open
    put(b"")


def _next(
    lines: "queue.Queue[bytes]", what: str, timeout: float, end: threading.Event | None
) -> bytes:
    # Looks are counted, and not seconds: those of a Ctrl-Z do not count.
    for _ in range(math.ceil(timeout / LOOK)):
        if end is not None and end.is_set():
            raise RNNScratchError("it was ended")
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=LOOK)
    raise RNNScratchError(f"no {what} within {timeout:g} s")


def _require_success(code: int, messages: IO[bytes]) -> None:
    # Raise an error that says how a child ended, if it was not with exit code 0.
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}  # a system may have others
        name = names.get(-code, f"signal {-code}")
        hint = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
        raise RNNScratchError(f"killed by {name}{hint}")
    if code:
        messages.seek(max(0, messages.seek(0, os.SEEK_END) - LAST_MESSAGES))
        lines = messages.read().decode("utf-8", "replace").splitlines()
        last = next(filter(None, map(one_line, reversed(lines))), "no message")
        raise RNNScratchError(f"failed with exit code {code}: {last}")


def _value(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise RNNScratchError(f"it sent a wrong answer: {one_line(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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


def send(answer: Any) -> None:
    """In the child: send a value to the parent, from any thread."""
    line = msgspec.json.encode(answer) + b"\n"
    with sending:
        answers.write(line)
        answers.flush()


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
        if sys.platform == "linux":  # where one that is stopped goes on when its parent dies
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
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


if __name__ == "__main__":
    # In the module that others import, which is not this one, as it is called __main__.
    importlib.import_module(__spec__.name).main()
