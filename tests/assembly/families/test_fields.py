"""A configuration read field by field; words for activations and labels; specs that are no family's."""

from typing import Any, get_args

import msgspec
import pytest
import torch
from transformers.activations import ACT2FN

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec
from lamoid.assembly.families.fields import ACTIVATIONS, FOREIGN_ACTIVATIONS, Fields
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import FAMILIES, family_of
from lamoid.assembly.families.task_words import label_words, read_labels
from lamoid.assembly.feedforward import ACTIVATIONS as FUNCTIONS
from lamoid.assembly.feedforward import Activation, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec, RMSNormSpec
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import ClassesSpec, ItemSpec, SpanSpec
from lamoid.assembly.wiring import ParallelSpec, SerialSpec
from lamoid.errors import InputError


def test_every_activation_has_a_word_that_reads_back() -> None:
    assert set(FOREIGN_ACTIVATIONS) == set(get_args(Activation))
    assert {name: ACTIVATIONS[word] for name, word in FOREIGN_ACTIVATIONS.items()} == {
        name: name for name in FOREIGN_ACTIVATIONS
    }


@pytest.mark.parametrize("word", ACTIVATIONS)
def test_a_word_means_what_transformers_means(word: str) -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    torch.testing.assert_close(FUNCTIONS[ACTIVATIONS[word]](x), ACT2FN[word](x), rtol=1e-6, atol=1e-6)


def test_null_and_absent_are_told_apart_where_it_matters() -> None:
    fields = Fields({"a": None, "b": 3}, "f")
    assert (fields.whole_or_none("a", 7), fields.whole_or_none("b", 7), fields.whole_or_none("c", 7)) == (None, 3, 7)
    assert (fields.number_or_none("a", 7.0), fields.number_or_none("c", 7.0)) == (None, 7.0)
    assert (fields.whole("a", 7), fields.take("a", 8)) == (7, 8)


@pytest.mark.parametrize("found", [1, 0, "true", None, []])
def test_the_only_value_is_of_the_right_type(found: Any) -> None:
    fields = Fields({"a": found}, "f")
    if found is None:
        fields.only("a", True)
        return
    with pytest.raises(InputError, match=r"f: a: is .*, expected True"):
        fields.only("a", True)


def test_what_nobody_read_is_named() -> None:
    fields = Fields({"a": 1, "b": {"c": 1, "d": 2}, "e": 3}, "f", ignore=["e", "b.d"])
    fields.take("a")
    part = fields.part("b")
    with pytest.raises(InputError, match=r"f: b: has fields that this family does not know: c"):
        part.finish()
    part.take("c")
    part.finish()
    fields.finish()


@pytest.mark.parametrize("names", [(), ("a", "b"), ("LABEL_1", "LABEL_0"), ("好", "坏", "x")])
def test_labels_there_and_back(names: tuple[str, ...]) -> None:
    words = label_words(len(names) or 2, names)
    assert read_labels(Fields(words, "f")) == (len(names) or 2, names)
    assert {words["id2label"][str(number)]: number for number in range(len(names) or 2)} == words["label2id"]


def changed(spec: ModelSpec, change: str) -> ModelSpec:
    """Makes a spec that no configuration can say."""
    first = spec.blocks[0]
    own = BlockSpec(LSTMSpec(hidden=4), PlainSpec(5))
    new: dict[str, Any] = {
        "first block": {"blocks": (own, *spec.blocks[1:])},
        "nested": {"blocks": (SerialSpec((first,)), *spec.blocks[1:])},
        "parallel": {"blocks": (ParallelSpec({"one": first}), own)},
        "no feed-forward": {"blocks": (BlockSpec(LSTMSpec(hidden=4), NoFeedForwardSpec()),)},
        "norm": {"norm": LayerNormSpec(0.25, bias=False)},
        "other norm": {"norm": RMSNormSpec(0.25)},
        "no norm": {"norm": NoNormSpec(), "blocks": (own,)},
        "embedding": {"embedding": EmbeddingSpec(table=FactoredTableSpec(5), multiplier=3.0)},
        "item": {"heads": {"item": ItemSpec(count=3)}},
        "one class": {"heads": {"classes": ClassesSpec(count=1)}},
        "two heads": {"heads": {"next_token": NextTokenSpec(), "span": SpanSpec()}},
        "sharing": {"sharing": (*spec.sharing, ShareSpec(("norm", "blocks.*.norm_mixer")))},
    }[change]
    return msgspec.structs.replace(spec, **new)


CHANGES = ["first block", "nested", "parallel", "no feed-forward", "norm", "other norm", "no norm", "embedding"]


@pytest.mark.parametrize("change", [*CHANGES, "item", "one class", "two heads", "sharing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_spec_that_is_no_familys_is_found_to_be_none(family: str, change: str) -> None:
    spec = Shape(family=family, width=16, layers=2, heads=2, context=32).spec(11)
    kin = family_of(spec, FAMILIES[family])
    assert kin is not None
    assert kin.family.model_type == family
    try:
        odd = changed(spec, change)
    except InputError:
        return  # some changes make no model at all, as a tied head's of another width
    assert family_of(odd, FAMILIES[family]) is None
