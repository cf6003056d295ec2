"""Errors for the user, and functions that quote values and messages in errors."""

LONGEST = 4000  # characters of a quoted text, such as a message or a command line


class RNNScratchError(Exception):
    """An error for the user: a problem with the wrong value, and a hint.

    Shells and programs print both; a list of failures prints only the problem.
    """

    exit_code = 2  # exit code of the command; 1 in subclasses for a correct command that fails

    def __init__(self, problem: str = "", hint: str = "") -> None:
        """Truncate both texts; without a hint, split the problem after its first line."""
        if not hint:  # backends and other processes pass one text
            problem, _, hint = problem.partition("\n")
        self.problem, self.hint = truncate(problem), truncate(hint)
        super().__init__(self.problem, self.hint)

    def __str__(self) -> str:
        """Return the problem and, in lines below it, the hint."""
        return f"{self.problem}\n{self.hint}" if self.hint else self.problem


class NotOffered(RNNScratchError):  # noqa: N818 - a limitation, not an error
    """The backend does not offer this variant of the model with these options."""


def truncate(text: str, length: int = LONGEST) -> str:
    """Return the text or, if it has more than `length` characters, its beginning and end."""
    end = length // 4
    return text if len(text) <= length else f"{text[: length - end - 5]} ... {text[-end:]}"


def format_value(value: object, length: int = 500) -> str:
    """Return the repr of any value, truncated."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, or a faulty type
        return f"a value of the type {type(value).__name__}"
    return truncate(text, length)
