"""A run that is killed at random moments, again and again, ends as one that nobody touched, to the bit.

``LAMOID_KILLS`` says how many kills (10); ``make soak`` asks for 200. The moments follow from ``LAMOID_SEED``.
"""

import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("LAMOID_KILLS", "10"))
SEED = os.environ.get("LAMOID_SEED", "0")
LEFT = os.WEXITED | os.WNOHANG | os.WNOWAIT
SLOW = 0.004
"""Seconds that each fsync takes at least, so that saves take a good part of the time."""

EXACT = ("step", "validation_loss", "learning_rate", "gradient_norm", "tokens", "move", "incident")
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 30


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Give a run with everything that a checkpoint must hold, and a checkpoint after every second step."""
    (folder / "text.txt").write_text(TEXT)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(folder / "text.txt"), "hold_out": 0.2},
        "training": {"steps": 30, "batch": 2, "accumulation": 2},
        "optimizer": {"kind": "muon"},
        "schedule": {"warmup": 5},
        "average": {"kind": "ema", "decay": 0.9},
        "evaluation": {"every": 7, "keep_best": True},
        "checkpoint": {"every": 2},
        "guard": {"on_nonfinite": "skip", "on_spike": "skip", "window": 16, "deviations": 3.0},
        "moves": [{"kind": "widen", "path": "blocks.0.feedforward", "hidden": 72, "step": 11}],
        "log": {"every": 1, "tensorboard": False, "curve": False},
        **changes,
    }


def fingerprint(out: Path) -> dict[str, Any]:
    """Give all that a run leaves behind and that no clock measured."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and path.suffix in (".safetensors", ".bin", ".toml"):
            found[name] = path.read_bytes()
        elif path.name == "state.json":
            found[name] = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "seconds"}
        elif path.is_dir():
            found[name] = "folder"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [
        {key: value for key, value in line.items() if key in EXACT or key.startswith("loss")} for line in lines
    ]
    return found


def fork_run(settings: dict[str, Any], out: Path, flag: mmap.mmap) -> int:
    """Begin the run, or go on with it, in a process of its own; ``flag`` is 1 while that saves a checkpoint."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        train_slowly(settings, out, flag)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def train_slowly(settings: dict[str, Any], out: Path, flag: mmap.mmap) -> None:
    from lamoid.recipes import train as recipe_file
    from lamoid.recipes import training_run
    from lamoid.training.checkpoint import Checkpoints, Snapshot

    sync, commit = os.fsync, Checkpoints.commit

    def slow(descriptor: int) -> None:
        time.sleep(SLOW)
        sync(descriptor)

    def watched(self: Checkpoints, snapshot: Snapshot) -> None:
        flag[0] = 1
        commit(self, snapshot)
        flag[0] = 0

    os.fsync, Checkpoints.commit = slow, watched
    for file in (recipe_file, training_run):
        file.measure_peak = lambda *_: 1e12  # type: ignore[attr-defined]
    recipe_file.train(settings, out=out, resume=(out / "recipe.toml").exists())


def wait_for(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_again_and_again(folder: Path, kills: int, seed: str, changes: dict[str, Any]) -> dict[str, int]:
    """Kill runs until it was done ``kills`` times; every run that reaches its end must be the one never killed."""
    import torch
    import torch._dynamo  # an optimiser's first step would load it, in every process anew

    import lamoid.recipes.train  # noqa: F401 - loaded once, not in every process

    torch.set_num_threads(1)
    settings, flag = recipe(folder, **changes), mmap.mmap(-1, 1)
    begun = time.monotonic()
    assert wait_for(fork_run(settings, folder / "whole", flag)) == 0
    whole, lasted = fingerprint(folder / "whole"), time.monotonic() - begun
    rng = random.Random(seed)
    done = {"kills": 0, "inside a save": 0, "runs": 0, "starts": 0}
    while done["kills"] < kills or (folder / str(done["runs"])).exists():
        out = folder / str(done["runs"])
        flag[0] = 0
        child = fork_run(settings, out, flag)
        done["starts"] += 1
        if done["kills"] < kills:
            time.sleep(rng.uniform(0.0, 0.8) * lasted)
            waits = 2 * done["inside a save"] <= done["kills"]  # else it takes luck to meet enough saves
            while waits and not flag[0] and os.waitid(os.P_PID, child, LEFT) is None:
                time.sleep(SLOW / 20)
            time.sleep(rng.uniform(0.0, 4 * SLOW) if waits else 0.0)
            os.kill(child, signal.SIGKILL)
        status = wait_for(child)
        if status == -signal.SIGKILL:
            done["kills"] += 1
            done["inside a save"] += flag[0]
            continue
        assert status == 0, f"start {done['starts']} ended with {status}"
        found = fingerprint(out)
        assert found.keys() == whole.keys(), sorted(found.keys() ^ whole.keys())
        different = [name for name, value in whole.items() if found[name] != value]
        assert not different, different
        done["runs"] += 1
    return done


@pytest.mark.parametrize("background", [True, False], ids=["background", "waiting"])
def test_a_run_killed_at_random_moments_ends_as_one_never_killed(tmp_path: Path, background: bool) -> None:
    kills = max(1, KILLS // 2)
    changes = json.dumps({"checkpoint": {"every": 2, "background": background}})
    command = [sys.executable, __file__, str(tmp_path), str(kills), f"{SEED}/{background}", changes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 20 * kills, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["kills"] == kills
    assert found["runs"] >= 1
    assert 3 * found["inside a save"] >= kills, found


if __name__ == "__main__":
    print(json.dumps(kill_again_and_again(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))))
