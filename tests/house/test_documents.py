"""What the documents say is so: commands run, links lead somewhere, counted lines are counted, promises have tests.

``python tests/house/test_documents.py`` writes the counted lines of docs/changes.md anew.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
COUNTED = re.compile(r"`([\w./]+)` \((\d+) lines\)")


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks in these languages, each with its language, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found if language in languages]


@pytest.mark.timeout(600)
def test_the_session_of_the_readme_runs(tmp_path: Path) -> None:
    """Every command and example, in order, in one folder, as a person would type them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    ran = 0
    for language, text in blocks(README, "console", "toml", "python"):
        if language == "toml":
            (tmp_path / text.split("\n", 1)[0].removeprefix("# ")).write_text(text, encoding="utf-8")
            continue
        lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
        words = [["sh", "-ec", line] for line in lines] if language == "console" else [[sys.executable, "-c", text]]
        for command in words:
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran > 10


def test_the_readme_shows_the_newest_stored_run_of_the_demo() -> None:
    stored = max((ROOT / "benchmarks" / "results").glob("demo-*.json"))
    run = json.loads(stored.read_text(encoding="utf-8"))
    [(_, shown)] = blocks(README, "text")
    rows = [line.split() for line in shown.splitlines()]
    assert [row for row in run["rows"] if " ".join(row).split() not in rows] == []
    assert [line for line in (*run["notes"], run["closing_line"]) if line not in shown.splitlines()] == []


def test_every_public_name_has_an_example() -> None:
    import lamoid

    [(_, code)] = blocks(README, "python")
    used = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    assert set(lamoid._HOME) - used == set()
    assert len(lamoid._HOME) == 12


def test_every_command_is_in_the_readme() -> None:
    from lamoid.cli.table import COMMANDS

    text = README.read_text(encoding="utf-8")
    assert [command.name for command in COMMANDS if f"lamoid {command.name}" not in text] == []


def test_the_chinese_readme_has_the_same_sections_and_commands() -> None:
    languages = ("console", "toml", "python", "sh", "text")
    assert blocks(README, *languages) == blocks(CHINESE, *languages)
    levels = [re.findall(r"^(#+) ", path.read_text(encoding="utf-8"), re.MULTILINE) for path in (README, CHINESE)]
    assert levels[0] == levels[1]
    links = [set(re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))) for path in (README, CHINESE)]
    assert links[0] - {"README.zh.md"} == links[1] - {"README.md"}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    relative = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in relative if not (path.parent / link).exists()] == []


def test_every_promise_names_a_test_that_exists() -> None:
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))
    assert len(promised) > 20
    for file, name in promised:
        names = [
            n.name for n in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(n, ast.FunctionDef)
        ]
        assert name in names, f"{file}::{name}"


def test_the_structure_lists_every_folder() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lamoid").rglob("*.py")}
    assert [str(folder) for folder in folders if f"`{folder}/`" not in text] == []
    named = re.findall(r"`(lamoid/[\w/]+\.py)`", text)
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_lines_counted_in_changes_are_so_many() -> None:
    text = (ROOT / "docs" / "changes.md").read_text(encoding="utf-8")
    assert COUNTED.findall(text)
    assert text == counted(text), "make check counts them anew"


def counted(text: str) -> str:
    """The text with every counted file counted again."""

    def count(match: re.Match[str]) -> str:
        lines = (ROOT / match[1]).read_text(encoding="utf-8").count("\n")
        return f"`{match[1]}` ({lines} lines)"

    return COUNTED.sub(count, text)


def test_nothing_names_the_machine_it_was_written_on() -> None:
    """No absolute path of somebody's machine and no host of a package registry stands in a tracked file."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines() or [str(path.relative_to(ROOT)) for path in ROOT.glob("[!.]*/**/*.*")]
    suffixes = {".py", ".md", ".toml", ".txt", ".yaml", ".json", ""}
    forbidden = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "home/", "pypi" + r"\.", "python" + "hosted"]))
    for name in names:
        path = ROOT / name
        if path.suffix in suffixes and path.is_file() and "LICENSE" not in name:
            found = forbidden.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{name}: {found}"


if __name__ == "__main__":
    CHANGES = ROOT / "docs" / "changes.md"
    CHANGES.write_text(counted(CHANGES.read_text(encoding="utf-8")), encoding="utf-8")
