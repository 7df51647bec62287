"""Recipes: every error names its key as a dotted path, overrides reach everywhere, the written form reads back."""

import tomllib
from pathlib import Path

import pytest
import tomli_w

from lamoid.errors import InputError
from lamoid.recipes.read_recipe import read_recipe, recipe_tree
from lamoid.recipes.training_recipe import BytesTokenizer, FolderModel, ShapeModel
from lamoid.training.optimizers import AdamWSpec, MuonSpec

EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"


def make(**tables: object) -> dict:
    return {
        "model": {"width": 16},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "data": {"train": "a.txt"},
        "training": {"steps": 10},
        **tables,
    }


def test_defaults_and_choices() -> None:
    recipe = read_recipe(make())
    assert isinstance(recipe.model, ShapeModel)
    assert recipe.tokenizer == BytesTokenizer(vocab=300)
    assert recipe.optimizer == AdamWSpec()
    assert recipe.data.train == (str(Path("a.txt").resolve()),)
    muon = read_recipe(make(optimizer={"kind": "muon", "rest": {"learning_rate": 0.003}})).optimizer
    assert muon == MuonSpec(rest=AdamWSpec(learning_rate=0.003))
    tree = make(model={"from": "there"})
    del tree["tokenizer"]
    assert read_recipe(tree).model == FolderModel(from_=str(Path("there").resolve()))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_written_recipe_reads_back_equal(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    copy = tmp_path / "copy.toml"
    copy.write_text(tomli_w.dumps(recipe_tree(recipe)))
    assert read_recipe(copy) == recipe
    assert read_recipe(recipe) == recipe


def test_paths_in_a_file_are_taken_from_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(make(data={"train": ["a.txt", "/b/c.txt"], "validation": "../v.txt"})))
    data = read_recipe(path).data
    assert data.train == (str(tmp_path / "a.txt"), "/b/c.txt")
    assert data.validation == (str(tmp_path.parent / "v.txt"),)
    assert read_recipe(path, ["data.train=x.txt"]).data.train == (str(Path("x.txt").resolve()),)


def test_overrides_are_toml_values_or_texts() -> None:
    overrides = [
        "optimizer.learning_rate=1e-4",
        "schedule.decay=linear",
        "evaluation.keep_best=true",
        "optimizer.betas=[0, 0.5]",
    ]
    recipe = read_recipe(make(), overrides)
    assert recipe.optimizer == AdamWSpec(learning_rate=1e-4, betas=(0.0, 0.5))
    assert recipe.schedule.decay == "linear"
    assert recipe.evaluation.keep_best
    assert read_recipe(recipe, ["seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rate=1", "recipe: optimiser: is no key .* Perhaps you mean optimizer"),
        (
            "optimizer.learning_rat=1",
            "recipe: optimizer.learning_rat: is no key .* Perhaps you mean optimizer.learning_rate",
        ),
        ("steps=5", "recipe: steps: is no key .* Perhaps you mean training.steps"),
        ("model.layer=3", "recipe: model.layer: .* Perhaps you mean model.layers"),
        ("zzz=1", "recipe: zzz: .* Known here: .*checkpoint.* data"),
        ("optimizer.learning_rate=0", "recipe: optimizer.learning_rate: is 0"),
        ("optimizer.learning_rate=-1", "recipe: optimizer.learning_rate: is -1"),
        ("optimizer.learning_rate=nan", "recipe: optimizer.learning_rate: is nan"),
        ("optimizer.betas=[0.9, 1.0]", "recipe: optimizer.betas: is 1"),
        ("training.steps=0", "recipe: training.steps: is 0, must lie from 1"),
        ("training.steps=many", "recipe: training.steps: is 'many', must be a whole number. .* training.steps = "),
        ("training.batch=0", "recipe: training.batch: is 0"),
        (
            "training.accumulation=1.5",
            "recipe: training.accumulation: is 1.5, must be a whole .*training.accumulation = 1",
        ),
        ("model.width=many", "recipe: model.width: is 'many', must be a whole number. .* model.width = 256"),
        ("optimizer.betas=3", r"recipe: optimizer.betas: is 3, must be a list.*optimizer.betas = \[0.9, 0.95\]"),
        ("data.train=3", r"recipe: data.train: is 3, must be a list. .* data.train = \["),
        ("data.train=[3]", r"recipe: data.train\[0\]: must be a text. Write for instance .text"),
        ("moves=3", r"recipe: moves: is 3, must be a list. Write a table \[\[moves\]\]"),
        ("device=3", "recipe: device: is 3, must be a text. .* device = .cpu"),
        ("training=3", r"recipe: training: is 3, must be a table. Write a table \[training\]"),
        ("average.kind=mean", "recipe: average.kind: is 'mean', which is not known. Choose one of ema, last"),
        ("objective=guess", "recipe: objective.kind: is 'guess'"),
        ("training.clip=inf", "recipe: training.clip: is inf"),
        ("schedule.warmup=10", "recipe: schedule.warmup: is 10, not less than training.steps 10"),
        ("model.family=bart", "recipe: model.family: .* [Cc]hoose one of .*bert.*"),
        ("tokenizer.kind=words", "recipe: tokenizer.kind: .* Choose one of bytes, characters, folder"),
        ("checkpoint.keep=1", "recipe: checkpoint.keep: is 1, must lie from 2"),
        ("data.hold_out=1", "recipe: data.hold_out: is 1"),
        ("data.train=[]", "recipe: data.train: is empty"),
        ("device=tpu", "recipe: device: is 'tpu'"),
        ("precision=bfloat16", "recipe: precision: is no key"),
        ("dtype=float16", "recipe: dtype: is 'float16', which is for CUDA devices"),
        ("dtype=float8", "recipe: dtype: .* Choose one of bfloat16, float16, float32"),
        ('model={from = "x"}', "recipe: tokenizer: is given, but a model to go on from brings its own"),
        ("seed", "--set seed: is not of the form"),
        ("training.steps.x=1", "--set training.steps.x=1: goes through 'steps'"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(make(), [override])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('train="b", weight="much"', "recipe: data.sources.de.weight: is 'much', must be a number"),
        ('train="b", weight=-1', "recipe: data.sources.de.weight: is -1"),
        ('train="b", weigth=1', "recipe: data.sources.de.weigth: .* Perhaps you mean data.sources.de.weight"),
        ("weight=1", "recipe: data.sources.de.train: is empty"),
    ],
)
def test_what_is_wrong_in_a_mixture_is_named_by_its_source(table: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(make(), [f'data={{sources={{en={{train="a", weight=2}}, de={{{table}}}}}}}'])


def test_missing_tables_are_named() -> None:
    for table in ("model", "data", "training"):
        tree = make()
        del tree[table]
        with pytest.raises(InputError, match=f"recipe: {table}: is missing"):
            read_recipe(tree)
    with pytest.raises(InputError, match=r"tokenizer.kind: is missing.* bytes, characters, folder"):
        read_recipe(make(tokenizer={"vocab": 300}))


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.toml: No such file"):
        read_recipe(tmp_path / "nothing.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_recipe(tmp_path)
    path = tmp_path / "recipe.toml"
    for data in (b"[model", b"\xff\xfe", b"a = 1\na = 2"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"recipe.toml: is not TOML"):
            read_recipe(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(InputError, match="is larger than"):
        read_recipe(path)


def test_the_shakespeare_recipes_take_as_many_steps_as_nanogpt() -> None:
    for path in EXAMPLES.glob("shakespeare_*.toml"):
        assert tomllib.loads(path.read_text())["training"]["steps"] == 2000


def test_an_objective_of_which_the_kind_alone_is_said_takes_overrides() -> None:
    short = {**make(), "objective": "masked"}
    wanted = read_recipe({**make(), "objective": {"kind": "masked", "share": 0.3}})
    assert read_recipe(short, ["objective.share=0.3"]) == wanted
    assert read_recipe(make(), ["objective=masked", "objective.share=0.3"]) == wanted
    assert read_recipe({**make(), "objective": "causal"}, ["objective.kind=masked", "objective.share=0.3"]) == wanted
    assert short["objective"] == "masked", "what was given is left as it was"
