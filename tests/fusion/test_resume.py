"""A fusion that is killed at any moment goes on where it was, and ends with the bytes of one never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamoid.fusion.engine import Engine
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, fuse_in_memory, stream_fusion
from lamoid.weights.durable import durable_folder, verify
from lamoid.weights.read import open_tensors
from lamoid.weights.write import write_tensors

KILLS = int(os.environ.get("LAMOID_KILLS", "12"))
SEED = int(os.environ.get("LAMOID_SEED", "5"))

KILLER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from safetensors.torch import save_file
from lamoid.fusion import output
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion
from lamoid.weights import placed
from lamoid.weights.durable import durable_folder, verify
from lamoid.weights.header import read_header
from lamoid.weights.read import Tensors

folder, kills, seed, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
output.JOURNAL_BYTES, placed.GATHERED = 1 << 20, 1 << 18
torch.set_num_threads(1)

def fuse(name, resume=None):
    parts = [Source(str(m), Tensors(read_header(folder / f"{m}.safetensors"))) for m in range(3)]
    options = RULES["ties"].options()
    with durable_folder(folder / name, resume=resume) as draft:
        draft.write("config.json", b"{}")
        found = dict(draft.journal.safe) if draft.journal else {}
        with (folder / "log").open("a") as log:
            log.write(json.dumps(found) + chr(10))
        how = {"shard_bytes": 12 << 20, "threads": 2, "workers": workers if resume else 1}
        stream_fusion(parts[1:], parts[0], RULES["ties"], lambda name: ([0.5, 0.5], options), draft, **how)

generator = torch.Generator()
for member in range(3):
    generator.manual_seed(member)
    tensors = {f"{n}.w": torch.randn(1024, 700, generator=generator).bfloat16() for n in range(24)}
    save_file(tensors, folder / f"{member}.safetensors")
begin = time.perf_counter()
if os.fork() == 0:
    fuse("whole")
    os._exit(0)
assert os.wait()[1] == 0
seconds = time.perf_counter() - begin
(folder / "log").unlink()
random.seed(seed)
found = {"killed": 0, "whole": 0, "same": 0}

def compare():
    verify(folder / "out", hashes=True)
    parts = {path.name for path in (folder / "out").iterdir()}
    found["whole"] += 1
    found["same"] += parts == {path.name for path in (folder / "whole").iterdir()} and all(
        (folder / "whole" / name).read_bytes() == (folder / "out" / name).read_bytes() for name in parts
    )
    shutil.rmtree(folder / "out")

for _ in range(kills):
    child = os.fork()
    if child == 0:
        fuse("out", "the same")
        os._exit(0)
    time.sleep((0.02 + random.random()) * seconds * (1 if workers == 1 else 5))
    os.kill(child, signal.SIGKILL)
    found["killed"] += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if (folder / "out").exists():
        compare()
fuse("out", "the same")
compare()
found["left"] = [path.name for path in folder.iterdir() if ".tmp-" in path.name]
log = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
found |= {"resumed": sum(map(bool, log)), "begun": len(log)}
print(json.dumps(found))
"""


@pytest.mark.timeout(60 + 5 * KILLS)
@pytest.mark.parametrize("workers", [1, 2] if KILLS > 50 else [1])
def test_killed_at_random_moments(tmp_path: Path, workers: int) -> None:
    command = [sys.executable, "-c", KILLER, str(tmp_path), str(KILLS // workers), str(SEED), str(workers)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(found)
    assert found["same"] == found["whole"]
    assert found["left"] == []
    assert found["killed"] > 0
    assert found["resumed"] > 0


SHORT = """
import os, signal, sys
from pathlib import Path
from lamoid.fusion import output
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion
from lamoid.weights.durable import durable_folder
from lamoid.weights.read import open_tensors
output.JOURNAL_BYTES = 1 << 20
folder = Path(sys.argv[1])
note, notes = output.Output._note, []
def count(self, file):
    note(self, file)
    if self._draft.journal.safe:
        os.kill(os.getpid(), signal.SIGKILL)
output.Output._note = count
weights = [float(sys.argv[2]), 1.0]
parts = [Source(name, open_tensors(folder / name)) for name in ("0", "1")]
with durable_folder(folder / "out", resume=sys.argv[3]) as draft:
    stream_fusion(parts, None, RULES["linear"], lambda name: (weights, RULES["linear"].options()), draft)
"""


@pytest.mark.parametrize(("weight", "words"), [(1.0, "asked"), (3.0, "asked"), (1.0, "asked otherwise")])
def test_only_the_same_work_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: float, words: str
) -> None:
    """What was killed had the weights 1 and 1, in words "asked"; a change of either is another work."""
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        with durable_folder(tmp_path / str(seed)) as draft:
            write_tensors(draft, {f"{n}.w": torch.randn(256, 1000, generator=generator) for n in range(8)})
    killed = subprocess.run([sys.executable, "-c", SHORT, str(tmp_path), "1", "asked"], check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.glob(".out.tmp-*"))) == 1
    parts = [Source(str(seed), open_tensors(tmp_path / str(seed))) for seed in range(2)]
    rule, options = RULES["linear"], RULES["linear"].options()
    made = []
    fuse = Engine._fuse
    monkeypatch.setattr(Engine, "_fuse", lambda *given: made.append(given[1].name) or fuse(*given))
    with durable_folder(tmp_path / "out", resume=words) as draft:
        stream_fusion(parts, None, rule, lambda name: ([weight, 1.0], options), draft)
    is_same = weight == 1.0 and words == "asked"
    assert (len(set(made)) < 8) == is_same
    verify(tmp_path / "out", hashes=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "model.safetensors"}
    assert list(tmp_path.glob(".out.tmp-*")) == []
    expected = fuse_in_memory(parts, None, rule, lambda name: ([weight, 1.0], options))
    tensors = open_tensors(tmp_path / "out")
    assert all(torch.equal(tensors.tensor(name), tensor) for name, tensor in expected.items())
