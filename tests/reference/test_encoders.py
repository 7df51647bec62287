"""BERT, RoBERTa, DistilBERT and ELECTRA beside transformers, every class, drawn anew in each run from a printed seed.

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

from lamoid.assembly.batch import Batch
from lamoid.assembly.heads import TiedSpec
from lamoid.errors import InputError
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder, save_model

HEADS = {
    "MaskedLM": {"masked_token": "logits"},
    "PreTraining": {"masked_token": "prediction_logits", "next_sentence": "seq_relationship_logits"},
    "NextSentencePrediction": {"next_sentence": "logits"},
    "SequenceClassification": {"classes": "logits"},
    "TokenClassification": {"tags": "logits"},
    "QuestionAnswering": {"span": "start_logits end_logits"},
}
CASES = [
    *(("Bert", task) for task in HEADS),
    *(
        (stem, task)
        for stem in ("Roberta", "DistilBert", "Electra")
        for task in HEADS
        if task[:4] not in ("Next", "PreT")
    ),
    ("Electra", "PreTraining"),
]
KINDS = {"single_label_classification": "classes", "multi_label_classification": "labels", "regression": "regression"}


@pytest.fixture
def draw():
    seed = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={seed}")
    torch.manual_seed(seed)
    return random.Random(seed)


def drawn(stem: str, task: str, draw: random.Random, **more):
    """A random model of transformers, of a configuration and with weights that no default has."""
    heads, layers = draw.choice([1, 2, 3, 4]), draw.randint(1, 3)
    width, hidden = heads * draw.choice([4, 6, 10]), draw.randint(12, 50)
    sizes = {"vocab_size": draw.randint(40, 90), "max_position_embeddings": draw.randint(30, 40)}
    activation, epsilon = draw.choice(["gelu", "gelu_new", "relu", "silu"]), draw.choice([1e-12, 1e-5, 1e-2])
    if stem == "DistilBert":
        sizes |= {"dim": width, "n_heads": heads, "n_layers": layers, "hidden_dim": hidden, "activation": activation}
        sizes["sinusoidal_pos_embds"] = draw.random() < 0.5
    else:
        sizes |= {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers}
        sizes |= {"intermediate_size": hidden, "hidden_act": activation, "layer_norm_eps": epsilon}
        sizes["type_vocab_size"] = draw.choice([2, 3])
    if stem == "Electra":
        sizes["embedding_size"] = draw.choice([width, draw.randint(3, 30)])
    if stem == "Roberta":
        sizes["pad_token_id"] = draw.choice([0, 1, 3])
    if task == "SequenceClassification":
        problem = draw.choice(list(KINDS))
        count = 1 if problem == "regression" else draw.randint(2, 5)
        names = {number: f"name {number}" for number in range(count)}
        sizes |= {"problem_type": problem, "id2label": names, "label2id": {n: i for i, n in names.items()}}
    if task == "TokenClassification":
        sizes["num_labels"] = draw.randint(1, 5)
    config = getattr(transformers, f"{stem}Config")(**sizes | more)
    return scrambled(getattr(transformers, f"{stem}For{task}")(config))


def scrambled(model):
    """Give every parameter numbers that matter, biases and norms too."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        else:
            parameter.data += torch.randn(parameter.shape) * 0.3
    return model.eval()


@pytest.fixture(params=CASES, ids=lambda case: "For".join(case))
def saved(request, draw, tmp_path):
    """A drawn model and the folder that transformers saved it to."""
    model = drawn(*request.param, draw)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=draw.choice(["1GB", "20KB"]))
    print(model.config)
    return model, tmp_path / "theirs"


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def a_batch(model, draw: random.Random) -> tuple[Batch, dict[str, torch.Tensor]]:
    """Three texts of unequal length with token types, padded at their end, for lamoid and for transformers."""
    config = model.config
    padding = config.pad_token_id or 0
    longest = draw.randint(6, 20)
    lengths = torch.tensor([longest, draw.randint(2, longest), 1])
    marks = (torch.arange(longest) < lengths[:, None]).long()
    # RoBERTa counts padding tokens by their id, so texts hold none.
    ids = torch.where(marks == 1, torch.randint(padding + 1, config.vocab_size, (3, longest)), padding)
    has_types = hasattr(config, "type_vocab_size")
    types = torch.randint(0, config.type_vocab_size, ids.shape) if has_types else None
    theirs = {"input_ids": ids, "attention_mask": marks} | ({"token_type_ids": types} if has_types else {})
    return Batch(ids, marks, types), theirs


def their_answer(answered, names: str) -> torch.Tensor:
    found = [getattr(answered, name) for name in names.split()]
    return found[0] if len(found) == 1 else torch.stack(found, -1)


def heads_of(model) -> dict[str, str]:
    heads = HEADS[type(model).__name__.partition("For")[2]]
    if isinstance(model, transformers.ElectraForPreTraining):
        return {"replaced": "logits"}
    return {KINDS[model.config.problem_type]: "logits"} if "classes" in heads else heads


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor, marks: torch.Tensor | None) -> None:
    """Within 1e-4 of the largest logit, padding aside; of one number a token, transformers has no last dimension."""
    if theirs.ndim == 2 and ours.ndim == 3:
        ours = ours[..., 0]
        ours, theirs = ours[..., None], theirs[..., None]
    assert ours.shape == theirs.shape
    if ours.ndim == 3 and marks is not None:
        ours, theirs = ours[marks == 1], theirs[marks == 1]
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_every_head_answers_as_transformers(saved, draw):
    theirs, folder = saved
    ours = load_model(open_folder(folder))
    heads = heads_of(theirs)
    assert list(ours.spec.heads) == list(heads)
    for _ in range(3):
        batch, words = a_batch(theirs, draw)
        answered = theirs(**words)
        for head, names in heads.items():
            assert_equal(ours(batch, head=head), their_answer(answered, names), batch.segments)
    # As many tokens as there are positions, none of them padding, all of type 0.
    ids = torch.randint(5, ours.spec.vocab, (2, ours.spec.context))
    for head, names in heads.items():
        assert_equal(ours(ids, head=head), their_answer(theirs(input_ids=ids), names), None)
    with pytest.raises(InputError, match="context is"):
        ours(torch.zeros(1, ours.spec.context + 1, dtype=torch.long))


@torch.no_grad()
def test_load_then_save_is_bitwise_and_transformers_reads_it(saved, draw, tmp_path):
    theirs, folder = saved
    opened = open_folder(folder)
    with durable_folder(tmp_path / "ours") as draft:
        # An ELECTRA whose rows are as wide as its stream is a BERT as well, but for its own head.
        kept = {"generation": opened.generation, "family": opened.family}
        save_model(load_model(opened), draft, tokenizer_files={}, **kept)
    before, after = read_all(folder), read_all(tmp_path / "ours")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor.view(torch.uint8), after[name].view(torch.uint8)), name
    auto = getattr(transformers, f"AutoModelFor{type(theirs).__name__.partition('For')[2]}")
    back, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(back) is type(theirs)
    assert back.config.id2label == theirs.config.id2label
    batch, words = a_batch(theirs, draw)
    for names in heads_of(theirs).values():
        assert_equal(their_answer(back(**words), names), their_answer(theirs(**words), names), batch.segments)
    assert open_folder(tmp_path / "ours").spec == opened.spec


@torch.no_grad()
@pytest.mark.parametrize("stem", ["Bert", "Roberta", "DistilBert", "Electra"])
def test_a_head_of_its_own_is_read_from_the_tensors(stem, draw, tmp_path):
    """The flag says tied, the tensors say not."""
    theirs = drawn(stem, "MaskedLM", draw, tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    file = tmp_path / "theirs" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tie_word_embeddings": True}))
    opened = open_folder(tmp_path / "theirs")
    assert not isinstance(opened.spec.heads["masked_token"].linear, TiedSpec)
    ours = load_model(opened)
    batch, words = a_batch(theirs, draw)
    assert_equal(ours(batch), theirs(**words).logits, batch.segments)
    with durable_folder(tmp_path / "ours") as draft:
        save_model(ours, draft, generation=None, tokenizer_files={}, family=opened.family)
    back, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert_equal(back(**words).logits, theirs(**words).logits, batch.segments)


@torch.no_grad()
def test_old_files_of_bert_load(draw, tmp_path):
    """gamma and beta, the output's names beside what they repeat, a buffer, and heads that the class does not have."""
    theirs = drawn("Bert", "PreTraining", draw)
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in list(tensors):
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[old] = tensors.pop(name)
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    tensors["bert.embeddings.position_ids"] = torch.arange(30)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": ["BertForMaskedLM"]}))
    opened = open_folder(tmp_path)
    assert {"bert.pooler.dense.weight", "cls.seq_relationship.bias"} <= set(opened.ignored)
    [told] = opened.remarks
    assert all(name in told for name in ("BertForMaskedLM", "bert.pooler.dense.weight", "cls.seq_relationship.bias"))
    assert "decoder" not in told
    batch, words = a_batch(theirs, draw)
    assert_equal(load_model(opened)(batch), theirs(**words).prediction_logits, batch.segments)


@pytest.mark.parametrize(
    ("stem", "change", "told"),
    [
        ("Bert", {"architectures": ["BertModel"]}, "BertForMaskedLM.*BertForPreTraining"),
        ("Bert", {"architectures": ["BertLMHeadModel"]}, "BertLMHeadModel"),
        ("Bert", {"is_decoder": True}, "is_decoder"),
        ("Roberta", {"add_cross_attention": True}, "add_cross_attention"),
        ("Bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("Roberta", {"pad_token_id": -1}, "pad_token_id"),
        ("Bert", {"num_attention_heads": 7}, "num_attention_heads"),
        ("DistilBert", {"n_heads": 7}, "n_heads"),
        ("DistilBert", {"hidden_act": "relu"}, "hidden_act"),
        ("Electra", {"embedding_size": 0}, "embedding_size"),
    ],
)
def test_what_is_not_of_the_family_is_refused_by_name(stem, change, told, draw, tmp_path):
    drawn(stem, "MaskedLM", draw).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=told):
        open_folder(tmp_path)
