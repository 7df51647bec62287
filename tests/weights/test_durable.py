"""Durable folders and files when the disk behaves: what is replaced, what is refused, what is found damaged."""

import hashlib
import json
from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.weights.durable import NotCommitted, durable_file, durable_folder, read_manifest, sweep, verify


def write(target: Path, content: dict[str, bytes], *, overwrite: bool = False) -> None:
    with durable_folder(target, overwrite=overwrite) as draft:
        for name, data in content.items():
            draft.write(name, data)


def test_the_manifest_lists_sizes_and_hashes(tmp_path: Path) -> None:
    content = {"b.bin": b"\0" * 5_000_000, "a.txt": b"text", "empty": b""}
    write(tmp_path / "deep" / "er" / "out", content)
    listed = json.loads((tmp_path / "deep" / "er" / "out" / "manifest.json").read_bytes())
    expected = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
    assert listed == {"files": expected}
    assert read_manifest(tmp_path / "deep" / "er" / "out")["a.txt"][0] == 4
    verify(tmp_path / "deep" / "er" / "out", hashes=True)


def test_chunks_of_any_size_give_the_same_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    for size in (1000, 1 << 20, 3_000_001):
        with durable_folder(tmp_path / str(size)) as draft, draft.open("x") as file:
            for start in range(0, len(data), size):
                file.write(data[start : start + size])
        assert (tmp_path / str(size) / "x").read_bytes() == data
        verify(tmp_path / str(size), hashes=True)


def test_nothing_is_visible_before_the_end_or_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), durable_folder(tmp_path / "out") as draft, draft.open("x") as file:  # noqa: PT012
        file.write(b"half")
        assert not (tmp_path / "out").exists()
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a": b"1"})
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "out", {"a": b"2"})
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    durable_file(tmp_path / "file", b"1")
    with pytest.raises(InputError, match="exists already"):
        durable_file(tmp_path / "file", b"2", overwrite=False)
    assert (tmp_path / "file").read_bytes() == b"1"


def test_overwriting_replaces_the_whole_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a": b"1", "b": b"1"})
    write(tmp_path / "out", {"a": b"2"}, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "manifest.json"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", {"a": b"2"}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


def test_overwriting_never_deletes_what_was_not_written_here(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not written by lamoid"):
        write(home, {"a": b"1"}, overwrite=True)
    write(tmp_path / "out", {"a": b"1"})
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"would delete 'notes\.txt'"):
        write(tmp_path / "out", {"a": b"2"}, overwrite=True)
    for target in (home / "thesis.txt", tmp_path / "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path / "out")
        with pytest.raises(InputError, match="a file or a link"):
            write(target, {"a": b"2"}, overwrite=True)
    assert (home / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "out" / "a").read_bytes() == b"1"


def test_a_folder_can_be_replaced_while_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a": b"old"})
    with (tmp_path / "out" / "a").open("rb") as reader:
        write(tmp_path / "out", {"a": b"new"}, overwrite=True)
        assert reader.read() == b"old"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/x", "../x", "a\0b", "a\nb", "manifest.json"])
def test_names_of_a_draft_are_bare(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a file"), durable_folder(tmp_path / "out") as draft:
        draft.write(name, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_written_once(tmp_path: Path) -> None:
    with pytest.raises(NotCommitted), durable_folder(tmp_path / "out") as draft:  # noqa: PT012
        draft.write("a", b"1")
        draft.write("a", b"2")
    assert list(tmp_path.iterdir()) == []


def test_a_file_left_open_or_written_past_the_draft_is_a_mistake(tmp_path: Path) -> None:
    files = []
    with pytest.raises(RuntimeError, match="not closed"), durable_folder(tmp_path / "out") as draft:
        files.append(draft.open("a"))
    files[0].close()
    with pytest.raises(RuntimeError, match="not written through it: b"), durable_folder(tmp_path / "out") as draft:
        (draft.path / "b").write_bytes(b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["/", ".."])
def test_a_target_needs_a_name(target: str) -> None:
    with pytest.raises(InputError, match="no name of its own"):
        write(Path(target), {})


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path / "out", {"a": b"1234", "b": b"5678"})
    (tmp_path / "out" / "a").write_bytes(b"1235")
    verify(tmp_path / "out", hashes=False)
    with pytest.raises(InputError, match="a: its sha256"):
        verify(tmp_path / "out", hashes=True)
    (tmp_path / "out" / "a").write_bytes(b"123")
    with pytest.raises(InputError, match="3 bytes, the manifest says 4"):
        verify(tmp_path / "out", hashes=False)
    (tmp_path / "out" / "a").unlink()
    (tmp_path / "out" / "a").mkdir()
    with pytest.raises(InputError, match="not a plain file"):
        verify(tmp_path / "out", hashes=False)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"a": 1}}',
        '{"files": {"a": {"size": -1, "sha256": "' + "0" * 64 + '"}}}',
        '{"files": {"a": {"size": true, "sha256": "' + "0" * 64 + '"}}}',
        '{"files": {"a": {"size": 1, "sha256": "x"}}}',
        '{"files": {"a": {"size": 1}}}',
        '{"files": {"../a": {"size": 1, "sha256": "' + "0" * 64 + '"}}}',
        '{"files": {}, "files": {}}',
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(InputError, match=str(tmp_path)):
        verify(tmp_path, hashes=True)


def test_sweeping_takes_only_its_own(tmp_path: Path) -> None:
    for name in (".out.tmp-1", ".outer.tmp-1", ".out.tmp", "out.tmp-1"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.tmp-2").symlink_to(tmp_path / "out.tmp-1")
    sweep(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.tmp", ".out.tmp-2", ".outer.tmp-1", "out.tmp-1"]
    sweep(tmp_path / "nowhere" / "out")
    assert not (tmp_path / "nowhere").exists()
