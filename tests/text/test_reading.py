"""Which of several forms in a folder is read, and what a file named alone is taken for."""

import json
import shutil
from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer

FORMS = {  # name in the folder: (file of the data, vocab); the first that is there wins
    "tokenizer.json": ("stories260K/hf/tokenizer.json", 512),
    "vocab.json": ("tok_gpt2/encoder.json", 50257),
    "tokenizer.model": ("tok_spm/test_model.model", 1000),
    "spiece.model": ("tok_t5/spiece.model", 32100),
    "vocab.txt": ("tok_bert/bert-base-uncased-vocab.txt", 30522),
}


def test_the_forms_win_in_the_order_told(data_folder: Path, tmp_path: Path) -> None:
    for name, (source, _) in FORMS.items():
        shutil.copyfile(data_folder / source, tmp_path / name)
    shutil.copyfile(data_folder / "tok_gpt2/vocab.bpe", tmp_path / "merges.txt")
    for name, (_, vocab) in FORMS.items():
        tokenizer = Tokenizer.read(tmp_path)
        assert tokenizer.vocab == vocab
        assert Path(tokenizer.name).name == name
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        Tokenizer.read(tmp_path)


def test_a_file_alone_is_known_by_its_content(data_folder: Path, tmp_path: Path) -> None:
    sources = {
        "tok_llama3/tokenizer.model": 128256,
        "tok_llama2/tokenizer.model": 32000,
        "tok_gpt2/gpt2.tiktoken": 50257,
        "stories260K/hf/tokenizer.json": 512,
    }
    for source, vocab in sources.items():
        shutil.copyfile(data_folder / source, tmp_path / "anything")
        assert Tokenizer.read(tmp_path / "anything").vocab == vocab
        (tmp_path / "anything").unlink()


def test_every_form_is_saved_as_one_that_reads_the_same(data_folder: Path, tmp_path: Path) -> None:
    text = "Hello, 中文 é\n"
    for name, (source, _) in FORMS.items():
        if name == "vocab.json":
            continue
        folder = tmp_path / name
        folder.mkdir()
        first = Tokenizer.read(data_folder / source)
        for file, data in first.files().items():
            (folder / file).write_bytes(data)
        again = Tokenizer.read(folder)
        assert again.fingerprint() == first.fingerprint()
        assert again.prompt(text) == first.prompt(text)
        assert (again.mask, again.pad, again.separator) == (first.mask, first.pad, first.separator)
        assert again.sentinels == first.sentinels


def test_settings_that_execute_or_mislead_are_not_kept(data_folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(data_folder / FORMS["vocab.txt"][0], tmp_path / "vocab.txt")
    beside = {"auto_map": {"AutoTokenizer": "x.py"}, "tokenizer_class": "BertTokenizer", "model_max_length": 512}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**beside, "pad_token": "[unused0]"}))
    tokenizer = Tokenizer.read(tmp_path)
    saved = json.loads(tokenizer.files()["tokenizer_config.json"])
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert saved["model_max_length"] == 512
    assert "auto_map" not in saved
    assert tokenizer.pad == 1


@pytest.mark.parametrize(
    ("added", "match"),
    [
        ('{"zzz": 30523}', "'zzz' has id 30523, and 30522 is due"),
        ('{"zzz": -1}', "'zzz' has id -1, and 30522 is due"),
        ('{"zzz": "30522"}', "'zzz': no id with a token"),
        ('{"": 30522}', "'': no id with a token"),
        ('{"the": 7}', "'the' has id 7, and 1996 is due"),
        ("[]", "must hold a JSON object"),
        ('{"zz1": 30522, "zz2": 30522}', "has id 30522, and 30523 is due"),
    ],
)
def test_added_tokens_that_do_not_follow_are_refused(added: str, match: str, data_folder: Path, tmp_path: Path) -> None:
    shutil.copyfile(data_folder / FORMS["vocab.txt"][0], tmp_path / "vocab.txt")
    (tmp_path / "added_tokens.json").write_text(added)
    with pytest.raises(InputError, match=match):
        Tokenizer.read(tmp_path)


def test_pairs_without_a_template_follow_each_other() -> None:
    tokenizer = train_tokenizer(["a fox and a dog"], vocab=262)
    first, second = tokenizer.encode("a fox"), tokenizer.encode(" dog <|endoftext|>")
    ids, types = tokenizer.pair("a fox", " dog <|endoftext|>")
    assert ids == [0, *first, 0, *second]
    assert len(types) == len(ids)
    document = json.loads(tokenizer.files()["tokenizer.json"]) | {"post_processor": None}
    bare = Tokenizer({"tokenizer.json": json.dumps(document).encode()})
    assert bare.pair("a fox", " dog <|endoftext|>") == ([*first, *second], [0] * len(first) + [1] * len(second))


def test_a_template_that_loses_a_text_is_refused() -> None:
    document = json.loads(train_tokenizer(["a fox and a dog"], vocab=262).files()["tokenizer.json"])
    document["post_processor"]["pair"] = document["post_processor"]["single"] + [
        {"Sequence": {"id": "A", "type_id": 1}}
    ]
    tokenizer = Tokenizer({"tokenizer.json": json.dumps(document).encode()})
    with pytest.raises(InputError, match="encoding a pair failed: its template leaves one of two texts out"):
        tokenizer.pair("a", "b")
