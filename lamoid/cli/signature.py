"""A recipe's signature read as a command line.

A parameter whose annotation carries a help text, ``Annotated[type, "help"]``, is shown: as an argument when it may be
given by position, as an option when it is keyword-only. What carries none (``progress``) is not for the command line.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

Parameter = inspect.Parameter


def command_parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Give the parameters that typer needs to offer ``function`` on a command line, in order, ``--json`` last."""
    hints = get_type_hints(function, include_extras=True)
    shown = [
        _shown(parameter, hints[parameter.name])
        for parameter in inspect.signature(function).parameters.values()
        if get_origin(hints.get(parameter.name)) is Annotated
    ]
    as_json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on standard output.")]
    return [*shown, Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=as_json)]


def _shown(parameter: Parameter, hint: Any) -> Parameter:
    kind, help_text = get_args(hint)[:2]
    help_text = help_text.replace("[", r"\[")  # typer would take [model] for markup
    kind = _on_command_line(kind)
    flag = f"--{parameter.name.replace('_', '-')}"
    if parameter.kind is not Parameter.KEYWORD_ONLY:
        info: Any = typer.Argument(help=help_text)
    elif kind is bool and parameter.default is False:
        info = typer.Option(flag, help=help_text)
    else:
        info = typer.Option(help=help_text)
    default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    if default is Parameter.empty and NoneType in get_args(get_args(hint)[0]):
        default = None  # what may be None may be left out; the recipe says what it then needs instead
    return Parameter(parameter.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _on_command_line(kind: Any) -> Any:
    """Give the type a word is read as: a list where one may be given, else a path, else the first; ``None`` may stay.

    ``str | Path | Mapping`` is a path, ``str | Sequence[str]`` a list of texts.
    """
    if get_origin(kind) in (Union, UnionType):
        parts = get_args(kind)
        read = [_on_command_line(part) for part in parts if part is not NoneType]
        lists = [part for part in read if get_origin(part) is list]
        chosen = lists[0] if lists else Path if Path in read else read[0]
        return chosen | None if NoneType in parts else chosen
    if get_origin(kind) in (list, tuple, Sequence, Iterable):
        return list[_on_command_line(get_args(kind)[0])]
    return kind
