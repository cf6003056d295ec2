"""Verifies values that were read from JSON, against the types that say what they should be.

Types are those of Python: ``int``, ``float``, ``str``, ``bool``, None, unions, ``list[X]``,
``dict[str, X]``, ``tuple[X, Y]``, a TypedDict, a NamedTuple, a Struct (whose value remains a dict);
and ``Annotated[X, rule]``.
"""

import contextlib
import functools
import reprlib
import sys
import types
from collections.abc import Callable, Collection
from typing import (
    Annotated,
    Any,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

WORDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false"}
LARGEST = {int: 2**63, float: sys.float_info.max}


class Rule(NamedTuple):
    """What must hold for a value besides its type."""

    holds: Callable[[Any], bool]
    words: str


def between(low: float, high: float) -> Rule:
    """For a number."""
    return Rule(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


def one_of(values: Collection[str]) -> Rule:
    """For one of several texts."""
    return Rule(lambda value: value in values, f"one of {', '.join(values)}")


def length(low: int, high: int) -> Rule:
    """For the number of elements or characters."""
    return Rule(lambda value: low <= len(value) <= high, f"with a length from {low} to {high}")


LINE = Rule(lambda text: text.isprintable() and len(text) <= 1000, "of one line")
Line = Annotated[str, LINE]
Count = Annotated[int, between(1, 2**31)]


def verify(kind: Any, value: Any, where: str = "") -> Any:
    """The value as this type, from JSON; ValueError with the place of what does not fit.

    What is a NamedTuple in the type is a JSON object, and returned as that NamedTuple.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = verify(arguments[0], value, where)
        for rule in arguments[1:]:
            if not rule.holds(value):
                raise _mismatch(where, value, rule.words)
        return value
    if origin in (Union, types.UnionType):
        return _one_of_several(arguments, value, where)
    if origin is list:
        values = _require(list, value, where, "a list")
        return [verify(arguments[0], each, f"{where}[{n}]") for n, each in enumerate(values)]
    if origin is tuple:
        values = _require(list, value, where, f"a list of {len(arguments)}")
        if len(values) != len(arguments):
            raise _mismatch(where, value, f"a list of {len(arguments)}")
        return tuple(verify(each, values[n], f"{where}[{n}]") for n, each in enumerate(arguments))
    if origin is dict:
        values = _require(dict, value, where, "an object")
        return {
            verify(str, key, f"a name in {where}"): verify(arguments[1], each, _inside(where, key))
            for key, each in values.items()
        }
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        try:
            return msgspec.to_builtins(msgspec.convert(value, kind))
        except msgspec.ValidationError as error:
            raise ValueError(f"{where}: {error}") from error
    if is_typeddict(kind) or hasattr(kind, "_fields"):
        return _fields(kind, value, where)
    return _simple(kind, value, where)


def _one_of_several(kinds: Collection[Any], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    *others, last = (kind for kind in kinds if kind is not types.NoneType)
    for kind in others:
        with contextlib.suppress(ValueError):
            return verify(kind, value, where)
    return verify(last, value, where)


def _fields(kind: Any, value: Any, where: str) -> Any:
    values = _require(dict, value, where, "an object")
    hints = _hints(kind)
    is_tuple = hasattr(kind, "_fields")
    required = set(hints) - set(kind._field_defaults) if is_tuple else kind.__required_keys__
    for problem, names in (("lacks", required - set(values)), ("has", set(values) - set(hints))):
        if names:
            raise ValueError(f"{where or 'it'} {problem} {reprlib.repr(min(names))}")
    verified = {key: verify(hints[key], values[key], _inside(where, key)) for key in values}
    return kind(**verified) if is_tuple else verified


def _simple(kind: Any, value: Any, where: str) -> Any:
    # JSON has whole numbers where a float happens to be whole; True is no number here.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and is_number and abs(value) <= LARGEST[float]:
        return float(value)
    if kind is int and is_number and isinstance(value, int) and abs(value) < LARGEST[int]:
        return value
    if kind is str and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON has escapes for halves of characters
            raise _mismatch(where, value, "text that can be written") from None
        return value
    if kind is bool and isinstance(value, bool):
        return value
    raise _mismatch(where, value, WORDS[kind])


def _require(kind: type, value: Any, where: str, words: str) -> Any:
    if not isinstance(value, kind):
        raise _mismatch(where, value, words)
    return value


def _mismatch(where: str, value: Any, words: str) -> ValueError:
    return ValueError(f"{where or 'it'} is {reprlib.repr(value)}, not {words}")


def _inside(where: str, key: str) -> str:
    if not key.isidentifier():
        return f"{where}[{reprlib.repr(key)}]"
    return f"{where}.{key}" if where else key


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
