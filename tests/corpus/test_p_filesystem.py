"""Area P: a disk that fails, and a kill, at every single file operation of the durable writers.

Run as a program (``python test_p_filesystem.py FOLDER SCENARIO``) this file forks a writer for every operation, kills
it there, and checks what stands under the final name.
"""

import errno
import fcntl
import functools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.weights import durable
from lamoid.weights.durable import DurabilityUncertain, NotCommitted, durable_file, durable_folder, sweep, verify

pytestmark = pytest.mark.timeout(120)

OPERATIONS = (
    *("open", "write", "fsync", "close", "mkdir", "rename", "replace", "link", "unlink", "rmdir"),
    *("listdir", "scandir", "stat", "lstat", "fstat", "read", "pread"),
)
CODES = ("ENOSPC", "EIO", "EACCES", "EROFS", "EMFILE", "EXDEV", "EDQUOT")
OLD, NEW = {"a": b"old" * 100, "gone": b"x"}, {"a": b"new" * 1000, "b": b"", "c": bytes(2**20 + 2**19)}


class Faults:
    """Calls ``meddle`` before the n-th file operation and counts them all."""

    def __init__(self, meddle: Callable[[int, str], None]) -> None:
        self.count = 0
        self._meddle = meddle
        self._real: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Faults":
        places = [(os, name) for name in OPERATIONS] + [(fcntl, "flock"), (durable, "_exchange")]
        for module, name in places:
            real = getattr(module, name)
            self._real.append((module, name, real))
            setattr(module, name, functools.partial(self._call, name, real))
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, real in self._real:
            setattr(module, name, real)

    def _call(self, name: str, real: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.count += 1
        here = self.count
        if name == "close":  # one that fails has closed all the same
            real(*args, **named)
        self._meddle(here, name)
        return None if name == "close" else real(*args, **named)


def fail(at: int, code: int, *, for_ever: bool = False) -> Callable[[int, str], None]:
    def meddle(count: int, name: str) -> None:
        if count == at or (for_ever and count > at):
            raise OSError(code, os.strerror(code))

    return meddle


def write_folder(target: Path, content: dict[str, bytes], *, overwrite: bool) -> None:
    with durable_folder(target, overwrite=overwrite) as draft:
        for name, data in content.items():
            draft.write(name, data)


def read_folder(target: Path) -> dict[str, bytes] | None:
    if not target.exists():
        return None
    verify(target, hashes=True)
    return {path.name: path.read_bytes() for path in target.iterdir() if path.name != "manifest.json"}


def prepare_new(home: Path) -> None:
    (home / ".out.tmp-stale").mkdir()
    (home / ".out.tmp-stale" / "half").write_bytes(b"half")


def prepare_old(home: Path) -> None:
    write_folder(home / "out", OLD, overwrite=False)


def prepare_file(home: Path) -> None:
    (home / "out").write_bytes(b"old")


def read_file(target: Path) -> dict[str, bytes] | None:
    return {"": target.read_bytes()} if target.exists() else None


def without_exchange(*_: Path) -> bool:
    return False


# name: (prepare, write, read, what stood there before, what stands there after)
SCENARIOS: dict[str, tuple[Any, Any, Any, Any, Any]] = {
    "new": (prepare_new, lambda t: write_folder(t, NEW, overwrite=False), read_folder, None, NEW),
    "overwrite": (prepare_old, lambda t: write_folder(t, NEW, overwrite=True), read_folder, OLD, NEW),
    "aside": (prepare_old, lambda t: write_folder(t, NEW, overwrite=True), read_folder, OLD, NEW),
    "file": (prepare_file, lambda t: durable_file(t, b"new" * 1000), read_file, {"": b"old"}, {"": b"new" * 1000}),
    "file-new": (
        lambda home: None,
        lambda t: durable_file(t, b"new", overwrite=False),
        read_file,
        None,
        {"": b"new"},
    ),
}


def outcome(write: Callable[[Path], None], target: Path) -> Exception | None:
    try:
        write(target)
    except (NotCommitted, DurabilityUncertain, InputError) as error:
        return error
    return None


def open_descriptors() -> int:
    return sum(1 for number in range(512) if is_open(number))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def no_sync(descriptor: int) -> None:
    """Stands for fsync: a process that dies, unlike a power cut, leaves what it wrote to the system."""


@pytest.fixture(autouse=True)
def _scenario(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_sync)
    if "aside" in request.node.name:
        monkeypatch.setattr(durable, "_exchange", without_exchange)


def count_operations(home: Path, scenario: str) -> int:
    prepare, write, read, _, after = SCENARIOS[scenario]
    home.mkdir()
    prepare(home)
    with Faults(lambda count, name: None) as faults:
        write(home / "out")
    assert read(home / "out") == after
    return faults.count


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_error_at_every_operation(tmp_path: Path, scenario: str, code: str) -> None:
    prepare, write, read, before, after = SCENARIOS[scenario]
    descriptors = open_descriptors()
    refused = 0
    for at in range(1, count_operations(tmp_path / "0", scenario) + 1):
        home = tmp_path / str(at)
        home.mkdir()
        prepare(home)
        expected = after
        with Faults(fail(at, getattr(errno, code))):
            failure = outcome(write, home / "out")
        if isinstance(failure, NotCommitted | InputError):
            expected, refused = before, refused + 1
        assert failure is None or str(home / "out") in str(failure)
        assert read(home / "out") == expected, f"operation {at}"
        sweep(home / "out")
        assert [path.name for path in home.iterdir()] == (["out"] if expected is not None else [])
    assert refused >= 5
    assert open_descriptors() == descriptors


def test_an_error_at_every_operation_of_saving_a_model(tmp_path: Path) -> None:
    import torch

    from lamoid.assembly.families.table import FAMILIES
    from lamoid.assembly.model import LanguageModel
    from lamoid.weights.folder import load_model, open_folder, save_model

    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 5, "n_positions": 4}
    models = [LanguageModel(FAMILIES["gpt2"].spec(config, "config.json")) for _ in range(2)]
    for value, model in enumerate(models):
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, float(value))

    def write(target: Path, model: LanguageModel) -> None:
        with durable_folder(target, overwrite=True) as draft:
            save_model(model, draft, generation=None, tokenizer_files={"tokenizer.json": b"{}"}, shard_bytes=500)

    outcomes = set()
    write(tmp_path / "counted", models[0])
    with Faults(lambda count, name: None) as faults:
        write(tmp_path / "counted", models[1])
    for at in range(1, faults.count + 1):
        write(tmp_path / "out", models[0])
        with Faults(fail(at, (errno.ENOSPC, errno.EIO)[at % 2])):
            failure = outcome(lambda target: write(target, models[1]), tmp_path / "out")
        done = failure is None or isinstance(failure, DurabilityUncertain)
        outcomes.add(type(failure))
        verify(tmp_path / "out", hashes=True)
        found = load_model(open_folder(tmp_path / "out")).state_dict()
        assert all((tensor == float(done)).all() for tensor in found.values()), f"operation {at}"
    assert outcomes >= {type(None), NotCommitted, DurabilityUncertain}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_disk_that_stays_broken_from_any_operation_on(tmp_path: Path, scenario: str) -> None:
    prepare, write, read, before, after = SCENARIOS[scenario]
    for at in range(1, count_operations(tmp_path / "0", scenario) + 1):
        home = tmp_path / str(at)
        home.mkdir()
        prepare(home)
        with Faults(fail(at, errno.EIO, for_ever=True)):
            failure = outcome(write, home / "out")
        done = failure is None or isinstance(failure, DurabilityUncertain)
        sweep(home / "out")
        assert read(home / "out") == (after if done else before), f"from operation {at} on"
        assert {path.name for path in home.iterdir()} <= {"out"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_writes_that_take_only_some_bytes(tmp_path: Path, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, write, read, _, after = SCENARIOS[scenario]
    prepare(tmp_path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 3)]))
    write(tmp_path / "out")
    monkeypatch.undo()
    assert read(tmp_path / "out") == after


def test_a_write_that_takes_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(NotCommitted):
        write_folder(tmp_path / "out", NEW, overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_every_operation(tmp_path: Path, scenario: str) -> None:
    command = [sys.executable, __file__, str(tmp_path), scenario]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def test_two_writers_of_a_new_folder(tmp_path: Path) -> None:
    with pytest.raises(NotCommitted, match="Another writer"), durable_folder(tmp_path / "out") as slow:  # noqa: PT012
        slow.write("a", b"slow")
        write_folder(tmp_path / "out", {"a": b"quick"}, overwrite=False)  # sweeps, and must leave the live draft alone
        assert slow.path.exists()
    assert read_folder(tmp_path / "out") == {"a": b"quick"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_writers_that_overwrite(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", OLD, overwrite=False)
    with durable_folder(tmp_path / "out", overwrite=True) as slow:
        slow.write("a", b"slow")
        write_folder(tmp_path / "out", {"a": b"quick"}, overwrite=True)
        assert read_folder(tmp_path / "out") == {"a": b"quick"}
    assert read_folder(tmp_path / "out") == {"a": b"slow"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_writer_waits_for_nobody_who_is_replacing_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", OLD, overwrite=False)
    held = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(NotCommitted, match="another writer is replacing it"):
        write_folder(tmp_path / "out", NEW, overwrite=True)
    os.close(held)
    assert read_folder(tmp_path / "out") == OLD


@pytest.mark.parametrize("missing", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(missing, os.strerror(missing))

    prepare_old(tmp_path)
    (tmp_path / ".out.tmp-perhaps-alive").mkdir()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_folder(tmp_path / "out", NEW, overwrite=True)
    assert read_folder(tmp_path / "out") == NEW
    assert (tmp_path / ".out.tmp-perhaps-alive").exists()


def test_a_loop_of_links_above_the_target(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotCommitted, match="loop"):
        write_folder(tmp_path / "loop" / "out", NEW, overwrite=False)
    with pytest.raises(NotCommitted, match="loop"):
        durable_file(tmp_path / "loop" / "out", b"new")
    with pytest.raises(InputError, match="exists already"):
        write_folder(tmp_path / "loop", NEW, overwrite=False)


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[2]); import test_p_filesystem as p; p.fill(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert "Raise the limit" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(NotCommitted, match="may write"):
        write_folder(tmp_path / "out", NEW, overwrite=False)
    tmp_path.chmod(0o755)


def test_a_mask_of_077(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_folder(tmp_path / "out", NEW, overwrite=False)
    finally:
        os.umask(before)
    assert read_folder(tmp_path / "out") == NEW
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_folder_without_manifest_and_a_manifest_without_files(tmp_path: Path) -> None:
    folder = tmp_path / "step-1"
    folder.mkdir()
    with pytest.raises(InputError, match=r"manifest\.json: the file does not exist"):
        verify(folder, hashes=False)
    folder.rmdir()
    write_folder(folder, OLD, overwrite=False)
    (folder / "a").unlink()
    with pytest.raises(InputError, match="a: the file does not exist"):
        verify(folder, hashes=False)


def fill(home: str) -> None:
    """Writes 1.5 MiB where a file may have 1 MiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    try:
        write_folder(Path(home) / "out", NEW, overwrite=False)
    except NotCommitted as error:
        sys.stdout.write(str(error))


def kill_at_every_operation(root: Path, scenario: str) -> int:
    """Kills a writer before each operation; the folder is the old or the new, and the next write works."""
    os.fsync = no_sync
    if scenario == "aside":
        durable._exchange = without_exchange
    prepare, write, read, before, after = SCENARIOS[scenario]
    operations = count_operations(root / "0", scenario)
    for number in range(1, operations + 1):
        home = root / str(number)
        home.mkdir()
        prepare(home)
        child = os.fork()
        if child == 0:

            def kill(count: int, name: str, at: int = number) -> None:
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            with Faults(kill):
                write(home / "out")
            os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        if scenario == "aside":
            sweep(home / "out")  # gives an old folder its name back, if the kill came between the two renames
        found = read(home / "out")
        assert found in (before, after), f"operation {number}"
        sweep(home / "out")
        assert [path.name for path in home.iterdir()] == (["out"] if found is not None else []), number
        if scenario in ("overwrite", "aside", "file") or found is None:
            write(home / "out")
            assert read(home / "out") == after
    return operations


if __name__ == "__main__":
    print(kill_at_every_operation(Path(sys.argv[1]), sys.argv[2]))
