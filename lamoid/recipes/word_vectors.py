"""Starts a model's token table from a file of word vectors."""

from pathlib import Path

import torch

from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.vectors import read_vectors, vocabulary_words


@torch.no_grad()
def start_from_vectors(model: LanguageModel, tokenizer: Tokenizer | None, file: Path) -> str:
    """Put the vectors of the words that the vocabulary has into their rows; the other rows stay. Say how many.

    The vectors must be as wide as the table's rows, which for a factored table is its own width. Raises ``InputError``
    without a tokenizer, for a file that is none, and for one that has no word of the vocabulary.
    """
    if tokenizer is None:
        raise InputError("tokenizer", "is not given, so no word has a row", "give the tokenizer beside the vectors")
    table = model.embedding.tokens.weight
    words = vocabulary_words(tokenizer)
    vectors, rows = read_vectors(file, words, table.shape[1])
    table[rows.to(table.device)] = vectors.to(table)
    return f"{len(rows):,} of {len(words):,} words of the vocabulary start from {file}"
