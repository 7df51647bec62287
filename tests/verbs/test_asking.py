"""What heads answer to texts, beside transformers' tokenizer and model; and what encoders are not asked."""

from pathlib import Path

import pytest
import torch
import transformers

import lamoid
import lamoid.cli.main as main
from lamoid.errors import InputError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "llama",
    "eats",
    "grass",
    "##es",
    "and",
    "sleeps",
    ".",
    "?",
]
TEXTS = ["the llama", "the llama eats grasses and sleeps.", "", "who?"]
PAIRS = [("the llama eats", "grass"), ("the llama", "and the llama sleeps.")]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
T5_SIZES = {"vocab_size": len(WORDS), "d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 2, "num_heads": 2}


@pytest.fixture
def save(tmp_path):
    """Save a random model of transformers beside a BERT tokenizer of a few words."""

    def saved(model: transformers.PreTrainedModel) -> Path:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3)
        model.eval().save_pretrained(tmp_path)
        (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        return tmp_path

    return saved


def bert(kind: str, **more) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(**SIZES, intermediate_size=20, max_position_embeddings=24, **more)
    return getattr(transformers, f"BertFor{kind}")(config)


def t5(kind: str) -> transformers.PreTrainedModel:
    config = transformers.T5Config(**T5_SIZES, decoder_start_token_id=0, eos_token_id=3, num_labels=2)
    return getattr(transformers, f"T5For{kind}")(config)


@torch.no_grad()
def test_every_head_answers_texts_and_pairs_as_transformers(save):
    folder = save(peer := bert("PreTraining"))
    llama = lamoid.load(folder)
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    for texts in (TEXTS, PAIRS):
        masked, following = llama.logits(texts), llama.logits(texts, head="next_sentence")
        assert len(masked) == len(following) == len(texts)
        for text, tokens, sentence in zip(texts, masked, following, strict=True):
            read = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
            wanted = peer(**read)
            torch.testing.assert_close(tokens, wanted.prediction_logits[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(sentence, wanted.seq_relationship_logits[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(llama.logits(TEXTS[1]), llama.logits(TEXTS[1:2])[0])
    assert llama.logits([]) == []


@torch.no_grad()
@pytest.mark.parametrize("kind", ["SequenceClassification", "QuestionAnswering"])
def test_an_encoder_decoder_reads_a_text_twice_as_transformers(kind, save):
    folder = save(peer := t5(kind))
    llama = lamoid.load(folder)
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    for text, found in zip(TEXTS, llama.logits(TEXTS), strict=True):
        wanted = peer(input_ids=tokenizer(text, return_tensors="pt").input_ids)
        expected = wanted.logits if "logits" in wanted else torch.stack((wanted.start_logits, wanted.end_logits), -1)
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5)


def test_many_texts_are_answered_as_each_alone(save):
    llama = lamoid.load(save(bert("TokenClassification", num_labels=3)))
    texts = [" ".join(["the llama eats grass"] * (1 + k % 5)) for k in range(40)]
    for text, found in zip(texts, llama.logits(texts), strict=True):
        torch.testing.assert_close(found, llama.logits(text), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_asked_is_said(save):
    llama = lamoid.load(save(bert("PreTraining", type_vocab_size=1)))
    with pytest.raises(InputError, match="masked_token, next_sentence"):
        llama.logits("the llama", head="classes")
    with pytest.raises(InputError, match="token type 1"):
        llama.logits([("the llama", "eats")])
    with pytest.raises(InputError, match="context is 24"):
        llama.logits("the llama " * 20)
    for wrong in (3, ("a", "b", "c"), [["a", "b"]]):
        with pytest.raises(InputError, match="a pair of texts"):
            llama.logits(wrong)
    with pytest.raises(InputError, match="sees later tokens"):
        llama.generate("the llama")
    with pytest.raises(InputError, match="sees later tokens"):
        llama.stream("the llama")
    with pytest.raises(InputError, match="sees later tokens"):
        llama.loss("the llama")


def test_an_encoder_decoder_has_no_perplexity_and_its_classes_write_nothing(save):
    with pytest.raises(InputError, match="source"):
        lamoid.load(save(t5("ConditionalGeneration"))).loss("the llama")
    with pytest.raises(InputError, match=r"heads\.classes.*default head"):
        lamoid.load(save(t5("SequenceClassification"))).generate("the llama")


def test_a_start_that_is_not_named_is_asked_for(save):
    model = t5("ConditionalGeneration")
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    llama = lamoid.load(save(model))
    llama.generation["bos_token_id"] = None
    with pytest.raises(InputError, match="decoder_start_token_id"):
        llama.generate("the llama")


@pytest.mark.parametrize("make", [lambda: bert("MaskedLM"), lambda: bert("SequenceClassification")])
def test_the_commands_say_what_an_encoder_cannot(make, save, tmp_path, capsys, monkeypatch):
    folder = save(make())
    text = tmp_path / "text.txt"
    text.write_text("the llama eats grass.")
    monkeypatch.chdir(tmp_path)
    for words in (["generate", str(folder), "--prompt", "the llama"], ["evaluate", str(folder), "--on", str(text)]):
        assert main.run(words) == 2
        told = capsys.readouterr().err
        assert "sees later tokens" in told
        assert str(folder) in told
        assert "Traceback" not in told


def test_a_description_names_nested_blocks(save):
    shown = repr(lamoid.load(save(t5("ConditionalGeneration"))))
    assert "6 blocks of attention and cross attention" in shown
