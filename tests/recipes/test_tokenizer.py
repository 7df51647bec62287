"""The recipe behind `lamoid tokenizer`."""

import io
from pathlib import Path

import msgspec
import pytest

from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.recipes.tokenizer import tokenizer
from lamoid.text.tokenizer import Tokenizer


def test_a_tokenizer_is_learnt_saved_and_read(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one two one two three\n" * 50)
    shown = io.StringIO()
    result = tokenizer([str(tmp_path)], out=tmp_path / "tok", vocab=262, progress=Progress(shown))
    read = Tokenizer.read(tmp_path / "tok")
    assert (read.vocab, read.fingerprint()) == (result.vocab, result.fingerprint) == (262, read.fingerprint())
    assert (result.documents, result.text_bytes) == (1, 22 * 50)
    assert result.bytes_per_token == pytest.approx(1100 / len(read.encode("one two one two three\n" * 50)))
    assert any("262 tokens" in line for line in result.lines())
    assert msgspec.json.decode(msgspec.json.encode(result))["documents"] == 1
    assert "reading text" in shown.getvalue()


def test_an_existing_folder_is_kept_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("abcab")
    tokenizer([str(tmp_path / "in.txt")], out=tmp_path / "tok", kind="characters")
    before = (tmp_path / "tok/tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        tokenizer([str(tmp_path / "in.txt")], out=tmp_path / "tok")
    assert (tmp_path / "tok/tokenizer.json").read_bytes() == before
    tokenizer([str(tmp_path / "in.txt")], out=tmp_path / "tok", overwrite=True)
    assert (tmp_path / "tok/tokenizer.json").read_bytes() != before


def test_nothing_is_left_where_the_text_is_bad(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"fine\xff")
    with pytest.raises(InputError, match="byte offset 4"):
        tokenizer([str(tmp_path / "in.txt")], out=tmp_path / "tok")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
