"""Tables from files: every format, and every way in which a file can be bad."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather, parquet

from vicreg.data import SUFFIXES, Frame, as_frame, fingerprint, read_table, source_name
from vicreg.data.cells import family

TABLE = pd.DataFrame(
    {
        "age": [31.5, None, 44.0],
        "city": ["Bonn", "Lyon, Rhône", None],
        "born": pd.to_datetime(["1990-01-31", None, "1985-06-01"]),
        "paid": [True, False, True],
        "n": [1, 2, 3],
    }
)


def write(folder, suffix):
    path = folder / f"table{suffix}"
    if suffix.startswith((".csv", ".tsv")):
        TABLE.to_csv(path, index=False, sep="\t" if "tsv" in suffix else ",")
    elif suffix == ".parquet":
        TABLE.to_parquet(path)
    elif suffix == ".feather":
        feather.write_feather(TABLE, path)
    elif suffix == ".npy":
        np.save(path, TABLE[["age", "n"]].to_numpy())
    else:
        np.savez(path, X=TABLE[["age", "n"]].to_numpy(), y=TABLE["n"], names=np.array(["age", "n"]))
    return path


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if not s.startswith(".np")])
def test_one_table_in_every_format(tmp_path, suffix):
    frame = read_table(write(tmp_path, suffix))
    assert frame.names == tuple(TABLE.columns)
    assert [family(frame.column(n), n) for n in frame.names] == ["number", "text", "date", "boolean", "number"]
    assert fingerprint(frame) == fingerprint(as_frame(TABLE))


def test_arrays(tmp_path):
    np.testing.assert_array_equal(read_table(write(tmp_path, ".npy")).values, TABLE[["age", "n"]].to_numpy())
    frame = read_table(write(tmp_path, ".npz"))
    assert frame.names == ("x0", "x1", "y")
    assert frame.labels("y")[0].tolist() == [1, 2, 3]
    np.savez(tmp_path / "one.npz", anything=np.eye(2))
    np.testing.assert_array_equal(read_table(tmp_path / "one.npz").values, np.eye(2))
    np.savez(tmp_path / "two.npz", data=np.eye(2), other=np.eye(3))
    np.testing.assert_array_equal(read_table(tmp_path / "two.npz").values, np.eye(2))


def test_a_folder_of_parts_is_one_table(tmp_path):
    parquet.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "part-0.parquet")
    parquet.write_table(pa.table({"b": ["z"], "a": [0.5]}), tmp_path / "part-1.parquet")
    (tmp_path / "_SUCCESS").touch()
    frame = read_table(tmp_path)
    assert frame.column("a").to_pylist() == [1, 2, 0.5]
    assert frame.column("b").to_pylist() == ["x", "y", "z"]
    parquet.write_table(pa.table({"c": ["z"]}), tmp_path / "part-2.parquet")
    with pytest.raises(ValueError, match=r"part-2.parquet' must have the columns of the first part \('a', 'b'\)"):
        read_table(tmp_path)


def test_a_nameless_pandas_index_is_no_column(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=["p", "q"]).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").names == ("a",)


def test_a_late_cell_decides_on_a_type_too(tmp_path):
    # pyarrow alone settles types on the first megabyte, and fails on what comes later.
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1234567,12345\n" * 100_000 + "0.5,word\n")
    frame = read_table(path)
    assert frame.n_rows == 100_001
    assert [family(frame.column(name), name) for name in "ab"] == ["number", "text"]


def test_text_can_be_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("code,n\n007,1\n042,2\n")
    assert read_table(path).column("code").to_pylist() == [7, 42]
    assert read_table(path, text=["code", "absent"]).column("code").to_pylist() == ["007", "042"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["00001", "2"], ["00001", "2"]),
        (["12345678901234567890123", "1"], ["12345678901234567890123", "1"]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["+1", "2"], ["+1", "2"]),
        (["-0", "2"], ["-0", "2"]),
        (["0x1F", "2"], ["0x1F", "2"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["NA", "2"], ["NA", "2"]),
        (["", "2"], ["", "2"]),
        ([" 1", "2"], [" 1", "2"]),
        (["true", "false"], ["true", "false"]),
        (["1", "20"], [1, 20]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_exact_columns_lose_nothing(tmp_path, suffix, cells, expected):
    path = tmp_path / f"t{suffix}"
    path.write_text("\n".join((",".join(row) if suffix == ".csv" else "\t".join(row)) for row in
                              [("id", "n"), *((cell, "1") for cell in cells)]) + "\n")  # fmt: skip
    assert read_table(path, exact=["id", "absent"]).column("id").to_pylist() == expected


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sales.2023.csv", "sales.2023"),
        ("a/b/sales.2024.CSV.GZ", "sales.2024"),
        ("folder.v2", "folder.v2"),
        ("parts.parquet/", "parts"),
        ("x/../y.npy", "y"),
        (".csv", "table"),
        ("/", "table"),
    ],
)
def test_what_a_source_is_called(path, name):
    assert source_name(path) == name


def test_the_current_folder_has_a_name_and_links_keep_theirs(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    monkeypatch.chdir(tmp_path / "parts")
    assert source_name(".") == "parts"
    (tmp_path / "link.csv").symlink_to(tmp_path / "v3.csv")
    assert source_name(tmp_path / "link.csv") == "link"


def test_markers_of_gaps_keep_a_column_numeric(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,?\n?,"x\ny"\nNA,z\n')
    frame = read_table(path)
    assert frame.column("a").to_pylist() == [1, None, None]
    assert frame.column("b").to_pylist() == ["?", "x\ny", "z"]


BAD = [
    ("t.csv", b"", "must hold a table; got an empty file"),
    ("t.csv", b"\n \n", "must hold a table; got an empty file"),
    ("t.csv", b"a,b\n", "must hold at least one row; got the header alone"),
    ("t.csv", b"a;b\n1;2\n", "must have columns divided by commas; got semicolons in the header 'a;b'"),
    ("t.csv", b"a\tb\n1\t2\n", "must have columns divided by commas; got tabs in the header"),
    ("t.tsv", b"a,b\n1,2\n", "must have columns divided by tabs; got commas in the header"),
    ("t.csv", b"a,b\n1,2\n1\n", "must be a readable .csv file; got 'CSV parse error: Expected 2 columns, got 1"),
    ("t.csv", b"a,a\n1,2\n", "column names must be unique; got 'a' more than once"),
    ("t.csv", "a,b\nä,1\n".encode("latin1"), "must be encoded in UTF-8; got another encoding. Save it as UTF-8"),
    ("t.csv", "ä,b\na,1\n".encode("latin1"), "must be encoded in UTF-8"),
    ("t.csv", "a,b\nä,1\n".encode("utf16"), "must be encoded in UTF-8"),
    ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-12], "must be a readable .csv.gz file"),
    ("t.tsv.gz", b"a\tb\n1\t2\n", "must be a readable .tsv.gz file"),
    ("t.parquet", b"PAR1 no more", "must be a readable .parquet file"),
    ("t.feather", b"no feather", "must be a readable .feather file"),
    ("t.npy", b"\x93NUMPY\x01\x00", "must be a readable .npy file"),
    ("t.npz", b"PK\x03\x04", "must be a readable .npz file"),
    ("t.xlsx", b"x", r"must end in one of .csv, .tsv, .csv.gz, .*; got '.xlsx'"),
    ("t", b"x", r"must end in one of .csv, .tsv, .csv.gz, .*; got ''"),
]


@pytest.mark.parametrize(("name", "content", "match"), BAD)
def test_bad_files_are_refused(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        read_table(path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.csv' must exist; got no such file or folder\."):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"must hold parts that end in .parquet; got none\."):
        read_table(tmp_path)


def test_bad_arrays_are_refused(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([[{}]], dtype=object))
    with pytest.raises(ValueError, match=r"must be a readable .npy file; got 'Object arrays cannot be loaded"):
        read_table(tmp_path / "pickle.npy")
    np.save(tmp_path / "flat.npy", np.arange(3))
    with pytest.raises(ValueError, match="must have two dimensions"):
        read_table(tmp_path / "flat.npy")
    np.savez(tmp_path / "views.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(
        ValueError, match=r"one with two axes that is called X, x or data; got 'a' \(2, 2\), 'b' \(2, 2\)"
    ):
        read_table(tmp_path / "views.npz")
    np.savez(tmp_path / "name.npz", X=np.eye(2), x1=np.arange(2))
    with pytest.raises(ValueError, match="names of arrays must differ from x0, x1"):
        read_table(tmp_path / "name.npz")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="must hold an array; got none"):
        read_table(tmp_path / "none.npz")


def test_lists_in_parquet_are_refused(tmp_path):
    parquet.write_table(pa.table({"a": [[1]]}), tmp_path / "t.parquet")
    with pytest.raises(TypeError, match="column 'a' must hold numbers, text, dates or booleans"):
        read_table(tmp_path / "t.parquet")
    parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"must hold rows and columns; got shape \(0, 1\)"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_a_frame_or_an_error_of_ours(tmp_path, suffix):
    whole = write(tmp_path, suffix).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        frame_or_error(path)


CSV_TEXT = st.text(st.sampled_from('ab,;\t\n\r"0123456789.-+eE:TZ ?é\x00\ufeff'), max_size=60)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.binary(max_size=40), CSV_TEXT.map(str.encode), CSV_TEXT.map(lambda t: ("a,b\n" + t).encode()))
)
def test_any_bytes_are_a_frame_or_an_error_of_ours(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    frame_or_error(path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".parquet", ".feather", ".npy", ".npz"]), data=st.data())
def test_damaged_bytes_are_a_frame_or_an_error_of_ours(tmp_path, suffix, data):
    content = bytearray(write(tmp_path, suffix).read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    frame_or_error(path)


def frame_or_error(path):
    try:
        assert isinstance(read_table(path), Frame)
    except (ValueError, TypeError) as error:
        assert " must " in str(error)
