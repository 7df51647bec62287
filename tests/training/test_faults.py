"""A disk that fails: at every operation of a whole small run, and at every file of its folder.

Whatever fails, the error is a declared one, the checkpoints that were whole stay so, and the run goes on to the same
bits. The operations are counted in a run in which nothing fails; which error meets which follows from ``LAMOID_SEED``.
"""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lamoid.errors import InputError
from lamoid.recipes import train as recipe_file
from lamoid.recipes import training_run
from lamoid.recipes.train import train
from lamoid.training.saver import Saver
from lamoid.weights.durable import DurabilityUncertain, NotCommitted, verify

OPERATIONS = ("open", "write", "fsync", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "listdir", "scandir")
CODES = ("ENOSPC", "EIO", "EACCES", "EROFS", "EMFILE", "EXDEV", "short")
PARTS = 4
HARMLESS = ("metrics.jsonl", "result.json", "recipe.toml")
"""What a run does not go by, or not by all of it: torn lines are dropped, the result is made again, and the recipe that
is given counts where it may differ."""
DECLARED = (NotCommitted, DurabilityUncertain, InputError)
SEED = sum(os.environ.get("LAMOID_SEED", "0").encode())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is the order of operations: nothing is lost if the system writes later."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for file in (recipe_file, training_run):
        monkeypatch.setattr(file, "measure_peak", lambda *_: 1e12)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 20)
    return {
        "model": {"family": "llama", "width": 8, "layers": 1, "heads": 1, "context": 8},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.2},
        "training": {"steps": 3, "batch": 2},
        "evaluation": {"every": 2, "keep_best": True},
        "checkpoint": {"every": 1, "background": False},
        "log": {"every": 1, "tensorboard": False, "curve": False},
    }


class Faults:
    """Lets the operations on files within ``home`` fail from number ``at`` on, ``times`` of them, and counts them."""

    def __init__(self, home: Path, at: int, code: str, times: int = 1) -> None:
        self.count, self._home, self._at, self._code, self._times = 0, str(home), at, code, times
        self._real: dict[str, Callable[..., Any]] = {}
        self._ours: set[int] = set()

    def __enter__(self) -> "Faults":
        for name in OPERATIONS:
            self._real[name] = getattr(os, name)
            setattr(os, name, functools.partial(self._call, name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)

    def _call(self, name: str, *args: Any, **named: Any) -> Any:
        place, real = args[0], self._real[name]
        is_ours = place in self._ours if isinstance(place, int) else self._home in str(place)
        if is_ours:
            self.count += 1
            if self._at <= self.count < self._at + self._times:
                if self._code == "short" and name == "write":
                    return real(place, args[1][: len(args[1]) // 2])
                code = getattr(errno, "EIO" if self._code == "short" else self._code)
                raise OSError(code, os.strerror(code), str(place))
        answer = real(*args, **named)
        if name == "open":
            (self._ours.add if is_ours else self._ours.discard)(answer)
        return answer


def result_of(out: Path) -> dict[str, bytes]:
    """Give the numbers that a run leaves, without what was set aside and what the next writer clears away."""
    found = {str(path.relative_to(out)): path for path in sorted(out.rglob("*.safetensors"))}
    return {
        name: path.read_bytes() for name, path in found.items() if ".damaged" not in name and "/." not in f"/{name}"
    }


def whole_checkpoints(out: Path) -> Iterator[Path]:
    for folder in sorted((out / "checkpoints").glob("step-*")) if (out / "checkpoints").is_dir() else ():
        try:
            verify(folder, hashes=True)
        except InputError:
            continue
        yield folder


@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation_of_a_run_may_fail(recipe: dict, tmp_path: Path, part: int) -> None:
    whole = tmp_path / "whole"
    with Faults(whole, 0, "EIO", times=0) as counted:
        train(recipe, out=whole)
    wanted = result_of(whole)
    assert counted.count > 100
    failed = 0
    for at in range(1 + part, counted.count + 1, PARTS):
        out, code = tmp_path / f"run-{at}", CODES[(at + SEED) % len(CODES)]
        where = f"operation {at} of {counted.count}, {code}"
        error = None
        with Faults(out, at, code):
            try:
                train(recipe, out=out)
            except DECLARED as caught:
                error = caught
        saved = list(whole_checkpoints(out))
        if error is None:  # a failure that needs no telling, such as that of clearing away what is swept later
            assert result_of(out) == wanted, where
        else:
            failed += 1
            assert str(tmp_path) in str(error), f"{where}: {error}"
            assert len(saved) == len(list((out / "checkpoints").glob("step-*"))), f"{where}: a torn checkpoint"
            train(recipe, out=out, resume=(out / "recipe.toml").exists())
            assert result_of(out).items() >= wanted.items(), where  # one may stay that could not be removed
        shutil.rmtree(out)
    assert failed >= counted.count // PARTS // 3


def test_a_disk_that_stays_full_leaves_what_was_whole(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Faults(tmp_path / "whole", 0, "EIO", times=0) as counted:
        train(recipe, out=tmp_path / "whole")
    with pytest.raises(DECLARED, match="Free some space"), Faults(out, counted.count * 2 // 3, "ENOSPC", times=10**6):
        train(recipe, out=out)
    assert list(whole_checkpoints(out))
    train(recipe, out=out, resume=True)
    assert result_of(out) == result_of(tmp_path / "whole")


def test_a_save_in_the_background_that_fails_is_told_at_the_next_step(recipe: dict, tmp_path: Path) -> None:
    from lamoid.training.checkpoint import Checkpoints, Snapshot

    recipe["checkpoint"] = {"every": 2, "keep": 9, "background": True}
    recipe["training"]["steps"] = 8
    train(recipe, out=tmp_path / "whole")
    commit, check = Checkpoints.commit, Saver.check
    seen: list[int] = []

    def fail(self: Checkpoints, snapshot: Snapshot) -> None:
        if snapshot.step == 4:
            raise NotCommitted(errno.ENOSPC, f"{self.place}: nothing was written: No space left on device")
        commit(self, snapshot)

    def watched(self: Saver, state: Any) -> None:
        while self._pending is not None and not self._pending[1].done():
            pass
        seen.append(state.step)
        check(self, state)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoints, "commit", fail)
        patched.setattr(Saver, "check", watched)
        with pytest.raises(NotCommitted, match="No space left"):
            train(recipe, out=tmp_path / "run")
    assert seen[-1] == 5, "the step after the one that was to be saved"
    result = train(recipe, out=tmp_path / "run", resume=True)
    assert result.resumed_from == 2
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "gone", "folder", "loop"])
def test_every_file_of_a_checkpoint_is_noticed_when_damaged(recipe: dict, tmp_path: Path, damage: str) -> None:
    whole = tmp_path / "whole"
    train(recipe, out=whole)
    wanted = result_of(whole)
    newest = "checkpoints/step-00000003"
    for name in sorted(path.name for path in (whole / newest).iterdir()):
        out = tmp_path / "run"
        shutil.copytree(whole, out)
        shutil.rmtree(out / "model")  # so that the end must be made again, from the newest checkpoint
        path = out / newest / name
        data = path.read_bytes()
        path.unlink()
        if damage == "flipped":
            place = SEED % len(data)
            path.write_bytes(data[:place] + bytes([data[place] ^ (1 << SEED % 8)]) + data[place + 1 :])
        elif damage in ("cut", "emptied"):
            path.write_bytes(data[:-2] if damage == "cut" else b"")
        elif damage == "folder":
            path.mkdir()
        elif damage == "loop":
            path.symlink_to(path.name)
        result = train(recipe, out=out, resume=True)
        told = [remark for remark in result.remarks if "damaged" in remark]
        assert len(told) == 1, (name, result.remarks)
        assert "step-00000003" in told[0]
        assert result.resumed_from == 2
        assert (out / f"{newest}.damaged").is_dir()
        assert result_of(out) == wanted, name
        shutil.rmtree(out)


def test_other_files_of_a_run_that_are_damaged_are_named_or_made_again(recipe: dict, tmp_path: Path) -> None:
    """The recipe is compared; what is made of the data and the best model have hashes, and are made again."""
    whole, half, out = tmp_path / "whole", tmp_path / "half", tmp_path / "run"
    train(recipe, out=whole)
    wanted = result_of(whole)
    shutil.copytree(whole, half)
    for gone in ("checkpoints/step-00000003", "model"):  # so that there is a step to be made
        shutil.rmtree(half / gone)
    names = [path.relative_to(half) for path in sorted(half.rglob("*")) if path.is_file()]
    for name in (name for name in names if name.parts[0] != "checkpoints"):
        for cut in (True, False):
            shutil.copytree(half, out)
            data = (half / name).read_bytes()
            place = SEED % len(data)
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            (out / name).write_bytes(data[: len(data) // 2] if cut else flipped)
            named = name.parts[0] if name.parts[0] == "best" else name.parts[-1]
            try:
                told = " ".join(train(recipe, out=out, resume=True).remarks)
            except InputError as error:
                assert named in str(error), (name, error)  # noqa: PT017
            else:
                assert result_of(out) == wanted, (name, cut)
                assert named in told or str(name) in HARMLESS, (name, cut, told)
            shutil.rmtree(out)


def test_clocks_that_go_backwards_change_nothing(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe, out=out)
    for age, folder in enumerate(sorted((out / "checkpoints").iterdir())):
        os.utime(folder, (10**9 - age * 10**6, 10**9 - age * 10**6))
    shutil.rmtree(out / "model")
    assert train(recipe, out=out, resume=True).resumed_from == 3


def test_a_folder_of_checkpoints_that_leads_nowhere_is_no_fresh_start(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe, out=out)
    before = (out / "metrics.jsonl").read_bytes()
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(InputError, match=r"has no checkpoint, but (model|result\.json): those that it had are gone"):
        train(recipe, out=out, resume=True)
    for target in ("nowhere", "checkpoints"):
        (out / "checkpoints").symlink_to(target)
        with pytest.raises(InputError, match="the checkpoints cannot be read"):
            train(recipe, out=out, resume=True)
        (out / "checkpoints").unlink()
    (out / "checkpoints").write_bytes(b"")
    with pytest.raises(InputError, match="the checkpoints cannot be read"):
        train(recipe, out=out, resume=True)
    assert (out / "metrics.jsonl").read_bytes() == before


def test_what_has_a_checkpoints_name_and_is_none_is_set_aside(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe, out=out)
    shutil.rmtree(out / "model")
    place = out / "checkpoints"
    (place / "step-00000004").mkdir()
    (place / "step-00000005").mkdir()
    shutil.copy(place / "step-00000003" / "manifest.json", place / "step-00000005")
    (place / "step-00000006").symlink_to("step-00000006")
    (place / "step-00000007").write_bytes(b"")
    (place / ".step-00000008.tmp-1234").mkdir()
    result = train(recipe, out=out, resume=True)
    assert result.resumed_from == 3
    assert [name for remark in result.remarks for name in remark.split() if name.startswith("step-")] == [
        text for step in (7, 6, 5, 4) for text in (f"step-0000000{step}", f"step-0000000{step}.damaged:")
    ]
    names = {path.name for path in place.iterdir()}
    assert names >= {f"step-0000000{step}.damaged" for step in (4, 5, 6, 7)}
    assert ".step-00000008.tmp-1234" not in names


def test_no_run_to_go_on_with_is_said_and_nothing_is_made(recipe: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist, so there is no run to go on with"):
        train(recipe, out=tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is empty, so there is no run to go on with"):
        train(recipe, out=tmp_path / "empty", resume=True)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("steps", [1, 5])
def test_a_run_that_died_before_its_first_checkpoint_says_that_it_begins_again(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """One that logged more than two checkpoints' worth of steps has lost them, and is not begun again."""
    recipe["checkpoint"]["every"], recipe["training"]["steps"] = 2, 6
    out = tmp_path / "run"
    train(recipe, out=tmp_path / "whole")

    def die(self: Saver, state: Any) -> None:
        if state.step > steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "check", die)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=out)
    monkeypatch.undo()
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    logged = max(json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines())
    assert logged == steps
    if steps == 5:
        with pytest.raises(InputError, match="step 5 in its log: those that it had are gone"):
            train(recipe, out=out, resume=True)
        return
    result = train(recipe, out=out, resume=True)
    assert "the run ended before its first checkpoint, so it begins again with step 1" in result.remarks
    assert result_of(out) == result_of(tmp_path / "whole")


def test_a_run_in_a_poor_environment(recipe: dict, tmp_path: Path) -> None:
    """A mask of 077, no home to write to, and a locale that is not UTF-8 are no hindrance, also in going on."""
    (tmp_path / "verses.txt").write_text("the quick brown fox jümps over the lazy dög.\n" * 20, encoding="utf-8")
    recipe["data"]["train"] = str(tmp_path / "verses.txt")
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    script = (
        "import os, sys; os.umask(0o077); from lamoid.cli.main import run; words = ['train', *sys.argv[1:], '--json']\n"
        "sys.exit(run(words) or run([*words, '--resume']))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run")]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    poor = {"HOME": str(tmp_path / "no" / "home"), "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        command, env={**kept, **poor, "OMP_NUM_THREADS": "1"}, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "run").rglob("*")} == {0}
