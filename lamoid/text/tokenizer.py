"""From text to token ids and back, so that a file written by somebody else can neither crash nor fool the caller."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from lamoid.errors import InputError
from lamoid.text.checking import check_tokenizer, parse_object
from lamoid.text.reading import tokenizer_files
from lamoid.text.roles import ENDS, MASKS, PADS, SEPARATORS, STARTS, PairPlan, affixes, named_tokens, sentinels
from lamoid.text.streaming import TextStream, streaming_mode

REMAKE = "make the tokenizer anew with `lamoid tokenizer`, or fetch the file again"


@contextmanager
def library_guard(culprit: object, doing: str, cure: str = REMAKE) -> Iterator[None]:
    """Turn whatever the tokenizers library raises into an InputError.

    The library raises bare Exceptions, and for a hostile regular expression a PanicException, which is no Exception at
    all; so this is one of the few places where everything is caught. Keep the guarded block to library calls.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(culprit, f"{doing} failed: {str(error)[:300]}", cure) from error


class Tokenizer:
    """Text to token ids and back; made of the bytes of a tokenizer.json and of the files beside it.

    ``start`` and ``end`` are the ids of the control tokens that open and close a document (``start`` falls back to
    ``end``), ``controls`` all control ids, ``vocab`` the highest id plus one. ``mask``, ``pad`` and ``separator`` are
    ids too, None where there is none; ``sentinels`` those of T5's ``<extra_id_0>`` and on. ``adds_start`` tells whether
    a prompt opens with the start token. Text never becomes a control token unless ``control=True`` asks for it.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        name: object = "tokenizer.json",
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        self.name = str(name)
        self._files = dict(files)
        self._document = parse_object(files["tokenizer.json"], self.name)
        check_tokenizer(self._document, self.name)
        config_name = str(Path(self.name).with_name("tokenizer_config.json"))
        self._config = parse_object(files.get("tokenizer_config.json", b"{}"), config_name)
        self._named = named_tokens(self._config, config_name)
        self._library = self._load(literal=True)
        self.controls = frozenset(i for i, t in self._library.get_added_tokens_decoder().items() if t.special)
        self.vocab = max(self._library.get_vocab(with_added_tokens=True).values()) + 1
        unknown, unknown_id = (self._document["model"].get(key) for key in ("unk_token", "unk_id"))
        if isinstance(unknown, str):
            unknown_id = self._library.token_to_id(unknown)
        # The id of the unknown token is what the model gives for a character that it lacks: never a forgery.
        self._forbidden = self.controls - {unknown_id}
        with library_guard(self.name, "encoding a text"):
            self._prefix, self._suffix = affixes(self._library)
        self.start, self.end = self._ends(start, end)
        self.mask, self.pad = self._role("mask_token", MASKS), self._role("pad_token", PADS)
        self.separator = self._role("sep_token", SEPARATORS)
        self.sentinels = sentinels(self._library.token_to_id, self.controls)
        self.adds_start = bool(self._prefix)
        self._alphabet = _closed_alphabet(self._document)

    @classmethod
    def read(cls, folder: Path | str, *, start: int | None = None, end: int | None = None) -> "Tokenizer":
        """Read tokenizer.json, GPT-2's two files, a sentencepiece model, tiktoken's ranks or BERT's vocab.txt.

        ``folder`` may be the file itself; tokenizer.json wins in a folder of several forms, and any other form is
        turned into one (``files``). ``start`` and ``end`` override what the files say. Raise InputError for whatever
        cannot be used.
        """
        files, name = tokenizer_files(Path(folder))
        return cls(files, name=name, start=start, end=end)

    def encode(self, text: str, *, control: bool = False) -> list[int]:
        """Give the ids of ``text`` alone, no start or end added; ``control=True`` reads control tokens in it."""
        return self._encode([text], control)[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts at once on the library's threads; the same ids as ``encode`` one by one."""
        return self._encode(list(texts), False)

    def encode_places(self, text: str, *, control: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """Give the ids of ``text`` as ``encode`` does, and for each the characters [begin, end) that it stands for."""
        self._check_text(text)
        with library_guard(self.name, "encoding a text"):
            found = (self._parsing if control else self._library).encode(text, add_special_tokens=False)
        if control or self._forbidden.isdisjoint(found.ids):
            return found.ids, found.offsets
        spelled = [(self._spell([number]), place) for number, place in zip(found.ids, found.offsets, strict=True)]
        return [i for ids, _ in spelled for i in ids], [place for ids, place in spelled for _ in ids]

    def whole(self, ids: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Give the ids of one text or two with the template's control tokens around them, and the types."""
        if second is not None:
            return self._pairing.fill((ids, second))
        whole = [*self._prefix, *ids, *self._suffix]
        return whole, [0] * len(whole)

    @property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give the ids that the template puts before and behind a text."""
        return tuple(self._prefix), tuple(self._suffix)

    def named_tokens(self) -> dict[str, str]:
        """Give the control tokens that the settings name, role to token."""
        return dict(self._named)

    def prompt(self, text: str) -> list[int]:
        """Give the ids that a model reads before it continues ``text``: the start token before it where due."""
        if text == "" and not self._prefix:
            if self.start is None:
                raise InputError(self.name, "an empty prompt needs a start token and there is none", "give some text")
            return [self.start]
        return [*self._prefix, *self.encode(text), *self._suffix]

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Give the ids of two texts in the template's order, such as ``[CLS] a [SEP] b [SEP]``, and their types.

        Without a template the ids of the second follow those of the first.
        """
        return self._pairing.fill((self.encode(first), self.encode(second)))

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ``ids``; control tokens are left out and broken UTF-8 becomes U+FFFD."""
        with library_guard(self.name, "decoding", "pass token ids, whole numbers from 0"):
            return self._library.decode(list(ids), skip_special_tokens=True)

    def stream(self, before: Sequence[int] = (), *, shown: Collection[int] = ()) -> TextStream:
        """Start a decoder that takes one id at a time, for text that follows the tokens ``before``.

        Control tokens are left out of the text, but for those ``shown``.
        """
        return TextStream(self.decode, self._library.id_to_token, self.controls, self._mode, before, shown)

    def continuation(self, before: Sequence[int], new: Sequence[int]) -> str:
        """Give the text that ``new`` adds after ``before``, with the leading space that ``decode(new)`` would lose."""
        stream = self.stream(before)
        return "".join([stream.push(i) for i in new]) + stream.finish()

    def fingerprint(self) -> str:
        """Give the SHA-256, in hex, of tokenizer.json in canonical form and of the start and end ids."""
        canonical = [self._document, self.start, self.end]
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def pieces(self) -> list[str | None]:
        """Give each id's piece as the vocabulary writes it; None for an id without one."""
        with library_guard(self.name, "reading the vocabulary"):
            return [self._library.id_to_token(number) for number in range(self.vocab)]

    @property
    def byte_level(self) -> bool:
        """Tell whether pieces are written in GPT-2's stand-ins for bytes."""
        return self._mode == "bytes"

    @property
    def continuation_mark(self) -> str | None:
        """Give what a WordPiece vocabulary writes before pieces that continue a word; None for any other."""
        model = self._document["model"]
        return model.get("continuing_subword_prefix", "##") if model.get("type") == "WordPiece" else None

    def files(self) -> dict[str, bytes]:
        """Give the files to save, name to bytes; what was read comes back bit for bit."""
        return dict(self._files)

    @cached_property
    def _mode(self) -> str:
        return streaming_mode(self._document.get("decoder"))

    @cached_property
    def _pairing(self) -> PairPlan:
        with library_guard(self.name, "encoding a pair"):
            return PairPlan.of(self._library)

    @cached_property
    def _parsing(self) -> tokenizers.Tokenizer:
        """Give the library's object that reads control tokens in text: a second, its switch not being thread-safe."""
        return self._load(literal=False)

    @cached_property
    def _spellings(self) -> dict[int, list[int]]:
        return {}

    def _load(self, *, literal: bool) -> tokenizers.Tokenizer:
        with library_guard(self.name, "reading the tokenizer"):
            library = tokenizers.Tokenizer.from_str(self._files["tokenizer.json"].decode())
            library.no_truncation()
            library.no_padding()
            # transformers too makes control tokens of those that tokenizer_config.json names.
            known = [t for t in dict.fromkeys(self._named.values()) if library.token_to_id(t) is not None]
            library.add_special_tokens([tokenizers.AddedToken(t, special=True, normalized=False) for t in known])
            library.encode_special_tokens = literal
        for token in self._document.get("added_tokens") or ():
            if library.token_to_id(token["content"]) != token["id"]:
                raise InputError(
                    f"{self.name}: added_tokens: {token['content']!r}",
                    f"its id {token['id']} does not follow the vocabulary's (the library gives "
                    f"{library.token_to_id(token['content'])})",
                    "number added tokens on from the vocabulary without holes",
                )
        return library

    def _encode(self, texts: list[str], control: bool) -> list[list[int]]:
        for text in texts:
            self._check_text(text)
        library = self._parsing if control else self._library
        with library_guard(self.name, "encoding a text"):
            found = [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]
        if control:
            return found
        return [ids if self._forbidden.isdisjoint(ids) else self._spell(ids) for ids in found]

    def _check_text(self, text: str) -> None:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    "text", f"character {error.start} is half a surrogate pair, not a character", "give valid Unicode"
                ) from error
        if self._alphabet is not None and (missing := set(text) - self._alphabet):
            raise InputError(
                self.name,
                f"a closed character vocabulary, and the text has {min(missing)!r} (U+{ord(min(missing)):04X}) besides",
                "leave such characters out, or make a tokenizer that is not closed",
            )

    def _spell(self, ids: list[int]) -> list[int]:
        """Replace control ids that the model itself made of text by the ids of their characters."""
        spelled: list[int] = []
        for i in ids:
            if i in self._forbidden:
                if i not in self._spellings:
                    self._spellings[i] = self._characters(i)
                spelled.extend(self._spellings[i])
            else:
                spelled.append(i)
        return spelled

    def _characters(self, control: int) -> list[int]:
        content = self._library.id_to_token(control) or ""
        spelled: list[int] = []
        for character in content:
            ids = [t.id for t in self._library.model.tokenize(character)]
            if not ids or not self.controls.isdisjoint(ids):
                found = [self._library.token_to_id(f"<0x{b:02X}>") for b in character.encode()]
                ids = [i for i in found if i is not None and i not in self.controls]
                if len(ids) < len(found):
                    raise InputError(
                        self.name,
                        f"the text has {content!r}, which this vocabulary can only write as a control token",
                        "leave it out of the text",
                    )
            spelled.extend(ids)
        return spelled

    def _role(self, role: str, names: tuple[str, ...]) -> int | None:
        """Give the id that the settings name; that of a usual name where there are no settings."""
        return self._named_id(role) if self._named else self._guess(names)

    def _named_id(self, role: str) -> int | None:
        return self._library.token_to_id(self._named[role]) if role in self._named else None

    def _ends(self, start: int | None, end: int | None) -> tuple[int | None, int | None]:
        if start is None:
            start = self._named_id("bos_token")
        if start is None and self._prefix:
            start = self._prefix[0]
        if end is None:
            end = self._named_id("eos_token")
        if end is None and self._suffix:
            end = self._suffix[-1]
        if not self._named:
            start = self._guess(STARTS) if start is None else start
            end = self._guess(ENDS) if end is None else end
        return (end if start is None else start), end

    def _guess(self, names: tuple[str, ...]) -> int | None:
        ids = (self._library.token_to_id(n) for n in names)
        return next((i for i in ids if i is not None and i in self.controls), None)


def _closed_alphabet(document: dict[str, Any]) -> frozenset[str] | None:
    """Give the characters of a vocabulary whose model would drop any other one in silence; None if it is open."""
    model = document["model"]
    if model.get("type", "BPE") != "BPE" or model.get("unk_token") is not None or model.get("byte_fallback"):
        return None
    if document.get("normalizer") is not None or '"ByteLevel"' in json.dumps(document.get("pre_tokenizer")):
        return None
    return frozenset(token for token in model["vocab"] if len(token) == 1)
