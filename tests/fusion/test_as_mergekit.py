"""The linear rule beside mergekit's, both as a person would run them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import save_model

WEIGHTS = (2.0, 3.0, 5.0)


@pytest.mark.timeout(180)
@pytest.mark.skipif(find_spec("mergekit") is None, reason="mergekit is not installed")
@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 2.0**-23), ("bfloat16", 2.0**-8)])
def test_the_same_numbers_within_a_step_of_the_dtype(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str, rounding: float
) -> None:
    members = [str(tmp_path / f"member{seed}") for seed in range(3)]
    for seed, member in enumerate(members):
        model = LanguageModel(Shape(width=16, layers=2, heads=4, kv_heads=2, context=32, tied=False).spec(60))
        initialise(model, seed, deviation=0.3)
        with durable_folder(member) as draft:
            save_model(model.to(getattr(torch, dtype)), draft, generation=None, tokenizer_files={})
    models = [
        {"model": member, "parameters": {"weight": weight}} for member, weight in zip(members, WEIGHTS, strict=True)
    ]
    config = tmp_path / "mergekit.yaml"
    config.write_text(json.dumps({"models": models, "merge_method": "linear", "dtype": dtype}))
    command = [str(Path(sys.executable).parent / "mergekit-yaml"), str(config), str(tmp_path / "peer")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--no-copy-tokenizer"], check=True, capture_output=True, env=environment, timeout=150)
    weights = ",".join(map(str, WEIGHTS))
    assert run(["fuse", *members, "--weights", weights, "--out", str(tmp_path / "ours")]) == 0
    capsys.readouterr()
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "peer"))
    assert set(ours) == set(theirs)
    parts = [load_file(Path(member) / "model.safetensors") for member in members]
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        largest = torch.stack([part[name].double().abs() for part in parts]).amax(0)
        assert ((tensor.double() - theirs[name].double()).abs() <= 2 * rounding * largest).all()
