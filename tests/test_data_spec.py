"""A table's specification: found once, kept as JSON, applied to any later table."""

import datetime
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from vicreg.data import TableSpec, as_frame, fingerprint, fit_spec, read_table, row_hashes


def people(n=300, seed=0):
    """A table like the census's: numbers, codes, words, dates, truth values, free text, gaps."""
    rng = np.random.default_rng(seed)
    born = [datetime.date(1950, 1, 1) + datetime.timedelta(days=int(d)) for d in rng.integers(0, 20000, n)]
    table = pd.DataFrame(
        {
            "age": rng.integers(17, 90, n),
            "gain": np.where(rng.random(n) < 0.9, 0.0, rng.lognormal(8, 1, n)),
            "job": rng.choice(["clerk", "nurse", "smith", "?"], n),
            "seen": [day.strftime("%d/%m/%Y") for day in born],
            "born": pd.to_datetime(born),
            "member": rng.random(n) < 0.3,
            "note": ["".join(rng.choice(list("abcdefgh "), 12)) for _ in range(n)],
            "country": "Norway",
            "empty": np.nan,
        }
    )
    table.loc[rng.random(n) < 0.1, "gain"] = np.nan
    return table


KINDS = ["number", "number", "category", "date", "date", "boolean", "text", "constant", "constant"]


@pytest.fixture(scope="module")
def spec():
    return fit_spec(as_frame(people()))


def test_kinds_sources_and_names(spec):
    assert [column.kind for column in spec.columns] == KINDS
    assert spec.names == tuple(people().columns)
    assert spec.text_names == ("job", "note")
    assert len(spec.sources) == len(spec.feature_names) == len(set(spec.feature_names))
    assert [spec.names[i] for i in np.unique(spec.sources)] == list(spec.names[:7])
    assert spec.feature_names[:4] == ("age", "gain", "gain is missing", spec.feature_names[3])


def test_features_are_finite_centred_and_weigh_the_same(spec):
    features = spec.apply(as_frame(people()))
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
    for i in range(7):
        named = [not name.endswith("is missing") for name in spec.feature_names]
        values = features[:, (spec.sources == i) & (named if i == 1 else True)]
        expected = np.mean(people()["gain"].notna()) if i == 1 else 1
        assert values.var(axis=0).sum() == pytest.approx(expected, rel=1e-3)


def test_one_table_in_every_form_has_the_same_features(spec, tmp_path):
    table = people()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    categories = table.astype({"job": "category", "country": "category"})
    forms = [read_table(tmp_path / "t.csv"), read_table(tmp_path / "t.csv", text=spec.text_names)]
    forms += [read_table(tmp_path / "t.parquet"), as_frame(table.astype({"age": float, "member": object}))]
    forms += [as_frame(pl.from_pandas(table)), as_frame(categories), as_frame(pa.Table.from_pandas(table))]
    forms += [as_frame(pl.from_pandas(table).with_columns(pl.col("job").cast(pl.Categorical)))]
    expected = spec.apply(as_frame(table))
    for form in forms:
        np.testing.assert_array_equal(spec.apply(form), expected)
        assert [column.kind for column in fit_spec(form).columns] == KINDS
        np.testing.assert_array_equal(fit_spec(form).apply(form), expected)


def test_a_row_does_not_depend_on_the_rows_beside_it(spec):
    frame = as_frame(people(seed=1))
    whole = spec.apply(frame)
    for rows in ([5], [299, 5, 7], range(100, 300)):
        np.testing.assert_array_equal(spec.apply(frame.take(np.array(rows))), whole[np.array(rows)])


def test_a_specification_is_exact_json(spec):
    text = json.dumps(spec.to_json(), allow_nan=False)
    again = TableSpec.from_json(json.loads(text))
    assert again == spec
    np.testing.assert_array_equal(again.apply(as_frame(people())), spec.apply(as_frame(people())))


def test_applying_needs_neither_pandas_nor_skrub(spec, monkeypatch):
    frame = as_frame(pa.Table.from_pandas(people()))
    expected = spec.apply(frame)
    for name in ("pandas", "skrub"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    np.testing.assert_array_equal(spec.apply(frame), expected)


def test_columns_are_matched_by_name(spec):
    table = people()
    expected = spec.apply(as_frame(table))
    np.testing.assert_array_equal(spec.apply(as_frame(table[table.columns[::-1]])), expected)
    np.testing.assert_array_equal(spec.apply(as_frame(table.drop(columns=["country", "empty"]))), expected)
    wider = as_frame(table.assign(label=1, id=2))
    np.testing.assert_array_equal(spec.apply(wider, ignore=["label", "id", "absent"]), expected)
    match = "columns must be those that fit saw; got 'label', 'id' as well. They are ignored."
    with pytest.warns(UserWarning, match=match):
        spec.apply(wider)
    with pytest.raises(ValueError, match=r"X must have the columns that fit saw, also 'age'; got 'gain', 'job'"):
        spec.apply(as_frame(table.drop(columns="age")))


def test_another_type_is_refused(spec):
    for name, value, match in [
        ("age", "old", "column 'age' must hold numbers, as when it was fitted; got text, 'old' in row 0"),
        ("born", 5, "column 'born' must hold dates, as when it was fitted; got numbers, such as 5"),
        ("job", datetime.date(2020, 1, 1), "column 'job' must hold text, as when it was fitted; got dates"),
        ("member", "perhaps", "column 'member' must hold numbers, as when it was fitted; got text, 'perhaps'"),
        ("age", np.inf, "columns must hold finite numbers or gaps; got infinity in column 'age', row 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            spec.apply(as_frame(people().assign(**{name: value})))


def test_arrays_are_matched_by_position():
    X = np.random.default_rng(0).normal(3, 2, (500, 6))
    spec = fit_spec(as_frame(X))
    np.testing.assert_allclose(spec.apply(as_frame(X)), StandardScaler().fit_transform(X), atol=1e-5)
    table = as_frame(pd.DataFrame(X, columns=list("abcdef")))
    np.testing.assert_array_equal(spec.apply(table), spec.apply(as_frame(X)))
    named = fit_spec(table)
    np.testing.assert_array_equal(named.apply(as_frame(X)), spec.apply(as_frame(X)))
    np.testing.assert_array_equal(named.apply(as_frame(X.tolist())), spec.apply(as_frame(X)))
    with pytest.raises(ValueError, match="X must have the 6 columns that fit saw, in their order; got 1"):
        spec.apply(as_frame(X[:, :1]))
    match = r"X has 1 features, but \w+ is expecting 6 features as input"  # scikit-learn's words
    with pytest.raises(ValueError, match=match):
        spec.apply(as_frame(X[:, :1]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8, np.uint64, np.int64, bool, object])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_type(dtype, order):
    X = np.asarray(np.random.default_rng(0).integers(0, 2, (100, 11)), dtype=dtype, order=order)
    expected = StandardScaler().fit_transform(X.astype(float))
    np.testing.assert_allclose(fit_spec(as_frame(X)).apply(as_frame(X)), expected, atol=1e-5)


def test_gaps_and_constants_in_an_array():
    X = np.random.default_rng(0).normal(size=(5000, 5))
    X[::7, 1] = np.nan
    X[:, 3] = 4.0
    spec = fit_spec(as_frame(X))
    assert spec.feature_names == ("x0", "x1", "x1 is missing", "x2", "x4")
    assert spec.sources.tolist() == [0, 1, 1, 2, 4]
    features = spec.apply(as_frame(X))
    kept = StandardScaler().fit_transform(X[:, [0, 1, 2, 4]])
    gap = np.isnan(X[:, 1])
    np.testing.assert_allclose(features[:, [0, 1, 3, 4]], np.nan_to_num(kept), atol=1e-5)
    np.testing.assert_allclose(features[:, 2], gap - gap.mean(), atol=1e-6)
    later = X[:10].copy()
    later[3, 0] = np.nan  # no gap at the fit: the mean
    assert spec.apply(as_frame(later))[3, 0] == 0
    later[9, 4] = -np.inf
    with pytest.raises(ValueError, match="infinity in column 'x4', row 9"):
        spec.apply(as_frame(later))


def test_a_categorical_of_codes_is_a_category_and_stays_one_in_a_file(tmp_path):
    table = pd.DataFrame({"code": pd.Series([1, 2, 2, 3] * 5, dtype="category"), "x": np.arange(20.0)})
    spec = fit_spec(as_frame(table))
    assert [column.kind for column in spec.columns] == ["category", "number"]
    table.to_csv(tmp_path / "t.csv", index=False)
    expected = spec.apply(as_frame(table))
    for form in (read_table(tmp_path / "t.csv"), as_frame(table.astype({"code": float})), as_frame(table.astype(str))):
        np.testing.assert_array_equal(spec.apply(form), expected)


def test_tables_that_say_nothing_are_refused():
    with pytest.raises(
        ValueError, match=r"X must have columns that vary; got 2 of which no column varies \('x0', 'x1'\)"
    ):
        fit_spec(as_frame(np.ones((5, 2))))
    with pytest.raises(ValueError, match="no column varies"):
        fit_spec(as_frame(pd.DataFrame({"a": [None, None], "b": ["x", "x"]})))
    with pytest.raises(ValueError, match=r"X must have at least 2 rows; got 1 sample\(s\)"):
        fit_spec(as_frame([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (None, "a table's record must have a list of columns; got None"),
        ({"columns": {}, "named": True}, "a table's record must have a list of columns"),
        ({"columns": [], "named": 1}, "named must be true or false; got 1"),
        ({"columns": [{"kind": "constant", "name": "a"}] * 2, "named": True}, "column names must be unique"),
        ({"columns": ["a"], "named": True}, "a column's record must be of a kind among"),
    ],
)
def test_damaged_records_are_refused(damage, match):
    with pytest.raises(ValueError, match=match):
        TableSpec.from_json(damage)


CELLS = {
    "numbers": st.floats(allow_infinity=False),
    "whole": st.one_of(st.none(), st.integers(-(2**70), 2**70)),
    "words": st.one_of(st.none(), st.sampled_from(["a", "b", " ", "NA", "1", "2020-01-01"])),
    "text": st.text(max_size=8),
    "flags": st.one_of(st.none(), st.booleans()),
    "days": st.one_of(st.none(), st.datetimes(), st.dates()),
}


@settings(max_examples=60)
@given(st.data())
def test_any_mixed_table_becomes_a_finite_matrix(data):
    n = data.draw(st.integers(2, 6))
    kinds = data.draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4))
    columns = [data.draw(st.lists(CELLS[kind], min_size=n, max_size=n)) for kind in kinds]
    frame = as_frame(pd.DataFrame({str(i): pd.Series(column, dtype=object) for i, column in enumerate(columns)}))
    try:
        spec = fit_spec(frame)
    except ValueError as error:
        assert "no column varies" in str(error) or "infinity" in str(error)
        return
    features = spec.apply(frame)
    assert features.shape == (n, len(spec.sources))
    assert np.isfinite(features).all()
    assert TableSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_row_hashes_are_equal_exactly_where_rows_are():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, (20_000, 9)).astype(np.float32)
    hashes = row_hashes(rows)
    distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    assert len(np.unique(hashes)) == len(distinct)
    assert len(np.unique(np.stack([hashes, inverse.astype(np.uint64)], axis=1), axis=0)) == len(distinct)
    np.testing.assert_array_equal(row_hashes(rows[::-1]), hashes[::-1])
    np.testing.assert_array_equal(row_hashes(np.asfortranarray(rows)), hashes)
    zeros = np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)
    assert len(np.unique(row_hashes(zeros))) == 1
    assert row_hashes(np.array([[1, 2]], np.float32))[0] != row_hashes(np.array([[2, 1]], np.float32))[0]


def test_row_hashes_know_a_row_again_after_float32_and_text(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(3, 2, (2000, 12)), columns=list("abcdefghijkl"))
    spec = fit_spec(as_frame(table))
    seen = row_hashes(spec.apply(as_frame(table)))
    table.to_csv(tmp_path / "whole.csv", index=False)
    table.to_csv(tmp_path / "nine.csv", index=False, float_format="%.9g")
    for form in (
        as_frame(table.astype(np.float32)),
        read_table(tmp_path / "whole.csv"),
        read_table(tmp_path / "nine.csv"),
    ):
        assert np.mean(row_hashes(spec.apply(form)) == seen) >= 0.98
    other = table + 0.02 * np.random.default_rng(1).normal(size=table.shape)  # a hundredth of the deviation
    assert not np.isin(row_hashes(spec.apply(as_frame(other))), seen).any()


def test_row_hashes_take_the_largest_features():
    hashes = row_hashes(np.array([[1e6, -1e6], [-1e6, 1e6], [1e6, -1e6]], np.float32))
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_sixth_word_makes_text_of_truth_values():
    words = ["true", "false", "True", "False", "TRUE", "maybe"]
    table = pd.DataFrame({"said": words * 4, "n": np.arange(24)})
    assert [column.kind for column in fit_spec(as_frame(table)).columns] == ["category", "number"]
    every = pd.DataFrame({"said": ["true", "false", "True", "False", "TRUE", "FALSE", None] * 4, "n": np.arange(28)})
    assert [column.kind for column in fit_spec(as_frame(every)).columns] == ["boolean", "number"]


def test_row_hashes_stay_what_they_are():
    # Runs store hashes, so a change of the function would make every run forget its rows. SplitMix64 in plain Python:
    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    row = np.array([[1.5, -2.0, 0.0]], np.float32)
    bits = [round(cell * 1024) % 2**64 for cell in (1.5, -2.0, 0.0)]
    expected = mix(sum(mix(b ^ mix(j + 1)) for j, b in enumerate(bits)) % 2**64)
    assert int(row_hashes(row)[0]) == expected


def test_fingerprints_tell_tables_apart():
    table = people(20)
    first = fingerprint(as_frame(table))
    assert first == fingerprint(as_frame(pl.from_pandas(table)))
    assert first == fingerprint(as_frame(table.astype({"age": float, "job": "category"})))
    assert len(first) == 32
    others = [table.rename(columns={"age": "years"}), table.iloc[::-1], table[table.columns[::-1]], table.iloc[1:]]
    others += [table.assign(age=table["age"] + 1), table.assign(job="x"), table.assign(gain=0.0)]
    assert len({first, *(fingerprint(as_frame(other)) for other in others)}) == 8
    assert fingerprint(as_frame([["ab", "c"]])) != fingerprint(as_frame([["a", "bc"]]))
