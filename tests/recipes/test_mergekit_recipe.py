"""mergekit's YAML recipes are read as they are; what is not supported is an error that names the key."""

import re
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.fusion_file import read_fusion_recipe
from lamoid.recipes.fusion_recipe import Filtered, FusionRecipe, MemberTable
from lamoid.recipes.fusion_settings import is_by_member
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import save_model

pytest.importorskip("yaml")


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """A model of two blocks."""
    model = LanguageModel(Shape(width=8, layers=2, heads=2, kv_heads=2, context=8, tied=False).spec(20))
    initialise(model, 0)
    with durable_folder(tmp_path / "small") as draft:
        save_model(model, draft, generation=None, tokenizer_files={})
    return tmp_path / "small"


def read(tmp_path: Path, text: str) -> FusionRecipe:
    for name in ("a", "b", "base"):
        if not (tmp_path / name).exists():
            (tmp_path / name).mkdir()
    (tmp_path / "merge.yml").write_text(dedent(text))
    return read_fusion_recipe(tmp_path / "merge.yml", out=tmp_path / "out")


def test_weights_filters_gradients_and_options(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        """
        merge_method: ties
        base_model: base
        models:
          - model: base
          - model: a
            parameters: {weight: [0, 0.5, 1], density: 0.4}
          - model: {model: {path: b}}
            parameters:
              weight:
                - {filter: mlp, value: 1e-1}
        parameters: {weight: 0.7, normalize: true, int8_mask: true, density: 5e-1}
        dtype: bfloat16
        out_dtype: float32
        tokenizer_source: base
        """,
    )
    assert recipe.rule == ("ties@mergekit" if "ties@mergekit" in RULES else "ties")
    assert recipe.base == str(tmp_path / "base")
    assert recipe.members == [
        MemberTable(str(tmp_path / "a"), weight=[0, 0.5, 1], options={"density": 0.4}),
        MemberTable(str(tmp_path / "b"), weight=[Filtered(0.1, "mlp"), Filtered(0.7)]),
    ]
    assert recipe.options == {"normalize": True, "density": 0.5}
    assert (recipe.weights, recipe.gradient_after, recipe.dtype) == ("given", "first", "float32")


def test_one_slice_of_all_layers_is_a_list_of_models(tmp_path: Path, small_model: Path) -> None:
    text = """
        merge_method: slerp
        base_model: {folder}
        slices:
          - sources:
              - {{model: {folder}, layer_range: [0, {layers}]}}
              - {{model: a, layer_range: [0, {layers}]}}
        parameters: {{t: [{{filter: self_attn, value: [0, 1]}}, {{value: 0.5}}]}}
        """
    (tmp_path / "a").symlink_to(small_model)
    recipe = read(tmp_path, text.format(folder=small_model, layers=2))
    assert [member.model for member in recipe.members] == [str(tmp_path / "a")]
    assert recipe.options == {"t": [Filtered([0, 1], "self_attn"), Filtered(0.5)]}
    with pytest.raises(InputError, match=r"layer_range.*\[0, 1\].*\[0, 2\].*all layers"):
        read(tmp_path, text.format(folder=small_model, layers=1))


def test_several_documents_are_steps(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        """
        name: middle
        merge_method: linear
        models:
          - {model: a, parameters: {weight: 1}}
          - {model: b, parameters: {weight: 2}}
        ---
        merge_method: linear
        models:
          - {model: middle, parameters: {weight: 1}}
          - {model: base, parameters: {weight: 1}}
        """,
    )
    assert [step.name for step in recipe.steps] == ["middle"]
    assert [member.weight for member in recipe.steps[0].members] == [1, 2]
    assert [member.model for member in recipe.members] == ["middle", str(tmp_path / "base")]


LINEAR = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing"),
        ("merge_method: [", "is not YAML"),
        ("- 1\n- 2", "the document"),
        ("a: &x [*x]", "within itself"),
        (LINEAR + "merge_metod: x", "merge_metod.*is no key"),
        ("merge_method: frobnicate\nmodels: [{model: a}]", "merge_method.*frobnicate.*linear"),
        ("merge_method: linear", "models.*missing"),
        (LINEAR + "slices: [1]", "exactly one"),
        ("merge_method: linear\nmodels: []", "models.*missing"),
        ("merge_method: linear\nmodels: [a]", r"models\[0\]"),
        ("merge_method: linear\nmodels: [{model: a, parameter: {}}]", r"models\[0\]\.parameter.*no key"),
        ("merge_method: linear\nmodels: [{model: a+lora}]", "adapter.*lamoid adapter merge"),
        ("merge_method: linear\nmodels: [{model: 5}]", r"models\[0\]\.model"),
        ("merge_method: linear\nmodels: [{model: a, parameters: {weight: {b: 1}}}]", "filter and value"),
        (LINEAR + "dtype: int8", "dtype.*int8"),
        (LINEAR + "chat_template: chatml", "chat_template"),
        (LINEAR + "tokenizer: {source: base, tokens: {x: {source: a}}}", r"tokenizer\.tokens"),
        ("merge_method: linear\nslices: [{sources: [{model: a}]}, {sources: [{model: b}]}]", "2 slices"),
        (
            "merge_method: linear\n"
            "slices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [1, 2]}]}]",
            "layer ranges",
        ),
        (LINEAR + "---\n" + LINEAR, "name.*missing"),
        ("merge_method: linear\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}]", "base_model.*leave"),
        ("merge_method: passthrough\nbase_model: base\nmodels: [{model: a}]", "base_model.*leave"),
        ("merge_method: !!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"(?s){said}"):
        read(tmp_path, text)


def test_a_base_that_is_not_listed_is_one_more_member_of_a_method_without_differences(tmp_path: Path) -> None:
    text = "merge_method: {}\nbase_model: base\nmodels: [{{model: a}}, {{model: b}}]\nparameters: {{weight: 0.5}}"
    for method, weight in (("linear", 0.5), ("karcher", None)):
        recipe = read(tmp_path, text.format(method))
        assert recipe.members == [MemberTable(str(tmp_path / name), weight) for name in ("a", "b", "base")]
        assert "base_model" in " ".join(recipe.notes)
    assert [Path(member.model).name for member in read(tmp_path, text.format("ties")).members] == ["a", "b"]
    listed = read(tmp_path, text.format("linear").replace("{model: b}", "{model: base}"))
    assert ([Path(member.model).name for member in listed.members], listed.notes) == (["a", "base"], [])


@pytest.mark.parametrize(
    ("text", "member", "options", "note"),
    [
        ("passthrough;models: [{model: a, parameters: {scale: 2}}]", {}, {"scale": 2}, ""),
        (
            "passthrough;models: [{model: a, parameters: {scale: [{filter: q, value: 2}]}}];parameters: {scale: 3}",
            {},
            {"scale": [Filtered(2, "q"), Filtered(3)]},
            "",
        ),
        (
            "slerp;base_model: base;models: [{model: a, parameters: {t: 1}}];"
            "parameters: {t: 0.3, normalize: true, weight: 1}",
            {},
            {"t": 0.3},
            r"merge.yml: parameters has no normalize, weight with slerp.*models\[0\].parameters has no t",
        ),
        ("linear;models: [{model: a, parameters: {weight: 1, density: 2}}]", {}, {}, "density"),
        ("ties;base_model: base;models: [{model: a, parameters: {density: 1}}]", {"density": 1}, {}, ""),
        ("linear;slices: [{sources: [{model: a}], parameters: {weight: 1}}]", {}, {}, ""),
    ],
)
def test_parameters_that_a_method_has_not_are_passed_over_with_a_note(
    tmp_path: Path, text: str, member: dict[str, object], options: dict[str, object], note: str
) -> None:
    recipe = read(tmp_path, "merge_method: " + text.replace(";", "\n"))
    assert (recipe.members[0].options, recipe.options) == (member, options)
    assert re.search(note, " ".join(recipe.notes)) if note else not recipe.notes


def test_no_parameter_of_mergekit_is_passed_over() -> None:
    registry = pytest.importorskip("mergekit.merge_methods.registry")
    specs = {method.spec.name: method.spec for method in registry.registered_methods()}
    assert len(specs.keys() & RULES) > 10
    for name in specs.keys() & RULES:
        spec = specs[name]
        rule = RULES.get(f"{name}@mergekit", RULES[name])
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(rule.options)}
        known = {*fields, "int8_mask", *(["weight"] if rule.weighted else [])}
        assert {each.name for each in (*spec.shared_parameters, *spec.input_parameters)} <= known, name
        own = {each.name for each in spec.input_parameters} - {"weight", "scale"}
        assert own == {key for key, kind in fields.items() if is_by_member(kind)}, name


ALIASES = "\n".join(
    ["name: x", "parameters:", "  l0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"  l{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
)
MERGES = "\n".join(
    ["m0: &m0 {a: 1, b: 2}"] + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 9)]
)


@pytest.mark.parametrize(
    "text",
    [
        f"merge_method: linear\n{ALIASES}\n  weight: *a8\nmodels: [{{model: a}}]",
        f"merge_method: linear\n{ALIASES}\nmodels: [{{model: a, parameters: *a8}}]",
        f"{ALIASES}\nmerge_method: *a8",
        MERGES,
        "merge_method: &x [*x]",
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: 0x" + "f" * 5000 + "}}]",
        "merge_method: " + "x" * 100_000,
        "merge_method: linear\nmodels: [{model: a, 1: 2, b: 3}]",
        "merge_method: linear\nmodels: [{model: a, parameters: {weight: {value: 1, filter: [1]}}}]",
    ],
)
def test_few_bytes_that_stand_for_many_values_are_refused_in_few_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 1000
    assert "is not YAML" not in str(caught.value)
