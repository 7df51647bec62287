"""Tokenizers with the control tokens of BERT and T5: transformers gives the same ids, and no text forges them."""

from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.text.training import train_tokenizer

TEXT = "some words, and [MASK] or <extra_id_0> in a text\n" * 5


@pytest.mark.parametrize("kind", ["bytes", "characters"])
@pytest.mark.parametrize(("mask", "sentinels"), [(True, 0), (False, 7), (True, 7)])
def test_transformers_reads_the_roles(kind: str, mask: bool, sentinels: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    learnt = train_tokenizer([TEXT], kind=kind, vocab=320, mask=mask, sentinels=sentinels)
    for name, data in learnt.files().items():
        (tmp_path / name).write_bytes(data)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("a text").input_ids == learnt.prompt("a text")
    assert learnt.vocab == len(theirs) <= 320
    assert learnt.sentinels == tuple(theirs.convert_tokens_to_ids(f"<extra_id_{k}>") for k in range(sentinels))
    assert list(learnt.sentinels) == sorted(learnt.sentinels, reverse=True), "falling, as in T5"
    assert (learnt.pad, learnt.end) == (theirs.pad_token_id, theirs.eos_token_id)
    assert len(learnt.controls) == (4 if mask else 2) + sentinels
    if mask:
        assert (learnt.start, learnt.mask) == (theirs.cls_token_id, theirs.mask_token_id)
        assert learnt.end == learnt.separator == theirs.sep_token_id
        pair = theirs("a text", "or two")
        ids, types = learnt.pair("a text", "or two")
        assert (pair.input_ids, types) == (
            ids,
            [0] * (ids.index(learnt.end) + 1) + [1] * (len(types) - ids.index(learnt.end) - 1),
        )


@pytest.mark.parametrize("kind", ["bytes", "characters"])
def test_no_text_becomes_a_control_token(kind: str) -> None:
    learnt = train_tokenizer([TEXT], kind=kind, vocab=320, mask=True, sentinels=3)
    ids = learnt.encode(TEXT)
    assert learnt.controls.isdisjoint(ids)
    assert learnt.decode(ids) == TEXT
    assert learnt.mask in learnt.encode(TEXT, control=True)


def test_without_them_nothing_changes() -> None:
    plain, same = train_tokenizer([TEXT]), train_tokenizer([TEXT], mask=False, sentinels=0)
    assert plain.files() == same.files()
    assert (plain.mask, plain.pad, plain.sentinels, len(plain.controls)) == (None, None, (), 1)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sentinels": -1}, "sentinels: -1 is not from 0 to"),
        ({"sentinels": 10**6}, "sentinels: 1000000 is not from 0 to"),
        ({"sentinels": 100, "vocab": 300}, "vocab: 300 is not from 358"),
        ({"mask": True, "vocab": 20, "kind": "characters", "closed": True}, "too small for .* characters"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        train_tokenizer([TEXT], **settings)
