"""What is masked has BERT's statistics on 10^6 tokens, and depends on a row and its key alone."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.loader import Windows
from lamoid.data.masking import MaskedView, Masking
from lamoid.data.word_starts import WordStarts
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

TEXT = "In the beginning, nobody knew anything; 42 years later it's (nearly) the same. Größe, naïve & co!\n"
ROWS, LENGTH = 7813, 128


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT * 3], kind="bytes", vocab=320, mask=True)


@pytest.fixture
def draws() -> np.random.Generator:
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    return np.random.default_rng(seed)


def some_windows(tokens: np.ndarray, mark: str, documents: np.ndarray | None = None) -> Windows:
    documents = np.ones_like(tokens) if documents is None else documents
    return Windows(tokens, documents, tuple(f"{mark}/{row}" for row in range(len(tokens))))


def near(count: int, trials: int, share: float) -> bool:
    """Within five and a half standard deviations of a binomial: once in 10^7 runs it is not."""
    return abs(count - trials * share) <= 5.5 * (trials * share * (1 - share)) ** 0.5


def test_shares_are_those_of_the_paper(tokenizer: Tokenizer, draws: np.random.Generator) -> None:
    tokens = draws.integers(0, tokenizer.vocab, (ROWS, LENGTH))
    example = MaskedView(LENGTH, Masking.of(tokenizer))(some_windows(tokens, str(draws.integers(10**9))))
    read, targets = example.batch.ids.numpy(), example.targets.numpy()
    chosen = targets != IGNORED
    is_control = np.isin(tokens, sorted(tokenizer.controls))
    assert example.batch.segments is None
    assert (targets[chosen] == tokens[chosen]).all()
    assert (read[~chosen] == tokens[~chosen]).all()
    assert not is_control[chosen].any()
    # Rounded at random to one of two whole numbers a row, the share spreads less than a binomial's.
    assert near(int(chosen.sum()), int((~is_control).sum()), 0.15)
    for row in range(0, ROWS, 500):
        assert abs(chosen[row].sum() - 0.15 * (~is_control[row]).sum()) < 1
    asked = int(chosen.sum())
    hidden, same = read[chosen] == tokenizer.mask, read[chosen] == tokens[chosen]
    ordinary = tokenizer.vocab - len(tokenizer.controls)
    assert near(int(hidden.sum()), asked, 0.8)
    assert near(int(same.sum()), asked, 0.1 + 0.1 / ordinary)
    others = read[chosen][~hidden & ~same]
    assert near(len(others), asked, 0.1 - 0.1 / ordinary)
    counts = np.bincount(others, minlength=tokenizer.vocab)
    assert not counts[sorted(tokenizer.controls)].any()
    # Chi-square over all ordinary tokens, and its normal approximation.
    found = np.delete(counts, sorted(tokenizer.controls))
    square = ((found - found.mean()) ** 2).sum() / found.mean()
    assert abs(square - (ordinary - 1)) < 6 * (2 * (ordinary - 1)) ** 0.5
    # No place is preferred.
    assert (np.abs(chosen.sum(0) / (~is_control).sum(0) - 0.15) < 0.15 * 0.2).all()


def test_whole_words_are_masked_whole(tokenizer: Tokenizer, draws: np.random.Generator) -> None:
    ids = np.array(tokenizer.encode(TEXT * (ROWS * LENGTH // 30)))
    tokens = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)[:ROWS]
    assert tokens.size > 10**6 - LENGTH
    masking = Masking.of(tokenizer, words=True)
    example = MaskedView(LENGTH, masking)(some_windows(tokens, str(draws.integers(10**9))))
    chosen = example.targets.numpy() != IGNORED
    assert masking.words is not None
    several = 0
    for row in range(0, len(tokens), 10):
        number = np.cumsum(masking.words.starts(tokens[row], np.ones(LENGTH, np.int64)))
        asked, sizes = np.bincount(number, chosen[row]), np.bincount(number)
        assert set(np.unique(asked[1:] / sizes[1:])) <= {0.0, 1.0}
        several += int((asked > 1).sum())
    assert several > 100
    # A word that would be too many is passed over, so at most the count is reached, and nearly always.
    assert 0.97 * 0.15 < chosen.mean() <= 0.15 + 1 / LENGTH
    asked = int(chosen.sum())
    assert near(int((example.batch.ids.numpy()[chosen] == tokenizer.mask).sum()), asked, 0.8)


def test_a_row_is_masked_alone_as_in_company_and_anew_in_each_epoch(tokenizer: Tokenizer) -> None:
    tokens = np.random.default_rng(0).integers(4, tokenizer.vocab, (6, 40))
    view = MaskedView(40, Masking.of(tokenizer))
    together, again = view(some_windows(tokens, "1/0")), view(some_windows(tokens, "1/1"))
    for row in range(6):
        alone = view(Windows(tokens[row : row + 1], np.ones((1, 40), np.int64), (f"1/0/{row}",)))
        assert alone.batch.ids[0].tolist() == together.batch.ids[row].tolist()
        assert alone.targets[0].tolist() == together.targets[row].tolist()
        assert alone.draws[0].tolist() == together.draws[row].tolist()
    assert together.targets.tolist() != again.targets.tolist()


def test_padding_is_not_masked_and_a_short_row_has_a_target(tokenizer: Tokenizer) -> None:
    tokens = np.full((300, 8), 5, np.int64)
    documents = np.zeros((300, 8), np.int64)
    documents[:, :2], documents[::2, 1] = 1, 2
    example = MaskedView(8, Masking.of(tokenizer))(some_windows(tokens, "pad", documents))
    chosen = example.targets.numpy() != IGNORED
    assert (chosen.sum(1) == 1).all()
    assert not chosen[:, 2:].any()
    assert chosen[:, 0].any()
    assert chosen[:, 1].any()
    assert example.batch.segments is not None
    assert example.batch.segments.tolist() == documents.tolist()


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    with pytest.raises(InputError, match=r"has no mask token.*tokenizer\.mask"):
        Masking.of(train_tokenizer(["abc"], kind="characters"))


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Join the tokens between word starts; only what has a letter or a digit in it, without what stands around."""
    ids = np.array(tokenizer.encode(text))
    starts = WordStarts.of(tokenizer).starts(ids, np.ones_like(ids))
    parts = np.split(ids, np.flatnonzero(starts)[1:])
    return [word for part in parts if (word := re.sub(r"[\W_]+", "", tokenizer.decode(part.tolist())))]


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_words_are_runs_of_letters_and_digits(kind: str) -> None:
    tokenizer = train_tokenizer([TEXT * 5], kind=kind, vocab=330)
    text = TEXT + "Ñandú and élan, ΑΒΓ-δ 3000 x1; don't"
    assert words_of(tokenizer, text) == re.findall(r"[^\W_]+", text)


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_an_ideograph_is_a_word_of_its_own(kind: str) -> None:
    """In bytes, too, of which each is a token here."""
    tokenizer = train_tokenizer(["abc 春眠不觉晓" * 3], kind=kind, vocab=257 if kind == "bytes" else 400)
    assert words_of(tokenizer, "春眠abc不觉 晓䶮") == ["春", "眠", "abc", "不", "觉", "晓", "䶮"]


@pytest.mark.parametrize("name", ["tok_bert/bert-base-uncased-vocab.txt", "tok_gpt2", "tok_t5", "tok_llama2"])
def test_words_of_real_vocabularies(name: str, data_folder: Path) -> None:
    """Counted over a real text; a vocabulary that lacks a character, or lower-cases, is held to the others."""
    tokenizer = Tokenizer.read(data_folder / name)
    text = (data_folder / "wiki_en_sample" / "wiki_demo.txt").read_text(encoding="utf-8")[:30_000]
    text = " ".join(re.findall(r"[ -~]+", text)).lower()
    ours, theirs = Counter(words_of(tokenizer, text)), Counter(re.findall(r"[^\W_]+", text))
    assert (ours - theirs).total() + (theirs - ours).total() <= 0.005 * theirs.total()
