"""``lamoid spec check`` and ``spec schema``: status, one line a file, and a schema that agrees with the reader."""

import json
from pathlib import Path

import pytest

from lamoid.assembly.spec import encode_spec, read_spec
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes.spec_check import spec_check
from lamoid.recipes.spec_schema import spec_schema

MODELS = sorted((Path(__file__).parents[2] / "examples" / "models").glob("*.toml"))
BAD = 'width = 8\nvocab = 9\ncontext = 4\nblocks = [{ mixer = "lstmm" }]\nheads = { a = "next_token" }\n'


def test_good_specs_are_one_line_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["spec", "check", *map(str, MODELS)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(MODELS)
    assert all(line.startswith(f"{path}: OK, ") for line, path in zip(lines, MODELS, strict=True))


def test_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["spec", "check", "--json", str(MODELS[0])]) == 0
    [told] = json.loads(capfd.readouterr().out)["specs"]
    spec = read_spec(MODELS[0])
    assert (told["file"], told["parameters"]) == (str(MODELS[0]), spec.parameters())
    assert told["causal"] is (spec.not_causal is None)


def test_one_bad_spec_is_its_own_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    assert run(["spec", "check", str(tmp_path / "bad.toml")]) == 2
    place = f"{tmp_path / 'bad.toml'}: blocks[0].mixer.kind"
    error = capfd.readouterr().err
    assert error.startswith(f"lamoid: {place}: 'lstmm' is not known here")
    assert "the nearest is lstm" in error
    assert run(["spec", "check", "--json", str(tmp_path / "bad.toml")]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["culprit"] == place


def test_of_several_each_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    files = [MODELS[0], tmp_path / "bad.toml", MODELS[1], tmp_path / "absent.json"]
    with pytest.raises(InputError) as caught:
        spec_check(files)
    assert caught.value.culprit == "2 of 4 specs"
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == list(map(str, files))
    assert [": OK, " in line for line in lines] == [True, False, True, False]


def test_a_json_spec_may_name_its_schema(tmp_path: Path) -> None:
    spec = read_spec(MODELS[0])
    tree = {"$schema": "./spec.schema.json", **json.loads(encode_spec(spec))}
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert read_spec(tmp_path / "a.json") == spec


def test_the_schema_is_written_and_not_over_another(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "spec.schema.json"
    assert run(["spec", "schema", "--out", str(out)]) == 0
    assert "#:schema ./spec.schema.json" in capfd.readouterr().out
    first = out.read_bytes()
    assert run(["spec", "schema", "--out", str(out)]) == 2
    assert spec_schema(out=out, overwrite=True).parts == len(json.loads(first)["$defs"])
    assert out.read_bytes() == first
