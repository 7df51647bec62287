"""Ids of converted BERT vocabularies against the references and against transformers' own Python code."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.wordpiece import wordpiece_document

CASED = [
    "[PAD]",
    "[unused1]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "A",
    "a",
    "b",
    "Ab",
    "é",
    "e",
    "É",
    "##b",
    "##B",
    "##é",
    ",",
    "中",
    "文",
    "[",
    "]",
    "MA",
    "##S",
    "##K",
]
FILES = {"uncased": "bert-base-uncased-vocab.txt", "chinese": "bert-base-chinese-vocab.txt"}
# Both judge characters by tables of different age, and that code drops those which its own does not know.
OLD = [chr(c) for c in range(0x20000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cs", "Cn", "Co")]
TEXTS = st.one_of(
    st.text(st.sampled_from(OLD), max_size=20),
    st.lists(
        st.sampled_from(
            [
                "a",
                "Ab",
                "ab",
                "É",
                "é",
                "é",
                "the",
                "Running",
                "don't",
                "中文",
                "字ab",
                ",",
                ".",
                "[MASK]",
                "[CLS]",
                "[SEP]",
                "[UNK]",
                "[PAD]",
                "##b",
                "\u3000",
                "\x00",
                "\x01",
                "\t",
                "\n",
                "\r",
                "�",
                "\xa0",
                "\u200b",
                "\xad",
                "①",
                "👩\u200d👧",
                "ß",
                "ẞ",
                "İ",
                "가",
                "ガ",
            ]
        ),
        max_size=12,
    ).map(" ".join),
)
Both = tuple[Tokenizer, Any]


@pytest.fixture(scope="module", params=["uncased", "chinese", "cased"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    if request.param == "cased":
        path = tmp_path_factory.mktemp("cased") / "vocab.txt"
        path.write_text("\n".join(CASED) + "\n")
    else:
        path = request.getfixturevalue("data_folder") / "tok_bert" / FILES[request.param]
    theirs = legacy.BertTokenizerLegacy(str(path), do_lower_case=request.param != "cased")
    return Tokenizer.read(path), theirs


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_ids_are_those_of_transformers_python_code(both: Both, text: str) -> None:
    ours, theirs = both
    text = unicodedata.normalize("NFC", text)  # that code composes first, which BERT's first authors did not
    basic = theirs.basic_tokenizer.tokenize(text, never_split=[])
    pieces = [piece for word in basic for piece in theirs.wordpiece_tokenizer.tokenize(word)]
    ids = theirs.convert_tokens_to_ids(pieces)
    unknown = theirs.unk_token_id
    assert ours.encode(text) == ids
    assert (ours.controls - {unknown}).isdisjoint(ids)


def test_the_reference_and_all_questions(data_folder: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / "tok_bert" / FILES["uncased"])
    reference = json.loads((data_folder / "tok_reference/bert_uncased_encoded.json").read_text())
    pieces = tokenizer.pieces()
    ids = tokenizer.prompt(reference["text"])
    assert ids == reference["token_ids"]
    assert [pieces[i] for i in ids[1:-1]] == reference["bpe_tokens"]
    # The reference closes up apostrophes besides, which needs both neighbours of a piece.
    plain = reference["decoded_text"].removeprefix("[CLS] ").removesuffix(" [SEP]")
    assert tokenizer.decode(ids).replace(" ' ", "'") == plain
    questions = json.loads((data_folder / "tok_reference/question_tokens.json").read_text())
    expected = json.loads((data_folder / "tok_reference/tokenized_questions.json").read_text())
    found = tokenizer.encode_many([question["original"] for question in questions])
    assert found == expected
    assert [[pieces[i] for i in ids] for ids in found] == [question["wordpiece"] for question in questions]
    assert len(found) == 10_570


def test_the_control_tokens_have_their_names(data_folder: Path) -> None:
    for name, first in (("uncased", 100), ("chinese", 100)):
        tokenizer = Tokenizer.read(data_folder / "tok_bert" / FILES[name])
        assert (tokenizer.pad, tokenizer.start, tokenizer.separator, tokenizer.mask) == (0, first + 1, 102, 103)
        assert (tokenizer.end, tokenizer.controls, tokenizer.adds_start) == (102, {0, 100, 101, 102, 103}, True)
        assert tokenizer.sentinels == ()
        assert tokenizer.encode("a[MASK]b", control=True)[1] == 103
        assert 103 not in tokenizer.encode("a[MASK]b")
        ids, types = tokenizer.pair("a", "b [SEP]")
        assert (ids[0], ids[2], ids[-1], ids.count(102)) == (101, 102, 102, 2)
        assert types == [0, 0, 0] + [1] * (len(ids) - 3)
        assert tokenizer.decode(ids) == "a b [ sep ]"


def test_transformers_reads_what_is_saved_alike(data_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = Tokenizer.read(data_folder / "tok_bert" / FILES["uncased"])
    for file, data in ours.files().items():
        (tmp_path / file).write_bytes(data)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id) == (ours.pad, ours.start, ours.separator)
    assert (theirs.mask_token_id, theirs.unk_token_id, len(theirs)) == (ours.mask, 100, ours.vocab)
    assert set(theirs.all_special_ids) == ours.controls
    for text in ["Hello, wörld!", "", "中文 ①", "don't", "a" * 101, "x\0\ty"]:
        assert theirs(text).input_ids == ours.prompt(text)
        made = theirs(text, "second one")
        assert (made.input_ids, made.token_type_ids) == ours.pair(text, "second one")
        assert theirs.decode(ours.prompt(text), skip_special_tokens=True) == ours.decode(ours.prompt(text))


def read(folder: Path, lines: list[str], **beside: Any) -> Tokenizer:
    (folder / "vocab.txt").write_text("\n".join(lines))
    (folder / "tokenizer_config.json").write_text(json.dumps(beside))
    return Tokenizer.read(folder)


def test_capitals_in_the_vocabulary_or_a_setting_decide_about_lower_case(tmp_path: Path) -> None:
    number = {piece: k for k, piece in enumerate(CASED)}
    assert read(tmp_path, CASED).encode("Ab É") == [number["Ab"], number["É"]]
    assert read(tmp_path, CASED, do_lower_case=True).encode("Ab É") == [number["a"], number["##b"], number["e"]]
    keep = read(tmp_path, CASED, do_lower_case=True, strip_accents=False)
    assert keep.encode("Ab É") == [number["a"], number["##b"], number["é"]]
    small = [piece for piece in CASED if piece == piece.lower() or piece.startswith("[")]
    assert read(tmp_path, small).encode("É") == [small.index("e")]
    whole = read(tmp_path, CASED, tokenize_chinese_chars=False)
    assert whole.encode("中文") == [number["[UNK]"]]
    assert read(tmp_path, CASED).encode("中文") == [number["中"], number["文"]]


def changed(line: int, text: bytes) -> bytes:
    lines = [piece.encode() for piece in CASED]
    lines[line] = text
    return b"\n".join(lines) + b"\n"


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1: a piece of 0 bytes"),
    "blank-line": (changed(7, b""), "line 8: a piece of 0 bytes"),
    "only-lines": (b"\n" * 100, "line 1: a piece of 0 bytes"),
    "no-unknown": (changed(2, b"x"), r"has no line \[UNK\]"),
    "no-start": (changed(3, b"x"), r"has no line \[CLS\]"),
    "no-separator": (changed(4, b"x"), r"has no line \[SEP\]"),
    "twice": (changed(9, b"a"), "line 10: 'a' stands on line 8 already"),
    "not-utf-8": (changed(9, b"a\xffb"), "line 10: is not UTF-8 at byte 1"),
    "surrogate": (changed(9, b"\xed\xa0\x80"), "line 10: is not UTF-8"),
    "utf-16": ("\n".join(CASED).encode("utf-16"), "line 1: is not UTF-8 at byte 0"),
    "huge-piece": (changed(9, b"a" * 10**6), "line 10: a piece of 1000000 bytes, not 1 to 512"),
    "a-million-lines": (b"".join(b"%d\n" % k for k in range(10**6)), "1000000 lines, the limit is 524288"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_broken_vocabulary_is_refused(case: str, tmp_path: Path) -> None:
    data, match = BAD[case]
    (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        Tokenizer.read(tmp_path)
    assert caught.value.culprit.startswith(str(tmp_path / "vocab.txt"))


def test_lines_may_end_as_on_windows_and_two_control_tokens_may_lack() -> None:
    lines = [piece for piece in CASED if piece not in ("[PAD]", "[MASK]")]
    document, config = wordpiece_document("\r\n".join(lines).encode(), "vocab")
    tokenizer = Tokenizer(
        {name: json.dumps(part).encode() for name, part in zip(_NAMES, (document, config), strict=True)}
    )
    assert (tokenizer.pad, tokenizer.mask, tokenizer.vocab) == (None, None, len(lines))


@pytest.mark.parametrize("key", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_a_setting_that_is_no_flag_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{key}: 'no' is neither true nor false"):
        read(tmp_path, CASED, **{key: "no"})


_NAMES = ("tokenizer.json", "tokenizer_config.json")
