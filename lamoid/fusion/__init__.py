"""Making one model's parameters out of several: which match, by what rule, streamed, with what verdict."""
