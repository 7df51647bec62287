"""A token table that starts from word vectors: the file's rows to the bit, and the draw everywhere else."""

from pathlib import Path

import pytest
import torch

from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.recipes.assemble import assemble
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

SHAPE = Shape(width=16, layers=1, heads=2, context=32)
TEXT = "water and bread and salt " * 40


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], vocab=300)


def vectors(path: Path, words: list[str], width: int) -> dict[str, list[float]]:
    found = {word: [round(0.25 * place - number, 3) for place in range(width)] for number, word in enumerate(words)}
    lines = [" ".join([word, *map(str, numbers)]) for word, numbers in found.items()]
    path.write_text("\n".join(lines) + "\n")
    return found


def row(tokenizer: Tokenizer, word: str) -> int:
    [number] = tokenizer.encode(" " + word)
    return number


def test_words_in_both_have_the_files_rows_and_the_others_their_draw(tokenizer: Tokenizer, tmp_path: Path) -> None:
    given = vectors(tmp_path / "v.txt", ["bread", "absent-word", "salt"], 16)
    said: list[str] = []
    plain = assemble(SHAPE, tokenizer=tokenizer, seed=3).model
    started = assemble(SHAPE, tokenizer=tokenizer, seed=3, vectors=tmp_path / "v.txt", say=said.append).model
    ours, theirs = started.embedding.tokens.weight, plain.embedding.tokens.weight
    rows = [row(tokenizer, word) for word in ("bread", "salt")]
    assert torch.equal(ours[rows[0]], torch.tensor(given["bread"]))
    assert torch.equal(ours[rows[1]], torch.tensor(given["salt"]))
    others = [number for number in range(tokenizer.vocab) if number not in rows]
    assert torch.equal(ours[others], theirs[others])
    assert len(said) == 1
    assert said[0].startswith("2 of ")
    for (name, one), (_, other) in zip(started.named_parameters(), plain.named_parameters(), strict=True):
        assert name == "embedding.tokens.weight" or torch.equal(one, other)


def test_a_factored_table_takes_vectors_of_its_own_width(tokenizer: Tokenizer, tmp_path: Path) -> None:
    given = vectors(tmp_path / "v.txt", ["bread"], 5)
    base = SHAPE.spec(tokenizer.vocab)
    heads = {"next_token": type(base.heads["next_token"])()}
    factored = EmbeddingSpec(table=FactoredTableSpec(width=5))
    spec = ModelSpec(16, tokenizer.vocab, 32, factored, base.blocks, base.norm, heads)
    model = assemble(spec, tokenizer=tokenizer, vectors=tmp_path / "v.txt").model
    assert torch.equal(model.embedding.tokens.weight[row(tokenizer, "bread")], torch.tensor(given["bread"]))


def test_what_does_not_fit_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    vectors(tmp_path / "v.txt", ["bread"], 5)
    with pytest.raises(InputError, match="16"):
        assemble(SHAPE, tokenizer=tokenizer, vectors=tmp_path / "v.txt")
    with pytest.raises(InputError, match="tokenizer"):
        assemble(SHAPE.spec(300), vectors=tmp_path / "v.txt")
    with pytest.raises(InputError, match="absent"):
        assemble(SHAPE, tokenizer=tokenizer, vectors=tmp_path / "absent.txt")


def test_a_recipe_starts_from_vectors_and_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    vectors(tmp_path / "v.txt", ["bread", "salt", "stone"], 16)
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[model]\nwidth = 16\nlayers = 1\nheads = 2\ncontext = 16\nvectors = "v.txt"\n[tokenizer]\nkind = "bytes"\n'
        'vocab = 300\n[data]\ntrain = "text.txt"\n[training]\nsteps = 2\nbatch = 2\n[schedule]\nwarmup = 1\n'
        "[log]\ntensorboard = false\ncurve = false\n"
    )
    result = train(recipe, out=tmp_path / "run")
    assert any(remark.startswith("2 of ") and str(tmp_path / "v.txt") in remark for remark in result.remarks)
