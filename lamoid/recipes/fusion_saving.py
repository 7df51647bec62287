"""Saves a fusion that was decided on: writes it, judges it from where it lies, and keeps it or not."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass

import msgspec

from lamoid.recipes.fusion_candidates import Candidates, DiscardedError
from lamoid.recipes.fusion_card import CARD, RECIPE, write_card, write_recipe
from lamoid.recipes.fusion_pictures import draw_pictures
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_recipe import FusionRecipe
from lamoid.recipes.fusion_result import Fusion, Rejected
from lamoid.recipes.fusion_summary import summarise
from lamoid.recipes.fusion_trial import FUSED, UNIFORM
from lamoid.recipes.fusion_weights import Choice, safer_choices
from lamoid.recipes.fusion_writing import hash_blend, write_fusion
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import Draft, durable_folder
from lamoid.weights.folder import open_folder

RESULT = "fusion.json"


@dataclass(frozen=True)
class Saving:
    """What is needed to save any mixture of a plan; ``recipe`` is the one that is saved beside it, with its steps."""

    plan: Plan
    candidates: Candidates | None
    recipe: FusionRecipe
    command: str
    overwrite: bool
    progress: Progress | None
    run: str = ""

    def save(self, choice: Choice) -> Fusion:
        """Write a choice into the output and give what it came to."""
        self._judge_uniform(choice)
        with self._draft(choice) as draft:
            result = self._finish(self._write(choice, draft), choice, draft)
        return result

    def save_best(self, choice: Choice) -> Fusion:
        """Write the choice, or what is safer, whatever first is not worse than the best member.

        What is worse on the measuring half is not written at all; what is judged worse is written and discarded, and
        the result says that the judging half had its part in the choice.
        """
        if self.candidates is None:
            return self.save(choice)
        rejected: dict[Choice, Fusion | None] = {choice: None}
        best = ""
        for one in safer_choices(self.plan, self.candidates, choice):
            if one.blend in {other.blend for other, result in rejected.items() if result is not None}:
                continue
            rejected.pop(one, None)
            result, is_saved = self._save_unless_worse(one, rejected)
            if is_saved:
                return result
            rejected[one], best = result, result.best_member or ""
        last = self.plan.single([str(folder.path) for folder in self.plan.members].index(best))
        return self._save_unless_worse(Choice("best member", last), rejected, is_last=True)[0]

    def _save_unless_worse(
        self, choice: Choice, rejected: dict[Choice, Fusion | None], *, is_last: bool = False
    ) -> tuple[Fusion, bool]:
        """Write and judge a choice; say whether it was kept, as the last one always is: a member that is stored in
        another dtype may be judged worse than itself."""
        self._judge_uniform(choice)
        results: list[Fusion] = []
        with suppress(DiscardedError), self._draft(choice) as draft:
            results.append(self._with_rejected(self._write(choice, draft), rejected))
            if results[0].verdict == "worse" and not is_last:
                raise DiscardedError
            results[0] = self._finish(results[0], choice, draft)
        return results[0], is_last or results[0].verdict != "worse"

    def _draft(self, choice: Choice) -> AbstractContextManager[Draft]:
        """Give a draft of the output, which goes on where a killed fusion of the same was."""
        resume = hash_blend(self.plan, choice.blend)
        return durable_folder(self.plan.out, overwrite=self.overwrite, resume=resume)

    def _judge_uniform(self, choice: Choice) -> None:
        """Judge the uniform average, needless where it is the choice."""
        if self.candidates is None or UNIFORM in self.candidates.trial.judged or choice.blend == self.plan.uniform:
            return
        self.candidates.judge(self.plan.uniform, UNIFORM)

    def _write(self, choice: Choice, draft: Draft) -> Fusion:
        """Write and judge a choice and give the result, which is not written yet."""
        write_fusion(self.plan, choice.blend, draft, self.progress, "fusing", run=self.run)
        if self.candidates is not None:
            trial = self.candidates.trial
            folder = open_folder(draft.path, ignore_fields=self.plan.recipe.ignore_field)
            trial.judge(FUSED, trial.open(folder, FUSED.lstrip("\0")), hash_blend(self.plan, choice.blend))
        return summarise(self.plan, self.candidates, choice, self.command)

    def _finish(self, result: Fusion, choice: Choice, draft: Draft) -> Fusion:
        """Put recipe, report, card and pictures beside the weights; give the result as it is saved."""
        if self.plan.recipe.steps != self.recipe.steps:
            result = self._named(result)
        pictures = draw_pictures(result, choice.blend.weights)
        draft.write(RECIPE, write_recipe(self.recipe))
        draft.write(RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        draft.write(CARD, write_card(result, self.command, list(pictures)))
        for name, picture in pictures.items():
            draft.write(name, picture)
        return result

    def _named(self, result: Fusion) -> Fusion:
        """Call the results of steps by their names: their folders are gone afterwards, and called anew each time."""
        places = [*(each.model for each in self.plan.recipe.members), self.plan.recipe.base or ""]
        names = [*(each.model for each in self.recipe.members), self.recipe.base or ""]
        text = msgspec.json.encode(result)
        for place, name in zip(places, names, strict=True):
            if place != name:
                text = text.replace(msgspec.json.encode(place)[1:-1], msgspec.json.encode(name)[1:-1])
        return msgspec.json.decode(text, type=Fusion)

    def _with_rejected(self, result: Fusion, rejected: dict[Choice, Fusion | None]) -> Fusion:
        """Say what was not saved because it is worse."""
        if not rejected:
            return result
        found = [self._rejected(choice, given) for choice, given in rejected.items()]
        said = f"The fusion that was asked for is worse than the best member: the {result.saved} was saved instead."
        notes = [said]
        if any(given is not None for given in rejected.values()):
            notes.append("The judging text had its part in that choice: its figures flatter what was saved.")
        return msgspec.structs.replace(result, rejected=found, notes=[*notes, *result.notes])

    def _rejected(self, choice: Choice, result: Fusion | None) -> Rejected:
        weights = None if choice.blend.weights is None else list(choice.blend.weights)
        measured = None if self.candidates is None else self.candidates.known(choice.blend)
        judged = None if result is None or result.fused is None else result.fused.judged
        return Rejected(choice.kind, choice.blend.rule, weights, measured, judged, "worse")
