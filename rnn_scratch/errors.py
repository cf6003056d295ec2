"""User-facing errors, and functions that truncate quoted values."""

MAX_LENGTH = 4000  # maximum number of characters in a problem or hint


class RNNScratchError(Exception):
    """An error shown to the user: the problem, including the invalid value, and a hint."""

    exit_code = 2  # the command's exit code; subclasses use 1 for valid commands that fail

    def __init__(self, problem: str = "", hint: str = "") -> None:
        """Truncate both strings; `hint` defaults to all lines of `problem` after the first."""
        if not hint:  # backends and other processes pass a single string
            problem, _, hint = problem.partition("\n")
        self.problem, self.hint = truncate(problem), truncate(hint)
        super().__init__(self.problem, self.hint)

    def __str__(self) -> str:
        """Return the problem and, on the following lines, the hint."""
        return f"{self.problem}\n{self.hint}" if self.hint else self.problem


class NotSupportedError(RNNScratchError):
    """Raised when a backend does not support a requested feature."""


class DivergenceError(RNNScratchError):
    """Raised when the loss or a parameter is no longer finite during training."""

    exit_code = 1


def truncate(text: str, length: int = MAX_LENGTH) -> str:
    """Return `text` or, if it is longer than `length` characters, its beginning and end."""
    end = length // 4
    return text if len(text) <= length else f"{text[: length - end - 5]} ... {text[-end:]}"


def format_value(value: object, length: int = 500) -> str:
    """Return a value's repr, truncated to `length` characters."""
    return truncate(repr(value), length)
