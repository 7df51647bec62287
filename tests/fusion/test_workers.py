"""Several processes at one fusion write what one writes, byte for byte, and their failures come through."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Settings, Source, stream_fusion
from lamoid.fusion.workers import join_fusion
from lamoid.weights.durable import durable_folder, verify
from lamoid.weights.header import read_header
from lamoid.weights.read import Tensors


def models(folder: Path, count: int) -> list[Source]:
    found = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[str, Tensor] = {
            f"{n}.weight": torch.randn(300, 700, generator=generator).bfloat16() for n in range(6)
        }
        tensors["a.norm"] = torch.randn(700, generator=generator)
        tensors["z.ids"] = torch.arange(10)
        path = folder / f"member{seed}.safetensors"
        save_file(tensors, path)
        found.append(Source(f"member{seed}", Tensors(read_header(path))))
    return found


def settings(rule: str, count: int) -> Settings:
    options = RULES[rule].options()
    return lambda name: ([0.5, 0.3, 0.2][:count], options)


@pytest.mark.parametrize(("rule", "shard_bytes"), [("ties", 10**9), ("dare_linear", 10**6)])
def test_workers_write_what_one_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, shard_bytes: int
) -> None:
    base, *members = models(tmp_path, 3)
    written = {}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "msgspec.py").write_text("raise SystemExit('a module of a stranger was run')")
    for workers in (1, 3):
        out = tmp_path / f"out{workers}"
        with durable_folder(out) as draft:
            stream_fusion(
                members, base, RULES[rule], settings(rule, 2), draft, workers=workers, shard_bytes=shard_bytes, seed=7
            )
        verify(out, hashes=True)
        written[workers] = {path.name: path.read_bytes() for path in out.iterdir()}
    assert written[1] == written[3]
    assert len(written[1]) == (2 if shard_bytes == 10**9 else 5)


def test_ranks_that_others_have_started_join(tmp_path: Path) -> None:
    members = models(tmp_path, 2)
    code = f"from lamoid.fusion.workers import join_fusion; join_fusion({str(tmp_path / 'two')!r}, 1, 'run 5')"
    rank = subprocess.Popen([sys.executable, "-c", code])
    for name, how in (("one", {}), ("two", {"workers": 2, "run": "run 5"})):
        with durable_folder(tmp_path / name) as draft:
            stream_fusion(members, None, RULES["linear"], settings("linear", 2), draft, **how)
    assert rank.wait(30) == 0
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    with pytest.raises(InputError, match=r"no fusion of the run 'run 6' began"):
        join_fusion(tmp_path / "two", 1, "run 6", patience=0.05)


def test_what_a_worker_fails_with_is_raised_and_nothing_is_left(tmp_path: Path) -> None:
    members = models(tmp_path, 2)
    path = tmp_path / "member1.safetensors"
    data = bytearray(path.read_bytes())
    info = members[1].tensors["5.weight"]
    data[info.stop - 2 : info.stop] = b"\xc0\x7f"
    path.write_bytes(data)
    before, threads = sorted(tmp_path.iterdir()), threading.active_count()
    with (
        pytest.raises(InputError, match=r"member1: tensor 5\.weight: holds NaN"),
        durable_folder(tmp_path / "out") as draft,
    ):
        stream_fusion(members, None, RULES["linear"], settings("linear", 2), draft, workers=2)
    assert sorted(tmp_path.iterdir()) == before
    assert threading.active_count() == threads


def test_rules_outside_the_table_and_models_outside_files_are_refused(tmp_path: Path) -> None:
    members = models(tmp_path, 1)
    held = Source("held", {name: members[0].tensors[name] for name in ()})  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="does not lie in files"), durable_folder(tmp_path / "out") as draft:
        stream_fusion([held], None, RULES["linear"], settings("linear", 1), draft, workers=2)
