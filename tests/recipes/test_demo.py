"""The demo, on a few kilobytes and a few steps: whole, repeatable, and careful with what is there already."""

import os
import shlex
import sysconfig
from pathlib import Path

import msgspec
import pytest

import lamoid
from lamoid.errors import InputError
from lamoid.recipes.demo import demo
from lamoid.recipes.demo_folder import find_earlier, remove
from lamoid.recipes.demo_report import Demo
from lamoid.recipes.demo_text import DOMAINS, MIXED, gather

TINY = {"steps": 3, "text": 24_000, "seed": 5}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return demo(out=tmp_path_factory.mktemp("demo") / "first", **TINY)


def test_the_table_has_every_model_in_every_domain(done: Demo) -> None:
    assert [row[0] for row in done.rows()] == ["base", *DOMAINS, "fused"]
    assert done.judged.keys() == set(DOMAINS)
    assert len(done.samples) == 5 * 3
    text = "\n".join(done.lines())
    assert done.fusion.notes[0][:20] in text
    for line in done.go_on:
        assert line in text


def test_what_it_saves_can_be_gone_on_with(done: Demo) -> None:
    out = Path(done.out)
    assert msgspec.json.decode((out / "demo.json").read_bytes(), type=Demo) == done
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    fused = lamoid.load(out / "fused")
    assert isinstance(fused.generate("def ", max_tokens=4), str)
    weights = [member.weight for member in done.fusion.members]
    assert sum(weights) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_table(done: Demo, tmp_path: Path) -> None:
    second = tmp_path / "my demo"
    again = demo(out=second, **TINY)
    assert again.rows() == done.rows()
    assert [each.text for each in again.samples] == [each.text for each in done.samples]
    fuse = next(words for words in map(shlex.split, again.go_on) if words[1] == "fuse")
    assert fuse[2:5] == [str(second / domain / "model") for domain in DOMAINS]
    assert fuse[fuse.index("--out") + 1] == f"{second}-sharper"
    remove(find_earlier(second, overwrite=True))
    assert list(second.iterdir()) == []


def test_nothing_but_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="mine"):
            demo(out=mine, overwrite=overwrite, **TINY)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("field", ["steps", "text"])
def test_too_little_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(InputError, match=field):
        demo(out=tmp_path / "out", **{**TINY, field: 2})
    assert not (tmp_path / "out").exists()


def test_the_text_is_the_same_each_time_and_no_document_stands_in_two_parts() -> None:
    first, second = gather(24_000), gather(24_000)
    assert first == second
    for parts in first.values():
        names = [document.name for documents in parts.values() for document in documents]
        assert len(names) == len(set(names))
        assert all(parts.values())
    kept = {part: {text.name for text in first["code"][part]} for part in ("train", "weigh", "judge")}
    for part, documents in first["docstrings"].items():
        others = set().union(*(kept[other] for other in kept if other != part))
        assert {document.name for document in documents} & others == set()
    assert MIXED.endswith(".jsonl")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of forty modules that lies below a folder called tests."""
    folder = tmp_path / "tests" / "site-packages" / "python"
    (folder / "test").mkdir(parents=True)
    for number in range(40):
        code = "".join(f'def f{n}():\n    """Say {number} and {n}{", at some length" * 4}."""\n' for n in range(20))
        (folder / f"m{number}.py").write_text(code)
    (folder / "test" / "own.py").write_text("x = 1\n" * 1000)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(folder))
    return folder


def gathered_names() -> set[str]:
    return {text.name for parts in gather(24_000).values() for texts in parts.values() for text in texts}


def test_only_names_below_the_library_are_left_out(library: Path) -> None:
    names = gathered_names()
    assert {f"m{number}.py" for number in range(40)} & names
    assert "test/own.py" not in names


def test_files_that_cannot_be_read_are_left_out(library: Path) -> None:
    (library / "syntax.py").write_text("def (:\n" * 200)
    (library / "latin.py").write_bytes(b"# \xe9\n" * 200)
    (library / "null.py").write_bytes(b"\0" * 1000)
    (library / "deep.py").write_text(f"x = {'-' * 20_000}1")
    (library / "half.py").write_text('"""' + "a \\ud800 half of a pair, " * 50 + '"""')
    (library / "nowhere.py").symlink_to(library / "missing")
    (library / "loop.py").symlink_to(library / "loop.py")
    (library / "folder.py").mkdir()
    os.mkfifo(library / "pipe.py")
    names = gathered_names()
    assert names == gathered_names()
    stems = ("syntax", "latin", "null", "deep", "half", "nowhere", "loop", "folder", "pipe")
    assert names.isdisjoint(f"{stem}.py" for stem in stems)


def test_a_python_without_sources_is_named(library: Path) -> None:
    for path in library.rglob("*.py"):
        path.unlink()
    with pytest.raises(InputError, match=f"docstrings.*{library}"):
        gather(24_000)
