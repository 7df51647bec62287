"""Pictures of specs: well-formed, the same bytes twice, everything named, arrows from memories to readers."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.model import empty_model
from lamoid.assembly.spec import ModelSpec, encode_spec, read_spec
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes import draw as recipe
from lamoid.recipes.assemble import assemble
from lamoid.recipes.draw import draw
from lamoid.recipes.drawing import png
from lamoid.recipes.drawing.folding import Run, runs
from lamoid.recipes.drawing.layout import lay_out
from lamoid.recipes.drawing.marks import marks_of, shared_groups
from lamoid.recipes.drawing.parts import Part, folded, parts_of
from lamoid.recipes.drawing.pieces import Box, Piece, Way, Words, flat

MODELS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "examples" / "models").glob("*.toml"))}
SVG = "{http://www.w3.org/2000/svg}"
NESTED = """
width = 32
vocab = 50
context = 16
heads = { next_token = { kind = "next_token" }, tags = { kind = "tags", count = 3 } }
[[blocks]]
order = "parallel"
mixer = { kind = "gru", hidden = 8 }
feedforward = { kind = "experts", experts = [{ kind = "plain", hidden = 8, repeat = 3 }] }
[[blocks]]
kind = "parallel"
merge = "concatenation"
branches = { skip = [], deep = [{ kind = "parallel", merge = "mean", branches = { a = [], b = { kind = "cross", memory = { mixer = { kind = "rnn", hidden = 4 } }, reader = { mixer = { kind = "cross_attention", heads = 2, head_width = 4, sees = "causal" } } } } }] }
[[blocks]]
kind = "project"
width = 32
[[blocks]]
order = "sandwich"
mixer = { kind = "convolution", kernel = 3 }
"""  # noqa: E501


def tree_of(spec: ModelSpec) -> Part:
    model = empty_model(spec)
    return folded(parts_of(model, marks_of(shared_groups(model))))


def everything(part: Part) -> list[Part]:
    return [part, *(inner for child in part.parts for inner in everything(child))]


def nested(folder: Path) -> Path:
    (folder / "nested.toml").write_text(NESTED)
    return folder / "nested.toml"


@pytest.mark.parametrize("name", [*MODELS, "nested"])
def test_a_picture_is_well_formed_and_deterministic(name: str, tmp_path: Path) -> None:
    spec = MODELS.get(name) or nested(tmp_path)
    drawn = draw(spec, out=tmp_path / "a.svg")
    draw(spec, out=tmp_path / "b.svg")
    data = (tmp_path / "a.svg").read_bytes()
    assert data == (tmp_path / "b.svg").read_bytes()
    assert (drawn.bytes, drawn.parameters) == (len(data), read_spec(spec).parameters())
    root = ElementTree.fromstring(data)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert root.find(f"{SVG}title").text
    assert "embedding" in root.find(f"{SVG}desc").text
    for box in root.iter(f"{SVG}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert x >= 0
        assert y >= 0
        assert x + float(box.attrib["width"]) <= width
        assert y + float(box.attrib["height"]) <= height


@pytest.mark.parametrize("name", [*MODELS, "nested"])
def test_boxes_lie_in_each_other_or_apart(name: str, tmp_path: Path) -> None:
    """No two boxes cut each other, but for the sheets and badges of what repeats, which are meant to."""
    picture = lay_out(tree_of(read_spec(MODELS.get(name) or nested(tmp_path))), "a")
    boxes = [item for item in flat(picture) if isinstance(item, Box)]
    plain = [box for box in boxes if box.fill not in ("#f8f9fa", "#343a40")]
    assert len(plain) > 5
    for index, one in enumerate(plain):
        for other in plain[index + 1 :]:
            assert is_apart(one, other) or is_inside(one, other) or is_inside(other, one), (one, other)


def is_apart(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return beside or one.y + one.height <= other.y or other.y + other.height <= one.y


def is_inside(one: Box, other: Box) -> bool:
    across = other.x <= one.x and one.x + one.width <= other.x + other.width
    return across and other.y <= one.y and one.y + one.height <= other.y + other.height


@pytest.mark.parametrize(("name", "arrows"), [("llama", 0), ("t5", 1), ("two_tower", 1), ("nested", 1)])
def test_an_arrow_leads_from_a_memory_to_each_reader(name: str, arrows: int, tmp_path: Path) -> None:
    picture = lay_out(tree_of(read_spec(MODELS.get(name) or nested(tmp_path))), "a")
    ways = [item for item in flat(picture) if isinstance(item, Way) and item.is_dashed]
    assert len(ways) == arrows
    readers = [box for box in flat(picture) if isinstance(box, Box) and box.fill == "#e5dbff"]
    ends = {way.points[-1] for way in ways}
    assert ends == {(box.x, box.y + 18) for box in readers}


def test_lines_run_along_the_axes(tmp_path: Path) -> None:
    for way in flat(lay_out(tree_of(read_spec(nested(tmp_path))), "a")):
        if isinstance(way, Way):
            for (x, y), (u, v) in zip(way.points, way.points[1:], strict=False):
                assert x == pytest.approx(u) or y == pytest.approx(v)


def words(picture: Piece) -> list[str]:
    return [item.text for item in flat(picture) if isinstance(item, Words)]


def test_what_repeats_is_drawn_once() -> None:
    spec = Shape(family="llama", width=32, heads=4, layers=12).spec(50)
    said = words(lay_out(tree_of(spec), "a"))
    assert "\u00d7 12" in said
    assert said.count("attention") == 1
    assert "next token" in said


def test_shared_parts_have_one_colour_and_one_mark(tmp_path: Path) -> None:
    tree = tree_of(read_spec(MODELS["two_tower"]))
    marks = {part.path: part.mark for part in everything(tree) if part.mark}
    assert marks == {
        "embedding": "A",
        "blocks.0.memory.embedding": "A",
        "blocks.0.memory.blocks.0": "B",
        "blocks.0.reader.blocks.0": "B",
    }
    boxes = {item.tip.split(":")[0]: item.fill for item in flat(lay_out(tree, "a")) if isinstance(item, Box)}
    assert boxes["embedding"] == boxes["blocks.0.memory.embedding"]
    assert boxes["blocks.0.memory.blocks.0"] == boxes["blocks.0.reader.blocks.0"] != boxes["embedding"]
    assert boxes["blocks.0.reader.blocks.1"] not in (boxes["embedding"], boxes["blocks.0.memory.blocks.0"])


def test_sharing_by_every_second_layer_folds_as_pairs(tmp_path: Path) -> None:
    text = MODELS["llama"].read_text() + '\n[[sharing]]\npaths = ["blocks.::2.feedforward"]\n'
    (tmp_path / "a.toml").write_text(text)
    [repeat] = [part for part in everything(tree_of(read_spec(tmp_path / "a.toml"))) if part.role == "repeat"]
    assert (repeat.times, len(repeat.parts)) == (2, 2)
    assert [[sub.mark for sub in block.parts] for block in repeat.parts] == [["", "A"], ["", ""]]


def test_marks_are_found_by_identity_however_it_came_about() -> None:
    model = assemble(read_spec(MODELS["llama"])).model
    assert shared_groups(model) == [["embedding", "heads.next_token"]]
    model.blocks[3].mixer.query.weight = model.blocks[1].mixer.query.weight
    assert shared_groups(model)[0] == ["blocks.1.mixer.query", "blocks.3.mixer.query"]
    model.blocks[3].feedforward = model.blocks[0].feedforward
    assert ["blocks.0.feedforward", "blocks.3.feedforward"] in shared_groups(model)
    model.blocks[1].mixer.query.weight = nn.Parameter(torch.zeros(128, 128))
    assert len(shared_groups(model)) == 2


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("", []),
        ("a", [(0, 1, 1)]),
        ("aaaa", [(0, 1, 4)]),
        ("ababab", [(0, 2, 3)]),
        ("aabaab", [(0, 3, 2)]),
        ("xababy", [(0, 1, 1), (1, 2, 2), (5, 1, 1)]),
        ("lllllglllllgll", [(0, 6, 2), (12, 1, 2)]),
    ],
)
def test_runs(row: str, expected: list[tuple[int, int, int]]) -> None:
    assert runs(row) == [Run(*run) for run in expected]
    assert "".join(row[r.start : r.start + r.period] * r.times for r in runs(row)) == row


def test_hostile_names_are_text_in_every_form(tmp_path: Path) -> None:
    text = NESTED.replace(
        "skip = []", 'é中文 = [{ kind = "stack", stream = "</text><script>&\\"\\u0007`|", width = 32, blocks = [] }]'
    )
    text = text.replace("é", '"é').replace("文 =", '文" =')
    (tmp_path / "a<b>&.toml").write_text(text, encoding="utf-8")
    draw(tmp_path / "a<b>&.toml", out=tmp_path / "a.svg")
    data = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "script>" not in data.replace("script&gt;", "")
    assert "é中文" in data
    root = ElementTree.fromstring(data)
    assert not list(root.iter(f"{SVG}script"))
    draw(tmp_path / "a<b>&.toml", out=tmp_path / "a.mmd")
    mermaid = (tmp_path / "a.mmd").read_text(encoding="utf-8")
    assert "<script" not in mermaid
    assert "#quot;" in mermaid


@pytest.mark.parametrize("name", [*MODELS, "nested"])
def test_mermaid_is_balanced_and_every_node_is_known(name: str, tmp_path: Path) -> None:
    draw(MODELS.get(name) or nested(tmp_path), out=tmp_path / "a.mermaid")
    lines = (tmp_path / "a.mermaid").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "flowchart TB"
    frames = {match[1] for line in lines if (match := re.fullmatch(r'\s*subgraph (n\d+)\[".*"\]', line))}
    assert len(frames) == sum(line.strip() == "end" for line in lines)
    nodes = {match[1] for line in lines if (match := re.fullmatch(r'\s*(n\d+)(\(\[|\[)".*"(\]\)|\]):::(\w+)', line))}
    edges = [re.fullmatch(r"  (n\d+) (?:-->|-\. memory \.->) (n\d+)", line) for line in lines]
    pairs = [(match[1], match[2]) for match in edges if match]
    assert len(pairs) >= len(nodes) - 3
    assert {end for pair in pairs for end in pair} <= nodes
    defined = {match[1] for line in lines if (match := re.match(r"  classDef (\w+) ", line))}
    used = {line.split(":::")[1] for line in lines if ":::" in line}
    used |= {line.split()[2] for line in lines if line.startswith("  class n")}
    assert used == defined
    known = len(frames) + len(nodes) + len(pairs) + len(defined) + len(frames) + 1
    assert known + sum(line.startswith("  class n") for line in lines) == len(lines)


def test_png_is_a_picture_twice_the_same(tmp_path: Path) -> None:
    for out in ("a.png", "b.png"):
        draw(MODELS["words_and_characters"], out=tmp_path / out)
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    picture = lay_out(tree_of(read_spec(MODELS["words_and_characters"])), "words_and_characters")
    assert (width, height) == (int(2 * picture.width), int(2 * picture.height))


def test_png_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "can_draw", lambda: False)
    with pytest.raises(InputError, match=r"lamoid\[eval\]"):
        draw(MODELS["llama"], out=tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    draw(MODELS["llama"], out=tmp_path / "a.svg")


def test_svg_and_mermaid_import_no_matplotlib(tmp_path: Path) -> None:
    program = (
        "import sys; from lamoid.recipes.draw import draw\n"
        f"draw({str(MODELS['llama'])!r}, out={str(tmp_path / 'a.svg')!r})\n"
        f"draw({str(MODELS['llama'])!r}, out={str(tmp_path / 'a.mmd')!r})\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_model_folder_is_drawn_and_outputs_are_kept(tmp_path: Path) -> None:
    spec = Shape(width=16, heads=2, layers=2).spec(20)
    assemble(spec).save(tmp_path / "model")
    (tmp_path / "model.json").write_bytes(encode_spec(spec))
    assert run(["draw", str(tmp_path / "model"), "--out", str(tmp_path / "a.svg")]) == 0
    assert run(["draw", str(tmp_path / "model.json"), "--out", str(tmp_path / "b.svg")]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    before = (tmp_path / "a.svg").read_bytes()
    assert run(["draw", str(tmp_path / "model"), "--out", str(tmp_path / "a.svg")]) == 2
    assert run(["draw", str(tmp_path / "model"), "--out", str(tmp_path / "a.gif")]) == 2
    assert run(["draw", str(tmp_path / "absent.toml"), "--out", str(tmp_path / "c.svg")]) == 2
    assert (tmp_path / "a.svg").read_bytes() == before
    assert not (tmp_path / "c.svg").exists()
    assert recipe.draw(tmp_path / "model", out=tmp_path / "a.svg", overwrite=True).bytes == len(before)
