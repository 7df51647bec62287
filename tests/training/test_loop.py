"""The loop: exact accumulation, the loss of plain cross-entropy, hooks, and a stop when numbers are lost."""

import itertools
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import cross_entropy

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery_moves import to_experts
from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError
from lamoid.training.guard import TrainingDiverged
from lamoid.training.hooks import measure_loss
from lamoid.training.loop import compute_gradients, grouped, train_loop
from lamoid.training.objectives import OBJECTIVES, Example, Objective, Term, Terms
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import Dtype, TrainingState
from lamoid.training.update import Update

CAUSAL = OBJECTIVES["causal"]


def make_state(*, steps: int = 10, rate: float = 0.01, dtype: Dtype = "float32") -> TrainingState:
    model = LanguageModel(Shape(family="llama", width=32, layers=2, heads=2, context=16).spec(13))
    initialise(model, 3, deviation=0.2)
    return TrainingState(model, AdamWSpec(learning_rate=rate).build(trained_parameters(model)), steps, dtype)


def make_examples(rows: int, part: int) -> list[TrainingBatch]:
    """Draw ``rows`` rows with ever more targets left out, in parts of ``part`` rows."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 13, (rows, 16), generator=generator)
    targets = torch.randint(0, 13, (rows, 16), generator=generator)
    for row in range(rows):
        targets[row, : 2 * row] = IGNORED
    return [TrainingBatch(Batch(ids[i : i + part]), targets[i : i + part]) for i in range(0, rows, part)]


def periodic(rows: int = 4) -> Iterator[list[TrainingBatch]]:
    """Give a text that repeats every four tokens, without end."""
    row = torch.arange(17) % 4
    ids = torch.stack([row.roll(-shift) for shift in range(rows)])
    return itertools.repeat([TrainingBatch(Batch(ids[:, :16]), (ids[:, :16] + 1) % 4)])


def gradients(parts: list[TrainingBatch], objective: Objective = CAUSAL) -> tuple[float, torch.Tensor]:
    state = make_state()
    loss = compute_gradients(state, parts, objective)
    return loss, torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("part", [1, 2, 4])
def test_accumulation_equals_one_batch(part: int) -> None:
    loss, whole = gradients(make_examples(8, 8))
    accumulated_loss, accumulated = gradients(make_examples(8, part))
    assert accumulated_loss == pytest.approx(loss, rel=1e-6)
    assert (accumulated - whole).norm() <= 1e-6 * whole.norm()


def test_the_loss_is_the_mean_cross_entropy_of_the_valid_targets() -> None:
    parts = make_examples(8, 2)
    loss, found = gradients(parts)
    model = make_state().model
    logits = torch.cat([model(part.batch.ids) for part in parts])
    reference = cross_entropy(logits.flatten(0, 1), torch.cat([part.targets for part in parts]).flatten())
    reference.backward()
    wanted = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert loss == pytest.approx(reference.item(), rel=1e-6)
    assert (found - wanted).norm() <= 1e-6 * wanted.norm()


def test_terms_are_weighed_over_the_global_batch() -> None:
    def terms(model: LanguageModel, example: Example) -> Terms:
        hidden = model.hidden(example.batch)
        return {**CAUSAL.terms(model, example), "size": Term(hidden.square().sum(), hidden.numel(), 0.25)}

    def counts(example: Example) -> dict[str, int]:
        return {**CAUSAL.counts(example), "size": example.batch.ids.numel() * 32}

    objective = Objective(terms, counts)
    loss, whole = gradients(make_examples(8, 8), objective)
    accumulated_loss, accumulated = gradients(make_examples(8, 2), objective)
    causal_loss, _ = gradients(make_examples(8, 8))
    assert loss > causal_loss
    assert accumulated_loss == pytest.approx(loss, rel=1e-6)
    assert (accumulated - whole).norm() <= 1e-6 * whole.norm()


def test_the_balance_of_experts_is_a_term_of_training_only_and_says_that_it_is_not_additive() -> None:
    state = make_state()
    to_experts(state.model, "blocks.*.feedforward", 3, balance=0.5)
    parts = make_examples(8, 4)
    state.model.train()
    reading = state.model.read(parts[0].batch)
    wanted = sum(0.5 * found.value.item() for found in reading.balances)
    terms = CAUSAL.terms(state.model, parts[0])
    assert len(reading.balances) == 2
    assert not terms["balance"].is_additive
    assert terms["next_token"].is_additive
    assert terms["balance"].sum.item() / terms["balance"].count == pytest.approx(wanted)
    each = [CAUSAL.terms(state.model, part) for part in parts]
    balance = sum(found["balance"].sum.item() for found in each) / 128
    nats = sum(found["next_token"].sum.item() for found in each) / sum(found["next_token"].count for found in each)
    assert compute_gradients(state, parts, CAUSAL) == pytest.approx(nats + balance, rel=1e-6)
    assert all(router.grad.abs().max() > 0 for name, router in state.model.named_parameters() if "router" in name)  # type: ignore[union-attr]
    assert measure_loss(state, parts, CAUSAL) == pytest.approx(nats, rel=1e-5), "measured without it"


def test_padding_counts_for_no_balance() -> None:
    [example] = make_examples(4, 4)
    segments = torch.ones_like(example.batch.ids)
    segments[:, 10:] = 0
    assert CAUSAL.counts(TrainingBatch(Batch(example.batch.ids, segments), example.targets))["balance"] == 40


def test_the_measured_loss_does_not_depend_on_the_batch() -> None:
    state = make_state()
    losses = [measure_loss(state, make_examples(8, part), CAUSAL) for part in (1, 3, 8)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert losses[0] == pytest.approx(gradients(make_examples(8, 8))[0], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_periodic_text_is_learned(dtype: Dtype) -> None:
    state = make_state(steps=60, rate=0.02, dtype=dtype)
    train_loop(state, periodic(), CAUSAL, Update(ScheduleSpec()), [])
    assert state.losses[0] > 2.0
    assert state.losses[-1] < 0.05  # where in the period a row begins is known after its first token
    assert state.tokens == 60 * 4 * 16


def test_bfloat16_stays_beside_float32() -> None:
    runs = []
    for dtype in ("float32", "bfloat16"):
        state = make_state(steps=20, dtype=dtype)
        train_loop(state, periodic(), CAUSAL, Update(ScheduleSpec()), [])
        assert all(parameter.dtype == torch.float32 for parameter in state.model.parameters())
        runs.append(state.losses)
    assert runs[0] != runs[1]
    assert runs[1] == pytest.approx(runs[0], rel=0.05)


def test_hooks_are_called_in_their_rhythm_and_at_the_end() -> None:
    calls: list[tuple[str, int]] = []
    hooks = [(every, lambda state, every=every: calls.append((f"every {every}", state.step))) for every in (3, 0)]
    train_loop(make_state(steps=7), periodic(), CAUSAL, Update(ScheduleSpec()), hooks)
    assert calls == [("every 3", 3), ("every 3", 6), ("every 3", 7), ("every 0", 7)]


def test_clipping_bounds_the_step_by_the_joint_norm() -> None:
    state, loose = make_state(), make_state()
    for one, clip in ((state, 1e-3), (loose, 0.0)):
        compute_gradients(one, make_examples(8, 8), CAUSAL)
        one.optimizer.step = lambda: None  # type: ignore[method-assign]
        Update(ScheduleSpec(), clip)(one, 1.0)
    norms = [torch.cat([p.grad.flatten() for p in one.model.parameters()]).norm() for one in (state, loose)]  # type: ignore[union-attr]
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] == pytest.approx(state.gradient_norm) == pytest.approx(loose.gradient_norm)


@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_before_the_parameters_change(place: str) -> None:
    state = make_state(rate=0.5)
    if place == "loss":
        state.model.norm.weight.data[0] = float("nan")
    else:
        state.model.norm.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    with pytest.raises(TrainingDiverged, match=rf"training step 1: the .*{place}.*learning rate 0.5") as caught:
        train_loop(state, periodic(), CAUSAL, Update(ScheduleSpec()), [])
    assert all(
        torch.equal(old, new.detach()) or old.isnan().any()
        for old, new in zip(before, state.model.parameters(), strict=True)
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_a_batch_without_targets_is_refused() -> None:
    empty = TrainingBatch(Batch(torch.zeros(1, 4, dtype=torch.int64)), torch.full((1, 4), IGNORED))
    with pytest.raises(InputError, match="step 1 has no target"):
        compute_gradients(make_state(), [empty], CAUSAL)
    with pytest.raises(InputError, match="no token"):
        measure_loss(make_state(), [empty], CAUSAL)


def test_parts_are_grouped_without_reading_ahead() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    groups = grouped(parts(), 2)  # type: ignore[arg-type]
    assert next(groups) == (0, 1)
    assert taken == [0, 1]
    assert next(groups) == (2, 3)
    with pytest.raises(InputError, match="ended"):
        next(groups)
