"""The strict parser against the standard one: equal on what is plain, refusing on what is ambiguous."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.strict_json import parse_json

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain, st.booleans())
def test_plain_values_are_read_as_the_standard_library_reads_them(value: object, escaped: bool) -> None:
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert parse_json(data, file="x") == json.loads(data)


@given(st.text(string.printable + '{}[]",\\\\""', max_size=60))
def test_any_text_is_read_alike_or_refused(text: str) -> None:
    try:
        ours = parse_json(text.encode(), file="x")
    except InputError:
        return
    assert ours == json.loads(text)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1, "a": 1}', "'a' stands twice"),
        (b'[{"a": {"b": 1, "b": 2}}]', "'b' stands twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"[" + b"1" * 5000 + b"]", "5000 digits"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ("{}".encode("utf-16"), "byte order mark"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"[" * 33 + b"]" * 33, "more than 32"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "more than 32"),
        (b"[]]", "do not match"),
        (b"[] x", "not JSON"),
        (b"// x\n[]", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_refused(data: bytes, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        parse_json(data, file="some.json")
    assert caught.value.culprit == "some.json"


def test_the_depth_is_exact() -> None:
    assert parse_json(b"[" * 32 + b"]" * 32, file="x") is not None
    assert parse_json(b'{"a":[' * 16 + b"]}" * 16, file="x") is not None


def test_brackets_and_quotes_in_strings_are_text() -> None:
    value = {"[" * 100: '"' * 100, "\\" * 3: '\\\\"]['}
    assert parse_json(json.dumps(value).encode(), file="x") == value


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_json(b'"\\ud83e\\udd99"', file="x") == "\N{LLAMA}"
