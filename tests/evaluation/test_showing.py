"""Tables, pictures and the hash of a model."""

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.picture import COLOURS, Row, draw_intervals
from lamoid.evaluation.text_table import build_table, show, table_lines
from lamoid.weights.durable import durable_folder
from lamoid.weights.write import write_tensors

NAMES = ["[red]x[/red]", "$\\frac{1}$", "模型", "a" * 300, "with\ttab"]


def test_a_table_shows_names_as_they_are() -> None:
    text = "\n".join(table_lines(build_table("title [b]", ("model", "loss"), [(name, show(1.0)) for name in NAMES])))
    assert "[red]x[/red]" in text
    assert "title [b]" in text
    assert text.count("1.0000") == len(NAMES)


def test_figures_are_written_with_their_interval() -> None:
    assert show(None) == "-"
    assert show(1.23456) == "1.2346"
    assert show(1.23456, (1.1, 1.4)) == "1.2346\n[1.100, 1.400]"


def test_a_picture_is_a_png_and_the_same_twice() -> None:
    rows = [Row(name, 1.0 + place, (0.9, 3.0), kind, 0.5) for place, (name, kind) in enumerate(zip(NAMES, COLOURS))]  # noqa: B905
    rows.append(Row("alone", 2.0, None))
    picture = draw_intervals({"$x [b] 标题": rows}, axis="nats")
    assert picture.startswith(b"\x89PNG")
    assert picture == draw_intervals({"$x [b] 标题": rows}, axis="nats")


def test_several_panels_stand_side_by_side() -> None:
    rows = [Row("one", 1.0, (0.9, 1.1), "base"), Row("other", 2.0, None, "fused")]
    sizes = []
    for panels in ({"on x": rows}, {"on x": rows, "on y": rows, "on z": rows}):
        header = draw_intervals(panels, axis="bits a byte")[:24]
        sizes.append(struct.unpack(">II", header[16:24]))
    assert sizes == [(960, 252), (1440, 252)]


def test_large_figures_are_written_short() -> None:
    assert show(1.5e300, (1e299, 2e300), 3) == "1.500e+300\n[1.00e+299, 2.00e+300]"


def test_hash_of_a_model_is_of_its_files(tmp_path: Path) -> None:
    with durable_folder(tmp_path / "kept") as draft:
        write_tensors(draft, {"x": torch.arange(5.0)})
        draft.write("config.json", b"{}")
        draft.write("fusion.json", b"{}")
    first = hash_model(tmp_path / "kept")
    (tmp_path / "kept" / "fusion.json").write_bytes(b"[]")
    (tmp_path / "kept" / "manifest.json").unlink()
    assert hash_model(tmp_path / "kept") == first
    save_file({"x": torch.arange(1.0, 6.0)}, tmp_path / "kept" / "model.safetensors")
    assert hash_model(tmp_path / "kept") != first


def test_hash_refuses_a_file_of_another_size(tmp_path: Path) -> None:
    with durable_folder(tmp_path / "kept") as draft:
        draft.write("config.json", b"{}")
    (tmp_path / "kept" / "config.json").write_bytes(b"{} ")
    with pytest.raises(InputError, match=r"config\.json"):
        hash_model(tmp_path / "kept")
