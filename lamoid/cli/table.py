"""The commands: one row each. A new command is one recipe and one row here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A row: ``function`` is where the recipe is found, ``module:name``; it is imported when the command is called.

    A name may have two words, of which the first is a key of ``GROUPS``.
    """

    name: str
    group: str
    function: str
    summary: str
    example: str


COMMANDS = (
    Command(
        "demo",
        "See it work",
        "lamoid.recipes.demo:demo",
        "Train, fuse, compare and use small models on text that is on every machine.",
        "lamoid demo --out first-steps",
    ),
    Command(
        "tokenizer",
        "Make",
        "lamoid.recipes.tokenizer:tokenizer",
        "Train a tokenizer from text.",
        "lamoid tokenizer books/*.txt --out tokenizer --vocab 4096",
    ),
    Command(
        "clean",
        "Make",
        "lamoid.recipes.clean:clean",
        "Clean text: repair it, filter it, drop what comes twice, and say what was dropped.",
        "lamoid clean pages/*.txt.gz --out clean.jsonl --set length.least_words=50",
    ),
    Command(
        "prepare",
        "Make",
        "lamoid.recipes.prepare:prepare",
        "Turn text into token shards to train on.",
        "lamoid prepare books/*.txt --tokenizer tokenizer --out shards",
    ),
    Command(
        "train",
        "Make",
        "lamoid.recipes.train:train",
        "Train a model by a recipe, or go on with one.",
        "lamoid train recipe.toml --set optimizer.learning_rate=1e-3",
    ),
    Command(
        "tune",
        "Make",
        "lamoid.recipes.tune:tune",
        "Search settings of a recipe within a budget of runs or hours.",
        "lamoid tune recipe.toml --search optimizer.learning_rate=1e-4..1e-1 --runs 20",
    ),
    Command(
        "adapt",
        "Make",
        "lamoid.recipes.adapt:adapt",
        "Train a model further on a new domain; show what it gains and what it forgets.",
        "lamoid adapt base --to 'law/*.txt' --old 'books/*.txt' --out law --methods full --methods fused",
    ),
    Command(
        "multitask",
        "Make",
        "lamoid.recipes.multitask:multitask",
        "Train models of several tasks that share modules, by a recipe.",
        "lamoid multitask reviews.toml --out reviews",
    ),
    Command(
        "fuse",
        "Make",
        "lamoid.recipes.fuse:fuse",
        "Fuse several models into one, weighed by their measured losses.",
        "lamoid fuse law medicine --on mixed.txt --out both --base base",
    ),
    Command(
        "statistics",
        "Make",
        "lamoid.recipes.fusion_statistics:statistics",
        "Measure on text what fusing by the rules fisher and regmean needs of a model.",
        "lamoid statistics law --on law.txt --kind gram --out law-gram",
    ),
    Command(
        "adapter merge",
        "Make",
        "lamoid.recipes.adapter_merge:adapter_merge",
        "Make one model of a model and its adapters.",
        "lamoid adapter merge base law-adapter --out law",
    ),
    Command(
        "adapter info",
        "Measure",
        "lamoid.recipes.adapter_info:adapter_info",
        "Show what an adapter is, and of which modules.",
        "lamoid adapter info law-adapter",
    ),
    Command(
        "evaluate",
        "Measure",
        "lamoid.recipes.evaluate:evaluate",
        "Measure models on text: nats a token, perplexity, bits a byte.",
        "lamoid evaluate base both --on held-out.txt",
    ),
    Command(
        "runs",
        "Measure",
        "lamoid.recipes.runs:runs",
        "List training runs, compare them, and draw their losses.",
        "lamoid runs runs/first runs/second --html runs.html",
    ),
    Command(
        "info",
        "Measure",
        "lamoid.recipes.info:show",
        "Show a model's parts, parameters, FLOPs and cache bytes; or what a GGUF file holds.",
        "lamoid info both",
    ),
    Command(
        "draw",
        "Measure",
        "lamoid.recipes.draw:draw",
        "Draw a model from its description: SVG, PNG or Mermaid.",
        "lamoid draw model.toml --out model.svg",
    ),
    Command(
        "spec check",
        "Measure",
        "lamoid.recipes.spec_check:spec_check",
        "Say whether descriptions of models can be built, and where they cannot.",
        "lamoid spec check model.toml",
    ),
    Command(
        "spec schema",
        "Measure",
        "lamoid.recipes.spec_schema:spec_schema",
        "Write the JSON schema of descriptions, for editors.",
        "lamoid spec schema --out spec.schema.json",
    ),
    Command(
        "export",
        "Use",
        "lamoid.recipes.export:export",
        "Write a model as a GGUF file, for llama.cpp.",
        "lamoid export both --out both.gguf --type q8_0",
    ),
    Command(
        "generate",
        "Use",
        "lamoid.recipes.generate:generate",
        "Let a model go on with a text.",
        'lamoid generate both --prompt "Once upon a time" --max-tokens 100 --temperature 0.8 --seed 1',
    ),
)

GROUPS = {
    "adapter": "Merge adapters, or show what they are.",
    "spec": "Check descriptions of models, or write their schema.",
}
"""What the first word of a command of two words stands for."""
