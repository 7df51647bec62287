"""`lamoid runs`: what it says of real, broken and hostile run folders, and of runs that still go on."""

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from lamoid.cli.main import run as command
from lamoid.errors import InputError
from lamoid.recipes import adapt, tune
from lamoid.recipes.recorded_metrics import MOST_BYTES, read_metrics
from lamoid.recipes.recorded_run import SEVERAL, is_held
from lamoid.recipes.run_chart import ticks
from lamoid.recipes.run_curves import thinned
from lamoid.recipes.run_folder import claim_folder
from lamoid.recipes.runs import runs
from lamoid.recipes.train import train
from lamoid.recipes.tuning_study import StoredTrials, Trial, write_trials

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
input()
"""
HOSTILE = "<script>alert('x')</script>&\"$\\frac{1}{0}$"


def recipe(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 30)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 6, "batch": 2},
        "evaluation": {"every": 3},
        "checkpoint": {"every": 3},
        "log": {"every": 1, "tensorboard": False, "curve": False},
        **changes,
    }


def made_up(folder: Path, losses: list[float], **tables: Any) -> Path:
    """Write a run's folder by hand: a recipe, and figures after each tenth step."""
    folder.mkdir(parents=True)
    tree = {"model": {"family": "gpt2"}, "training": {"steps": 100}, **tables}
    (folder / "recipe.toml").write_text(tomli_w.dumps(tree))
    lines = []
    for number, loss in enumerate(losses, 1):
        figures = {"loss": loss, "tokens": 640 * number, "seconds": 36.0 * number, "time": 1e9 + 40.0 * number}
        lines.append({"step": 10 * number, **figures, "tokens_per_second": 17.5, "parameters": 12})
        lines.append({"step": 10 * number, "validation_loss": loss + 0.5})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_a_run_is_listed_with_what_its_own_files_say(tmp_path: Path) -> None:
    result = train(recipe(tmp_path), out=tmp_path / "runs" / "first")
    (found,) = runs([tmp_path / "runs"]).runs
    assert (found.name, found.state, found.family, found.problems) == ("first", "finished", "llama", [])
    assert (found.step, found.steps, found.parameters) == (6, 6, result.parameters)
    assert (found.validation_loss, found.tokens) == (result.validation_loss, result.tokens)
    assert found.best_validation_loss == result.best_validation_loss
    assert found.started is not None
    assert abs(time.time() - found.started) < 600
    assert "first" in "\n".join(runs([tmp_path / "runs"]).lines())


def test_figures_are_those_of_the_lines(tmp_path: Path) -> None:
    found = runs([made_up(tmp_path / "x", [3.0, 2.0, 2.25])]).runs[0]
    assert (found.loss, found.validation_loss, found.best_validation_loss) == (2.25, 2.75, 2.5)
    assert (found.tokens, found.seconds, found.started) == (1920, 108.0, 1e9 + 4.0)
    assert (found.step, found.steps, found.state, found.family) == (30, 100, "died", "gpt2")


def test_whether_a_run_still_goes_on_is_told_without_taking_its_lock(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "x", [3.0])
    assert runs([folder]).runs[0].state == "died"
    (folder / "checkpoints" / "step-00000010").mkdir(parents=True)
    assert runs([folder]).runs[0].state == "stopped"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert runs([folder]).runs[0].state == "running"
        assert is_held(folder)
        process.communicate("\n")
    assert not is_held(folder)
    with pytest.raises(InputError, match="other settings"), claim_folder(folder, _Recipe(), resume=True):
        pass


def test_adaptations_and_searches_are_no_runs_that_died(tmp_path: Path) -> None:
    """What ends them writes these files; a search's own list says how each of its runs ended."""
    assert set(SEVERAL) == {adapt.RESULT, tune.RESULT}
    search, adaptation = made_up(tmp_path / "search", []), made_up(tmp_path / "adaptation", [])
    states = ("done", "abandoned", "failed")
    trials = [Trial(n, {}, [], state, None, [], 1.0) for n, state in enumerate(states)]
    write_trials(search, StoredTrials(["seed=1|2"], 0, trials))
    for number in range(3):
        made_up(search / "runs" / f"{number:04}", [3.0])
    (adaptation / "text").mkdir()
    made_up(adaptation / "full", [3.0])
    found = runs([search, adaptation]).runs
    assert [run.state for run in found] == ["stopped", "died", "given up", "failed", "stopped", "died"]
    (search / tune.RESULT).write_text("{}")
    (adaptation / adapt.RESULT).write_text("{}")
    assert [run.state for run in runs([tmp_path]).runs] == ["adapted", "searched"]
    (search / "trials.json").write_text("[")
    assert [run.state for run in runs([search / "runs"]).runs] == ["died"] * 3


class _Recipe(msgspec.Struct, forbid_unknown_fields=True):
    seed: int = 1


def test_runs_that_are_named_are_compared_key_by_key(tmp_path: Path) -> None:
    first = made_up(tmp_path / "a", [3.0, 2.0], optimizer={"learning_rate": 0.1}, seed=1)
    second = made_up(tmp_path / "b", [3.5, 2.5], optimizer={"learning_rate": 0.2, "beta": 3}, seed=1)
    result = runs([first, second])
    assert result.compared == ["a", "b"]
    assert result.differing == {"optimizer.beta": [None, 3], "optimizer.learning_rate": [0.1, 0.2]}
    assert result.figures["loss"] == [2.0, 2.5]
    assert runs([tmp_path]).compared == []
    shown = "\n".join(result.lines())
    assert re.search(r"optimizer.learning_rate +0.1 +0.2", shown)


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [made_up(tmp_path / part / "x", [3.0]) for part in ("a", "b")]
    assert [run.name for run in runs(folders).runs] == [str(folder) for folder in folders]


class Page(HTMLParser):
    """Gathers what a browser would make of a page: the elements, their attributes and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_shows_hostile_names_as_words_and_loads_nothing(tmp_path: Path) -> None:
    first = made_up(tmp_path / HOSTILE.replace("/", "|"), [3.0, 2.0], model={"family": HOSTILE}, title=HOSTILE)
    second = made_up(tmp_path / "plain", [2.5, 1.5])
    (first / "result.json").write_text(HOSTILE)
    runs([first, second], html=tmp_path / "page.html", png=tmp_path / "picture.png")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "iframe", "link", "a", "object", "embed", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("href", "src", "action")]
    assert "://" not in text
    assert first.name in page.words
    assert page.tags.count("svg") == 3
    assert page.tags.count("polyline") == 12
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_terminal_gets_no_control_characters_from_a_name(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "evil\x1b[2J\u202e", [3.0], model={"family": "\x1b]0;x\x07"})
    (folder / "result.json").write_text("{")
    text = "\n".join(runs([folder]).lines())
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert r"evil\x1b[2J" in text


def spoil(folder: Path, what: str) -> None:
    metrics, recipe, result = (folder / name for name in ("metrics.jsonl", "recipe.toml", "result.json"))
    match what:
        case "torn last line":
            metrics.write_bytes(metrics.read_bytes() + b'{"step": 99, "lo')
        case "broken line":
            metrics.write_bytes(b'{"step": \n' + metrics.read_bytes())
        case "deep line":
            metrics.write_bytes(b"[" * 200_000 + b"\n" + metrics.read_bytes())
        case "long line":
            metrics.write_bytes(metrics.read_bytes() + b"x" * (2 << 20))
        case "huge metrics":
            with metrics.open("ab") as file:
                file.truncate(MOST_BYTES + 1)
        case "pipe":
            metrics.unlink()
            os.mkfifo(metrics)
        case "folder":
            metrics.unlink()
            metrics.mkdir()
        case "binary recipe":
            recipe.write_bytes(b"\xff\xfe\x00")
        case "huge recipe":
            with recipe.open("ab") as file:
                file.truncate(2 << 20)
        case "no recipe":
            recipe.unlink()
        case "result that is a list":
            result.write_text("[1]")
        case "result with a duplicate":
            result.write_text('{"model": "a", "model": "b"}')


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("torn last line", None),
        ("broken line", "metrics.jsonl: 1 of its lines are no figures, the first is line 1"),
        ("deep line", "metrics.jsonl: 1 of its lines are no figures, the first is line 1"),
        ("long line", "metrics.jsonl: line 5 is longer than"),
        ("huge metrics", "metrics.jsonl: .* the limit is"),
        ("pipe", r"metrics.jsonl: it is a pipe \(FIFO\)"),
        ("folder", "metrics.jsonl: it is a folder"),
        ("binary recipe", "recipe.toml: cannot be read"),
        ("huge recipe", "recipe.toml: 2097152 bytes"),
        ("no recipe", "recipe.toml: the file cannot be opened"),
        ("result that is a list", "result.json: holds no table"),
        ("result with a duplicate", "result.json: the key 'model' stands twice"),
    ],
)
def test_a_broken_folder_is_named_and_hides_no_other(tmp_path: Path, what: str, named: str | None) -> None:
    made_up(tmp_path / "runs" / "good", [3.0, 2.0])
    spoil(made_up(tmp_path / "runs" / "broken", [3.0, 2.0]), what)
    broken, good = runs([tmp_path / "runs"], html=tmp_path / "page.html").runs
    assert good.loss == 2.0
    assert good.problems == []
    assert broken.name == "broken"
    if named is None:
        assert broken.problems == []
    else:
        (problem,) = broken.problems
        assert re.search(named, problem)
        assert any(problem[-40:] in line for line in runs([tmp_path / "runs"]).lines())
    if what not in ("huge metrics", "pipe", "folder"):
        assert broken.loss == 2.0


@pytest.mark.parametrize("value", ["NaN", "1e999", '"2.0"', "true", "null", "[2]", "1e308", "9" * 400])
def test_a_value_that_is_no_finite_number_is_no_figure(tmp_path: Path, value: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "loss": 3.0}}\n{{"step": 2, "loss": {value}}}\n{{"step": true, "loss": 9}}\n')
    metrics = read_metrics(path)
    assert metrics.latest["loss"] == 3.0
    assert len(metrics.curves["loss"]) == 1


def test_a_place_over_tokens_and_hours_is_worked_out_for_evaluations_too(tmp_path: Path) -> None:
    metrics = read_metrics(made_up(tmp_path / "x", [3.0, 2.0]) / "metrics.jsonl")
    for curve in metrics.curves.values():
        assert [(point.step, point.tokens, point.hours) for point in curve] == [(10, 640, 0.01), (20, 1280, 0.02)]


def test_lines_of_before_tokens_were_logged_are_drawn_over_steps_alone(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "x", [])
    (folder / "metrics.jsonl").write_text('{"step":5,"loss":2.0}\n{"step":10,"loss":1.0}\n')
    runs([folder], png=tmp_path / "a.png", html=tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text().count("<svg") == 1
    with pytest.raises(InputError, match="no run has a loss over tokens"):
        runs([folder], png=tmp_path / "b.png", over="tokens")


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (6, 5), (5000, 500), (12345, 2)])
def test_a_thinned_curve_keeps_its_end_and_its_mean(count: int, most: int) -> None:
    points = [(float(at), float(at) * 3 + 1) for at in range(count)]
    few = thinned(points, most)
    assert len(few) == min(count, most)
    assert few[-1] == points[-1]
    assert few == sorted(few)
    for x, y in few:
        assert y == pytest.approx(3 * x + 1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 60), (1.23, 1.24), (0, 1e9), (-3, 7), (2, 2)])
def test_ticks_are_round_inside_and_neither_few_nor_many(low: float, high: float) -> None:
    found = ticks(low, high)
    assert all(low - 1e-9 <= place <= high + 1e-9 for place in found)
    assert 1 <= len(found) <= 8
    if high > low:
        assert len(found) >= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: [folder / "nowhere"], "nowhere: cannot be listed"),
        (lambda folder: [folder], "is no run and holds none"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs(make(tmp_path))


def test_the_command_writes_json_and_refuses_to_overwrite(tmp_path: Path, capfdbinary: pytest.CaptureFixture) -> None:
    folder = made_up(tmp_path / "x", [3.0, 2.0])
    words = ["runs", str(folder), "--json", "--html", str(tmp_path / "page.html")]
    assert command(words) == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert found["runs"][0]["loss"] == 2.0
    assert command(words) == 2
    assert b"exists already" in capfdbinary.readouterr().err
    assert command(["runs", str(folder), "--over", "miles"]) == 2
