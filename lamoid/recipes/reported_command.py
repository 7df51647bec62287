"""Writes down the command line that calls a recipe again with the same arguments: what a report is reproduced by."""

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_origin


def report_command(function: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """Write the command for ``function``, called with ``values``: every argument, and options not at their default.

    Like the command line itself it goes by the signature: what carries a help text is shown, and what is keyword-only
    is an option. Options stand as --name=value, several values as several of them.
    """
    arguments: list[str] = []
    options: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        value = values[name]
        if get_origin(parameter.annotation) is not Annotated:
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            arguments += _words(value)
        elif value != parameter.default and value is not None:
            flag = f"--{name.replace('_', '-')}"
            options += [flag] if value is True else [f"{flag}={word}" for word in _words(value)]
    marker = ["--"] if any(word.startswith("-") for word in arguments) else []
    return shlex.join(["lamoid", function.__name__, *options, *marker, *arguments])


def _words(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]
