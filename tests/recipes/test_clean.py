"""The recipe behind `lamoid clean`, and cleaning as a stage of `lamoid prepare`."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lamoid.cli.main import run
from lamoid.data.shards import open_shards
from lamoid.errors import InputError
from lamoid.recipes.clean import Cleaned, clean
from lamoid.recipes.clean_stage import read_rules
from lamoid.recipes.prepare import prepare
from lamoid.recipes.progress import Progress
from lamoid.recipes.tokenizer import tokenizer
from lamoid.text.clean_rules import CleanSpec
from lamoid.text.tokenizer import Tokenizer

SOUND = ["A first sound document about rivers and bridges.", "Another one, which speaks of winters in the mountains."]
LINES = [*SOUND, "short", SOUND[0].upper(), f"<p>{SOUND[1]}</p>", "The third sound document, with a &amp; in it."]
KEPT = [*SOUND, "The third sound document, with a & in it."]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    return path


def texts(path: Path) -> list[str]:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line)["text"] for line in data.decode().splitlines()]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_clean_text_is_written_and_the_rest_is_told(name: str, source: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    result = clean([str(source)], out=tmp_path / name, workers=1, progress=Progress(shown))
    assert texts(tmp_path / name) == KEPT
    counts = {rule.rule: (rule.dropped, rule.changed) for rule in result.report.rules}
    assert counts["length"] == (1, 0)
    assert counts["exact"] == (2, 0)
    assert counts["markup"] == (0, 2)
    told = "\n".join(result.lines())
    assert "kept 3 of 6 documents" in told
    assert "'short' (5 characters)" in told
    assert "bytes a document held" in told
    assert result.sources == (str(source),)
    assert "cleaning: " in shown.getvalue()
    assert msgspec.json.decode(msgspec.json.encode(result), type=Cleaned) == result


def test_the_number_of_processes_and_the_day_change_no_byte(source: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        clean([str(source)], out=tmp_path / f"{workers}.jsonl.gz", workers=workers)
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()


def test_rules_come_from_a_file_and_from_the_command_line(source: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "[clean.length]\nleast_characters = 3\n[clean.exact]\non = false\n[clean.language]\nkeep = ['en']\n"
    )
    spec = read_rules(rules, ["near.on=false", "clean.stop_words.languages=['de', 'zh']"])
    assert (spec.length.least_characters, spec.exact.on, spec.near.on) == (3, False, False)
    assert spec.language.keep == ("en",)
    assert spec.stop_words.languages == ("de", "zh")
    assert read_rules(None, []) == CleanSpec()
    result = clean([str(source)], out=tmp_path / "out.jsonl", rules=rules, set=["language.on=false"], workers=1)
    assert result.report.spec.length.least_characters == 3
    assert "short" in texts(tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("written", "override", "match"),
    [
        ("[clean.lenght]", "", r"rules.toml: lenght.*no such field.*length"),
        ("[clean.length]\nleast = 3", "", r"rules.toml: length.least.*no such field"),
        ("[clean.length]\nleast_characters = 'x'", "", r"length.least_characters"),
        ("[clean.length]\nleast_characters = -1", "", r"least_characters: is -1, must lie from 0"),
        ("[clean.length]\nleast_words = 9\nmost_words = 3", "", "most_words: is 3, below least_words 9"),
        ("[clean.near]\nhashes = 100", "", "near.hashes: is 100"),
        ("[clean.near]\nshare = 1.5", "", "near.share: is 1.5, must lie from 0 to 1"),
        ("[clean.near]\nshare = nan", "", "near.share"),
        ("[clean.repetition]\ntop = [0.1]", "", "repetition.top"),
        ("[train]", "", r"must hold the table \[clean\] and no other, has train"),
        ("", "", r"must hold the table \[clean\] and no other, has nothing"),
        ("[clean", "", "is not TOML"),
        ("[clean]\nlength = 3", "length.on=true", "'length' is no table"),
        ("[clean]", "length", "is not of the form rule.key=value"),
        ("[clean]", "length=3", "is not of the form rule.key=value"),
        ("[clean]", "language.keep=['xx']", "language.keep: 'xx' cannot be told"),
    ],
)
def test_rules_that_cannot_be_used_are_named(
    written: str, override: str, match: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(written)
    with pytest.raises(InputError, match=match):
        clean(
            [str(source)], out=tmp_path / "o.jsonl", rules=tmp_path / "rules.toml", set=[override] if override else []
        )
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(("how", "kept"), [("replace", "The caf\ufffd\ufffd"), ("skip", "The caf")])
def test_a_file_with_some_bytes_that_are_no_text_is_mended_and_reported(how: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"The caf\xe9\x00" + b" is open until the evening, and longer in summer." * 9)
    (tmp_path / "b.txt").write_text(SOUND[1])
    with pytest.raises(InputError, match=r"a.txt: has a NUL byte at byte offset 8.*lamoid clean --encoding-errors"):
        clean([str(tmp_path)], out=tmp_path / "o.jsonl", workers=1)
    off = ["unicode.most_lost=0.1", "repetition.on=false"]
    result = clean([str(tmp_path)], out=tmp_path / "o.jsonl", encoding_errors=how, set=off, workers=1)
    assert texts(tmp_path / "o.jsonl")[0].startswith(f"{kept} is open")
    rule = next(rule for rule in result.report.rules if rule.rule == "encoding")
    assert (rule.changed, rule.dropped, rule.characters) == (1, 0, 2)
    assert f"{tmp_path / 'a.txt'}: byte offset 7: e9" in "\n".join(result.lines())
    assert "files          1  places              2" in "\n".join(result.lines())
    (tmp_path / "rules.toml").write_text(f"[clean.encoding]\nerrors = '{how}'\n[clean.near]\non = false\n")
    again = clean([str(tmp_path / "a.txt")], out=tmp_path / "p.jsonl", rules=tmp_path / "rules.toml", set=off)
    assert again.report.rules[0] == rule
    tokenizer([str(tmp_path / "b.txt")], out=tmp_path / "t", vocab=300)
    options = {"tokenizer": tmp_path / "t", "set": [*off, f"encoding.errors={how}"]}
    prepared = prepare([str(tmp_path / "a.txt")], out=tmp_path / "shards", **options)
    assert prepared.cleaning is not None
    assert prepared.cleaning.rules[0] == rule


def test_an_unknown_way_with_such_bytes_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"encoding.errors: is 'ignore'. Choose one of refuse, replace, skip"):
        clean([str(source)], out=tmp_path / "o.jsonl", encoding_errors="ignore")


def test_what_cannot_be_written_or_leaves_nothing_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends with '.txt'. Give a name with .jsonl or .jsonl.gz"):
        clean([str(source)], out=tmp_path / "out.txt")
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(InputError, match="exists already"):
        clean([str(source)], out=tmp_path / "out.jsonl", workers=1)
    with pytest.raises(InputError, match="drop all 6 documents"):
        clean([str(source)], out=tmp_path / "none.jsonl", set=["length.least_words=100"], workers=1)
    source.write_text('{"text": "a good document that comes first"}\n{"text": ')
    with pytest.raises(InputError, match="is not JSON"):
        clean([str(source)], out=tmp_path / "out.jsonl", overwrite=True, workers=1)
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_the_command_prints_json(source: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    words = ["clean", str(source), "--out", str(tmp_path / "out.jsonl"), "--set", "near.on=false", "--json"]
    assert run([*words, "--workers", "1"]) == 0
    told = json.loads(capfdbinary.readouterr().out)
    assert told["report"]["kept"] == 3
    assert [rule["rule"] for rule in told["report"]["rules"]][-1] == "exact"


def test_an_interrupted_run_leaves_no_file_and_no_process(source: Path, tmp_path: Path) -> None:
    """The program is killed while it writes; the next run sweeps what it left."""
    code = (
        "import os, sys; from lamoid.recipes.clean import clean; from lamoid.weights import durable_stream\n"
        "durable_stream.os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "clean([sys.argv[1]], out=sys.argv[2], workers=2)\n"
    )
    out = tmp_path / "out.jsonl"
    killed = subprocess.run([sys.executable, "-c", code, str(source), str(out)], check=False, capture_output=True)
    assert killed.returncode == -9
    assert not out.exists()
    clean([str(source)], out=out, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_prepare_cleans_first_where_it_is_asked(source: Path, tmp_path: Path) -> None:
    tokenizer([str(source)], out=tmp_path / "tok", vocab=280)
    clean([str(source)], out=tmp_path / "clean.jsonl", workers=1)
    plain = prepare([str(tmp_path / "clean.jsonl")], tokenizer=tmp_path / "tok", out=tmp_path / "two")
    at_once = prepare([str(source)], tokenizer=tmp_path / "tok", out=tmp_path / "one", clean=True)
    assert plain.cleaning is None
    assert at_once.cleaning is not None
    assert at_once.cleaning.kept == 3
    assert "kept 3 of 6 documents" in "\n".join(at_once.lines())
    one, two = (open_shards(tmp_path / name, hashes=True) for name in ("one", "two"))
    assert one.window(0, len(one))[0].tolist() == two.window(0, len(two))[0].tolist()
    ruled = prepare([str(source)], tokenizer=tmp_path / "tok", out=tmp_path / "three", set=["exact.on=false"])
    assert ruled.cleaning is not None
    assert Tokenizer.read(tmp_path / "three").vocab == Tokenizer.read(tmp_path / "tok").vocab


def test_chinese_poems_are_cleaned(data_folder: Path, tmp_path: Path) -> None:
    """Poems that stand in two collections, lines that lost characters, and fragments are found; most stay."""
    source = tmp_path / "poems.jsonl"
    poems = []
    for path in sorted((data_folder / "chinese_poetry").rglob("*.json")):
        if path.parent.name in ("宋词", "蒙学") or path.stem in ("poet.tang.0", "唐诗三百首"):
            entries = json.loads(path.read_text(encoding="utf-8"))
            for entry in entries if isinstance(entries, list) else []:
                poems.append("\n".join(entry.get("paragraphs") or []))
    source.write_text("".join(json.dumps({"text": poem}) + "\n" for poem in poems if poem), encoding="utf-8")
    result = clean([str(source)], out=tmp_path / "out.jsonl", set=["language.keep=['zh']"], workers=1)
    dropped = {rule.rule: rule.dropped for rule in result.report.rules}
    assert dropped["unicode"] >= 3
    assert dropped["exact"] + dropped["near"] >= 150
    assert dropped["language"] <= 3
    assert 0.85 < result.report.kept / result.report.documents < 0.97
    kept = texts(tmp_path / "out.jsonl")
    assert len(set(kept)) == len(kept) == result.report.kept
    alone = [f"{rule}.on=false" for rule in CleanSpec.__struct_fields__ if rule != "exact"]
    result = clean([str(source)], out=tmp_path / "exact.jsonl", set=alone, workers=1)
    assert result.report.kept == len({" ".join(poem.split()) for poem in poems if poem})


def test_encyclopedia_articles_pass_but_for_their_markup(data_folder: Path, tmp_path: Path) -> None:
    """One of them is a list of a thousand things to see in a picture book, and no English prose."""
    source = data_folder / "wiki_en_sample" / "wiki_demo.txt"
    said = ["language.keep=['en']", "length.least_words=50"]
    result = clean([str(source)], out=tmp_path / "out.jsonl", separator="\n", set=said, workers=1)
    assert (result.report.documents, result.report.kept) == (30, 29)
    rules = {rule.rule: rule for rule in result.report.rules}
    assert {name: rule.changed for name, rule in rules.items() if rule.changed} == {"markup": 2}
    assert [(text[:8], why) for text, why in rules["language"].drops] == [("Animalia", "language und")]
    assert all("<ref" not in text for text in texts(tmp_path / "out.jsonl"))
