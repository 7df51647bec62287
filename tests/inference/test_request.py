"""Settings that cannot be meant are refused by name, with the limit and a cure."""

from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.inference.request import Settings

NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[str, list[Any]]] = [
    ("max_tokens", [0, -1, 1.0, "3", True, None, NAN]),
    ("temperature", [-1, -1e-9, NAN, INF, -INF, "1", None, True, 10**5000]),
    ("top_k", [-1, 0.5, "1", None, True]),
    ("top_p", [0, 0.0, -1, 1.1, NAN, INF, "1", None]),
    ("min_p", [-0.1, 2, NAN, INF, None]),
    ("repetition_penalty", [0, -1e9, 1e9, NAN, INF, None]),
    ("seed", [-1, 2**63, -(2**63), 1.0, None, True, 10**5000]),
    ("stop", ["", [""], ["a", ""], 3, [3], {"a": "b"}, ["a"] * 101, "a" * 1001, b"a"]),
]


CASES = [pytest.param(name, value, id=f"{name}-{k}") for name, values in REFUSED for k, value in enumerate(values)]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_setting_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Settings(**{name: value})
    assert caught.value.culprit == name
    assert len(str(caught.value)) < 300
    assert caught.value.cure


@pytest.mark.parametrize(
    "accepted",
    [
        {"max_tokens": 10**9},
        {"max_tokens": 10**5000},
        {"temperature": 1e-30},
        {"temperature": 1e30},
        {"top_k": 10**9},
        {"top_p": 1e-9},
        {"top_p": 1},
        {"min_p": 1},
        {"seed": 2**63 - 1},
        {"stop": None},
        {"stop": "\0"},
        {"stop": ["a", "b"]},
    ],
    ids=lambda accepted: next(iter(accepted)),
)
def test_a_setting_at_its_limit_is_taken(accepted: dict[str, Any]) -> None:
    Settings(**accepted)
