"""Fuses models into one: measured losses become weights, parameters are averaged, and the result is judged."""

import math
import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.picture import NO_MATPLOTLIB, can_draw
from lamoid.evaluation.report import Figures, Measured, Report
from lamoid.evaluation.units import are_few, halve, hash_texts, split_units
from lamoid.fusion.match import check_match, check_tokenizers
from lamoid.fusion.memory import block_elements, parse_memory
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion, total_bytes
from lamoid.fusion.verdict import NOT_JUDGED, describe_verdict, describe_weights, give_verdict
from lamoid.recipes.fusion_result import Fusion, Judged, Member
from lamoid.recipes.measuring import Measuring, Texts, as_paths, name_paths, read_texts
from lamoid.recipes.progress import Progress
from lamoid.text.tokenizer import Tokenizer
from lamoid.weighing.softmax import softmax_weights
from lamoid.weights.durable import Draft, durable_folder
from lamoid.weights.folder import ModelFolder, open_folder, write_description

SPARE_BYTES = 64 * 2**20


def fuse(
    members: Annotated[Sequence[str | Path], "Model folders to fuse."],
    *,
    on: Annotated[
        str | Path | Sequence[str | Path] | None, "Text to measure and judge on: a file, a folder or a glob."
    ] = None,
    out: Annotated[Path, "Folder for the fused model and its report."],
    tau: Annotated[float, "Temperature: weights are exp(-loss / tau), normalised."] = 1.0,
    base: Annotated[Path | None, "Model to show beside the result, such as the members' common origin."] = None,
    judge: Annotated[
        str | Path | Sequence[str | Path] | None,
        "Text to judge on, instead of the half of --on that is not measured on.",
    ] = None,
    memory: Annotated[str, "Bound on memory besides the interpreter and mapped files."] = "512MiB",
    weights: Annotated[
        str | None, "Weights to use instead of measured ones: 0.2,0.3,0.5 (they are normalised)."
    ] = None,
    rule: Annotated[str, "Fusion rule."] = "linear",
    separator: Annotated[str | None, "What parts the documents of a text file."] = None,
    field: Annotated[str, "Field of a JSONL file that holds the text."] = "text",
    context: Annotated[int | None, "Tokens read at once, at most the models' own context."] = None,
    device: Annotated[str, "Where losses are measured: cpu, cuda."] = "cpu",
    seed: Annotated[int, "Seed of the bootstrap."] = 0,
    overwrite: Annotated[bool, "Replace an earlier model at --out."] = False,
    progress: Progress | None = None,
) -> Fusion:
    """Average the members' parameters with weights from their measured losses, judge the result and save it to ``out``.

    The documents of ``on`` are halved by their hash. On one half each member's loss L_i is measured, in nats a token,
    and w_i = exp(-L_i / tau) / sum_j exp(-L_j / tau). Base, members, uniform average and fused model are judged on the
    other half, or on ``judge``. ``weights`` given by hand replace the measured ones, and then ``on`` may be left out.
    The disk must have room for the fused model; the uniform average is there before it and deleted.

    Raises ``InputError`` for what cannot be used, such as members that do not match, before their weights are read;
    ``NotCommitted`` if writing fails. In either case nothing is left at ``out``.
    """
    plan = _plan(members, base, Path(out), memory=memory, rule=rule, tau=tau, weights=weights)
    _check_output(plan, overwrite=overwrite)
    trial = None
    if on is not None:
        trial = Trial.read(on, judge, separator=separator, field=field)
        check_tokenizers([folder.path for folder in plan.read], [Tokenizer.read(folder.path) for folder in plan.read])
        trial.measure(plan.read, Measuring(context=context, device=device, progress=progress))
    elif not plan.weights:
        raise InputError("on", "is not given, nor are weights", "name a text to measure the members on")
    plan = plan.weighed_by(trial)
    if trial is not None and not plan.is_uniform:
        _judge_uniform(plan, trial, progress)
    with durable_folder(plan.out, overwrite=overwrite) as draft:
        _write_model(plan, draft, progress)
        if trial is not None:
            trial.judge("fused", draft.path)
        result = summarise(plan, trial, seed)
        draft.write("fusion.json", msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        picture = result.picture()
        if picture is not None:
            draft.write("fusion.png", picture)
    return result
