"""What fusion gains: experts of one base on four kinds of text, and classifiers of one base on five tasks.

    python benchmarks/fusion_gain.py --data ../shared/data --scratch scratch [--seeds 1 2 3] [--only texts tasks]

For each seed a small Llama is trained on Shakespeare, encyclopaedia English, Chinese poetry and Python code; from it
one expert of each, one classifier of each task, and one model of all of them jointly for as many steps as the experts
have together. Every rule for several members is run at its defaults and with its factor chosen on the measuring
texts, beside base, members, uniform average and the jointly trained one; all are judged on texts that neither training
nor choosing has seen. Classifiers share the trunk, fused, each with its own head. Figures are means over the domains
and seeds; intervals come of 1000 resamples of the judged documents, in pairs for differences from the uniform average.
It takes about an hour and a half on two cores; what was trained in the scratch folder is not trained again. The tables
and the picture of docs/fusion.md are written anew, the numbers to benchmarks/results/fusion-gain-DATE.json.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gain_contest import (
    Members,
    Scores,
    Tasks,
    Texts,
    build,
    labels_of,
    mean,
    measured,
    own,
    read_lines,
    resampled,
)
from gain_data import DOMAINS, TASKS, write_domain, write_task
from gain_models import train_base, train_classifier, train_expert, train_jointly, train_on_all_tasks
from gain_page import draw, write_page

from lamoid.fusion.rules.table import RULES
from lamoid.fusion.search.fold import pack
from lamoid.fusion.search.simplex import search_simplex
from lamoid.fusion.search.soup import greedy_soup
from lamoid.fusion.search.tau import search_tau
from lamoid.fusion.stream import fuse_in_memory
from lamoid.recipes.adamerging import adamerge_classifiers
from lamoid.weighing.softmax import softmax_weights

ROOT = Path(__file__).parents[1]
FACTORS = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Tried for what a rule multiplies the sum of changes by."""
SKIPPED = {"linear"}
Judge = Callable[[dict[str, torch.Tensor]], Scores]
Row = dict[str, Any]


def contest(members: Members, measure: Judge, judge: Judge, losses: list[float]) -> Iterator[Row]:
    """Go through all rules and weightings; ``losses`` are the members' on the measuring texts."""
    count = len(members.folders)
    equal = [1.0 / count] * count

    def linear_loss(weights: Any) -> float:
        return mean(measure(members.fuse("linear", list(weights))))

    weightings: dict[str, Callable[[], list[float]]] = {
        "uniform": lambda: equal,
        "loss, tau 1": lambda: softmax_weights(losses, 1.0),
        "loss, tau auto": lambda: softmax_weights(
            losses, search_tau(lambda tau: linear_loss(softmax_weights(losses, tau)))
        ),
        "greedy": lambda: list(greedy_soup(losses, linear_loss)),
        "pack": lambda: list(pack(losses, linear_loss)),
        "search": lambda: list(search_simplex(linear_loss, equal, 24)),
    }
    if count > 4:
        del weightings["pack"]  # 20 mixtures a member
    for name, weigh in weightings.items():
        weights = weigh()
        yield _row("linear", name, judge(members.fuse("linear", weights)), weights=weights)
    for rule, row in RULES.items():
        takes = row.least <= count and (row.most is None or row.most >= count)
        takes = takes and (row.statistic is None or row.statistic in members.statistics)
        if rule in SKIPPED or "@" in rule or not takes:
            continue
        weights = [1.0] * count
        yield _row(rule, "default", judge(members.fuse(rule, weights)))
        factor = next((name for name in ("lambda", "scale", "scaling") if name in _option_names(row.options)), None)
        if factor is not None:
            tried = {f: mean(measure(members.fuse(rule, weights, {factor: f}))) for f in FACTORS}
            best = min(tried, key=lambda f: tried[f])
            yield _row(rule, f"{factor} chosen", judge(members.fuse(rule, weights, {factor: best})), factor=best)


def _option_names(options: type) -> list[str]:
    import msgspec

    return [field.encode_name for field in msgspec.structs.fields(options)]


def _row(rule: str, weighting: str, scores: Scores, **more: Any) -> Row:
    print(f"  {rule:18} {weighting:16} {mean(scores):.4f}  {more or ''}", flush=True)
    return {"rule": rule, "weighting": weighting, "scores": scores, **more}


def run_texts(place: Path, seed: int) -> list[Row]:
    """Give the rows of one seed's language models."""
    texts = place / "texts"
    base = train_base(texts, place / str(seed) / "base", seed)
    experts = [train_expert(base, texts, domain, place / str(seed) / domain, seed) for domain in DOMAINS]
    joint = train_jointly(base, texts, place / str(seed) / "joint", seed)
    measuring, judging = (
        Texts(texts, list(DOMAINS), part, base, share) for part, share in (("measure", 6), ("judge", 2))
    )
    members = Members.open(experts, base, seed)
    own_texts = [read_lines(texts / domain / "measure.jsonl") for domain in DOMAINS]
    statistics = {
        kind: [
            measured(folder, lines, kind, place / str(seed) / f"{kind} of {domain}")
            for folder, lines, domain in zip(members.folders, own_texts, DOMAINS, strict=True)
        ]
        for kind in ("fisher", "gram")
    }
    members = replace(members, statistics=statistics)
    shape = members.base

    def judge(fused: dict[str, torch.Tensor]) -> Scores:
        return judging.score(build(shape, fused))

    def measure(fused: dict[str, torch.Tensor]) -> Scores:
        return measuring.score(build(shape, fused))

    rows = [_row("base", "", judge(own(shape)))]
    rows += [_row(f"expert of {d}", "", judge(own(f))) for d, f in zip(DOMAINS, members.folders, strict=True)]
    joined = Members.open([joint], base, seed).folders[0]
    rows.append(_row("jointly trained", "", judge(own(joined))))
    losses = [mean(measure(own(folder))) for folder in members.folders]
    return [*rows, *contest(members, measure, judge, losses)]


def run_tasks(place: Path, seed: int) -> list[Row]:
    """Give the rows of one seed's classifiers."""
    texts, rows_at = place / "texts", place / "rows"
    base = train_base(texts, place / str(seed) / "base", seed)
    paths = [train_classifier(base, rows_at, task, place / str(seed) / task, seed) for task in TASKS]
    joint = train_on_all_tasks(base, rows_at, place / str(seed) / "all tasks", seed)
    members = Members.open(paths, base, seed)
    folders = dict(zip(TASKS, members.folders, strict=True))

    labels = {task: labels_of(folder) for task, folder in folders.items()}
    measuring, judging = (Tasks(rows_at, labels, part, base, most) for part, most in (("measure", 150), ("judge", 500)))

    def scored(tasks: Tasks, fused: dict[str, torch.Tensor]) -> Scores:
        return tasks.score(lambda task: (build(folders[task], fused), slice(None)))

    def judge(fused: dict[str, torch.Tensor]) -> Scores:
        return scored(judging, fused)

    rows = [_row("each task's own", "", scored(judging, {}))]
    for task, folder in folders.items():
        rows.append(_row(f"trunk of {task}", "", judge({name: folder.tensors.tensor(name) for name in members.names})))
    rows.append(_row("base", "", judge({name: members.base.tensors.tensor(name) for name in members.names})))
    rows.append(_row("jointly trained", "", _joint_scores(joint, folders, judging)))
    losses = [
        mean(scored(measuring, {name: folder.tensors.tensor(name) for name in members.names}))
        for folder in members.folders
    ]
    rows += contest(members, lambda fused: scored(measuring, fused), judge, losses)
    asked = [[row["text"] for row in map(json.loads, _lines(rows_at / task / "measure.jsonl"))] for task in TASKS]
    surest = adamerge_classifiers(paths, base, asked, steps=60)
    fused = fuse_in_memory(*surest.sources(), RULES["task_arithmetic"], surest.settings, names=surest.names, threads=1)
    return [*rows, _row("adamerging", "by block", judge(fused))]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _joint_scores(joint: Path, folders: dict, judging: Tasks) -> Scores:
    """Score the model whose one head has all tasks' labels, asked for the labels of the task alone."""
    from lamoid.weights.folder import load_model, open_folder

    folder = open_folder(joint)
    model, names = load_model(folder), labels_of(folder)

    def model_of(task: str) -> tuple[Any, Any]:
        return model, [names.index(f"{task}/{label}") for label in labels_of(folders[task])]

    return judging.score(model_of)


def known_rows(kind: str, place: Path, seed: int) -> list[Row]:
    """Give the rows of one seed; they are kept in the scratch folder."""
    path = place / str(seed) / f"{kind}.json"
    if not path.is_file():
        print(f"{kind}, seed {seed}", flush=True)
        rows = (run_texts if kind == "texts" else run_tasks)(place, seed)
        plain = [{**row, "scores": {part: found.tolist() for part, found in row["scores"].items()}} for row in rows]
        path.write_text(json.dumps(plain))
    rows = json.loads(path.read_text())
    return [{**row, "scores": {part: np.array(found) for part, found in row["scores"].items()}} for row in rows]


def summarise(by_seed: list[list[Row]]) -> list[Row]:
    """Give each row's mean over seeds with its interval, and its difference from the uniform average."""
    found = []
    uniform = [next(row for row in rows if row["weighting"] == "uniform") for rows in by_seed]
    for rows in zip(*by_seed, strict=True):
        means = [mean(row["scores"]) for row in rows]
        draws = np.mean([resampled(row["scores"], seed=i) for i, row in enumerate(rows)], axis=0)
        others = np.mean([resampled(row["scores"], seed=i) for i, row in enumerate(uniform)], axis=0)
        found.append(
            {
                "rule": rows[0]["rule"],
                "weighting": rows[0]["weighting"],
                "mean": float(np.mean(means)),
                "by_seed": means,
                "interval": [float(x) for x in np.quantile(draws, [0.025, 0.975])],
                "from_uniform": float(np.mean(means) - np.mean([mean(row["scores"]) for row in uniform])),
                "from_uniform_interval": [float(x) for x in np.quantile(draws - others, [0.025, 0.975])],
                "parts": {
                    part: float(
                        np.mean([row["scores"][part][:, 0].sum() / row["scores"][part][:, 1].sum() for row in rows])
                    )
                    for part in rows[0]["scores"]
                },
                "chosen": [row.get("factor", row.get("weights")) for row in rows],
            }
        )
    return found


def main() -> None:
    """Train, fuse, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--task-seeds", type=int, nargs="+", help="of the classifiers, if others than --seeds")
    parser.add_argument("--only", nargs="+", choices=["texts", "tasks"], default=["texts", "tasks"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in DOMAINS:
        if not (arguments.scratch / "texts" / name).is_dir():
            write_domain(name, arguments.data, arguments.scratch / "texts" / name)
    for name in TASKS:
        if not (arguments.scratch / "rows" / name).is_dir():
            write_task(name, arguments.data, arguments.scratch / "rows" / name)
    tables = {}
    seeds = {"texts": arguments.seeds, "tasks": arguments.task_seeds or arguments.seeds}
    for kind in arguments.only:
        by_seed = []
        for seed in seeds[kind]:
            by_seed.append(known_rows(kind, arguments.scratch, seed))
        tables[kind] = summarise(by_seed)
    if set(tables) != {"texts", "tasks"}:
        return  # the rest is for when both are there
    report = {"date": date.today().isoformat(), "seeds": seeds, "torch": torch.__version__, "tables": tables}
    path = ROOT / "benchmarks" / "results" / f"fusion-gain-{report['date']}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_page(ROOT / "docs" / "fusion.md", tables, seeds)
    draw(tables, ROOT / "docs" / "curves" / "fusion-gain.png")


if __name__ == "__main__":
    main()
