"""What Gemma 2 and 3, OLMo 2, Phi-3, Mixtral and GPT-NeoX refuse, by name; what they read and write without a loss."""

import pytest

from lamoid.assembly.attention import NoCapSpec, SoftCapSpec
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import FAMILIES, family_of
from lamoid.assembly.position import LinearScalingSpec, LongRopeScalingSpec, RotarySpec
from lamoid.assembly.sight import EverywhereSpec, WindowSpec
from lamoid.errors import InputError

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GEMMA = SIZES | {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]}
CONFIGS = {
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "olmo2": SIZES,
    "phi3": SIZES,
    "mixtral": SIZES | {"num_key_value_heads": 2},
    "gpt_neox": SIZES,
}
SCALED = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
TWICE = {"rope_type": "linear", "factor": 2.0}
REFUSED = [
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma2", {"hidden_act": "relu"}, "hidden_act"),
    ("gemma2", {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping"),
    ("gemma2", {"final_logit_softcapping": "30"}, "final_logit_softcapping"),
    ("gemma2", {"query_pre_attn_scalar": 2.5}, "query_pre_attn_scalar"),
    ("gemma2", {"layer_types": ["sliding_attention", "chunked_attention"]}, "layer_types"),
    ("gemma2", {"layer_types": ["full_attention"]}, "layer_types"),
    ("gemma2", {"sliding_window": None}, "layer_types"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3_text", {"rope_scaling": TWICE, "rope_parameters": {"full_attention": TWICE}}, "rope_parameters"),
    ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
    ("gemma3_text", {"rope_parameters": {"full_attention": SCALED}}, "rope_parameters: full_attention: rope_type"),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
    ("olmo2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("phi3", {"attention_bias": True}, "attention_bias"),
    ("phi3", {"lm_head_bias": True}, "lm_head_bias"),
    ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type"),
    ("phi3", {"rope_parameters": SCALED | {"long_factor": [2.0]}}, "longrope.long"),
    ("phi3", {"rope_parameters": SCALED | {"long_factor": ["2"] * 4}}, "long_factor"),
    ("phi3", {"rope_parameters": SCALED | {"short_factor": [0.0] * 4}}, "short_factor"),
    ("phi3", {"rope_parameters": SCALED | {"original_max_position_embeddings": 7}}, "original_max_position_embeddings"),
    ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise"),
    ("mixtral", {"num_experts_per_tok": 9}, "experts.chosen"),
    ("mixtral", {"num_local_experts": 10**9}, "num_local_experts"),
    ("mixtral", {"router_aux_loss_coef": -1}, "router_aux_loss_coef"),
    ("gpt_neox", {"rotary_pct": 0.5, "partial_rotary_factor": 0.25}, "partial_rotary_factor"),
    ("gpt_neox", {"rotary_emb_base": 500.0, "rope_theta": 10000.0}, "rope_theta"),
    ("gpt_neox", {"rope_parameters": {}, "rotary_pct": 0.01}, "rotary.portion"),
    ("gpt_neox", {"num_attention_heads": 7}, "num_attention_heads"),
]


@pytest.mark.parametrize(("family", "change", "named"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(family, change, named):
    FAMILIES[family].spec(CONFIGS[family])
    with pytest.raises(InputError, match=named):
        FAMILIES[family].spec(CONFIGS[family] | change)


ODD = [None, -1, 0, 0.0, "x", [], {}, True, 10**9, 10**400, float("nan"), 1e-300, [None], {"rope_type": []}, {0: 1}]
ODD += [{"full_attention": 3}, {"rope_type": "yarn", "factor": 10**400}, SCALED | {"long_factor": [10**400] * 4}, 2.5]
WORDS = ["rope_scaling", "rope_parameters", "rope_theta", "head_dim", "layer_types", "sliding_window", "hidden_act"]
WORDS += ["original_max_position_embeddings", "partial_rotary_factor", "rotary_pct", "rope_local_base_freq", "id2label"]
WORDS += ["num_key_value_heads", "rms_norm_eps", "layer_norm_eps", "router_aux_loss_coef", "attn_logit_softcapping"]


@pytest.mark.parametrize("family", CONFIGS)
def test_odd_values_are_read_as_written_back_or_refused(family):
    for name in (*SIZES, *WORDS):
        for value in ODD:
            try:
                spec = FAMILIES[family].spec(CONFIGS[family] | {name: value})
            except InputError:
                continue
            kin = family_of(spec, FAMILIES[family])
            assert kin is not None, (name, value)
            assert kin.family.model_type == family, (name, value)
            assert FAMILIES[family].spec(kin.config) == spec


@pytest.mark.parametrize("family", CONFIGS)
def test_a_shape_is_of_its_family(family):
    spec = Shape(family=family, width=32, layers=3, heads=4, hidden=40, context=48).spec(100)
    assert (spec.width, spec.vocab, spec.context, len(spec.blocks)) == (32, 100, 48, 3)
    kin = family_of(spec, FAMILIES[family])
    assert kin is not None
    assert kin.family.model_type == family


def mixers(family: str, **change) -> list:
    return [block.mixer for block in FAMILIES[family].spec(CONFIGS[family] | change).blocks]


def test_null_is_not_absent():
    """The defaults of transformers' classes hold where a field is absent; null switches a cap off."""
    assert {mixer.cap for mixer in mixers("gemma2")} == {SoftCapSpec(50.0)}
    assert {mixer.cap for mixer in mixers("gemma2", attn_logit_softcapping=None)} == {NoCapSpec()}
    head = FAMILIES["gemma2"].spec(GEMMA | {"final_logit_softcapping": None}).heads["next_token"]
    assert head.cap == NoCapSpec()


def test_layers_slide_as_their_kinds_or_the_pattern_say():
    absent = {"layer_types": None, "num_hidden_layers": 7, "sliding_window": 9}
    far, near = EverywhereSpec(), WindowSpec(9)
    assert [mixer.reach for mixer in mixers("gemma2", **absent)] == [near, far] * 3 + [near]
    assert [mixer.reach for mixer in mixers("gemma3_text", **absent)] == [near] * 5 + [far, near]
    assert [mixer.reach for mixer in mixers("gemma3_text", **absent, sliding_window_pattern=3)] == [
        near,
        near,
        far,
    ] * 2 + [near]
    assert [mixer.reach for mixer in mixers("gemma2", sliding_window=9)] == [near, far]


def test_gemma3_turns_by_two_bases():
    near, far = mixers("gemma3_text", rope_scaling={"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=500.0)
    assert near.position == RotarySpec(500.0)
    assert far.position == RotarySpec(1e6, LinearScalingSpec(8.0))


def test_phi3_takes_the_attention_factor_from_the_contexts():
    """sqrt(1 + ln(64 / 16) / ln 16), equation 3 of arXiv 2402.13753 with s = 4; "su" is its first name."""
    words = {"type": "su", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    for kind in ("su", "longrope"):
        [position] = {
            x.position for x in mixers("phi3", rope_scaling=words | {"type": kind}, original_max_position_embeddings=16)
        }
        assert isinstance(position.scaling, LongRopeScalingSpec)
        assert position.scaling.attention_factor == pytest.approx(1.5**0.5)


def test_mixtral_keeps_the_weight_of_its_balance():
    for weight in (0.0, 0.02):
        spec = FAMILIES["mixtral"].spec(CONFIGS["mixtral"] | {"router_aux_loss_coef": weight})
        assert {block.feedforward.balance for block in spec.blocks} == {weight}
