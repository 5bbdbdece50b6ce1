"""The comparison as a user meets it: labels of all kinds, bad input, table, verdict."""

import datetime
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from vicreg.evaluation import EmbeddingComparison, Interval, infer_task, pca
from vicreg.evaluation.words import retrieval_verdict, verdict

RNG = np.random.default_rng(0)
ROWS, SPECIES = load_iris(return_X_y=True)
NOISE = RNG.normal(size=ROWS.shape)
BROKEN = np.where(np.arange(600).reshape(150, 4) < 2, [np.nan, np.inf, 0, 0], ROWS)


def by_name(comparison):
    return {(score.representation, score.metric): score for score in comparison.scores}


@pytest.fixture(scope="module")
def iris():
    return EmbeddingComparison({"raw": ROWS, "noise": NOISE}, SPECIES)


def test_given_rows_are_judged_as_sklearn_does():
    rows, labels = load_digits(return_X_y=True)
    test = np.random.default_rng(0).random(len(rows)) < 0.2
    comparison = EmbeddingComparison({"raw": rows, "pca": pca(rows[~test], 8).transform(rows)}, labels, test=test)
    found = by_name(comparison)
    nearest = KNeighborsClassifier(5).fit(rows[~test], labels[~test])
    assert found["raw", "knn"].value == nearest.score(rows[test], labels[test])
    assert found["raw", "silhouette"].value == pytest.approx(silhouette_score(rows[test], labels[test]), abs=1e-9)
    np.testing.assert_array_equal(comparison.judged, np.flatnonzero(test))
    assert [(name, metric) for name, metric in found if name == "pca"] == [
        ("pca", metric) for metric in ("knn", "linear", "silhouette", "ari", "nmi")
    ]
    by_number = EmbeddingComparison({"raw": rows}, labels, test=np.flatnonzero(test))
    assert [score for score in comparison.scores if score.representation == "raw"] == list(by_number.scores)
    lost = comparison.differences("pca", "raw")
    assert lost["linear"].sign == -1
    assert lost["linear"].value == pytest.approx(found["pca", "linear"].value - found["raw", "linear"].value)


def test_cross_validation_judges_every_row(iris):
    np.testing.assert_array_equal(iris.judged, np.arange(150))
    found = by_name(iris)
    assert found["raw", "knn"].value == pytest.approx(0.966, abs=0.02)
    assert found["raw", "linear"].value == pytest.approx(0.96, abs=0.03)
    for score in iris.scores:
        assert score.low is None or score.low <= score.value <= score.high
    assert (found["raw", "ari"].low, found["raw", "nmi"].high) == (None, None)


def test_it_is_reproducible_and_leaves_the_global_generator_alone(iris):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = EmbeddingComparison({"raw": ROWS, "noise": NOISE}, SPECIES)
    assert again.scores == iris.scores
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_scores_do_not_depend_on_company_or_order(iris):
    found = by_name(EmbeddingComparison({"noise": NOISE, "raw": ROWS}, SPECIES))
    assert found == by_name(iris)


def test_shift_and_scale_of_a_representation_do_not_matter(iris):
    moved = by_name(EmbeddingComparison({"raw": ROWS * 1e160 + 1e162, "noise": NOISE * 1e-160}, SPECIES))
    for key, score in by_name(iris).items():
        assert moved[key].value == pytest.approx(score.value, abs=0.01)


def test_regression_is_judged_by_r2_alone():
    rows, target = load_diabetes(return_X_y=True)
    test = np.arange(len(rows)) % 3 == 0
    comparison = EmbeddingComparison({"raw": rows, "noise": RNG.normal(size=rows.shape)}, target, test=test)
    assert comparison.task == "regression"
    found = by_name(comparison)
    assert {metric for _, metric in found} == {"knn", "linear"}
    nearest = KNeighborsRegressor(5).fit(rows[~test], target[~test]).score(rows[test], target[test])
    assert found["raw", "knn"].value == pytest.approx(nearest)
    said = comparison.verdict("noise")
    assert said.startswith("raw does better: with 10 numbers per row, noise predicts the values of 148 held-out rows")
    assert said.endswith(", in R2.")
    assert "5-NN R2" in comparison.summary()
    huge = by_name(EmbeddingComparison({"raw": rows}, target * 1e200, test=test))
    assert huge["raw", "knn"].value == pytest.approx(nearest)


def test_summary_is_an_aligned_table_with_its_notes(iris):
    head, raw, noise, empty, note, _ = iris.summary().splitlines()
    assert re.split(r"  +", head.strip()) == [
        "width", "5-NN accuracy", "linear accuracy", "silhouette", "k-means ARI", "k-means NMI",
    ]  # fmt: skip
    for heading in ("5-NN", "linear", "silhouette"):
        place = head.index(heading)
        for line in (raw, noise):
            assert re.match(r"-?\.\d{3} \[-?\.\d{3}, -?(\.\d{3}|1\.000)\]", line[place:])
            assert line[place - 2 : place] == "  "
    assert empty == ""
    assert note.startswith("Judged by 5-fold cross-validation over 150 rows; 3 classes.")
    assert repr(iris) == str(iris) == iris.summary()


def test_rows_are_plain(iris):
    rows = iris.rows()
    assert len(rows) == len(iris.scores) == 10
    assert rows[0]["representation"] == "raw"
    assert rows[0]["width"] == 4
    assert rows[0]["rows"] == 150
    assert rows[0]["metric"] == "knn"
    assert all(type(value) in (str, int, float, type(None)) for row in rows for value in row.values())


def test_verdicts_of_real_arrays(iris):
    won = iris.verdict("raw")
    assert won.startswith(
        "The winner is raw: with 4 numbers per row, raw predicts the labels of 150 held-out rows better"
    )
    assert iris.verdict("noise").startswith("raw does better: with 4 numbers per row, noise predicts")
    same = EmbeddingComparison({"a": ROWS, "b": ROWS.copy()}, SPECIES).verdict("a", ["b"])
    assert same.startswith("There is no clear difference: ")
    assert "with no clear difference from b (4) by 5-NN (+.000 [" in same
    assert "better" not in same
    assert "worse" not in same


UP, DOWN, LEVEL = Interval(0.03, 0.01, 0.05), Interval(-0.03, -0.05, -0.01), Interval(0.001, -0.01, 0.02)


@pytest.mark.parametrize(
    ("pca_knn", "pca_linear", "raw_knn", "raw_linear", "opening", "claims"),
    [
        (
            UP,
            UP,
            UP,
            LEVEL,
            "The winner is h",
            ["better than pca (8) by", "than raw (64) by 5-NN", "difference from raw"],
        ),
        (DOWN, DOWN, DOWN, LEVEL, "pca and raw do better", ["worse than pca (8) by", ", than raw (64) by 5-NN (-.030"]),
        (LEVEL, LEVEL, DOWN, LEVEL, "raw does better", ["worse than raw (64) by 5-NN", "difference from pca (8) by"]),
        (LEVEL, LEVEL, LEVEL, LEVEL, "There is no clear difference", ["rows with no clear difference from pca (8)"]),
        (
            UP,
            LEVEL,
            LEVEL,
            LEVEL,
            "Nothing does better than h",
            ["better than pca (8) by 5-NN (+.030 [.010, .050]), and"],
        ),
        (
            UP,
            DOWN,
            UP,
            UP,
            "There is no single winner",
            ["better than pca (8) by 5-NN", "worse than pca (8) by the linear"],
        ),
    ],
)
def test_verdict_names_wins_and_losses(pca_knn, pca_linear, raw_knn, raw_linear, opening, claims):
    differences = {
        "pca": {"knn": pca_knn, "linear": pca_linear},
        "raw": {"knn": raw_knn, "linear": raw_linear},
    }
    said = verdict("h", differences, {"h": 8, "pca": 8, "raw": 64}, "classification", 360)
    assert said.startswith(f"{opening}: with 8 numbers per row, h predicts the labels of 360 held-out rows ")
    for claim in claims:
        assert claim in said
    every = [pca_knn, pca_linear, raw_knn, raw_linear]
    assert ("better than" in said) == (UP in every)
    assert ("worse than" in said) == (DOWN in every)
    assert said.count(". ") == 0
    assert said.endswith(".")


@pytest.mark.parametrize(
    ("cca", "chance", "said"),
    [
        (
            UP,
            UP,
            "The winner is h: of 60 pairs, h finds a row's partner first more often than cca (+.030 [.010, .050]), ",
        ),
        (LEVEL, UP, "Nothing does better than h: of 60 pairs, h finds a row's partner first more often than chance (+"),
        (DOWN, UP, "There is no single winner: of 60 pairs, h finds a row's partner first more often than chance (+"),
        (DOWN, LEVEL, "cca does better: of 60 pairs, h finds a row's partner first more seldom than cca (-.030"),
        (LEVEL, LEVEL, "There is no clear difference: of 60 pairs, h finds a row's partner first with no clear"),
    ],
)
def test_the_verdict_on_retrieval_has_the_same_form(cca, chance, said):
    found = retrieval_verdict("h", {"cca": cca, "chance": chance}, 60)
    assert found.startswith(said)
    assert found.endswith(").")


def test_names_from_data_cannot_forge_a_line():
    comparison = EmbeddingComparison({"a\nbest": ROWS, "b": NOISE}, SPECIES)
    assert "a\\nbest" in comparison.summary()
    assert "\n" not in comparison.verdict("b")


def test_rare_classes_are_trained_on_and_said():
    labels = SPECIES.astype(str)
    labels[:3] = ["alone", "twin", "twin"]
    comparison = EmbeddingComparison({"raw": ROWS}, labels)
    assert 0 not in comparison.judged
    assert len(comparison.judged) == 149
    assert "1 row is alone in its class: it was fitted on, not judged." in comparison.notes
    held_out = EmbeddingComparison({"raw": ROWS}, labels, test=np.arange(0, 150, 5))
    assert "1 held-out row of classes that no other row has: no probe can get them right." in held_out.notes


def test_many_rows_are_sampled_and_said(monkeypatch):
    monkeypatch.setattr("vicreg.evaluation.splits.MOST_JUDGED_ROWS", 500)
    labels = RNG.integers(3, size=1600)
    rows = RNG.normal(size=(1600, 2)) + 3 * labels[:, None]
    held_out = EmbeddingComparison({"raw": rows}, labels, test=np.arange(700))
    assert len(held_out.judged) == 500
    assert held_out.notes[1] == "1,400 of the 1,600 rows were drawn at random for it."
    assert len(EmbeddingComparison({"raw": rows}, labels).judged) == 500


def pandas_series(values, **options):
    return pytest.importorskip("pandas").Series(values, **options)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["setosa", "versicolor", "virginica"])[SPECIES],
        np.array(["setosa", "versicolor", "virginica"], dtype=object)[SPECIES],
        np.array([b"x", b"y", b"z"])[SPECIES],
        SPECIES.astype(np.float32),
        SPECIES.astype(np.uint8),
        SPECIES.tolist(),
        np.array(["a", 2, None is None], dtype=object)[SPECIES],
        SPECIES.astype(object),
    ],
    ids=lambda labels: str(np.asarray(labels).dtype),
)
def test_labels_of_every_type_are_the_same_classes(labels, iris):
    found = by_name(EmbeddingComparison({"raw": ROWS}, labels))
    # Folds follow the classes' order, which may differ, so rows may be judged by other fits.
    assert found["raw", "knn"].value == pytest.approx(by_name(iris)["raw", "knn"].value, abs=0.03)


def test_labels_of_frames(iris):
    polars = pytest.importorskip("polars")
    names = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
    columns = [
        pandas_series(names),
        pandas_series(names, dtype="category"),
        pandas_series(SPECIES, dtype="Int64"),
        polars.Series(names),
        polars.Series(SPECIES),
        polars.Series(names, dtype=polars.Categorical),
    ]
    for labels in columns:
        assert EmbeddingComparison({"raw": ROWS}, labels).scores == iris.scores[:5]


def test_booleans_are_two_classes():
    comparison = EmbeddingComparison({"raw": ROWS}, SPECIES == 0)
    assert comparison.task == "classification"
    assert by_name(comparison)["raw", "linear"].value == 1


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["a", "b"] * 30, "classification"),
        ([True, False], "classification"),
        (list(range(30)) * 2, "classification"),
        (list(range(31)) * 2, "regression"),
        ([0.0, 1.0, 1.0], "classification"),
        ([0.5, 1.5, 2.5], "regression"),
        ([0.5, 1.5] * 10, "classification"),
        (np.linspace(0, 1, 50), "regression"),
        ([str(i) for i in range(50)], "classification"),
    ],
)
def test_the_task_is_inferred(labels, task):
    assert infer_task(labels) == task


def test_the_task_can_be_named():
    assert EmbeddingComparison({"raw": ROWS}, SPECIES, task="regression").task == "regression"
    labels = np.arange(150) // 3  # 50 classes
    assert EmbeddingComparison({"raw": ROWS}, labels, task="classification").notes[0].count("50 classes") == 1


@pytest.mark.parametrize(
    ("representations", "labels", "options", "error", "match"),
    [
        ({}, SPECIES, {}, ValueError, "representations must hold at least one; got none"),
        ([ROWS], SPECIES, {}, TypeError, "representations must be a mapping of names to arrays; got a list"),
        ({1: ROWS}, SPECIES, {}, TypeError, "names of representations must be texts; got 1"),
        ({"a": ROWS, "b": ROWS[1:]}, SPECIES, {}, ValueError, "have the same rows; got 'a': 150, 'b': 149"),
        ({"a": ROWS[:, 0]}, SPECIES, {}, ValueError, r"'a' must be a matrix .* got \(150,\)\. .*reshape\(-1, 1\)"),
        ({"a": ROWS[None]}, SPECIES, {}, ValueError, r"'a' must be a matrix .* got \(1, 150, 4\)\. Pool or flatten"),
        ({"a": ROWS[:, :0]}, SPECIES, {}, ValueError, r"'a' must be a matrix .* got \(150, 0\)"),
        ({"a": ROWS, "b\n": BROKEN}, SPECIES, {}, ValueError, r"'b\\n' must hold finite .* got 2 that are NaN or"),
        ({"a": ROWS.astype(str)}, SPECIES, {}, TypeError, "'a' must hold real numbers; got dtype <U"),
        ({"a": ROWS + 1j}, SPECIES, {}, TypeError, "'a' must hold real numbers; got dtype complex128"),
        ({"a": np.array([["x"]] * 150, dtype=object)}, SPECIES, {}, TypeError, "got objects that are none"),
        ({"a": ROWS}, SPECIES[1:], {}, ValueError, "labels must be as many as the representations' 150 rows; got 149"),
        ({"a": ROWS}, SPECIES[:, None], {}, ValueError, r"labels must be one column; got shape \(150, 1\)"),
        ({"a": ROWS}, [None, *SPECIES[1:]], {}, ValueError, "labels must have a value in every row; got 1 missing"),
        ({"a": ROWS}, [np.nan, *SPECIES[1:]], {}, ValueError, "got 1 missing of 150. Leave these rows out"),
        ({"a": ROWS}, [np.inf, *SPECIES[1:]], {}, ValueError, "labels must be finite; got an infinite value"),
        ({"a": ROWS}, np.ones(150), {}, ValueError, "two classes with at least two rows each; got 1 such"),
        ({"a": ROWS[:4]}, [*"abcd"], {}, ValueError, "two classes with at least two rows each; got 0 such"),
        ({"a": ROWS[:4]}, [*"abab"], {}, ValueError, "rows to fit the probes on must be at least the 5 .* got 3"),
        ({"a": ROWS[:1]}, [0.5], {"task": "regression"}, ValueError, "rows must be enough to hold some out; got 1"),
        ({"a": ROWS}, SPECIES, {"test": np.arange(9)}, ValueError, "held-out rows must have at least two classes"),
        ({"a": ROWS}, SPECIES, {"test": np.arange(50, 150)}, ValueError, "to fit the probes on must have at least two"),
        ({"a": ROWS}, np.ones(150), {"task": "regression"}, ValueError, "held-out rows must have at least two values"),
        ({"a": ROWS}, SPECIES.astype(str), {"task": "regression"}, TypeError, "labels of a regression must be numbers"),
        ({"a": ROWS}, SPECIES, {"task": "ranking"}, ValueError, "task must be one of 'auto', 'classification'"),
        ({"a": ROWS}, SPECIES, {"random_state": -1}, ValueError, "random_state must lie between 0"),
        ({"a": ROWS}, np.array([[]] * 150 + [0], dtype=object)[:150], {}, TypeError, "single values; got a list"),
        ({"a": ROWS}, [datetime.datetime(2020, 1, 1)] * 150, {"task": "regression"}, TypeError, "must be numbers"),
        ({"a": ROWS}, np.zeros(150, "datetime64[D]"), {}, TypeError, "numbers, texts or booleans; got dtype date"),
    ],
)  # fmt: skip
def test_bad_input_is_named(representations, labels, options, error, match):
    with pytest.raises(error, match=match):
        EmbeddingComparison(representations, labels, **options)


def test_missing_labels_of_frames_are_counted():
    pandas = pytest.importorskip("pandas")
    for labels in (
        pandas.Series([None, *SPECIES[1:]], dtype="Int64"),
        pandas.Series([pandas.NaT, *SPECIES[1:]], dtype=object),
        pandas.Series([None, *SPECIES[1:].astype(str)]),
    ):
        with pytest.raises(ValueError, match="got 1 missing of 150"):
            EmbeddingComparison({"raw": ROWS}, labels)


def test_verdict_checks_names(iris):
    with pytest.raises(ValueError, match=r"name must be one of 'raw', 'noise'; got 'pca'"):
        iris.verdict("pca")
    with pytest.raises(ValueError, match=r"name must be one of 'raw', 'noise'; got 'pca'"):
        iris.verdict("raw", ["pca"])
    with pytest.raises(ValueError, match="against must name other representations; got 'raw'"):
        iris.verdict("raw", ["raw"])
    with pytest.raises(ValueError, match="against must name another representation; got none"):
        EmbeddingComparison({"raw": ROWS}, SPECIES).verdict("raw")


LABELS = st.one_of(
    st.integers(-3, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.5, -1e300, 1e-300, float("nan"), float("inf")]),
    st.text(max_size=3),
    st.none(),
    st.binary(max_size=2),
    st.lists(st.integers(), max_size=1),
)


@settings(max_examples=40)
@given(st.lists(LABELS, min_size=1, max_size=24), st.booleans())
def test_any_labels_are_judged_or_refused_in_words(labels, as_objects):
    if as_objects:
        column = np.empty(len(labels), dtype=object)
        column[:] = labels
    else:
        kinds = {type(label) for label in labels}
        column = labels if len(kinds) == 1 and list not in kinds else [str(label) for label in labels]
    rows = np.random.default_rng(0).normal(size=(len(labels), 2))
    try:
        comparison = EmbeddingComparison({"a": rows}, column)
    except (ValueError, TypeError) as error:
        assert re.match(r"(?s).+ must .+; got .+\.", str(error))
    else:
        assert all(np.isfinite(score.value) for score in comparison.scores)


@pytest.mark.parametrize("numbers", [False, True])
def test_there_is_no_winner_among_noise(numbers):
    draw = np.random.default_rng(3)
    labels = draw.normal(size=120) if numbers else draw.integers(0, 2, 120)
    noise = {name: draw.normal(size=(120, 4)) for name in ("raw", "vicreg")}
    said = EmbeddingComparison(noise, labels).verdict("vicreg")
    guess = "guessing the mean" if numbers else "guessing the commonest class"
    assert said.startswith(f"No representation clearly beats {guess}: ")
    assert "winner" not in said


def test_the_commonest_class_is_named_as_what_has_to_be_beaten():
    labels = np.array([0] * 70 + [1] * 30)
    comparison = EmbeddingComparison({"z": labels[:, None] + np.arange(100)[:, None] / 1e4}, labels)
    assert "Always guessing the commonest class: .700." in comparison.notes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_with_a_graph_are_representations(dtype):
    z = torch.randn(40, 3, dtype=dtype, requires_grad=True, generator=torch.Generator().manual_seed(0))
    comparison = EmbeddingComparison({"a": z, "b": z.detach().float().numpy()}, np.arange(40) % 2)
    assert comparison.differences("a", "b")["knn"].value == 0
