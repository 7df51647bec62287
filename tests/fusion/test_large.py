"""Thirty gigabytes of members that are made while they are read, fused within one; run by ``make soak``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GIGABYTES = float(os.environ.get("LAMOID_SOAK_GB", "0"))
LIMIT = 1 << 30

PROGRAM = """
import json, math, sys, threading
from collections.abc import Mapping
from pathlib import Path
import torch
from lamoid.freed_memory import give_freed_memory_back
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion
from lamoid.weights.durable import durable_folder, verify
from lamoid.weights.header import TensorInfo
from lamoid.weights.read import open_tensors

folder, rule, megabytes, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
COUNT, LENGTH = 100, 1_048_583
SHAPE = (megabytes // 3 * 10**6 // COUNT // 2 // 2048, 2048)

class Made(Mapping):
    # Every number is a value of a table at a place that model, tensor and element give; none is 0.
    def __init__(self, seed):
        numbers = torch.randn(LENGTH, generator=torch.Generator().manual_seed(seed)) * 0.02
        self.table = torch.where(numbers == 0, 1e-3, numbers).to(torch.bfloat16)
        self.seed = seed
        names = [f"layer{n}.weight" for n in range(COUNT)]
        self.infos = {n: TensorInfo(n, torch.bfloat16, SHAPE, 0, 2 * math.prod(SHAPE), Path("/none")) for n in names}
    def __getitem__(self, name):
        return self.infos[name]
    def __iter__(self):
        return iter(self.infos)
    def __len__(self):
        return len(self.infos)
    def read_into(self, name, first, out):
        place = (first + int(name[5:-7]) * 7919 * (self.seed + 1)) % LENGTH
        done = 0
        while done < len(out):
            part = self.table[place : place + len(out) - done]
            out[done : done + len(part)] = part
            done, place = done + len(part), 0
    def whole(self, name):
        out = torch.empty(math.prod(SHAPE), dtype=torch.bfloat16)
        self.read_into(name, 0, out)
        return out.double()

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def slow(name, models, element):
    number = int(name[5:-7])
    tables = [m.table[(element + number * 7919 * (m.seed + 1)) % LENGTH].double() for m in models]
    return sum(weight * table for weight, table in zip(weights, tables))

models = [Made(seed) for seed in range(3)]
parts = [Source(str(m.seed), m) for m in models]
members, base, weights = (parts, None, [0.2, 0.3, 0.5]) if rule == "linear" else (parts[1:], parts[0], [0.5, 0.5])
options = RULES[rule].options()
torch.ones(1 << 16).sum()
give_freed_memory_back()
before, peak, over = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.005):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
with durable_folder(folder / "out") as draft:
    stream_fusion(members, base, RULES[rule], lambda name: (weights, options), draft, memory=limit)
over.set()
watcher.join()
tensors = open_tensors(folder / "out")
checked, worst, size = 0, 0.0, math.prod(SHAPE)
if rule == "linear":
    for name in tensors:
        at = torch.arange(len(name) * 13, size, 100)
        expected = slow(name, models, at).bfloat16().double()
        ours = tensors.tensor(name).view(-1)[at].double()
        worst = max(worst, float(((ours - expected).abs() / expected.abs().clamp_min(1e-3)).max()))
        checked += len(at)
else:
    for name in [f"layer{COUNT // 3}.weight"]:
        origin = models[0].whole(name)
        kept = []
        for model in models[1:]:
            delta = (model.whole(name).float() - origin.float()).double()
            order = torch.sort(delta.abs(), descending=True, stable=True).indices[: int(0.2 * size)]
            kept.append(torch.zeros_like(delta).index_copy_(0, order, delta[order]))
        total = 0.5 * kept[0] + 0.5 * kept[1]
        sign = torch.where(total >= 0, 1.0, -1.0)
        agree = [(part.sign() == sign).double() for part in kept]
        shares = 0.5 * agree[0] + 0.5 * agree[1]
        mean = (0.5 * kept[0] * agree[0] + 0.5 * kept[1] * agree[1]) / torch.where(shares == 0, 1.0, shares)
        expected = (origin + mean).bfloat16().double()
        ours = tensors.tensor(name).view(-1).double()
        worst = float(((ours - expected).abs() / expected.abs().clamp_min(1e-3)).max())
        checked = size
written = sum(path.stat().st_size for path in (folder / "out").iterdir())
print(json.dumps({"peak": peak - before, "checked": checked / (size * COUNT), "worst": worst, "written": written}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see anonymous memory")
@pytest.mark.timeout(120 + 60 * GIGABYTES)
@pytest.mark.parametrize("rule", ["linear", "ties"])
def test_far_more_than_the_memory(tmp_path: Path, rule: str) -> None:
    megabytes = int(1000 * GIGABYTES) or 250
    limit = LIMIT if GIGABYTES else 96 << 20
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), rule, str(megabytes), str(limit)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(found)
    assert 0 < found["peak"] <= limit
    assert found["checked"] >= 0.0099
    assert found["worst"] <= 2.0**-7
    assert found["written"] > megabytes * 10**6 / 3 * 0.95
