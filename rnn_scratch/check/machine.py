"""What a backend says of the hardware and how it uses it: the functions of its ``machine``."""

import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator
from inspect import unwrap
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..contract import Backend, Update
from .epochs import LR
from .inputs import Case, Row, fact

PRODUCTS = 50
SECONDS = 0.05  # that these products take at least, so that waiting for them can be measured


def devices(name: str, backend: Backend) -> Iterator[Row]:
    """Devices are names without a number, and the versions have the framework's."""
    for dtype in ("float64", "float32"):
        names = backend.machine.devices(dtype)
        good = bool(names) and all(re.fullmatch(r"[a-z][a-z_]*", str(device)) for device in names)
        yield fact("devices", "names", dtype, good, f"{names!r}: names like cpu, cuda", repr(names))
    versions = backend.machine.environment()
    strings = all(isinstance(each, str) for pair in versions.items() for each in pair)
    yield fact(
        "environment",
        "versions",
        "",
        strings and name in versions,
        f"{versions!r}: strings, with a version of {name!r}",
    )


def set_threads(backend: Backend) -> Iterator[Row]:
    """The number is what is returned, also when it is set again; 1 in the end.

    Some frameworks fix the number when they first compute: nothing may be computed before this.
    """
    for setting, number in (("2 threads", 2), ("1 thread", 1), ("1 thread again", 1)):
        try:
            returned = backend.machine.set_threads(number)
        except Exception as error:
            yield fact("set_threads", setting, "", False, f"{type(error).__name__}: {error}")
            continue
        # A framework may be unable to use two threads, and then says so.
        note = "it uses 1 thread only" if (number, returned) == (2, 1) else ""
        good = returned == number or bool(note)
        yield fact("set_threads", setting, "", good, f"{returned!r} is returned", note)


def tensor(case: Case) -> Iterator[Row]:
    """An array that becomes a tensor and an array again has the same values and kind of numbers."""
    for result, array in (("numbers", case.arrays["W_hq"]), ("tokens", case.batch.X)):
        actual = case.array(case.tensor(array))
        yield case.compare("tensor", f"{result}, and back by `array`", array, actual, 0)
        integers = actual.dtype.kind == array.dtype.kind == "i"  # of any number of bits
        same = integers or actual.dtype == array.dtype
        yield fact(
            "tensor",
            f"dtype of {result}",
            case.label,
            same,
            f"{actual.dtype} instead of {array.dtype}",
        )


def multiply(case: Case) -> Iterator[Row]:
    """One product and three of them, with two matrices that are not square."""
    h, W = case.states[0], case.arrays["W_hq"]
    for matrices in ([W], [W, np.ascontiguousarray(W.T), W]):
        tensors = {id(matrix): case.tensor(matrix) for matrix in matrices}
        actual = case.backend.machine.multiply(
            case.tensor(h), [tensors[id(matrix)] for matrix in matrices]
        )
        expected = np.linalg.multi_dot([h, *matrices])
        yield case.compare("multiply", f"products: {len(matrices)}", expected, case.array(actual))


def synchronize(case: Case) -> Iterator[Row]:
    """Once `synchronize` has returned, no time is spent on waiting for the result.

    What is compared is the time of reading the last of many products after `synchronize`, as a
    share of the whole time: almost 0 if it waited, almost 1 if it did not.
    """
    machine, device = case.backend.machine, case.options.device
    chance = np.random.RandomState(0)
    share, size = 1.0, 64

    def seconds(work: Callable[[], Any]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    while True:  # until the products take long enough
        size *= 2
        W = case.tensor(chance.normal(0, size**-0.5, (size, size)).astype(case.options.dtype))
        h = case.tensor(chance.normal(0, 1, (64, size)).astype(case.options.dtype))
        machine.array(machine.multiply(h, [W] * PRODUCTS))  # for the first time: it may compile
        work = seconds(lambda h=h, W=W: machine.array(machine.multiply(h, [W] * PRODUCTS)))  # type: ignore[misc]
        if work > SECONDS or size == 8192:
            break
    for _ in range(3):  # a busy machine may delay one reading, but not each of three for so long
        start = time.perf_counter()
        product = machine.multiply(h, [W] * PRODUCTS)
        machine.synchronize([product], device)
        reading = seconds(lambda product=product: machine.array(product))  # type: ignore[misc]
        share = min(share, reading / (time.perf_counter() - start))
        if share <= 0.5:
            break
    where = "it returns before the tensors are computed" if share > 0.5 else ""
    yield Row("synchronize", "share of the time spent after it", case.label, share, where, 0.5)


def set_eager(case: Case) -> Iterator[Row]:
    """With it each function is executed by Python each time, with the same results."""
    machine, how = case.backend.machine, Update(LR)
    # A minibatch of a size that is new, for which nothing is compiled yet.
    batch, states = case.batch.rows(slice(3)), tuple(array[:3] for array in case.states)
    tensors = batch.map(case.tensor), tuple(map(case.tensor, states))
    machine.set_eager(True)
    try:
        model, candidate = case.models(case.arrays)
        names: set[str] = set()
        candidate = dataclasses.replace(
            candidate,
            forward=_noted(candidate.forward, "model.forward", names),
            backward=candidate.backward and _noted(candidate.backward, "model.backward", names),
        )
        executed = []
        for _ in range(2):
            names.clear()
            with _watch(_folder(case.backend), names):
                case.backend.scratch.train_minibatch(candidate, *tensors, how)
            executed.append(set(names))
            case.reference.scratch.train_minibatch(model, batch, states, how)
        actual = candidate.to_arrays(candidate.params)
    finally:
        machine.set_eager(False)
    first, second = executed
    missing = ", ".join(sorted(first - second))
    yield fact(
        "set_eager",
        "functions executed",
        case.label,
        not missing,
        f"compiled: {missing} not executed a second time",
    )
    expected = model.to_arrays(model.params)
    yield case.compare("set_eager", "parameters after 2 updates", expected, actual, 1e-12)


def _noted(function: Callable[..., Any], name: str, names: set[str]) -> Callable[..., Any]:
    # A compiler may execute a copy of a function, which `_watch` does not recognize; but where it
    # compiles what calls this one, it does not execute this one again.
    def noted(*arguments: Any, **named: Any) -> Any:
        names.add(name)
        return function(*arguments, **named)

    return noted


@contextlib.contextmanager
def _watch(folder: str, names: set[str]) -> Iterator[None]:
    # Adds the names of the functions of this folder that Python executes.
    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            names.add(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)


def _folder(backend: Backend) -> str:
    return str(Path(unwrap(backend.scratch.step).__code__.co_filename).parent)
