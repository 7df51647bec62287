"""What tasks are measured and judged on, and what they say where the one stands in the other."""

import random
from pathlib import Path

import pytest

from lamoid.recipes.fusion_recipe import FusionRecipe, TaskTable
from lamoid.recipes.fusion_tasks import Task, mark_seen, read_tasks
from lamoid.recipes.measuring import Measuring

WORDS = [f"{first}{last}" for first in ("ka", "lo", "mi", "ne", "su") for last in ("rt", "nd", "l", "st", "ch", "a")]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two texts of nothing in common, and one that holds both behind a few bytes of its own."""
    monkeypatch.chdir(tmp_path)
    texts = {name: " ".join(random.Random(name).choices(WORDS, k=8000)) for name in ("law", "wiki")}
    for name, text in {**texts, "both": f"a title\n{texts['law']}\n{texts['wiki']}"}.items():
        Path(f"{name}.txt").write_text(text)
    return tmp_path


def read(*tables: TaskTable) -> list[Task]:
    return read_tasks(FusionRecipe("out", [], tasks=list(tables)), (), Measuring())


@pytest.mark.parametrize(
    ("tables", "seen"),
    [
        ([TaskTable("a", "both.txt", judge="wiki.txt")], ["a"]),
        ([TaskTable("a", "both.txt"), TaskTable("b", "wiki.txt")], ["a", "b"]),
        ([TaskTable("a", "law.txt", judge="wiki.txt"), TaskTable("b", "wiki.txt")], ["a"]),
        ([TaskTable("a", "law.txt", judge="law.txt")], ["a"]),
        ([TaskTable("a", "law.txt"), TaskTable("b", "wiki.txt")], []),
        ([TaskTable("a", "law.txt"), TaskTable("b", "law.txt")], []),
        ([TaskTable("a", "law.txt", judge="wiki.txt")], []),
    ],
)
def test_a_judging_text_that_was_measured_on_is_noted(tables: list[TaskTable], seen: list[str]) -> None:
    marked = mark_seen(read(*tables))
    assert [task.name for task in marked if task.is_seen] == seen
    for task in marked:
        found = [note for note in task.notes if f"of what {task.name} is judged on was also measured on" in note]
        assert len(found) == task.is_seen


def test_the_part_that_is_said_is_that_of_the_blocks() -> None:
    (task,) = mark_seen(read(TaskTable("a", "both.txt", judge="wiki.txt")))
    both, wiki = Path("both.txt").read_text(), Path("wiki.txt").read_text()
    begins = [both.index(block) for block in task.texts]
    seen = sum(max(0, begin + 4096 - max(begin, both.index(wiki))) for begin in begins if begin + 4096 <= len(both))
    seen += sum(len(both) - begin for begin in begins if begin + 4096 > len(both))
    assert float(task.notes[0].partition(" %")[0]) == pytest.approx(100 * seen / len(wiki), abs=5)


def test_what_else_was_measured_on_counts() -> None:
    tasks = read(TaskTable("a", "law.txt"))
    assert [task.is_seen for task in mark_seen(tasks, [[Path("law.txt").read_text()]])] == [True]
    assert [task.is_seen for task in mark_seen(tasks, [tasks[0].texts, [Path("wiki.txt").read_text()]])] == [False]
