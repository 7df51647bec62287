"""The bootstrap against what statistics says, and its laws."""

import math

import numpy as np
import pytest

from lamoid.evaluation import compare
from lamoid.evaluation.compare import interval, ratio, resample_sums
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Measured, Origin


def resample_ratios(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    top, bottom = np.split(resample_sums(np.concatenate([sums, sizes])), 2)
    return top / bottom


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


def test_same_seed_same_bits_however_many_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(8).integers(0, 1000, (6, 50)).astype(float)
    first = resample_sums(values, seed=3)
    assert first.shape == (6, 2000)
    assert np.array_equal(first, resample_sums(values, seed=3))
    assert not np.array_equal(first, resample_sums(values, seed=4))
    for rows in (1, 7, 5000):
        monkeypatch.setattr(compare, "ROWS", rows)
        assert np.array_equal(first, resample_sums(values, seed=3))  # whole numbers: no order of adding rounds


def test_sums_are_those_of_the_documents_drawn() -> None:
    values = np.random.default_rng(9).integers(0, 1000, (4, 70)).astype(float)
    generator = np.random.default_rng(5)
    drawn = [generator.integers(0, 70, 70) for _ in range(100)]
    expected = np.stack([values[:, places].sum(axis=1) for places in drawn], axis=1)
    assert np.array_equal(resample_sums(values, seed=5, resamples=100), expected)


def test_one_document_has_no_interval() -> None:
    assert interval(resample_ratios(np.ones((1, 1)), np.ones((1, 1))), 1) is None


def test_ratio_is_of_sums() -> None:
    assert ratio([10.0, 1.0], [5.0, 6.0]) == 1.0


def test_figures_and_their_reports() -> None:
    rows = [Loss(20.0, 10, 40), Loss(9.0, 5, 20), Loss(0.0, 0, 1)]
    measured = Measured.of([rows, [Loss(loss.nats + loss.tokens, loss.tokens, loss.bytes) for loss in rows]], 0)
    assert measured.nats.shape == (2, 2)
    one, other = measured.figures()
    assert one.nats_per_token == pytest.approx(29 / 15)
    assert one.bits_per_byte == pytest.approx(29 / math.log(2) / 60)
    assert one.perplexity == pytest.approx(math.exp(29 / 15))
    assert other.nats_per_token == pytest.approx(29 / 15 + 1)
    value, bounds = measured.difference(1, 0)
    assert value == pytest.approx(1.0)
    assert bounds == pytest.approx((1.0, 1.0))
    reports = Origin("d" * 64, 2, 0, "lamoid evaluate m").reports("m", "h" * 64, one)
    assert [report.metric for report in reports] == ["nats_per_token", "perplexity", "bits_per_byte"]
    assert all(
        (report.count, report.units, report.data_hash, report.seed) == (15, 2, "d" * 64, 0) for report in reports
    )


def test_a_model_and_itself_differ_by_exactly_nothing() -> None:
    rows = [Loss(float(x), 7, 31) for x in np.random.default_rng(2).normal(20.0, 3.0, 40)]
    measured = Measured.of([rows, rows], 0)
    for per in ("tokens", "bytes"):
        assert measured.difference(0, 1, per=per) == (0.0, (0.0, 0.0))
    assert measured.figures()[0] == measured.figures()[1]


@pytest.mark.parametrize(("nats", "is_held"), [(709.0, True), (710.0, False), (1e300, False)])
def test_a_perplexity_beyond_float64_is_none(nats: float, is_held: bool) -> None:
    (found,) = Measured.of([[Loss(nats, 1, 4)] * 3], 0).figures()
    assert (found.perplexity is not None) is is_held
    assert (found.perplexity_interval is not None) is is_held
    assert found.nats_per_token == pytest.approx(nats)
