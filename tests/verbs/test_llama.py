"""The Llama object: made, asked, measured, saved and loaded again; and what it says when it cannot."""

import json
from pathlib import Path

import pytest
import torch

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import Loss
from lamoid.inference.request import Settings
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama, load

TEXT = "One day a llama walked up the hill. The hill was high, and the llama was not.\n" * 20


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], vocab=300)


@pytest.fixture
def llama(tokenizer: Tokenizer) -> Llama:
    return lamoid.assemble(Shape(width=32, layers=2, heads=4, kv_heads=2, context=64), tokenizer=tokenizer, seed=5)


def test_a_text_for_a_text_and_a_list_for_a_list(llama: Llama) -> None:
    prompts = ["One day", "", "The hill was high, and"]
    one = [llama.generate(prompt, max_tokens=12) for prompt in prompts]
    assert llama.generate(prompts, max_tokens=12) == one
    assert llama.generate(tuple(prompts[:1]), max_tokens=12) == one[:1]
    assert llama.generate([], max_tokens=12) == []


def test_a_prompt_draws_the_same_alone_and_in_company(llama: Llama) -> None:
    alone = llama.generate("One day", max_tokens=16, temperature=1.0, seed=3)
    company = llama.generate(["The", "One day", "One day", ""], max_tokens=16, temperature=1.0, seed=3)
    assert company[1] == alone
    assert company[2] != alone, "equal prompts of one call draw differently"
    assert llama.generate("One day", max_tokens=16, temperature=1.0, seed=4) != alone


def test_streamed_pieces_add_up(llama: Llama) -> None:
    for seed in range(5):
        pieces = list(llama.stream("One day", max_tokens=40, temperature=1.5, seed=seed))
        assert "".join(pieces) == llama.generate("One day", max_tokens=40, temperature=1.5, seed=seed)
        assert all(pieces)


@pytest.mark.parametrize("seed", range(5))
def test_a_stop_string_cuts_the_text_that_there_is_without_it(llama: Llama, seed: int) -> None:
    whole = llama.generate("The", max_tokens=40, temperature=1.0, seed=seed)
    stop = whole[7:10]
    cut = llama.generate("The", max_tokens=40, temperature=1.0, seed=seed, stop=["\0never", stop])
    assert cut == whole[: whole.index(stop)]


def test_an_end_token_of_the_configuration_ends_a_text(llama: Llama) -> None:
    [first, *_] = llama.write(["One day"], Settings(max_tokens=3))
    ended = Llama(llama.model, llama.tokenizer, generation={"eos_token_id": [first.token, 7]})
    assert ended.ends == {first.token, 7, llama.tokenizer.end}
    assert ended.generate("One day", max_tokens=3) == ""


def test_a_saved_model_comes_back_bit_for_bit(llama: Llama, tmp_path: Path) -> None:
    llama.save(tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.spec == llama.spec
    for (name, one), (other_name, other) in zip(
        llama.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert (name, one.dtype) == (other_name, other.dtype)
        assert torch.equal(one, other)
    assert again.tokenizer.fingerprint() == llama.tokenizer.fingerprint()
    assert again.generation == llama.generation
    assert again.generate("One day", max_tokens=20) == llama.generate("One day", max_tokens=20)
    with pytest.raises(InputError):
        again.save(tmp_path / "a")
    again.save(tmp_path / "a", overwrite=True)
    assert load(tmp_path / "a").loss(TEXT) == llama.loss(TEXT)


def test_the_loss_is_that_of_the_tokens_behind_the_start_token(llama: Llama) -> None:
    text = "One day a llama walked up the hill."
    ids = [llama.tokenizer.start or 0, *llama.tokenizer.encode(text)]
    logits = llama.model(torch.tensor([ids[:-1]]))[0].double()
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()
    found = llama.loss(text)
    assert (found.tokens, found.bytes) == (len(ids) - 1, len(text))
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert llama.loss("") == Loss(0.0, 0, 0)


def test_what_it_is_called_tells_what_it_is(llama: Llama) -> None:
    shown = repr(llama)
    assert f"{llama.spec.parameters():,} parameters" in shown
    assert "float32 on cpu" in shown
    assert "attention" in shown


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_the_dtype_is_what_was_asked_for(llama: Llama, tmp_path: Path, dtype: str | torch.dtype) -> None:
    llama.save(tmp_path / "a")
    narrow = load(tmp_path / "a", dtype=dtype)
    assert narrow.model.dtype == torch.bfloat16
    assert isinstance(narrow.generate("One day", max_tokens=5), str)


# What cannot be used


def test_a_prompt_longer_than_the_context_names_both_lengths(llama: Llama) -> None:
    with pytest.raises(InputError, match=r"prompt: has \d+ tokens, the model's context is 64\. Shorten it by at least"):
        llama.generate(TEXT)


def test_a_folder_without_tokenizer_loads_and_says_so_when_text_is_wanted(llama: Llama, tmp_path: Path) -> None:
    Llama(llama.model).save(tmp_path / "bare")
    bare = load(tmp_path / "bare")
    assert torch.equal(bare.model(torch.tensor([[1, 2]])), llama.model(torch.tensor([[1, 2]])))
    for ask in (lambda: bare.tokenizer, lambda: bare.generate("a"), lambda: bare.loss("a"), lambda: bare.stream("a")):
        with pytest.raises(InputError, match=r"bare: holds no tokenizer.*tokenizer\.json"):
            ask()
    bare.save(tmp_path / "again")


def test_a_broken_tokenizer_is_not_taken_for_none(llama: Llama, tmp_path: Path) -> None:
    llama.save(tmp_path / "a")
    (tmp_path / "a" / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        load(tmp_path / "a")


def test_a_tokenizer_of_another_model_is_found_out_by_its_ids(tokenizer: Tokenizer) -> None:
    narrow = Llama(lamoid.assemble(Shape(width=32).spec(256)).model, tokenizer)
    assert max(tokenizer.encode("llama")) >= 256
    with pytest.raises(InputError, match="tokenizer: gives the token"):
        narrow.generate("llama")
    with pytest.raises(InputError, match="tokenizer: gives the token"):
        narrow.loss("llama")


@pytest.mark.parametrize("prompt", [None, 3, [None], ["a", 3], b"a", "\ud800"])
def test_a_prompt_that_is_no_text_is_refused(llama: Llama, prompt: object) -> None:
    with pytest.raises(InputError):
        llama.generate(prompt)  # type: ignore[call-overload]


def test_half_a_surrogate_pair_is_blamed_on_the_prompt(llama: Llama) -> None:
    with pytest.raises(InputError, match="character 3") as caught:
        llama.generate(["fine", "One\udcff"])
    assert caught.value.culprit == "prompt"


@pytest.mark.parametrize("wrong", [{"device": "nowhere"}, {"device": "cuda:99"}, {"dtype": "int8"}, {"dtype": "x"}])
def test_a_device_or_dtype_that_is_not_there_is_refused(llama: Llama, tmp_path: Path, wrong: dict[str, str]) -> None:
    llama.save(tmp_path / "a")
    with pytest.raises(InputError, match=next(iter(wrong))):
        load(tmp_path / "a", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["absent", "a file"])
def test_no_folder_is_refused(tmp_path: Path, where: str) -> None:
    if where == "a file":
        (tmp_path / where).write_text("x")
    with pytest.raises(InputError, match=where):
        load(tmp_path / where)


def test_ids_of_the_configuration_serve_a_tokenizer_that_names_none(llama: Llama, tmp_path: Path) -> None:
    llama.save(tmp_path / "a")
    document = json.loads((tmp_path / "a" / "tokenizer.json").read_text())
    for token in document["added_tokens"]:
        token["special"] = False
    (tmp_path / "b").mkdir()
    for file in (tmp_path / "a").iterdir():
        if file.name not in ("manifest.json", "special_tokens_map.json"):
            (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps(document))
    (tmp_path / "b" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert Tokenizer.read(tmp_path / "b").end is None
    assert load(tmp_path / "b").tokenizer.end == llama.tokenizer.end
