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
    calls: "Mapping[Name, partial[Iterator[Answer]]]",
    *,
    timeout: float,
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[tuple[Name, Answer | Ended]]:
    """Call functions of modules in a child process each, and yield answers with the call's name.

    The last answer of each call is `Ended`: with the RNNScratchError that the function has raised,
    or one with the reason if the child cannot be started, crashes, sends anything but answers, or
    still runs when none of them has answered for `timeout` seconds. When the generator is closed,
    the children are killed.
    """
    messages: queue.Queue[tuple[Name, Answer | Ended]] = queue.Queue()
    running, looks = list(calls), 0
    with contextlib.ExitStack() as children:
        for name, call in calls.items():
            python = pythons.get(name, sys.executable)
            try:
                children.enter_context(started(name, call, messages.put, python, environment))
            except RNNScratchError as error:
                messages.put((name, Ended(error)))
        while running:
            try:
                name, answer = messages.get(timeout=LOOK)
            except queue.Empty:
                looks += 1  # and not seconds, so that the time of a Ctrl-Z does not count
                if looks * LOOK < timeout:
                    continue
                late = Ended(RNNScratchError(f"no answer within {timeout:g} s"))
                yield from [(name, late) for name in running]
                return
            looks = 0
            if isinstance(answer, Ended):
                running.remove(name)
            yield name, answer


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
    where = f"{function.__module__}:{function.__qualname__}"
    arguments = msgspec.json.encode([call.args, call.keywords]) + b"\n"
    hints = get_type_hints(function, include_extras=True)
    decoder = msgspec.json.Decoder(get_args(hints["return"])[0])
    messages = tempfile.TemporaryFile()  # noqa: SIM115 - what it prints; a pipe could fill up
    try:
        child = subprocess.Popen(
            [python, "-c", f"from {__name__} import main; main()", where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, **environment},
        )
    except OSError as error:
        reason = error.strerror or error
        raise RNNScratchError(f"{python} could not be started: {reason}") from error
    assert child.stdin
    assert child.stdout
    parent, lines = child.stdin, child.stdout

    def listen() -> None:
        rest, last, error = arguments, b"", None
        try:
            with messages, lines:
                with contextlib.suppress(OSError, ValueError):  # it ends before it has read them
                    while rest:
                        rest = rest[os.write(parent.fileno(), rest) :]
                for last in lines:
                    if last.startswith(END) or not last.endswith(b"\n"):  # cut off: no answer
                        break
                    put((name, _value(last, decoder)))
                error = _error(child.wait(), last, messages)
        except RNNScratchError as raised:
            error = raised
        put((name, Ended(error)))

    listener = threading.Thread(target=listen, daemon=True)
    try:
        listener.start()
        yield child
    finally:
        child.kill()
        parent.close()
        child.wait()
        if listener.is_alive():
            listener.join(REST)


def one_line(text: str, length: int = EXCERPT) -> str:
    """Return a message of another process as a line that can be shown: escaped and shortened."""
    line = printable(" ".join(text[: 10 * length].split()))
    return shortened(line, length)


def _error(code: int, last: bytes, messages: IO[bytes]) -> RNNScratchError | None:
    # Why a child whose last line this was ended, if not as it should.
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
    if not last.startswith(END):
        return RNNScratchError("it ended before its last answer; is it a Python with rnn-scratch?")
    raised = _value(last.removeprefix(END), RAISED)
    return raised and (NotOffered if raised[0] else RNNScratchError)(*raised[1:])


def _value(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = one_line(line.decode("utf-8", "backslashreplace"), 80)
        raise RNNScratchError(f"it sent {text!r}: {one_line(str(error))}") from error


# The child.

answers: IO[bytes]  # to the parent
sending = threading.Lock()


def send(answer: Any, prefix: bytes = b"") -> None:
    """Send a value from the child to the parent, from any thread."""
    with sending, contextlib.suppress(BrokenPipeError):  # the parent has ended, and so will this
        answers.write(prefix + msgspec.json.encode(answer) + b"\n")
        answers.flush()


def _call(name: str, data: bytes) -> Iterator[Any]:
    # Call the function with these arguments, as the types of its parameters.
    module, _, name = name.partition(":")
    function = getattr(importlib.import_module(module), name)
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
    raised = None
    try:
        for answer in _call(sys.argv[1], data):
            send(answer)
    except RNNScratchError as error:
        raised = isinstance(error, NotOffered), error.problem, error.hint
    send(raised, END)
