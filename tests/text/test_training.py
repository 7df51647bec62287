"""What is learnt from text, and what is refused."""

import subprocess
import sys

import pytest

from lamoid.errors import InputError
from lamoid.text.training import train_tokenizer

TEXT = "How much wood would a woodchuck chuck, if a woodchuck could chuck wood? 木\n" * 30


def test_byte_pairs_shorten_the_text_and_keep_to_the_size() -> None:
    tokenizer = train_tokenizer([TEXT], vocab=270)
    assert tokenizer.vocab == 270
    assert len(tokenizer.encode(TEXT)) < 0.7 * len(TEXT.encode())


def test_characters_rank_by_frequency_and_leave_the_rest_to_bytes() -> None:
    tokenizer = train_tokenizer(["aaabbc"], kind="characters", vocab=259)
    assert tokenizer.encode("ab") == [257, 258]
    assert len(tokenizer.encode("c")) == 1 < 257
    assert tokenizer.decode(tokenizer.encode("c木")) == "c木"


def test_learning_twice_gives_the_same_bytes() -> None:
    code = (
        "from lamoid.text.training import train_tokenizer; "
        f"print(train_tokenizer([{TEXT!r}, 'zq qz zq'], vocab=290).fingerprint())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout


def test_importing_and_using_leaves_the_environment_alone() -> None:
    code = (
        "import os; before = dict(os.environ); from lamoid.text.training import train_tokenizer; "
        "import lamoid.data.loader; train_tokenizer(['a b'], vocab=257); assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("texts", "settings", "match"),
    [
        ([], {}, "no character"),
        (["", ""], {}, "no character"),
        (["", ""], {"kind": "characters"}, "no character"),
        (["a\udc80"], {}, "surrogate"),
        (["a"], {"vocab": 256}, "vocab: 256"),
        (["a"], {"vocab": 2**20 + 1}, "vocab: 1048577"),
        (["a"], {"closed": True}, "closed"),
        (["abc"], {"kind": "characters", "closed": True, "vocab": 3}, "too small for 3"),
        (["a"], {"kind": "words"}, "kind: 'words'"),
    ],
)
def test_what_cannot_be_learnt_is_refused(texts: list[str], settings: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        train_tokenizer(texts, **settings)
