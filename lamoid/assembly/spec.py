"""The description of a whole model, and its two written forms: JSON beside the weights, TOML by hand."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_CONTEXT, MOST_LAYERS, MOST_VOCAB, MOST_WIDTH, whole
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.heads import HeadSpec
from lamoid.assembly.norm import NormSpec
from lamoid.errors import InputError

MOST_BYTES = 16 * 2**20


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An embedding, blocks in series, a last norm and named heads on one stream of ``width``.

    ``vocab`` counts token ids and ``context`` the tokens that the model is made to read at once. The first head is the
    default one.
    """

    width: int
    vocab: int
    context: int
    embedding: EmbeddingSpec
    blocks: tuple[BlockSpec, ...]
    norm: NormSpec
    heads: dict[str, HeadSpec]

    def __post_init__(self) -> None:
        whole("width", self.width, 1, MOST_WIDTH)
        whole("vocab", self.vocab, 1, MOST_VOCAB)
        whole("context", self.context, 1, MOST_CONTEXT)
        whole("number of blocks", len(self.blocks), 1, MOST_LAYERS)
        whole("number of heads", len(self.heads), 1, 1000)

    def parameters(self) -> int:
        """Count the stored numbers, a shared one once."""
        ends = self.embedding.parameters(self.vocab, self.width, self.context) + self.norm.parameters(self.width)
        heads = sum(head.parameters(self.width, self.vocab) for head in self.heads.values())
        return ends + heads + sum(block.parameters(self.width) for block in self.blocks)

    def flops(self, context: int | None = None) -> int:
        """Count the operations of a forward pass for one token, averaged over a text of ``context`` tokens."""
        length = self.context if context is None else context
        head = next(iter(self.heads.values()))
        return head.flops(self.width, self.vocab) + sum(block.flops(self.width, length) for block in self.blocks)

    def cache_numbers(self) -> int:
        """Count the numbers that a cache keeps for one token."""
        return sum(block.mixer.cache_numbers() for block in self.blocks)


def encode_spec(spec: ModelSpec) -> bytes:
    """Write a spec as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n"


def decode_spec(data: bytes, *, file: str | Path) -> ModelSpec:
    """Read a spec from JSON; an ``InputError`` names ``file`` and the field."""
    try:
        return msgspec.json.decode(data, type=ModelSpec)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(file, str(error), "mend the field named, or write the spec anew") from error


def read_spec(path: str | Path) -> ModelSpec:
    """Read a spec from a ``.json`` or ``.toml`` file; in TOML, ``repeat = n`` on a block or a group is expanded."""
    path = Path(path)
    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise InputError(path, error.strerror or str(error), "name a readable .json or .toml file") from error
    if data is None:
        raise InputError(path, f"is larger than {MOST_BYTES} bytes", "a spec is a short text")
    if path.suffix != ".toml":
        return decode_spec(data, file=path)
    try:
        tree = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"is not TOML: {error}", "mend the place named") from error
    if isinstance(tree.get("blocks"), list):
        tree["blocks"] = _expand(tree["blocks"], path)
    try:
        return msgspec.convert(tree, ModelSpec)
    except msgspec.ValidationError as error:
        raise InputError(path, str(error), "mend the field named") from error


def _expand(blocks: list[Any], path: Path) -> list[Any]:
    """Repeat blocks and groups ({repeat, blocks}) as often as they say, at most ``MOST_LAYERS`` in all."""
    expanded: list[Any] = []
    for entry in blocks:
        times = entry.get("repeat", 1) if isinstance(entry, dict) else 1
        if type(times) is not int or not 1 <= times <= MOST_LAYERS:
            raise InputError(
                f"{path}: repeat", f"is {times!r}, must lie from 1 to {MOST_LAYERS}", "write a whole number"
            )
        part = [entry]
        if isinstance(entry, dict):
            plain = {key: value for key, value in entry.items() if key != "repeat"}
            is_group = set(plain) == {"blocks"} and isinstance(plain["blocks"], list)
            part = _expand(plain["blocks"], path) if is_group else [plain]
        if len(expanded) + times * len(part) > MOST_LAYERS:
            raise InputError(f"{path}: blocks", f"come to more than {MOST_LAYERS}", "repeat fewer")
        expanded.extend(part * times)
    return expanded
