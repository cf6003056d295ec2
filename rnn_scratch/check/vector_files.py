"""Write test vectors to a file, and read a program's answers: as JSON, or as lines of text.

In a text file, each line is an array: the ID of its test or group, "input" or "output", its name,
the number of axes, the size of each axis, and the values in row-major order. Languages without a
JSON library read it with a few lines. Lines that start with # are comments.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import Arrays
from ..errors import RNNScratchError, format_value
from ..system import files
from .vector_calls import Group
from .vectors import VERSION

FORMAT = "rnn-scratch vectors"
SUFFIXES = (".json", ".txt")
MAX_BYTES = 2**23  # of an answers file; lists take about 40 times as much memory
DTYPES = ("float64", "float32")


class Answers(NamedTuple):
    """A program's outputs by test, and the options of the vectors that it read."""

    outputs: dict[str, dict[str, Any]]  # arrays, or sentences that explain what is wrong
    seed: int
    dtype: str


def write(path: Path, groups: Sequence[Group], seed: int, dtype: str) -> int:
    """Write vectors to a ``.json`` or ``.txt`` file; return its size in bytes."""
    if path.suffix not in SUFFIXES:
        raise RNNScratchError(f"{path} must end in .json or .txt.")
    to_text = write_json if path.suffix == ".json" else write_text
    data = to_text(groups, seed, dtype).encode()
    files.replace(path, data)
    return len(data)


def write_json(groups: Sequence[Group], seed: int, dtype: str) -> str:
    """Return vectors as JSON, with one line per test."""
    parts = []
    for group in groups:
        tests = []
        for test in group.tests:
            content: dict[str, Any] = {"id": test.id, "function": test.function, "note": test.note}
            content["inputs"] = _to_lists(test.inputs)
            if test.digest:
                content["digest"] = test.digest
            else:
                content |= {"tolerance": test.tolerance, "outputs": _to_lists(test.outputs)}
            tests.append(_dump(content))
        options = group.options
        head: dict[str, Any] = {"name": group.name, "cell": options.cell, "dtype": options.dtype}
        head |= {"sizes": group.sizes, "inputs": _to_lists(group.inputs)}
        lines = ",\n".join(tests)
        parts.append(f'{_dump(head)[:-1]},"tests":[\n{lines}\n]}}')
    start = {"format": FORMAT, "version": VERSION, "seed": seed, "dtype": dtype}
    body = ",\n".join(parts)
    return f'{_dump(start)[:-1]},"groups":[\n{body}\n]}}\n'


def write_text(groups: Sequence[Group], seed: int, dtype: str) -> str:
    """Return vectors as lines of text."""
    lines = [f"# {FORMAT}: version {VERSION}, seed {seed}, dtype {dtype}"]
    for group in groups:
        lines.append(f"# group {group.name}: {group.label}")
        lines += [_line(group.name, "input", *item) for item in group.inputs.items()]
        for test in group.tests:
            end = f"digest {test.digest}" if test.digest else f"tolerance {test.tolerance:g}"
            lines.append(f"# test {test.id}: function {test.function}, {end}; detects {test.note}")
            lines += [_line(test.id, "input", *item) for item in test.inputs.items()]
            if not test.digest:
                lines += [_line(test.id, "output", *item) for item in test.outputs.items()]
    return "\n".join(lines) + "\n"


def _line(place: str, kind: str, name: str, array: np.ndarray) -> str:
    values = [f"{value:.17g}" for value in array.ravel().tolist()]
    return " ".join([place, kind, name, str(array.ndim), *map(str, array.shape), *values])


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _to_lists(arrays: Arrays) -> dict[str, Any]:
    """Convert arrays to lists; a float32 value becomes the shortest number that rounds to it."""
    return {
        name: (array.astype("U").astype("float64") if array.dtype == "float32" else array).tolist()
        for name, array in arrays.items()
    }


def read_answers(path: Path) -> Answers:
    """Read an answers file; raise RNNScratchError with the reason if it cannot be used."""
    data = files.read(path, MAX_BYTES, RNNScratchError(f"{path} does not exist."))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RNNScratchError(f"{path} is not UTF-8: {error.reason}.") from error
    content = _parse_json(path, text) if path.suffix == ".json" else _parse_text(path, text)
    head = {name: content.get(name, value) for name, value in (("version", VERSION), ("seed", 0))}
    for name, value in head.items():
        if type(value) is not int or not 0 <= value < 2**32:
            problem = f"{path}: the {name} must be an integer, not {format_value(value)}."
            raise RNNScratchError(problem)
    if head["version"] != VERSION:
        problem = f"{path} answers version {head['version']} of the vectors, not {VERSION}."
        raise RNNScratchError(problem, "Answer the vectors that `rnn-scratch vectors` writes.")
    dtype, answers = content.get("dtype", DTYPES[0]), content.get("answers")
    if dtype not in DTYPES:
        raise RNNScratchError(f"{path}: the dtype must be {' or '.join(DTYPES)}.")
    if not isinstance(answers, dict) or not answers:
        hint = 'Write {"answers": {"lstm/cell": {"h": [[...]], "c": [[...]]}}}.'
        raise RNNScratchError(f"{path} contains no answers.", hint if path.suffix != ".txt" else "")
    outputs = dict[str, dict[str, Any]]()
    for place, values in answers.items():
        if not isinstance(values, dict):
            kind = describe_value(values)
            hint = f"Name each output: {{{json.dumps(place)}: {{NAME: VALUES}}}}."
            raise RNNScratchError(f"{path}: the answer to `{place}` is {kind}.", hint)
        outputs[place] = {name: _to_array(value) for name, value in values.items()}
    return Answers(outputs, head["seed"], dtype)


def _parse_json(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        problem = f"{path} is not JSON: {error.msg}, in line {error.lineno}, column {error.colno}."
        is_cut = error.pos >= len(text.rstrip()) - 1 or "Unterminated" in error.msg
        raise RNNScratchError(problem, "The file ends too early." if is_cut else "") from error
    except (ValueError, RecursionError) as error:  # a number of many digits, or nested too deeply
        raise RNNScratchError(f"{path} is not usable JSON: {error}.") from error
    if not isinstance(content, dict):
        problem = f"{path} contains {describe_value(content)} instead of an object."
        raise RNNScratchError(problem)
    return content


def _parse_text(path: Path, text: str) -> dict[str, Any]:
    content: dict[str, Any] = {"answers": {}}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) == 2:
                content[words[0]] = words[1] if words[0] == "dtype" else int(words[1])
                continue
            if words[1] != "output" or len(words) < 4:
                raise ValueError("write ID output NAME AXES SIZES VALUES")
            place, _, name, *rest = words
            count = int(rest[0])
            shape, values = [int(size) for size in rest[1 : count + 1]], rest[count + 1 :]
            if len(shape) != count or min(shape, default=1) < 1:
                raise ValueError(f"{count} sizes must follow the number of axes, {count}")
            if len(values) != math.prod(shape):
                sizes = "x".join(map(str, shape)) or "a single number"
                raise ValueError(f"{len(values)} values for {sizes}")
            outputs = content["answers"].setdefault(place, {})
            if name in outputs:
                raise ValueError(f"{place} {name} occurs twice")
            outputs[name] = np.array([float(value) for value in values]).reshape(shape)
        except (ValueError, IndexError) as error:
            raise RNNScratchError(f"{path}, line {number}: {error}.") from error
    return content


def _to_array(value: Any) -> Any:
    """Convert nested lists of numbers to an array; null becomes NaN. Return a problem as text."""
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.array(_to_floats(value), dtype=np.float64)
    except OverflowError:
        return "an integer that is too large"
    except TypeError as error:
        return str(error)
    except (ValueError, RecursionError):
        return "rows of different lengths"


def _to_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_floats(item) for item in value]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{describe_value(value)} instead of numbers")
    return float(value)


def describe_value(value: Any) -> str:
    """Describe a JSON value that is not as expected."""
    if isinstance(value, str):
        return f"the text {format_value(value, 40)}"
    names = {dict: "an object", list: "a list", bool: str(value).lower(), type(None): "null"}
    return names.get(type(value), f"the number {value}")
