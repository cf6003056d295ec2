"""What a backend says of the hardware and how it uses it: the functions of its ``machine``."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Backend, Update
from .epochs import FEW, updated
from .inputs import Case, devices_of
from .results import Computed, Row, fact

PRODUCTS = 50
LEAST_TIME = 0.05  # seconds that these take at least, so that waiting for them can be measured


def devices(name: str, backend: Backend) -> Iterator[Row]:
    """Devices are names without a number, and the versions have the framework's."""
    for dtype in ("float64", "float32"):
        names = backend.machine.devices(dtype)
        good = bool(names) and all(re.fullmatch(r"[a-z][a-z_]*", str(device)) for device in names)
        otherwise = f"{names!r}: names like cpu, cuda"
        yield fact("names", good, otherwise, repr(names), piece="devices", case=dtype)
    most = backend.machine.memory("cpu")
    good = most is None or type(most) is int
    yield fact("of the CPU", good, f"{most!r}: bytes, or None", piece="memory")
    versions = backend.machine.environment()
    good = name in versions and all(
        isinstance(each, str) for pair in versions.items() for each in pair
    )
    otherwise = f"{versions!r}: strings, with a version of {name!r}"
    yield fact("versions", good, otherwise, piece="environment")


def set_threads(backend: Backend) -> Iterator[Row]:
    """The number is what is returned, also when it is set again; 1 in the end.

    Some frameworks fix the number when they first compute: nothing may be computed before this.
    """
    for setting, number in (("2 threads", 2), ("1 thread", 1), ("1 thread again", 1)):
        note = ""
        try:
            returned = backend.machine.set_threads(number)
        except Exception as error:
            good, otherwise = False, f"{type(error).__name__}: {error}"
        else:
            # A framework may be unable to use two threads, and then says so.
            note = "it uses 1 thread only" if (number, returned) == (2, 1) else ""
            good, otherwise = returned == number or bool(note), f"{returned!r} is returned"
        yield fact(setting, good, otherwise, note, piece="set_threads")


def used_threads(backend: Backend) -> Iterator[Row]:
    """A single thread has computed some products, as `set_threads` has said before.

    Measured is processor time, of which other programs take none away. Only Linux has it by thread.
    """
    machine, rng = backend.machine, np.random.RandomState(0)
    W = machine.tensor(rng.normal(0, 512**-0.5, (512, 512)).astype("float32"), "cpu")
    machine.array(machine.multiply(W, [W] * 40))  # it may start threads and compile
    time.sleep(0.1)  # a thread that has no work left spins for a while
    before = _times_of_threads()
    machine.array(machine.multiply(W, [W] * 40))
    if before:
        spent = [now - before.get(thread, 0) for thread, now in _times_of_threads().items()]
        share = max(spent) / sum(spent)
        otherwise = f"1 thread is returned, and more compute: {share:.0%} is the largest share"
        yield fact("1 thread computes", share > 0.9, otherwise, piece="set_threads")


def _times_of_threads() -> dict[str, int]:
    # Nanoseconds that each thread of this process has computed.
    files = Path("/proc/self/task").glob("*/schedstat")
    return {str(file): int(file.read_text(encoding="utf-8").split()[0]) for file in files}


def tensor(case: Case) -> Iterator[Computed | Row]:
    """An array that becomes a tensor and an array again has the same values and kind of numbers."""
    tokens = case.batch.X * 10**8  # up to 1e9, which 32 bits hold
    for name, array in (("numbers", case.arrays["W_hq"]), ("tokens", tokens)):
        actual = case.backend.machine.array(case.tensor(array))
        yield Computed(f"{name}, and back by `array`", actual, array, 0)
        integers = actual.dtype.kind == array.dtype.kind == "i"  # of any number of bits
        same = integers or actual.dtype == array.dtype
        yield fact(f"dtype of {name}", same, f"{actual.dtype} instead of {array.dtype}")
    if case.options.device != "cpu":
        on_cpu = devices_of(case.backend.machine.tensor(case.states[0], "cpu"))
        yield fact("device", devices_of(case.state()) != on_cpu, "on the CPU")


def multiply(case: Case) -> Iterator[Computed | Row]:
    """One product and three of them, with two matrices that are not square."""
    h, W = case.states[0], case.arrays["W_hq"]
    for matrices in ([W], [W, np.ascontiguousarray(W.T), W[::-1].copy()]):
        tensors = {id(matrix): case.tensor(matrix) for matrix in matrices}
        product = case.backend.machine.multiply(
            case.tensor(h), [tensors[id(matrix)] for matrix in matrices]
        )
        yield Computed(f"products: {len(matrices)}", product, np.linalg.multi_dot([h, *matrices]))


def synchronize(case: Case) -> Iterator[Computed | Row]:
    """Once `synchronize` has returned, no time is spent on waiting for the result.

    What is compared is the time of reading the last of many products after `synchronize`, as a
    share of the whole time: almost 0 if it waited, almost 1 if it did not.
    """
    machine, dtype = case.backend.machine, case.options.dtype
    rng = np.random.RandomState(0)
    size, seconds = 64, 0.0
    while seconds < LEAST_TIME and size < 8192:
        size *= 2
        W = case.tensor(rng.normal(0, size**-0.5, (size, size)).astype(dtype))
        h = case.tensor(rng.normal(0, 1, (64, size)).astype(dtype))
        share = 1.0
        for turn in range(4):  # a busy machine delays a reading, but not each of three for so long
            start = time.perf_counter()
            product = machine.multiply(h, [W] * PRODUCTS)
            machine.synchronize([product], case.options.device)
            waited = time.perf_counter()
            machine.array(product)
            end = time.perf_counter()
            if turn:  # in the first one it may compile
                seconds, share = end - start, min(share, (end - waited) / (end - start))
    otherwise = f"it returns before the tensors are computed: {share:.0%} of the time is after it"
    yield fact("share of the time spent after it", share <= 0.5, otherwise)


def set_eager(case: Case) -> Iterator[Computed | Row]:
    """With it Python executes the model's functions in each update, with the same results."""
    calls: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append("")
            return function(*arguments, **named)

        return call

    # A minibatch of a size that is new, for which nothing is compiled yet.
    case = case.of_rows(slice(3))
    case.backend.machine.set_eager(True)
    try:
        model = case.model()
        backward = model.backward and counted(model.backward)
        model = dataclasses.replace(model, forward=counted(model.forward), backward=backward)
        params, _, _ = updated(case, Update(), model)
    finally:
        case.backend.machine.set_eager(False)
    otherwise = f"compiled: not executed in {FEW - len(calls)} of {FEW} updates"
    yield fact("functions executed", len(calls) >= FEW, otherwise)
    expected, _, _ = updated(case.reference, Update())
    yield Computed(f"parameters after {FEW} updates", params, expected, 1e-12)
