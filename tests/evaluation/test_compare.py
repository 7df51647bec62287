"""The bootstrap against what statistics says, and its laws."""

import math

import numpy as np
import pytest

from lamoid.evaluation import compare
from lamoid.evaluation.compare import interval, ratio, resample_ratios
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Measured, Origin


def test_interval_of_a_mean_is_the_normal_one() -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(3.0, 0.5, (1, 400))
    low, high = interval(resample_ratios(values, np.ones_like(values)), 400) or (0.0, 0.0)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_of_a_ratio_as_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(6)
    sizes = generator.integers(5, 500, 120).astype(float)
    sums = sizes * generator.normal(2.0, 0.3, 120)

    def statistic(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.sum(axis) / b.sum(axis)

    peer = stats.bootstrap(
        (sums, sizes), statistic, paired=True, vectorized=True, n_resamples=4000, method="percentile", rng=1
    )
    low, high = interval(resample_ratios(sums[None], sizes[None]), 120) or (0.0, 0.0)
    width = high - low
    assert low == pytest.approx(peer.confidence_interval.low, abs=0.1 * width)
    assert high == pytest.approx(peer.confidence_interval.high, abs=0.1 * width)


def test_pairs_see_the_same_draws() -> None:
    sums = np.random.default_rng(7).normal(100.0, 30.0, 60)
    sizes = np.full(60, 50.0)
    draws = resample_ratios(np.stack([sums, sums + 0.5]), np.stack([sizes, sizes]))
    assert np.allclose(draws[1] - draws[0], 0.01, atol=1e-12)


def test_same_seed_same_bits_whatever_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, sizes = np.random.default_rng(8).random((2, 3, 50))
    first = resample_ratios(sums, sizes, seed=3)
    assert first.shape == (3, 2000)
    assert np.array_equal(first, resample_ratios(sums, sizes, seed=3))
    assert not np.array_equal(first, resample_ratios(sums, sizes, seed=4))
    monkeypatch.setattr(compare, "GATHERED", 10_000)
    assert np.allclose(np.sort(first[0]).mean(), np.sort(resample_ratios(sums, sizes, seed=3)[0]).mean(), rtol=0.01)


def test_one_document_has_no_interval() -> None:
    assert interval(resample_ratios(np.ones((1, 1)), np.ones((1, 1))), 1) is None


def test_ratio_is_of_sums() -> None:
    assert ratio([10.0, 1.0], [5.0, 6.0]) == 1.0


def test_figures_and_their_reports() -> None:
    rows = [Loss(20.0, 10, 40), Loss(9.0, 5, 20), Loss(0.0, 0, 1)]
    measured = Measured.of([rows, [Loss(loss.nats + loss.tokens, loss.tokens, loss.bytes) for loss in rows]])
    assert measured.nats.shape == (2, 2)
    one, other = measured.figures(0)
    assert one.nats_per_token == pytest.approx(29 / 15)
    assert one.bits_per_byte == pytest.approx(29 / math.log(2) / 60)
    assert one.perplexity == pytest.approx(math.exp(29 / 15))
    assert other.nats_per_token == pytest.approx(29 / 15 + 1)
    value, bounds = measured.difference(1, 0, 0)
    assert value == pytest.approx(1.0)
    assert bounds == pytest.approx((1.0, 1.0))
    reports = Origin("d" * 64, 2, 0, "lamoid evaluate m").reports("m", "h" * 64, one)
    assert [report.metric for report in reports] == ["nats_per_token", "perplexity", "bits_per_byte"]
    assert all(
        (report.count, report.units, report.data_hash, report.seed) == (15, 2, "d" * 64, 0) for report in reports
    )
