"""What the texts call the frameworks, and the placeholders that stand for it.

``{backend}``, ``{framework}`` and ``{install}`` stand for the backend's name, its framework's, and
what is installed for it.
"""

import re

from rnn_scratch import registry

PLACEHOLDER = re.compile(r"\{(backend|framework|install)\}")


def framework(backend: str) -> str:
    """The name of a backend's framework; of a backend of another package, its own."""
    return {"numpy": "NumPy", **registry.FRAMEWORKS}.get(backend, backend)


def fill(text: str, backend: str) -> str:
    """The text with its placeholders replaced for one backend."""
    # NumPy itself has no engine for several workers, as the frameworks have.
    extras = "[notebooks,workers]" if backend == "numpy" else f"[{backend},notebooks]"
    values = {"backend": backend, "framework": framework(backend), "install": f".{extras}"}
    return PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def enumerate_words(words: list[str]) -> str:
    """ "A, B and C"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
