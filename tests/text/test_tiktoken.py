"""Ids of converted rank files against the tiktoken package and the reference files."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.tiktoken import RankPlan, tiktoken_document
from lamoid.text.tokenizer import Tokenizer

tiktoken = pytest.importorskip("tiktoken")

FILES = {"gpt2": "tok_gpt2/gpt2.tiktoken", "llama3": "tok_llama3/tokenizer.model"}
# From tiktoken's and llama-models' own sources, so that the expressions here are not those under test.
GPT_2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECES = [
    "a",
    "b",
    "the",
    "'s",
    "'LL",
    "'ſ",
    "12345",
    "é",
    "é",
    "中文",
    "ガ",
    "ع",
    "가",
    "👩\u200d👩\u200d👧\u200d👦",
    "..",
    "-",
    "=",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "\U0010ffff",
    "▁",
]
BLANKS = [" ", "   ", "\n", "\n\n", "\t", "\r\n", "\0", "\x01", "\u3000", "\xa0", "\u200b", "\u2028", "\x85"]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.lists(st.sampled_from([*PIECES, *BLANKS]), max_size=14).map("".join),
    st.text("ab \n", max_size=80),
    st.tuples(st.sampled_from("a.= \nx中"), st.integers(1, 300)).map(lambda drawn: drawn[0] * drawn[1]),
)
Both = tuple[Tokenizer, "tiktoken.Encoding"]


@pytest.fixture(scope="module", params=FILES)
def both(request: pytest.FixtureRequest) -> Both:
    path = request.getfixturevalue("data_folder") / FILES[request.param]
    lines = [line.split() for line in path.read_bytes().splitlines()]
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    pattern = GPT_2 if request.param == "gpt2" else LLAMA_3
    theirs = tiktoken.Encoding(request.param, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return Tokenizer.read(path), theirs


@settings(deadline=None, max_examples=400)
@given(text=TEXTS)
def test_ids_are_those_of_the_tiktoken_package(both: Both, text: str) -> None:
    ours, theirs = both
    assert ours.encode(text) == theirs.encode_ordinary(text)
    assert ours.decode(ours.encode(text)) == text


def test_ids_of_real_texts_are_those_of_the_tiktoken_package(both: Both, data_folder: Path) -> None:
    ours, theirs = both
    texts = [(data_folder / "tinyshakespeare/input.txt").read_text()[:200_000]]
    texts += (data_folder / "tatoeba_en_zh/cmn.txt").read_text().splitlines(keepends=True)[:3000]
    assert ours.encode_many(texts) == [theirs.encode_ordinary(text) for text in texts]


def test_llama_3_gives_the_reference(data_folder: Path) -> None:
    reference = json.loads((data_folder / "tok_reference/llama_3.2_encoded.json").read_text())
    tokenizer = Tokenizer.read(data_folder / "tok_llama3")
    ids = tokenizer.prompt(reference["text"])
    pieces = tokenizer.pieces()
    assert ids == reference["token_ids"]
    assert [pieces[i] for i in ids[1:]] == reference["bpe_tokens"]
    assert "<|begin_of_text|>" + tokenizer.decode(ids) == reference["decoded_text"]
    assert (tokenizer.start, tokenizer.end, tokenizer.vocab) == (128000, 128001, 128256)
    assert tokenizer.controls == set(range(128000, 128256))
    known = {"<|start_header_id|>": 128006, "<|end_header_id|>": 128007, "<|eot_id|>": 128009}
    known |= {"<|finetune_right_pad_id|>": 128004, "<|eom_id|>": 128008, "<|python_tag|>": 128010}
    known |= {"<|reserved_special_token_0|>": 128002, "<|reserved_special_token_247|>": 128255}
    assert {name: pieces.index(name) for name in known} == known
    for name, number in known.items():
        assert tokenizer.encode(f"a{name}", control=True)[-1] == number
        assert tokenizer.controls.isdisjoint(tokenizer.encode(f"a{name}"))


def test_gpt_2s_ranks_mean_the_same_as_its_two_files(data_folder: Path) -> None:
    ranks = Tokenizer.read(data_folder / "tok_gpt2/gpt2.tiktoken")
    pair = Tokenizer.read(data_folder / "tok_gpt2")
    assert ranks.pieces() == pair.pieces()
    assert (ranks.start, ranks.end, ranks.controls) == (pair.start, pair.end, pair.controls)
    text = (data_folder / "tinyshakespeare/input.txt").read_text()[:50_000]
    assert ranks.prompt(text) == pair.prompt(text)


@pytest.mark.parametrize("name", FILES)
def test_transformers_reads_what_is_saved_alike(name: str, data_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = Tokenizer.read(data_folder / FILES[name])
    for file, data in ours.files().items():
        (tmp_path / file).write_bytes(data)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (ours.start, ours.end, ours.vocab)
    # transformers counts only the named ones as special; the reserved are control tokens in tokenizer.json
    assert {i for i, token in theirs.added_tokens_decoder.items() if token.special} == ours.controls
    for text in ["a b", " 1234 's\r\n\n x", "中文 é", " ", "a" * 300]:
        assert theirs(text).input_ids == ours.prompt(text)
        made = theirs(text, "second", return_token_type_ids=True)
        assert (made.input_ids, made.token_type_ids) == ours.pair(text, "second")
        assert theirs.decode(ours.prompt(text), skip_special_tokens=True) == text


def tiny() -> list[bytes]:
    return [base64.b64encode(token) for token in [*(bytes([b]) for b in range(256)), b"ab", b"abc"]]


def ranked(tokens: list[bytes]) -> bytes:
    return b"".join(b"%s %d\n" % (token, rank) for rank, token in enumerate(tokens))


PLAN = RankPlan(r"\S+|\s+", ("<end>",), start="<end>", end="<end>", adds_start=True, whole_words=True)


def test_a_file_of_ones_own_needs_a_plan() -> None:
    with pytest.raises(InputError, match=r"own: 258 ranks, and files are known of 50256 \(GPT-2's\) and 128000"):
        tiktoken_document(ranked(tiny()), "own")
    document, config = tiktoken_document(ranked(tiny()), "own", PLAN)
    files = {"tokenizer.json": json.dumps(document).encode(), "tokenizer_config.json": json.dumps(config).encode()}
    assert Tokenizer(files).prompt("abc ab c") == [258, 257, 32, 256, 32, 99]
    assert Tokenizer(files).prompt("abc\r\n")[1:] == [257, 13, 10]
    same, _ = tiktoken_document(ranked(tiny()).replace(b"\n", b"\r\n"), "own", PLAN)
    assert same == document


def changed(line: int, text: bytes) -> bytes:
    lines = ranked(tiny()).splitlines()
    lines[line] = text
    return b"\n".join(lines)


BAD = {
    "empty": (b"", "line 1: is no base64 token and rank: b''"),
    "blank-line": (changed(7, b""), "line 8: is no base64 token and rank"),
    "no-rank": (changed(7, b"YQ=="), "line 8: is no base64 token and rank"),
    "broken-base64": (changed(7, b"YQ=a 7"), "line 8: is no base64 token and rank"),
    "half-base64": (changed(7, b"YWI 7"), "line 8: b'YWI' is no base64"),
    "not-ascii": (changed(7, "ÿ 7".encode()), "line 8: is no base64"),
    "negative-rank": (changed(7, b"YQ== -1"), "line 8: is no base64 token and rank"),
    "rank-is-text": (changed(7, b"YQ== x"), "line 8: is no base64 token and rank"),
    "rank-beyond": (changed(257, b"YWJj 999999"), "line 258: rank 999999, where 257 is due"),
    "rank-huge": (changed(257, b"YWJj " + b"9" * 5000), "line 258: is no base64"),
    "rank-twice": (changed(257, b"YWJj 256"), "line 258: rank 256, where 257 is due"),
    "token-twice": (changed(257, b"YWI= 257"), "line 258: the token b'ab' has rank 256 already"),
    "token-empty": (changed(257, b"==== 257"), "line 258: is no base64"),
    "token-huge": (changed(257, base64.b64encode(b"a" * 700) + b" 257"), "line 258: a token of 700 bytes"),
    "token-very-huge": (changed(257, b"QUFB" * 10**6 + b" 257"), "line 258: is no base64"),
    "byte-missing": (changed(65, b"enp6 65"), "has no token for the byte 0x41"),
    "control-in-text": (changed(257, base64.b64encode(b"<end>") + b" 257"), "its token 257 is '<end>'"),
    "a-million-lines": (b"YQ== 0\n" * 10**6, "1000000 lines, the limit is 524288"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_rank_file_is_refused(case: str) -> None:
    data, match = BAD[case]
    with pytest.raises(InputError, match=match) as caught:
        tiktoken_document(data, "ranks", PLAN)
    assert caught.value.culprit.startswith("ranks")


def test_a_rank_file_cut_anywhere_is_refused(data_folder: Path, tmp_path: Path) -> None:
    data = (data_folder / FILES["gpt2"]).read_bytes()
    path = tmp_path / "tokenizer.model"
    for size in (0, 1, 5, 6, 1000, 400_000, len(data) - 8, len(data) - 12):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"tokenizer\.model"):
            Tokenizer.read(tmp_path)


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(place: int, value: int) -> None:
    data = bytearray(ranked(tiny()))
    data[place % len(data)] = value
    try:
        document, _ = tiktoken_document(bytes(data), "ranks", PLAN)
    except InputError:
        return
    assert len(Tokenizer({"tokenizer.json": json.dumps(document).encode()}).encode("abc ab")) <= 6
