"""Conversations of three forms, and what is none."""

import json
from pathlib import Path

import pytest

from lamoid.data.chats import read_chats
from lamoid.errors import InputError

MESSAGES = [{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"messages": MESSAGES}, MESSAGES),
        ({"prompt": "2 + 2", "completion": "4"}, MESSAGES),
        ({"instruction": "2 + 2", "input": "", "output": "4"}, MESSAGES),
        ({"instruction": "2", "input": "2", "output": "4"}, [{"role": "user", "content": "2\n\n2"}, MESSAGES[1]]),
        ({"prompt": "2 + 2", "completion": "4", "system": "s"}, [{"role": "system", "content": "s"}, *MESSAGES]),
    ],
)
def test_three_forms_are_conversations(row: dict, wanted: list, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (found,) = read_chats([tmp_path / "a.jsonl"])
    assert found.messages == wanted


@pytest.mark.parametrize(
    "row",
    [
        {"text": "a"},
        {"messages": "a"},
        {"messages": ["a"]},
        {"messages": MESSAGES[:1]},
        {"messages": [{"role": "assistant", "content": ""}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": MESSAGES, "tools": "a"},
        {"messages": MESSAGES, "chat_template_kwargs": "a"},
        {"prompt": "a", "completion": " "},
        {"prompt": 1, "completion": "a"},
        {"prompt": "a"},
    ],
)
def test_what_is_none_is_named(row: dict, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": MESSAGES}) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match="line 2"):
        read_chats([tmp_path / "a.jsonl"])


def test_real_instructions_are_read(data_folder: Path) -> None:
    assert len(read_chats([data_folder / "instruct_rasbt/instruction-data.json"])) == 1100
