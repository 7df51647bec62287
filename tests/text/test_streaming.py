"""Streamed text adds up to the whole, and no piece holds half a character."""

import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

CORPUS = ["Once upon a time there was a fox, 中文, naïve. The end.\n" * 10]
WORDS = st.lists(st.sampled_from(["Once", " upon", " ", "a", "中", "👩‍👧", "é", "\n", "\0", "ب"]), max_size=12)

PLACES = {
    "stories": "stories260K/hf",
    "gpt2": "tok_gpt2",
    "llama": "tok_llama2",
    "t5": "tok_t5",
    "bert": "tok_bert/bert-base-uncased-vocab.txt",
    "unigram": "tok_spm/test_model.model",
}


@pytest.fixture(scope="module", params=["bytes", "characters", "pieces", *PLACES])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param in PLACES:
        return Tokenizer.read(request.getfixturevalue("data_folder") / PLACES[request.param])
    if request.param == "pieces":
        return words()
    return train_tokenizer(CORPUS, kind=request.param, vocab=330)


def words() -> Tokenizer:
    """A WordPiece vocabulary, whose decoder puts spaces between words."""
    vocabulary = {"[UNK]": 0, "once": 1, "up": 2, "##on": 3, "a": 4, ".": 5, "'": 6, "##s": 7}
    document = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    }
    return Tokenizer({"tokenizer.json": json.dumps(document).encode()})


def streamed(tokenizer: Tokenizer, ids: list[int], before: list[int]) -> list[str]:
    stream = tokenizer.stream(before)
    return [*(stream.push(i) for i in ids), stream.finish()]


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_any_ids_add_up_to_their_decoding(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab + 3), max_size=30))
    assert "".join(streamed(tokenizer, ids, [])) == tokenizer.decode(ids)


@settings(deadline=None, max_examples=80)
@given(first=WORDS, second=WORDS)
def test_text_behind_a_prompt_is_what_the_whole_adds(tokenizer: Tokenizer, first: list[str], second: list[str]) -> None:
    prompt, new = tokenizer.encode("".join(first)), tokenizer.encode("".join(second))
    pieces = streamed(tokenizer, new, prompt)
    whole = tokenizer.decode([*prompt, *new])
    assert tokenizer.decode(prompt) + "".join(pieces) == whole
    assert tokenizer.continuation(prompt, new) == "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_of_several_tokens_comes_whole(data_folder: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / "tok_gpt2")
    ids = tokenizer.encode("👩a")
    stream = tokenizer.stream()
    assert len(ids) > 2
    assert [p for i in ids if (p := stream.push(i))] == ["👩", "a"]


def test_the_space_before_the_first_new_word_stays(data_folder: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / "stories260K/hf")
    prompt = tokenizer.prompt("Once upon")
    whole = tokenizer.prompt("Once upon a time")
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(whole[len(prompt) :]) == "a time"
    assert tokenizer.continuation(prompt, whole[len(prompt) :]) == " a time"


def test_half_a_character_at_the_end_becomes_the_replacement_character(data_folder: Path) -> None:
    for place in ("tok_gpt2", "stories260K/hf"):
        tokenizer = Tokenizer.read(data_folder / place)
        ids = tokenizer.encode("a👩")[:-1]
        assert "".join(streamed(tokenizer, ids, [])) == tokenizer.decode(ids)
        assert "\ufffd" in tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_control_tokens_that_are_shown_stand_where_they_were_written(kind: Literal["bytes", "characters"]) -> None:
    tokenizer = train_tokenizer(CORPUS, kind=kind, vocab=330, sentinels=3)
    first, second, third = tokenizer.sentinels
    fox, half = tokenizer.encode(" fox"), tokenizer.encode("\u4e2d")[:1] if kind == "bytes" else []
    ids = [first, *fox, *half, second, *fox, third]
    stream = tokenizer.stream(shown={first, second})
    shown = "".join(map(stream.push, ids)) + stream.finish()
    broken = "\ufffd" if half and tokenizer.decode(half) == "\ufffd" else tokenizer.decode(half)
    assert shown == f"<extra_id_0> fox{broken}<extra_id_1> fox"
    plain = tokenizer.stream()
    assert "<" not in "".join(map(plain.push, ids)) + plain.finish()
