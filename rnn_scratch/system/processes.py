"""Call functions in child processes, so that a crash of a framework is only an error.

The parent names a generator function of a module, with its arguments, as a `partial`. The child
calls the function and sends each value that it yields as a line of JSON. The function's annotations
are the protocol: arguments become the types of its parameters, and answers are verified against the
type that it yields. Within the function, `send` sends further values of that type.

A child ends when its standard input does, whatever has ended the parent. It stays in the parent's
process group, so that Ctrl-C and Ctrl-Z reach it. The interpreter can be named and may be any
program: the parent gets either answers or an error with the reason, in bounded time.
"""

import contextlib
import importlib
import inspect
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import IO, Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec

from ..errors import NotOffered, RNNScratchError, shortened
from .terminal import printable

LAST_MESSAGES = 2**16  # bytes of stderr, among which is the reason of a failure
EXCERPT = 600  # characters of a message; the names of all functions of the contract fit
END = b"end "  # begins the last line: the error that the function raised, or null
LOOK = 0.1  # seconds between looks at what else may have happened, wherever something is awaited
REST = 1.0  # seconds to wait for the thread that listens to a child, after its end

Answer = TypeVar("Answer")
Name = TypeVar("Name")
Child = subprocess.Popen[bytes]
RAISED = msgspec.json.Decoder(tuple[bool, str, str] | None)  # NotOffered, problem, hint


class Ended(NamedTuple):
    """A child has ended: as it should, or with an error."""

    error: RNNScratchError | None = None


def ask(
    call: "partial[Iterator[Answer]]",
    *,
    timeout: float,
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Answer]:
    """Call a function of a module in a child process, and yield its answers.

    Raises the RNNScratchError that the function raises, or one with the reason if the child cannot
    be started, crashes, yields nothing for `timeout` seconds, or sends anything but answers. When
    the generator is closed, the child is killed.
    """
    children = ask_each({"": call}, timeout=timeout, pythons={"": python}, environment=environment)
    with contextlib.closing(children):
        for _, answer in children:
            if not isinstance(answer, Ended):
                yield answer
            elif answer.error:
                raise answer.error


def ask_each(
    calls: "Mapping[Name, partial[Iterator[Answer]]]",
    *,
    timeout: float,
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[tuple[Name, Answer | Ended]]:
    """Make several calls at once, and yield their answers as they come, each with its name.

    The last answer of each call is `Ended`, with an error for all that still run if none of them
    answers for `timeout` seconds.
    """
    messages: queue.Queue[tuple[Name, Answer | Ended]] = queue.Queue()
    running = list(calls)
    with contextlib.ExitStack() as children:
        for name, call in calls.items():
            python = pythons.get(name, sys.executable)
            try:
                children.enter_context(started(name, call, messages.put, python, environment))
            except RNNScratchError as error:
                messages.put((name, Ended(error)))
        while running:
            try:
                name, answer = _next(messages, timeout)
            except queue.Empty:
                late = Ended(RNNScratchError(f"no answer within {timeout:g} s"))
                yield from [(name, late) for name in running]
                return
            if isinstance(answer, Ended):
                running.remove(name)
            yield name, answer


def _next(messages: "queue.Queue[Answer]", timeout: float) -> Answer:
    # Looks are counted, and not seconds, so that the time of a Ctrl-Z does not count.
    for _ in range(math.ceil(timeout / LOOK)):
        with contextlib.suppress(queue.Empty):
            return messages.get(timeout=LOOK)
    raise queue.Empty


@contextlib.contextmanager
def started(
    name: Name,
    call: "partial[Iterator[Any]]",
    put: Callable[[tuple[Name, Any]], object],
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Child]:
    """Start a child that makes the call, and kill it at the end of the context.

    Another thread passes each answer with the name to `put`, and `Ended` after the last one. The
    child has this process's environment with the variables of `environment` added. Raises
    RNNScratchError if it cannot be started.
    """
    function = call.func
    command = [python, "-m", __name__, f"{function.__module__}:{function.__qualname__}"]
    arguments = msgspec.json.encode([call.args, call.keywords]) + b"\n"
    hints = get_type_hints(function, include_extras=True)
    decoder = msgspec.json.Decoder(get_args(hints["return"])[0])
    messages = tempfile.TemporaryFile()  # noqa: SIM115 - what it prints; a pipe could fill up
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, **environment},
        )
    except OSError as error:
        reason = error.strerror or error
        raise RNNScratchError(f"{python} could not be started: {reason}") from error
    task = child, arguments, decoder, messages, lambda answer: put((name, answer))
    listener = threading.Thread(target=_listen, args=task, daemon=True)
    try:
        listener.start()
        yield child
    finally:
        child.kill()
        child.stdin.close()  # type: ignore[union-attr]
        child.wait()
        if listener.is_alive():
            listener.join(REST)


def one_line(text: str, length: int = EXCERPT) -> str:
    """Return a message of another process as a line that can be shown: escaped and shortened."""
    line = printable(" ".join(text[: 10 * length].split()))
    return shortened(line, length)


def _listen(
    child: Child,
    arguments: bytes,
    decoder: msgspec.json.Decoder[Any],
    messages: IO[bytes],
    put: Callable[[Any], object],
) -> None:
    # Pass on a child's answers, and how it ended.
    error, last = None, b""
    assert child.stdin
    assert child.stdout
    try:
        with messages, child.stdout:
            with contextlib.suppress(OSError, ValueError):  # it ends before it has read them
                while arguments:
                    arguments = arguments[os.write(child.stdin.fileno(), arguments) :]
            for last in child.stdout:
                if last.startswith(END) or not last.endswith(b"\n"):  # cut off: no answer
                    break
                put(_value(last, decoder))
            error = _error(child, last, messages)
    except RNNScratchError as raised:
        error = raised
    put(Ended(error))


def _error(child: Child, last: bytes, messages: IO[bytes]) -> RNNScratchError | None:
    # Wait for the end of a child whose last line this was; why it ended, if not as it should.
    code = child.wait()
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}  # a system may have others
        name = names.get(-code, f"signal {-code}")
        hint = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
        return RNNScratchError(f"killed by {name}{hint}")
    if code:
        messages.seek(max(0, messages.seek(0, os.SEEK_END) - LAST_MESSAGES))
        lines = messages.read().decode("utf-8", "replace").splitlines()
        line = next(filter(None, map(one_line, reversed(lines))), "no message")
        return RNNScratchError(f"failed with exit code {code}: {line}")
    if last.startswith(END):
        raised = _value(last.removeprefix(END), RAISED)
        return raised and (NotOffered if raised[0] else RNNScratchError)(*raised[1:])
    if last.endswith(b"\n"):
        return RNNScratchError("it ended before its last answer")
    python = child.args[0]  # type: ignore[index]
    return RNNScratchError(
        f"it ended without an answer; is {python!s} a Python that has rnn-scratch?"
    )


def _value(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise RNNScratchError(f"it sent a wrong answer: {one_line(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = one_line(line.decode("utf-8", "backslashreplace"), 80)
        raise RNNScratchError(f"it sent a line that is not JSON: {text!r}") from error


# The child.

answers: IO[bytes]  # to the parent
sending = threading.Lock()


def send(answer: Any) -> None:
    """Send a value from the child to the parent, from any thread."""
    _send(msgspec.json.encode(answer))


def _send(line: bytes) -> None:
    with sending, contextlib.suppress(BrokenPipeError):  # the parent has ended, and so will this
        answers.write(line + b"\n")
        answers.flush()


def _call(function: Callable[..., Iterator[Any]], data: bytes) -> Iterator[Any]:
    # Call it with these arguments, as the types of its parameters.
    positional, named = msgspec.json.decode(data)
    hints, signature = get_type_hints(function, include_extras=True), inspect.signature(function)
    arguments = signature.bind(*positional, **named).arguments
    return function(**{key: msgspec.convert(value, hints[key]) for key, value in arguments.items()})


def _end_with_parent(parent: IO[bytes]) -> None:
    os.read(parent.fileno(), 1)  # which sends nothing more
    os._exit(1)


def main() -> None:
    """Call the function named on the command line, in the child."""
    global answers
    # Text that a framework prints must not be mixed with answers, and nothing it starts may read
    # what the parent sends.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent gets it, too, and decides
    data = parent.readline()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    module, name = sys.argv[1].split(":")
    raised = None
    try:
        function = getattr(importlib.import_module(module), name)
        for answer in _call(function, data):
            send(answer)
    except RNNScratchError as error:
        raised = isinstance(error, NotOffered), error.problem, error.hint
    _send(END + msgspec.json.encode(raised))


if __name__ == "__main__":
    # In the module that others import, which is not this one, as it is called __main__.
    importlib.import_module(__spec__.name).main()
