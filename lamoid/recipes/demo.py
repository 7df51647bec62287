"""The demo, and the tutorial's first page: from text to a fused model that writes, in seven steps.

Read it from top to bottom: every step is one call that you can make yourself, in Python or on the command line.
"""

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

from lamoid import fuse, load, prepare, train, train_tokenizer
from lamoid.errors import InputError
from lamoid.recipes.demo_folder import find_earlier, remove
from lamoid.recipes.demo_report import Demo, Sample, judge, peak_bytes, save
from lamoid.recipes.demo_text import DOMAINS, gather, write
from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.training_run import check_run
from lamoid.weights.durable import durable_folder

SHAPE = {"family": "llama", "width": 128, "layers": 4, "heads": 4, "kv_heads": 2, "context": 128}
PROMPTS = ('The "with" statement', "Return the number of", "def __init__(self,")


def demo(
    *,
    out: Annotated[Path, "Folder for everything that the demo makes."] = Path("lamoid-demo"),
    steps: Annotated[int, "Training steps of the base; each expert gets a third as many."] = 460,
    text: Annotated[int, "Characters of text a domain, at most."] = 1_000_000,
    seed: Annotated[int, "The same seed gives the same table."] = 0,
    device: Annotated[str, "Where to compute: cpu, cuda."] = "cpu",
    overwrite: Annotated[bool, "Replace the folder of an earlier demo."] = False,
    progress: Progress | None = None,
) -> Demo:
    """Train a base model and three experts on Python's own documentation and code, fuse and compare them."""
    if steps < 3:
        raise InputError("steps", f"is {steps}, must be at least 3", "an expert trains a third as many")
    began = time.perf_counter()
    out = Path(out)
    earlier = find_earlier(out, overwrite=overwrite)
    check_run(read_recipe(training_recipe(SHAPE, out, steps, seed, device)))  # nothing is removed for a wrong word
    tell = progress.say if progress is not None else lambda line: None

    tell("1. Text: what Python's standard library says of itself, in three domains.")
    documents = gather(text)
    remove(earlier)
    write(documents, out / "text")
    files = {domain: [str(out / "text" / f"{domain}-train.jsonl")] for domain in DOMAINS}
    files["mixed"] = [str(out / "text" / f"{domain}-train.jsonl") for domain in DOMAINS]

    tell("2. A tokenizer, learnt from the training text, and that text as tokens.")
    learnt = train_tokenizer((each.text for domain in DOMAINS for each in documents[domain]["train"]), vocab=2048)
    with durable_folder(out / "tokenizer") as draft:
        for name, data in learnt.files().items():
            draft.write(name, data)
    for name in files:
        prepare(files[name], tokenizer=out / "tokenizer", out=out / "shards" / name, progress=progress)

    tell("3. A base model, trained on all three domains.")
    recipe = training_recipe(SHAPE, out / "shards" / "mixed", steps, seed, device)
    base = train(recipe, out=out / "base", progress=progress).model

    tell("4. One expert a domain: each goes on from the base with text of its own.")
    experts = []
    for domain in DOMAINS:
        recipe = training_recipe({"from": base}, out / "shards" / domain, steps // 3, seed, device)
        experts.append(train(recipe, out=out / domain, progress=progress).model)

    tell("5. The experts fused: the lower an expert's measured loss, the higher its weight.")
    mixed = out / "text" / "mixed-weigh.jsonl"
    fused = out / "fused"
    fusion = fuse(experts, on=mixed, out=fused, base=Path(base), device=device, seed=seed, progress=progress)

    tell("6. All of them judged on text of each domain that none has seen.")
    models = [base, *experts, str(fused)]
    judged = judge(models, out / "text", device=device, seed=seed, progress=progress)

    tell("7. A few lines from each.")
    samples = [sample for model in models for sample in _write_lines(model, device, seed)]

    seconds, go_on = time.perf_counter() - began, _go_on(models, mixed)
    return save(Demo(str(out), seed, models, judged, fusion, samples, seconds, peak_bytes(), go_on))


def training_recipe(model: dict[str, Any], shards: Path, steps: int, seed: int, device: str) -> dict[str, Any]:
    """Give what a recipe in TOML would say; an expert goes on from a trained model, so it takes smaller steps."""
    is_new = "from" not in model
    recipe = {
        "model": model,
        "data": {"train": str(shards)},
        "training": {"steps": steps, "batch": 16},
        "optimizer": {
            "kind": "muon",
            "learning_rate": 0.02 if is_new else 0.01,
            "rest": {"learning_rate": 0.004 if is_new else 0.002},
        },
        "schedule": {"warmup": min(20, steps // 4)},
        "checkpoint": {"every": 0},
        "seed": seed,
        "device": device,
    }
    return {**recipe, "tokenizer": {"from": str(shards)}} if is_new else recipe


def _write_lines(model: str, device: str, seed: int) -> list[Sample]:
    """Load a model and let it go on with each prompt."""
    llama = load(model, device=device)
    texts = llama.generate(PROMPTS, max_tokens=24, temperature=0.7, top_k=40, seed=seed)
    return [Sample(model, prompt, text) for prompt, text in zip(PROMPTS, texts, strict=True)]


def _go_on(models: list[str], mixed: Path) -> list[str]:
    """Give commands to try next, on what lies there now; what they make lies beside it."""
    base, *experts, fused = models
    out = Path(fused).parent
    place = out if out.name not in ("", "..") else out.resolve()
    sharper = str(place.with_name(f"{place.name}-sharper"))
    code = str(mixed.with_name("code-judge.jsonl"))
    prompt = ["--prompt", "def main(", "--max-tokens", "100", "--temperature", "0.7", "--seed", "1"]
    commands = (
        ["generate", fused, *prompt],
        ["fuse", *experts, "--on", str(mixed), "--out", sharper, "--tau", "0.1", "--base", base],
        ["evaluate", base, fused, "--on", code],
        ["info", fused],
    )
    return [shlex.join(["lamoid", *words]) for words in commands]
