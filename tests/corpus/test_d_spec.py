"""Area D for specs: hostile and broken descriptions, refused by file and place before anything is allocated."""

import json
import os
import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.spec import read_spec
from lamoid.errors import InputError
from lamoid.recipes.spec_check import spec_check

pytestmark = pytest.mark.timeout(60)

GOOD = """
width = 32
vocab = 50
context = 64
norm = { kind = "rms_norm", epsilon = 1e-5 }

[[blocks]]
repeat = 3
mixer = { kind = "attention", heads = 4, kv_heads = 2, head_width = 8 }
feedforward = { kind = "gated", hidden = 88 }

[heads.next_token]
kind = "next_token"
linear = { kind = "tied" }

[[sharing]]
paths = ["blocks.*.feedforward"]
"""
CROSS = '{ kind = "cross_attention", heads = 4, head_width = 8 }'
SOURCE = '[[blocks]]\nkind = "stack"\nstream = "source"\nblocks = [{ feedforward = { kind = "plain", hidden = 8 } }]\n'
LAYERS = '[[blocks]]\nkind = "serial"\nrepeat = {0}\nblocks = [{{ kind = "serial", repeat = {0}, blocks = [] }}]\n'
HEADS = "[heads.next_token]"

# name: (what is replaced, by what, what the error names, of the place and the problem)
CASES: dict[str, tuple[str, str, str]] = {
    "01-unknown-kind": ('"attention"', '"atention"', "blocks[0].mixer.kind: 'atention' is not known here"),
    "01b-the-nearest-kind": ('"attention"', '"atention"', "the nearest is attention"),
    "01c-kind-is-a-number": ('kind = "gated"', "kind = 3", "blocks[0].feedforward.kind: 3"),
    "01d-no-kind": ('kind = "gated", ', "", "blocks[0].feedforward: does not say its kind"),
    "01e-unknown-kind-as-text": ("context = 64", 'context = 64\nembedding = "token"', "embedding.kind: 'token'"),
    "02-unknown-field": ("hidden = 88", "hiden = 88", "blocks[0].feedforward.hiden: a gated has no such field"),
    "02b-unknown-field-of-the-model": ("width = 32", "width = 32\nlayers = 3", "layers: a model has no such field"),
    "02c-missing-field": (", head_width = 8", "", "blocks[0].mixer.head_width: is missing"),
    "02d-no-width": ("width = 32\n", "", "width: is missing"),
    "02e-no-heads": ("[heads.next_token]", "[embedding.table]", "embedding.table.kind: 'next_token'"),
    "03-heads-do-not-divide": ("kv_heads = 2", "kv_heads = 3", "blocks[0].mixer.kv_heads: is 3, does not divide"),
    "03b-heads-0": (" heads = 4", " heads = 0", "blocks[0].mixer.heads: is 0"),
    "03c-odd-head-width": ("head_width = 8", "head_width = 7", "blocks[0].mixer.portion: 1.0 of head_width 7"),
    "04-cyclic-sharing": ('"blocks.*.feedforward"', '"blocks.0", "blocks.0.feedforward"', "round in a circle"),
    "05-a-rule-that-matches-nothing": ("blocks.*.feedforward", "blocks.7.feedforward", "matches no module"),
    "05b-a-rule-that-matches-one": ("blocks.*.feedforward", "embedding", "sharing.0.paths: match 'embedding' alone"),
    "06-a-path-that-does-not-exist": (
        "blocks.*.feedforward",
        "trunk.*.attention",
        "sharing.0.paths: 'trunk.*.attention'",
    ),
    "06b-no-path": ("blocks.*.feedforward", "blocks[0]", "sharing[0].paths: 'blocks[0]' is no path"),
    "07-two-rules-on-one-tensor": (
        "[[sharing]]\n",
        '[[sharing]]\npaths = ["blocks.*.feedforward.up"]\n[[sharing]]\n',
        "falls under the rule sharing.0 too",
    ),
    "08-cross-to-nothing": ("feedforward = {", f"[[blocks]]\nmixer = {CROSS}\nfeedforward = {{", "blocks.3.mixer"),
    "08b-source-outside-of-a-cross": (HEADS, SOURCE + HEADS, "blocks.3: reads the source outside of a cross"),
    "08c-cross-without-reader": (
        HEADS,
        f'[[blocks]]\nkind = "cross"\nmemory = []\n{HEADS}',
        "blocks[1].reader: is missing",
    ),
    "09-repeat-10^9": (
        "repeat = 3",
        "repeat = 1_000_000_000",
        f"blocks[0].repeat: is 1000000000, must lie from 1 to {MOST_LAYERS}",
    ),
    "09b-repeat-0": ("repeat = 3", "repeat = 0", "blocks[0].repeat: is 0"),
    "09c-repeat-true": ("repeat = 3", "repeat = true", "blocks[0].repeat: is true"),
    "09d-repeat-text": ("repeat = 3", 'repeat = "3"', "blocks[0].repeat: is '3'"),
    "10-nested-groups": (
        "repeat = 3\n",
        "repeat = 9999\n[[blocks.blocks]]\nrepeat = 9999\n",
        f"brings the list to more than {MOST_LAYERS}",
    ),
    "10b-nested-series": (HEADS, LAYERS.format(5000) + HEADS, f"must lie from 0 to {MOST_LAYERS}"),
    "10c-experts": (
        '{ kind = "gated", hidden = 88 }',
        '{ kind = "experts", experts = [{ repeat = 4096, kind = "plain", hidden = 1 }] }\n[[blocks]]\nrepeat = 9000\n'
        'feedforward = { kind = "experts", experts = [{ repeat = 4096, kind = "plain", hidden = 1 }] }',
        "number of parts",
    ),
    "10d-10^9-experts": ("hidden = 88 }", "hidden = 88, experts = 1_000_000_000 }", "feedforward.experts"),
    "11-nan": ("1e-5", "nan", "norm.epsilon: is nan, must be finite"),
    "11b-inf": ("1e-5", "inf", "norm.epsilon: is inf, must be finite"),
    "11c-minus-inf": ("1e-5", "-inf", "norm.epsilon: is -inf, must be finite"),
    "11d-1e999": ("1e-5", "1e999", "norm.epsilon: is inf, must be finite"),
    "11e-zero": ("1e-5", "0.0", "norm.epsilon: is 0.0"),
    "12-text-for-a-number": ("width = 32", 'width = "32"', "width: is '32', must be a whole number"),
    "12b-float-for-a-number": ("width = 32", "width = 32.0", "width: is 32.0, must be a whole number"),
    "12c-true-for-a-number": ("vocab = 50", "vocab = true", "vocab: is true, must be a whole number"),
    "12d-true-for-a-float": ("1e-5", "true", "norm.epsilon: is true, must be a number"),
    "12e-number-for-a-text": ("hidden = 88", "hidden = 88, activation = 1", "feedforward.activation: is 1"),
    "12f-unknown-activation": ("hidden = 88", 'hidden = 88, activation = "gela"', "the nearest is gelu"),
    "12g-table-for-a-list": ("[[sharing]]", "[sharing]", "sharing: is a table of 1 entries, must be a list"),
    "12h-list-for-a-table": ('{ kind = "tied" }', "[1]", "heads.next_token.linear: is a list of 1 entries"),
    "12i-number-for-a-block": (HEADS, f"blocks2 = 1\n{HEADS}", "blocks[0].blocks2"),
    "12j-date": ("vocab = 50", "vocab = 1979-05-27", "vocab: is 1979-05-27, must be a whole number"),
    "13-width-0": ("width = 32", "width = 0", "width: is 0, must lie from 1"),
    "13b-width-minus-1": ("width = 32", "width = -1", "width: is -1, must lie from 1"),
    "13c-width-2^63": ("width = 32", f"width = {2**63}", "beyond 64 bits"),
    "13d-vocab-2^62": ("vocab = 50", f"vocab = {2**62}", "vocab: is 4611686018427387904"),
    "13e-a-number-of-4000-digits": ("vocab = 50", f"vocab = {'9' * 4000}", "a whole number of "),
    "13f-context-0": ("context = 64", "context = 0", "context: is 0"),
    "14-no-blocks": ("[[blocks]]\n", "[embedding]\n", "embedding"),
    "15-a-head-with-a-bad-name": ("heads.next_token", 'heads."next.token"', "heads: has the name 'next.token'"),
    "15b-a-name-with-NUL": ("heads.next_token", 'heads."a\\u0000"', "heads: has the name"),
    "16-widths-do-not-fit": (
        HEADS,
        '[[blocks]]\nkind = "parallel"\nbranches = { a = [], b = { kind = "project", width = 7 } }\n' + HEADS,
        "blocks.3.branches.b: gives 7 numbers a token, blocks.3.branches.a gives 32",
    ),
}


def as_toml(text: str, folder: Path) -> Path:
    path = folder / "spec.toml"
    path.write_text(text)
    return path


def as_json(text: str, folder: Path) -> Path:
    path = folder / "spec.json"
    path.write_text(json.dumps(tomllib.loads(text)))
    return path


def refuse(path: Path, expected: str) -> InputError:
    """Checks the file, and that the error names it, says what is expected, is short, and took little memory."""
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        spec_check([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.culprit.startswith(str(path))
    assert expected in str(caught.value).removeprefix(f"{path}: ")
    assert len(str(caught.value)) < 1500
    assert peak < 64 * 2**20
    return caught.value


def test_the_good_one_is_good(tmp_path: Path) -> None:
    toml, other = (write(GOOD, tmp_path) for write in (as_toml, as_json))
    assert read_spec(toml) == read_spec(other)
    assert spec_check([toml, other]).specs[0].blocks == 3


TOML_ALONE = ("11-nan", "11b-inf", "11c-minus-inf", "11d-1e999", "12j-date")  # JSON has no such values


@pytest.mark.parametrize(
    "form", [*(f"toml {name}" for name in CASES), *(f"json {n}" for n in CASES if n not in TOML_ALONE)]
)
def test_refused(form: str, tmp_path: Path) -> None:
    kind, name = form.split(" ")
    old, new, expected = CASES[name]
    assert old in GOOD
    write = as_toml if kind == "toml" else as_json
    refuse(write(GOOD.replace(old, new, 1), tmp_path), expected)


def series(depth: int, opening: str, closing: str) -> str:
    return opening * depth + closing * depth


GOOD_JSON = json.dumps(tomllib.loads(GOOD))
DEEP = 10**5
# name: (name of the file, what is in it, what the error says)
FILES: dict[str, tuple[str, bytes, str]] = {
    "20-json-nan": ("a.json", GOOD_JSON.replace("1e-05", "NaN").encode(), "NaN is not a JSON number"),
    "20b-json-inf": ("a.json", GOOD_JSON.replace("1e-05", "-Infinity").encode(), "-Infinity is not a JSON number"),
    "20c-json-1e999": ("a.json", GOOD_JSON.replace("1e-05", "1e999").encode(), "beyond what a float holds"),
    "21-duplicate-keys": (
        "a.json",
        GOOD_JSON.replace('"width"', '"vocab": 9, "width"').encode(),
        "'vocab' stands twice",
    ),
    "21b-duplicate-keys": ("a.toml", GOOD.replace("width", "vocab = 9\nwidth", 1).encode(), "is not TOML"),
    "22-depth-json": ("a.json", series(DEEP, "[", "]").encode(), "stand inside each other"),
    "22b-depth-json-of-objects": ("a.json", series(DEEP, '{"a":', "}").encode(), "stand inside each other"),
    "22c-depth-inline-tables": ("a.toml", ("a = " + "{ a = " * DEEP + "1" + " }" * DEEP).encode(), "nested too deep"),
    "22d-depth-lists": ("a.toml", ("a = " + series(DEEP, "[", "]")).encode(), "nested too deep"),
    "22e-depth-dotted-keys": ("a.toml", ("a." * DEEP + "a = 1").encode(), "dots"),
    "22f-depth-table-names": ("a.toml", ("[" + "a . " * DEEP + "a]").encode(), "dots"),
    "22g-depth-quoted-keys": ("a.toml", ("'a'.\"b\"." * DEEP + "a = 1").encode(), "dots"),
    "23-BOM": ("a.toml", b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark"),
    "23b-BOM": ("a.json", b"\xef\xbb\xbf" + GOOD_JSON.encode(), "byte order mark"),
    "23c-UTF-16": ("a.toml", GOOD.encode("utf-16"), "byte order mark"),
    "24-not-UTF-8": ("a.toml", b"width = 3 # \xe9", "byte 12 is not UTF-8"),
    "24b-not-UTF-8": ("a.json", b'{"a": "\xe9"}', "byte 7 is not UTF-8"),
    "25-empty": ("a.toml", b"", "width: is missing"),
    "25b-empty": ("a.json", b"", "it is not JSON"),
    "26-NUL": ("a.toml", GOOD.replace("32", "32\0").encode(), "is not TOML"),
    "26b-NUL": ("a.json", GOOD_JSON.replace("32", "32\0").encode(), "it is not JSON"),
    "27-list": ("a.json", b"[]", "is a list of 0 entries, must be a table"),
    "27b-null": ("a.json", b"null", "is null, must be a table"),
    "27c-text": ("a.json", b'"tokens"', "is 'tokens', must be a table"),
    "28-digits": ("a.json", GOOD_JSON.replace("50", "9" * 5000).encode(), "5000 digits"),
    "28b-digits": ("a.toml", GOOD.replace("50", "9" * 5000).encode(), "more than 5000 letters"),
    "28b2-digits": ("a.toml", GOOD.replace("50", "9" * 4900).encode(), "cannot be read"),
    "28c-hexadecimal": ("a.toml", GOOD.replace("50", "0x" + "f" * 10**6).encode(), "more than 5000 letters"),
    "29-no-form": ("a.yaml", b"", ".yaml"),
    "30-a-long-key": ("a.json", GOOD_JSON.replace("width", "w" * 10**6, 1).encode(), "no such field"),
    "31-10^5-unknown-fields": ("a.json", json.dumps(dict.fromkeys(map(str, range(10**5)))).encode(), "no such field"),
    "32-a-cut-file": ("a.json", GOOD_JSON[:-9].encode(), "not"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    file, data, expected = FILES[name]
    (tmp_path / file).write_bytes(data)
    if name == "29-no-form":
        with pytest.raises(InputError, match="yaml"):
            read_spec(tmp_path / file)
        return
    refuse(tmp_path / file, expected)


def nested(depth: int) -> dict:
    tree = tomllib.loads(GOOD)
    for _ in range(depth):
        tree["blocks"] = [{"kind": "serial", "blocks": tree["blocks"]}]
    tree.pop("sharing")
    return tree


@pytest.mark.parametrize("depth", [50, 120, 10**3])
def test_series_in_series_have_a_limit(depth: int, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json_of_any_depth(nested(depth)))
    refuse(tmp_path / "a.json", "names deep" if depth < 190 else "stand inside each other")
    (tmp_path / "b.json").write_text(json_of_any_depth(nested(30)))
    assert spec_check([tmp_path / "b.json"]).specs[0].blocks == 3


def json_of_any_depth(tree: dict) -> str:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return json.dumps(tree)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.mkdir(), "folder"),
        (os.mkfifo, "it is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to(path), "cannot be opened"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 100 * 10**6), "100000000 bytes"),
        (lambda path: None, "cannot be opened"),
    ],
    ids=["directory", "FIFO", "dev-zero", "loop", "100MB", "absent"],
)
@pytest.mark.parametrize("file", ["a.toml", "a.json"])
def test_what_is_no_plain_file(file: str, make: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    make(tmp_path / file)
    with pytest.raises(InputError, match=expected):
        read_spec(tmp_path / file)


def test_a_model_of_10_to_the_14_numbers_is_checked_in_256_megabytes_of_heap(tmp_path: Path) -> None:
    """The largest that the limits allow: were any of it allocated, the process could not."""
    text = GOOD.replace("width = 32", "width = 1_048_576").replace("vocab = 50", "vocab = 16_777_216")
    tree = tomllib.loads(text.replace("hidden = 88", "hidden = 16_777_216").replace("repeat = 3", "repeat = 40"))
    (tmp_path / "a.toml").write_text(tomli_w.dumps(tree))
    program = (
        "import resource, torch, sys; from pathlib import Path\n"
        "from lamoid.recipes.spec_check import spec_check\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))\n"
        "print(spec_check([Path(sys.argv[1])]).specs[0].parameters)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 7 * 10**13
