"""What a fusion takes of anonymous memory, watched from within a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 64 * 2**20
WATCHED = """
import sys, threading
from pathlib import Path
import torch
from lamoid.freed_memory import give_freed_memory_back
from lamoid.fusion import largest
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion
from lamoid.weights.durable import durable_folder
from lamoid.weights.header import read_header
from lamoid.weights.read import Tensors
from lamoid.weights.write import TensorWriter

folder, limit, rule = Path(sys.argv[1]), int(sys.argv[2]), RULES[sys.argv[3]]
largest._WHOLE = 1 << 18  # so that the tensors here are sampled, as large ones are
torch.set_num_threads(1)
infos = [(f"layer{n}", torch.bfloat16, (4096, 1024)) for n in range(12)]
for member in range(3):
    with durable_folder(folder / str(member)) as draft:
        writer = TensorWriter(draft, infos)
        for _ in infos:
            writer.write(torch.arange(4096 * 1024).remainder(251 + member).to(torch.bfloat16))
        writer.finish()

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

parts = [Source(str(m), Tensors(read_header(folder / str(m) / "model.safetensors"))) for m in range(3)]
give_freed_memory_back()
before, peak, over = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
with durable_folder(folder / "out") as draft:
    options, base = rule.options(), None if rule.base == "none" else parts.pop()
    count = len(parts)
    stream_fusion(parts, base, rule, lambda name: ([1 / count] * count, options), draft, memory=limit)
over.set()
watcher.join()
print(max(peak, anonymous()) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see anonymous memory")
@pytest.mark.parametrize("rule", ["linear", "ties", "breadcrumbs"])
def test_anonymous_memory_stays_within_the_limit(tmp_path: Path, rule: str) -> None:
    command = [sys.executable, "-c", WATCHED, str(tmp_path), str(LIMIT), rule]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
    assert 0 < taken <= LIMIT
