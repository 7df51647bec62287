"""Broken and hostile tokenizer files: always an InputError, never a crash, never another exception."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

GOOD = json.loads(train_tokenizer(["a fox and a dog"], vocab=262).files()["tokenizer.json"])
BYTE_LEVEL = GOOD["pre_tokenizer"]


def split(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def added(content: str, number: int) -> dict:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": False, **flags}


CASES: dict[str, tuple[Callable[[dict], object], str]] = {
    "no-model": (lambda d: d.pop("model"), "model: is missing"),
    "model-is-a-list": (lambda d: d.update(model=[]), "model: is missing or no JSON object"),
    "unknown-model": (lambda d: d["model"].update(type="Oracle"), "reading the tokenizer failed"),
    "no-vocab": (lambda d: d["model"].pop("vocab"), "model.vocab"),
    "empty-vocab": (lambda d: d.update(added_tokens=[], model={"type": "BPE", "vocab": {}, "merges": []}), "is empty"),
    "duplicate-ids": (lambda d: d["model"]["vocab"].update(extra=5), "id 5 belongs to"),
    "negative-id": (lambda d: d["model"]["vocab"].update(extra=-1), "id -1 is not"),
    "id-is-true": (lambda d: d["model"]["vocab"].update(extra=True), "id True is not"),
    "id-is-text": (lambda d: d["model"]["vocab"].update(extra="7"), "id 7 is not"),
    "id-is-huge": (lambda d: d["model"]["vocab"].update(extra=10**9), "is too high"),
    "id-beyond-64-bits": (lambda d: d["model"]["vocab"].update(extra=10**30), "is too high"),
    "added-id-beyond-vocab": (lambda d: d["added_tokens"].append(added("<x>", 700)), "does not follow"),
    "added-id-taken": (lambda d: d["added_tokens"].append(added("<x>", 0)), "twice"),
    "added-twice": (lambda d: d["added_tokens"].append(added("<|endoftext|>", 262)), "twice"),
    "added-empty": (lambda d: d["added_tokens"].append(added("", 262)), r"added_tokens\[1\].content"),
    "added-is-text": (lambda d: d["added_tokens"].append("<x>"), "must be a JSON object"),
    "added-is-object": (lambda d: d.update(added_tokens={}), "must be a list"),
    "a-million-added": (lambda d: d.update(added_tokens=[0] * 10**6), "at most 100000"),
    "merge-to-nowhere": (lambda d: d["model"]["merges"].append(["zz", "qq"]), "reading the tokenizer failed"),
    "merge-of-three": (lambda d: d["model"]["merges"].append(["a", "b", "c"]), "reading the tokenizer failed"),
    "unknown-pre-tokenizer": (lambda d: d.update(pre_tokenizer={"type": "Magic"}), "reading the tokenizer failed"),
    "invalid-regex": (lambda d: d.update(pre_tokenizer=split("(")), "reading the tokenizer failed"),
    "unigram-scores": (lambda d: d.update(model={"type": "Unigram", "vocab": [["a", 0], 3]}), r"model.vocab\[1\]"),
    "decoder-is-text": (lambda d: d.update(decoder="ByteLevel"), "reading the tokenizer failed"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_document_is_refused(case: str, tmp_path: Path) -> None:
    change, match = CASES[case]
    document = copy.deepcopy(GOOD)
    change(document)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=match) as caught:
        Tokenizer.read(tmp_path)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe{\0}\0", "a byte order mark"),
        (b"{\xff}", "byte 1 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "a byte order mark"),
        (b"[]", "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
        (b'{"model": NaN}', "NaN is not a JSON number"),
        (b'{"model": 1, "model": 2}', "'model' stands twice"),
        (b'{"model":' + b"[" * 100_000, "more than 32 stand inside each other"),
        (b'{"model":' + b"1" * 10_000 + b"}", "10000 digits, the limit is 40"),
        (b'{"version": "1.0"}', "model: is missing"),
    ],
)
def test_what_is_no_tokenizer_document_is_refused(data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(InputError, match=match):
        Tokenizer.read(tmp_path)


def test_a_panic_of_the_library_is_an_input_error(capfd: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(GOOD)
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split("(a+)+$"), BYTE_LEVEL]}
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(document).encode()})
    with pytest.raises(InputError, match="encoding a text failed"):
        tokenizer.encode("a" * 60 + "b")
    assert tokenizer.decode(tokenizer.encode("still usable")) == "still usable"


def test_truncation_and_padding_in_the_file_do_not_cut_text() -> None:
    document = copy.deepcopy(GOOD)
    document["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(document).encode()})
    assert tokenizer.decode(tokenizer.encode("a much longer text")) == "a much longer text"


@pytest.mark.parametrize("config", [b"[]", b"{", b'{"bos_token": 7}', b'{"eos_token": {"content": []}}'])
def test_a_broken_configuration_is_refused(config: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD))
    (tmp_path / "tokenizer_config.json").write_bytes(config)
    with pytest.raises(InputError, match=r"tokenizer_config\.json"):
        Tokenizer.read(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no tokenizer"):
        Tokenizer.read(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD))
    with pytest.raises(InputError, match="absent: holds no tokenizer"):
        Tokenizer.read(tmp_path / "absent")


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "added_tokens.json"]
)
def test_what_is_no_plain_file_or_lies_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    for number, (make, match) in enumerate(
        [
            (Path.mkdir, "it is a folder"),
            (os.mkfifo, "it is a pipe"),
            (lambda path: path.symlink_to("/dev/zero"), "leads out of the folder, to /dev/zero"),
            (lambda path: path.symlink_to("../secret"), "leads out of the folder, to .*secret"),
            (lambda path: path.symlink_to(tmp_path / "secret"), "leads out of the folder"),
            (lambda path: path.symlink_to("nowhere"), "does not exist"),
            (lambda path: path.symlink_to(name), "cannot be reached"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / name)
        if name != "tokenizer.json":
            (folder / "tokenizer.json").write_text(json.dumps(GOOD))
        for given in (folder, folder / "tokenizer.json") if name != "tokenizer.json" else (folder,):
            with pytest.raises(InputError, match=f"{number}/{name}: .*{match}"):
                Tokenizer.read(given)


def test_a_pair_of_files_may_not_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "model/vocab.json").symlink_to("../secret")
    (tmp_path / "model/merges.txt").write_text("")
    with pytest.raises(InputError, match=r"vocab\.json: the link leads out"):
        Tokenizer.read(tmp_path / "model")


def test_a_file_named_by_the_person_may_be_a_link_or_not_a_device(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(GOOD))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    assert Tokenizer.read(tmp_path / "models/tokenizer.json").vocab == 262
    with pytest.raises(InputError, match="/dev/zero: it is a device"):
        Tokenizer.read("/dev/zero")


def test_blobs_of_a_cache_snapshot_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b/snapshots" / ("1" * 40), tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    files = {"tokenizer.json": json.dumps(GOOD), "chat_template.jinja": "{{ messages }}"}
    for number, (name, text) in enumerate(files.items()):
        (blobs / f"{number:040x}").write_text(text)
        (snapshot / name).symlink_to(Path("../../blobs") / f"{number:040x}")
    found = Tokenizer.read(snapshot).files()
    assert {name: found[name].decode() for name in files} == files


@pytest.mark.parametrize(
    ("vocabulary", "merges", "match"),
    [
        (b"{", b"", "vocabulary.*not usable JSON"),
        (b'{"a": 0, "b": 1}', b"#version: 0.2\na b c\n", "line 2 is not a pair"),
        (b'{"a": 0, "b": 1}', b"a b\n", "reading the tokenizer failed"),
        (b'{"a": 0, "b": 1}', b"\xff", "merges.*not UTF-8 at byte 0"),
        (b'{"<|endoftext|>": "x"}', b"", "not a whole number"),
    ],
)
def test_broken_pairs_of_files_are_refused(vocabulary: bytes, merges: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(vocabulary)
    (tmp_path / "merges.txt").write_bytes(merges)
    with pytest.raises(InputError, match=match):
        Tokenizer.read(tmp_path)
