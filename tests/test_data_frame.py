"""Whatever a user passes as a table becomes one frame, or a clear error."""

import datetime
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from vicreg.data import Frame, as_frame
from vicreg.data.cells import family, moments, numbers, texts


def test_a_numeric_array_is_used_as_it_is():
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    frame = as_frame(X)
    assert frame.values is X
    assert (frame.names, frame.n_rows, frame.named) == (("x0", "x1"), 3, False)
    assert np.shares_memory(frame.column("x1"), X)
    assert as_frame(frame) is frame


def test_data_frames_keep_their_names_and_lose_their_index():
    frame = as_frame(pd.DataFrame({1: [1, 2], "b": ["x", None]}, index=["p", "q"]))
    assert frame.names == ("1", "b")
    assert frame.named
    assert frame.column("b").to_pylist() == ["x", None]


@pytest.mark.parametrize("form", ["matrix", "table"])
def test_columns_and_rows_can_be_chosen(form):
    X = np.arange(12).reshape(4, 3)
    frame = as_frame(X) if form == "matrix" else as_frame(pd.DataFrame(X, columns=["x0", "x1", "x2"]))
    as_lists = lambda f: [list(numbers(f.column(name), name)) for name in f.names]  # noqa: E731
    assert as_lists(frame.select(["x2", "x0"])) == [[2, 5, 8, 11], [0, 3, 6, 9]]
    assert frame.drop(["x0"]).names == ("x1", "x2")
    assert as_lists(frame.take(np.array([3, 0]))) == [[9, 0], [10, 1], [11, 2]]
    assert frame.select(frame.names).names == frame.names
    with pytest.raises(ValueError, match=r"a column must be one of 'x0', 'x1', 'x2'; got 'y'\."):
        frame.drop(["y"])
    with pytest.raises(ValueError, match="must keep at least one column"):
        frame.drop(["x0", "x1", "x2"])


SUPPORTED = [
    (pl.DataFrame({"a": [1, None], "b": ["x", "y"]}), {"a": "number", "b": "text"}),
    (pl.DataFrame({"a": ["x", "y"]}, schema={"a": pl.Categorical}), {"a": "level"}),
    (pa.table({"a": pa.array([1.0, 2.0], pa.float16())}), {"a": "number"}),
    (pd.DataFrame({"a": pd.Series([1, 2], dtype="category")}), {"a": "level"}),
    (pd.DataFrame({"a": pd.Series([pd.Timestamp("2020")] * 2, dtype="category")}), {"a": "date"}),
    (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), {"a": "number"}),
    (pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="D")}), {"a": "text"}),
    (pd.DataFrame({"a": pd.Series([True, None], dtype=object)}), {"a": "boolean"}),
    (pd.DataFrame({"a": [datetime.timedelta(days=1)] * 2}), {"a": "number"}),
    ([[1, "a"], [2, None]], {"x0": "number", "x1": "text"}),
    ([[1, 2.5], [3, 4]], {"x0": "number", "x1": "number"}),
    (np.array([["2020-01-01"], ["NaT"]], dtype="datetime64[D]"), {"x0": "date"}),
    (np.array([["a"], ["b"]]), {"x0": "text"}),
    (np.array([[b"a"], [b"b"]]), {"x0": "text"}),
    (np.zeros((2, 1), np.longdouble), {"x0": "number"}),
    (pd.DataFrame({"a": [None, None]}), {"a": "empty"}),
]


@pytest.mark.parametrize(("X", "families"), SUPPORTED)
def test_what_a_column_holds(X, families):
    frame = as_frame(X)
    assert {name: family(frame.column(name), name) for name in frame.names} == families


def test_masked_cells_are_gaps():
    frame = as_frame(np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]]))
    np.testing.assert_array_equal(frame.values, [[1, np.nan], [3, 4]])


def test_mixed_objects_become_text_with_equal_numbers_equal():
    objects = pd.DataFrame({"a": [1, 1.0, "1", True, None, pd.NA, datetime.date(2020, 1, 2)]}, dtype=object)
    assert as_frame(objects).column("a").to_pylist() == ["1", "1", "1", "true", None, None, "2020-01-02"]


BAD = [
    (np.arange(3.0), ValueError, "Expected 2D array, got 1D array instead. Reshape your data"),
    (pd.Series([1, 2]), ValueError, "Expected 2D array, got 1D array instead"),
    (pl.Series([1, 2]), ValueError, "Expected 2D array, got 1D array instead"),
    (5.0, ValueError, "Expected 2D array, got scalar array instead"),
    (np.zeros((2, 2, 2)), ValueError, "Found array with dim 3"),
    (np.zeros((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required\."),
    (np.zeros((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required\."),
    (pd.DataFrame(index=[1, 2]), ValueError, r"0 feature\(s\) \(shape=\(2, 0\)\)"),
    (np.zeros((2, 2)) + 1j, ValueError, "Complex data not supported"),
    (pd.DataFrame({"a": [1j, 2]}), ValueError, "Complex data not supported"),
    (np.array([[1j, "a"]], dtype=object), ValueError, "Complex data not supported"),
    (sparse.eye_array(3).tocsr(), TypeError, "a sparse matrix, which is not supported"),
    (np.array([[1, {"a": 1}], [2, 3]], dtype=object), TypeError, "argument must be a string or a number"),
    (pd.DataFrame({"a": [[1], [2]]}), TypeError, r"column 'a' must hold numbers, text, dates or booleans; got \[1\]"),
    (pd.DataFrame({"a": [{"b": 1}]}), TypeError, "column 'a' must hold numbers"),
    (pl.DataFrame({"a": [[1]]}), TypeError, "column 'a' must hold numbers"),
    (pa.table({"a": [b"x"]}), TypeError, "column 'a' must hold numbers"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "column names must be unique; got 'a' more than once"),
    (pd.DataFrame([[1, 2]], columns=[1, "1"]), ValueError, "column names must be unique; got '1' more than once"),
    ([[1, 2], [3]], ValueError, "X must have rows of equal length"),
    ("table.csv", TypeError, "A file is read with vicreg.data.read_table"),
    (Path("table.csv"), TypeError, "A file is read with vicreg.data.read_table"),
]


@pytest.mark.parametrize(("X", "error", "match"), BAD)
def test_bad_tables_are_refused(X, error, match):
    with pytest.raises(error, match=match):
        as_frame(X)


def test_half_a_surrogate_pair_is_refused_in_names_and_escaped_in_cells():
    table = pd.DataFrame([[1, 2]], columns=pd.Index(["a\udc80", "b"], dtype=object))
    with pytest.raises(ValueError, match=r"column names must be whole Unicode text; got 'a\\udc80'. Rename them"):
        as_frame(table)
    cells = np.array([["a\udc80"], ["b"]], dtype=object)
    assert as_frame(cells).column("x0").to_pylist() == ["a\\udc80", "b"]


def test_labels_of_any_kind_and_the_rows_that_have_one():
    table = {
        "whole": pa.array([3, None, 5, 3]),
        "real": pa.array([0.5, float("nan"), None, 2.0]),
        "word": ["a", "", " NA", "none"],
        "level": pa.array(["x", None, "y", "x"]).dictionary_encode(),
        "flag": [True, False, None, True],
        "day": pa.array([datetime.date(2020, 1, 1), None, None, datetime.date(2021, 1, 1)]),
    }
    frame = as_frame(pa.table(table))
    found = {name: tuple(part.tolist() for part in frame.labels(name)) for name in frame.names}
    assert found == {
        "whole": ([3, 5, 3], [0, 2, 3]),
        "real": ([0.5, 2.0], [0, 3]),
        "word": (["a", "none"], [0, 3]),
        "level": (["x", "y", "x"], [0, 2, 3]),
        "flag": ([True, False, True], [0, 1, 3]),
        "day": (["2020-01-01", "2021-01-01"], [0, 3]),
    }
    assert frame.labels("word")[0].dtype.kind == "U"
    assert frame.labels("whole")[0].dtype == np.int64


def test_bad_labels_are_refused():
    frame = as_frame(pd.DataFrame({"gap": [None, None], "inf": [1.0, np.inf], "long": ["a", "b" * 201]}))
    with pytest.raises(ValueError, match="label column 'gap' must hold at least one label; got gaps alone"):
        frame.labels("gap")
    with pytest.raises(ValueError, match="label column 'inf' must hold finite numbers; got infinity"):
        frame.labels("inf")
    with pytest.raises(ValueError, match="label column 'long' must hold classes of at most 200 characters"):
        frame.labels("long")
    with pytest.raises(ValueError, match="a column must be one of"):
        frame.labels("y")


def test_moments_agree_with_datetime():
    days = ["2020-02-29", "1969-12-31 23:59:59.5", "2021-01-01T10:00:00"]
    expected = [datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp() for day in days]
    ticks, gap = moments(as_frame([[day] for day in days]).column("x0"), "x0")
    np.testing.assert_allclose(ticks / 1e6, expected)
    assert not gap.any()
    zoned, _ = moments(as_frame([["2020-01-01T10:00:00+02:00"]]).column("x0"), "x0")
    assert zoned[0] == datetime.datetime(2020, 1, 1, 8, tzinfo=datetime.UTC).timestamp() * 1e6
    slashed, _ = moments(as_frame([["31/12/2020"]]).column("x0"), "x0", "%d/%m/%Y")
    assert slashed[0] == datetime.datetime(2020, 12, 31, tzinfo=datetime.UTC).timestamp() * 1e6


def test_numbers_and_times_as_floats():
    frame = as_frame(
        pa.table(
            {
                "text": [" 1.5", "+2", "n/a"],
                "span": pa.array([1500, None, 0], pa.duration("ms")),
                "time": pa.array([datetime.time(0, 1), None, datetime.time(1)]),
                "flag": [True, False, None],
                "cash": pa.array(["1.50", None, "2.00"]).cast(pa.decimal128(5, 2)),
            }
        )
    )
    found = {name: numbers(frame.column(name), name).tolist() for name in frame.names}
    expected = {
        "text": [1.5, 2, np.nan],
        "span": [1.5, np.nan, 0],
        "time": [60, np.nan, 3600],
        "flag": [1, 0, np.nan],
        "cash": [1.5, np.nan, 2],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5))
def test_one_text_for_a_number_however_it_is_stored(values):
    forms = [np.array(values), np.array(values, float), np.array(values, np.float32)]
    forms += [as_frame([[str(v)] for v in values]).column("x0")]
    forms += [as_frame(pd.DataFrame({"a": pd.Series(values, dtype="category")})).column("a")]
    forms += [as_frame(pd.DataFrame({"a": pd.Series(values, dtype=object)})).column("a")]
    assert all(texts(form, "a").to_pylist() == [str(v) for v in values] for form in forms)


OBJECTS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.datetimes(),
    st.decimals(), st.complex_numbers(), st.binary(max_size=3), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)  # fmt: skip


@given(st.lists(st.tuples(OBJECTS, OBJECTS), min_size=1, max_size=5))
def test_any_objects_make_a_frame_or_an_error_of_ours(rows):
    X = np.empty((len(rows), 2), dtype=object)
    for i, row in enumerate(rows):
        X[i, 0], X[i, 1] = row
    try:
        assert isinstance(as_frame(X), Frame)
    except (TypeError, ValueError) as error:
        assert " must " in str(error)


def test_pandas_is_found_only_if_the_user_imported_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "pandas")
    assert as_frame([[1.0]]).n_rows == 1
    assert "pandas" not in sys.modules
