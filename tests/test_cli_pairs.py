"""`vicreg fit LEFT RIGHT`, and `embed` and `evaluate` on runs of pairs, as a user types them."""

import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import run
from pyarrow import parquet
from sounds import tree

import vicreg
from vicreg.training import progress

SHORT = ["--steps", "5", "--n-components", "4", "--batch-size", "16", "--device", "cpu"]
PAIRS = 40


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Two tables of the same things, in another order, and recordings with a table of facts."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    common = draw.normal(size=(PAIRS, 4))
    names = [f"n{index}" for index in range(PAIRS)]
    for side, order in (("left", range(PAIRS)), ("right", draw.permutation(PAIRS))):
        x = common @ draw.normal(size=(4, 6)) + 0.1 * draw.normal(size=(PAIRS, 6))
        frame = pd.DataFrame(x, columns=[f"{side}{index}" for index in range(6)]).assign(who=names)
        frame["kind"] = np.where(common[:, 0] > 0, "high", "low")
        frame.iloc[list(order)].drop(columns="kind" if side == "left" else []).to_csv(f"{side}.csv", index=False)


def sounds_and_facts():
    tree("sounds")
    Path("sounds/kind0/000.wav").unlink()
    names = sorted(str(path.relative_to("sounds")) for path in Path("sounds").rglob("*.wav"))
    pitch = [float(name[4]) for name in names]
    pd.DataFrame({"file": names, "pitch": pitch, "half": np.array(pitch) / 2}).to_csv("facts.csv", index=False)


def test_two_tables_by_a_key(capsys):
    words = ["left.csv", "right.csv", "--key", "who", "--labels", "kind"]
    assert run("fit", *words, *SHORT) == 0
    out = capsys.readouterr().out
    assert "40 pairs of rows, 8 of them held out to judge on." in out
    assert "the sides are aligned" in out
    assert "\nvicreg " in out
    assert out.endswith("The run is in runs/left-right; its report is runs/left-right/report.html.\n")
    found = yaml.safe_load(Path("runs/left-right/config.yaml").read_text())
    assert (found["kind"], found["key"], found["labels"]) == ("pair", "who", "kind")
    for side, source in (("a", "left.csv"), ("b", "right.csv")):
        assert run("embed", "runs/left-right", source, "--side", side, "--out", f"{side}.parquet") == 0
        rows = pd.read_csv(source).drop(columns=["who", "kind"], errors="ignore")
        by_load = vicreg.load("runs/left-right").transform(rows, side=side)
        written = parquet.read_table(f"{side}.parquet").to_pandas()
        assert written["who"].tolist() == pd.read_csv(source)["who"].tolist()
        np.testing.assert_allclose(written.drop(columns="who").to_numpy(), by_load, atol=1e-5)
    capsys.readouterr()
    assert run("evaluate", "runs/left-right", "left.csv", "right.csv") == 0
    assert "Retrieval among 40 pairs" in capsys.readouterr().out


def test_not_aligned_sides_are_not_compared(capsys):
    assert run("fit", "left.csv", "right.csv", "--key", "who", "--no-aligned", *SHORT, "--out", "run") == 0
    assert "; --aligned would align them." in capsys.readouterr().out
    assert yaml.safe_load(Path("run/config.yaml").read_text())["settings"]["aligned"] is False


def test_sounds_and_a_table_by_the_names_of_files(capsys):
    sounds_and_facts()
    more = ["--key", "file", "--width", "4", "--aligned"]
    assert run("fit", "sounds", "facts.csv", *more, *SHORT, "--out", "run") == 0
    out = capsys.readouterr().out
    assert "29 pairs of signals and rows, 5 of them held out to judge on." in out
    assert "Retrieval among 5 pairs" in out
    assert run("embed", "run", "sounds", "--side", "a", "--out", "a.parquet") == 0
    assert "Wrote 29 signals of 2 numbers to a.parquet." in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_saves_and_resumed_is_bit_identical(number, capsys, monkeypatch):
    words = ["left.csv", "right.csv", "--key", "who", *SHORT]
    assert run("fit", *words, "--out", "whole") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        told = lambda state: signal.raise_signal(number) if state.step == 3 else None  # noqa: E731
        patch.setattr(progress, "_line_per_tenth", told)
        assert run("fit", *words, "--out", "run") == 128 + number
    assert (
        "vicreg: stopped and saved at step 3 of 5; the same command with --resume goes on." in capsys.readouterr().err
    )
    assert run("fit", "left.csv", "--resume", "--out", "run") == 2
    assert "the sources of a run on pairs must be two; got 'left.csv'. Name the" in capsys.readouterr().err
    assert run("fit", *words, "--out", "run", "--resume") == 0
    assert "Going on from step 3 of 5." in capsys.readouterr().out
    for name in ("metrics.csv", "split.npy", "a/encoder.safetensors", "b/encoder.safetensors", "readings.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_bad_input_is_one_clear_line_and_nothing_is_lost(capsys):
    assert run("fit", "left.csv", "right.csv", "--key", "who", *SHORT, "--out", "run") == 0
    Path("table").mkdir()
    Path("table/config.yaml").write_text("kind: table\n")
    pd.read_csv("left.csv").iloc[:-1].to_csv("fewer.csv", index=False)
    left = pd.read_csv("left.csv")
    pd.concat([left, left.iloc[:1]]).to_csv("twice.csv", index=False)
    fit = ["fit", "--out", "new"]
    before = set(Path().rglob("*"))
    for words, said in (
        ([*fit, "fewer.csv", "right.csv"], "39 and 40"),
        ([*fit, "fewer.csv", "right.csv", "--key", "who"], "'n39'"),
        (
            [*fit, "twice.csv", "right.csv", "--key", "who"],
            "have every key once; got 1 key more than once ('n0')",
        ),
        ([*fit, "left.csv", "right.csv", "--key", "whose"], "--key must name a column of 'left.csv'; got 'whose'."),
        ([*fit, "left.csv", "nowhere.csv"], "the file 'nowhere.csv' must exist; got no such file or folder."),
        ([*fit, "left.csv", "right.csv", "--rate", "9"], "--rate and --channels must be left out; got {'rate': 9.0}."),
        (["embed", "run", "left.csv", "--out", "x.parquet"], "--side must say which side of the pair these data are"),
        (["embed", "run", "left.csv", "--side", "b", "--out", "x.parquet"], "must"),
        (
            [*fit[:1], "left.csv", "right.csv", "--out", "table", "--resume"],
            "'table' must be a run on a pair; got one",
        ),
        (["evaluate", "run", "left.csv"], "LEFT and RIGHT must come together; got left.csv and None."),
        (["evaluate", "run", "--shares", "0.5"], "--shares must be left out for a run on pairs; got some."),
        (
            ["export", "run", "--format", "onnx", "--out", "x"],
            "be a run on pictures or signals; got one on a pair.",
        ),
        (["fit", "left.csv", "right.csv", "--out", "run"], "'run' must hold no run yet; got an existing run."),
    ):
        capsys.readouterr()
        assert run(*words) == 2, words
        err = capsys.readouterr().err
        assert err.startswith("vicreg: ")
        assert said in err, err
        assert err.count("\n") == 1
        assert set(Path().rglob("*")) == before


def test_rows_in_another_order_are_found_out_by_their_keys(capsys):
    assert run("fit", "left.csv", "right.csv", *SHORT) == 2
    assert capsys.readouterr().err == (
        "vicreg: the rows of 'left.csv' and 'right.csv' must belong together row by row; got a column 'who' with the "
        "same values in another order. Name it by --key who, or leave it out by --exclude who.\n"
    )
    assert not Path("runs").exists()
    ordered = pd.read_csv("right.csv").set_index("who").loc[pd.read_csv("left.csv").who].reset_index()
    ordered.to_csv("ordered.csv", index=False)
    assert run("fit", "left.csv", "ordered.csv", *SHORT, "--n-components", "9", "--labels", "kind", "--out", "run") == 0
    out = capsys.readouterr().out
    assert (
        "'who' is an input on both sides, different in every row, and alone tells a row's partner: --key who or " in out
    )
    assert "--exclude who would keep it out." in out
    assert "chance (" in out
    assert "more often than" in out or "with no clear difference from" in out
    assert run("fit", "left.csv", "right.csv", "--exclude", "who", *SHORT, "--out", "free") == 0


def test_components_beyond_what_a_side_has_are_told(capsys):
    words = ["left.csv", "right.csv", "--key", "who", "--labels", "kind", *SHORT, "--n-components", "9"]
    assert run("fit", *words, "--out", "run") == 0
    assert "An embedding has 6 of the 9 --n-components: the left side has 6 features." in capsys.readouterr().out
    assert run("evaluate", "run", "left.csv", "right.csv") == 0
    side = capsys.readouterr().out.partition("Side a, the left one:")[2]
    assert [line.split()[0] for line in side.strip().splitlines()[1:5]] == ["raw", "pca", "cca", "vicreg"]


def test_the_first_signal_is_answered_at_once(capfd, monkeypatch):
    words = ["left.csv", "right.csv", "--key", "who", *SHORT, "--out", "run"]
    monkeypatch.setattr(progress, "_line_per_tenth", lambda state: signal.raise_signal(signal.SIGINT))
    assert run("fit", *words) == 130
    assert "Stopping after this step ...\nvicreg: stopped and saved at step 1 of 5; " in capfd.readouterr().err
