"""vicreg diagnose: anybody's embeddings, from a file, in words."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vicreg.data import as_frame
from vicreg.workflows import diagnosing


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def said(capsys, *words):
    assert run("diagnose", *words) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_healthy_array(capsys):
    np.save("z.npy", normal(500, 8).astype(np.float32))
    text = said(capsys, "z.npy")
    assert "500 rows of 8 dimensions." in text
    assert "No sign of a collapse." in text
    line = next(line for line in text.splitlines() if "effective rank" in line)
    assert float(line.split()[2]) == pytest.approx(8, abs=0.1)
    assert "of at most 8" in line


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.ones((20, 3)), "Collapsed: all rows are the same."),
        (np.zeros((20, 3)), "Collapsed: all rows are the same."),
        (normal(60, 4) * 0.01 + 1, "Norm collapse, or a large offset: 99.99% of the squared length is the same"),
        (normal(60, 6) * [1, 1, 1, 1, 0, 0], "Dead dimensions: 2 of 6 are constant"),
        (normal(60, 1) + 0.1 * normal(60, 9, seed=1), "Informational collapse: 9 dimensions vary along 1.0 directions"),
        (normal(5, 9), "With 5 rows of 9 dimensions no rank can be above 4"),
    ],
)
def test_what_is_wrong_is_said(z, words, capsys):
    np.save("z.npy", z)
    text = said(capsys, "z.npy")
    assert words in text
    assert "No sign" not in text


def test_our_columns_of_a_table_are_read_or_all_numbers(capsys):
    frame = pd.DataFrame({"id": range(50), "name": ["a"] * 50, "vicreg0": normal(50), "vicreg1": normal(50, seed=1)})
    frame.to_parquet("with.parquet")
    text = said(capsys, "with.parquet")
    assert "50 rows of 2 dimensions." in text
    assert "Columns that are not read: 'id', 'name'." in text
    frame.drop(columns=["vicreg1"]).rename(columns={"vicreg0": "x"}).to_csv("without.csv", index=False)
    text = said(capsys, "without.csv")
    assert "50 rows of 2 dimensions." in text
    assert "not read: 'name'." in text


def test_rows_with_gaps_are_left_out_and_long_files_sampled(capsys, monkeypatch):
    monkeypatch.setattr(diagnosing, "MOST_ROWS", 30)
    frame = pd.DataFrame(normal(60, 2), columns=["vicreg0", "vicreg1"])
    frame.iloc[4, 0], frame.iloc[7, 1], frame.iloc[9, 1] = np.nan, np.inf, -np.inf
    frame.to_parquet("z.parquet")
    text = said(capsys, "z.parquet")
    assert "60 rows of 2 dimensions; 30 of them read, drawn at random." in text
    assert "3 rows with gaps or infinities are left out." in text
    assert said(capsys, "z.parquet") == text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: None, "must exist; got no such file"),
        (lambda: np.save("z.npy", np.ones((2, 2, 2))), "got shape (2, 2, 2)"),
        (lambda: np.save("z.npy", np.array([["a", "b"]] * 3)), "must have a column of numbers; got 'x0', 'x1'"),
        (lambda: np.save("z.npy", np.full((3, 2), np.nan)), "must hold at least 2 rows without gaps; got 0"),
        (lambda: np.save("z.npy", np.ones((1, 2))), "must hold at least 2 rows without gaps; got 1"),
        (lambda: Path("z.npy").write_bytes(b"nonsense"), "must be a readable .npy file"),
    ],
)
def test_messages(make, words, capsys):
    make()
    assert run("diagnose", "z.npy") == 2
    assert words in capsys.readouterr().err


def test_readings_of_known_embeddings():
    z = normal(800, 10) * [3, *[1] * 9] + 5
    found = diagnosing.diagnosis(as_frame(z)).readings
    covariance = np.cov(z, rowvar=False)
    variances = np.diag(covariance)
    assert found["deviation"] == pytest.approx(z.std(axis=0, ddof=1).mean())
    off = ((covariance**2).sum() - (variances**2).sum()) / 10
    assert found["covariance above noise"] + found["noise floor"] == pytest.approx(off)
    assert found["noise floor"] == pytest.approx((variances.sum() ** 2 - (variances**2).sum()) / (10 * 799))
    assert found["in common"] == pytest.approx((z.mean(axis=0) ** 2).sum() / (z**2).sum(axis=1).mean())
    values = np.linalg.svd(z - z.mean(axis=0), compute_uv=False)
    share = values / values.sum()
    assert found["effective rank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()))


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, 5e-324]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(z=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=numbers))
def test_whatever_numbers_a_file_holds(z):
    """It reads them, in words that hold no traceback and no NaN where there is a number to tell; or says why not."""
    try:
        found = diagnosing.diagnosis(as_frame(z))
    except ValueError as refused:
        assert "must" in str(refused)
        return
    most = min(found.read - 1, len(found.columns))
    assert 0 <= found.readings["effective rank"] <= most * (1 + 1e-6)
    assert 0 <= found.readings["participation ratio"] <= most * (1 + 1e-6)
    assert 0 <= found.readings["in common"] <= 1 + 1e-9
    assert 0 <= found.readings["dead dimensions"] <= len(found.columns)
    assert 0 <= found.readings["correlation"] <= 1 + 1e-9
    assert -9 <= found.readings["uniformity"] <= 1e-6
    assert len(diagnosing.in_words(found)) > 9


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from(["npy", "parquet"]), whole=st.booleans())
def test_whatever_bytes_a_file_holds(content, suffix, whole, tmp_path):
    path = tmp_path / f"z.{suffix}"
    if whole and suffix == "npy":
        np.save(path, normal(4, 3))
        content = path.read_bytes()[: -1 - len(content) % 90] + content
    path.write_bytes(content)
    try:
        diagnosing.diagnose(path, say=lambda _: None)
    except (ValueError, TypeError) as refused:
        assert "must" in str(refused)
