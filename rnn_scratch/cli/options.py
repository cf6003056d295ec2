"""Options that several commands share."""

import contextlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, get_args

import click
from click.core import ParameterSource
from msgspec import structs

from ..errors import RNNScratchError
from ..settings import Settings, Threads, Variant, annotations, declaration, option_name, validate

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
ALIASES = {"num_epochs": ["--epochs"], "num_layers": ["--layers"]}


class Number(click.ParamType):
    """A click type for numbers of an annotated type."""

    name = "number"

    def __init__(self, annotation: Any) -> None:
        """Store the annotated type; if it allows None, the text "none" means None."""
        self.annotation = annotation

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
    fields = annotations(Settings).items()
    return options(*(_setting(n, kind, defaults[n]) for n, kind in fields if n not in omit))


def _setting(name: str, annotation: Any, default: Any) -> Decorator:
    names = [option_name(name), *ALIASES.get(name, ()), name]
    help = declaration(annotation).description
    if isinstance(default, bool):
        return click.option(*names, is_flag=True, help=help)
    text = f"{default:g}" if isinstance(default, float) else default
    return click.option(*names, type=click_type(annotation), help=f"{help}  [default: {text}]")


def runtime_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for backend, model, device and threads."""
    return options(
        click.option(
            "--backend",
            help="Backend; `rnn-scratch backends` lists them.  "
            "[default: the run's, or torch, or numpy without PyTorch]",
        ),
        option(
            "--model",
            Variant,
            "Variant of the model: the plain implementation, the same model optimized by hand, or "
            "the framework's built-in layers.  [default: the run's, or scratch]",
        ),
        click.option("--device", help="Device: cpu, cuda, mps, or auto for the best device."),
        option("--threads", Threads, "Number of threads.  [default: the run's, or automatic]"),
    )(command)


def text_options(default: str = "time-machine, or tide-clock if that is unavailable") -> Decorator:
    """Return a decorator that adds the options for a text; `default` describes the default."""
    return options(
        click.option(
            "--corpus",
            help="Text: time-machine, war-of-the-worlds, tiny-shakespeare (its 65 characters need "
            "`normalize` none) or tide-clock (built in).  "
            f"[default: {default}]",
        ),
        click.option("--text", metavar="FILE", help="UTF-8 text file to use instead of --corpus."),
    )


best_option = click.option(
    "--best", is_flag=True, help="Use the epoch with the lowest held-out loss."
)


def separated(text: str) -> list[str]:
    """Return the unique items of a list such as "A,B", or the text itself if it has no items."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or [text]


def specified(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    source = click.get_current_context().get_parameter_source
    return {n: value for n, value in options.items() if source(n) is ParameterSource.COMMANDLINE}
