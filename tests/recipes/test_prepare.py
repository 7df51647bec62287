"""The recipe behind `lamoid prepare`."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamoid.data.shards import open_shards
from lamoid.errors import InputError
from lamoid.recipes.prepare import prepare
from lamoid.recipes.progress import Progress
from lamoid.recipes.tokenizer import tokenizer
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import NotCommitted, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("one two one two three\n" * 50)
    (tmp_path / "in/b.jsonl").write_text('{"body": "four five"}\n{"body": "six"}\n')
    tokenizer([str(tmp_path / "in/a.txt")], out=tmp_path / "tok", vocab=262)
    return tmp_path


def test_text_becomes_verified_shards(folder: Path) -> None:
    shown = io.StringIO()
    result = prepare(
        [str(folder / "in")], tokenizer=folder / "tok", out=folder / "out", field="body", progress=Progress(shown)
    )
    verify(folder / "out", hashes=True)
    shards = open_shards(folder / "out", hashes=True)
    read = Tokenizer.read(folder / "tok")
    shards.check_tokenizer(read.fingerprint())
    ids, documents = shards.window(0, len(shards))
    assert (result.documents, result.tokens) == (3, len(ids)) == (int(documents[-1]), len(ids))
    assert read.decode(ids[documents == 2].tolist()) == "four five"
    assert "MB/s" in " ".join(result.lines())
    assert "preparing: " in shown.getvalue()


def test_nothing_is_left_where_the_text_is_bad(folder: Path) -> None:
    (folder / "in/c.txt").write_bytes(b"abc\0")
    with pytest.raises(InputError, match="NUL byte at byte offset 3"):
        prepare([str(folder / "in")], tokenizer=folder / "tok", out=folder / "out", field="body")
    assert sorted(path.name for path in folder.iterdir()) == ["in", "tok"]


def test_an_existing_folder_and_a_missing_tokenizer_are_refused(folder: Path) -> None:
    sources = [str(folder / "in/a.txt")]
    prepare(sources, tokenizer=folder / "tok", out=folder / "out")
    with pytest.raises(InputError, match="exists already"):
        prepare(sources, tokenizer=folder / "tok", out=folder / "out")
    prepare(sources, tokenizer=folder / "tok", out=folder / "out", overwrite=True)
    with pytest.raises(InputError, match="holds no tokenizer"):
        prepare(sources, tokenizer=folder / "in", out=folder / "more")


@pytest.mark.parametrize("call", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("fsync", errno.EIO),
        ("open", errno.EROFS),
        ("open", errno.EMFILE),
    ],
)
def test_a_failing_disk_leaves_nothing(
    function: str, code: int, call: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = getattr(os, function), []

    def fail(*arguments, **more):
        writes = function != "open" or (arguments[1] & os.O_WRONLY and "tmp-" in str(arguments[0]))
        calls.extend([1] if writes else [])
        if writes and len(calls) > call:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(NotCommitted, match="nothing was written"):
            prepare([str(folder / "in/a.txt")], tokenizer=folder / "tok", out=folder / "out", shard_tokens=100)
    assert sorted(path.name for path in folder.iterdir()) == ["in", "tok"]
    prepare([str(folder / "in/a.txt")], tokenizer=folder / "tok", out=folder / "out")


@pytest.mark.parametrize("call", [0, 3, 6])
def test_a_kill_leaves_nothing_under_the_name(folder: Path, call: int) -> None:
    code = (
        "import os, sys; from pathlib import Path; from lamoid.recipes.prepare import prepare\n"
        "folder, left, real = Path(sys.argv[1]), [int(sys.argv[2])], os.write\n"
        "def write(*arguments):\n"
        "    left[0] -= 1\n"
        "    return real(*arguments) if left[0] >= 0 else os.kill(os.getpid(), 9)\n"
        "os.write = write\n"
        "prepare([folder / 'in/a.txt'], tokenizer=folder / 'tok', out=folder / 'out', shard_tokens=100)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(folder), str(call)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (folder / "out").exists()
    prepare([str(folder / "in/a.txt")], tokenizer=folder / "tok", out=folder / "out")
    verify(folder / "out", hashes=True)
    assert sorted(path.name for path in folder.iterdir()) == ["in", "out", "tok"]
