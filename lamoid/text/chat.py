"""Conversations as token ids: rendered by the tokenizer's template, and never a control token out of what was said.

What is said is rendered with stand-ins for the characters that a control token begins or ends with, so that those
found in the rendered text are the template's own; then the characters are put back, and read as plain text.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamoid.errors import InputError
from lamoid.text.chat_renderer import DEADLINE, ChatRenderer
from lamoid.text.chat_templates import BUILT_IN
from lamoid.text.chat_worker import CLOSE, OPEN, ROLE_TOKENS
from lamoid.text.checking import parse_object
from lamoid.text.tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
MOST_MESSAGES = 4096
_GENERATION = re.compile(r"\{%-?\+?\s*generation\s*[-+]?%\}")
_TAKEN = ("messages", "add_generation_prompt", "today", "strftime_now", *ROLE_TOKENS)
_STAND_INS = 0xF0000
_LAST = 0xFFFEF
Message = Mapping[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class EncodedChat:
    """Token ids of a conversation, and for each whether it is of what the assistant says."""

    ids: list[int]
    is_answer: list[bool]


@dataclass(frozen=True)
class _Rendered:
    """A rendered text, where its control tokens stand, and what the assistant says in it."""

    text: str
    controls: list[Span]
    answers: list[Span]


def find_template(tokenizer: Tokenizer) -> tuple[str, str] | None:
    """Give the template that comes with a tokenizer, and where it stands; ``None`` if it has none.

    ``chat_template.jinja`` wins; in ``tokenizer_config.json`` it is a text, or a list of which the default is taken.
    """
    files = tokenizer.files()
    place = f"{tokenizer.name}: chat_template"
    if "chat_template.jinja" in files:
        place = f"{tokenizer.name}: chat_template.jinja"
        try:
            return files["chat_template.jinja"].decode(), place
        except UnicodeDecodeError as error:
            raise InputError(place, f"is not UTF-8: byte {error.start}", "save it as UTF-8") from error
    held = parse_object(files.get("tokenizer_config.json", b"{}"), place).get("chat_template")
    if isinstance(held, list):
        named = {part.get("name"): part.get("template") for part in held if isinstance(part, dict)}
        held = named.get("default")
        if held is None:
            raise InputError(place, "is a list without one that is called default", "name the template")
    if held is not None and not isinstance(held, str):
        raise InputError(place, f"is {str(held)[:60]!r}, no text", "write the template as a text")
    return None if held is None else (held, place)


def choose_template(tokenizer: Tokenizer, wanted: str) -> tuple[str, str]:
    """Give the text and the place of a built-in template, or of the tokenizer's own for ``""``.

    Raise ``InputError`` where there is none, or where the tokenizer lacks a control token that a built-in one writes.
    """
    if not wanted:
        own = find_template(tokenizer)
        if own is None:
            cure = f"choose one of {', '.join(BUILT_IN)} with objective.template"
            raise InputError(f"{tokenizer.name}: chat_template", "is missing", cure)
        return own
    if wanted not in BUILT_IN:
        raise InputError("objective.template", f"is {wanted[:60]!r}", f"choose one of {', '.join(BUILT_IN)}")
    known = _control_tokens(tokenizer)
    lacking = [token for token in BUILT_IN[wanted].controls if token not in known]
    if lacking:
        problem = f"writes {', '.join(lacking)}, which {tokenizer.name} has not as control tokens"
        raise InputError("objective.template", problem, 'choose "plain", which needs none, or a tokenizer with them')
    return BUILT_IN[wanted].source, f"template {wanted}"


class ChatEncoder:
    """Turns conversations into token ids by one template; used in a ``with``, for the template has a process.

    ``today`` (YYYY-MM-DD) is the date that a template may ask for.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: tuple[str, str], *, today: str = "", deadline: float = DEADLINE
    ) -> None:
        source, name = template
        self.tokenizer, self.name, self.today = tokenizer, name, today
        self._renderer = ChatRenderer(source, name, deadline=deadline)
        self._has_blocks = _GENERATION.search(source) is not None
        self._controls = _control_tokens(tokenizer)
        longest_first = sorted(self._controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._special = {name: token for name, token in tokenizer.named_tokens().items() if name in ROLE_TOKENS}

    def __enter__(self) -> "ChatEncoder":
        self._renderer.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._renderer.__exit__(*problem)

    def encode(
        self, messages: Sequence[Message], name: object = "messages", more: Mapping[str, Any] | None = None
    ) -> EncodedChat:
        """Give the ids of a conversation; ``more`` (``tools``, switches of a model) is handed to the template.

        What the assistant says is what stands in the template's ``{% generation %}`` blocks; without such blocks, it is
        what each of its messages adds to the text before it. Raise ``InputError`` naming the conversation or template.
        """
        chat, extra, stand_ins = self._taken(messages, name, more)
        rendered = self._render(chat, extra, stand_ins)
        answers = rendered.answers if self._has_blocks else self._added(chat, extra, stand_ins, rendered.text)
        return self._encode(_Rendered(rendered.text, rendered.controls, answers))

    def prompt(
        self, messages: Sequence[Message], name: object = "messages", more: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Give the ids of a conversation up to where the assistant is to speak."""
        chat, extra, stand_ins = self._taken(messages, name, more)
        return self._encode(self._render(chat, {**extra, "add_generation_prompt": True}, stand_ins)).ids

    def answer_ends(self) -> frozenset[int]:
        """Give the control token that the template writes behind an answer, if it writes one: a turn ends there."""
        said = "An answer."
        chat, extra, stand_ins = self._taken(
            [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": said}], "messages", None
        )
        rendered = self._render(chat, extra, stand_ins)
        end = rendered.text.rfind(said) + len(said)
        behind = [(begin, last) for begin, last in rendered.controls if begin >= end]
        return frozenset(self._controls[rendered.text[begin:last]] for begin, last in behind[:1])

    def _taken(
        self, messages: Sequence[Message], name: object, more: Mapping[str, Any] | None
    ) -> tuple[list[Any], dict[str, Any], "_StandIns"]:
        """Check what is said, and put stand-ins into it."""
        check_messages(messages, name)
        given = dict(more or {})
        _check_more(given, name)
        stand_ins = _StandIns(self._controls, "".join(_strings([list(messages), given])))
        return [stand_ins.put_into_message(message) for message in messages], stand_ins.put_in(given), stand_ins

    def _render(self, chat: list[Any], extra: dict[str, Any], stand_ins: "_StandIns") -> _Rendered:
        given = {"messages": chat, "tools": None, "documents": None, "add_generation_prompt": False, **self._special}
        marked = self._renderer.render({**given, **extra, "today": self.today})
        text, answers = _without_marks(marked, self.name)
        controls = [found.span() for found in self._pattern.finditer(text)]
        return _Rendered(stand_ins.take_out(text), controls, answers)

    def _added(self, chat: list[Any], extra: dict[str, Any], stand_ins: "_StandIns", text: str) -> list[Span]:
        """Find what each message of the assistant adds, by rendering the conversation up to it and with it."""
        found: list[Span] = []
        for index, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            asked = self._render(chat[:index], {**extra, "add_generation_prompt": True}, stand_ins).text
            said = self._render(chat[: index + 1], extra, stand_ins).text
            if not said.startswith(asked) or not text.startswith(said):
                problem = f"writes what comes before message {index + 1} otherwise when more follows"
                raise InputError(self.name, problem, "mark the answers in it with {% generation %}")
            found.append((len(asked), len(said)))
        return found

    def _encode(self, rendered: _Rendered) -> EncodedChat:
        ids, places = self.tokenizer.encode_places(rendered.text, control=True)
        found = [place for number, place in zip(ids, places, strict=True) if number in self.tokenizer.controls]
        if found != rendered.controls:
            # Somebody wrote a control token's name: what stands between the template's own is read as plain text.
            ids, places = self._in_pieces(rendered)
        is_answer = [False] * len(ids)
        begins, ends = [begin for begin, _ in places], [end for _, end in places]
        for begin, end in rendered.answers:
            # Tokens stand in order, so those that reach into the span are neighbours.
            for index in range(bisect_left(ends, begin + 1), bisect_left(begins, end)):
                is_answer[index] = begin < end
        return EncodedChat(ids, is_answer)

    def _in_pieces(self, rendered: _Rendered) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        places: list[Span] = []
        at = 0
        for begin, end in [*rendered.controls, (len(rendered.text), len(rendered.text))]:
            if begin > at:
                more, where = self.tokenizer.encode_places(rendered.text[at:begin])
                ids += more
                places += [(at + first, at + last) for first, last in where]
            if end > begin:
                ids.append(self._controls[rendered.text[begin:end]])
                places.append((begin, end))
            at = end
        return ids, places


class _StandIns:
    """Characters of nobody's, put in place of those that what is said could make a control token with.

    These are the first and the last one of each token; and where a text as a whole is a piece out of the middle of
    one, such as what a template would write between ``<|`` and ``|>``, all of its characters.
    """

    def __init__(self, controls: Mapping[str, int], taken: str) -> None:
        used = set(taken)
        self.controls = tuple(controls)
        free = (chr(code) for code in range(_STAND_INS, _LAST) if chr(code) not in used)
        marks = {OPEN, CLOSE}  # what the renderer sets around an answer
        letters = sorted({letter for token in controls for letter in token if not letter.isspace()} | marks)
        self._all = str.maketrans({letter: next(free) for letter in letters})
        ends = marks | {letter for token in controls for letter in (token[0], token[-1])}
        self._ends = {code: stand_in for code, stand_in in self._all.items() if chr(code) in ends}
        self._back = str.maketrans({stand_in: chr(code) for code, stand_in in self._all.items()})

    def put_in(self, value: Any) -> Any:
        """Give the same nested value with the stand-ins in all its texts."""
        if isinstance(value, str):
            inner = value.strip()
            is_piece = bool(inner) and any(inner in token for token in self.controls)
            return value.translate(self._all if is_piece else self._ends)
        if isinstance(value, dict):
            return {self._key(key): self.put_in(part) for key, part in value.items()}
        return [self.put_in(part) for part in value] if isinstance(value, list) else value

    def put_into_message(self, message: Message) -> dict[str, Any]:
        """Do so with a message, but for its role, which is one of a few words that templates ask for."""
        return {**self.put_in(message), "role": message["role"]}

    def _key(self, key: Any) -> Any:
        """Give a key, by which templates find what they look for, as it is unless it could write a control token."""
        if not isinstance(key, str) or (key.isidentifier() and not any(token in key for token in self.controls)):
            return key
        return key.translate(self._ends)

    def take_out(self, text: str) -> str:
        """Put the characters back."""
        return text.translate(self._back)


def check_messages(messages: Any, name: object) -> None:
    """Raise ``InputError`` for what is no conversation: a list of objects with a known role and a text as content."""
    if not isinstance(messages, list | tuple) or not messages:
        raise InputError(name, "holds no list of messages", 'write [{"role": "user", "content": "..."}]')
    if len(messages) > MOST_MESSAGES:
        raise InputError(name, f"has {len(messages)} messages, the limit is {MOST_MESSAGES}", "split it")
    for number, message in enumerate(messages, 1):
        where = f"{name}: message {number}"
        if not isinstance(message, dict):
            raise InputError(where, "is no object", 'write {"role": "user", "content": "..."}')
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in ROLES:
            raise InputError(f"{where}: role", f"is {str(role)[:60]!r}", f"choose one of {', '.join(ROLES)}")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise InputError(f"{where}: content", f"is {str(content)[:60]!r}, no text", "write a text")


def _check_more(more: Mapping[str, Any], name: object) -> None:
    """Refuse what would stand in the place of the conversation, or of the tokenizer's own tokens."""
    taken = next((key for key in more if key in _TAKEN), None)
    if taken is not None:
        raise InputError(f"{name}: {taken[:60]}", "is given to the template by Lamoid itself", "leave it out")


def _strings(value: Any) -> Iterator[str]:
    """Give all texts of a nested value."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)


def _without_marks(marked: str, name: str) -> tuple[str, list[Span]]:
    """Take the marks of generation blocks out, and give what stood between them."""
    pieces, answers, begins, at = [], [], [], 0
    for piece in re.split(f"([{OPEN}{CLOSE}])", marked):
        if piece == OPEN:
            begins.append(at)
        elif piece == CLOSE:
            if not begins:
                raise InputError(name, "ends a generation block that it did not begin", "mend the template")
            answers.append((begins.pop(), at))
        else:
            pieces.append(piece)
            at += len(piece)
    return "".join(pieces), sorted(answers)


def _control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    pieces = tokenizer.pieces()
    named = ((pieces[number], number) for number in sorted(tokenizer.controls))
    return {piece: number for piece, number in named if piece}
