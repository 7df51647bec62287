"""Every writer gets the same figures, and gets on with them when the run goes on."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.recipes.log_table import LogTable
from lamoid.recipes.watching import resume_energy, watch
from lamoid.training.energy import Energy
from lamoid.training.json_lines import JsonLines

FIRST = [(5, {"loss": 2.5, "loss/next_token": 2.5}), (10, {"loss": 2.25}), (10, {"validation_loss": 2.0})]
SECOND = [(10, {"loss": 2.125}), (15, {"loss": 1.5, "loss/fox/next_token": 1.25})]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def events(out: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(out / "tensorboard"))
    found.Reload()
    scalars = {name: found.Scalars(name) for name in found.Tags()["scalars"]}
    return {name: [(each.step, each.value) for each in values] for name, values in scalars.items() if values}


def test_every_writer_gets_the_same_figures_also_after_going_on(tmp_path: Path) -> None:
    """The run goes on after step 5: what came later is dropped from the lines, and hidden among the events."""
    for after, told in ((0, FIRST), (5, SECOND)):
        if after:
            time.sleep(1.1)  # TensorBoard reads the files by their names: those of one second in no safe order
        watching = watch(tmp_path, LogTable(), after=after, settings={})
        for step, figures in told:
            for write in watching.writers:
                write(step, figures)
        watching.close()
    expected = FIRST[:1] + SECOND
    assert lines(tmp_path) == [{"step": step, **figures} for step, figures in expected]
    by_name: dict[str, list[tuple[int, float]]] = {}
    for step, figures in expected:
        for name, value in figures.items():
            by_name.setdefault(name, []).append((step, value))
    assert events(tmp_path) == by_name


def test_what_is_switched_off_leaves_no_trace(tmp_path: Path) -> None:
    watching = watch(tmp_path, LogTable(tensorboard=False), after=0, settings={})
    assert len(watching.writers) == 1
    watching.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("missing", ["tensorboard", "wandb"])
def test_a_missing_package_is_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(
        f"lamoid.recipes.watching.{'open_wandb' if missing == 'wandb' else missing}", lambda *a, **k: None
    )
    table = LogTable(tensorboard=missing == "tensorboard", wandb="offline" if missing == "wandb" else "off")
    watching = watch(tmp_path, table, after=0, settings={})
    assert len(watching.writers) == 1
    assert len(watching.remarks) == 1
    assert "pip install 'lamoid[track]'" in watching.remarks[0]


def test_every_writer_is_closed_though_one_of_them_fails(tmp_path: Path) -> None:
    closed: list[str] = []

    def fail() -> None:
        closed.append("b")
        raise OSError("the disk is full")

    watching = watch(tmp_path, LogTable(tensorboard=False), after=0, settings={})
    watching.add((lambda step, figures: None, lambda: closed.append("a")), "")
    watching.add((lambda step, figures: None, fail), "")
    watching.add((lambda step, figures: None, lambda: closed.append("c")), "")
    with pytest.raises(OSError, match="the disk is full"):
        watching.close()
    assert closed == ["c", "b", "a"]


class Steady:
    name = "package-0"

    def joules(self) -> float:
        return 2.5


def test_energy_goes_on_from_all_that_was_taken_also_by_steps_that_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step":5,"energy_joules":30.0}\n{"step":5,"validation_loss":1}\n{"step":9,"energy_joules":90.0}\n'
    )
    energy = Energy([Steady()])
    assert "package-0" in resume_energy(energy, tmp_path)
    assert energy.joules() == 92.5
    assert "no figures of energy" in resume_energy(None, tmp_path)


def test_lines_of_before_there_were_parts_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    old = b'{"step":10,"loss":3.5,"learning_rate":0.001,"tokens_per_second":9.0,"share_of_peak":0.1}\n'
    path.write_bytes(old + b'{"step":10,"validation_loss":3.0}\n[1]\n{"step":"10"}\n{"step":20,"loss":2.0}\n{"step":1')
    JsonLines(path, after=10)
    assert path.read_bytes() == old + b'{"step":10,"validation_loss":3.0}\n'


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"price": -1.0}, "price: is -1.0"),
        ({"price": float("nan")}, "price: is nan"),
        ({"project": "a/b"}, "project: is 'a/b'"),
        ({"project": " "}, "project: is ' '"),
        ({"every": 0}, "every: is 0"),
    ],
)
def test_a_table_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LogTable(**values)
