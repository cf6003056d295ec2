"""Errors for the user: what is wrong, and what to do.

Also how values and messages from elsewhere are quoted in them.
"""

LONGEST = 4000  # characters of what is quoted from elsewhere, such as a message or a command line


class RNNScratchError(Exception):
    """An error for the user: a problem, with the value that is wrong, and a hint, what to do.

    Shells and programs print both; a list of failures prints the problem alone.
    """

    exit_code = 2  # of the command that meets it; 1 where the command itself was right

    def __init__(self, problem: str = "", hint: str = "") -> None:
        """Shorten what the two quote, and take further lines of a problem alone for the hint."""
        if not hint:  # as a backend writes them, or another process
            problem, _, hint = problem.partition("\n")
        self.problem, self.hint = shortened(problem), shortened(hint)
        super().__init__(self.problem, self.hint)

    def __str__(self) -> str:
        """Return the problem and, in lines below it, the hint."""
        return f"{self.problem}\n{self.hint}" if self.hint else self.problem


class NotOffered(RNNScratchError):  # noqa: N818 - a limitation, not an error of the backend
    """The backend does not have this variant of the model, or not with these options."""


def shortened(text: str, length: int = LONGEST) -> str:
    """Return the text or, if it has more than `length` characters, its beginning and its end."""
    end = length // 4
    return text if len(text) <= length else f"{text[: length - end - 5]} ... {text[-end:]}"


def shown(value: object, length: int = 500) -> str:
    """Return the value as an error quotes it: shortened, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # a number of thousands of digits, or a type with an error of its own
        return f"a value of the type {type(value).__name__}"
    return shortened(text, length)
