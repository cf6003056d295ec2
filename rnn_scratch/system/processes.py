"""Call functions in child processes, so that a crash of a framework is only an error.

The parent names a generator function of a module, with its arguments, as a `partial`. The child
calls the function and sends each value that it yields as a line of JSON. The function's annotations
are the protocol: arguments become the types of its parameters, and answers are verified against the
type that it yields. The last line is the error that the function raised, or null.

A child ends when its standard input does, whatever has ended the parent. It stays in the parent's
process group, so that Ctrl-C and Ctrl-Z reach it. The interpreter can be named and may be any
program: the parent gets either answers or an error with the reason, in bounded time.
"""

import contextlib
import importlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import IO, Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec

from ..errors import RNNScratchError, shortened
from .terminal import printable

LAST_MESSAGES = 2**16  # bytes of stderr, among which is the reason of a failure
EXCERPT = 600  # characters of a message: enough to name all functions of the contract
END = b"end "  # begins the last line
LOOK = 0.1  # seconds between looks at what else may have happened, wherever something is awaited
REST = 1.0  # seconds to wait for the thread that listens to a child, after its end

Answer = TypeVar("Answer")
Name = TypeVar("Name")
Child = subprocess.Popen[bytes]
RAISED = msgspec.json.Decoder(tuple[str, str, str] | None)  # the class's name, problem, hint


class Crashed(RNNScratchError):  # noqa: N818 - a state, as the parent sees it
    """A child has ended without its last line, or has sent what is no answer."""


class Exited(NamedTuple):
    """A child has exited: as it should, or with an error."""

    error: RNNScratchError | None = None


def ask(
    calls: "Mapping[Name, partial[Iterator[Answer]]]",
    *,
    timeout: float,
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Generator[tuple[Name, Answer | Exited]]:
    """Call functions of modules in a child process each, and yield answers with the call's name.

    The last answer of each call is `Exited`, with an error if the child still runs when none of
    them has answered for `timeout` seconds. When the generator is closed, the children are killed.
    The rest is as in `started`.
    """
    running, looks = list(calls), 0
    with started(calls, pythons, environment) as (_, answers):
        for answered in answers:
            if answered is not None:
                looks = 0
                if isinstance(answered[1], Exited):
                    running.remove(answered[0])
                yield answered
                continue
            looks += 1  # and not seconds, so that the time of a Ctrl-Z does not count
            if looks * LOOK >= timeout:
                late = Exited(RNNScratchError(f"no answer within {timeout:g} s"))
                yield from [(name, late) for name in running]
                return


@contextlib.contextmanager
def started(
    calls: "Mapping[Name, partial[Iterator[Any]]]",
    pythons: Mapping[Name, str] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[tuple[dict[Name, Child], Iterator[tuple[Name, Any] | None]]]:
    """Start a child for each call, and kill the children at the end of the context.

    The iterator has each answer with the call's name and, after the last one, `Exited`: with the
    error that the function has raised, or Crashed with the reason if the child could not be
    started, crashed, or sent anything but answers. It has None whenever there was no answer for
    LOOK seconds, and ends with the last child. A child has this process's environment with the
    variables of `environment` added.
    """
    children: dict[Name, Child] = {}
    messages: queue.Queue[tuple[Name, Any]] = queue.Queue()

    def answers() -> Iterator[tuple[Name, Any] | None]:
        running = len(calls)
        while running:
            try:
                name, answer = messages.get(timeout=LOOK)
            except queue.Empty:
                yield None
            else:
                running -= isinstance(answer, Exited)
                yield name, answer

    with contextlib.ExitStack() as stack:
        for name, call in calls.items():
            python = pythons.get(name, sys.executable)
            child = _child(name, call, messages, python, {**os.environ, **environment})
            try:
                children[name] = stack.enter_context(child)
            except Crashed as error:
                messages.put((name, Exited(error)))
        yield children, answers()


@contextlib.contextmanager
def _child(
    name: Name,
    call: "partial[Iterator[Any]]",
    messages: queue.Queue[tuple[Name, Any]],
    python: str,
    environment: Mapping[str, str],
) -> Iterator[Child]:
    function = call.func
    where = f"{function.__module__}:{function.__qualname__}"
    arguments = msgspec.json.encode(call.args) + b"\n"
    hints = get_type_hints(function, include_extras=True)
    decoder = msgspec.json.Decoder(get_args(hints["return"])[0])
    printed = tempfile.TemporaryFile()  # noqa: SIM115 - what it prints; a pipe could fill up
    try:
        child = subprocess.Popen(
            [python, "-c", f"from {__name__} import main; main()", where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env=environment,
        )
    except OSError as error:
        raise Crashed(f"{python} could not be started: {error.strerror or error}") from error
    assert child.stdin
    assert child.stdout
    parent, lines = child.stdin, child.stdout

    def listen() -> None:
        rest, last, error = memoryview(arguments), b"", None  # whose slices are no copies
        try:
            with printed, lines:
                with contextlib.suppress(OSError, ValueError):  # it ends before it has read them
                    while rest:
                        rest = rest[os.write(parent.fileno(), rest) :]
                for last in lines:
                    if last.startswith(END) or not last.endswith(b"\n"):  # cut off: no answer
                        break
                    messages.put((name, _value(last, decoder)))
                error = _error(child.wait(), last, printed)
        except RNNScratchError as raised:
            error = raised
        except MemoryError:  # without an answer, the parent would wait forever
            error = Crashed("there is no memory for its answers")
        messages.put((name, Exited(error)))

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


def _error(code: int, last: bytes, printed: IO[bytes]) -> RNNScratchError | None:
    # Why a child whose last line this was ended, if not as it should.
    raised = _value(last.removeprefix(END), RAISED) if last.startswith(END) else None
    if raised:
        kinds = {kind.__name__: kind for kind in RNNScratchError.__subclasses__()}
        return kinds.get(raised[0], RNNScratchError)(*raised[1:])
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}  # a system may have others
        name = names.get(-code, f"signal {-code}")
        hint = " (perhaps by the system, out of memory)" if name == "SIGKILL" else ""
        return Crashed(f"killed by {name}{hint}")
    if code:
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST_MESSAGES))
        lines = printed.read().decode("utf-8", "replace").splitlines()
        line = next(filter(None, map(one_line, reversed(lines))), "no message")
        return Crashed(f"failed with exit code {code}: {line}")
    if not last.startswith(END):
        return Crashed("it ended before its last answer; is rnn-scratch installed for this Python?")
    return None


def _value(line: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = one_line(line.decode("utf-8", "backslashreplace"), 80)
        raise Crashed(f"it sent {text!r}: {one_line(str(error))}") from error


# The child.


def _end_with_parent(parent: IO[bytes]) -> None:
    os.read(parent.fileno(), 1)  # which sends nothing more
    os._exit(1)


def main() -> None:
    """Call the function named on the command line, in the child."""
    # Text that a framework prints must not be mixed with answers, and nothing it starts may read
    # what the parent sends.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    signal.signal(signal.SIGINT, lambda *_: None)  # the parent gets it, too, and decides
    arguments, raised = msgspec.json.decode(parent.readline()), None
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()

    def send(answer: Any, prefix: bytes = b"") -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent has ended, and so will this
            answers.write(prefix + msgspec.json.encode(answer) + b"\n")
            answers.flush()

    module, _, name = sys.argv[1].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        kinds = get_type_hints(function, include_extras=True).values()
        for answer in function(*map(msgspec.convert, arguments, kinds)):
            send(answer)
    except RNNScratchError as error:
        raised = type(error).__name__, error.problem, error.hint
    send(raised, END)
