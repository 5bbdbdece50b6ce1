"""Intervals: their coverage by simulation, their values by closed forms, rows held out as they should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from vicreg.evaluation import (
    Interval,
    accuracy_difference,
    accuracy_interval,
    mean_interval,
    r2_difference,
    r2_interval,
)
from vicreg.evaluation.resampling import resampled_means
from vicreg.evaluation.splits import check_test, cross_validation, one_split


def test_means_of_resamples_vary_as_theory_says():
    values = np.random.default_rng(0).normal(3, 2, size=(400, 2))
    means = resampled_means(values, 4000)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=0.01)
    np.testing.assert_allclose(means.std(0), values.std(0) / 20, rtol=0.05)


def test_resamples_are_rows_drawn_with_replacement_and_paired():
    values = np.arange(7.0)
    means = resampled_means(np.stack([values, 2 * values + 1], 1))
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)
    np.testing.assert_allclose(means[:, 0] * 7, np.round(means[:, 0] * 7))
    np.testing.assert_array_equal(means, resampled_means(np.stack([values, 2 * values + 1], 1)))
    assert not np.array_equal(means[:, :1], resampled_means(values[:, None], random_state=1))


def test_blocks_do_not_show(monkeypatch):
    values = np.random.default_rng(0).normal(size=(50, 1))
    whole = resampled_means(values, 100)
    monkeypatch.setattr("vicreg.evaluation.resampling.BLOCK", 120)
    np.testing.assert_allclose(resampled_means(values, 100), whole)


def covered(draw, truth, times=300):
    intervals = [draw(np.random.default_rng(seed), seed) for seed in range(times)]
    return np.mean([found.low <= truth <= found.high for found in intervals])


def test_mean_is_covered():
    share = covered(lambda rng, seed: mean_interval(rng.exponential(size=150), seed), 1.0)
    assert 0.90 <= share <= 0.98


@pytest.mark.parametrize(("n", "p"), [(30, 0.95), (60, 0.8), (150, 0.9)])
def test_accuracy_is_covered_near_one_as_well(n, p):
    assert covered(lambda rng, seed: accuracy_interval((rng.random(n) < p) * 1.0, seed), p) >= 0.91


def test_r2_is_covered():
    def draw(rng, seed):
        target = rng.normal(size=200)
        return r2_interval(target, rng.normal(size=200) ** 2 * 0.5, seed)

    assert 0.90 <= covered(draw, 0.5) <= 0.98


@pytest.mark.parametrize(("n", "disagreement"), [(30, 0.1), (200, 0.05), (200, 0.2)])
def test_equals_are_seldom_told_apart(n, disagreement):
    def draw(rng, seed):
        luck = rng.random(n)
        return accuracy_difference(
            (luck > disagreement) * 1.0, ((luck < disagreement) | (luck > 2 * disagreement)) * 1.0, seed
        )

    assert covered(draw, 0.0) >= 0.93


def test_paired_rows_tell_more_than_two_intervals():
    right = np.array([1.0] * 80 + [0.0] * 20)
    better = np.array([1.0] * 90 + [0.0] * 10)
    one, other = accuracy_interval(right), accuracy_interval(better)
    assert one.high > other.low
    assert accuracy_difference(better, right).sign == 1
    assert accuracy_difference(right, better).sign == -1
    assert accuracy_difference(right, right).sign == 0


def test_values_are_the_plain_scores():
    rng = np.random.default_rng(0)
    target, said, other = rng.normal(size=(3, 90)) + 7
    found = r2_interval(target, (target - said) ** 2)
    assert found.value == pytest.approx(r2_score(target, said))
    assert found.low < found.value < found.high
    gap = r2_difference(target, (target - said) ** 2, (target - other) ** 2)
    assert gap.value == pytest.approx(r2_score(target, said) - r2_score(target, other))
    correct = (rng.random(90) < 0.7) * 1.0
    assert accuracy_interval(correct).value == correct.mean()


def test_r2_of_two_rows_leaves_out_resamples_without_variance():
    found = r2_interval(np.array([0.0, 1.0]), np.array([0.0, 0.25]))
    assert np.isfinite([found.value, found.low, found.high]).all()


def test_sign_is_that_of_the_printed_numbers():
    assert Interval(0.01, 0.0004, 0.02).sign == 0
    assert Interval(0.01, 0.0006, 0.02).sign == 1
    assert Interval(-0.01, -0.02, -0.0004).sign == 0


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 6))
def test_folds_judge_each_row_once_and_know_its_class(classes, folds):
    groups = np.array(classes)
    splits = cross_validation(groups, np.random.default_rng(0), folds)
    judged = np.concatenate([split.test for split in splits]) if splits else np.array([], dtype=int)
    alone = np.bincount(groups)[groups] == 1
    assert sorted(judged) == np.flatnonzero(~alone).tolist()
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(len(groups)))
        assert set(groups[split.test]) <= set(groups[split.train])
        for kind in set(classes):
            share = (groups[split.test] == kind).sum()
            assert share <= np.ceil((groups == kind).sum() / folds)


def test_large_tables_are_sampled_and_rare_classes_kept():
    rng = np.random.default_rng(0)
    groups = np.zeros(60_000, dtype=int)
    groups[:3] = 1
    groups[3:20] = 2
    test = np.arange(30_000, 60_000)
    (split,) = one_split(test, groups, rng)
    assert (len(split.train), len(split.test)) == (20_000, 10_000)
    assert set(split.test) <= set(test)
    assert not set(split.train) & set(test)
    assert np.bincount(groups[split.train])[1:].tolist()[0] == 3
    assert np.bincount(groups[split.train])[2] >= 5
    assert len(np.concatenate([fold.test for fold in cross_validation(groups[20:], rng)])) == 10_000


@pytest.mark.parametrize(
    ("test", "error", "match"),
    [
        ([], ValueError, r"test must hold out at least one row; got none\. Leave test=None to cross-validate\."),
        ([False] * 4, ValueError, "test must hold out at least one row; got none"),
        ([True] * 4, ValueError, "test must leave rows to fit the probes on; got all 4"),
        ([True] * 3, ValueError, "test must have one entry for each of the 4 rows; got 3"),
        ([4], ValueError, "test must number rows from 0 to 3; got 4"),
        ([-1, 2], ValueError, "test must number rows from 0 to 3; got -1"),
        ([1, 1], ValueError, "test must name each row once; got 1 repeated"),
        ([0.5], TypeError, "test must be booleans or row numbers; got dtype float64"),
        ([[1]], ValueError, r"test must be one mask or one list of row numbers; got shape \(1, 1\)"),
    ],
)
def test_bad_held_out_rows_are_named(test, error, match):
    with pytest.raises(error, match=match):
        check_test(test, 4)
