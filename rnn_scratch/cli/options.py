"""Derive command options from the declarations of settings and API functions."""

import contextlib
import inspect
import re
from collections.abc import Callable, Container
from functools import cache, partial, reduce
from types import NoneType
from typing import Any, get_args

import click
from click.core import ParameterSource

from ..errors import RNNScratchError
from ..settings import Settings, annotations, declaration, option_name, validate

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
ALIASES = {"num_epochs": ["--epochs"], "num_layers": ["--layers"]}
METAVARS = {"text": "FILE", "output": "FOLDER", "prefix": "TEXT"}  # other strings use NAME
# Help headings of a `GroupedCommand`; all other options are listed under "Run".
GROUPS = {
    "Text": "corpus text normalize max_tokens valid_tokens valid_share",
    "Network": "cell num_hiddens num_layers embedding dropout sigma dtype exact",
    "Training": "batch_size num_steps sampling num_epochs num_updates optimizer lr beta1 beta2 "
    "epsilon schedule warmup weight_decay theta patience seed",
}


class GroupedCommand(click.Command):
    """A command that groups its options; `--help` shows the common ones, `--help-all` all."""

    def __init__(
        self, *args: Any, common: str = "", rest: str = "Run", prefix: str = "", **kwargs: Any
    ) -> None:
        """Set the names of the common options, and the headings.

        `rest` is the heading of options without a group, and `prefix` begins all other headings.
        """
        super().__init__(*args, **kwargs)
        self.common, self.rest, self.prefix = common.split(), rest, prefix
        show = click.Option(
            ["--help-all"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=self._show_all,
            help="Show all options and exit.",
        )
        self.params.append(show)

    def _show_all(self, ctx: click.Context, option: click.Parameter, is_set: bool) -> None:
        if is_set and not ctx.resilient_parsing:
            self.common = []
            click.echo(self.get_help(ctx))
            ctx.exit()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the common options in their order or, under headings, all options."""
        records = {param.name: param.get_help_record(ctx) for param in self.get_params(ctx)}
        if self.common:
            shown = [*self.common, *[*records][-2:]]  # the last two are --help-all and --help
            groups = {"Options": [records[name] for name in shown]}
        else:
            groups = {self.rest: []}
            for title, names in GROUPS.items():
                groups[self.prefix + title] = [records.pop(name, None) for name in names.split()]
            groups[self.rest] = [*records.values()]
        for title, rows in groups.items():
            if any(rows):
                with formatter.section(title):
                    formatter.write_dl([row for row in rows if row])


class Number(click.ParamType):
    """A click type for numbers; if the annotated type allows None, the text "none" means None."""

    def __init__(self, annotation: Any) -> None:
        """Store the annotated type and choose the help placeholder."""
        self.annotation = annotation
        self.base, limits, self.is_optional, _ = declaration(annotation)
        is_fraction = min(limits.get("le", 2), limits.get("lt", 2)) <= 1
        self.name = "N" if self.base is int else "P" if is_fraction else "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert text to a number or None."""
        with contextlib.suppress(ValueError):
            value = None if self.is_optional and value == "none" else self.base(value)
        try:
            return validate((param and param.name) or "", value, self.annotation)
        except RNNScratchError as error:
            self.fail(error.problem.replace("or None (", "or none ("), param, ctx)


def click_type(annotation: Any) -> click.ParamType:
    """Return the click type for an annotated number or choice, with its limits."""
    base = declaration(annotation).base
    return Number(annotation) if base in (int, float) else click.Choice(get_args(base))


def derived_options(
    source: Callable[..., Any],
    only: Container[str] | None = None,
    omit: Container[str] = (),
    **defaults: Any,
) -> Decorator:
    """Return a decorator that adds an option for each field or optional argument of `source`.

    Descriptions come from a Struct's field metadata or from the `Args` section of a function's
    docstring. `only` and `omit` select names, and `defaults` overrides default values.
    """
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(source) or "", re.M))
    types, decorators = annotations(source), []
    for name, parameter in inspect.signature(source).parameters.items():
        is_selected = name not in omit and (only is None or name in only)
        has_option = parameter.default is not parameter.empty and "Callable" not in str(types[name])
        if is_selected and has_option:
            text = " ".join(texts[name].split()) if texts else declaration(types[name]).description
            default = defaults.get(name, parameter.default)
            decorators.append(_option(name, types[name], text, default))
    return lambda command: reduce(lambda c, decorator: decorator(c), reversed(decorators), command)


settings_options = partial(derived_options, Settings, dtype="float32")


def _option(name: str, annotation: Any, text: str, default: Any) -> Decorator:
    text = re.sub("`(--.*?)`", r"\1", name_flags(text))
    text = re.sub("^Whether to (.)", lambda match: match[1].upper(), text)
    text = re.sub(r"\s*Default: (.*)\.$", r"  [default: \1]", text)
    if default is not None and not isinstance(default, bool):
        value = f"{default:g}" if isinstance(default, float) else default
        text += f"  [default: {value}]"
    names = [option_name(name), *ALIASES.get(name, ()), name]
    annotation = get_args(annotation)[0] if NoneType in get_args(annotation) else annotation
    base = declaration(annotation).base if hasattr(annotation, "__metadata__") else str
    if base is bool:
        return click.option(*names, is_flag=True, help=text)
    if base is str:
        return click.option(*names, metavar=METAVARS.get(name, "NAME"), help=text)
    return click.option(*names, type=click_type(annotation), help=text)


def name_flags(message: str) -> str:
    """Replace arguments in a message with options: `top_k` with `--top-k`, `a="b"` with `--a b`."""

    def replace(match: re.Match[str]) -> str:
        value = f" {match[2]}" if match[2] else ""
        return f"`{option_name(match[1])}{value}`" if match[1] in _arguments() else match[0]

    return re.sub(r"`(\w+)(?:=\"?([\w.-]+)\"?)?`", replace, message)


@cache
def _arguments() -> set[str]:
    """Return the arguments that messages and descriptions show as command-line options."""
    from .. import api  # only here, because some commands do not train
    from ..runs.inference import Network, load

    functions = api.train, load, Network.predict, Network.evaluate
    return set(annotations(Settings)).union(*map(annotations, functions))


def split_list(text: str) -> list[str]:
    """Return the unique items in a list such as "A,B", or the text itself if it has no items."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip())) or [text]


def specified(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options given on the command line."""
    source = click.get_current_context().get_parameter_source
    return {n: value for n, value in options.items() if source(n) is ParameterSource.COMMANDLINE}
