"""Options of commands, derived from the settings and from the functions of the Python API."""

import contextlib
import inspect
import re
from collections.abc import Callable, Sequence
from functools import reduce
from types import NoneType
from typing import Any, get_args

import click
from click.core import ParameterSource
from msgspec import structs

from ..errors import RNNScratchError
from ..settings import Settings, annotations, declaration, option_name, validate

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
ALIASES = {"num_epochs": ["--epochs"], "num_layers": ["--layers"]}
METAVARS = {"text": "FILE", "run": "FOLDER"}  # other strings are NAMEs


class Number(click.ParamType):
    """A click type for numbers of an annotated type."""

    def __init__(self, annotation: Any) -> None:
        """Store the annotated type; if it allows None, the text "none" means None."""
        self.annotation = annotation
        base, limits, *_ = declaration(annotation)
        is_fraction = base is float and min(limits.get("le", 2), limits.get("lt", 2)) <= 1
        self.name = "N" if base is int else "P" if is_fraction else "X"  # placeholder in the help

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert text to a number, or to None."""
        base, _, optional, _ = declaration(self.annotation)
        with contextlib.suppress(ValueError):
            value = None if optional and value == "none" else base(value)
        try:
            return validate((param and param.name) or "", value, self.annotation)
        except RNNScratchError as error:
            self.fail(error.problem, param, ctx)


def click_type(annotation: Any) -> click.ParamType:
    """Return the click type of an option, with an annotated type's limits or choices."""
    base = declaration(annotation).base
    if base is str:
        return click.STRING
    return Number(annotation) if base in (int, float) else click.Choice(get_args(base))


def option(name: str, annotation: Any, help: str, **kwargs: Any) -> Decorator:
    """Return a decorator that adds an option with the limits or choices of an annotated type."""
    return click.option(name, type=click_type(annotation), help=help, **kwargs)


def options(*decorators: Decorator) -> Decorator:
    """Return a decorator that adds several options in this order."""
    return lambda command: reduce(lambda c, decorator: decorator(c), reversed(decorators), command)


def settings_options(omit: Sequence[str] = (), **defaults: Any) -> Decorator:
    """Return a decorator that adds an option per setting; `defaults` overrides default values."""
    defaults = {**structs.asdict(Settings()), **defaults}
    fields = [pair for pair in annotations(Settings).items() if pair[0] not in omit]
    return options(*(_option(n, a, declaration(a).description, defaults[n]) for n, a in fields))


def function_options(function: Callable[..., Any]) -> Decorator:
    """Return a decorator that adds an option for each keyword argument of an API function.

    The descriptions come from the section `Args` of its docstring.
    """
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(function) or "", re.M))
    types = annotations(function)
    return options(
        *(
            _option(name, types[name], " ".join(texts.get(name, "").split()), param.default)
            for name, param in inspect.signature(function).parameters.items()
            if param.default is not param.empty and "Callable" not in str(types[name])
        )
    )


def _option(name: str, annotation: Any, text: str, default: Any) -> Decorator:
    # Adapt the description to the command line: "`top_k`" becomes "--top-k".
    text = re.sub(r"(?<!`)`(\w+)`(?!`)", lambda match: option_name(match[1]), text)
    text = re.sub("^Whether to (.)", lambda match: match[1].upper(), text)
    text = re.sub(r"\s*Default: (.*)\.$", r"  [default: \1]", text)
    if default is not None and not isinstance(default, bool):
        shown = f"{default:g}" if isinstance(default, float) else default
        text += f"  [default: {shown}]"
    names = [option_name(name), *ALIASES.get(name, ()), name]
    optional = NoneType in get_args(annotation)
    annotation = get_args(annotation)[0] if optional else annotation
    if not hasattr(annotation, "__metadata__"):
        return click.option(*names, metavar=METAVARS.get(name, "NAME"), help=text)
    if declaration(annotation).base is bool:
        return click.option(*names, is_flag=True, help=text)
    return click.option(*names, type=click_type(annotation), help=text)


def name_flags(message: str, command: click.Command) -> str:
    """Replace arguments in a message, such as `top_k`, by the command's options, such as `--top-k`.

    An assignment, such as `unknown="skip"`, becomes `--unknown skip`.
    """
    flags = {param.name: param.opts[0] for param in command.params}

    def replace(match: re.Match[str]) -> str:
        flag, value = flags.get(match[1]), match[2]
        return match[0] if flag is None else f"`{flag} {value}`" if value else f"`{flag}`"

    return re.sub(r"`(\w+)(?:=\"?([\w.]+)\"?)?`", replace, message)


def text_options() -> Decorator:
    """Return a decorator that adds the options for a text."""
    return options(
        click.option(
            "--corpus",
            metavar="NAME",
            help="Text: time-machine, war-of-the-worlds, tiny-shakespeare (use with "
            "--normalize none) or tide-clock (built in).  "
            "[default: time-machine, or tide-clock if the book is unavailable]",
        ),
        click.option("--text", metavar="FILE", help="UTF-8 text file to use instead of --corpus."),
    )


def separated(text: str) -> list[str]:
    """Return the unique items of a list such as "A,B", or the text itself if it has no items."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or [text]


def specified(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    source = click.get_current_context().get_parameter_source
    return {n: value for n, value in options.items() if source(n) is ParameterSource.COMMANDLINE}
