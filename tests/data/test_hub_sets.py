"""Data sets by name, tried on folders that ``datasets`` itself made; the net is never asked."""

import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from lamoid.data.hub_sets import HubName, anchored_hub_name, hub_identity, is_hub_name, parse_hub_name
from lamoid.data.sources import files_size, read_documents, source_names
from lamoid.errors import InputError
from lamoid.recipes.feed import TextData
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.training_data import gather_data

TEXTS = {"train": ["one\ntwo", "three 中文"], "test": ["four"]}


@pytest.fixture(autouse=True)
def no_net_and_no_bars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def make(folder: Path, form: str) -> Path:
    made = datasets.DatasetDict({split: datasets.Dataset.from_dict({"text": said}) for split, said in TEXTS.items()})
    place = folder / form
    if form == "saved":
        made.save_to_disk(place)
    elif form == "one":
        made["train"].save_to_disk(place)
    else:
        place.mkdir()
        for split in TEXTS:
            getattr(made[split], f"to_{form}")(place / f"{split}.{'jsonl' if form == 'json' else form}")
    return place


def texts(source: str, **settings) -> list[str]:
    return [document.text for document in read_documents([source], **settings)]


@pytest.mark.parametrize("form", ["saved", "parquet", "json", "csv"])
def test_a_folder_that_datasets_made_gives_its_splits(form: str, tmp_path: Path) -> None:
    place = make(tmp_path, form)
    assert texts(f"hf:{place}") == texts(f"hf:{place}:train") == TEXTS["train"]
    assert texts(f"hf:{place}:test") == TEXTS["test"]
    with pytest.raises(InputError, match="dev"):
        texts(f"hf:{place}:dev")
    if form != "csv":  # whose columns datasets knows only by its first row, and it leaves the file open then
        with pytest.raises(InputError, match=r"has no field 'body', only text"):
            texts(f"hf:{place}", field="body")


def test_a_set_without_splits_is_read_as_it_is(tmp_path: Path) -> None:
    assert texts(f"hf:{make(tmp_path, 'one')}") == TEXTS["train"]


def test_data_sets_stand_behind_files_and_their_documents_are_named(tmp_path: Path) -> None:
    place = make(tmp_path, "saved")
    (tmp_path / "a.txt").write_text("a file")
    sources = [f"hf:{place}:test", str(tmp_path / "a.txt")]
    found = list(read_documents(sources))
    assert [(d.name, d.text) for d in found] == [(str(tmp_path / "a.txt"), "a file"), (f"hf:{place}:test:1", "four")]
    assert files_size(sources) is None
    assert files_size(sources[1:]) == 6


def test_the_identity_is_the_same_for_the_same_data_alone(tmp_path: Path) -> None:
    for form in ("saved", "json"):
        place = make(tmp_path, form)
        first, second = hub_identity(f"hf:{place}"), hub_identity(f"hf:{place}")
        assert first == second
        assert first.startswith(f"hf:{place} (")
    assert hub_identity(f"hf:{tmp_path / 'saved'}") != hub_identity(f"hf:{tmp_path / 'saved'}:test")
    assert source_names([tmp_path / "json"]) == (str(tmp_path / "json"),)


def test_names_are_taken_apart(tmp_path: Path) -> None:
    assert parse_hub_name("hf:owner/name") == HubName("owner/name", None, "train", None)
    assert parse_hub_name("hf:name:test") == HubName("name", None, "test", None)
    assert parse_hub_name("hf:owner/name/20220301.en:test") == HubName("owner/name", "20220301.en", "test", None)
    assert parse_hub_name(f"hf:{tmp_path}:test") == HubName(str(tmp_path), None, "test", tmp_path)
    assert parse_hub_name(f"hf:{tmp_path}/small:test") == HubName(str(tmp_path), "small", "test", tmp_path)
    assert is_hub_name("hf:a")
    assert not is_hub_name(Path("hf:a"))


def test_relative_folders_are_taken_from_the_place_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert anchored_hub_name("hf:sub", tmp_path) == f"hf:{tmp_path}/sub"
    assert anchored_hub_name("hf:sub:test", tmp_path) == f"hf:{tmp_path}/sub:test"
    assert anchored_hub_name("hf:owner/name:test", tmp_path) == "hf:owner/name:test"
    assert anchored_hub_name("hf:", tmp_path) == "hf:"


@pytest.mark.parametrize("source", ["hf:", "hf::train", "hf:a/b/c/d", "hf:a b", "hf:../x/y", "hf:a:b c", "hf:a//b"])
def test_what_is_no_name_is_refused_before_anything_is_asked(source: str) -> None:
    with pytest.raises(InputError, match=r"names no data set|neither a folder nor a name"):
        texts(source)


def test_a_set_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hf:nobody/nothing: cannot be read"):
        texts("hf:nobody/nothing")
    with pytest.raises(InputError, match=r"cannot be read: .*small"):
        texts(f"hf:{make(tmp_path, 'json')}/small")


def test_a_program_in_the_folder_is_not_run(tmp_path: Path) -> None:
    place = tmp_path / "program"
    place.mkdir()
    (place / "program.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    with pytest.raises(InputError, match="cannot be read"):
        texts(f"hf:{place}")
    assert not (tmp_path / "marker").exists()


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs datasets.*pip install 'lamoid\[data\]'"):
        texts("hf:owner/name")


def test_a_row_without_text_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["one", None]}).save_to_disk(tmp_path / "holes")
    with pytest.raises(InputError, match="row 2: has no text in the field 'text', but 'None'"):
        texts(f"hf:{tmp_path / 'holes'}")


def test_a_recipe_may_name_a_data_set(tmp_path: Path) -> None:
    make(tmp_path, "saved")
    (tmp_path / "recipe.toml").write_text(
        "training = {steps = 1, batch = 1}\nmodel = {width = 8, layers = 1, heads = 1, context = 8}\n"
        'tokenizer = {kind = "bytes"}\ndata = {train = ["hf:saved"], validation = "hf:saved:test"}\n'
    )
    recipe = read_recipe(tmp_path / "recipe.toml")
    data = gather_data(recipe, tmp_path / "run", None)
    assert isinstance(data, TextData)
    assert data.train.manifest.documents == 2
    assert data.validation is not None
    assert data.validation.manifest.documents == 1
