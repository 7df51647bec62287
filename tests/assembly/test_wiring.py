"""Connections nested to any depth keep the laws of their parts; merges are what they say; misfits name both ends."""

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from lamoid.assembly.attention import AttentionSpec, CrossAttentionSpec, NoCapSpec, SoftCapSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.bias import RelativeSpec
from lamoid.assembly.block import BlockSpec, NoMixerSpec
from lamoid.assembly.convolution import ConvolutionSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec, RMSNormSpec
from lamoid.assembly.position import LearnedPositionSpec, SinusoidalPositionSpec
from lamoid.assembly.recurrence import GRUSpec, LSTMSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec, PrefixSpec
from lamoid.assembly.spec import ModelSpec, decode_spec, encode_spec, encode_toml, read_spec
from lamoid.assembly.wiring import (
    ConcatenationSpec,
    CrossSpec,
    GateSpec,
    MeanSpec,
    ParallelSpec,
    ProjectSpec,
    SerialSpec,
    StackSpec,
    SumSpec,
)
from lamoid.errors import InputError

WIDTH, VOCAB = 6, 23
NORMS = some.sampled_from([RMSNormSpec(), LayerNormSpec(), RMSNormSpec(unit_offset=True)])
OWN = [
    AttentionSpec(heads=2, kv_heads=1, head_width=4),
    AttentionSpec(heads=2, kv_heads=2, head_width=2, position=RelativeSpec(4, 8)),
    LSTMSpec(hidden=4),
    GRUSpec(hidden=3),
    ConvolutionSpec(kernel=3),
    NoMixerSpec(),
]
TWO_WAYS = [
    AttentionSpec(heads=2, kv_heads=1, head_width=4, sees=BidirectionalSpec()),
    ConvolutionSpec(kernel=3, hidden=5, sees=BidirectionalSpec()),
]
FEEDFORWARDS = [PlainSpec(5), GatedSpec(5), ExpertsSpec((GatedSpec(4), PlainSpec(4)), 1)]
FACING = {"source": BidirectionalSpec(), "text": CausalSpec()}


def block(mixer=None, feedforward=None, **fields):
    return BlockSpec(mixer or NoMixerSpec(), feedforward or NoFeedForwardSpec(), **fields)


@some.composite
def nodes(draw, depth, width, memory, place):
    """Draw a node that fits a stream of ``width`` and its memory ("text", "source" or ""); give its width out too.

    ``place`` says where it stands: in a text that must stay causal, in one that need not, or in a source.
    """
    kinds = ["block", "block", "project", *(["serial", "parallel", "cross", "stack"] if depth else [])]
    kind = draw(some.sampled_from(kinds))
    if kind == "project":
        out = draw(some.integers(3, 8))
        return ProjectSpec(out), out
    if kind == "serial":
        return draw(serials(depth, width, memory, place))
    if kind == "parallel":
        return draw(parallels(depth, width, memory, place))
    if kind == "cross":
        return draw(crosses(depth, width, place))
    if kind == "stack":
        blocks, out = draw(serials(depth, 5, memory, place))
        streams = ["ids"] if place == "source" else ["ids", "other"]
        return StackSpec(blocks.blocks, draw(some.sampled_from(streams)), 5, norm=draw(NORMS)), out
    own = OWN if place == "causal" else [*OWN, *TWO_WAYS]
    facing = [CrossAttentionSpec(heads=2, kv_heads=1, head_width=4, sees=FACING[memory])] * 3 if memory else []
    prefix = [AttentionSpec(heads=2, kv_heads=1, head_width=4, sees=PrefixSpec())] if place != "source" else []
    mixer = draw(some.sampled_from([*own, *facing, *prefix]))
    return block(mixer, draw(some.sampled_from(FEEDFORWARDS)), norm_mixer=draw(NORMS)), width


@some.composite
def serials(draw, depth, width, memory, place):
    inside = []
    for _ in range(draw(some.integers(1, 2))):
        node, width = draw(nodes(depth - 1, width, memory, place))
        inside.append(node)
    return SerialSpec(tuple(inside)), width


@some.composite
def parallels(draw, depth, width, memory, place):
    merge = draw(some.sampled_from([SumSpec(), MeanSpec(), ConcatenationSpec(), GateSpec()]))
    branches, outs = {}, []
    for name in ("left", "right", "third")[: draw(some.integers(1, 3))]:
        node, out = draw(nodes(depth - 1, width, memory, place))
        if outs and out != outs[0] and not isinstance(merge, ConcatenationSpec):
            node, out = SerialSpec((node, ProjectSpec(outs[0]))), outs[0]
        branches[name] = node
        outs.append(out)
    return ParallelSpec(branches, merge), sum(outs) if isinstance(merge, ConcatenationSpec) else outs[0]


@some.composite
def crosses(draw, depth, width, place):
    if place != "source" and draw(some.booleans()):
        stack, _ = draw(serials(depth - 1, 4, "", "source"))
        read, memory = StackSpec(stack.blocks, "source", 4, norm=draw(NORMS)), "source"
    else:
        (read, _), memory = draw(nodes(depth - 1, width, "", place)), "text"
    reader, out = draw(serials(depth - 1, width, memory, place))
    mixer = CrossAttentionSpec(heads=1, kv_heads=1, head_width=3, sees=FACING[memory])
    return CrossSpec(read, SerialSpec((*reader.blocks, block(mixer)))), out


@some.composite
def wired(draw, place):
    node, out = draw(nodes(4, WIDTH, "", place))
    embedding = EmbeddingSpec(draw(some.sampled_from([LearnedPositionSpec(), SinusoidalPositionSpec()])))
    last = draw(NORMS)
    return ModelSpec(
        WIDTH, VOCAB, 16, embedding, (node, block(None, PlainSpec(4))), last, {"next": NextTokenSpec()}
    ), out


@pytest.mark.parametrize("place", ["causal", "any"])
def test_any_wiring_keeps_the_laws(place, laws, tmp_path_factory):
    path = tmp_path_factory.mktemp("wired") / "spec.toml"

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(wired(place))
    def check(found):
        spec, out = found
        path.write_bytes(encode_toml(spec))
        assert decode_spec(encode_spec(spec), file="spec.json") == read_spec(path) == spec
        assert place == "any" or spec.not_causal is None
        model = laws.made(spec)
        assert spec.trunk.width == out == model.hidden(laws.batch([5, 3])).shape[-1]
        assert spec.parameters() == sum(parameter.numel() for parameter in model.parameters())
        laws.check(model)
        model(laws.batch([6, 4])).square().mean().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)

    check()


def parallel(merge, laws):
    branches = {"left": ProjectSpec(4), "right": ProjectSpec(4)}
    part = ParallelSpec(branches, merge).build(Scope(WIDTH, VOCAB, 16))
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.normal_()
    x = torch.randn(2, 3, WIDTH)
    return part, x, [x @ branch.linear.weight.T for branch in part.branches.values()]


def test_merges(laws):
    layout = plan_layout(Batch(torch.zeros(2, 3, dtype=torch.long)), None)
    for merge, wanted in (
        (SumSpec(), lambda a, b: a + b),
        (MeanSpec(), lambda a, b: (a + b) / 2),
        (ConcatenationSpec(), lambda a, b: torch.cat((a, b), -1)),
    ):
        part, x, outputs = parallel(merge, laws)
        torch.testing.assert_close(part(x, layout), wanted(*outputs))
    part, x, (left, right) = parallel(GateSpec(), laws)
    score = torch.cat((left, right), -1) @ part.gate.weight.T + part.gate.bias
    share = torch.sigmoid(score[..., :1] - score[..., 1:])
    torch.testing.assert_close(part(x, layout), share * left + (1 - share) * right)


def model(*blocks, heads=None):
    return ModelSpec(WIDTH, VOCAB, 16, EmbeddingSpec(), blocks, NoNormSpec(), heads or {"next": NextTokenSpec()})


CROSSED = block(CrossAttentionSpec(heads=2, kv_heads=1, head_width=4))


@pytest.mark.parametrize(
    ("make", "ends"),
    [
        (
            lambda: model(
                ParallelSpec({"left": ProjectSpec(4), "right": SerialSpec((ProjectSpec(9), ProjectSpec(5)))})
            ),
            ("blocks.0.branches.right", "gives 5", "blocks.0.branches.left gives 4"),
        ),
        (
            lambda: model(
                block(GRUSpec(hidden=4)),
                SerialSpec((ParallelSpec({"a": ProjectSpec(4), "b": block(LSTMSpec(hidden=2))}, MeanSpec()),)),
            ),
            ("blocks.1.blocks.0.branches.b", "gives 6", "blocks.1.blocks.0.branches.a gives 4"),
        ),
        (
            lambda: model(ProjectSpec(4), heads={"next": NextTokenSpec(TiedSpec())}),
            ("heads.next.linear", "embedding.tokens", "6", "4"),
        ),
        (lambda: model(block(GRUSpec(hidden=2)), CROSSED), ("blocks.1.mixer", "no cross is around it")),
        (lambda: model(StackSpec((ProjectSpec(3),))), ("blocks.0", "outside of a cross")),
        (
            lambda: model(
                CrossSpec(
                    StackSpec((ProjectSpec(3),)), block(msgspec.structs.replace(CROSSED.mixer, sees=CausalSpec()))
                )
            ),
            ("blocks.0.reader.mixer.sees", "places of its own"),
        ),
    ],
)
def test_a_misfit_names_both_ends(make, ends):
    with pytest.raises(InputError) as caught:
        make()
    for end in ends:
        assert end in str(caught.value)


def test_what_looks_ahead_is_named():
    ahead = block(TWO_WAYS[1])
    assert model(SerialSpec((block(OWN[0]), ahead))).not_causal == "blocks.0.blocks.1.mixer"
    assert model(CrossSpec(StackSpec((ahead,)), CROSSED)).not_causal is None
    assert model(CrossSpec(block(OWN[0]), CROSSED)).not_causal == "blocks.0.reader.mixer"
    inner = CrossSpec(block(OWN[0]), block(msgspec.structs.replace(CROSSED.mixer, sees=CausalSpec())))
    assert model(CrossSpec(StackSpec((ahead,)), SerialSpec((CROSSED, inner)))).not_causal is None
    with pytest.raises(InputError, match=r"blocks\.0\.mixer"):
        LanguageModel(model(ahead)).new_cache([3])


def test_what_a_model_reads_must_be_there(laws):
    made = laws.made(model(CrossSpec(StackSpec((block(OWN[0]),)), CROSSED)))
    with pytest.raises(InputError, match=r"batch\.source"):
        made(torch.zeros(1, 3, dtype=torch.long))
    made = laws.made(model(StackSpec((block(OWN[0]),), "letters")))
    with pytest.raises(InputError, match=r"batch\.streams\.letters"):
        made(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("cap", [NoCapSpec(), SoftCapSpec(3.0)], ids=["plain", "capped"])
def test_a_source_of_padding_alone_gives_nothing_and_no_nan(cap, laws):
    """The others' answers and every gradient stay as they are without such a row."""
    made = laws.made(
        model(CrossSpec(StackSpec((block(OWN[0]),)), block(msgspec.structs.replace(CROSSED.mixer, cap=cap))))
    )
    ids, source = torch.arange(8).view(2, 4), torch.arange(6).view(2, 3)
    answers = made(Batch(ids, source=Batch(source, torch.tensor([[1, 1, 1], [0, 0, 0]]))))
    torch.testing.assert_close(answers[:1], made(Batch(ids[:1], source=Batch(source[:1]))))
    answers.sum().backward()
    assert all(torch.isfinite(tensor).all() for tensor in [answers, *(p.grad for p in made.parameters())])


def test_a_source_may_have_any_number(laws):
    """A row without segments of its own sees all of its source, read at once or through a cache."""
    made = laws.made(model(CrossSpec(StackSpec((block(OWN[0]),)), CROSSED)))
    ids, source = torch.arange(8).view(2, 4), torch.arange(6).view(2, 3)
    numbers = torch.tensor([[1, 1, 1], [2, 2, 0]])
    wanted = torch.cat(
        [made(Batch(ids[row : row + 1], source=Batch(source[row : row + 1, : 3 - row]))) for row in (0, 1)]
    )
    for cache in (None, made.new_cache([4, 4])):
        torch.testing.assert_close(made(Batch(ids, source=Batch(source, numbers)), cache), wanted)


@pytest.mark.parametrize("name", ["forward", "keys", "training", "_modules"])
def test_names_that_modules_have_already_are_refused(name):
    with pytest.raises(InputError, match="taken"):
        ParallelSpec({name: block(OWN[0])})
    with pytest.raises(InputError, match="taken"):
        model(block(OWN[0]), heads={name: NextTokenSpec()})
