"""The description of a whole model, and its two written forms: JSON beside the weights, TOML by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from lamoid.assembly.attention import CrossAttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_CONTEXT, MOST_DEPTH, MOST_LAYERS, MOST_VOCAB, MOST_WIDTH, whole
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.norm import NormSpec, RMSNormSpec
from lamoid.assembly.paths import children, is_composite, join, part_at, walk
from lamoid.assembly.recurrence import RecurrentSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.task_heads import TaskHeadSpec, TextAnswerSpec
from lamoid.assembly.wiring import (
    SOURCE,
    CrossSpec,
    NodeSpec,
    ProjectSpec,
    StackSpec,
    check_names,
    in_series,
    series_scopes,
)
from lamoid.assembly.written import read_written
from lamoid.assembly.written_file import parse_spec_json, read_tree
from lamoid.errors import InputError

MOST_PARTS = 300_000
LEAVES = (BlockSpec, ProjectSpec, EmbeddingSpec)
HeadSpec = NextTokenSpec | TaskHeadSpec


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An embedding, blocks in series, a last norm and named heads on one stream that starts with ``width``.

    ``vocab`` counts token ids and ``context`` the tokens that the model is made to read at once. The first head is the
    default one. ``sharing`` names modules that have their parameters in common.
    """

    width: int
    vocab: int
    context: int
    embedding: EmbeddingSpec = EmbeddingSpec()
    blocks: tuple[NodeSpec, ...] = ()
    norm: NormSpec = RMSNormSpec()
    heads: dict[str, HeadSpec] = msgspec.field(default_factory=dict)
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

        A source counts as long as the text. Of the heads it is the default one, which answers each token or once.
        """
        length = self.context if context is None else context
        head = next(iter(self.heads.values()))
        answer = head.flops(self.trunk)
        if isinstance(head, TextAnswerSpec):
            answer = round(answer / length)
        ends = self.embedding.flops(self.scope) + answer
        return ends + sum(block.flops(at, length) for block, at in in_series(self.blocks, self.scope))

    def cache_numbers(self) -> int:
        """Count the numbers that a cache keeps for one token; cross-attention to a source keeps them of its tokens."""
        return sum(block.cache_numbers(at) for block, at in in_series(self.blocks, self.scope))

    def state_numbers(self) -> int:
        """Count the numbers that a cache keeps for one text, however long: what recurrences and filters remember."""
        return sum(block.state_numbers(at) for block, at in in_series(self.blocks, self.scope))

    @property
    def reads_source(self) -> bool:
        """Does it read a second batch beside its own, as an encoder-decoder does?"""
        return any(is_source(part) for _, part in walk(self.blocks, leaves=LEAVES))

    @property
    def not_causal(self) -> str | None:
        """The path of the first mixer that sees later tokens, so that no text can be written token by token."""
        for path, block in own_blocks(self.blocks, "blocks"):
            if not block.mixer.is_causal and not _faces_source(self, path, block):
                return f"{path}.mixer"
        return None


def own_blocks(part: Any, path: str) -> Iterator[tuple[str, BlockSpec]]:
    """Give every block with its path, but for those that read a source."""
    sources = tuple(f"{join(path, place)}." for place, node in walk(part, leaves=LEAVES) if is_source(node))
    for place, node in walk(part, leaves=LEAVES):
        whole_path = join(path, place)
        if isinstance(node, BlockSpec) and not whole_path.startswith(sources):
            yield whole_path, node


def is_source(part: Any) -> bool:
    """Is it a stack that reads the batch's source?"""
    return isinstance(part, StackSpec) and part.stream == SOURCE


def _check_size(spec: ModelSpec) -> None:
    """Bound depth and number of nodes before anything walks them."""
    blocks, parts, height = _measure(spec.blocks, 0, {})
    _check_depth(height)
    check_counts(blocks, parts)


def count_parts(spec: ModelSpec) -> tuple[int, int]:
    """Count the nodes of a model and all its parts, each where it stands; a recurrence's layers are parts."""
    blocks, parts, _ = _measure(spec.blocks, 0, {})
    return blocks, parts


def check_counts(blocks: int, parts: int, whose: str = "") -> None:
    """Refuse more nodes or parts than can be built, whoever has them."""
    whole(f"number of blocks{whose}", blocks, 0, MOST_LAYERS)
    whole(f"number of parts{whose}", parts, 0, MOST_PARTS)


def _check_depth(depth: int) -> None:
    if depth > MOST_DEPTH:
        raise InputError("blocks", f"are nested more than {MOST_DEPTH} names deep", "write them flatter")


def _measure(part: Any, depth: int, seen: dict[int, tuple[int, int, int]]) -> tuple[int, int, int]:
    """Count nodes, all structs, and names from here to the deepest; what stands repeatedly is measured once."""
    if id(part) not in seen:
        _check_depth(depth)
        inside = [_measure(value, depth + 1, seen) for _, value in children(part) if is_composite(value)]
        blocks, parts = (sum(sizes[column] for sizes in inside) for column in (0, 1))
        height = 1 + max((sizes[2] for sizes in inside), default=0)
        layers = part.layers if isinstance(part, RecurrentSpec) else 0
        parts += isinstance(part, msgspec.Struct) + layers
        seen[id(part)] = (blocks + isinstance(part, NodeSpec), parts, height)
    return seen[id(part)]


def _check_sources(spec: ModelSpec) -> None:
    """A source has places of its own, so only a cross can join it to the stream."""
    memories = {f"{place}.memory" for place, part in walk(spec.blocks, leaves=LEAVES) if isinstance(part, CrossSpec)}
    for place, part in walk(spec.blocks, leaves=LEAVES):
        if is_source(part) and place not in memories:
            cure = 'make it the memory of a "cross", or let it read a stream that goes with the ids'
            raise InputError(f"blocks.{place}", "reads the source outside of a cross", cure)
        is_bound = isinstance(part, BlockSpec) and part.mixer.is_causal
        if is_bound and _faces_source(spec, f"blocks.{place}", part):
            problem = "reads a source no further than its own place, but a source has places of its own"
            raise InputError(f"blocks.{place}.mixer.sees", problem, 'write "bidirectional"')


def _faces_source(spec: ModelSpec, path: str, block: BlockSpec) -> bool:
    """Is the block a cross-attention whose memory, that of the nearest cross around it, is made of the source?"""
    if not isinstance(block.mixer, CrossAttentionSpec):
        return False
    pieces = path.split(".")
    for end in reversed([place for place, piece in enumerate(pieces) if piece == "reader"]):
        cross = part_at(spec, ".".join(pieces[:end]))
        if isinstance(cross, CrossSpec):
            return is_source(cross.memory)
    return False


def encode_spec(spec: ModelSpec) -> bytes:
    """Write a spec as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n"


def decode_spec(data: bytes, *, file: str | Path) -> ModelSpec:
    """Read a spec from JSON; an ``InputError`` names ``file`` and the place in it."""
    return _checked(read_written(parse_spec_json(data, file), ModelSpec, file), file)


def read_spec(path: str | Path) -> ModelSpec:
    """Read a spec from a ``.json`` or ``.toml`` file, abbreviated as ``written`` says; errors name file and place."""
    path = Path(path)
    return _checked(read_written(read_tree(path), ModelSpec, path), path)


def encode_toml(spec: ModelSpec) -> bytes:
    """Write a spec as TOML, every block by itself."""
    return tomli_w.dumps(msgspec.to_builtins(spec)).encode()


def _checked(spec: ModelSpec, file: str | Path) -> ModelSpec:
    """Try what a file says of sharing, which is known to fit only once the modules are there."""
    if spec.sharing:
        from lamoid.assembly.model import empty_model

        try:
            empty_model(spec)
        except InputError as error:
            raise InputError(f"{file}: {error.culprit}", error.problem, error.cure) from error
    return spec
