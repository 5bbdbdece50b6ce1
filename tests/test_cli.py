"""The commands, as people type them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import vicreg
from vicreg import cli, runs

QUICK = ["--steps", "4", "--n-components", "2", "--encoder", "8", "--expander", "8", "8", "--decoder", "8"]
ROWS = 120


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A mixed table of two classes, people.csv, in the current folder."""
    monkeypatch.chdir(tmp_path)
    people(ROWS).to_csv("people.csv", index=False)
    return tmp_path


def people(rows, seed=0):
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 2, rows)
    return pd.DataFrame(
        {
            "number": np.arange(rows) + 1000 * seed,
            "height": draw.normal(size=rows) + 2 * kind,
            "city": np.array(["Bonn", "Lyon", "Oslo"])[draw.integers(0, 3, rows)],
            "secret": draw.normal(size=rows),
            "weight": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(size=rows) - kind),
            "kind": np.array(["round", "square"])[kind],
        }
    )


def run(*words):
    """The exit status of a command."""
    try:
        cli.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def fitted(*more):
    assert run("fit", "people.csv", "--labels", "kind", "--id", "number", "--exclude", "secret", *QUICK, *more) == 0


def test_fit_leaves_a_whole_run(table, capsys):
    fitted()
    said = capsys.readouterr().out
    assert "120 rows, 24 of them held out to judge on; 3 input columns." in said
    assert "vicreg" in said
    assert "pca" in said
    folder = table / "runs" / "people"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "split.npy",
        "seen.npy",
        "metrics.csv",
        "baseline.safetensors",
        "encoder.safetensors",
        "encoder.json",
        "embeddings.parquet",
        "scores.csv",
    }
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["labels"], config["exclude"], config["id"]) == ("kind", ["secret"], ["number"])
    assert config["settings"]["steps"] == 4
    assert np.load(folder / "split.npy").sum() == 24
    columns = [column["name"] for column in json.loads((folder / "encoder.json").read_text())["columns"]["columns"]]
    assert columns == ["height", "city", "weight"]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    embeddings = pq.read_table(folder / "embeddings.parquet")
    assert embeddings.column_names == ["number", "vicreg0", "vicreg1"]
    assert embeddings["number"].to_pylist() == list(range(ROWS))
    expected = vicreg.load(folder).transform(pd.read_csv("people.csv"), ignore=("number", "kind", "secret"))
    np.testing.assert_array_equal(embeddings["vicreg1"].to_numpy(), expected[:, 1])


def test_no_training_row_is_in_what_one_keeps(table):
    data = people(ROWS)
    data["city"] = [f"Nowhere {i}" for i in range(ROWS)]
    data.to_csv("people.csv", index=False)
    fitted()
    for name in ("encoder.json", "encoder.safetensors", "config.yaml", "baseline.safetensors"):
        assert b"Nowhere 17" not in (table / "runs/people" / name).read_bytes()


def test_embed_new_rows(table, capsys):
    fitted()
    people(7, seed=1).drop(columns=["kind", "secret"]).to_csv("new.csv", index=False)
    assert run("embed", "runs/people", "new.csv", "--out", "new.parquet") == 0
    assert "Wrote 7 rows of 2 numbers to new.parquet." in capsys.readouterr().out
    out = pq.read_table("new.parquet")
    assert out.column_names == ["number", "vicreg0", "vicreg1"]
    people(7, seed=1).to_parquet("new_with_all.parquet")
    assert run("embed", "runs/people", "new_with_all.parquet", "--out", "again.parquet") == 0
    assert pq.read_table("again.parquet")["vicreg0"] == out["vicreg0"]


def test_evaluate_again_and_on_new_rows(table, capsys):
    fitted()
    first = capsys.readouterr().out
    assert run("evaluate", "runs/people") == 0
    again = capsys.readouterr().out
    assert again.strip() in first
    pd.concat((people(40, seed=1), people(ROWS).iloc[:30])).to_csv("new.csv", index=False)
    assert run("evaluate", "runs/people", "new.csv", "--labels", "kind") == 0
    said = capsys.readouterr().out
    seen = int((~np.load("runs/people/split.npy")[:30]).sum())
    assert f"{seen} rows equal to rows that the fit saw are left out." in said
    assert f"over {70 - seen} rows" in said


def test_without_labels_the_words_claim_nothing(table, capsys):
    assert run("fit", "people.csv", "--exclude", "kind", "secret", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Without labels there is no telling how useful" in said
    assert "Stability" in said
    assert run("evaluate", "runs/people", "--labels", "kind") == 2
    assert "must have held rows out to judge on" in capsys.readouterr().err


def test_regression_labels(table, capsys):
    assert run("fit", "people.csv", "--labels", "weight", "--exclude", "kind", *QUICK) == 0
    said = capsys.readouterr().out
    assert "R2" in said
    assert "rows without a label are left out" in said


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.feather", "t.npy", "t.npz", "parts"])
def test_every_kind_of_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    frame = people(60)[["height", "secret"]]
    if name.endswith((".csv", ".csv.gz")):
        frame.to_csv(name, index=False)
    elif name.endswith(".tsv"):
        frame.to_csv(name, index=False, sep="\t")
    elif name == "parts":
        Path(name).mkdir()
        frame[:30].to_parquet("parts/0.parquet")
        frame[30:].to_parquet("parts/1.parquet")
    elif name == "t.npy":
        np.save(name, frame.to_numpy())
    elif name == "t.npz":
        np.savez(name, X=frame.to_numpy())
    else:
        getattr(frame, {"t.parquet": "to_parquet", "t.feather": "to_feather"}[name])(name)
    assert run("fit", name, *QUICK, "--out", "run") == 0
    assert run("embed", "run", name, "--out", "out.parquet") == 0
    assert pq.read_table("out.parquet").num_rows == 60


def test_settings_from_yaml_and_flags_beside_it(table):
    Path("settings.yaml").write_text("steps: 3\nn_components: 2\nencoder: [8]\n")
    assert run("fit", "people.csv", "--config", "settings.yaml", "--steps", "2") == 0
    settings = yaml.safe_load(Path("runs/people/config.yaml").read_text())["settings"]
    assert (settings["steps"], settings["n_components"], settings["encoder"]) == (2, 2, [8])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "nowhere.csv"], "must exist; got no such file"),
        (["fit", "people.csv", "--labels", "nonsense"], "--labels must name columns of the table"),
        (["fit", "people.csv", "--exclude", "nonsense"], "--exclude must name columns of the table"),
        (["fit", "people.csv", "--n-components", "0"], "n_components must be at least 1; got 0"),
        (["fit", "people.csv", "--views", "nonsense"], "views must be one of"),
        (["fit", "people.csv", "--config", "nowhere.yaml"], "no such file"),
        (["fit", "people.csv", "--resume"], "must be the folder of a run"),
        (["fit", "one_class.csv", "--labels", "kind"], "labels must have at least two classes"),
        (["fit", "empty.csv"], "must hold a table; got an empty file"),
        (["fit", "header.csv"], "must"),
        (["fit", "semicolons.csv"], "must"),
        (["fit", "latin.csv"], "must"),
        (["fit", "constant.csv"], "have columns that vary"),
        (["fit", "one_row.csv"], "at least 2 rows"),
        (["fit", "people.csv", "--out", "people.csv"], "must be a new or empty folder"),
        (["fit", "people.csv", "--out", "people.csv/inside"], "must"),
        (["embed", "nowhere", "people.csv", "--out", "x.parquet"], "must be the folder of a run"),
        (["evaluate", "nowhere"], "must be the folder of a run"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(table, capsys, words, said):
    people(ROWS).assign(kind="round").to_csv("one_class.csv", index=False)
    Path("empty.csv").write_text("")
    Path("header.csv").write_text("a,b\n")
    Path("semicolons.csv").write_text("a;b\n1;2\n3;4\n")
    Path("latin.csv").write_bytes("name,n\nJosé,1\nZoë,2\n".encode("latin-1"))
    Path("constant.csv").write_text("a,b\n1,x\n1,x\n")
    Path("one_row.csv").write_text("a,b\n1,2\n")
    before = sorted(table.rglob("*"))
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("vicreg: ")
    assert "Traceback" not in err
    assert sorted(table.rglob("*")) == before


def test_an_existing_run_is_never_overwritten(table, capsys):
    fitted()
    assert run("fit", "people.csv", *QUICK) == 2
    assert "Go on with --resume, or name another --out." in capsys.readouterr().err


def test_what_embed_and_evaluate_refuse(table, capsys):
    fitted()
    assert run("embed", "runs/people", "people.csv", "--out", "x.txt") == 2
    assert "--out must name a .parquet file; got 'x.txt'" in capsys.readouterr().err
    people(9).drop(columns="height").to_csv("less.csv", index=False)
    assert run("embed", "runs/people", "less.csv", "--out", "x.parquet") == 2
    assert "also 'height'" in capsys.readouterr().err
    people(9).assign(height="tall").to_csv("text.csv", index=False)
    assert run("embed", "runs/people", "text.csv", "--out", "x.parquet") == 2
    assert "height" in capsys.readouterr().err
    assert not Path("x.parquet").exists()
    people(9).assign(extra=1).to_csv("more.csv", index=False)
    assert run("embed", "runs/people", "more.csv", "--out", "x.parquet") == 0
    assert "'extra' as well. They are ignored." in capsys.readouterr().err
    assert run("evaluate", "runs/people", "people.csv", "--labels", "height") == 2
    assert "must be no input of the fit; got 'height'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "split.npy", "seen.npy", "encoder.json", "encoder.safetensors",
                                  "baseline.safetensors"])  # fmt: skip
def test_a_damaged_run_is_named(table, capsys, name):
    fitted()
    path = table / "runs/people" / name
    path.write_bytes(path.read_bytes()[:10])
    assert run("evaluate", "runs/people") == 2
    err = capsys.readouterr().err
    assert "must" in err
    assert name in err or "encoder.json" in err


def test_a_changed_table_is_noticed(table, capsys):
    fitted()
    people(ROWS).assign(height=1.5).to_csv("people.csv", index=False)
    assert run("evaluate", "runs/people") == 2
    assert "must be the table that the run was fitted on; got another content" in capsys.readouterr().err


def test_a_full_disk_leaves_the_last_good_file(table, capsys, monkeypatch):
    fitted()
    people(7, seed=1).to_csv("new.csv", index=False)
    assert run("embed", "runs/people", "new.csv", "--out", "new.parquet") == 0
    good = Path("new.parquet").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert run("embed", "runs/people", "new.csv", "--out", "new.parquet") == 2
    assert "must be writable; got 'No space left on device'" in capsys.readouterr().err
    assert Path("new.parquet").read_bytes() == good
    assert not list(Path().glob(".new*"))


def test_hostile_column_names_stay_on_their_line(table, capsys):
    people(ROWS).rename(columns={"height": "a\nvicreg: all is well\x1b[2J"}).to_csv("people.csv", index=False)
    assert run("fit", "people.csv", "--labels", "nonsense") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err


START = [sys.executable, "-c", "from vicreg.cli import main; main()"]
LONG = ["fit", "people.csv", "--labels", "kind", "--exclude", "secret", "--steps", "900", "--encoder", "8",
        "--expander", "8", "8", "--decoder", "8", "--n-components", "2"]  # fmt: skip


def started(more=()):
    return subprocess.Popen([*START, *LONG, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    people(ROWS).to_csv(folder / "people.csv", index=False)
    assert run(LONG[0], folder / "people.csv", *LONG[2:], "--out", folder / "run") == 0
    return folder / "run"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_saves_and_resumed_is_bit_identical(table, whole, number, status):
    process = started()
    wait_for(lambda: Path("runs/people/seen.npy").exists(), process)
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "the same command with --resume goes on" in err
    assert run(*LONG, "--resume", "--learning-rate", "0.5") == 2
    assert run("fit", "people.csv", "--resume", "--labels", "city") == 2
    step = runs.read_tensors(Path("runs/people/checkpoint/last.safetensors"))[1]["step"]
    assert 0 < step < 900
    assert run(*LONG, "--resume") == 0
    for name in ("encoder.safetensors", "embeddings.parquet", "metrics.csv", "scores.csv"):
        assert Path("runs/people", name).read_bytes() == (whole / name).read_bytes(), name
    assert run(*LONG, "--resume") == 2


def test_killed_at_any_moment_resumes(table, whole):
    process = started()
    wait_for(lambda: Path("runs/people/config.yaml").exists(), process)
    process.kill()
    process.communicate()
    assert run(*LONG, "--resume") == 0
    assert Path("runs/people/encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
