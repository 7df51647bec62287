"""Whole models fused by mergekit 0.1.5 from its YAML, and by our rules from the same folders."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, fuse_in_memory
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, save_model

WEIGHTS = [0.6, 0.3]
METHODS: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"lambda": 0.7},
    "ties": {"density": 0.4},
    "breadcrumbs_ties": {"density": 0.5, "gamma": 0.05},
    "model_stock": {},
    "nuslerp": {},
    "sce": {},
}
MERGE = """
import sys
from mergekit.scripts.run_yaml import main
for name in sys.argv[2:]:
    folder = sys.argv[1]
    main([f"{folder}/{name}.yaml", f"{folder}/{name}", "--no-copy-tokenizer"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two models near it, and what mergekit makes of them by each method, in one process."""
    if find_spec("mergekit") is None:
        pytest.skip("mergekit is not installed")
    folder = tmp_path_factory.mktemp("mergekit")
    names = ["base", "member0", "member1"]
    model = LanguageModel(Shape(width=16, layers=2, heads=4, kv_heads=2, context=32, tied=False).spec(60))
    for seed, name in enumerate(names):
        if not seed:
            initialise(model, 0, deviation=0.3)
        else:
            generator = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        with durable_folder(folder / name) as draft:
            save_model(model, draft, generation=None, tokenizer_files={})
    members = [
        {"model": str(folder / name), "parameters": {"weight": weight}}
        for name, weight in zip(names[1:], WEIGHTS, strict=True)
    ]
    for method, parameters in METHODS.items():
        models = members if RULES[method].weighted else [{"model": member["model"]} for member in members]
        recipe = {
            "merge_method": method,
            "base_model": str(folder / "base"),
            "models": models,
            "parameters": parameters,
            "dtype": "float32",
        }
        (folder / f"{method}.yaml").write_text(json.dumps(recipe))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MERGE, str(folder), *METHODS]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=170)
    return folder


@pytest.mark.timeout(200)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_model(method: str, merged: Path) -> None:
    rule = RULES.get(f"{method}@mergekit", RULES[method])
    sources = [Source(name, open_folder(merged / name).tensors) for name in ("member0", "member1")]
    base = Source("base", open_folder(merged / "base").tensors)
    options = msgspec.convert(METHODS[method], rule.options)
    ours = fuse_in_memory(sources, base, rule, lambda name: (WEIGHTS, options))
    theirs = load_file(merged / method / "model.safetensors")
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype == torch.float32
        # They compute in float32, we in float64.
        bound = 8 * 2.0**-24 * float(base_of(base, name).abs().max())
        assert float((tensor - theirs[name]).abs().max()) <= bound
        assert not tensor.equal(base_of(base, name))


def base_of(base: Source, name: str) -> torch.Tensor:
    info = base.tensors[name]
    flat = torch.empty(info.elements, dtype=info.dtype)
    base.tensors.read_into(name, 0, flat)
    return flat.view(info.shape)
