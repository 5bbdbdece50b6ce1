"""Principal axes, against scikit-learn's PCA; their sums, against PCA of all the rows."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from vicreg.evaluation import among_first, probe_features
from vicreg.evaluation.baselines import first_components, leading_components, pca
from vicreg.functional import principal_axes


def rows(n, p, seed=0, rank=None):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, rank or p)) @ generator.normal(size=(rank or p, p))
    return x + generator.normal(size=p) * 100


def agrees(ours, x):
    oracle = PCA(len(ours.axes), svd_solver="full").fit(x)
    np.testing.assert_allclose(ours.mean, oracle.mean_, rtol=1e-9)
    np.testing.assert_allclose(ours.variance, oracle.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(np.abs((ours.axes * oracle.components_).sum(1)), 1, rtol=1e-9)
    np.testing.assert_allclose(ours.axes @ ours.axes.T, np.eye(len(ours.axes)), atol=1e-6)


@pytest.mark.parametrize(("n", "p"), [(200, 6), (6, 6), (5, 30), (2, 4)])
def test_axes_are_those_of_pca(n, p):
    x = rows(n, p)
    ours = principal_axes(x)
    assert len(ours.axes) == min(n - 1, p)
    agrees(ours, x)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 99))
def test_a_sum_is_pca_on_all_rows(sizes, p, seed):
    x = rows(sum(sizes) + 2, p, seed)
    parts = np.split(x, np.cumsum(sizes))
    whole = reduce(add, map(principal_axes, parts))
    assert whole.count == len(x)
    assert len(whole.axes) == min(len(x) - 1, p)
    agrees(whole, x)


@pytest.mark.parametrize(("n", "p"), [(100, 9), (9, 50)])
def test_there_are_as_many_axes_as_the_rank(n, p):
    x = rows(n, p, rank=3)
    ours = principal_axes(x)
    assert len(ours.axes) == 3
    assert len((ours + principal_axes(x + 1.0)).axes) == 4
    assert len(principal_axes(np.ones((5, 2))).axes) == 0
    np.testing.assert_array_equal(first_components(ours, 5).components[3:], 0)


def test_signs_do_not_depend_on_which_way_the_axes_were_found():
    x = rows(40, 5)
    mirrored = principal_axes(-x).axes
    np.testing.assert_allclose(principal_axes(x).axes, mirrored, atol=1e-12)
    for axis in mirrored:
        assert axis[np.abs(axis).argmax()] > 0
    diagonal = principal_axes(np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])).axes  # two entries of one size
    np.testing.assert_allclose(diagonal, [[0.5**0.5, -(0.5**0.5)]])


def test_the_baseline_is_the_first_axes():
    x = rows(60, 6)
    np.testing.assert_array_equal(pca(x, 4).components, principal_axes(x).axes[:4])


@pytest.mark.parametrize(("n", "most", "expected"), [(400, 512, None), (400, 5, 5), (100, 512, 12), (6, 512, 1)])
def test_a_baseline_has_no_more_components_than_rows_and_variance_bear(n, most, expected):
    x = rows(n, 60) * np.geomspace(1, 1e-3, 60)
    found = leading_components(x, most)
    if expected is None:  # by the share of the variance, as scikit-learn counts it
        expected = PCA(0.99, svd_solver="full").fit(x).n_components_
        assert expected < n // 8
    assert len(found.components) == expected
    np.testing.assert_allclose(found.components, pca(x, expected).components)


def test_on_few_wide_rows_a_standardising_probe_does_better_by_them():
    """64 columns of digits beside 400 of hardly any variance, which a probe would blow up."""
    x, y = load_digits(return_X_y=True)
    x = np.hstack([x, 0.05 * np.random.default_rng(0).normal(size=(len(x), 400))])
    train, test = slice(0, 240), slice(240, 800)
    right = {}
    for name, found in (("fair", leading_components(x[train], 512)), ("all", pca(x[train], 239))):
        probe = probe_features(found.transform(x[train]).astype(np.float32), y[train], 10)
        logits = probe.logits(found.transform(x[test]).astype(np.float32))
        right[name] = float(among_first(logits, y[test]).double().mean())
    assert right["fair"] > right["all"] + 0.04


def test_pca_of_constant_rows_is_a_baseline_still():
    assert not leading_components(np.ones((30, 4)), 8).transform(np.ones((2, 4))).any()
