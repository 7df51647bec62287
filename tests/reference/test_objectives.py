"""The self-supervised objectives beside transformers: losses of BERT, T5 and ELECTRA, and what is masked.

Drawn anew in each run from a printed seed; set LAMOID_SEED to draw a failed run again.
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lamoid.assembly.group import ModelGroup
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import Windows
from lamoid.data.masking import MaskedTokens, MaskedView, Masking
from lamoid.data.sentence_pairs import MaskedPairs
from lamoid.data.span_corruption import SpanView
from lamoid.recipes.replaced_objective import ReplacedTable
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.training.masked import NEXT_SENTENCE
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.replaced import DISCRIMINATOR, GENERATOR, inverse, replaced
from lamoid.weights.folder import load_model, open_folder

VOCAB, CONTEXT, ROWS, MASK = 80, 32, 6, 3
BERT_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "max_position_embeddings": CONTEXT,
}


@pytest.fixture
def seed() -> int:
    found = int(os.environ.get("LAMOID_SEED", time.time_ns() % 10**9))
    print(f"LAMOID_SEED={found}")
    torch.manual_seed(found)
    return found


def scrambled(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    return model.eval()


def loaded(model, folder: Path) -> LanguageModel:
    model.save_pretrained(folder)
    return load_model(open_folder(folder))


def windows(seed: int, length: int, *, lowest: int = 4) -> Windows:
    draws = np.random.default_rng(seed)
    documents = (np.arange(length) < draws.integers(length // 2, length + 1, ROWS)[:, None]).astype(np.int64)
    tokens = draws.integers(lowest, VOCAB, documents.shape) * documents
    return Windows(tokens, documents, tuple(f"{seed}/{row}" for row in range(ROWS)))


def masked(seed: int) -> MaskedTokens:
    masking = Masking(MASK, np.arange(4), np.arange(4, VOCAB))
    return MaskedView(CONTEXT, masking)(windows(seed, CONTEXT))


def attention_mask(example) -> torch.Tensor:
    segments = example.batch.segments
    return torch.ones_like(example.batch.ids) if segments is None else (segments != 0).long()


@torch.no_grad()
def test_berts_loss_is_that_of_transformers(seed: int, tmp_path: Path) -> None:
    theirs = scrambled(transformers.BertForPreTraining(transformers.BertConfig(**BERT_SIZES)))
    ours, plain = loaded(theirs, tmp_path), masked(seed)
    types = torch.randint(0, 2, plain.batch.ids.shape)
    labels = torch.randint(0, 2, (ROWS,))
    batch = type(plain.batch)(plain.batch.ids, plain.batch.segments, types)
    example = MaskedPairs(batch, plain.targets, draws=plain.draws, labels=labels)
    found = NEXT_SENTENCE.terms(ours, example)
    words = {"input_ids": batch.ids, "attention_mask": attention_mask(example), "token_type_ids": types}
    wanted = theirs(**words, labels=example.targets, next_sentence_label=labels).loss
    mean = sum(term.sum / term.count for name, term in found.items())
    torch.testing.assert_close(mean, wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_t5s_loss_is_that_of_transformers(seed: int, tmp_path: Path) -> None:
    sizes = {"d_model": 24, "d_kv": 8, "num_heads": 3, "num_layers": 2, "d_ff": 40, "vocab_size": VOCAB}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    theirs = scrambled(transformers.T5ForConditionalGeneration(config))
    ours = loaded(theirs, tmp_path)
    view = SpanView(CONTEXT, tuple(range(30, 10, -1)), np.arange(31), start=0, end=1)
    example = view(windows(seed, view.length, lowest=31))
    term = OBJECTIVES["causal"].terms(ours, example)["next_token"]
    source = example.batch.source
    assert source is not None
    marks = torch.ones_like(source.ids) if source.segments is None else source.segments
    wanted = theirs(input_ids=source.ids, attention_mask=marks, labels=example.targets).loss
    torch.testing.assert_close(term.sum / term.count, wanted, rtol=1e-5, atol=1e-5)
    # What the decoder reads is what transformers makes of the labels, behind the targets' end aside.
    shifted = theirs.prepare_decoder_input_ids_from_labels(labels=example.targets)
    is_asked = example.targets != IGNORED
    assert torch.equal(shifted[is_asked], example.batch.ids[is_asked])


@torch.no_grad()
def test_electras_losses_are_those_of_transformers(seed: int, tmp_path: Path) -> None:
    config = {**BERT_SIZES, "embedding_size": 16}
    theirs = scrambled(transformers.ElectraForPreTraining(transformers.ElectraConfig(**config)))
    small = {**config, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 13}
    generator = transformers.ElectraForMaskedLM(transformers.ElectraConfig(**small))
    scrambled(generator)
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        shared = getattr(theirs.electra.embeddings, table).weight
        getattr(generator.electra.embeddings, table).weight.data = shared.data.clone()
    generator.tie_weights()
    discriminator = loaded(theirs, tmp_path / "discriminator")
    group = ModelGroup(ReplacedTable(generator=1 / 3).group(discriminator.spec))
    for name, model in ((DISCRIMINATOR, discriminator), (GENERATOR, loaded(generator, tmp_path / "generator"))):
        for path, parameter in model.named_parameters():
            member = group.member(name).get_parameter(path)
            assert member.shape == parameter.shape, path
            member.copy_(parameter)
    example = masked(seed)
    found = replaced(50.0).terms(group, example)
    marks, targets = attention_mask(example), example.targets
    given = generator(input_ids=example.batch.ids, attention_mask=marks, labels=targets)
    torch.testing.assert_close(found["masked"].sum / found["masked"].count, given.loss, rtol=1e-5, atol=1e-5)
    chosen = targets != IGNORED
    ids = torch.where(chosen, targets, example.batch.ids)
    original = ids.clone()
    ids[chosen] = inverse(given.logits[chosen].softmax(-1), example.draws[chosen])
    told = theirs(input_ids=ids, attention_mask=marks, labels=(ids != original).long())
    torch.testing.assert_close(found["replaced"].sum / found["replaced"].count, told.loss, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["some simple words without marks stand between blanks here " * 5], vocab=290, mask=True)


@pytest.fixture(scope="module")
def their_tokenizer(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, data in tokenizer.files().items():
        (folder / name).write_bytes(data)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("words", [False, True])
def test_what_is_masked_is_what_transformers_masks(
    tokenizer: Tokenizer, their_tokenizer, seed: int, words: bool
) -> None:
    """The same tokens may be, words are the same, and the shares agree within 5.5 standard deviations."""
    draws = np.random.default_rng(seed)
    known = ["some", "simple", "words", "without", "marks", "stand", "between", "blanks", "here", "unknownish"]
    texts = [" ".join(draws.choice(known, 12)) for _ in range(800)]
    encoded = [their_tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True) for text in texts]
    # GPT-2's pieces hold the blank before a word; transformers tells words by the gaps between pieces.
    for each, text in zip(encoded, texts, strict=True):
        each["offset_mapping"] = [
            (begin + (text[begin:end].startswith(" ")), end) for begin, end in each["offset_mapping"]
        ]
    # Of whole words it hides all, or warns that it does.
    settings = {"whole_word_mask": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0} if words else {}
    collator = transformers.DataCollatorForLanguageModeling(their_tokenizer, seed=seed, **settings)
    if not words:
        for each in encoded:
            del each["offset_mapping"]
    # One by one, for it does not pad the places of the pieces.
    made = [collator([dict(each)]) for each in encoded]
    longest = max(len(each["input_ids"]) for each in encoded)
    theirs, labels = (
        np.stack(
            [np.pad(one[name][0].numpy(), (0, longest - one[name].shape[1]), constant_values=filler) for one in made]
        )
        for name, filler in (("input_ids", tokenizer.pad or 0), ("labels", IGNORED))
    )
    tokens = np.full(theirs.shape, tokenizer.pad, np.int64)
    documents = np.zeros(theirs.shape, np.int64)
    for row, text in enumerate(texts):
        ids = tokenizer.whole(tokenizer.encode(text))[0]
        tokens[row, : len(ids)], documents[row, : len(ids)] = ids, 1
    rows = Windows(tokens, documents, tuple(f"{seed}/{row}" for row in range(len(texts))))
    masking = Masking.of(tokenizer, words=words)
    example = MaskedView(tokens.shape[1], masking)(rows)
    ours, targets = example.batch.ids.numpy(), example.targets.numpy()
    may = ~np.isin(tokens, sorted(tokenizer.controls))
    for read, asked in ((ours, targets), (theirs, labels)):
        assert (asked[asked != IGNORED] == tokens[asked != IGNORED]).all()
        assert (read[asked == IGNORED] == tokens[asked == IGNORED]).all()
        assert may[asked != IGNORED].all()
    if words:
        assert masking.words is not None
        for row in range(0, len(texts), 10):
            number = np.cumsum(masking.words.starts(tokens[row], documents[row]))
            for asked in (targets, labels):
                sizes, hit = np.bincount(number, may[row]), np.bincount(number, (asked[row] != IGNORED) * may[row])
                share = hit / np.maximum(sizes, 1)
                assert set(np.unique(share)) <= {0.0, 1.0}
    for is_hidden in (False,) if words else (False, True):
        shares = [
            ((asked != IGNORED) & ((read == tokenizer.mask) | (not is_hidden)))[may].mean()
            for read, asked in ((ours, targets), (theirs, labels))
        ]
        # A word's tokens are chosen together: the spread of the number of tokens is that of words, times their length.
        spread = (0.15 * 0.85 / may.sum() * 2 * (4 if words else 1)) ** 0.5
        assert abs(shares[0] - shares[1]) < 5.5 * spread + (0.01 if words else 0)
