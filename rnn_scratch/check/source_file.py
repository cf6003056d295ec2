"""Read and execute a user's file, and limit the duration of its calls."""

import ast
import builtins
import contextlib
import linecache
import os
import re
import sys
import threading
import traceback
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .. import registry
from ..contract import Backend
from ..errors import RNNScratchError
from . import d2l
from .mistakes import MODULES
from .results import describe_error

CALL_SECONDS = 30.0  # longest duration of a call, or of the file itself
TIMED_OUT = 124  # exit code of the child process after a longer call


def read_source(path: Path) -> tuple[str, str]:
    """Return a Python file's source and the backend for the framework that the file imports."""
    try:
        source = path.read_text("utf-8-sig")
        ast.parse(source, str(path))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"{path} is not UTF-8: {error.reason} in line {line}."
        raise RNNScratchError(problem, "Open it in an editor and save it as UTF-8.") from error
    except (RecursionError, MemoryError) as error:
        problem = f"{path} contains an expression with too many parts for Python."
        raise RNNScratchError(problem, "Split it into several statements.") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RNNScratchError(f"{path} could not be read: {reason}.") from error
    imports = re.findall(r"\w+", " ".join(re.findall(r"(?m)^ *(?:import|from)\b[^#\n]*", source)))
    imports += ["tensorflow"] * ("keras" in imports) + ["jax"] * ("flax" in imports)
    return source, next((name for name in registry.FRAMEWORKS if name in imports), "numpy")


def execute(
    source: str, path: str, backend: Backend, free: Collection[str] | None = None
) -> dict[str, Any]:
    """Run the user's code as the module `user_file`; undefined names come from the backend.

    If `free` is given, only these names of the backend and of Python are defined.
    """
    items = [item for m in (backend.machine, *list_modules(backend)) for item in vars(m).items()]
    project = {name: v for name, v in items if not isinstance(v, types.ModuleType)}
    namespace: dict[str, Any] = {"__name__": "user_file", "__file__": path}
    names = {**project, **vars(builtins)}
    if free is not None:  # keep functions that statements call, such as `__import__`
        names = {name: value for name, value in names.items() if name in free or "__" in name}
    namespace["__builtins__"] = names
    sys.path.append(str(Path(path).resolve().parent))  # last: packages precede the user's modules
    linecache.cache[path] = (len(source), None, source.splitlines(True), path)
    tree = ast.parse(source, path)
    if re.search(r"(?m)^ *(from|import) +d2l\b", source):
        d2l.install(backend)
        # The chapter's other statements train, or show results.
        tree.body = [node for node in tree.body if _is_definition(node)]
    try:
        with limit_time():
            exec(compile(tree, path, "exec"), namespace)
    except (Exception, SystemExit) as error:
        raise RNNScratchError(f"{path} raises {describe_place(error, path)}.") from error
    return namespace


def _is_definition(node: ast.stmt) -> bool:
    """Return whether a statement imports, or defines a function, a class or constants."""
    is_constant = isinstance(node, ast.Assign) and not any(
        isinstance(part, ast.Call | ast.Name) for part in ast.walk(node.value)
    )
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    return is_constant or isinstance(node, kinds)


@contextlib.contextmanager
def limit_time() -> Iterator[None]:
    """End this process with the exit code TIMED_OUT if the context takes too long."""
    timer = threading.Timer(CALL_SECONDS, os._exit, [TIMED_OUT])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def list_modules(backend: Backend) -> list[types.ModuleType]:
    """Return the modules whose functions a user's file may replace."""
    return [getattr(backend, name) for name in MODULES if getattr(backend, name)]


def describe_place(error: BaseException, path: str) -> str:
    """Describe an error and the line of the user's file that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    place = f" in `{frames[-1].line}` (line {frames[-1].lineno})" if frames else ""
    return f"{describe_error(error)}{place}"  # type: ignore[arg-type]
