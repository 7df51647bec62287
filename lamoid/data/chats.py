"""Conversations to learn from: lists of messages, or rows of a question and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamoid.data.rows import Record, read_records
from lamoid.errors import InputError

FORMS = (("prompt", "completion"), ("instruction", "output"))


@dataclass(frozen=True)
class Chat:
    """Messages, what else the template is given, and where they stand."""

    messages: list[dict[str, Any]]
    more: dict[str, Any]
    name: str

    @property
    def text(self) -> str:
        """What is said in it."""
        return "\n".join(said for message in self.messages if isinstance(said := message.get("content"), str))


def read_chats(paths: Sequence[str | Path]) -> list[Chat]:
    """Read rows that have ``messages``, ``prompt`` and ``completion``, or ``instruction``, ``input`` and ``output``.

    ``system`` beside a prompt is the first message; ``tools`` and ``chat_template_kwargs`` beside messages are handed
    to the template. Raise
    ``InputError`` naming file and line for a row of no such form, an empty answer, and a chat without an answer.
    """
    return [_chat(record) for record in read_records(paths)]


def _chat(record: Record) -> Chat:
    if "messages" in record.fields:
        messages = record.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise InputError(
                f"{record.name}: messages", "are no list of objects", 'write [{"role": ..., "content": ...}]'
            )
        chat = Chat(messages, _more(record), record.name)
    else:
        chat = _answered(record)
    answers = [message for message in chat.messages if message.get("role") == "assistant"]
    if not answers:
        raise InputError(record.name, "has no message of the assistant to learn", "leave it out")
    for message in answers:
        said = message.get("content")
        if (not isinstance(said, str) or not said.strip()) and not message.get("tool_calls"):
            raise InputError(record.name, "has an answer of the assistant that is empty", "leave it out")
    return chat


def _answered(record: Record) -> Chat:
    form = next((form for form in FORMS if form[0] in record.fields and form[1] in record.fields), None)
    if form is None:
        wanted = "messages, prompt and completion, or instruction and output"
        problem = f"has the fields {', '.join(map(str, record.fields))[:200] or 'none'}"
        raise InputError(record.name, problem, f"give rows with {wanted}")
    asked = record.text(form[0])
    beside = record.fields.get("input")
    if form[0] == "instruction" and isinstance(beside, str) and beside.strip():
        asked = f"{asked}\n\n{beside}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": record.text(form[1])}]
    if isinstance(record.fields.get("system"), str):
        messages.insert(0, {"role": "system", "content": record.text("system", may_be_empty=True)})
    return Chat(messages, {}, record.name)


def _more(record: Record) -> dict[str, Any]:
    more = record.fields.get("chat_template_kwargs") or {}
    if not isinstance(more, dict):
        raise InputError(f"{record.name}: chat_template_kwargs", "are no object", 'write {"enable_thinking": false}')
    tools = record.fields.get("tools")
    if tools is None:
        return more
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(f"{record.name}: tools", "are no list of objects", "write each tool's schema")
    return {**more, "tools": tools}
