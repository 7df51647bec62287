"""The texts and labelled rows of benchmarks/fusion_gain.py, made of files that are not part of Lamoid."""

import csv
import json
import random
import sysconfig
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

MOST = 3_000_000
"""Bytes of one domain at most."""
HELD_OUT = 0.1
MEASURED = 120_000
"""Bytes of a domain's held-out half: members are weighed on one, judged on the other."""
ROWS = 4000
"""Training rows of a classifier at most."""


def shakespeare(data: Path) -> Iterable[str]:
    """Give the speeches of tinyshakespeare, some to a document."""
    speeches = next((data / "tinyshakespeare").glob("*.txt")).read_text(encoding="utf-8").split("\n\n")
    for first in range(0, len(speeches), 12):
        yield "\n\n".join(speeches[first : first + 12])


def encyclopaedia(data: Path) -> Iterable[str]:
    """Give the articles of wikitext and of the sample of the English Wikipedia."""
    for path in [*sorted((data / "wikitext2").glob("*.txt")), *sorted((data / "wiki_en_sample").glob("*.txt"))]:
        text = path.read_text(encoding="utf-8").replace(" \n", "\n")
        parts = text.split("\n\n")
        for first in range(0, len(parts), 8):
            yield "\n\n".join(parts[first : first + 8])


def poetry(data: Path) -> Iterable[str]:
    """Give Chinese poems, some to a document, their titles above them."""
    poems = []
    for path in sorted((data / "chinese_poetry" / "全唐诗").glob("poet.*.json")):
        for poem in json.loads(path.read_text(encoding="utf-8")):
            poems.append("\n".join([poem["title"], *poem["paragraphs"]]))
    for first in range(0, len(poems), 8):
        yield "\n\n".join(poems[first : first + 8])


def code(_: Path) -> Iterable[str]:
    """Give modules of Python's own library."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


DOMAINS: dict[str, Callable[[Path], Iterable[str]]] = {
    "Shakespeare": shakespeare,
    "encyclopaedia": encyclopaedia,
    "Chinese poetry": poetry,
    "Python": code,
}


def write_domain(name: str, data: Path, folder: Path) -> None:
    """Write train.jsonl, measure.jsonl and judge.jsonl of a domain, documents drawn apart by a fixed seed."""
    documents = [text for text in DOMAINS[name](data) if text.strip()]
    random.Random(name).shuffle(documents)
    parts: dict[str, list[str]] = {"judge": [], "measure": [], "train": []}
    sizes = {"judge": MEASURED, "measure": MEASURED, "train": MOST}
    waiting = iter(documents)
    for part, size in sizes.items():
        for text in waiting:
            parts[part].append(text)
            size -= len(text.encode())
            if size <= 0:
                break
    folder.mkdir(parents=True, exist_ok=True)
    for part, texts in parts.items():
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


Rows = list[tuple[str, str]]


def polarity(data: Path) -> Rows:
    """Give sentences of reviews, each positive or negative."""
    rows: Rows = []
    with zipfile.ZipFile(data / "nltk" / "sentence_polarity" / "sentence_polarity.zip") as archive:
        for name in sorted(archive.namelist()):
            label = name.rpartition(".")[2]
            if label in ("pos", "neg"):
                rows += [(line.strip(), label) for line in archive.read(name).decode("latin-1").splitlines()]
    return rows


def reviews(data: Path) -> Rows:
    """Give the ends of film reviews, where the judgement stands, each positive or negative."""
    place = data / "nltk" / "movie_reviews"
    with zipfile.ZipFile(next(place.glob("*.zip"))) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".txt") and "/README" not in name]
        return [(archive.read(name).decode("latin-1")[-900:], Path(name).parent.name) for name in names]


def hate(data: Path) -> Rows:
    """Give tweets: hateful, offensive or neither."""
    labels = ["hate", "offensive", "neither"]
    with (data / "hate_offensive_en" / "labeled_data.csv").open(encoding="utf-8", newline="") as file:
        return [(row["tweet"], labels[int(row["class"])]) for row in csv.DictReader(file)]


def science(data: Path) -> Rows:
    """Give titles of Chinese papers, each of one of thirteen fields."""
    rows: Rows = []
    for part in ("train", "dev"):
        for line in (data / "csl_zh" / f"cls_ctg_{part}.tsv").read_text(encoding="utf-8").splitlines():
            _, text, label = line.split("\t")
            rows.append((text, label))
    return rows


def offence(data: Path) -> Rows:
    """Give Chinese posts: offensive or not."""
    with (data / "cold_zh" / "train.csv").open(encoding="utf-8-sig", newline="") as file:
        return [(row["TEXT"], "offensive" if row["label"] == "1" else "not") for row in csv.DictReader(file)]


TASKS: dict[str, Callable[[Path], Rows]] = {
    "sentence_polarity": polarity,
    "movie_reviews": reviews,
    "hate_offensive_en": hate,
    "csl_zh": science,
    "cold_zh": offence,
}


def write_task(name: str, data: Path, folder: Path) -> None:
    """Write train, measure and judge rows of a task: 4, 1 and 1 of 6, of each class at most its share of ``ROWS``."""
    by_label: dict[str, list[str]] = {}
    for text, label in TASKS[name](data):
        by_label.setdefault(label, []).append(" ".join(text.split()))
    most = ROWS * 6 // 4 // len(by_label)
    parts: dict[str, list[dict[str, str]]] = {"train": [], "measure": [], "judge": []}
    for label, texts in sorted(by_label.items()):
        random.Random(f"{name}/{label}").shuffle(texts)
        each = min(most, len(texts))
        cuts = {"judge": (0, each // 6), "measure": (each // 6, each // 3), "train": (each // 3, each)}
        for part, (first, stop) in cuts.items():
            parts[part] += [{"text": text, "label": label} for text in texts[first:stop]]
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        random.Random(f"{name}/{part}").shuffle(rows)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
