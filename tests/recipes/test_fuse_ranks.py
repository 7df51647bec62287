"""Several processes at one fusion through the recipe: the same bytes; and reading back what was written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.recipes.fuse import fuse
from lamoid.recipes.fusion_ranks import find_ranks
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable
from lamoid.verbs.llama import Llama


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two members."""
    for seed, name in enumerate("ab"):
        model = LanguageModel(Shape(width=64, layers=2, heads=2, context=16).spec(300))
        initialise(model, seed)
        Llama(model).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(folder: str) -> bytes:
    return Path(folder, "model.safetensors").read_bytes()


def test_workers_and_ranks_write_what_one_process_writes(place: Path) -> None:
    fuse(["a", "b"], out="alone", weights="1,2")
    fuse(["a", "b"], out="workers", weights="1,2", workers=2, verify=True)
    assert weights("workers") == weights("alone")
    words = ["-c", "from lamoid.cli.main import run; import sys; sys.exit(run(sys.argv[1:]))"]
    command = [sys.executable, *words, "fuse", "a", "b", "--out", "ranks", "--weights", "1,2"]
    run = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    started = [
        subprocess.Popen(command, env={**run, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert b"Rank 1 of 2 did its share" in said[1][0]
    assert weights("ranks") == weights("alone")
    assert sorted(path.name for path in place.iterdir()) == ["a", "alone", "b", "ranks", "workers"]


def test_torchrun_starts_the_ranks(place: Path) -> None:
    fuse(["a", "b"], out="alone", weights="1,2")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "lamoid.cli.main", "fuse", "a", "b", "--out", "ranks", "--weights", "1,2"]
    done = subprocess.run([*torchrun, *words], capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Rank 1 of 2 did its share" in done.stdout
    assert weights("ranks") == weights("alone")
    assert sorted(path.name for path in place.iterdir()) == ["a", "alone", "b", "ranks"]


def test_a_member_that_is_not_what_its_manifest_says_is_refused_when_asked(place: Path) -> None:
    data = bytearray(weights("b"))
    data[-1] ^= 1
    Path("b/model.safetensors").write_bytes(data)
    fuse(["a", "b"], out="unseen", weights="1,2")
    with pytest.raises(InputError, match=r"b/model\.safetensors: its sha256 is not the one in the manifest"):
        fuse(["a", "b"], out="out", weights="1,2", verify=True)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("environment", "changes", "culprit"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, {}, "RANK and WORLD_SIZE: are '2' and '2'"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, {}, "RANK and WORLD_SIZE: are 'x' and '2'"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, {"never_worse": True}, "never_worse: is asked of 2 ranks"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, {"steps": [StepTable("s", [])]}, "steps: is asked of 2 ranks"),
    ],
)
def test_what_ranks_cannot_do_is_refused(environment: dict[str, str], changes: dict[str, Any], culprit: str) -> None:
    with pytest.raises(InputError) as caught:
        find_ranks(environment, FusionRecipe("out", [MemberTable("a")], **changes))
    assert culprit in str(caught.value)


def test_a_process_alone_is_no_rank() -> None:
    recipe = FusionRecipe("out", [MemberTable("a")], never_worse=True)
    assert find_ranks({}, recipe) is None
    assert find_ranks({"RANK": "0", "WORLD_SIZE": "1"}, recipe) is None
