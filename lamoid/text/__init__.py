"""Text and token ids: tokenizers, read from a file or learnt, and their streamed decoding."""
