"""What a whole fusion takes of anonymous memory, measuring and judging included, watched from within its process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

BOUND = 56 * 2**20
TEXTS = [f"document {n} has {n * n} letters, or not.\n" for n in range(60)]
WATCHED = """
import sys, threading
from pathlib import Path
import torch
from lamoid.freed_memory import give_freed_memory_back
from lamoid.recipes.fuse import fuse

folder, bound = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def run(name):
    fuse([folder / f"{name}{seed}" for seed in range(2)], on=folder / "on.jsonl", out=folder / name, memory=bound)

run("small")  # loads the libraries and what they keep
give_freed_memory_back()
before, peak, over = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not over.wait(0.001):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
run("large")
over.set()
watcher.join()
print(max(peak, anonymous()) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see anonymous memory")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_whole_fusion_stays_within_the_bound(tmp_path: Path, family: Any) -> None:
    (tmp_path / "on.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    tokenizer = train_tokenizer(TEXTS, vocab=280)
    for name, width, layers in (("small", 64, 1), ("large", 480, 6)):
        for seed in range(2):
            shape = Shape(family=family, width=width, layers=layers, heads=8, context=64)
            model = LanguageModel(shape.spec(tokenizer.vocab))
            initialise(model, seed)
            Llama(model, tokenizer).save(tmp_path / f"{name}{seed}")
    assert (tmp_path / "large0" / "model.safetensors").stat().st_size > BOUND
    command = [sys.executable, "-c", WATCHED, str(tmp_path), str(BOUND)]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout)
    assert 0 < taken <= BOUND
