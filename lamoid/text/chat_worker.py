"""A process of its own that renders one chat template: it needs nothing but jinja2, and is run as a file by ``chat``.

It reads JSON lines, first ``{"template", "memory", "most"}``, then one object of variables for each rendering, and
answers each with ``{"text"}``, or ``{"error"}``. Its memory is bounded; its time is watched by whoever started it.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

OPEN, CLOSE = "\U000ffff0", "\U000ffff1"
"""What stands around the text of a ``{% generation %}`` block in what is rendered."""

ROLE_TOKENS = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))
REFUSED = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Absent(jinja2.Undefined):
    """Something that is not there: it may be asked for, and a token that the tokenizer lacks is nothing.

    Another name that nobody gave cannot be printed; an attribute of a message that is not there is nothing.
    """

    def __str__(self) -> str:
        if self._undefined_obj is jinja2.utils.missing and self._undefined_name not in ROLE_TOKENS:
            self._fail_with_undefined_error()
        return ""


class Generation(jinja2.ext.Extension):
    """``{% generation %} ... {% endgeneration %}``, as transformers has it: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  jinja2 reads it of the class

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Callable[[], str]) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


def environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """Make the sandbox with what transformers gives to a template; there is no loader, so nothing can be included."""
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=Absent, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = refuse
    return made


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers does, without HTML's escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def refuse(message: object) -> None:
    """Let a template say what it cannot do."""
    raise jinja2.TemplateError(f"the template says: {str(message)[:300]}")


def render(template: jinja2.Template, variables: dict[str, Any], most: int) -> str:
    """Render piece by piece, so that endless output ends at ``most`` characters."""
    today = variables.pop("today", "")

    def now(form: str) -> str:
        if not today:
            raise jinja2.TemplateError("it asks for today's date, and no date was given")
        return date.fromisoformat(today).strftime(form)

    pieces: list[str] = []
    length = 0
    for piece in template.generate(**variables, strftime_now=now):
        length += len(piece)
        if length > most:
            raise jinja2.TemplateError(f"it writes more than {most} characters")
        pieces.append(piece)
    return "".join(pieces)


def answers(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Answer each line; a template that cannot be read is the answer to the first rendering."""
    order = json.loads(next(lines))
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    template: jinja2.Template | None = None
    for line in lines:
        try:
            template = template or environment().from_string(order["template"])
            text = render(template, json.loads(line), order["most"])
            text.encode()  # half a surrogate pair can be written in a template, and sent nowhere
            yield {"text": text}
        except jinja2.TemplateSyntaxError as error:
            yield {"error": f"line {error.lineno}: {error.message}"}
        except MemoryError:
            yield {"error": f"it needs more than {order['memory'] >> 20} MiB of memory"}
        except REFUSED as error:
            yield {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def main() -> None:
    """Serve until the input ends."""
    for answer in answers(iter(sys.stdin)):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
