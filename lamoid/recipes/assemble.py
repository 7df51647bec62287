"""Makes a fresh model from a description."""

from collections.abc import Callable
from pathlib import Path

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec, read_spec
from lamoid.errors import InputError
from lamoid.recipes.room import check_room
from lamoid.recipes.word_vectors import start_from_vectors
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.llama import Llama


def assemble(
    spec: ModelSpec | Shape | str | Path,
    *,
    tokenizer: Tokenizer | str | Path | None = None,
    seed: int = 0,
    vectors: str | Path | None = None,
    say: Callable[[str], object] | None = None,
) -> Llama:
    """Build a model and draw its weights, in float32, from ``seed``.

    ``spec`` is the whole description, its ``.json`` or ``.toml`` file, or a family's ``Shape``, which takes its
    vocabulary from the tokenizer. ``tokenizer`` may be a folder or file. ``vectors``, a file of word2vec or GloVe,
    gives the token table the rows of the words that are in both; ``say`` is told how many. Raises ``InputError`` for
    what does not fit.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = Tokenizer.read(Path(tokenizer))
    if isinstance(spec, str | Path):
        spec = read_spec(spec)
    elif isinstance(spec, Shape):
        if tokenizer is None:
            raise InputError("tokenizer", "is not given, so the vocabulary is unknown", "give one, or a whole spec")
        spec = spec.spec(tokenizer.vocab)
    elif not isinstance(spec, ModelSpec):
        raise InputError("spec", f"is a {type(spec).__name__}", "give a ModelSpec, a Shape or a file's path")
    if tokenizer is not None and tokenizer.vocab > spec.vocab:
        problem = f"is {spec.vocab}, the tokenizer has {tokenizer.vocab} tokens"
        raise InputError("spec: vocab", problem, f"set it to at least {tokenizer.vocab}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError("seed", f"is {seed!r}, must be a whole number from 0 to 2^63 - 1", "take any such number")
    check_room(spec.parameters(), 4, "it in float32")
    model = LanguageModel(spec)
    initialise(model, seed)
    if vectors is not None:
        remark = start_from_vectors(model, tokenizer, Path(vectors))
        if say is not None:
            say(remark)
    return Llama(model, tokenizer)
