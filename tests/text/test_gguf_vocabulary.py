"""The vocabularies that llama.cpp's own converter wrote, made of the same tokenizers; others are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.text.gguf_vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary_of
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.weights.gguf_header import read_gguf

TEXT = ["the quick brown fox jumps over the lazy dog. " * 20, "Ünïcödé 你好 1234"]
Document = dict[str, Any]


def known(data_folder: Path, name: str) -> dict[str, Any]:
    """Give the tokenizer's part of a file that llama.cpp's converter wrote."""
    metadata = read_gguf(data_folder / "gguf_vocab" / name).metadata
    return {key.removeprefix("tokenizer.ggml."): value.data for key, value in metadata.items() if "tokenizer" in key}


def test_gpt_2_s(data_folder: Path) -> None:
    theirs = known(data_folder, "ggml-vocab-gpt-2.gguf")
    ours = vocabulary_of(Tokenizer.read(data_folder / "tok_gpt2"), 50257)
    assert (ours.model, ours.pre) == (theirs["model"], theirs["pre"])
    assert ours.tokens == theirs["tokens"]
    assert ours.types == theirs["token_type"]
    assert ours.merges == theirs["merges"]
    assert (ours.start, ours.end) == (theirs["bos_token_id"], theirs["eos_token_id"])
    assert ours.scores is None
    assert not ours.adds_start


def test_llama_2_s(data_folder: Path) -> None:
    theirs = known(data_folder, "ggml-vocab-llama-spm.gguf")
    ours = vocabulary_of(Tokenizer.read(data_folder / "tok_llama2"), 32000)
    assert (ours.model, ours.pre) == (theirs["model"], theirs["pre"])
    assert ours.tokens == theirs["tokens"]
    assert ours.types == theirs["token_type"]
    assert (ours.start, ours.end, ours.unknown) == (1, 2, 0)
    assert (ours.adds_start, ours.adds_end) == (theirs["add_bos_token"], theirs["add_eos_token"])
    assert ours.adds_space is True
    assert ours.scores is not None
    merged = [k for k, text in enumerate(ours.tokens) if ours.types[k] == NORMAL and len(text) > 1]
    by_ours, by_theirs = ({k: scores[k] for k in merged} for scores in (ours.scores, theirs["scores"]))
    assert len(merged) > 25_000
    assert _places(by_ours) == _places(by_theirs)


def _places(scores: dict[int, float]) -> dict[int, int]:
    """Give each token's place by its score, equal for equal scores."""
    place = {score: k for k, score in enumerate(sorted(set(scores.values())))}
    return {token: place[score] for token, score in scores.items()}


def test_unused_rows_and_a_template() -> None:
    tokenizer = train_tokenizer(TEXT, vocab=300)
    files = {**tokenizer.files(), "chat_template.jinja": b"{{ bos_token }}"}
    ours = vocabulary_of(Tokenizer(files), tokenizer.vocab + 2)
    assert ours.tokens[-2:] == [f"[PAD{tokenizer.vocab}]", f"[PAD{tokenizer.vocab + 1}]"]
    assert ours.types[-2:] == [UNUSED, UNUSED]
    assert ours.types[0] == CONTROL
    assert (ours.pre, ours.template, ours.adds_start) == ("gpt-2", "{{ bos_token }}", True)
    with pytest.raises(InputError, match=f"{tokenizer.vocab} tokens, the model knows 100"):
        vocabulary_of(tokenizer, 100)


def test_one_token_a_character_is_sentencepiece_without_merges() -> None:
    ours = vocabulary_of(train_tokenizer(TEXT, kind="characters", vocab=300), 300)
    assert (ours.model, ours.adds_space) == ("llama", False)
    assert "\u2581" in ours.tokens
    assert " " not in ours.tokens
    assert "reads the character '\u2581' as a space" in ours.remarks[0]
    with pytest.raises(InputError, match="lacks tokens for single bytes"):
        vocabulary_of(train_tokenizer(TEXT, kind="characters", vocab=300, closed=True), 300)


def changed(tokenizer: Tokenizer, change: Callable[[Document], None]) -> Tokenizer:
    document = json.loads(tokenizer.files()["tokenizer.json"])
    change(document)
    return Tokenizer({**tokenizer.files(), "tokenizer.json": json.dumps(document).encode()})


def test_added_tokens_are_the_user_s_or_control_by_their_look() -> None:
    tokenizer = train_tokenizer(TEXT, vocab=300)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    first = tokenizer.vocab

    def add(document: Document) -> None:
        for number, content in enumerate(["<tool>", "<|fim|>"], first):
            document["added_tokens"].append({"id": number, "content": content, **flags})

    ours = vocabulary_of(changed(tokenizer, add), first + 2)
    assert ours.types[-2:] == [USER_DEFINED, CONTROL]
    assert ours.tokens[-2:] == ["<tool>", "<|fim|>"]


def cut(*parts: Document) -> Callable[[Document], None]:
    return lambda document: document.update(pre_tokenizer={"type": "Sequence", "pretokenizers": list(parts)})


def split(pattern: str) -> Document:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.mark.parametrize(
    ("parts", "whole", "pre"),
    [
        ((split(QWEN), BYTES), False, "qwen2"),
        ((split(QWEN), BYTES), True, "qwen2"),
        ((split(QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), BYTES), True, "llama-bpe"),
        ((split(QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")), BYTES), False, "dbrx"),
        (({"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}), False, "smollm"),
    ],
)
def test_ways_of_cutting_words(parts: tuple[Document, ...], whole: bool, pre: str) -> None:
    tokenizer = changed(train_tokenizer(TEXT, vocab=300), cut(*parts))
    tokenizer = changed(tokenizer, lambda document: document["model"].update(ignore_merges=whole))
    assert vocabulary_of(tokenizer, 300).pre == pre


def normalizer(kind: str) -> Callable[[Document], None]:
    return lambda document: document.update(normalizer={"type": kind})


def post(**words: Any) -> Callable[[Document], None]:
    single = [{"Sequence": {"id": "A", "type_id": 0}}] + [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}] * 2
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}]
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    made = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    return lambda document: document.update(post_processor={**made, **words})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut(split(r"\w+"), BYTES), "in a way that llama.cpp has no name for"),
        (cut({"type": "Whitespace"}, BYTES), "Whitespace is not known to llama.cpp"),
        (cut({**BYTES, "add_prefix_space": True}), "puts a space before a text"),
        (normalizer("Lowercase"), "Lowercase is not done by llama.cpp"),
        (post(), r"template puts the tokens \[\] before a text and \[0, 0\] behind it"),
    ],
)
def test_byte_pairs_that_llama_cpp_lacks(change: Callable[[Document], None], said: str) -> None:
    with pytest.raises(InputError, match=said):
        vocabulary_of(changed(train_tokenizer(TEXT, vocab=300), change), 300)


def test_composing_is_a_remark() -> None:
    ours = vocabulary_of(changed(train_tokenizer(TEXT, vocab=300), normalizer("NFC")), 300)
    assert "NFC" in ours.remarks[0]


def test_taking_words_whole_that_merges_do_not_make() -> None:
    def stray(document: Document) -> None:
        document["model"]["vocab"]["thelazy"] = 300
        document["model"]["ignore_merges"] = True

    with pytest.raises(InputError, match="taken whole or not, unlike there"):
        vocabulary_of(changed(train_tokenizer(TEXT, vocab=300), stray), 301)


def test_another_kind_of_model(data_folder: Path) -> None:
    with pytest.raises(InputError, match=r"Unigram is not read by llama.cpp's LLaMA"):
        vocabulary_of(Tokenizer.read(data_folder / "tok_spm" / "test_model.model"), 40_000)


def stories(data_folder: Path) -> Tokenizer:
    return Tokenizer.read(data_folder / "stories260K" / "hf")


def drop(document: Document) -> None:
    merges = document["model"]["merges"]
    del merges[len(merges) // 2]


def test_sentencepiece_whose_merges_are_not_its_own(data_folder: Path) -> None:
    assert vocabulary_of(stories(data_folder), 512).model == "llama"
    cases = [
        (drop, "are pieces, and never merged"),
        (lambda d: d["model"].update(ignore_merges=True), "takes words whole"),
        (lambda d: d.update(normalizer={"type": "NFKC"}), "does more to a text than to mark its spaces"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace cuts words"),
    ]
    for change, said in cases:
        with pytest.raises(InputError, match=said):
            vocabulary_of(changed(stories(data_folder), change), 512)


def test_merges_of_one_piece_that_stand_apart(data_folder: Path) -> None:
    def apart(document: Document) -> None:
        merges = document["model"]["merges"]
        pieces = ["".join(merge) for merge in merges]
        double = next(piece for piece in pieces if pieces.count(piece) > 1)
        first, last = pieces.index(double), len(pieces) - 1
        merges.insert(last, merges.pop(first))

    with pytest.raises(InputError, match="do not stand together"):
        vocabulary_of(changed(stories(data_folder), apart), 512)


def test_a_space_before_a_text_by_metaspace(data_folder: Path) -> None:
    def metaspace(document: Document) -> None:
        document["normalizer"] = None
        document["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "first",
            "split": False,
        }

    ours = vocabulary_of(changed(stories(data_folder), metaspace), 512)
    assert ours.adds_space is True
    assert "begins with one too" in ours.remarks[0]
