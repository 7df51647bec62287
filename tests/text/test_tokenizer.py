"""Ids against references, round trips, and text that looks like a control token."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps, the fox jumps again.\n" * 20,
    "Ünïcödé, 中文字符, עברית, العربية, 👩‍👩‍👧‍👦 and <|endoftext|> in plain text.\r\n" * 5,
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PIECES = [
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<unk>",
    "<|",
    "endoftext",
    "|>",
    "<",
    "/s",
    ">",
    " ",
    "a",
    "x<s>y",
    "\n",
    "é",
]
FORGERY = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
HARD = [
    "",
    " ",
    "  a",
    "a ",
    "\0",
    "a\0b",
    "\r\n",
    "\n\n\n",
    "\ufeff",
    "\u202eabc",
    "👩‍👩‍👧‍👦",
    "e\u0301",
    "\U0010ffff",
]


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    return train_tokenizer(CORPUS, vocab=400)


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    return train_tokenizer(CORPUS, kind="characters", vocab=300)


@pytest.fixture(scope="module", params=["byte_pairs", "characters", "gpt2", "stories"])
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "gpt2":
        return Tokenizer.read(request.getfixturevalue("data_folder") / "tok_gpt2")
    if request.param == "stories":
        return Tokenizer.read(request.getfixturevalue("data_folder") / "stories260K/hf")
    return request.getfixturevalue(request.param)


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    for name, data in tokenizer.files().items():
        (folder / name).write_bytes(data)
    return folder


def test_gpt2_files_give_the_reference_ids(data_folder: Path) -> None:
    reference = json.loads((data_folder / "tok_reference/gpt2_encoded_tokens.json").read_text())
    tokenizer = Tokenizer.read(data_folder / "tok_gpt2")
    vocabulary = json.loads((data_folder / "tok_gpt2/encoder.json").read_text())
    ids = tokenizer.encode(reference["text"])
    assert ids == [vocabulary[token] for token in reference["bpe_tokens"]] == reference["token_ids"]
    assert tokenizer.decode(ids) == reference["decoded_text"]
    assert (tokenizer.start, tokenizer.end, tokenizer.vocab) == (50256, 50256, 50257)


def test_the_start_falls_back_and_the_roles_are_read(data_folder: Path, byte_pairs: Tokenizer) -> None:
    stories = Tokenizer.read(data_folder / "stories260K/hf")
    assert (stories.start, stories.end, stories.controls) == (1, 2, frozenset({0, 1, 2}))
    assert stories.adds_start
    assert (byte_pairs.start, byte_pairs.end, byte_pairs.controls, byte_pairs.adds_start) == (0, 0, {0}, True)


@settings(deadline=None, max_examples=60)
@given(text=ANY_TEXT)
def test_decoding_undoes_encoding(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text)
    assert any_tokenizer.decode(ids) == text
    assert any_tokenizer.encode_many([text, ""]) == [ids, []]


@pytest.mark.parametrize("text", HARD)
def test_decoding_undoes_encoding_of_hard_texts(any_tokenizer: Tokenizer, text: str) -> None:
    assert any_tokenizer.decode(any_tokenizer.encode(text)) == text


@settings(deadline=None, max_examples=60)
@given(text=FORGERY)
def test_text_never_becomes_a_control_token(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text)
    assert any_tokenizer.controls.isdisjoint(ids)
    assert any_tokenizer.decode(ids) == text
    assert any_tokenizer.controls.isdisjoint(any_tokenizer.prompt("a" + text)[1:])


FORMS = ["tok_llama2", "tok_llama3", "tok_t5", "tok_spm/test_model.model", "tok_bert/bert-base-uncased-vocab.txt"]
NAMES = [
    "<s>",
    "</s>",
    "<pad>",
    "<extra_id_0>",
    "<extra_id_99>",
    "<|eot_id|>",
    "<|begin_of_text|>",
    "[MASK]",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "<0x41>",
]


@pytest.mark.parametrize("form", FORMS)
def test_text_never_becomes_a_control_token_of_a_converted_form(form: str, data_folder: Path) -> None:
    tokenizer = Tokenizer.read(data_folder / form)
    pieces = tokenizer.pieces()
    unknown = {i for i in tokenizer.controls if pieces[i] in ("<unk>", "[UNK]")}

    @settings(deadline=None, max_examples=100)
    @given(text=st.lists(st.sampled_from([*NAMES, *PIECES]), max_size=8).map("".join))
    def never(text: str) -> None:
        ids = tokenizer.encode(text)
        assert (tokenizer.controls - unknown).isdisjoint(ids)
        first = tokenizer.encode("a")
        assert len(tokenizer.pair(text, "b")[0]) - len(ids) == len(tokenizer.pair("a", "b")[0]) - len(first)
        assert tokenizer.prompt(text).count(tokenizer.end or 0) == tokenizer.prompt("a").count(tokenizer.end or 0)

    never()
    present = [name for name in NAMES if name in pieces and pieces.index(name) in tokenizer.controls]
    assert present
    for name in present:
        assert pieces.index(name) in tokenizer.encode(f"a{name}b", control=True)


def test_control_tokens_are_read_when_asked(any_tokenizer: Tokenizer) -> None:
    name = any_tokenizer._library.id_to_token(any_tokenizer.end or 0)
    assert any_tokenizer.end in any_tokenizer.encode(f"a{name}b", control=True)
    assert any_tokenizer.end not in any_tokenizer.encode(f"a{name}b")
    assert any_tokenizer.decode(any_tokenizer.encode(f"a{name}", control=True)) == "a"


def merged_control(**changes: object) -> dict:
    """A BPE model whose merges build the control token <s> out of plain text."""
    vocabulary = {"<s>": 0, "<": 1, "s": 2, ">": 3, "<s": 4, "a": 5}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [["<", "s"], ["<s", ">"]]}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": 0, "content": "<s>", "special": True, **flags}]
    return {"version": "1.0", "added_tokens": added, "decoder": {"type": "Fuse"}, "model": model, **changes}


def test_a_control_token_that_the_merges_build_is_spelled_out() -> None:
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(merged_control()).encode()})
    assert tokenizer.encode("a<s>a") == [5, 1, 2, 3, 5]
    assert tokenizer.encode("a<s>a", control=True) == [5, 0, 5]


def test_a_word_that_is_only_a_control_token_is_refused() -> None:
    model = {"type": "WordLevel", "vocab": {"[END]": 0, "a": 1, "?": 2}, "unk_token": "?"}
    document = merged_control(model=model, added_tokens=[], pre_tokenizer={"type": "WhitespaceSplit"})
    config = b'{"eos_token": "[END]"}'
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(document).encode(), "tokenizer_config.json": config})
    assert tokenizer.encode("a b") == [1, 2]
    ids = tokenizer.encode("a [END]")
    assert 0 not in ids


def test_prompt_ids_are_those_of_transformers(any_tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(save(any_tokenizer, tmp_path))
    for text in ("hi there", "  a  b\n\n c", "x\r\n\ty 中文 é", "The king", " ", "a" * 300):
        ids = any_tokenizer.prompt(text)
        assert theirs(text).input_ids == ids
        assert theirs.decode(ids, skip_special_tokens=True) == any_tokenizer.decode(ids)
    assert any_tokenizer.prompt("") == [any_tokenizer.start]


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_add_bos_token_means_what_it_means_to_transformers(
    byte_pairs: Tokenizer, tmp_path: Path, add: bool, family: str
) -> None:
    transformers = pytest.importorskip("transformers")
    save(byte_pairs, tmp_path)
    config = json.loads(byte_pairs.files()["tokenizer_config.json"]) | {"add_bos_token": add}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "bos_token_id": 0, "eos_token_id": 0}))
    ours = Tokenizer.read(tmp_path)
    assert ours.adds_start  # the template in tokenizer.json decides
    assert ours.prompt("a fox") == transformers.AutoTokenizer.from_pretrained(tmp_path)("a fox").input_ids


def test_saving_and_reading_keeps_files_and_fingerprint(any_tokenizer: Tokenizer, tmp_path: Path) -> None:
    again = Tokenizer.read(save(any_tokenizer, tmp_path))
    assert again.files() == any_tokenizer.files()
    assert again.fingerprint() == any_tokenizer.fingerprint()
    assert Tokenizer.read(tmp_path / "tokenizer.json").fingerprint() == any_tokenizer.fingerprint()
    assert Tokenizer.read(tmp_path, end=3).fingerprint() != any_tokenizer.fingerprint()


def test_a_read_file_is_given_back_bit_for_bit(data_folder: Path) -> None:
    folder = data_folder / "stories260K/hf"
    for name, data in Tokenizer.read(folder).files().items():
        assert data == (folder / name).read_bytes()


def test_half_a_surrogate_pair_is_refused(any_tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="character 1 is half a surrogate"):
        any_tokenizer.encode("a\ud800")


def test_a_closed_vocabulary_names_the_character_it_lacks(tmp_path: Path) -> None:
    made = train_tokenizer(["hello world\n"], kind="characters", closed=True)
    assert made.vocab == 1 + len(set("hello world\n"))
    for tokenizer in (made, Tokenizer.read(save(made, tmp_path))):
        assert tokenizer.decode(tokenizer.encode("low\nhell")) == "low\nhell"
        with pytest.raises(InputError, match=r"'z' \(U\+007A\)"):
            tokenizer.encode("lzow")
        with pytest.raises(InputError, match="closed"):
            tokenizer.encode("<|endoftext|>")


def test_three_million_times_one_character(any_tokenizer: Tokenizer) -> None:
    text = "a" * 3_000_000
    assert any_tokenizer.decode(any_tokenizer.encode(text)) == text


def test_ids_that_are_none_are_refused(byte_pairs: Tokenizer) -> None:
    with pytest.raises(InputError, match="decoding failed"):
        byte_pairs.decode([-1])
    assert byte_pairs.decode([10**6]) == ""


def test_an_empty_prompt_needs_a_start_token() -> None:
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    document = merged_control(model=model, added_tokens=[])
    with pytest.raises(InputError, match="start token"):
        Tokenizer({"tokenizer.json": json.dumps(document).encode()}).prompt("")
