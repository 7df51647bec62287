"""What ``[objective]`` may say to learn as ELECTRA does: a small generator replaces tokens, the model finds them."""

from typing import Any

import msgspec

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import positive
from lamoid.assembly.embedding import FactoredTableSpec, TypesSpec, WholeTableSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.group import GroupSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec, TransformSpec
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import TagsSpec
from lamoid.data.loader import View
from lamoid.data.masking import MaskedView, Masking
from lamoid.errors import InputError
from lamoid.recipes.pretraining_objectives import check_sees_both_sides
from lamoid.recipes.text_objective import TextObjective, check_reads_text
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.objectives import Objective
from lamoid.training.replaced import DISCRIMINATOR, GENERATOR, replaced


class ReplacedTable(TextObjective, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="replaced"):
    """Find the tokens that a generator of ``generator`` times the width put in place of ``share`` of the text.

    The generator learns to say the masked tokens, ``mask`` of which it reads as the mask token and the rest as they
    are; its rows of tokens and positions are the model's own. ``weight`` is that of the finding.
    """

    share: float = 0.15
    mask: float = 0.85
    generator: float = 0.25
    weight: float = 50.0

    def __post_init__(self) -> None:
        for name in ("share", "mask", "generator"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise InputError(name, f"is {value}, must be above 0 and at most 1", "choose a share")
        positive("weight", self.weight)

    def check(self, spec: ModelSpec) -> None:
        """Refuse a model that does not see both sides, or that gives no one number for each token."""
        check_reads_text(spec)
        check_sees_both_sides(spec)
        name, head = next(iter(spec.heads.items()))
        if not isinstance(head, TagsSpec) or head.count != 1:
            problem = "is the default head and does not give one number for each token"
            cure = 'put {kind = "tags", count = 1} first, or choose family = "electra"'
            raise InputError(f"model.heads.{name}", problem, cure)
        self.beside(spec)

    def shaped(self, spec: ModelSpec) -> ModelSpec:
        """Give an encoder the head of ELECTRA instead of its own."""
        head = next(iter(spec.heads.values()))
        if isinstance(head, TagsSpec):
            return spec
        activation = head.transform.activation if isinstance(head.transform, TransformSpec) else "gelu"
        told = TagsSpec(count=1, transform=TransformSpec(activation=activation))
        return msgspec.structs.replace(spec, heads={"replaced": told})

    def beside(self, spec: ModelSpec) -> dict[str, ModelSpec]:
        """Give the generator: the model, but for the width of its stream, its heads and its feed-forwards."""
        parts = [_parts(block) for block in spec.blocks]
        heads = [mixer.heads for mixer, _ in filter(None, parts)]
        if len(heads) != len(spec.blocks):
            problem = "is not made of blocks with attention and a feed-forward alone, so no small one is known"
            raise InputError("model.blocks", problem, 'choose family = "electra" or "bert"')
        if spec.width % heads[0]:
            problem = f"is {spec.width}, no multiple of its {heads[0]} heads"
            raise InputError("model.width", problem, "make it one, for the generator has some of the heads")
        width = spec.width // heads[0] * max(1, round(heads[0] * self.generator))
        rows = spec.embedding.row_width(spec.width)
        table = WholeTableSpec() if rows == width else FactoredTableSpec(rows)
        norm = spec.embedding.norm if isinstance(spec.embedding.norm, LayerNormSpec) else LayerNormSpec()
        transform = TransformSpec(0 if rows == width else rows, norm=norm)
        small = msgspec.structs.replace(
            spec,
            width=width,
            embedding=msgspec.structs.replace(spec.embedding, table=table),
            blocks=tuple(self._small(block) for block in spec.blocks),
            heads={"masked_token": NextTokenSpec(TiedSpec(bias=True), transform)},
            sharing=(),
        )
        return {GENERATOR: small}

    def group(self, spec: ModelSpec) -> GroupSpec:
        """Give both models; their rows of tokens, positions and types are the same ones."""
        tables = ["tokens"]
        tables += ["positions"] if spec.embedding.position_rows(spec.context) else []
        tables += ["types"] if isinstance(spec.embedding.types, TypesSpec) else []
        rules = tuple(ShareSpec((f"*.embedding.{table}",)) for table in tables)
        return GroupSpec({DISCRIMINATOR: spec, **self.beside(spec)}, rules)

    def view(self, tokenizer: Tokenizer, context: int) -> View:
        return MaskedView(context, Masking.of(tokenizer, share=self.share, hidden=self.mask, random=0.0))

    def objective(self) -> Objective:
        return replaced(self.weight)

    def _small(self, block: Any) -> BlockSpec:
        mixer, feedforward = _parts(block) or (block.mixer, block.feedforward)
        heads = max(1, round(mixer.heads * self.generator))
        kv_heads = max(1, heads * mixer.kv_heads // mixer.heads) if mixer.kv_heads else 0
        mixer = msgspec.structs.replace(mixer, heads=heads, kv_heads=kv_heads)
        hidden = max(1, round(feedforward.hidden * heads / block.mixer.heads))
        return msgspec.structs.replace(
            block, mixer=mixer, feedforward=msgspec.structs.replace(feedforward, hidden=hidden)
        )


def _parts(block: Any) -> tuple[AttentionSpec, PlainSpec | GatedSpec] | None:
    """Give attention and feed-forward of a block that has nothing else; both have a size that can be made smaller."""
    if not isinstance(block, BlockSpec) or not isinstance(block.mixer, AttentionSpec):
        return None
    feedforward = block.feedforward
    return (block.mixer, feedforward) if isinstance(feedforward, PlainSpec | GatedSpec) else None
