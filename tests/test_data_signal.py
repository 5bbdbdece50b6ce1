"""Collections of signals: folders, Parquet, arrays, long tables; their scale, their bad entries, and memory."""

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from test_data_signal_decode import encoded, tones

from vicreg.data.corrupt import Corrupt, readable
from vicreg.data.frame import as_frame
from vicreg.data.kinds import kind_of
from vicreg.data.signal import fingerprint_signals, is_signals, read_signals
from vicreg.data.signal_folder import SoundFiles
from vicreg.data.signal_given import GivenSignals
from vicreg.data.signal_long import signals_of_long_table
from vicreg.data.signal_source import CorruptSignal
from vicreg.data.signal_spec import SignalSpec, fit_signal_spec
from vicreg.data.signal_subset import SignalSubset, gathered, length_at, some_signals


def fill(folder, names, time=800, rate=8000, channels=1):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        form = {".flac": "FLAC", ".ogg": "OGG"}.get(path.suffix.lower(), "WAV")
        path.write_bytes(encoded(tones(time, rate, channels), rate, form))


# Folders


def test_a_tree_in_the_order_of_its_paths(tmp_path):
    names = ["dog/b.WAV", "cat/tabby/1.flac", "cat/2.wav", "dog/a b.ogg"]
    fill(tmp_path, [*names, ".hidden/a.wav", "cat/._2.wav", "cat/notes.txt"])
    source = read_signals(tmp_path)
    assert source.names == sorted(names)
    assert source.labels.tolist() == ["cat", "cat", "dog", "dog"]
    assert source.groups.tolist() == [0, 1, 2, 2]
    assert (source.rate, source.channels, source.sound) == (8000, 1, True)
    for index in range(4):
        np.testing.assert_allclose(source.read(index), tones(800), atol=0.02)
        assert source.length(index) == 800
    np.testing.assert_allclose(source.read_crop(1, 700, 200), tones(800)[:, 700:], atol=1e-4)
    one = read_signals(tmp_path / "cat" / "2.wav")
    assert (one.names, one.labels) == (["2.wav"], None)


def test_one_rate_and_number_of_channels(tmp_path):
    fill(tmp_path, ["a.wav", "b.wav"], 800, 8000)
    fill(tmp_path, ["c.wav"], 1600, 16000, channels=2)
    source = read_signals(tmp_path)
    assert [source.length(index) for index in range(3)] == [800, 800, 800]
    assert source.read(2).shape == (1, 800)
    other = read_signals(tmp_path, rate=4000, channels=2)
    assert [other.read(index).shape for index in range(3)] == [(2, 400)] * 3
    with pytest.raises(ValueError, match="rate of recordings must be a whole number; got 8000.5"):
        read_signals(tmp_path, rate=8000.5)
    with pytest.raises(ValueError, match="channels must be at least 1; got -1"):
        read_signals(tmp_path, channels=-1)


def test_bad_recordings_are_counted_and_passed_over(tmp_path):
    fill(tmp_path, ["a.wav", "d.wav"])
    fill(tmp_path, ["e.wav"], time=1)
    (tmp_path / "b.wav").write_bytes(b"")
    (tmp_path / "c.wav").write_bytes(b"nonsense")
    source = read_signals(tmp_path)
    ledger = Corrupt(0.7, of=5)
    found = [readable(source, index, lambda opened: opened.length, ledger) for index in range(5)]
    assert found == [(0, 800), (3, 800), (3, 800), (3, 800), (0, 800)]
    assert ledger.names == ["b.wav", "c.wav", "e.wav"]
    array, lengths, rows = gathered(source, 10**6, Corrupt(0.7, of=5), workers=2)
    assert (array.shape, lengths.tolist(), rows.tolist()) == ((2, 1, 800), [800, 800], [0, 3])
    with pytest.raises(ValueError, match=r"must be at most 0.05 of all \(--max-corrupt\)"):
        gathered(source, 10**6, Corrupt(of=5), workers=2)


def test_nothing_that_can_be_read(tmp_path):
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(CorruptSignal, match="the signal 'b.wav' must be one of wav, .*; got an empty file"):
        read_signals(tmp_path)
    source = read_signals(tmp_path, rate=8000)
    with pytest.raises(ValueError, match="signals must be readable, one at least; got none that is"):
        readable(source, 0, lambda opened: opened.length, Corrupt(1.0, of=1))
    with pytest.raises(CorruptSignal, match=r"'b\.wav'"):
        fit_signal_spec(SignalSubset(GivenSignals([np.array([np.nan, 1.0])], names=["b.wav"]), np.array([0])))


def test_folders_without_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist; got no such file or folder"):
        read_signals(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"must hold recordings \(.wav, .*\); got 1 other files \(1 '.txt'\)"):
        read_signals(tmp_path)
    with pytest.raises(ValueError, match="must be a folder or end in .parquet, .npz, .npy or one of .wav"):
        read_signals(tmp_path / "a.txt")
    fill(tmp_path, ["a.wav"])
    with pytest.raises(ValueError, match="labels of a folder of recordings must be 'folder': the sub-folders; got 'x'"):
        read_signals(tmp_path, labels="x")
    with pytest.raises(ValueError, match="column of a folder of recordings must be left out; got 'x'"):
        read_signals(tmp_path, column="x")


# Parquet


def test_recordings_in_a_column(tmp_path):
    data = [encoded(tones(400), form="FLAC"), None, encoded(tones(600, 16000), 16000), b"junk"]
    cells = [None if one is None else {"bytes": one, "path": "x.wav"} for one in data]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"audio": cells, "name": ["w", "x", "y", "z"], "other": [b"a"] * 4}), path)
    source = read_signals(path, labels="name", rate=8000)
    assert is_signals(path)
    assert source.labels.tolist() == ["w", "x", "y", "z"]
    assert [source.length(index) for index in (0, 2)] == [400, 300]
    np.testing.assert_allclose(source.read(0), tones(400), atol=1e-4)
    with pytest.raises(CorruptSignal, match="the signal '1' must be readable; got no bytes in its row"):
        source.read(1)
    with pytest.raises(CorruptSignal, match="got bytes that begin b'junk'"):
        source.read(3)
    with pytest.raises(ValueError, match="must hold recordings .* in 'name'; got the columns 'audio'"):
        read_signals(path, column="name", channels=1)
    with pytest.raises(ValueError, match="have a column of labels 'nothing'"):
        read_signals(path, labels="nothing")
    assert len(fingerprint_signals(source)) == 32


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.int16()), pa.list_(pa.float64(), 40)])
def test_lists_of_numbers_in_a_column(tmp_path, kind):
    rows = [list(range(40)), list(range(10, 50))]
    parquet.write_table(pa.table({"x": pa.array(rows, kind), "y": [1, 0]}), tmp_path / "a.parquet")
    source = read_signals(tmp_path, labels="y", rate=100)
    assert is_signals(tmp_path)
    assert (source.rate, source.sound, source.labels.tolist()) == (100, False, [1, 0])
    assert source.read(1).tolist() == [rows[1]]


def test_lists_of_channels_gaps_and_faults(tmp_path):
    rows = [[[1.0] * 40, [2.0] * 40], None, [[1.0] * 40, [2.0]], [[1.0, None] * 20, [2.0] * 40]]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"series": rows, "short": [[1.0]] * 4}), path)
    source = read_signals(path)
    assert source.channels == 2
    assert source.read(0).tolist() == rows[0]
    for index, match in [
        (1, "'1' must be readable; got no list in its row"),
        (2, r"'2' must have channels of equal length; got \[1, 40\]"),
        (3, "'3' must hold finite numbers; got nan at sample 1 of channel 0"),
    ]:
        with pytest.raises(CorruptSignal, match=match):
            source.read(index)
    assert read_signals(path, column="series").channels == 2
    parquet.write_table(pa.table({"x": [[1.0]], "y": ["a"]}), path)
    assert not is_signals(path)
    with pytest.raises(ValueError, match="must have a column of signals .*; got the columns 'x', 'y'"):
        read_signals(path)
    parquet.write_table(pa.table({"a": [[1.0] * 40], "b": [[1.0] * 40]}), path)
    with pytest.raises(ValueError, match="must have one column of signals; got 'a', 'b'. Call the one"):
        read_signals(path)


# Arrays


def test_arrays_of_one_length(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 3, 20))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(5))
    source = read_signals(tmp_path / "a.npz", rate=50)
    assert is_signals(tmp_path / "a.npz")
    assert (len(source), source.channels, source.rate, source.sound) == (5, 3, 50, False)
    assert source.labels.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(source.read(2), x[2], rtol=1e-6)
    np.save(tmp_path / "b.npy", x[:, 0])
    flat = read_signals(tmp_path / "b.npy")
    assert (flat.channels, flat.rate) == (1, None)
    np.testing.assert_allclose(flat.read(2), x[2, :1], rtol=1e-6)
    before = fingerprint_signals(source)
    x[3, 1, 4] += 1
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(5))
    assert fingerprint_signals(read_signals(tmp_path / "a.npz")) != before
    source.read(2)[:] = 0  # nobody else's memory
    assert source.read(2).any()


def test_arrays_one_behind_the_other(tmp_path):
    wave = np.arange(-50, 50, dtype=np.int16) * 300
    path = tmp_path / "a.npz"
    np.savez(path, wave=wave, offset=np.array([0, 30, 31, 100]), sr=8000, digit=[7, 8, 9], speakers=["a", "b"])
    source = read_signals(path, labels="digit")
    assert is_signals(path)
    assert (len(source), source.rate, source.sound, source.labels.tolist()) == (3, 8000, True, [7, 8, 9])
    np.testing.assert_allclose(source.read(0)[0], wave[:30] / 2**15, rtol=1e-6)
    np.testing.assert_allclose(source.read_crop(2, 60, 50)[0], wave[91:] / 2**15, rtol=1e-6)
    with pytest.raises(CorruptSignal, match="the signal '1' must have 2 samples at least; got 1"):
        source.read(1)
    with pytest.raises(ValueError, match="must hold a class for each of 3 signals in 'speakers'"):
        read_signals(path, labels="speakers")
    found = gathered(source, 10**6, Corrupt(0.5, of=3), workers=1)
    assert found.lengths.tolist() == [30, 69]
    assert (found.array[0, 0, 30:] == 0).all()
    np.testing.assert_array_equal(found.array[1], source.read(2))
    assert gathered(source, 500, Corrupt(0.5, of=3), workers=1) is None
    np.savez(path, wave=wave, offset=np.array([0, 40, 30, 100]))
    with pytest.raises(ValueError, match="'offset' of the file .* must rise from 0 to the number of samples, 100"):
        read_signals(path)


def test_array_files_that_do_not_go(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, match in [
        ({"y": np.arange(5)}, "must hold signals as numbers of shape"),
        ({"a": np.zeros((3, 9)), "b": np.zeros((3, 9))}, "must hold one array of signals; got 'a', 'b'"),
        ({"x": np.zeros((3, 2, 1))}, "signals must have 2 samples at least; got one at most. Time is the last axis."),
    ]:
        np.savez(path, **arrays)
        assert is_signals(path) == ("x" in arrays)
        with pytest.raises(ValueError, match=match):
            read_signals(path)
    with pytest.raises(ValueError, match="channels of an array file must be left out; got 2"):
        read_signals(path, channels=2)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="must be a readable .npz file"):
        read_signals(path)
    np.save(tmp_path / "b.npy", np.array([None, "a"], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="must be a readable .npy file"):
        read_signals(tmp_path / "b.npy")
    np.save(tmp_path / "b.npy", np.zeros(5))
    with pytest.raises(
        ValueError, match=r"must hold numbers of shape \(n, time\) or \(n, channels, time\); got \(5,\)"
    ):
        read_signals(tmp_path / "b.npy")
    with pytest.raises(ValueError, match="labels of a .npy file must be left out; got 'y'"):
        read_signals(tmp_path / "b.npy", labels="y")


def test_pictures_and_tables_are_no_signals(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((5, 8, 8), np.uint8), y_train=np.arange(5))
    assert not is_signals(path)
    np.savez(path, X=np.zeros((5, 8)), y=np.arange(5))
    assert not is_signals(path)
    np.savez(path, X=np.zeros((5, 8)), rate=100)
    assert is_signals(path)


def test_given_signals():
    source = GivenSignals([np.zeros((2, 5)), np.ones((2, 7), np.float16)], labels=np.array([1, 0]))
    assert [source.read(index).shape for index in (0, 1)] == [(2, 5), (2, 7)]
    sound = GivenSignals(np.array([[-(2**15), 0, 2**14]], np.int16), rate=16000)
    assert sound.read(0).tolist() == [[-1, 0, 0.5]]
    assert GivenSignals(np.array([[0, 128, 192]], np.uint8), sound=True).read(0).tolist() == [[-1, 0, 0.5]]
    assert GivenSignals(np.array([[3, 4]], np.int16), rate=16000, sound=False).read(0).tolist() == [[3, 4]]
    with pytest.raises(CorruptSignal, match="must hold finite numbers; got inf at sample 1 of channel 0"):
        GivenSignals([[0.0, 1e300]]).read(0)
    for signals, error, match in [
        ([], ValueError, "the signals must be at least one; got none"),
        ([np.zeros(5), np.zeros((2, 5))], ValueError, r"signals must have as many channels each; got \[1, 2\]"),
        (np.zeros(5), ValueError, r"a signal must have shape .*; got \(\). One signal goes into a list"),
        (["abc"], TypeError, "signals must be real numbers; got <U3"),
        ([[1j, 2j]], TypeError, "signals must be real numbers; got complex128"),
    ]:
        with pytest.raises(error, match=match):
            GivenSignals(signals)
    with pytest.raises(ValueError, match="labels must be 2, one for each signal; got 3"):
        GivenSignals(np.zeros((2, 5)), labels=np.zeros(3))
    with pytest.raises(ValueError, match="rate must be a finite number above 0; got 0"):
        GivenSignals(np.zeros((2, 5)), rate=0)


# Long tables


def long_table(seed=0):
    """Three series of 5, 8 and 6 rows, shuffled."""
    rng = np.random.default_rng(seed)
    rows = [
        (name, 0.1 * t, t + 100 * k, -t)
        for k, (name, n) in enumerate([("b", 5), ("a", 8), ("007", 6)])
        for t in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["who", "t", "x", "y"])
    return frame, frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_long_tables(tmp_path, suffix):
    ordered, shuffled = long_table()
    shuffled["kind"] = shuffled["who"].map({"b": "u", "a": "v", "007": "u"})
    path = tmp_path / f"a{suffix}"
    shuffled.to_csv(path, index=False) if suffix == ".csv" else shuffled.to_parquet(path, index=False)
    source = read_signals(path, labels="kind", id="who", time="t", values=["y", "x"])
    assert source.names == list(dict.fromkeys(shuffled["who"]))
    assert (source.channels, source.rate, source.sound) == (2, 10.0, False)
    for index, name in enumerate(source.names):
        expected = ordered[ordered["who"] == name][["y", "x"]].to_numpy().T  # pandas' own way
        np.testing.assert_allclose(source.read(index), expected)
        assert source.labels[index] == {"a": "v"}.get(name, "u")
    assert signals_of_long_table(as_frame(ordered), "who", "t").channels == 2


def test_dates_are_times():
    start = datetime.datetime(2024, 1, 1)
    frame = pd.DataFrame(
        {"id": [1] * 4, "t": [start + datetime.timedelta(seconds=30 * k) for k in range(4)], "x": range(4)}
    )
    assert signals_of_long_table(as_frame(frame), "id", "t").rate == pytest.approx(1 / 30, rel=1e-8)


def test_gaps_and_uneven_steps_are_of_one_signal():
    _, frame = long_table()
    frame = frame[~((frame["who"] == "a") & (frame["x"] == 104))]
    frame.loc[(frame["who"] == "b") & (frame["x"] == 2), "y"] = np.nan
    source = signals_of_long_table(as_frame(frame), "who", "t")
    bad = {name: index for index, name in enumerate(source.names)}
    with pytest.raises(CorruptSignal, match="'a' must have even steps of 0.1 in 't'; got a step of 0.2 after 0.3"):
        source.read(bad["a"])
    with pytest.raises(CorruptSignal, match="'b' must hold finite numbers; got nan at sample 2 of channel 1"):
        source.read(bad["b"])
    assert source.read(bad["007"]).shape == (2, 6)


def test_gaps_are_gaps_whether_null_or_nan():
    columns = {"who": [1, 1, 2, 2], "t": [0.0, 1.0, 0.0, 1.0], "x": [1.0, 2.0, 3.0, 4.0]}
    nan = float("nan")
    for kind in ([nan, nan, 1.0, nan], [None, None, 1.0, None]):
        source = signals_of_long_table(as_frame(pa.table(columns | {"kind": kind})), "who", "t", labels="kind")
        assert source.labels.tolist() == [None, 1.0]
    for name, what in (("t", "times"), ("who", "ids")):
        gaps = as_frame(pa.table(columns | {name: [1.0, nan, 1.0, 2.0]}))
        with pytest.raises(ValueError, match=f"{what} in '{name}' must be there in every row; got 1 gaps"):
            signals_of_long_table(gaps, "who", "t")


def test_a_column_without_any_number_is_no_channel(tmp_path):
    path = tmp_path / "a.csv"
    long_table()[0].assign(note=None).to_csv(path, index=False)
    source = read_signals(path, id="who", time="t")
    assert (source.columns, source.read(0).shape) == (("x", "y"), (2, 5))
    with pytest.raises(TypeError, match="column 'note' must hold numbers; got empty"):
        read_signals(path, id="who", time="t", values=["x", "note"])


def test_long_tables_that_do_not_go(tmp_path):
    ordered, _ = long_table()

    def asked(frame, **changes):
        return signals_of_long_table(as_frame(frame), **({"id": "who", "time": "t"} | changes))

    for frame, changes, error, match in [
        (ordered, {"id": "whom"}, ValueError, "a long table must have the columns .*, without 'whom'"),
        (ordered.assign(who=None), {}, ValueError, "ids in 'who' must be there in every row; got 19 gaps"),
        (
            ordered.assign(t=0.5),
            {},
            ValueError,
            "times in 't' must differ within an id; got 16 repeated, as 0.5 of 'b'",
        ),
        (ordered.assign(t="x"), {}, TypeError, "times in 't' must be numbers or dates; got text"),
        (ordered.assign(t=np.inf), {}, ValueError, "times in 't' must be finite; got infinity"),
        (ordered, {"values": ["who2"]}, ValueError, "a long table must have the columns"),
        (ordered.assign(z="q"), {"values": ["z"]}, TypeError, "column 'z' must hold numbers; got text"),
        (ordered[["who", "t"]], {}, ValueError, "a long table must have a column of numbers besides its id and time"),
        (ordered, {"labels": "x"}, ValueError, "the label of 'b' in 'x' must be one; got 0 and 1"),
    ]:
        with pytest.raises(error, match=match):
            asked(frame, **changes)
    path = tmp_path / "a.csv"
    ordered.to_csv(path)
    with pytest.raises(ValueError, match="id and time must be given together, for a long table"):
        read_signals(path, id="who")
    with pytest.raises(ValueError, match="rate of a long table must be left out; got 5"):
        read_signals(path, id="who", time="t", rate=5)
    with pytest.raises(ValueError, match="values of signals without an id and a time must be left out"):
        read_signals(path, values=["x"])


# Scale


def test_the_scale_is_numpys_and_kept_in_json():
    x = np.random.default_rng(0).standard_normal((20, 3, 50)) * [[5.0], [0.01], [0.0]] + [[100.0], [0.0], [7.1]]
    source = GivenSignals(x, rate=20)
    spec = fit_signal_spec(source)
    np.testing.assert_allclose(spec.mean, x.mean((0, 2)), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(spec.std, [*x.std((0, 2))[:2], 1], rtol=1e-5)
    assert SignalSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    some = fit_signal_spec(source, [3, 4])
    np.testing.assert_allclose(some.mean, x[3:5].mean((0, 2)), rtol=1e-5, atol=1e-8)
    sound = fit_signal_spec(GivenSignals(np.full((3, 90), 9, np.int16), rate=8000))
    assert (sound.mean, sound.std, sound.rate) == ((0,), (1,), 8000)
    spec.check(source)
    with pytest.raises(ValueError, match="signals must have 3 channels; got 1"):
        spec.check(GivenSignals(x[:, 0]))
    with pytest.raises(ValueError, match="signals must have 20 samples a second; got 30. Read them at that rate"):
        spec.check(GivenSignals(x, rate=30))
    with pytest.raises(ValueError, match="signals must be series that are no sounds, as those of the fit; got sounds"):
        replace(spec, rate=None).check(GivenSignals(x, rate=8000))


def test_channels_of_a_long_table_keep_their_order():
    frame = as_frame(long_table()[0])
    spec = fit_signal_spec(SignalSubset(signals_of_long_table(frame, "who", "t"), np.array([0, 2])))
    assert SignalSpec.from_json(json.loads(json.dumps(spec.to_json()))).columns == ("x", "y")
    spec.check(GivenSignals(np.zeros((2, 2, 9))))
    with pytest.raises(ValueError, match="signals must have the channels 'x', 'y' in this order; got 'y', 'x'"):
        spec.check(signals_of_long_table(frame, "who", "t", ["y", "x"]))


@pytest.mark.parametrize(
    "changes", [{"std": [0.0]}, {"mean": [0, 0]}, {"channels": "x"}, {"rate": -1}, {"mean": [np.nan]}, {"extra": 1}]
)
def test_a_damaged_specification(changes):
    record = SignalSpec(1, 8000.0, True, (0.0,), (1.0,)).to_json() | changes
    with pytest.raises(ValueError, match="the specification of signals must"):
        SignalSpec.from_json(record)
    with pytest.raises(ValueError, match="the specification of signals must be one that to_json writes; got None"):
        SignalSpec.from_json(None)


def test_a_subset_is_its_rows():
    source = GivenSignals(np.arange(40.0).reshape(4, 10), labels=np.array(list("abcd")), rate=5)
    part = SignalSubset(source, np.array([3, 1]))
    assert (part.names, part.labels.tolist(), part.rate, len(part)) == (["3", "1"], ["d", "b"], 5, 2)
    np.testing.assert_array_equal(part.read(0), source.read(3))
    assert fingerprint_signals(part) == fingerprint_signals(source)


# What kind a path is


def test_kinds_of_signals(tmp_path):
    assert [kind_of(name) for name in ("dog.WAV", "dog.flac", "x.npy", "dogs.csv")] == [
        "signal",
        "signal",
        "table",
        "table",
    ]
    fill(tmp_path, ["deep/a/1.wav", "deep/a/2.ogg"])
    (tmp_path / "deep" / "a" / "cover.png").touch()
    assert kind_of(tmp_path / "deep") == kind_of(tmp_path / "deep" / "a") == "signal"
    (tmp_path / "deep" / "a" / "back.png").touch()
    (tmp_path / "deep" / "a" / "label.png").touch()
    assert kind_of(tmp_path / "deep") == "image"
    for name, array, kind in (("flat", np.zeros((9, 50)), "table"), ("deep", np.zeros((9, 3, 50)), "signal")):
        np.save(tmp_path / f"{name}.npy", array)
        assert kind_of(tmp_path / f"{name}.npy") == kind
        np.savez(tmp_path / f"{name}.npz", x=array)
        assert kind_of(tmp_path / f"{name}.npz") == kind
    (tmp_path / "damaged.npy").write_bytes(b"nothing")
    assert kind_of(tmp_path / "damaged.npy") == "table"
    data = encoded(tones(800), 8000, "FLAC")
    parquet.write_table(pa.table({"audio": [data], "y": [1]}), tmp_path / "pets.parquet")
    assert kind_of(tmp_path / "pets.parquet") == "signal"
    (tmp_path / "parts").mkdir()
    parquet.write_table(pa.table({"steps": [[0.5] * 40] * 3}), tmp_path / "parts" / "0.parquet")
    assert kind_of(tmp_path / "parts") == "signal"


# Recordings by their paths


def test_files_by_their_paths(tmp_path):
    fill(tmp_path, ["b.wav", "a.wav"])
    fill(tmp_path, ["c.wav"], 1600, 16000)
    source = SoundFiles([tmp_path / "c.wav", tmp_path / "a.wav", tmp_path / "b.wav"])
    assert (len(source), source.rate, dict(source.rates)) == (3, 8000, {8000: 2, 16000: 1})
    assert [source.length(row) for row in range(3)] == [800] * 3
    assert SoundFiles([tmp_path / "a.wav"], rate=4000, channels=2).read(0).shape == (2, 400)
    assert fingerprint_signals(source) != fingerprint_signals(SoundFiles([tmp_path / "a.wav"]))
    with pytest.raises(ValueError, match="the recordings must be at least one; got none"):
        SoundFiles([])


def test_some_signals_and_their_lengths(tmp_path):
    fill(tmp_path, ["a.wav"], 900)
    fill(tmp_path, ["b.wav"], 700)
    (tmp_path / "c.wav").write_bytes(b"")
    source = read_signals(tmp_path)
    assert [length_at(source, share) for share in (0.0, 0.4, 1.0)] == [700, 700, 900]
    assert [opened.length for opened in some_signals(source)] == [900, 700]
    (tmp_path / "only").mkdir()
    bad = SignalSubset(source, np.array([2]))
    with pytest.raises(CorruptSignal, match="'c.wav' must be one of .*; got an empty file"):
        length_at(bad, 0.5)
    assert bad.rates == source.rates == {8000: 2}
