"""Word vectors by the format's law: what is written in text or binary is what is read, and nothing else passes."""

import gzip
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.text.vectors import read_vectors, vocabulary_words

VECTORS = {"the": [1.0, -2.5, 1e-3], "中文": [0.5, 0.25, -0.125], ". . .": [3.0, 4.0, 5.0], "fox": [7.0, 8.0, 9.0]}


def text_file(vectors: dict[str, list[float]], *, header: bool = False) -> bytes:
    lines = [f"{word} " + " ".join(map(repr, numbers)) for word, numbers in vectors.items()]
    return "\n".join([f"{len(vectors)} 3", *lines] if header else lines).encode() + b"\n"


def binary_file(vectors: dict[str, list[float]]) -> bytes:
    words = (word.encode() + b" " + struct.pack("<3f", *numbers) + b"\n" for word, numbers in vectors.items())
    return b"%d 3\n" % len(vectors) + b"".join(words)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["glove.txt", "word2vec.txt", "word2vec.bin"])
def test_the_vectors_asked_for_are_read(form: str, packed: bool, tmp_path: Path) -> None:
    vectors = {word: numbers for word, numbers in VECTORS.items() if form != "word2vec.bin" or " " not in word}
    data = binary_file(vectors) if form.endswith(".bin") else text_file(vectors, header=form.startswith("word2vec"))
    path = tmp_path / (form + (".gz" if packed else ""))
    path.write_bytes(gzip.compress(data) if packed else data)
    asked = {"fox": 5, "the": 2, "absent": 9, "中文": 70}
    rows, ids = read_vectors(path, asked, 3)
    assert ids.tolist() == [2, 70, 5]
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.tensor([VECTORS["the"], VECTORS["中文"], VECTORS["fox"]]))


def test_a_word_with_spaces_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(text_file(VECTORS).replace(b"\n", b" \r\n"))
    rows, ids = read_vectors(path, {". . .": 4}, 3)
    assert (rows.tolist(), ids.tolist()) == ([VECTORS[". . ."]], [4])


def test_the_first_of_two_counts_and_what_nobody_asked_for_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(b"a 1 2\n\xff\xfe nan x\na 3 4\nb 5 6\nbroken\n")
    rows, ids = read_vectors(path, {"a": 0, "b": 1}, 2)
    assert (rows.tolist(), ids.tolist()) == ([[1, 2], [5, 6]], [0, 1])


@settings(deadline=None, max_examples=60)
@given(numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_every_float_comes_back(numbers: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("floats") / "v.txt"
    path.write_text("x " + " ".join(map(repr, numbers)) + "\n")
    rows, _ = read_vectors(path, {"x": 0}, len(numbers))
    assert rows[0].tolist() == numbers


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("v.txt", b"", "has none of the 2 words"),
    "none": ("v.txt", b"x 1 2\n", "has none of the 2 words"),
    "narrow": ("v.txt", b"x 1 2\ny 1\n", "line 2: has 1 numbers behind a word, not 2"),
    "header-width": ("v.txt", b"3 300\na 1 2\n", "line 1: its vectors have 300 numbers, not 2"),
    "header-count": ("v.txt", b"3 2\na 1 2\n", "promises 3 words in line 1 and has 1"),
    "wide": ("v.txt", b"x 1 2\na 1 2 3 4\n", "has none of the 2 words"),  # the word is then `a 1 2`
    "text": ("v.txt", b"x 1 2\na 1 two\n", "line 2: number 2 is b'two', no number"),
    "gap": ("v.txt", b"a 1  2\n", "has none of the 2 words"),
    "underscore": ("v.txt", b"a 1 1_0\n", "line 1: number 2 is b'1_0', no number"),
    "nan": ("v.txt", b"a 1 nan\n", "line 1: number 2 is nan"),
    "infinite": ("v.txt", b"a -inf 1\n", "line 1: number 1 is -inf"),
    "overflow": ("v.txt", b"a 1 1e39\n", "line 1: number 2 is 1e\\+39, beyond what a 32-bit float holds"),
    "no-lines": ("v.txt", b"x" * 10**7, "line 1: is longer than 4224 bytes"),
    "blank-line": ("v.txt", b"x 1 2\n\na 1 2\n", "line 2: has 0 numbers"),
    "zeros": ("v.txt", b"\0" * 10**5, "line 1: is longer"),
    "gzip-cut": ("v.txt.gz", gzip.compress(b"x 1 2\n" * 9999)[:-20], "reading failed"),
    "gzip-broken": ("v.txt.gz", b"\x1f\x8b" + b"\x08" + bytes(range(100)), "reading failed"),
    "binary-header": ("v.bin", b"hello\n", "line 1: must hold the number of words"),
    "binary-no-header": ("v.bin", b"", "line 1: must hold the number of words"),
    "binary-width": ("v.bin", b"1 3\na ", "line 1: its vectors have 3 numbers, not 2"),
    "binary-cut": ("v.bin", b"2 2\na " + struct.pack("<2f", 1, 2) + b"b 12", "word 2: ends after 2 of 8 bytes"),
    "binary-cut-word": ("v.bin", b"99999999999 2\nx", "word 1: ends inside a word"),
    "binary-long-word": ("v.bin", b"1 2\n" + b"x" * 10**6, "word 1: ends inside a word, or the word is over 4096"),
    "binary-nan": ("v.bin", b"1 2\na " + struct.pack("<2f", 1, float("nan")), "word 1: number 2 is nan"),
    "binary-more": ("v.bin", b"1 2\nx " + struct.pack("<2f", 1, 2) + b"\nmore", "has more behind the 1 words"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_file_is_refused(case: str, tmp_path: Path) -> None:
    name, data, match = BAD[case]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        read_vectors(path, {"a": 0, "b": 1}, 2)
    assert caught.value.culprit.startswith(str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, match in (
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "no", "cannot be opened"),
    ):
        with pytest.raises(InputError, match=match):
            read_vectors(path, {"a": 0}, 2)
    for width in (0, -1, 10**9):
        with pytest.raises(InputError, match=f"width: {width} is not from 1 to 65536"):
            read_vectors(tmp_path / "no", {"a": 0}, width)


def test_words_of_a_vocabulary(data_folder: Path) -> None:
    llama = Tokenizer.read(data_folder / "tok_llama2")
    words, pieces = vocabulary_words(llama), llama.pieces()
    assert pieces[words["the"]] == "▁the"
    assert pieces[words["中"]] == "中"
    assert not {"<s>", "</s>", "<unk>", "", "▁"} & words.keys()
    gpt2 = Tokenizer.read(data_folder / "tok_gpt2")
    words, pieces = vocabulary_words(gpt2), gpt2.pieces()
    assert (pieces[words["the"]], pieces[words["é"]], "<|endoftext|>" in words) == ("Ġthe", "ĠÃ©", False)
    bert = Tokenizer.read(data_folder / "tok_bert/bert-base-uncased-vocab.txt")
    words, pieces = vocabulary_words(bert), bert.pieces()
    assert pieces[words["the"]] == "the"
    assert not any(word.startswith("##") for word in words)
    assert "[MASK]" not in words


def test_vectors_of_a_vocabulary_fill_rows(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the fox, the fox"], vocab=300)
    (tmp_path / "v.txt").write_bytes(text_file(VECTORS))
    rows, ids = read_vectors(tmp_path / "v.txt", vocabulary_words(tokenizer), 3)
    assert [tokenizer.decode([i]).strip() for i in ids.tolist()] == ["the", "fox"]
    assert rows.tolist() == torch.tensor([VECTORS["the"], VECTORS["fox"]]).tolist()
