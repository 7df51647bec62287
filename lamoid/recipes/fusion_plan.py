"""What a fusion is asked to do, checked before anything is read in bulk."""

import difflib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.match import check_match, check_tokenizers, weight_names
from lamoid.fusion.memory import check_room, divide_memory, parse_memory
from lamoid.fusion.order import content_keys
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.fusion_recipe import FusionRecipe
from lamoid.recipes.fusion_settings import Settings, find_places, make_settings
from lamoid.recipes.measuring import has_tokenizer
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.placement import find_device, find_dtype
from lamoid.weights.folder import ModelFolder, open_folder
from lamoid.weights.read import Tensors

SPARE_BYTES = 16 * 2**20
SEARCHES = ("loss", "uniform", "greedy", "pack", "search", "descend")
LINEAR = ("linear", "task_arithmetic")
"""Rules whose result is linear in the weights, so that a loss has slopes by them."""


@dataclass(frozen=True)
class Blend:
    """One way to fuse the members: by a rule, with weights in their order, or with ``None`` their own."""

    rule: str
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class Plan:
    """Members that match, and how they are fused. ``tokenizer`` is the one of all, None if none of them has one."""

    recipe: FusionRecipe
    members: list[ModelFolder]
    base: ModelFolder | None
    memory: int
    tokenizer: Tokenizer | None
    without_tokenizer: list[Path]
    statistics: Sequence[Tensors] = ()
    """What a rule needs of each member besides, in their order; empty for a rule that needs nothing."""

    @property
    def out(self) -> Path:
        """Give the folder for the result."""
        return Path(self.recipe.out)

    @property
    def rule(self) -> Rule:
        """Give the rule that was asked for."""
        return RULES[self.recipe.rule]

    @property
    def tensors(self) -> list[str]:
        """Name the tensors that are fused, as the files call them."""
        return weight_names(self.members[0])

    @property
    def models(self) -> list[ModelFolder]:
        """Give members and base."""
        return self.members if self.base is None else [*self.members, self.base]

    @property
    def uniform(self) -> Blend:
        """Give the uniform average."""
        return self.linear([1.0] * len(self.members))

    @property
    def is_relative(self) -> bool:
        """Say whether weights are shares, so that all times two are the same: they are not where a base is added to."""
        if self.rule.base == "needed" or (self.rule.base == "optional" and self.base is not None):
            return False
        return all(self.recipe.options.get(name, True) is not False for name in ("normalize", "normalize_weights"))

    @property
    def given(self) -> tuple[float, ...] | None:
        """Give the members' own weights, None where one of them changes from tensor to tensor."""
        numbers = [1.0 if member.weight is None else member.weight for member in self.recipe.members]
        if any(isinstance(number, bool | str | list) for number in numbers):
            return None
        return self.scaled([float(number) for number in numbers if not isinstance(number, list)])

    def linear(self, weights: Sequence[float]) -> Blend:
        """Give a weighted average; the weights are made to come to 1."""
        total = math.fsum(weights)
        return Blend("linear", tuple(weight / total for weight in weights))

    def single(self, index: int) -> Blend:
        """Give a member as it is."""
        return self.linear([float(index == other) for other in range(len(self.members))])

    def blend(self, weights: Sequence[float] | None) -> Blend:
        """Give the asked rule with weights."""
        return Blend(self.recipe.rule, None if weights is None else tuple(weights))

    def scaled(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Make weights that are shares come to 1, and leave others as they are."""
        if not self.is_relative or not self.rule.weighted:
            return tuple(weights)
        total = math.fsum(weights)
        if not math.isfinite(total) or abs(total) <= 1e-12:
            problem = f"are {', '.join(f'{weight:g}' for weight in weights)}, which come to {total:g}"
            raise InputError("weights", problem, "give numbers that come to more than 0, such as 1 for each member")
        return tuple(weight / total for weight in weights)

    def settings(self, blend: Blend) -> Settings:
        """Give the function from a tensor to weights and options; the options are those of the rule asked for."""
        members, options = self.recipe.members, self.recipe.options
        if blend.rule != self.recipe.rule:
            members, options = [msgspec.structs.replace(member, options={}) for member in members], {}
        return make_settings(RULES[blend.rule], members, options, self._place_of, blend.weights)

    @cached_property
    def keys(self) -> list[str]:
        """Give a key a member for what it holds, of samples of its numbers."""
        return content_keys([folder.tensors for folder in self.members])

    @cached_property
    def base_key(self) -> str:
        """Give the base's key."""
        return "" if self.base is None else content_keys([self.base.tensors])[0]

    @cached_property
    def _place_of(self) -> Callable[[str], float]:
        return find_places(self.members[0], after=self.recipe.gradient_after)

    def stored_bytes(self) -> int:
        """Count the bytes of the fused tensors."""
        wanted = find_dtype(self.recipe.dtype)
        infos = [self.members[0].tensors[name] for name in self.tensors]
        sizes = [info.dtype if wanted is None or not info.dtype.is_floating_point else wanted for info in infos]
        return sum(info.elements * dtype.itemsize for info, dtype in zip(infos, sizes, strict=True))


def make_plan(recipe: FusionRecipe) -> Plan:
    """Check what was asked for and open the members; raise ``InputError`` naming the first thing that does not fit."""
    _check_words(recipe)
    paths = [Path(member.model) for member in recipe.members]
    if not paths:
        raise InputError("members", "none is given", "name at least one model folder")
    folders = [open_folder(path, ignore_fields=recipe.ignore_field) for path in paths]
    check_match(folders)
    base = None if recipe.base is None else open_folder(Path(recipe.base), ignore_fields=recipe.ignore_field)
    if base is not None and RULES[recipe.rule].base != "none":
        check_match([folders[0], base])
    models = folders if base is None else [*folders, base]
    tokenizers = {folder.path: Tokenizer.read(folder.path) for folder in models if has_tokenizer(folder.path)}
    check_tokenizers(list(tokenizers), list(tokenizers.values()))
    without = [folder.path for folder in models if folder.path not in tokenizers]
    first = next(iter(tokenizers.values()), None)
    plan = Plan(recipe, folders, base, parse_memory(recipe.memory), first, without)
    _check_rule(plan)
    return plan


def check_rule_name(name: str) -> None:
    """Raise ``InputError`` for a rule that is not there, naming the one that is spelt most like it."""
    if name not in RULES:
        near = difflib.get_close_matches(name[:60], RULES, n=1)
        meant = f"did you mean {near[0]}? Choose" if near else "choose"
        raise InputError("rule", f"is {name[:60]!r}", f"{meant} one of {', '.join(RULES)}")


def _check_words(recipe: FusionRecipe) -> None:
    """Refuse words and numbers that no members could make right."""
    check_rule_name(recipe.rule)
    tau = recipe.tau
    if tau != "auto" and not (isinstance(tau, int | float) and math.isfinite(tau) and tau > 0.0):
        cure = "1 is usual; less sharpens the weights; auto finds it"
        raise InputError("tau", f"is {tau}, must be finite and greater than 0", cure)
    if recipe.weights not in (*SEARCHES, "given"):
        raise InputError("weights", f"is {recipe.weights!r}", f"choose one of {', '.join(SEARCHES)}, or give numbers")
    if not 0 <= recipe.seed < 2**63:
        raise InputError("seed", f"is {recipe.seed}", "write a whole number from 0 to 2^63 - 1")
    find_device(recipe.device)
    find_dtype(recipe.dtype)
    parse_memory(recipe.memory)
    for name, read in (("measure_dtype", find_dtype), ("shard_size", parse_memory)):
        try:
            read(getattr(recipe, name))
        except InputError as error:
            raise InputError(name, error.problem, error.cure) from error
    for name in ("workers", "budget"):
        if getattr(recipe, name) < 1:
            raise InputError(name, f"is {getattr(recipe, name)}", "write a number of at least 1")


def _check_rule(plan: Plan) -> None:
    """Refuse a rule that these members, the base, the options or the memory do not fit."""
    rule, name, count = plan.rule, plan.recipe.rule, len(plan.members)
    if rule.base == "needed" and plan.base is None:
        raise InputError("base", f"is not given, which {name} needs", "name the model that the members come from")
    if count < rule.least or (rule.most is not None and count > rule.most):
        wanted = f"{rule.least}" if rule.most == rule.least else f"at least {rule.least}"
        wanted += f" and at most {rule.most}" if rule.most not in (None, rule.least) else ""
        cure = "give so many, or choose another rule" + (": the base stands apart" if plan.base is not None else "")
        raise InputError("members", f"are {count}, {name} takes {wanted}", cure)
    own = any(member.weight is not None for member in plan.recipe.members)
    if not rule.weighted and plan.recipe.weights == "given" and own:
        raise InputError("weights", f"are given, and {name} takes none", "leave them out, or choose another rule")
    if plan.recipe.weights == "descend" and name not in LINEAR:
        problem = f"are to be found by 'descend', which goes with {' and '.join(LINEAR)}, and the rule is {name}"
        raise InputError("weights", problem, "ask for search")
    if not rule.weighted and plan.recipe.weights in ("greedy", "pack", "search"):
        problem = f"are to be found by {plan.recipe.weights!r}, and {name} takes none"
        raise InputError("weights", problem, "leave them out, or choose another rule")
    if rule.statistic is None and any(member.statistics is not None for member in plan.recipe.members):
        problem = f"are given, and {name} asks for none"
        raise InputError("statistics", problem, "leave them out, or choose fisher or regmean")
    weights = plan.given if plan.recipe.weights == "given" else tuple([1.0 / count] * count)
    settings = plan.settings(plan.blend(weights))
    for tensor in plan.tensors:
        settings(tensor)
    check_memory(plan, plan.memory // plan.recipe.workers)


def check_memory(plan: Plan, memory: int) -> None:
    """Raise ``InputError`` if the rule needs more than ``memory`` bytes for these models, told from their headers."""
    infos = [plan.members[0].tensors[tensor] for tensor in plan.tensors]
    models = len(plan.members) + (plan.base is not None and plan.rule.base != "none")
    stored = find_dtype(plan.recipe.dtype)
    widest = max(max(info.dtype.itemsize, stored.itemsize if stored is not None else 0) for info in infos)
    divide_memory(models, widest, memory)
    statistics = plan.statistics[0] if plan.statistics else None
    check_room(plan.rule, infos, len(plan.members), models, memory, statistics)


def check_disk(plan: Plan) -> None:
    """Raise ``InputError`` where the disk has no room for the fused model."""
    parent = next(path for path in plan.out.absolute().parents if path.is_dir())
    free, size = shutil.disk_usage(parent).free, plan.stored_bytes()
    if free < size + SPARE_BYTES:
        problem = f"the disk has {free / 2**20:.1f} MiB free, the fused model takes {size / 2**20:.1f} MiB"
        problem += f" and {SPARE_BYTES / 2**20:.0f} MiB must stay free beside it"
        raise InputError(plan.out, problem, "free some space, or choose another disk")
