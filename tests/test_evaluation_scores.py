"""Scores of frozen representations against scikit-learn's own functions and slow definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import cdist
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegressionCV
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vicreg.evaluation import (
    cluster_agreement,
    knn,
    linear_probe,
    pca,
    readings,
    readings_in_words,
    silhouette_by_label,
    stability,
    trustworthiness,
)

TABLES = {"iris": load_iris, "wine": load_wine, "digits": load_digits}


@pytest.fixture(params=TABLES)
def table(request):
    rows, labels = TABLES[request.param](return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))[:600]
    return StandardScaler().fit_transform(rows[order]), labels[order]


def halves(rows, labels):
    middle = len(rows) // 2
    return rows[:middle], labels[:middle], rows[middle:], labels[middle:]


def test_silhouette_is_sklearns(table):
    rows, labels = table
    assert silhouette_by_label(rows, labels).mean() == pytest.approx(silhouette_score(rows, labels), abs=1e-10)


def test_silhouette_is_its_definition():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(30, 3)), np.array([*"a" * 14, *"b" * 15, "c"])
    distances = cdist(rows, rows)
    expected = []
    for i, own in enumerate(labels):
        mates = (labels == own) & (np.arange(30) != i)
        a = distances[i, mates].mean() if mates.any() else np.nan
        b = min(distances[i, labels == other].mean() for other in set(labels) - {own})
        expected.append((b - a) / max(a, b) if mates.any() else 0)
    np.testing.assert_allclose(silhouette_by_label(rows, labels), expected, atol=1e-12)


def test_silhouette_of_classes_of_one_is_zero():
    assert silhouette_by_label(np.eye(3), ["a", "b", "c"]).tolist() == [0, 0, 0]


def test_silhouette_samples_many_rows_and_keeps_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr("vicreg.evaluation.scores.MOST_SILHOUETTE_ROWS", 1000)
    labels = rng.integers(2, size=1500)
    rows = rng.normal(size=(1500, 1)) + labels[:, None]
    values, doubled = silhouette_by_label(rows, labels), silhouette_by_label(2 * rows + 1, labels)
    assert len(values) == 1000
    assert values.mean() == pytest.approx(silhouette_score(rows, labels), abs=0.05)
    np.testing.assert_allclose(values, doubled, atol=1e-9)


def test_silhouette_needs_two_classes():
    with pytest.raises(ValueError, match=r"labels must name at least two classes; got 1\."):
        silhouette_by_label(np.eye(3), [1, 1, 1])


def test_clusters_that_are_there_are_found():
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y", "z"], 20)
    rows = rng.normal(size=(60, 2)) * 0.1 + np.repeat([[0, 0], [5, 0], [0, 5]], 20, axis=0)
    assert cluster_agreement(rows, labels) == (1.0, 1.0)
    assert abs(cluster_agreement(rows, rng.permutation(labels))[0]) < 0.1


def test_cluster_agreement_matches_indices_of_known_clusters():
    # Two tight pairs of points: k-means can only cut between them, whatever the labels say.
    labels = [0, 1, 1, 1]
    ari, nmi = cluster_agreement([[0.0], [0.1], [9.0], [9.1]], labels)
    assert ari == pytest.approx(adjusted_rand_score(labels, [0, 0, 1, 1]))
    assert nmi == pytest.approx(normalized_mutual_info_score(labels, [0, 0, 1, 1]))


def test_fewer_distinct_rows_than_classes_is_no_warning():
    assert cluster_agreement(np.zeros((6, 2)), [0, 0, 1, 1, 2, 2]) == (0.0, 0.0)


def test_knn_is_sklearns(table):
    train, train_labels, test, test_labels = halves(*table)
    right = knn(train, train_labels, test, test_labels, task="classification")
    assert right.mean() == KNeighborsClassifier(5).fit(train, train_labels).score(test, test_labels)


def test_knn_takes_any_labels(table):
    train, train_labels, test, test_labels = halves(*table)
    names = np.array([f"class {i}" for i in range(10)], dtype=object)
    right = knn(train, train_labels, test, test_labels, task="classification")
    named = knn(train, names[train_labels], test, names[test_labels], task="classification")
    np.testing.assert_array_equal(right, named)


def test_linear_probe_is_as_good_as_a_searched_one(table):
    train, train_labels, test, test_labels = halves(*table)
    right = linear_probe(train, train_labels, test, test_labels, task="classification")
    searched = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=[0.01, 0.1, 1, 10], max_iter=1000, l1_ratios=(0,), use_legacy_attributes=False, scoring="accuracy"
        ),
    )
    assert right.mean() >= searched.fit(train, train_labels).score(test, test_labels) - 0.02
    assert set(right) <= {0, 1}


def test_regressions_are_sklearns():
    train, train_labels, test, test_labels = halves(*load_diabetes(return_X_y=True))
    variance = test_labels.var()
    nearest = KNeighborsRegressor(5).fit(train, train_labels).score(test, test_labels)
    assert 1 - knn(train, train_labels, test, test_labels, task="regression").mean() / variance == pytest.approx(
        nearest
    )
    plain = LinearRegression().fit(train, train_labels).score(test, test_labels)
    ridge = 1 - linear_probe(train, train_labels, test, test_labels, task="regression").mean() / variance
    assert ridge == pytest.approx(plain, abs=0.02)


def test_ridge_resists_more_columns_than_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 200))
    target = rows[:, 0] + rng.normal(size=80)
    errors = linear_probe(rows[:40], target[:40], rows[40:], target[40:], task="regression")
    assert errors.mean() < 1.3 * target[40:].var()


def test_a_row_far_out_does_not_decide_a_regression():
    rows = np.linspace(0, 1, 20)[:, None]
    errors = linear_probe(rows, 3 * rows[:, 0], np.array([[1e6]]), np.array([3.0]), task="regression")
    assert errors[0] == pytest.approx(0, abs=1e-9)


def test_the_probe_ignores_scale(table):
    train, train_labels, test, test_labels = halves(*table)
    scale = 10.0 ** np.arange(train.shape[1]).clip(max=8)
    right = linear_probe(train, train_labels, test, test_labels, task="classification")
    scaled = linear_probe(train * scale, train_labels, test * scale, test_labels, task="classification")
    np.testing.assert_allclose(right.mean(), scaled.mean(), atol=0.01)


def test_probes_check_their_input():
    rows, labels = np.eye(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"training rows must be at least the 5 neighbours asked; got 4\."):
        knn(rows, labels, rows, labels, task="classification")
    with pytest.raises(ValueError, match=r"training rows must have at least two classes; got 1\."):
        linear_probe(rows, [1, 1, 1, 1], rows, labels, task="classification")
    with pytest.raises(ValueError, match=r"test must have 4 columns, as train has; got 3\."):
        linear_probe(rows, labels, rows[:, :3], labels, task="classification")


def test_trustworthiness_is_sklearns(table):
    rows, _ = table
    flat = PCA(2).fit_transform(rows)
    assert trustworthiness(rows, flat, 5) == pytest.approx(sklearn_trustworthiness(rows, flat, n_neighbors=5), abs=1e-6)


def test_stability_is_its_definition():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(60, 3))
    other = z + 0.5 * rng.normal(size=(60, 3))

    def neighbors(points, i):
        return set(np.argsort(np.where(np.arange(60) == i, np.inf, cdist(points[i : i + 1], points)[0]))[:10])

    share = np.mean([len(neighbors(z, i) & neighbors(other, i)) / 10 for i in range(60)])
    assert stability(z, other) == pytest.approx((share - 10 / 59) / (1 - 10 / 59))


def test_stability_knows_sameness_and_chance():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 4))
    turned = z @ np.linalg.qr(rng.normal(size=(4, 4)))[0] * 3 + 1
    assert stability(z, turned) == 1
    assert abs(stability(z, rng.normal(size=(500, 4)))) < 0.02


def test_large_inputs_are_sampled_alike():
    rows = np.random.default_rng(0).normal(size=(20_000, 3))
    assert trustworthiness(rows, rows) == 1
    assert stability(rows, rows) == 1


def test_neighbourhoods_check_their_input():
    with pytest.raises(ValueError, match=r"x and z must have the same rows; got \(30, 29\)\."):
        trustworthiness(np.ones((30, 2)), np.ones((29, 2)))
    with pytest.raises(ValueError, match=r"rows must be more than twice the 10 neighbours; got 20\. Ask for fewer"):
        stability(np.ones((20, 2)), np.ones((20, 2)))


def test_pca_is_sklearns(table):
    rows, _ = table
    ours, theirs = pca(rows, 4), PCA(4, svd_solver="full").fit(rows)
    np.testing.assert_allclose(ours.components, theirs.components_, atol=1e-8)
    np.testing.assert_allclose(ours.transform(rows[:7]), theirs.transform(rows[:7]), atol=1e-8)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (1, 3), (4, 4)])
def test_pca_beyond_the_rank_is_zero(shape):
    rows = np.random.default_rng(0).normal(size=shape)
    rank = min(shape[0] - 1, shape[1])
    baseline = pca(rows, 15)
    assert baseline.components.shape == (15, shape[1])
    assert np.count_nonzero(np.abs(baseline.components).sum(1)) == rank
    np.testing.assert_allclose(baseline.transform(rows)[:, rank:], 0)
    # All variance is kept: distances are those of the rows.
    np.testing.assert_allclose(cdist(baseline.transform(rows), baseline.transform(rows)), cdist(rows, rows), atol=1e-9)


def test_pca_checks_its_input():
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        pca(np.eye(3), 0)
    with pytest.raises(ValueError, match="rows must have 3 columns; got 2"):
        pca(np.eye(3), 1).transform(np.ones((2, 2)))


def test_readings_describe_and_promise_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6))
    found = readings(x, x[:, :3], x[:, :3] * 2)
    assert found["trustworthiness"] == trustworthiness(x, x[:, :3])
    assert found["stability"] == 1
    assert found["effective_rank"] == pytest.approx(3, abs=0.1)
    text = readings_in_words(found)
    assert "no telling how useful" in text
    assert "Stability 1.000" in text
    assert "of 3" in text
    assert "Stability" not in readings_in_words(readings(x, x))


def test_readings_of_three_rows():
    rows = np.array([[0.0], [1.0], [5.0]])
    assert readings(rows, rows)["neighbors"] == 1
    with pytest.raises(ValueError, match="z must have at least 3 rows; got 2"):
        readings(rows[:2], rows[:2])


def test_tensors_and_frames_are_arrays_too():
    pandas = pytest.importorskip("pandas")
    rows, labels = load_iris(return_X_y=True)
    expected = silhouette_by_label(rows, labels)
    np.testing.assert_allclose(silhouette_by_label(torch.from_numpy(rows), torch.from_numpy(labels)), expected)
    np.testing.assert_allclose(silhouette_by_label(pandas.DataFrame(rows), pandas.Series(labels)), expected)


@given(
    npst.arrays(np.float64, (12, 2), elements=st.floats(-1e300, 1e300)),
    npst.arrays(np.int64, 12, elements=st.integers(0, 2)),
)
def test_any_finite_numbers_give_finite_scores(rows, labels):
    labels[:2] = 0, 1
    assert np.isfinite(silhouette_by_label(rows, labels)).all()
    assert np.isfinite(cluster_agreement(rows, labels)).all()
    assert 0 <= trustworthiness(rows, rows, 3) <= 1
