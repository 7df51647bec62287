"""How every command ends: exit status, the one message, the report file, JSON alone on standard output."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_type_hints

import msgspec
import pytest

import lamoid.cli.main as main
from lamoid.cli.table import COMMANDS, Command
from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import DurabilityUncertain, NotCommitted


class Result(msgspec.Struct):
    value: float
    path: Path

    def lines(self) -> list[str]:
        return [f"value {self.value}"]


@pytest.fixture
def end_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Makes ``lamoid try`` raise what is given, or return a result; runs it with the words given."""
    monkeypatch.chdir(tmp_path)

    def call(error: BaseException | None, *words: str) -> int:
        def recipe(*, n: Annotated[int, "A number."] = 1, progress: Progress | None = None) -> Result:
            print("chatter of the recipe")
            assert progress
            progress.start("work", 2, "tokens")
            progress.advance(1, loss=2.5)
            if error is not None:
                raise error
            return Result(0.5, Path("x"))

        monkeypatch.setattr(main, "COMMANDS", (Command("try", "G", "m:f", "S.", "lamoid try"),))
        monkeypatch.setattr(main, "find", lambda row: recipe)
        return main.run(["try", *words])

    return call


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (InputError("a.json: width", "0 is below 1", "give a width"), 2),
        (NotCommitted(errno.ENOSPC, "disk full"), 2),
        (DurabilityUncertain(errno.EIO, "not synced"), 2),
        (ValueError("no"), 70),
        (KeyError("no"), 70),
        (AssertionError("no"), 70),
        (FileNotFoundError("no"), 70),
        (MemoryError(), 70),
        (RecursionError(), 70),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: getattr(type(value), "__name__", ""),
)
def test_exit_status(end_with, tmp_path: Path, capsys, error: BaseException | None, status: int) -> None:
    assert end_with(error) == status
    reports = list(tmp_path.glob("lamoid-report-*.txt"))
    assert len(reports) == (status == 70)
    stderr = capsys.readouterr().err
    assert "Traceback" not in stderr
    if status == 70:
        assert str(reports[0]) in stderr
        assert "Traceback" in reports[0].read_text(encoding="utf-8")
        assert "torch 2." in reports[0].read_text(encoding="utf-8")


def test_an_input_error_is_one_clear_line(end_with, capsys) -> None:
    end_with(InputError("a.json: width", "0 is below 1", "give a width"))
    assert "lamoid: a.json: width: 0 is below 1. Give a width.\n" in capsys.readouterr().err


def test_json_is_alone_on_standard_output(end_with, capfdbinary) -> None:
    assert end_with(None, "--json") == 0
    out, err = capfdbinary.readouterr()
    assert json.loads(out) == {"value": 0.5, "path": "x"}
    assert b"chatter" in err


def test_json_of_an_error(end_with, capfdbinary) -> None:
    assert end_with(InputError("c", "p", "q"), "--json") == 2
    error = json.loads(capfdbinary.readouterr().out)["error"]
    assert error == {"kind": "InputError", "message": "c: p. Q.", "culprit": "c", "problem": "p", "cure": "q"}


@pytest.mark.parametrize("error", [NotCommitted(errno.ENOSPC, "disk full"), DurabilityUncertain(errno.EIO, "no sync")])
def test_json_of_an_error_of_the_disk(end_with, capfdbinary, error: OSError) -> None:
    assert end_with(error, "--json") == 2
    told = json.loads(capfdbinary.readouterr().out)["error"]
    assert told == {"kind": type(error).__name__, "message": str(error)}


@pytest.mark.parametrize(
    ("words", "culprit", "problem"),
    [
        (["try", "--n", "many"], "try", "invalid value for '--n': "),
        (["try", "--other"], "try", "no such option: --other"),
        (["try", "again"], "try", "got unexpected extra argument"),
        (["absent"], "the command", "no such command 'absent'"),
        ([], "the command", "no such option: --json"),
    ],
)
def test_json_of_words_that_cannot_be_parsed(
    end_with, capfdbinary, words: list[str], culprit: str, problem: str
) -> None:
    end_with(None)
    capfdbinary.readouterr()
    assert main.run([*words, "--json"]) == 2
    out, err = capfdbinary.readouterr()
    error = json.loads(out)["error"]
    assert (error["kind"], error["culprit"]) == ("InputError", culprit)
    assert error["problem"].startswith(problem)
    assert error["cure"].endswith("--help")
    assert error["message"].encode() in err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_returns_lines(command: Command) -> None:
    result = get_type_hints(main.find(command))["return"]
    assert issubclass(result, msgspec.Struct)
    assert get_type_hints(result.lines)["return"] == list[str]


def test_a_report_goes_elsewhere_when_the_folder_is_closed(end_with, monkeypatch, tmp_path: Path, capsys) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(main.Path, "cwd", lambda: tmp_path / "missing")
    monkeypatch.setattr(main.tempfile, "gettempdir", lambda: str(elsewhere))
    assert end_with(ZeroDivisionError("no")) == 70
    assert len(list(elsewhere.glob("lamoid-report-*.txt"))) == 1


def lamoid(*words: str, python: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("env", {})}
    command = [sys.executable, *python, "-m", "lamoid", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60, **options)


def test_help_groups_the_commands_and_imports_no_torch() -> None:
    done = lamoid("--help", python=("-X", "importtime"))
    assert done.returncode == 0
    for command in COMMANDS:
        assert command.group in done.stdout
        assert command.name.split()[0] in done.stdout
    assert "| torch" not in done.stderr
    assert "| numpy" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_each_command_has_its_example(command: Command, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run([*command.name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert command.example in " ".join(text.split())
    assert command.example.startswith(f"lamoid {command.name} ")
    assert "--json" in text


@pytest.mark.parametrize("python", [(), ("-O",)])
def test_under_optimisation_and_odd_surroundings(python: tuple[str, ...], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    surroundings = {"HOME": str(home), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    done = lamoid("info", "no-such-model-模型", python=python, env=surroundings, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "no-such-model" in done.stderr
    assert list(home.iterdir()) == []


_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_word_that_is_no_text_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "é.txt").write_text("One day. " * 20, encoding="utf-8")
    words = ["clean", "é.txt", "--out", "out.jsonl", "--json"]
    done = lamoid(*words, env=_ASCII, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stdout)["error"]
    assert (error["culprit"], error["cure"]) == ("argument 2", "set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
    assert "é.txt" in error["problem"]
    assert [path.name for path in tmp_path.iterdir()] == ["é.txt"]
    assert lamoid(*words, env={**_ASCII, "PYTHONUTF8": "1"}, cwd=tmp_path).returncode == 0


def test_bytes_that_are_no_utf_8_are_blamed_on_their_option(capsys) -> None:
    assert main.run(["generate", "model", "--prompt", "One\udcff", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["culprit"], error["cure"]) == ("--prompt", "write it in UTF-8")


def test_a_path_of_a_file_that_the_locale_cannot_write_is_no_bug(tmp_path: Path) -> None:
    """The recipe names it in UTF-8, and the locale is ASCII."""
    (tmp_path / "recipe.toml").write_text('[data]\ntrain = ["é.txt"]\n[tokenizer]\nkind = "bytes"\n', encoding="utf-8")
    done = lamoid("train", "recipe.toml", "--out", "run", env=_ASCII, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the locale: has the encoding ascii" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_a_broken_pipe_is_quiet() -> None:
    """As in ``lamoid ... | head``: the reader is gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lamoid", "--version"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == main.BROKEN_PIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [["info"], ["info", "--json"], ["generate", "--prompt", "a", "--max-tokens", "3"], ["info", "--help"]]
)
def test_a_full_disk_behind_standard_output_is_no_bug(words: list[str], data_folder: Path, tmp_path: Path) -> None:
    model = str(data_folder / "stories260K" / "hf")
    command = [sys.executable, "-m", "lamoid", words[0], model, *words[1:]]
    with Path("/dev/full").open("w") as full:
        buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, cwd=tmp_path, env=buffered
        )
    assert done.returncode == 2, done.stderr
    assert "standard output: cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []
