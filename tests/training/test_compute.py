"""Compiled, and computed twice: the same numbers, and as much less kept as was promised."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.block import Block
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import read_spec
from lamoid.assembly.surgery_moves import to_experts
from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError
from lamoid.training.compute import ComputeSpec
from lamoid.training.hooks import measure_loss
from lamoid.training.loop import compute_gradients, train_loop
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.precision import Dtype
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update

CAUSAL = OBJECTIVES["causal"]


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is compiled apart: a process that was killed may have left half a file in the cache of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


TWICE = ComputeSpec(recompute="blocks")


def plain(family: str, layers: int = 3) -> LanguageModel:
    return LanguageModel(Shape(family=family, width=32, layers=layers, heads=4, context=24).spec(29))


def with_experts() -> LanguageModel:
    model = plain("llama")
    initialise(model, 1)
    to_experts(model, "blocks.1.feedforward", experts=2, seed=1)
    return model


def encoder_decoder() -> LanguageModel:
    return LanguageModel(read_spec("examples/models/t5.toml"))


MODELS = {
    "llama": lambda: plain("llama"),
    "gpt2": lambda: plain("gpt2"),
    "experts": with_experts,
    "t5": encoder_decoder,
}


def make_state(model: LanguageModel, compute: ComputeSpec, dtype: Dtype = "float32") -> TrainingState:
    initialise(model, 4)
    return TrainingState(model, AdamWSpec().build(trained_parameters(model)), 4, dtype, compute=compute)


def make_parts(vocab: int = 29, tokens: int = 24) -> list[TrainingBatch]:
    ids = torch.randint(0, vocab, (4, tokens + 1))
    segments = torch.ones(4, tokens, dtype=torch.int64)
    segments[1, 9:] = 2
    return [TrainingBatch(Batch(ids[:, :-1], segments, source=Batch(ids[:, 1:])), ids[:, 1:])]


def gradient(state: TrainingState, parts: list[TrainingBatch]) -> dict[str, torch.Tensor]:
    compute_gradients(state, parts, CAUSAL)
    return {name: p.grad for name, p in state.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_computed_twice_is_bitwise_the_same(name: str, dtype: Dtype) -> None:
    parts = make_parts()
    once = gradient(make_state(MODELS[name](), ComputeSpec(), dtype), parts)
    twice = gradient(make_state(MODELS[name](), TWICE, dtype), parts)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_less_is_kept_for_the_backward_pass() -> None:
    kept = {}
    for compute in (ComputeSpec(), TWICE):
        reader, numbers = make_state(plain("llama"), compute).reader, []

        def pack(tensor: torch.Tensor, numbers: list[int] = numbers) -> torch.Tensor:
            numbers.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            CAUSAL.terms(reader, make_parts()[0])
        kept[compute] = sum(numbers)
    assert kept[TWICE] < kept[ComputeSpec()] / 2


def test_the_model_itself_is_left_as_it_was() -> None:
    state = make_state(plain("llama"), ComputeSpec(compile=True, recompute="blocks"))
    mine, theirs = list(state.model.parameters()), list(state.reader.parameters())
    assert all(one is other for one, other in zip(mine, theirs, strict=True)), "float32 needs no copy of the numbers"
    assert not any("forward" in vars(module) for module in state.model.modules())
    assert all("forward" in vars(module) for module in state.reader.modules() if isinstance(module, Block))


# The compiler looks at every input, and torch warns of what it looks at.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.usefixtures("own_cache")
def test_a_compiled_run_is_the_eager_one_but_for_rounding() -> None:
    """All of it compiled: what is measured is compiled anew, and torch's own limit to that is not ours."""
    ends: list[Any] = []
    parts = make_parts()
    for compute in (ComputeSpec(), ComputeSpec(compile=True)):
        state = make_state(plain("llama", layers=1), compute, "bfloat16")
        with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
            train_loop(state, itertools.repeat(parts), CAUSAL, Update(ScheduleSpec()), [])
            ends.append([*state.losses, measure_loss(state, parts, CAUSAL)])
    assert ends[1] == pytest.approx(ends[0], rel=1e-2)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    with pytest.raises(InputError, match=r"compute\.compile.*compiler"):
        ComputeSpec(compile=True).check("cpu")
    ComputeSpec(recompute="blocks").check("cpu")
