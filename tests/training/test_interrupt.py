"""Being asked to stop: the first signal saves and leaves, the second leaves at once, and handlers are put back."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lamoid.errors import Stopped
from lamoid.recipes import train as recipe_file
from lamoid.recipes import training_run
from lamoid.recipes.train import train
from lamoid.training.interrupt import heed_signals
from lamoid.training.saver import Saver
from lamoid.training.state import TrainingState

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (recipe_file, training_run):
        monkeypatch.setattr(file, "measure_peak", lambda *_: 1e12)


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts what runs in its background with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 10, "batch": 2},
        "evaluation": {"every": 4},
        "checkpoint": {"every": 4},
        "log": {"every": 1, "tensorboard": False, "curve": False},
    }


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    check = Saver.check

    def send(self: Saver, state: TrainingState) -> None:
        check(self, state)
        if state.step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Saver, "check", send)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [3, 4, 10], ids=["between", "with an evaluation and a checkpoint", "last"])
def test_the_first_signal_saves_the_step_and_the_run_goes_on_bit_for_bit(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, step: int
) -> None:
    train(recipe, out=tmp_path / "whole")
    before = [signal.getsignal(each) for each in SIGNALS]
    with monkeypatch.context() as patched:
        signal_at(patched, step, number)
        with pytest.raises(
            Stopped, match=rf"by {number.name} after step {step} of 10, which is saved.*--resume"
        ) as left:
            train(recipe, out=tmp_path / "run")
    assert left.value.status == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == before
    result = train(recipe, out=tmp_path / "run", resume=True)
    assert result.resumed_from == step
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


SCRIPT = """
import sys, time, torch
from lamoid.cli.main import run
from lamoid.recipes import train

torch.set_num_threads(1)
real = train.evaluate

def slow(*parts):
    hook = real(*parts)

    def evaluate(state):
        print("SLOW", flush=True)
        time.sleep(1.0)
        hook(state)

    return evaluate

train.evaluate = slow
sys.exit(run(["train", sys.argv[1], "--out", sys.argv[2]]))
"""


def start(folder: Path, recipe: dict[str, Any]) -> subprocess.Popen[str]:
    """Start the command in a process of its own, with every evaluation made slow."""
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(recipe))
    command = [sys.executable, "-c", SCRIPT, str(path), str(folder / "run")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until_slow(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if "SLOW" in line:
            return
    pytest.fail(process.communicate()[1])


def test_in_the_middle_of_an_evaluation_the_command_saves_says_so_and_ends_with_143(
    recipe: dict, tmp_path: Path
) -> None:
    process = start(tmp_path, recipe)
    wait_until_slow(process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert "once more to leave at once" in told
    assert "stopped by SIGTERM after step 4 of 10, which is saved. Go on with --resume." in told, told
    assert (tmp_path / "run" / "checkpoints" / "step-00000004" / "manifest.json").is_file()


def test_the_second_signal_leaves_at_once_and_what_was_whole_stays(recipe: dict, tmp_path: Path) -> None:
    recipe["checkpoint"]["every"] = 2
    recipe["evaluation"]["every"] = 5
    process = start(tmp_path, recipe)
    wait_until_slow(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM
    assert train(recipe, out=tmp_path / "run", resume=True).resumed_from in (2, 4)


def test_handlers_of_others_and_other_threads_are_left_alone() -> None:
    def mine(number: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with heed_signals(tell=False):
            assert signal.getsignal(signal.SIGTERM) is mine
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup has it
        with heed_signals(tell=False):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    found: list[Any] = []

    def elsewhere() -> None:
        with heed_signals(tell=False) as asked:
            found.extend([asked.by, *map(signal.getsignal, SIGNALS)])

    _in_a_thread(elsewhere)
    assert found == [None, *map(signal.getsignal, SIGNALS)]


def _in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
