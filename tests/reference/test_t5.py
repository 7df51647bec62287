"""T5 1.0 and 1.1 beside transformers, every class of theirs, drawn anew in each run from a printed seed.

Set LAMOID_SEED to draw a failed run's configurations again.
"""

import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import lamoid
from lamoid.assembly.batch import Batch
from lamoid.assembly.heads import TiedSpec
from lamoid.errors import InputError
from lamoid.inference.engine import Engine, collect
from lamoid.inference.request import Request, Settings
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

AUTO = {
    "ConditionalGeneration": "Seq2SeqLM",
    "SequenceClassification": "SequenceClassification",
    "TokenClassification": "TokenClassification",
    "QuestionAnswering": "QuestionAnswering",
}
CASES = [(task, version) for task in AUTO for version in ("1.0", "1.1")]
END = 1


@pytest.fixture
def draw():
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    torch.manual_seed(seed)
    return random.Random(seed)


def drawn(task: str, version: str, draw: random.Random, **more):
    """A random T5 of transformers; 1.1 has an output of its own, which is not scaled."""
    sizes = {
        "vocab_size": draw.randint(50, 90),
        "d_model": draw.choice([8, 12, 20]),
        "d_kv": draw.choice([4, 6, 10]),
        "num_heads": draw.choice([1, 2, 3]),
        "d_ff": draw.randint(12, 50),
        "num_layers": draw.randint(1, 3),
        "num_decoder_layers": draw.randint(1, 3),
        "relative_attention_num_buckets": draw.choice([8, 16, 32]),
        "relative_attention_max_distance": draw.choice([17, 24, 128]),
        "layer_norm_epsilon": draw.choice([1e-6, 1e-3]),
        "feed_forward_proj": "relu" if version == "1.0" else "gated-gelu",
        "tie_word_embeddings": version == "1.0",
        "decoder_start_token_id": 0,
        "num_labels": 2 if task == "QuestionAnswering" else draw.randint(2, 5),
    }
    torch.manual_seed(draw.randrange(2**31))
    config = transformers.T5Config(**sizes | more)
    return scrambled(getattr(transformers, f"T5For{task}")(config), own_output=version == "1.1")


def scrambled(model, *, own_output: bool):
    """Give every parameter numbers that matter; untie the output, which transformers ties before it reads a file."""
    if own_output and hasattr(model, "lm_head"):
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        else:
            parameter.data += torch.randn(parameter.shape) * 0.3
    return model.eval()


@pytest.fixture(params=CASES, ids="-".join)
def saved(request, draw, tmp_path):
    """A drawn model and the folder that transformers saved it to."""
    model = drawn(*request.param, draw)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=draw.choice(["1GB", "20KB"]))
    print(model.config)
    return model, tmp_path / "theirs"


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def some_texts(vocab: int, draw: random.Random, longest: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Three texts of unequal length, each closed by one end token, padded at their end; and their marks."""
    longest = draw.randint(longest // 2, longest)
    lengths = torch.tensor([longest, draw.randint(2, longest), 1])
    marks = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.randint(2, vocab, (3, longest)) * marks
    ids[torch.arange(3), lengths - 1] = END
    return ids, marks


def shifted(ids: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.zeros_like(ids[:, :1]), ids[:, :-1]), dim=1)


def both_answers(theirs, ours, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all real tokens, ours and theirs, for texts of unequal length."""
    ids, marks = some_texts(theirs.config.vocab_size, draw)
    task = type(theirs).__name__.removeprefix("T5For")
    source = Batch(ids, marks)
    if task == "TokenClassification":
        return ours(source)[marks == 1], theirs(input_ids=ids, attention_mask=marks).logits[marks == 1]
    if task == "ConditionalGeneration":
        written, own = some_texts(theirs.config.vocab_size, draw, 30)
        answered = theirs(input_ids=ids, attention_mask=marks, decoder_input_ids=shifted(written))
        return ours(Batch(shifted(written), own, source=source))[own == 1], answered.logits[own == 1]
    answered = theirs(input_ids=ids, attention_mask=marks)
    found = ours(Batch(shifted(ids), marks, source=source))
    if task == "SequenceClassification":
        return found, answered.logits
    return found[marks == 1], torch.stack((answered.start_logits, answered.end_logits), -1)[marks == 1]


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within 1e-4 of the largest logit."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_every_head_answers_as_transformers(saved, draw):
    theirs, folder = saved
    ours = load_model(open_folder(folder))
    for _ in range(3):
        assert_equal(*both_answers(theirs, ours, draw))


@torch.no_grad()
def test_load_then_save_is_bitwise_and_transformers_reads_it(saved, draw, tmp_path):
    theirs, folder = saved
    task = type(theirs).__name__.removeprefix("T5For")
    lamoid.load(folder).save(tmp_path / "ours")
    before, after = read_all(folder), read_all(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)), name
    auto = getattr(transformers, f"AutoModelFor{AUTO[task]}")
    back, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(back) is type(theirs)
    assert_equal(*both_answers(back.eval(), load_model(open_folder(folder)), draw))
    assert open_folder(tmp_path / "ours").spec == open_folder(folder).spec


@torch.no_grad()
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_cached_steps_equal_one_pass(version, draw, tmp_path):
    """The cache keeps the source: rows of unequal source, and rows dropped and put in another order on the way."""
    theirs = drawn("ConditionalGeneration", version, draw, num_layers=2, num_decoder_layers=2)
    theirs.save_pretrained(tmp_path)
    ours = load_model(open_folder(tmp_path))
    ids, marks = some_texts(ours.spec.vocab, draw)
    written = torch.randint(2, ours.spec.vocab, (3, 25))
    wanted = theirs(input_ids=ids, attention_mask=marks, decoder_input_ids=written).logits
    cache, rows = ours.new_cache([30] * 3), torch.arange(3)
    assert_equal(ours.step(Batch(written[:, :4], source=Batch(ids, marks)), cache), wanted[:, 3])
    for place in range(4, 25):
        if place == 10:
            rows = torch.tensor([2, 0])
            cache.select(rows)
        assert_equal(ours.step(written[rows, place : place + 1], cache), wanted[rows, place])


@torch.no_grad()
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_bfloat16_is_as_near_as_transformers(version, draw, tmp_path):
    """transformers keeps one matrix of each feed-forward in float32, lamoid does not: neither is far from float32."""
    theirs = drawn("ConditionalGeneration", version, draw)
    theirs.save_pretrained(tmp_path)
    ours, rounded = (
        load_model(open_folder(tmp_path), dtype=torch.bfloat16),
        type(theirs).from_pretrained(tmp_path, dtype=torch.bfloat16),
    )
    state = draw.getstate()
    torch.manual_seed(1)
    found, exact = both_answers(theirs, ours, draw)
    draw.setstate(state)
    torch.manual_seed(1)
    _, near = both_answers(rounded.eval(), ours, draw)
    ours_off, theirs_off = ((logits.float() - exact).square().mean().sqrt() for logits in (found, near))
    assert ours_off <= max(0.05 * exact.square().mean().sqrt(), 2 * theirs_off)


@torch.no_grad()
@pytest.mark.parametrize(
    "names", [("shared", "encoder.embed_tokens", "decoder.embed_tokens"), ("decoder.embed_tokens",)]
)
def test_old_files_hold_the_embedding_under_other_names(names, draw, tmp_path):
    theirs = drawn("ConditionalGeneration", "1.0", draw)
    theirs.save_pretrained(tmp_path, max_shard_size="1GB")
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors.pop("shared.weight")
    tensors |= {f"{name}.weight": table.clone() for name in names} | {"lm_head.weight": table.clone()}
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[unused] = torch.zeros(8, theirs.config.num_heads)
    save_file(tensors, tmp_path / "model.safetensors")
    file = tmp_path / "config.json"
    config = json.loads(file.read_text()) | {"n_positions": 300, "output_past": True}
    for name in ("scale_decoder_outputs", "dense_act_fn", "is_gated_act", "classifier_dropout"):
        config.pop(name, None)
    file.write_text(json.dumps(config))
    opened = open_folder(tmp_path)
    assert isinstance(opened.spec.heads["next_token"].linear, TiedSpec)
    assert opened.spec.context == 300
    assert unused in opened.ignored
    assert_equal(*both_answers(theirs, load_model(opened), draw))
    tensors[f"{names[0]}.weight"] = table + 1
    tensors["decoder.embed_tokens.weight"] = table
    tensors["shared.weight"] = table + 2
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"shared\.weight"):
        open_folder(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize(("is_tied", "is_scaled"), [(True, False), (False, True)])
def test_ties_and_scale_are_apart(is_tied, is_scaled, draw, tmp_path):
    """transformers 5 scales the output or not, whether it is tied or not; the tie is read from the tensors."""
    theirs = drawn("ConditionalGeneration", "1.0" if is_tied else "1.1", draw)
    theirs.config.scale_decoder_outputs = is_scaled
    theirs.save_pretrained(tmp_path / "theirs")
    opened = open_folder(tmp_path / "theirs")
    assert isinstance(opened.spec.heads["next_token"].linear, TiedSpec) == is_tied
    assert (opened.spec.heads["next_token"].scale != 1.0) == is_scaled
    ours = load_model(opened)
    assert_equal(*both_answers(theirs, ours, draw))
    with durable_folder(tmp_path / "ours") as draft:
        save_model(ours, draft, generation=None, tokenizer_files={})
    back = type(theirs).from_pretrained(tmp_path / "ours").eval()
    assert_equal(*both_answers(back, ours, draw))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_tokens_equal_transformers(version, penalty, draw, tmp_path):
    """Sources of unequal length side by side; some texts end before the others and leave the cache."""
    theirs = drawn("ConditionalGeneration", version, draw, num_layers=3)  # transformers' cache has not more layers
    ends = [5, 6, 7, 8, 9, 10]
    theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = ends, 0
    theirs.generation_config.decoder_start_token_id = 0
    theirs.save_pretrained(tmp_path)
    llama = lamoid.load(tmp_path)
    assert (llama.begin, llama.ends) == (0, frozenset(ends))
    sources = [torch.randint(2, llama.spec.vocab, (1, length)) for length in (1, 5, 5, 12, 31)]
    settings = Settings(max_tokens=25, repetition_penalty=penalty)
    engine = Engine(llama.model, 64, llama.ends, lambda _: Nothing(), torch.device("cpu"), begin=llama.begin)
    done = engine.generate([Request(tuple(ids[0].tolist()), settings) for ids in sources])
    for ids, text in zip(sources, done, strict=True):
        wanted = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=25, do_sample=False, repetition_penalty=penalty
        )
        assert list(text.ids) == wanted[0, 1:].tolist()


def test_greedy_text_equals_transformers(data_folder, draw, tmp_path):
    """From a text to a text, with T5's own tokenizer, which closes the source with its end token."""
    theirs = drawn("ConditionalGeneration", "1.0", draw, vocab_size=32100, num_layers=3)
    theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = END, 0
    theirs.generation_config.decoder_start_token_id = 0
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "spiece.model").write_bytes((data_folder / "tok_t5" / "spiece.model").read_bytes())
    lamoid.load(tmp_path / "theirs").save(tmp_path / "ours")
    llama = lamoid.load(tmp_path / "ours")
    back = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    prompts = ["translate English to German: The house is wonderful.", "", "summarize: one two three", "a"]
    texts = llama.generate(prompts, max_tokens=20)
    done = collect(llama.write(prompts, Settings(max_tokens=20)), len(prompts))
    for prompt, text, ids in zip(prompts, texts, done, strict=True):
        read = tokenizer(prompt, return_tensors="pt")
        wanted = back.generate(**read, max_new_tokens=20, do_sample=False)[0]
        assert list(ids.ids) == wanted[1:].tolist()
        assert text == ids.text == tokenizer.decode(wanted, skip_special_tokens=True)
        assert "".join(llama.stream(prompt, max_tokens=20)) == text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["T5EncoderModel"]}, "T5ForConditionalGeneration"),
        ({"architectures": ["T5Model"]}, "T5ForTokenClassification"),
        ({"feed_forward_proj": "gated-mish"}, "feed_forward_proj"),
        ({"feed_forward_proj": "relu", "dense_act_fn": "silu"}, "dense_act_fn"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder"),
        ({"is_decoder": True}, "is_decoder"),
        ({"relative_attention_num_buckets": 1}, "relative"),
        ({"num_decoder_layers": 10**9}, "num_decoder_layers"),
    ],
)
def test_what_is_not_of_the_family_is_refused_by_name(change, told, draw, tmp_path):
    drawn("ConditionalGeneration", "1.0", draw).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=told):
        open_folder(tmp_path)


class Nothing:
    """A decoder for ids that stand for no text."""

    def push(self, token: int) -> str:
        return ""

    def finish(self) -> str:
        return ""
