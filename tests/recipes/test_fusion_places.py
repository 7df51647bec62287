"""An output is never something that is read, by the last fusion or by a step of it, and this is said first."""

from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.recipes.fusion_places import check_places
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable, TaskTable
from lamoid.weights.durable import durable_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a folder that was written here, a stranger's and a file."""
    monkeypatch.chdir(tmp_path)
    with durable_folder(tmp_path / "ours") as draft:
        draft.write("a.txt", b"a")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.txt").write_text("a")
    (tmp_path / "file").write_text("a")
    return tmp_path


def recipe(out: str) -> FusionRecipe:
    return FusionRecipe(
        out,
        [MemberTable("middle"), MemberTable("last", statistics="known", on=["own.txt"])],
        base="base",
        steps=[StepTable("middle", [MemberTable("first", statistics="other")], base="root")],
        tasks=[TaskTable("law", "law", judge="judge")],
    )


READ = ("last", "known", "own.txt", "base", "first", "other", "root", "law", "judge")


@pytest.mark.parametrize("read", READ)
def test_nothing_that_is_read_is_written_over(place: Path, read: str) -> None:
    for out, relation in ((read, "is"), (f"{read}/deep", "lies in"), (str(place), "holds")):
        with pytest.raises(InputError, match=rf"the output {relation} .*which is read. Choose a folder of its own"):
            check_places(recipe(out), overwrite=True)
    (place / "link").symlink_to(place / read)
    with pytest.raises(InputError, match=f"the output is {read}, which is read"):
        check_places(recipe("link"), overwrite=True)


def test_the_name_of_a_step_is_no_path(place: Path) -> None:
    check_places(recipe("middle"), overwrite=False)


@pytest.mark.parametrize(
    ("out", "overwrite", "said"),
    [
        ("ours", False, "the output folder exists already"),
        ("theirs", True, "was not written by lamoid"),
        ("file", True, "only a folder can be overwritten"),
        ("file/deep/out", False, "file is a file, not a folder"),
        ("a\0b", False, "out: holds a character that no name of a file can"),
    ],
)
def test_what_cannot_be_written_is_said_first(place: Path, out: str, overwrite: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_places(recipe(out), overwrite=overwrite)
    check_places(recipe("ours"), overwrite=True)


def test_a_name_that_no_file_can_have_is_named() -> None:
    with pytest.raises(InputError, match=r"members\[0\]\.model: holds a character"):
        check_places(FusionRecipe("out", [MemberTable("a\0b")]), overwrite=False)
