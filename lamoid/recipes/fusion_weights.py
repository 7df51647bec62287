"""How the members are weighed: by their measured losses, by searches on the measuring half, or as they were given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from lamoid.fusion.search.fold import pack
from lamoid.fusion.search.simplex import descend_simplex, search_simplex
from lamoid.fusion.search.soup import greedy_soup
from lamoid.fusion.search.tau import search_tau
from lamoid.recipes.fusion_candidates import Candidates
from lamoid.recipes.fusion_descent import loss_slopes
from lamoid.recipes.fusion_plan import Blend, Plan
from lamoid.weighing.softmax import softmax_weights

NOT_SEEN = "the verdict is on text that the search has not seen"
SEEN = "the verdict is in part on text that it has seen"


@dataclass(frozen=True)
class Choice:
    """A mixture that is to be saved, what it is called, and how it came about; ``tau`` where losses were weighed."""

    kind: str
    blend: Blend
    tau: float | None = None
    notes: tuple[str, ...] = ()


def choose(plan: Plan, candidates: Candidates | None) -> Choice:
    """Find the weights that were asked for; ``candidates`` may be missing where nothing is measured."""
    way = plan.recipe.weights
    if way == "given":
        return Choice("fused", plan.blend(plan.given))
    if way == "uniform" or candidates is None or not plan.rule.weighted:
        return Choice("fused", plan.blend(_equal(plan)))
    if way == "loss":
        return _by_loss(plan, candidates)
    losses = member_losses(plan, candidates)

    def loss(weights: Sequence[float]) -> float:
        return candidates.loss(plan.blend(weights))

    if way == "greedy":
        weights = greedy_soup(losses, loss)
    elif way == "pack":
        weights = pack(losses, loss)
    elif way == "descend":
        slopes = partial(loss_slopes, plan, candidates)
        weights = descend_simplex(loss, slopes, softmax_weights(losses, _number(plan)), steps=plan.recipe.budget - 1)
    else:
        weights = search_simplex(loss, softmax_weights(losses, _number(plan)), plan.recipe.budget)
    return Choice("fused", plan.blend(weights), notes=(_tried(f"The weights ({way})", candidates),))


def safer_choices(plan: Plan, candidates: Candidates, choice: Choice) -> Iterator[Choice]:
    """Give the choice, if its loss on the measuring half is not above the best member's, then what cannot be worse
    there: the greedy soup of plain averages, which begins with the best member, and that member."""
    if not candidates.trial.tasks:
        yield choice
        return
    losses = member_losses(plan, candidates)
    if candidates.loss(choice.blend) <= min(losses):
        yield choice
    soup = greedy_soup(losses, lambda weights: candidates.loss(plan.linear(weights)))
    yield Choice("greedy soup", plan.linear(soup), notes=(_tried("The greedy soup", candidates),))
    yield Choice("best member", plan.single(losses.index(min(losses))))


def member_losses(plan: Plan, candidates: Candidates) -> list[float]:
    """Give each member's loss on the measuring half."""
    return [candidates.trial.loss(str(folder.path)) for folder in plan.members]


def _by_loss(plan: Plan, candidates: Candidates) -> Choice:
    losses = member_losses(plan, candidates)
    if plan.recipe.tau != "auto":
        tau = _number(plan)
        return Choice("fused", plan.blend(softmax_weights(losses, tau)), tau)
    tau = search_tau(lambda tau: candidates.loss(plan.blend(softmax_weights(losses, tau))))
    note = _tried(f"Tau, {tau:.3g},", candidates)
    return Choice("fused", plan.blend(softmax_weights(losses, tau)), tau, (note,))


def _tried(what: str, candidates: Candidates) -> str:
    verdict = SEEN if any(task.is_seen for task in candidates.trial.tasks) else NOT_SEEN
    return f"{what} came of {len(candidates.tried)} mixtures tried on the measuring half; {verdict}."


def _number(plan: Plan) -> float:
    return 1.0 if plan.recipe.tau == "auto" else float(plan.recipe.tau)


def _equal(plan: Plan) -> list[float]:
    return [1.0 / len(plan.members)] * len(plan.members)
