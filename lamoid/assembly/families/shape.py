"""A model in a few numbers, as recipes write it; what is left out follows the family's custom."""

from typing import Any, Literal

import msgspec

from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of a model of a family: ``Shape(family="llama", width=128, layers=4, heads=4).spec(vocab=4096)``.

    ``kv_heads`` 0 means as many as ``heads``, ``head_width`` 0 width / heads, ``hidden`` 0 four times the width (GPT-2)
    or 8/3 of it rounded up to a multiple of 8 (LLaMA).
    """

    family: Literal["llama", "gpt2"] = "llama"
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 0
    head_width: int = 0
    hidden: int = 0
    context: int = 256
    tied: bool = True
    base: float = 10000.0

    def spec(self, vocab: int) -> ModelSpec:
        """Write the shape out as a spec."""
        if self.heads < 1 or (self.width % self.heads and not self.head_width):
            problem = f"is {self.heads}, does not divide width {self.width}"
            raise InputError("model.heads", problem, "choose a divisor of the width, or give head_width")
        config = _llama(self, vocab) if self.family == "llama" else _gpt2(self, vocab)
        return FAMILIES[self.family].spec(config, "model")


def _llama(shape: Shape, vocab: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.head_width or shape.width // shape.heads,
        "intermediate_size": shape.hidden or -(-shape.width * 8 // 24) * 8,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.base,
        "tie_word_embeddings": shape.tied,
    }


def _gpt2(shape: Shape, vocab: int) -> dict[str, Any]:
    foreign = {"kv_heads": shape.kv_heads not in (0, shape.heads), "base": shape.base != 10000.0}
    foreign["head_width"] = shape.head_width not in (0, shape.width // shape.heads)
    for name, is_set in foreign.items():
        if is_set:
            raise InputError(f"model.{name}", "is set, but GPT-2 has no such choice", "leave it out")
    return {
        "vocab_size": vocab,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.hidden or 4 * shape.width,
        "n_positions": shape.context,
        "tie_word_embeddings": shape.tied,
    }
