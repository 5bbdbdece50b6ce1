"""Every kind of column against independent computations of the same features."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from vicreg.data import as_frame
from vicreg.data.columns import KINDS, from_json, to_json
from vicreg.data.dates import Date
from vicreg.data.discover import date_patterns
from vicreg.data.discrete import Discrete, number_kind
from vicreg.data.numeric import CEILING, Boolean, Constant, Number, centre_and_scale, standardise
from vicreg.data.words import COVERAGE, MAX_LEVELS, Category, Text, text_kind


def cells(values, dtype=object):
    return as_frame(pd.DataFrame({"a": pd.Series(values, dtype=dtype)})).column("a")


def total_variance(features):
    return features.astype(np.float64).var(axis=0).sum()


def test_numbers_are_standardised_as_scikit_learn_does():
    values = np.random.default_rng(0).normal(50, 7, 200)
    column = Number.fit("a", values)
    np.testing.assert_allclose(column.features(values), StandardScaler().fit_transform(values[:, None]), rtol=1e-5)
    assert column.feature_names == ("a",)


def test_a_gap_is_the_mean_and_told_apart_where_the_fit_saw_some():
    column = Number.fit("a", np.array([1.0, np.nan, 3.0, np.nan]))
    np.testing.assert_allclose(
        column.features(np.array([np.nan, 3.0, 2.0])), [[0, 0.5], [1, -0.5], [0, -0.5]], atol=1e-7
    )
    assert column.feature_names == ("a", "a is missing")
    np.testing.assert_array_equal(Number.fit("a", np.array([1.0, 3.0])).features(np.array([np.nan])), [[0]])


def test_equal_numbers_with_gaps_keep_the_gaps():
    column = Number.fit("a", np.array([5.0, np.nan]))
    np.testing.assert_array_equal(column.features(np.array([5.0, np.nan])), [[0, -0.5], [0, 0.5]])


@pytest.mark.parametrize("values", [[np.nan, np.nan], [0.1, 0.1, 0.1], [-1e300, -1e300]])
def test_empty_and_constant_numbers_have_no_features(values):
    column = Number.fit("a", np.array(values))
    assert column == Constant("a")
    assert column.features(np.array(values)).shape == (len(values), 0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_no_finite_number_overflows(values):
    values = np.array(values)
    column = Number.fit("a", values)
    features = column.features(np.array([*values, 1.7e308, -1.7e308, 5e-324]))
    assert np.isfinite(features).all()
    assert np.abs(features).max(initial=0) <= CEILING
    largest = np.abs(values).max()
    if isinstance(column, Number) and largest < 1e307 and column.scale > max(1e-300, 1e-9 * largest):
        assert total_variance(column.features(values)) == pytest.approx(1, rel=1e-3)


def test_mean_and_deviation_agree_with_numpy():
    values = np.random.default_rng(0).normal(1e8, 1e-3, 1000)
    mean, scale = centre_and_scale(values)
    assert mean == pytest.approx(values.mean(), rel=1e-15)
    assert scale == pytest.approx(values.std(), rel=1e-6)
    assert np.isnan(standardise(np.array([np.nan]), 0.0, 1.0)[0])


def test_infinity_is_refused_at_fit_and_later():
    match = r"columns must hold finite numbers or gaps; got infinity in column 'a', row 1\."
    with pytest.raises(ValueError, match=match):
        Number.fit("a", np.array([1.0, np.inf]))
    with pytest.raises(ValueError, match=match):
        Number("a", 0.0, 1.0, 0.0).features(cells([1, "-inf"]))


@pytest.mark.parametrize("values", [[True, False, None, True], [1, 0, None, 1], ["TRUE", "false", "", "True"]])
def test_truth_values_in_every_spelling(values):
    column = Boolean.fit("a", cells([True, False, None, True]))
    share, deviation = 2 / 3, np.sqrt(2) / 3
    expected = [(1 - share) / deviation, -share / deviation, 0, (1 - share) / deviation]
    np.testing.assert_allclose(column.features(cells(values))[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(column.features(cells(values))[:, 1], [-0.25, -0.25, 0.75, -0.25])


def test_what_is_no_truth_value_is_refused():
    column = Boolean.fit("a", cells([True, False]))
    with pytest.raises(
        ValueError, match=r"column 'a' must hold true and false, as when it was fitted; got 2.0 in row 1"
    ):
        column.features(cells([1, 2]))
    with pytest.raises(
        ValueError, match=r"column 'a' must hold numbers, as when it was fitted; got text, 'no' in row 0"
    ):
        column.features(cells(["no"]))
    assert Boolean.fit("a", cells([True, True])) == Constant("a")


def test_categories_are_a_centred_one_hot_of_total_variance_one():
    values = np.random.default_rng(0).choice(["red", "green", "blue"], 100, p=[0.6, 0.3, 0.1])
    column = Category.fit("a", cells(values))
    assert column.levels == ("red", "green", "blue")
    hot = OneHotEncoder(categories=[list(column.levels)], sparse_output=False).fit_transform(values[:, None])
    hot = (hot - hot.mean(axis=0)) / np.sqrt(hot.var(axis=0).sum())
    np.testing.assert_allclose(column.features(cells(values)), hot, rtol=1e-5)
    assert column.feature_names == ("a = red", "a = green", "a = blue")
    np.testing.assert_array_equal(column.features(cells(["violet", None])), np.zeros((2, 3)))


def test_rare_unseen_and_missing_levels():
    values = [f"level {i:02d}" for i in range(MAX_LEVELS)] * 20 + ["rare", "rarer", None]
    column = Category.fit("a", cells(values))
    assert len(column.levels) == MAX_LEVELS
    assert column.feature_names[-2:] == ("a = (other)", "a is missing")
    features = column.features(cells([*values, "unseen"]))
    np.testing.assert_array_equal(features[-1], features[-3])  # unseen as rarer
    np.testing.assert_array_equal(features[-4], features[-3])
    assert features[-2].argmax() == MAX_LEVELS + 1
    assert total_variance(features[:-1]) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(features[:-1].mean(axis=0), 0, atol=1e-6)


def test_one_level_and_gaps_are_two_levels():
    column = Category.fit("a", cells(["x", None, "x", "?"]))
    np.testing.assert_allclose(column.features(cells(["x", None])) * np.sqrt(2), [[1, -1], [-1, 1]], rtol=1e-6)
    assert Category.fit("a", cells(["x", "x"])) == Constant("a")


def test_dates_against_python():
    rng = np.random.default_rng(0)
    days = [datetime.datetime(2019, 1, 1) + datetime.timedelta(minutes=int(m)) for m in rng.integers(0, 10**6, 300)]
    column = Date.fit("a", cells(days))
    assert column.cycles == ("month", "day", "weekday", "minute")
    raw = []
    for day in days:
        turns = [(day.month - 1) / 12, (day.day - 1) / 31, day.weekday() / 7, (day.hour * 60 + day.minute) / 1440]
        raw.append(
            [day.replace(tzinfo=datetime.UTC).timestamp()] + [f(2 * np.pi * t) for t in turns for f in (np.sin, np.cos)]
        )
    raw = np.array(raw)
    raw[:, 0] = (raw[:, 0] - raw[:, 0].mean()) / raw[:, 0].std()
    raw -= raw.mean(axis=0)
    raw /= np.sqrt(raw.var(axis=0).sum())
    np.testing.assert_allclose(column.features(cells(days)), raw, atol=1e-6)
    assert column.feature_names[:3] == ("a: time", "a: sine of month", "a: cosine of month")


def test_only_cycles_that_vary_are_kept_and_gaps_told_apart():
    column = Date.fit("a", cells(["2020-03-01", "2020-03-02", None, "2020-03-08"]))
    assert column.cycles == ("day", "weekday")
    features = column.features(cells([None, "2020-03-02"]))
    np.testing.assert_array_equal(features[0], [0, 0, 0, 0, 0, 0.75])
    assert features[1, -1] == -0.25
    assert Date.fit("a", cells(["2020-03-01"] * 3)) == Constant("a")
    assert Date.fit("a", cells([None, None])) == Constant("a")


def test_dates_in_text_follow_their_pattern():
    column = Date.fit("a", cells(["03/05/2024", "23/05/2024"]), "%d/%m/%Y")
    same = Date.fit("a", cells([datetime.date(2024, 5, 3), datetime.date(2024, 5, 23)]))
    np.testing.assert_array_equal(column.features(cells(["03/05/2024"])), same.features(cells(["2024-05-03"])))
    with pytest.raises(
        ValueError, match=r"column 'a' must hold dates, as when it was fitted; got text, 'soon' in row 1\."
    ):
        column.features(cells(["03/05/2024", "soon"]))
    with pytest.raises(
        ValueError, match=r"column 'a' must hold dates, as when it was fitted; got numbers, such as 5\."
    ):
        column.features(cells([5]))
    for kind in (Number("a", 0.0, 1.0, 0.0), Category("a", ("x", "y"), (0.5, 0.5), 0.0, 0.0)):
        with pytest.raises(ValueError, match=r"must hold (numbers|text), as when it was fitted; got dates, such as"):
            kind.features(cells([datetime.date(2024, 5, 3)]))


def test_numbers_given_as_text_are_read_or_refused():
    column = Number.fit("a", np.array([1.0, 3.0]))
    np.testing.assert_array_equal(column.features(cells(["3", " 1 ", "+1", "NA"]))[:, 0], [1, -1, -1, 0])
    with pytest.raises(
        ValueError, match=r"column 'a' must hold numbers, as when it was fitted; got text, '3 kg' in row 1"
    ):
        column.features(cells(["3", "3 kg"]))


def test_text_is_hashed_as_scikit_learn_does():
    values = [f"{word} number {i}" for i in range(40) for word in ("House", "Garden")]
    column = Text.fit("a", cells([*values, None]))
    hasher = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=32)
    hashed = hasher.transform(values).toarray()
    expected = (hashed - hashed.mean(axis=0)) / np.sqrt(hashed.var(axis=0).sum())
    features = column.features(cells([*values, None, "unseen"]))
    np.testing.assert_allclose(features[: len(values), :-1], expected, atol=1e-5)
    np.testing.assert_allclose(features[len(values)], [0] * 32 + [80 / 81], atol=1e-7)
    assert features.shape == (82, 33)
    assert Text.fit("a", cells([None])) == Constant("a")
    assert Text.fit("a", cells(["A", "a"])) == Constant("a")


def test_text_is_a_category_if_few_levels_cover_it():
    few = ["x", "y"] * 100
    assert text_kind(cells([*few, *map(str, range(19))])) is Category
    assert text_kind(cells([f"{i}!" for i in range(200)])) is Text
    assert COVERAGE == 0.9


def test_skrub_tells_dates_from_words():
    columns = {"day": cells(["23/05/2024", None, "03/05/2024"]), "word": cells(["x", "y"]), "0": cells(["May 3, 2024"])}
    assert date_patterns(columns) == {"day": "%d/%m/%Y", "0": "%B %d, %Y"}


def test_without_skrub_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skrub", None)
    with pytest.raises(ImportError, match=r"pip install 'vicreg\[table\]'"):
        date_patterns({"a": cells(["x"])})


EXAMPLES = [
    Number("a", 0.1, 1 / 3, 0.2),
    Boolean("a", 2 / 3, 0.0),
    Category("a", ("x", "é\n"), (0.6, 0.2), 0.1, 0.1),
    Date("a", "%d/%m/%Y", 1e9, 1e7 / 3, ("day",), (0.1, -0.2), 0.0),
    Text("a", (2, 4), (0.1, 0.2), 0.3, 0.0),
    Constant("a"),
    Discrete("a", 0.1, 1 / 3, (-1.0, 0.3, 2.0), (0.2, 0.3, 0.5), 0.1),
]


@pytest.mark.parametrize("column", EXAMPLES, ids=lambda c: c.kind)
def test_records_come_back_exactly(column):
    assert KINDS[column.kind] is type(column)
    assert from_json(json.loads(json.dumps(to_json(column)))) == column


def test_every_kind_has_an_example():
    assert [column.kind for column in EXAMPLES] == list(KINDS)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_damaged_records_are_refused_or_still_good(data):
    record = to_json(data.draw(st.sampled_from(EXAMPLES)))
    key = data.draw(st.sampled_from(list(record)))
    if data.draw(st.booleans()):
        record[key] = data.draw(JSON)
    else:
        del record[key]
    try:
        column = from_json(record)
    except ValueError as error:
        assert " must " in str(error)
    else:
        assert from_json(to_json(column)) == column
        gaps = column.features(cells([None, None]))
        assert gaps.shape == (2, len(column.feature_names))
        assert np.isfinite(gaps).all()


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ({"kind": "code"}, "a column's record must be of a kind among"),
        ({"extra": 1}, "a column's record must have the keys"),
        ({"mean": "0"}, "mean must be a float; got '0'. The file is damaged, or of another version."),
        ({"mean": float("nan")}, "mean must be a float"),
        ({"scale": 0.0}, "the record of column 'a' must have a positive scale; got 0.0"),
        ({"gaps": 1.0}, "must have shares of at least 0 and below 1; got 1.0"),
        ({"name": None}, "name must be a str; got None"),
    ],
)
def test_damage_is_named(damage, match):
    with pytest.raises(ValueError, match=match):
        from_json(to_json(EXAMPLES[0]) | damage)


@pytest.mark.parametrize(
    ("column", "damage", "match"),
    [
        (EXAMPLES[1], {"share": 2.0}, "a share of true within 0 and 1; got 2.0"),
        (EXAMPLES[2], {"levels": ["x", "x"]}, "must have distinct levels"),
        (EXAMPLES[2], {"levels": "xy"}, "levels must be a list; got 'xy'"),
        (EXAMPLES[2], {"other": 0.5}, "must share out all rows"),
        (EXAMPLES[3], {"cycles": ["year"]}, "must have cycles among"),
        (EXAMPLES[3], {"centre": [0.1]}, "must have a centre within the circle"),
        (EXAMPLES[4], {"ngrams": [4, 2]}, "must have n-grams of 1 to 16 characters"),
        (EXAMPLES[4], {"centre": []}, r"must have a centre of 1 to 4096 numbers within \+-1"),
    ],
)
def test_records_that_contradict_themselves_are_refused(column, damage, match):
    with pytest.raises(ValueError, match=match):
        from_json(to_json(column) | damage)


def discrete_cells(gaps=False):
    cells = np.array([1.0, 2.0, 2.0, 5.0] * 10)
    return np.where(np.arange(40) % 8 == 7, np.nan, cells) if gaps else cells


def test_a_few_distinct_numbers_are_a_number_and_one_indicator_for_each():
    """Against indicators from comparison and a variance split of .3 to .7."""
    cells = discrete_cells()
    features = number_kind("a", cells).features(cells).astype(float)
    assert features.shape == (40, 4)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(features[:, 0].var(), 0.3, rtol=1e-5)
    np.testing.assert_allclose(features[:, 1:].var(axis=0).sum(), 0.7, rtol=1e-5)
    np.testing.assert_allclose(np.corrcoef(features[:, 2], cells == 2)[0, 1], 1, rtol=1e-6)


def test_a_gap_of_a_discrete_column_is_its_mean_and_an_unknown_number_has_no_level():
    column = number_kind("a", discrete_cells(gaps=True))
    assert column.feature_names == ("a", "a = 1", "a = 2", "a = 5", "a is missing")
    gap, unknown, known = column.features(np.array([np.nan, 3.0, 2.0]))
    np.testing.assert_allclose(gap[:4], 0)
    assert gap[4] > 0 > unknown[4]
    assert (unknown[1:4] < 0).all()
    assert known[2] > 0
    np.testing.assert_array_equal(column.features(np.array([2.0], np.float32).astype(float))[0], known)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (np.arange(40) % 2, "number"),
        (np.arange(40) % 3, "discrete"),
        (np.arange(20) % 3, "number"),
        (np.arange(400) % 12, "discrete"),
        (np.arange(400) % 13, "number"),
        (np.arange(4000) // 350, "discrete"),
        (np.zeros(40), "constant"),
        (np.tile([0, 1e-9, 1], 20), "number"),
    ],
)
def test_which_numbers_are_discrete(cells, kind):
    assert number_kind("a", cells.astype(float)).kind == kind


@pytest.mark.parametrize(
    ("levels", "shares", "said"),
    [((2.0, 1.0), (0.5, 0.5), "rising levels"), ((1.0, 2.0), (0.5,), "a share"), ((1.0, 2.0), (0.5, 1.5), "a share")],
)
def test_damaged_discrete_records_are_named(levels, shares, said):
    with pytest.raises(ValueError, match=said):
        Discrete("a", 0.0, 1.0, levels, shares, 0.0)
