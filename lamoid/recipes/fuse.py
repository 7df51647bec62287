"""Fuses models into one: measured losses become weights, parameters are averaged, and the result is judged."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, stream_fusion, total_bytes
from lamoid.recipes.fusion_plan import Plan, check_output, make_plan
from lamoid.recipes.fusion_result import Fusion
from lamoid.recipes.fusion_summary import summarise
from lamoid.recipes.fusion_trial import FUSED, UNIFORM, Trial, read_trial
from lamoid.recipes.measuring import Measuring, Paths
from lamoid.recipes.progress import Progress
from lamoid.recipes.reported_command import report_command
from lamoid.weighing.softmax import softmax_weights
from lamoid.weights.durable import Draft, durable_folder
from lamoid.weights.folder import write_description


def fuse(
    members: Annotated[Sequence[str | Path], "Model folders to fuse."],
    *,
    on: Annotated[
        str | Path | Sequence[str | Path] | None, "Text to measure and judge on: a file, a folder or a glob."
    ] = None,
    out: Annotated[str | Path, "Folder for the fused model and its report."],
    tau: Annotated[float, "Temperature: weights are exp(-loss / tau), normalised."] = 1.0,
    base: Annotated[str | Path | None, "Model to show beside the result, such as the members' common origin."] = None,
    judge: Annotated[
        str | Path | Sequence[str | Path] | None,
        "Text to judge on, instead of the half of --on that is not measured on.",
    ] = None,
    memory: Annotated[str, "Bound on memory beyond the interpreter; mapped files do not count."] = "512MiB",
    weights: Annotated[
        str | None, "Weights to use instead of measured ones: 0.2,0.3,0.5 (they are normalised)."
    ] = None,
    rule: Annotated[str, "Fusion rule."] = "linear",
    separator: Annotated[str | None, "What parts the documents of a text file."] = None,
    field: Annotated[str, "Field of a JSONL file that holds the text."] = "text",
    context: Annotated[int | None, "Tokens read at once, at most the models' own context."] = None,
    device: Annotated[str, "Where losses are measured: cpu, cuda."] = "cpu",
    dtype: Annotated[str | None, "Measure in float32, bfloat16 or float16; holds a model besides --memory."] = None,
    seed: Annotated[int, "Seed of the bootstrap."] = 0,
    ignore_field: Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."] = (),
    overwrite: Annotated[bool, "Replace an earlier model at --out."] = False,
    progress: Progress | None = None,
) -> Fusion:
    """Average the members' parameters with weights from their measured losses, judge the result and save it to ``out``.

    On one half of the documents of ``on`` each member's loss L_i is measured, in nats a token, and w_i is
    exp(-L_i / tau) / sum_j exp(-L_j / tau). Base, members, uniform average and fused model are judged on the other
    half, or on ``judge``. The disk needs room for one model: the uniform average is there first, and deleted.

    Raises ``InputError`` for what cannot be used, such as members that do not match, before their weights are read;
    ``NotCommitted`` if writing fails. In either case nothing is left at ``out``.
    """
    command = report_command(fuse, locals())
    plan = make_plan(members, base, Path(out), rule, tau, memory, weights, ignore_field)
    check_output(plan, overwrite=overwrite)
    _check_text(plan, on, judge)
    trial = None
    if on is not None:
        reader = Measuring(context=context, device=device, dtype=dtype, progress=progress, ignore_fields=ignore_field)
        trial = read_trial(on, judge, reader, seed, separator=separator, field=field)
        trial.run(plan)
        if plan.weights is None:
            losses = [trial.measured_loss(folder) for folder in plan.members]
            plan = replace(plan, weights=softmax_weights(losses, tau))
        _judge_uniform(plan, trial, progress)
    with durable_folder(plan.out, overwrite=overwrite) as draft:
        _write_model(plan, draft, progress, "fusing")
        if trial is not None:
            trial.judge(FUSED, draft.path)
        result = summarise(plan, trial, command)
        draft.write("fusion.json", msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        picture = result.picture()
        if picture is not None:
            draft.write("fusion.png", picture)
    return result


def _check_text(plan: Plan, on: Paths | None, judge: Paths | None) -> None:
    """Refuse what only a text could give where there is none, and a text where a model cannot read it."""
    for name, is_asked in (
        ("weights", plan.weights is None),
        ("judge", judge is not None),
        ("base", plan.base is not None),
    ):
        if on is None and is_asked:
            problem = "is not given, nor are weights" if name == "weights" else f"is not given, which {name} needs"
            raise InputError("on", problem, "name a text to measure the members on")
    if on is not None and plan.without_tokenizer:
        cure = "put its tokenizer.json into the folder, or give --weights and no --on"
        raise InputError(plan.without_tokenizer[0], "holds no tokenizer, which measuring needs", cure)


class _DiscardedError(Exception):
    """Ends a draft that is not meant to stay."""


def _judge_uniform(plan: Plan, trial: Trial, progress: Progress | None) -> None:
    """Write the uniform average beside the output, judge it and delete it; needless where it is the fused model."""
    share = 1.0 / len(plan.members)
    if plan.weights == [share] * len(plan.members):
        return
    beside = plan.out.with_name(f".{plan.out.name}.uniform")
    with suppress(_DiscardedError), durable_folder(beside) as draft:
        _write_model(replace(plan, weights=[share] * len(plan.members)), draft, progress, "uniform average")
        trial.judge(UNIFORM, draft.path)
        raise _DiscardedError


def _write_model(plan: Plan, draft: Draft, progress: Progress | None, label: str) -> None:
    """Write a whole model folder: the first member's description, the members' tokenizer, and the fused weights."""
    first = plan.members[0]
    ends = first.ends[0] if len(first.ends) == 1 else list(first.ends) or None
    generation = {"bos_token_id": first.start, "eos_token_id": ends, **first.generation}
    dtype = first.tensors[plan.tensors[0]].dtype
    files = {} if plan.tokenizer is None else plan.tokenizer.files()
    write_description(draft, first.spec, dtype=dtype, generation=generation, tokenizer_files=files, family=first.family)
    weights = plan.weights or []
    sources = [Source(str(m.path), m.tensors, weight) for m, weight in zip(plan.members, weights, strict=True)]
    if progress is not None:
        progress.start(label, total_bytes(first.tensors, plan.tensors), "bytes")
    advance = None if progress is None else progress.advance
    stream_fusion(sources, RULES[plan.rule], draft, names=plan.tensors, memory=plan.memory, advance=advance)
    if progress is not None:
        progress.finish()
