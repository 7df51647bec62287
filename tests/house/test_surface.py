"""The command line and the public names are frozen: a change shows as a difference of ``surface.txt``.

When a change is meant, write the file anew: ``python tests/house/test_surface.py``.
"""

import inspect
import re
from pathlib import Path

import lamoid
from lamoid.cli.main import find
from lamoid.cli.signature import command_parameters
from lamoid.cli.table import COMMANDS

STORED = Path(__file__).with_name("surface.txt")


def surface() -> str:
    lines = []
    for command in COMMANDS:
        lines.append(f"lamoid {command.name}")
        for parameter in command_parameters(find(command)):
            kind, info = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
            word = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind)
            word = re.sub(r"\b(pathlib|typing)\.(_local\.)?", "", str(kind) if "[" in str(kind) else word)
            default = "required" if parameter.default is inspect.Parameter.empty else repr(parameter.default)
            is_option = type(info).__name__ == "OptionInfo"
            shown = f"--{parameter.name.replace('_', '-')}" if is_option else parameter.name.upper()
            lines.append(f"    {shown.replace('--as-json', '--json')}: {word} = {default}")
    lines.append("lamoid.")
    lines += [f"    {name}{signature(getattr(lamoid, name))}" for name in sorted(lamoid._HOME)]
    return "\n".join(lines) + "\n"


def signature(thing: object) -> str:
    """Parameter names and kinds, without types: those are pyright's affair."""
    if isinstance(thing, type):
        return ""
    full = inspect.signature(thing)  # type: ignore[arg-type]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in full.parameters.values()]
    return str(inspect.Signature(bare))


def test_the_surface_is_what_was_stored() -> None:
    assert surface() == STORED.read_text(encoding="utf-8")


if __name__ == "__main__":
    STORED.write_text(surface(), encoding="utf-8")
