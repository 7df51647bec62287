"""Weighted losses over several texts: by hand where it is easy, else against a bootstrap written out."""

import numpy as np
import pytest

from lamoid.evaluation.joined import Joined
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Measured


def measured(seed: int, units: int, *, draw: int) -> Measured:
    generator = np.random.default_rng(seed)
    sizes = generator.integers(5, 50, units)
    rows = [
        [Loss(float(n), int(k), int(3 * k)) for n, k in zip(generator.gamma(k_, 1.0), sizes, strict=True)]
        for k_ in (sizes * 1.0, sizes * 1.2, sizes * 0.9)
    ]
    return Measured.of(rows, draw)


def test_one_text_is_itself() -> None:
    part = measured(0, 40, draw=3)
    joined = Joined([part], [1.0])
    assert joined.figures() == part.figures()
    assert joined.difference(0, 2) == part.difference(0, 2)
    assert joined.units == 40


def test_a_text_that_counts_nothing_changes_nothing_but_the_counts() -> None:
    part, other = measured(0, 40, draw=3), measured(1, 30, draw=4)
    joined = Joined([part, other], [1.0, 0.0])
    assert joined.units == 30
    for ours, alone in zip(joined.figures(), part.figures(), strict=True):
        assert (ours.nats_per_token, ours.bits_per_byte) == (alone.nats_per_token, alone.bits_per_byte)
        assert ours.nats_per_token_interval == alone.nats_per_token_interval
    assert joined.difference(1, 0) == part.difference(1, 0)


def test_two_texts_against_a_bootstrap_written_out() -> None:
    parts, weights = [measured(0, 60, draw=3), measured(1, 45, draw=4)], [0.3, 0.7]
    joined = Joined(parts, weights)
    means = [[sum(row) / sum(size) for row, size in zip(part.nats, part.tokens, strict=True)] for part in parts]
    value, interval = joined.difference(0, 1)
    expected = sum(w * (mean[0] - mean[1]) for w, mean in zip(weights, means, strict=True))
    assert value == pytest.approx(expected, rel=1e-12)
    generator, draws = np.random.default_rng(11), []
    for _ in range(4000):
        total = 0.0
        for part, weight in zip(parts, weights, strict=True):
            chosen = generator.integers(0, part.nats.shape[1], part.nats.shape[1])
            ratios = part.nats[:, chosen].sum(1) / part.tokens[:, chosen].sum(1)
            total += weight * (ratios[0] - ratios[1])
        draws.append(total)
    assert interval is not None
    spread = np.percentile(draws, 97.5) - np.percentile(draws, 2.5)
    assert interval == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.1 * spread)
    assert joined.figures()[0].tokens == sum(int(part.tokens[0].sum()) for part in parts)
