"""W&B offline, read back from its own file: the figures, the run's name over a resume, and silence."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.training import wandb_run
from lamoid.training.wandb_run import open_wandb

pytest.importorskip("wandb")
BLOCK = 32 * 1024


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, where W&B has no key and leaves no cache behind."""
    folder = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    for name, place in {"HOME": "", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}.items():
        monkeypatch.setenv(name, str(folder / place))
    return folder


def records(out: Path) -> list[Any]:
    """Read the records of all W&B's files, the oldest first: LevelDB's log format behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(out.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, at, whole = path.read_bytes(), 7, b""
        assert data.startswith(b":W&B")
        while at + 7 <= len(data):
            if BLOCK - at % BLOCK < 7:
                at += BLOCK - at % BLOCK
                continue
            length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                found.append(Record.FromString(whole))
                whole = b""
    return found


def history(out: Path) -> list[dict[str, float]]:
    """Give the figures of each logged line, without what W&B adds."""
    lines = [record.history for record in records(out) if record.WhichOneof("record_type") == "history"]
    named = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in line.item} for line in lines
    ]
    return [{name: value for name, value in line.items() if not name.startswith("_")} for line in named]


def names(out: Path) -> set[tuple[str, str, str]]:
    runs = [record.run for record in records(out) if record.WhichOneof("record_type") == "run"]
    return {(run.run_id, run.project, run.display_name) for run in runs}


SCRIPT = """
import json, sys
from pathlib import Path
from lamoid.training.wandb_run import open_wandb
settings = {"training": {"steps": 9}, "seed": 3}
write, close = open_wandb(Path(sys.argv[1]), mode="offline", project="herd", settings=settings)
for step, figures in json.loads(sys.argv[2]):
    write(step, figures)
close()
"""


def log(out: Path, lines: list[tuple[int, dict[str, float]]]) -> None:
    """Log from a process of its own, as a training does: when it has ended, everything is in W&B's file."""
    words = [sys.executable, "-W", "error", "-c", SCRIPT, str(out), json.dumps(lines)]
    ended = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_training_that_goes_on_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second part goes back a step, as a killed run does; nothing of it is lost, said, or sent anywhere."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    out = tmp_path / "first"
    out.mkdir()
    first = [(5, {"loss": 2.5, "loss/next_token": 2.5}), (10, {"loss": 2.25})]
    second = [(10, {"loss": 2.125}), (15, {"loss": 1.5, "validation_loss": 1.75})]
    log(out, first)
    log(out, second)
    assert history(out) == [{"step": step, **figures} for step, figures in first + second]
    name = (out / "wandb" / "run-id").read_text().strip()
    assert names(out) == {(name, "herd", "first")}
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert [path.name for path in out.iterdir()] == ["wandb"]
    with server, pytest.raises(BlockingIOError):
        server.accept()[0].close()


def test_two_runs_are_two_at_wandb(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        log(tmp_path / name, [(1, {"loss": 1.0})])
    assert len({found for name in ("first", "second") for found, _, _ in names(tmp_path / name)}) == 2


def test_the_recipe_is_the_configuration(tmp_path: Path) -> None:
    log(tmp_path, [(1, {"loss": 1.0})])
    kept = {}
    for record in records(tmp_path):
        if record.WhichOneof("record_type") == "run":
            kept |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    assert kept["training"] == {"steps": 9}
    assert kept["seed"] == 3


def test_a_name_that_was_not_drawn_here_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run-id").write_text("../../x\n")
    with pytest.raises(InputError, match="run-id: is no name that was drawn here"):
        open_wandb(tmp_path, mode="offline", project="herd", settings={})


def test_online_without_a_key_is_refused_and_nothing_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"log.wandb: is online, and W&B knows no key. Run `wandb login`"):
        open_wandb(tmp_path, mode="online", project="herd", settings={})
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_there_is_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert wandb_run.open_wandb(tmp_path, mode="offline", project="herd", settings={}) is None
    assert list(tmp_path.iterdir()) == []


def test_importing_lamoid_does_not_import_it() -> None:
    code = "import sys, lamoid.recipes.train; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
