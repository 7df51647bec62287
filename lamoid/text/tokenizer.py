"""From text to token ids and back, so that a file written by somebody else can neither crash nor fool the caller."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from lamoid.contained import is_there, read_inside, read_whole
from lamoid.errors import InputError
from lamoid.text.checking import check_tokenizer, parse_object
from lamoid.text.gpt2 import gpt2_files
from lamoid.text.streaming import TextStream, streaming_mode

LARGEST_FILE = 128 * 2**20
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
    ``end``), ``controls`` all control ids, ``vocab`` the highest id plus one. ``adds_start`` tells whether a prompt
    opens with the start token. Text never becomes a control token unless ``control=True`` asks for it.
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
        self._named = _named_tokens(self._config, config_name)
        self._library = self._load(literal=True)
        self.controls = frozenset(i for i, t in self._library.get_added_tokens_decoder().items() if t.special)
        self.vocab = max(self._library.get_vocab(with_added_tokens=True).values()) + 1
        unknown = self._document["model"].get("unk_token")
        unknown_id = None if unknown is None else self._library.token_to_id(unknown)
        # The id of the unknown token is what the model gives for a character that it lacks: never a forgery.
        self._forbidden = self.controls - {unknown_id}
        self._prefix, self._suffix = self._affixes()
        self.start, self.end = self._ends(start, end)
        self.adds_start = bool(self._prefix)
        self._alphabet = _closed_alphabet(self._document)

    @classmethod
    def read(cls, folder: Path | str, *, start: int | None = None, end: int | None = None) -> "Tokenizer":
        """Read tokenizer.json (with tokenizer_config.json) or GPT-2's two files; ``folder`` may be the file itself.

        ``start`` and ``end`` override what the files say. Raise InputError for whatever cannot be used.
        """
        path = Path(folder)
        place, main = (path, path / "tokenizer.json") if path.is_dir() else (path.parent, path)
        if is_there(place, main.name):
            # A file that the person names may lie anywhere; what is only found beside it must be the folder's own.
            data = read_whole(main, limit=LARGEST_FILE) if main is path else _read_file(place, main.name)
            files = {"tokenizer.json": data, "tokenizer_config.json": _CONFIG, **_read_beside(place)}
            return cls(files, name=main, start=start, end=end)
        for vocabulary, merges in _PAIRS if place is path else ():
            if is_there(place, vocabulary) and is_there(place, merges):
                made = gpt2_files(_read_file(place, vocabulary), _read_file(place, merges), place)
                return cls({**made, **_read_beside(place)}, name=place / vocabulary, start=start, end=end)
        raise InputError(
            path,
            "holds no tokenizer (neither tokenizer.json nor vocab.json with merges.txt)",
            "name a folder or file that has one, or make one with `lamoid tokenizer`",
        )

    def encode(self, text: str, *, control: bool = False) -> list[int]:
        """Give the ids of ``text`` alone, no start or end added; ``control=True`` reads control tokens in it."""
        return self._encode([text], control)[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts at once on the library's threads; the same ids as ``encode`` one by one."""
        return self._encode(list(texts), False)

    def prompt(self, text: str) -> list[int]:
        """Give the ids that a model reads before it continues ``text``: the start token before it where due."""
        if text == "" and not self._prefix:
            if self.start is None:
                raise InputError(self.name, "an empty prompt needs a start token and there is none", "give some text")
            return [self.start]
        return [*self._prefix, *self.encode(text), *self._suffix]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ``ids``; control tokens are left out and broken UTF-8 becomes U+FFFD."""
        with library_guard(self.name, "decoding", "pass token ids, whole numbers from 0"):
            return self._library.decode(list(ids), skip_special_tokens=True)

    def stream(self, before: Sequence[int] = ()) -> TextStream:
        """Start a decoder that takes one id at a time, for text that follows the tokens ``before``."""
        return TextStream(self.decode, self._library.id_to_token, self.controls, self._mode, before)

    def continuation(self, before: Sequence[int], new: Sequence[int]) -> str:
        """Give the text that ``new`` adds after ``before``, with the leading space that ``decode(new)`` would lose."""
        stream = self.stream(before)
        return "".join([stream.push(i) for i in new]) + stream.finish()

    def fingerprint(self) -> str:
        """Give the SHA-256, in hex, of tokenizer.json in canonical form and of the start and end ids."""
        canonical = [self._document, self.start, self.end]
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def files(self) -> dict[str, bytes]:
        """Give the files to save, name to bytes; what was read comes back bit for bit."""
        return dict(self._files)

    @cached_property
    def _mode(self) -> str:
        return streaming_mode(self._document.get("decoder"))

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

    def _affixes(self) -> tuple[list[int], list[int]]:
        """Give the ids that the template of tokenizer.json puts before and after a text.

        ``add_bos_token`` of tokenizer_config.json says nothing here: transformers 5 ignores it beside a tokenizer.json.
        """
        with library_guard(self.name, "encoding a text"):
            bare = self._library.encode("a", add_special_tokens=False).ids
            full = self._library.encode("a", add_special_tokens=True).ids
        places = (k for k in range(len(full) + 1) if full[k : k + len(bare)] == bare)
        cut = next(places, 0) if bare else len(full)
        return full[:cut], full[cut + len(bare) :]

    def _named_id(self, role: str) -> int | None:
        return self._library.token_to_id(self._named[role]) if role in self._named else None

    def _ends(self, start: int | None, end: int | None) -> tuple[int | None, int | None]:
        if start is None:
            start = self._named_id("bos_token")
        if start is None and self._prefix:
            start = self._prefix[0]
        if end is None:
            end = self._named_id("eos_token")
        if not self._named:
            start = self._guess(_STARTS) if start is None else start
            end = self._guess(_ENDS) if end is None else end
        return (end if start is None else start), end

    def _guess(self, names: tuple[str, ...]) -> int | None:
        ids = (self._library.token_to_id(n) for n in names)
        return next((i for i in ids if i is not None and i in self.controls), None)


def _read_file(folder: Path, name: str) -> bytes:
    return read_inside(folder, name, limit=LARGEST_FILE)


def _read_beside(folder: Path) -> dict[str, bytes]:
    """Read the other files of a tokenizer, which are saved with every model that uses it."""
    return {name: _read_file(folder, name) for name in _BESIDE if is_there(folder, name)}


def _named_tokens(config: dict[str, Any], name: str) -> dict[str, str]:
    """Give the control tokens that tokenizer_config.json names, role to token."""
    named: dict[str, str] = {}
    for role in _ROLES:
        token = config.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        if content is None or content == "":
            continue
        if not isinstance(content, str):
            raise InputError(f"{name}: {role}", f"must be a text, not {str(content)[:80]}", "name the token as text")
        named[role] = content
    for field in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(field) or ()
        values = list(more.values()) if isinstance(more, dict) else more
        for k, token in enumerate(values if isinstance(values, list) else ()):
            content = token.get("content") if isinstance(token, dict) else token
            if isinstance(content, str) and content:
                named[f"{field}[{k}]"] = content
    return named


def _closed_alphabet(document: dict[str, Any]) -> frozenset[str] | None:
    """Give the characters of a vocabulary whose model would drop any other one in silence; None if it is open."""
    model = document["model"]
    if model.get("type", "BPE") != "BPE" or model.get("unk_token") is not None or model.get("byte_fallback"):
        return None
    if document.get("normalizer") is not None or '"ByteLevel"' in json.dumps(document.get("pre_tokenizer")):
        return None
    return frozenset(token for token in model["vocab"] if len(token) == 1)


_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_STARTS = ("<|begin_of_text|>", "<s>", "<bos>", "[CLS]", "<|endoftext|>")
_ENDS = ("<|end_of_text|>", "</s>", "<eos>", "[SEP]", "<|endoftext|>")
_CONFIG = b'{\n  "tokenizer_class": "PreTrainedTokenizerFast",\n  "clean_up_tokenization_spaces": false\n}\n'
