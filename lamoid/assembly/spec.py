"""The description of a whole model, and its two written forms: JSON beside the weights, TOML by hand."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_CONTEXT, MOST_DEPTH, MOST_LAYERS, MOST_VOCAB, MOST_WIDTH, whole
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.norm import NormSpec
from lamoid.assembly.paths import join, walk
from lamoid.assembly.scope import Scope
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.task_heads import TaskHeadSpec
from lamoid.assembly.wiring import SOURCE, CrossSpec, NodeSpec, StackSpec, check_names, in_series, series_scopes
from lamoid.errors import InputError

MOST_BYTES = 16 * 2**20
HeadSpec = NextTokenSpec | TaskHeadSpec


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An embedding, blocks in series, a last norm and named heads on one stream that starts with ``width``.

    ``vocab`` counts token ids and ``context`` the tokens that the model is made to read at once. The first head is the
    default one. ``sharing`` names modules that have their parameters in common.
    """

    width: int
    vocab: int
    context: int
    embedding: EmbeddingSpec
    blocks: tuple[NodeSpec, ...]
    norm: NormSpec
    heads: dict[str, HeadSpec]
    sharing: tuple[ShareSpec, ...] = ()

    def __post_init__(self) -> None:
        whole("width", self.width, 1, MOST_WIDTH)
        whole("vocab", self.vocab, 1, MOST_VOCAB)
        whole("context", self.context, 1, MOST_CONTEXT)
        whole("number of blocks", len(self.blocks), 1, MOST_LAYERS)
        whole("number of heads", len(self.heads), 1, 1000)
        check_names("heads", self.heads)
        _check_size(self)
        _check_sources(self)
        width = self.trunk.width
        rows = self.embedding.row_width(self.width)
        for name, head in self.heads.items():
            if isinstance(head, NextTokenSpec) and isinstance(head.linear, TiedSpec):
                given = head.transform.width_out(width)
                if given != rows:
                    problem = f"is tied to embedding.tokens, whose rows have {rows} numbers, and is given {given}"
                    cure = "make the widths equal, or give the head a matrix of its own"
                    raise InputError(f"heads.{name}.linear", problem, cure)

    @property
    def scope(self) -> Scope:
        """What the embedding and the first block stand in."""
        return Scope(self.width, self.vocab, self.context)

    @property
    def trunk(self) -> Scope:
        """What the last norm and the heads stand in."""
        return series_scopes(self.blocks, self.scope, "blocks")[-1]

    def parameters(self) -> int:
        """Count the stored numbers, a shared one once."""
        if self.sharing:
            # Which modules share is known once they are there; the model stands above its spec, hence the late import.
            from lamoid.assembly.model import empty_model

            return sum(parameter.numel() for parameter in empty_model(self).parameters())
        ends = self.embedding.parameters(self.scope) + self.norm.parameters(self.trunk.width)
        heads = sum(head.parameters(self.trunk) for head in self.heads.values())
        return ends + heads + sum(block.parameters(at) for block, at in in_series(self.blocks, self.scope))

    def flops(self, context: int | None = None) -> int:
        """Count the operations of a forward pass for one token, averaged over a text of ``context`` tokens.

        A source counts as long as the text. Of the heads it is the default one.
        """
        length = self.context if context is None else context
        ends = next(iter(self.heads.values())).flops(self.trunk) + self.embedding.flops(self.scope)
        return ends + sum(block.flops(at, length) for block, at in in_series(self.blocks, self.scope))

    def cache_numbers(self) -> int:
        """Count the numbers that a cache keeps for one token."""
        return sum(block.cache_numbers(at) for block, at in in_series(self.blocks, self.scope))

    @property
    def reads_source(self) -> bool:
        """Does it read a second batch beside its own, as an encoder-decoder does?"""
        return any(isinstance(part, StackSpec) and part.stream == SOURCE for _, part in walk(self.blocks))

    @property
    def not_causal(self) -> str | None:
        """The path of the first mixer that sees later tokens, so that no text can be written token by token."""
        mixers = ((path, block.mixer) for path, block in own_blocks(self.blocks, "blocks"))
        return next((f"{path}.mixer" for path, mixer in mixers if not mixer.is_causal), None)


def own_blocks(part: Any, path: str) -> Iterator[tuple[str, BlockSpec]]:
    """Give every block with its path, but for those that read a source."""
    sources = tuple(f"{join(path, place)}." for place, node in walk(part) if is_source(node))
    for place, node in walk(part):
        whole_path = join(path, place)
        if isinstance(node, BlockSpec) and not whole_path.startswith(sources):
            yield whole_path, node


def is_source(part: Any) -> bool:
    """Is it a stack that reads the batch's source?"""
    return isinstance(part, StackSpec) and part.stream == SOURCE


def _check_size(spec: ModelSpec) -> None:
    """Bound depth and number of nodes before anything walks them by recursion."""
    blocks = 0
    for path, part in walk(spec.blocks):
        if path.count(".") > MOST_DEPTH:
            problem = f"is nested more than {MOST_DEPTH} names deep"
            raise InputError(f"blocks.{path[:60]}...", problem, "write it flatter")
        blocks += isinstance(part, BlockSpec)
        whole("number of blocks", blocks, 0, MOST_LAYERS)


def _check_sources(spec: ModelSpec) -> None:
    """A source has places of its own, so only a cross can join it to the stream."""
    memories = {f"{place}.memory" for place, part in walk(spec.blocks) if isinstance(part, CrossSpec)}
    for place, part in walk(spec.blocks):
        if is_source(part) and place not in memories:
            cure = 'make it the memory of a "cross", or let it read a stream that goes with the ids'
            raise InputError(f"blocks.{place}", "reads the source outside of a cross", cure)


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
    try:
        return msgspec.convert(_expanded(tree, path, 0), ModelSpec)
    except msgspec.ValidationError as error:
        raise InputError(path, str(error), "mend the field named") from error


def encode_toml(spec: ModelSpec) -> bytes:
    """Write a spec as TOML, every block by itself."""
    return tomli_w.dumps(msgspec.to_builtins(spec)).encode()


def _expanded(part: Any, path: Path, depth: int) -> Any:
    """Write out what TOML may abbreviate, in every list of blocks at any depth: ``repeat``, and kind = "block"."""
    if depth > 4 * MOST_DEPTH:
        raise InputError(path, f"is nested more than {4 * MOST_DEPTH} deep", "write it flatter")
    if isinstance(part, list):
        return [_expanded(entry, path, depth + 1) for entry in part]
    if not isinstance(part, dict):
        return part
    part = {key: _expanded(value, path, depth + 1) for key, value in part.items()}
    if isinstance(part.get("blocks"), list):
        part["blocks"] = _repeated(part["blocks"], path)
    return part


def _repeated(blocks: list[Any], path: Path) -> list[Any]:
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
            if "kind" not in plain and "mixer" in plain:
                plain = {"kind": "block", **plain}
            is_group = set(plain) == {"blocks"} and isinstance(plain["blocks"], list)
            part = plain["blocks"] if is_group else [plain]
        if len(expanded) + times * len(part) > MOST_LAYERS:
            raise InputError(f"{path}: blocks", f"come to more than {MOST_LAYERS}", "repeat fewer")
        expanded.extend(part * times)
    return expanded
