"""A signature becomes a command line: checked by giving words to a command made from a small function."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import lamoid.cli.main as main
from lamoid.cli.table import Command

GIVEN: dict[str, Any] = {}


class Result:
    def lines(self) -> list[str]:
        return ["done [bold]"]


def recipe(
    members: Annotated[list[str | Path], "Folders of [models]."],
    *,
    on: Annotated[str | Path, "A text."],
    tau: Annotated[float, "Temperature."] = 1.0,
    kind: Annotated[Literal["bytes", "characters"], "Kind."] = "bytes",
    overwrite: Annotated[bool, "Replace."] = False,
    base: Annotated[str | Path | None, "A model."] = None,
    max_tokens: Annotated[int, "How many."] = 8,
    stop: Annotated[tuple[str, ...], "Where to stop."] = (),
    hidden: object = None,
) -> Result:
    GIVEN.update(locals())
    return Result()


@pytest.fixture(autouse=True)
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    GIVEN.clear()
    row = Command("try", "Group", f"{__name__}:recipe", "Summary.", "lamoid try a --on b")
    monkeypatch.setattr(main, "COMMANDS", (row,))
    monkeypatch.setattr(main, "find", lambda row: recipe)


def test_words_become_typed_values(capsys: pytest.CaptureFixture[str]) -> None:
    words = "try a b --on c --tau 0.5 --kind characters --overwrite --max-tokens 3 --stop x --stop y"
    assert main.run(words.split()) == 0
    expected = {
        "members": [Path("a"), Path("b")],
        "tau": 0.5,
        "kind": "characters",
        "overwrite": True,
        "base": None,
        "max_tokens": 3,
        "stop": ["x", "y"],
        "hidden": None,
    }
    assert {name: GIVEN[name] for name in expected} == expected
    assert str(GIVEN["on"]) == "c"
    assert capsys.readouterr().out == "done [bold]\n"


def test_defaults_are_the_functions_own() -> None:
    assert main.run(["try", "a", "--on", "b"]) == 0
    assert (GIVEN["tau"], GIVEN["kind"], GIVEN["overwrite"], list(GIVEN["stop"])) == (1.0, "bytes", False, [])


def test_the_help_has_the_example_and_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["try", "--help"]) == 0
    text = capsys.readouterr().out
    assert "lamoid try a --on b" in text
    assert "[models]" in text
    assert "--hidden" not in text


@pytest.mark.parametrize(
    "words", ["try", "try a", "try a --on b --tau x", "try a --on b --kind z", "try a --on b --no", "so"]
)
def test_wrong_words_are_a_usage_error(words: str) -> None:
    assert main.run(words.split()) == 2
    assert GIVEN == {}
