"""Which rules there are, by the name that a person types; behind an @ stands whose defaults a variant has."""

from lamoid.fusion.rules.arcee_fusion import arcee_fusion
from lamoid.fusion.rules.breadcrumbs import (
    BreadcrumbsOptions,
    BreadcrumbsTiesOptions,
    MergekitBreadcrumbsOptions,
    MergekitBreadcrumbsTiesOptions,
    breadcrumbs,
    breadcrumbs_ties,
)
from lamoid.fusion.rules.consensus_ta import ConsensusTaOptions, consensus_ta
from lamoid.fusion.rules.dare import (
    DareOptions,
    DareTiesOptions,
    MergekitDareOptions,
    MergekitDareTiesOptions,
    dare_linear,
    dare_ties,
)
from lamoid.fusion.rules.della import (
    DellaLinearOptions,
    DellaOptions,
    MergekitDellaLinearOptions,
    MergekitDellaOptions,
    della,
    della_linear,
)
from lamoid.fusion.rules.expo import ExpoOptions, expo
from lamoid.fusion.rules.fisher import FisherOptions, fisher, survey_fisher
from lamoid.fusion.rules.iso_c import iso_c
from lamoid.fusion.rules.iso_cts import IsoCtsOptions, iso_cts
from lamoid.fusion.rules.karcher import KarcherOptions, karcher
from lamoid.fusion.rules.linear import LinearOptions, linear
from lamoid.fusion.rules.magmax import MagmaxOptions, magmax
from lamoid.fusion.rules.model_stock import ModelStockOptions, model_stock
from lamoid.fusion.rules.multislerp import MultislerpOptions, multislerp
from lamoid.fusion.rules.nearswap import NearswapOptions, nearswap
from lamoid.fusion.rules.nuslerp import MergekitNuslerpOptions, NuslerpOptions, nuslerp
from lamoid.fusion.rules.passthrough import PassthroughOptions, passthrough
from lamoid.fusion.rules.ram import RamOptions, RamPlusOptions, ram, ramplus_tl
from lamoid.fusion.rules.regmean import RegmeanOptions, regmean, regmean_room
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.rules.sce import SceOptions, sce
from lamoid.fusion.rules.slerp import SlerpOptions, slerp
from lamoid.fusion.rules.task_arithmetic import MergekitTaskOptions, task_arithmetic
from lamoid.fusion.rules.task_vectors import TaskOptions
from lamoid.fusion.rules.ties import (
    FusionBenchTiesOptions,
    MergekitTiesOptions,
    PaperTiesOptions,
    PeftTiesOptions,
    TiesOptions,
    survey_ties,
    ties,
)
from lamoid.fusion.rules.tsv_m import SpectralOptions, spectral_room, tsv_m

_TIES = "Keep each member's largest changes, and of those the sign that most weight is on: for several tasks."
_DARE = "Drop changes at random and scale up the rest: for several tasks with many small changes."
_DARE_TIES = "Drop changes at random, then elect signs as TIES does."
_CRUMBS = "Leave out the smallest and the largest changes."
_DELLA = "Drop changes at random, small ones first, then elect signs as TIES does."
_TASK = "Add what each member has learned to the base: for members trained from one base on several tasks."
_NUSLERP = "Turn one model's direction into another's: for two members, of whole tensors, rows or columns."

RULES: dict[str, Rule] = {
    "linear": Rule(linear, "The weighted average: for members that are close to each other.", LinearOptions),
    "slerp": Rule(
        slerp, "Turn the base towards one member: for two models.", SlerpOptions, "needed", most=1, weighted=False
    ),
    "nuslerp": Rule(nuslerp, _NUSLERP, NuslerpOptions, "optional", least=2, most=2, unit="row"),
    "nuslerp@mergekit": Rule(nuslerp, _NUSLERP, MergekitNuslerpOptions, "optional", least=2, most=2, unit="row"),
    "multislerp": Rule(multislerp, "Average directions and lengths apart.", MultislerpOptions, "optional"),
    "karcher": Rule(karcher, "The point on the sphere that is nearest to all members.", KarcherOptions),
    "task_arithmetic": Rule(task_arithmetic, _TASK, TaskOptions, "needed"),
    "task_arithmetic@mergekit": Rule(task_arithmetic, _TASK, MergekitTaskOptions, "needed"),
    "ties": Rule(ties, _TIES, TiesOptions, "needed", survey=survey_ties),
    "ties@paper": Rule(ties, _TIES, PaperTiesOptions, "needed", survey=survey_ties),
    "ties@mergekit": Rule(ties, _TIES, MergekitTiesOptions, "needed", survey=survey_ties),
    "ties@peft": Rule(ties, _TIES, PeftTiesOptions, "needed", survey=survey_ties),
    "ties@fusionbench": Rule(ties, _TIES, FusionBenchTiesOptions, "needed", survey=survey_ties),
    "dare_linear": Rule(dare_linear, _DARE, DareOptions, "needed"),
    "dare_linear@mergekit": Rule(dare_linear, _DARE, MergekitDareOptions, "needed"),
    "dare_ties": Rule(dare_ties, _DARE_TIES, DareTiesOptions, "needed"),
    "dare_ties@mergekit": Rule(dare_ties, _DARE_TIES, MergekitDareTiesOptions, "needed"),
    "breadcrumbs": Rule(breadcrumbs, _CRUMBS, BreadcrumbsOptions, "needed"),
    "breadcrumbs@mergekit": Rule(breadcrumbs, _CRUMBS, MergekitBreadcrumbsOptions, "needed"),
    "breadcrumbs_ties": Rule(breadcrumbs_ties, _CRUMBS, BreadcrumbsTiesOptions, "needed"),
    "breadcrumbs_ties@mergekit": Rule(breadcrumbs_ties, _CRUMBS, MergekitBreadcrumbsTiesOptions, "needed"),
    "della": Rule(della, _DELLA, DellaOptions, "needed", unit="row"),
    "della@mergekit": Rule(della, _DELLA, MergekitDellaOptions, "needed", unit="row"),
    "della_linear": Rule(della_linear, _DELLA, DellaLinearOptions, "needed", unit="row"),
    "della_linear@mergekit": Rule(della_linear, _DELLA, MergekitDellaLinearOptions, "needed", unit="row"),
    "sce": Rule(
        sce, "Weigh the members by the size of their changes in each tensor.", SceOptions, "needed", weighted=False
    ),
    "model_stock": Rule(
        model_stock,
        "Go from the base to the mean as far as the members agree: for several runs on one task.",
        ModelStockOptions,
        "needed",
        least=2,
        weighted=False,
        unit="row",
    ),
    "nearswap": Rule(
        nearswap, "Take a member's numbers where they are near the base.", NearswapOptions, "needed", 1, 1, False
    ),
    "arcee_fusion": Rule(
        arcee_fusion,
        "Take over a member's most important changes only.",
        base="needed",
        most=1,
        weighted=False,
        unit="row",
    ),
    "ram": Rule(
        ram, "Keep what one member changes, average what several change.", RamOptions, "needed", weighted=False
    ),
    "ramplus_tl": Rule(
        ramplus_tl, "The same, with what one member alone changes amplified.", RamPlusOptions, "needed", weighted=False
    ),
    "passthrough": Rule(passthrough, "One model, as it is or scaled.", PassthroughOptions, most=1, weighted=False),
    "magmax": Rule(magmax, "Of each number the largest change.", MagmaxOptions, "needed", weighted=False),
    "expo": Rule(
        expo, "Go on beyond a trained model, away from its base.", ExpoOptions, "needed", most=1, weighted=False
    ),
    "consensus_ta": Rule(
        consensus_ta, "Task arithmetic without what one task alone needs.", ConsensusTaOptions, "needed"
    ),
    "tsv_m": Rule(
        tsv_m,
        "Keep each task's strongest directions and make them orthogonal: for many tasks.",
        SpectralOptions,
        "needed",
        weighted=False,
        unit="tensor",
        room=spectral_room,
    ),
    "iso_c": Rule(
        iso_c,
        "Add up all changes and make their directions equally strong: for many tasks.",
        SpectralOptions,
        "needed",
        weighted=False,
        unit="tensor",
        room=spectral_room,
    ),
    "iso_cts": Rule(
        iso_cts,
        "The same, with room for each task's own directions: for many tasks.",
        IsoCtsOptions,
        "needed",
        weighted=False,
        unit="tensor",
        room=spectral_room,
    ),
    "fisher": Rule(
        fisher,
        "Weigh each number by how much its member's loss hangs on it.",
        FisherOptions,
        statistic="fisher",
        survey=survey_fisher,
    ),
    "regmean": Rule(
        regmean,
        "Find the linear maps that answer most like the members on their own inputs.",
        RegmeanOptions,
        unit="tensor",
        statistic="gram",
        room=regmean_room,
    ),
    "regmean_plusplus": Rule(
        regmean,
        "The same, with the inputs that the fused model's own earlier layers give.",
        RegmeanOptions,
        unit="tensor",
        statistic="merged_gram",
        room=regmean_room,
    ),
}
