"""What --overwrite may delete: what the demo made, and nothing that somebody put beside it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes import demo_folder
from lamoid.recipes.demo_folder import find_earlier, remove
from lamoid.recipes.demo_text import DOMAINS, MIXED
from lamoid.weights.durable import NotCommitted, durable_folder


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder with one of everything that a demo leaves."""
    out = tmp_path / "demo"
    (out / "text").mkdir(parents=True)
    for name in (MIXED, *(f"{domain}-judge.jsonl" for domain in DOMAINS)):
        (out / "text" / name).write_text("{}\n")
    for name in ("tokenizer", "shards/code", "base/model", "code/model", "code/checkpoints/step-00000001", "fused"):
        with durable_folder(out / name) as draft:
            draft.write("odd [name].bin", b"x")
    for name in ("base/recipe.toml", "base/result.json", "code/curve.png", "demo.json", "demo.png"):
        (out / name).write_text("")
    (out / "code" / "tensorboard").mkdir()
    (out / "code" / "tensorboard" / "events.out.tfevents.1.x").write_text("")
    return out


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_all_that_a_demo_made_is_removed(earlier: Path) -> None:
    (earlier / ".fused.tmp-0123456789ab").mkdir()  # as a killed writer leaves it
    remove(find_earlier(earlier, overwrite=True))
    assert tree(earlier) == []
    assert find_earlier(earlier, overwrite=False) == []  # an empty folder will do


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def a_link(path: Path) -> None:
    path.symlink_to(path.parent)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sharper", a_folder),
        ("thesis.txt", a_file),
        ("link", a_link),
        ("text/mine.jsonl", a_file),
        ("text/code-train.jsonl", a_folder),
        ("text/code-weigh.jsonl", a_link),
        ("text/reference-train.jsonl", a_pipe),
        ("shards/law", a_folder),
        ("base/notes.txt", a_file),
        ("base/best", a_folder),
        ("code/tensorboard/mine", a_file),
        ("code/checkpoints/mine", a_folder),
        ("fused/mine.txt", a_file),
        ("base/model/adapter", a_folder),
        ("docstrings", a_file),
    ],
)
def test_what_it_did_not_make_is_named_and_all_stays(
    earlier: Path, name: str, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make(earlier / name)
    before = tree(earlier)
    assert run(["demo", "--out", str(earlier), "--overwrite"]) == 2
    assert f"{earlier / name}: is not of the demo's making" in capsys.readouterr().err
    assert tree(earlier) == before


@pytest.mark.parametrize("words", ["--seed -1", "--device tpu", "--text 1", "--steps 1"])
def test_a_wrong_word_removes_nothing(earlier: Path, words: str) -> None:
    before = tree(earlier)
    assert run(["demo", "--out", str(earlier), "--overwrite", *words.split()]) == 2
    assert tree(earlier) == before


def test_a_folder_without_its_manifest_stays(earlier: Path) -> None:
    (earlier / "fused" / "manifest.json").unlink()
    with pytest.raises(InputError, match="fused"):
        find_earlier(earlier, overwrite=True)


def test_somebodys_own_runs_are_no_demo(earlier: Path) -> None:
    (earlier / "text" / MIXED).unlink()
    with pytest.raises(InputError, match="not the folder of a demo"):
        find_earlier(earlier, overwrite=True)


@pytest.mark.parametrize("is_dangling", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_link_is_refused(earlier: Path, is_dangling: bool, overwrite: bool) -> None:
    link = earlier.with_name("link")
    link.symlink_to(earlier.with_name("nowhere") if is_dangling else earlier)
    before = tree(earlier)
    with pytest.raises(InputError, match="is a link"):
        find_earlier(link, overwrite=overwrite)
    assert tree(earlier) == before


def test_a_disk_that_refuses_is_declared(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    paths = find_earlier(earlier, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with pytest.raises(NotCommitted, match="demo: the folder cannot be looked through"):
            find_earlier(earlier, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(NotCommitted, match="cannot be deleted"):
            remove(paths)


def test_what_came_meanwhile_stays_and_the_rest_can_be_removed_again(earlier: Path) -> None:
    paths = find_earlier(earlier, overwrite=True)
    (earlier / "base" / "late.txt").write_text("mine")
    with pytest.raises(NotCommitted, match="base: cannot be deleted"):
        remove(paths)
    (earlier / "base" / "late.txt").unlink()
    remove(find_earlier(earlier, overwrite=True))
    assert tree(earlier) == []


def test_the_layout_names_every_domain() -> None:
    assert demo_folder.DEMO.keys() >= {"base", *DOMAINS, "fused"}
