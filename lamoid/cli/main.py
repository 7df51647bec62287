"""The ``lamoid`` command: reads the words, calls one recipe, prints its result, and says what went wrong.

Exit status: 0 done, 2 something given cannot be used, 70 a bug in Lamoid (a report file is left), 130 interrupted,
143 ended by SIGTERM; a training that was interrupted or ended so has saved itself.
"""

import atexit
import contextlib
import gc
import importlib
import inspect
import io
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeAlias, cast, runtime_checkable

import typer

from lamoid.cli.encoding import check_words, of_the_locale
from lamoid.cli.signature import command_parameters
from lamoid.cli.table import COMMANDS, GROUPS, Command
from lamoid.errors import InputError, Stopped


class Result(Protocol):
    """What a recipe returns: a struct that is printed as lines for a person, or encoded as JSON."""

    def lines(self) -> list[str]:
        """Write what a person reads."""
        ...


@runtime_checkable
class Answer(Protocol):
    """A result that also answers a question, no by another exit status than 0."""

    @property
    def status(self) -> int:
        """Give the exit status."""
        ...


Recipe: TypeAlias = Callable[..., Result]
USAGE, BUG, INTERRUPTED, BROKEN_PIPE = 2, 70, 130, 141
_WRONG_WORDS = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What a parser of words raises; typer brings it along in some versions, and takes click's in others."""


def run(words: list[str] | None = None) -> int:
    """Run one command line and return its exit status; the only place where every error ends."""
    words = sys.argv[1:] if words is None else words
    # Read when torch is loaded. Threads that wait by spinning, libgomp's way, were 10 times slower on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    atexit.register(gc.freeze)  # the collections at the end would look at all of torch, for a quarter of a second
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 still shows everything
    try:
        check_words(words)
        status = _parse_and_call(words)
        with _writing_output():
            pass  # what was printed while parsing, such as the help, is flushed here
        return status
    except Stopped as stop:
        print(f"\nlamoid: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("\nlamoid: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except InputError as error:
        return _refuse(error, words)
    except Exception as error:  # noqa: BLE001 - every other error is a bug, and leaves a report
        if refusal := of_the_locale(error):
            return _refuse(refusal, words)
        if _is_of_the_disk(error):
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
            return _tell(error, {}, as_json="--json" in words)
        print(_report(error, words), file=sys.stderr)
        return BUG


def _parse_and_call(words: list[str]) -> int:
    calls: list[tuple[Recipe, dict[str, Any]]] = []
    try:
        app = build_app(_wanted(words), calls)
        with _writing_output():  # parsing prints the help
            app(words, prog_name="lamoid", standalone_mode="--json" not in words)
    except SystemExit as end:
        if not calls:
            return BROKEN_PIPE if end.code == 1 else int(end.code or 0)  # typer's 1 is a reader that went away
    except _WRONG_WORDS as error:
        name, said = _wanted(words) or "", error.format_message()
        cure = "see " + " ".join(["lamoid", *name.split(), "--help"])
        raise InputError(name or "the command", said[:1].lower() + said[1:], cure) from error
    return max((_call(function, values) for function, values in calls), default=0)


def build_app(wanted: str | None, calls: list[tuple[Recipe, dict[str, Any]]]) -> typer.Typer:
    """Offer every command by name and summary; the parameters, and so the import, of the wanted one alone.

    A parsed command is put into ``calls`` and not called: typer turns some exceptions into its own.
    """
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback(help="Assemble, train, fuse, measure and use language models.")(_version_option)
    groups: dict[str, typer.Typer] = {}
    for row in COMMANDS:
        body = _body(row, calls) if row.name == wanted else lambda: None
        home, _, name = row.name.rpartition(" ")
        if home and home not in groups:
            groups[home] = typer.Typer(no_args_is_help=True)
            app.add_typer(groups[home], name=home, help=GROUPS[home], rich_help_panel=row.group)
        panel = None if home else row.group
        add = groups.get(home, app).command
        add(name, help=row.summary, epilog=f"Example:  {row.example}", rich_help_panel=panel)(body)
    return app


def _wanted(words: list[str]) -> str | None:
    """Give the name of the command that is called, of one word or two."""
    plain = [word for word in words if not word.startswith("-")]
    names = [" ".join(plain[:2]), *plain[:1]]
    return next((name for name in names if any(row.name == name for row in COMMANDS)), None)


def find(row: Command) -> Recipe:
    """Import the recipe that a row names."""
    module, name = row.function.split(":")
    gc.disable()  # loading torch leaves next to nothing to collect, and costs a tenth more with looking for it
    try:
        return getattr(importlib.import_module(module), name)
    finally:
        gc.enable()


def _body(row: Command, calls: list[tuple[Recipe, dict[str, Any]]]) -> Callable[..., None]:
    function = find(row)

    def remember(**values: Any) -> None:
        calls.append((function, values))

    parameters = command_parameters(function)
    remember.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    remember.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return remember


def _call(function: Recipe, values: dict[str, Any]) -> int:
    """Call a recipe, print what it gives, and give the exit status."""
    as_json = values.pop("as_json")
    stdout = sys.stdout
    with contextlib.ExitStack() as stack:
        if "progress" in inspect.signature(function).parameters:
            from lamoid.recipes.progress import Progress

            values["progress"] = stack.enter_context(Progress())
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        result = function(**values)
    with _writing_output():
        if as_json:
            _print_json(result, stdout)
        else:
            print(*result.lines(), sep="\n")
    return result.status if isinstance(result, Answer) else 0


@contextlib.contextmanager
def _writing_output() -> Iterator[None]:
    """Turn a standard output that cannot be written, such as a file on a full disk, into the declared error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from lamoid.weights.durable import NotCommitted

        _drop_output()
        problem = f"standard output: cannot be written ({error.strerror})"
        raise NotCommitted(f"{problem}. Send it to a disk with room, or to a terminal.") from error


def _drop_output() -> None:
    """Send what is left to nowhere, so that leaving Python does not fail on it a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(value: Any, stdout: Any) -> None:
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    stdout.flush()
    stdout.buffer.write(text + b"\n")


def _is_of_the_disk(error: Exception) -> bool:
    """Say whether it is a declared error of writing; the import waits until there is an error to look at."""
    if not isinstance(error, OSError):
        return False
    from lamoid.weights.durable import DurabilityUncertain, NotCommitted

    return isinstance(error, NotCommitted | DurabilityUncertain)


def _refuse(error: InputError, words: list[str]) -> int:
    fields = {"culprit": error.culprit, "problem": error.problem, "cure": error.cure}
    return _tell(error, fields, as_json="--json" in words)


def _tell(error: Exception, fields: dict[str, str], *, as_json: bool) -> int:
    print(f"lamoid: {error}", file=sys.stderr)
    if as_json:
        _print_json({"error": {"kind": type(error).__name__, "message": str(error), **fields}}, sys.stdout)
    return USAGE


def _report(error: Exception, words: list[str]) -> str:
    """Write the bug report where it can, and give the line that says where."""
    versions = [f"{name} {_version(name)}" for name in ("lamoid", "torch", "numpy", "safetensors", "tokenizers")]
    text = "\n".join(
        [
            f"command: {['lamoid', *words]}",
            f"python {platform.python_version()} on {platform.platform()}; {'; '.join(versions)}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    what = f"lamoid: a bug in Lamoid, not in what you gave: {type(error).__name__}: {error}."
    name = f"lamoid-report-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (Path.cwd(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"{what} Please send the report: {folder / name}"
    return f"{text}\n{what} No report file could be written; it is above."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _print_version(asked: bool) -> None:
    if asked:
        print(f"lamoid {_version('lamoid')}")
        raise typer.Exit


def _version_option(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    sys.exit(run())
