"""The commands, as people type them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from commands import QUICK, ROWS, fitted, people, run

import vicreg


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A mixed table of two classes, people.csv, in the current folder."""
    monkeypatch.chdir(tmp_path)
    people(ROWS).to_csv("people.csv", index=False)
    return tmp_path


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
        "portrait",
        "report.html",
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


@pytest.mark.parametrize("ids", [["00001", "{}"], ["1234567890123456789012{}"], ["NA", "", "{}"]])
def test_ids_come_through_unchanged(table, ids):
    given = [ids[i % len(ids)].format(i) for i in range(ROWS)]
    people(ROWS).assign(number=given).to_csv("people.csv", index=False)
    fitted()
    assert pq.read_table("runs/people/embeddings.parquet")["number"].to_pylist() == given
    assert run("embed", "runs/people", "people.csv", "--out", "again.parquet") == 0
    assert pq.read_table("again.parquet")["number"].to_pylist() == given
    assert run("evaluate", "runs/people") == 0


def test_an_id_named_twice_is_carried_once(table):
    assert run("fit", "people.csv", "--id", "number", "--id", "number", "kind", *QUICK) == 0
    assert pq.read_table("runs/people/embeddings.parquet").column_names == ["number", "kind", "vicreg0", "vicreg1"]


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
    with Path("runs/people/scores-new.csv").open() as file:
        assert {row["rows"] for row in csv.DictReader(file)} == {str(70 - seen)}
    with Path("runs/people/scores.csv").open() as file:
        assert {row["rows"] for row in csv.DictReader(file)} == {"24"}


def test_evaluate_by_another_column_leaves_the_fits_scores(table, capsys):
    people(ROWS).assign(other=lambda t: t["kind"].str[:1]).to_csv("people.csv", index=False)
    assert run("fit", "people.csv", "--labels", "kind", "--exclude", "other", *QUICK) == 0
    before = Path("runs/people/scores.csv").read_bytes()
    capsys.readouterr()
    assert run("evaluate", "runs/people", "--labels", "other") == 0
    assert capsys.readouterr().err == ""
    assert Path("runs/people/scores.csv").read_bytes() == before
    assert Path("runs/people/scores-other.csv").read_bytes() == before  # the same classes by other names


def test_without_labels_the_words_claim_nothing(table, capsys):
    assert run("fit", "people.csv", "--exclude", "kind", "secret", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Without labels there is no telling how useful" in said
    assert "Stability" in said
    assert run("evaluate", "runs/people") == 0
    assert capsys.readouterr().out.strip() in said
    readings = json.loads(Path("runs/people/readings.json").read_text())["readings"]
    assert set(readings) == {"trustworthiness", "stability", "effective_rank", "width", "neighbors"}
    assert run("evaluate", "runs/people", "people.csv") == 2
    assert "--labels must name the label column; got none, and the fit had none." in capsys.readouterr().err
    assert run("evaluate", "runs/people", "--labels", "kind") == 2
    assert "must have held rows out to judge on" in capsys.readouterr().err
    path = Path("runs/people/readings.json")
    for content, said in (
        ("{", "damaged JSON"),
        ('{"format": 1, "readings": 5}', "other readings"),
        (
            '{"format": 1, "readings": {"width": 2.0}}',
            "readings without 'effective_rank', 'neighbors', 'trustworthiness'",
        ),
    ):
        path.write_text(content)
        assert run("evaluate", "runs/people") == 2
        assert f"'runs/people/readings.json' must be as vicreg wrote it; got {said}." in capsys.readouterr().err
    path.unlink()
    assert run("evaluate", "runs/people") == 2
    assert "must hold readings to show without labels; got none. Name a table" in capsys.readouterr().err


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
    assert run("fit", "people.csv", "--config", "runs/people/config.yaml", "--out", "again", "--seed", "7") == 0
    again = yaml.safe_load(Path("again/config.yaml").read_text())["settings"]
    assert again == settings | {"seed": 7}


def test_every_source_has_a_run_of_its_own(table, monkeypatch):
    for name in ("sales.2023.csv", "sales.2024.csv"):
        people(60)[["height", "secret"]].to_csv(name, index=False)
        assert run("fit", name, *QUICK) == 0
    Path("parts").mkdir()
    people(60)[["height", "secret"]].to_parquet("parts/0.parquet")
    monkeypatch.chdir("parts")
    assert run("fit", ".", *QUICK) == 0
    assert {path.name for path in (table / "runs").iterdir()} == {"sales.2023", "sales.2024"}
    assert {path.name for path in Path("runs").iterdir()} == {"parts"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "nowhere.csv"], "must exist; got no such file"),
        (["fit", "people.csv", "--labels", "nonsense"], "--labels must name columns of the table"),
        (["fit", "people.csv", "--exclude", "nonsense"], "--exclude must name columns of the table"),
        (["fit", "people.csv", "--n-components", "0"], "n_components must be at least 1; got 0"),
        (["fit", "people.csv", "--views", "nonsense"], "views must be one of"),
        (["fit", "people.csv", "--config", "nowhere.yaml"], "the file 'nowhere.yaml' must exist; got no such file."),
        (["fit", "people.csv", "--config=."], "the file '.' must hold settings as YAML, such as steps: 1500; got"),
        (["fit", "people.csv", "--config", "people.csv"], "got 'no mapping of names to values'"),
        (
            ["fit", "people.csv", "--config", "broken.yaml"],
            "must hold settings as YAML, such as steps: 1500; got 'while parsing",
        ),
        (["fit", "people.csv", "--config", "typo.yaml"], "a setting must be one of 'n_components', "),
        (["fit", "people.csv", "--device", "meta"], "device must be auto"),
        (["fit", "people.csv", "--seed", "-5"], "seed must lie between 0 and"),
        (["fit", "people.csv", "--seed", "9" * 30], "seed must lie between 0 and"),
        (["fit", "people.csv", "--encoder", "0"], "each width in encoder must be at least 1; got 0"),
        (["fit", "people.csv", "--resume"], "must be the folder of a run; got no such folder. Fit one first."),
        (["fit", "one_class.csv", "--labels", "kind"], "labels must have at least two classes of two rows or more"),
        (["fit", "three.csv", "--labels", "kind"], "labels must have at least two classes of two rows or more; got 1"),
        (["fit", "five.csv", "--labels", "kind"], "labelled rows must be enough to fit probes on 5 and to judge on 2"),
        (
            ["fit", "taken.csv", "--id", "vicreg1"],
            "--id must name columns other than vicreg0, vicreg1, ...; got 'vicreg1'",
        ),
        (["fit", "people.csv", "--id", "city", "--labels", "nonsense"], "--labels must name columns of the table"),
        (["fit", "empty.csv"], "must hold a table; got an empty file"),
        (["fit", "header.csv"], "must hold at least one row; got the header alone ('a', 'b')."),
        (["fit", "semicolons.csv"], "must have columns divided by commas; got semicolons in the header 'a;b'"),
        (["fit", "latin.csv"], "must be encoded in UTF-8; got another encoding. Save it as UTF-8"),
        (["fit", "constant.csv"], "have columns that vary"),
        (["fit", "one_row.csv"], "at least 2 rows"),
        (["fit", "people.csv", "--out", "people.csv"], "must be a new or empty folder"),
        (["fit", "people.csv", "--out", "people.csv/inside"], "'people.csv/inside/config.yaml' must be writable; got"),
        (["fit", "people.csv", "--out", "r", "--learning-rate", "1e30", *QUICK], "training must stay finite; got"),
        (["embed", "nowhere", "people.csv", "--out", "x.parquet"], "must be the folder of a run"),
        (["evaluate", "nowhere"], "'nowhere' must be the folder of a run; got no such folder. Fit one first."),
        (
            ["evaluate", "."],
            "'.' must be the folder of a run; got a folder without config.yaml.",
        ),
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
    Path("broken.yaml").write_text("steps: [1")
    Path("typo.yaml").write_text("stesp: 1")
    for name, rows in (("three.csv", 3), ("five.csv", 5)):
        labels = [["round", "square"][i % 2] if i < rows else "" for i in range(ROWS)]
        people(ROWS).assign(kind=labels).to_csv(name, index=False)
    people(ROWS).rename(columns={"number": "vicreg1"}).to_csv("taken.csv", index=False)
    before = sorted(table.rglob("*"))
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1].startswith("vicreg: ")
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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.yaml", "kind: 'tabl'"),
        ("split.npy", "a damaged array"),
        ("seen.npy", "a damaged array"),
        ("encoder.safetensors", "a damaged safetensors file"),
        ("baseline.safetensors", "a damaged safetensors file"),
    ],
)
def test_a_damaged_run_is_named(table, capsys, name, said):
    fitted()
    path = table / "runs/people" / name
    path.write_bytes(path.read_bytes()[:10])
    assert run("evaluate", "runs/people") == 2
    assert f"'runs/people/{name}' must be as vicreg wrote it; got {said}. Restore the" in capsys.readouterr().err
    path.unlink()
    assert run("evaluate", "runs/people") == 2
    err = capsys.readouterr().err
    assert name in err
    assert err.startswith("vicreg: 'runs/people")


def test_another_array_than_the_runs_is_named(table, capsys):
    fitted()
    for name, array, said in (
        ("split.npy", np.ones(ROWS), "float64 of shape (120,)"),
        ("split.npy", np.ones(3, bool), "3 of 120 rows"),
        ("seen.npy", np.array(["a"]), "<U1 of shape (1,)"),
    ):
        path = table / "runs/people" / name
        whole = path.read_bytes()
        np.save(path, array)
        assert run("evaluate", "runs/people") == 2
        assert f"'runs/people/{name}' must be as vicreg wrote it; got {said}." in capsys.readouterr().err
        path.write_bytes(whole)


def test_the_copy_for_people_is_not_read(table):
    fitted()
    copy = table / "runs/people/encoder.json"
    assert json.loads(copy.read_text())["copy_of"] == "encoder.safetensors"
    copy.unlink()
    assert run("embed", "runs/people", "people.csv", "--out", "x.parquet") == 0


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


def test_what_is_read_is_never_written_over(table, capsys):
    fitted()
    people(30).to_parquet("people.parquet")
    before = Path("people.parquet").read_bytes()
    for out, what in (("people.parquet", "the source"), ("runs/people/embeddings.parquet", "the run")):
        assert run("embed", "runs/people", "people.parquet", "--out", out) == 2
        assert f"--out must be apart from {what}; got '{out}'" in capsys.readouterr().err
    assert Path("people.parquet").read_bytes() == before


def test_fit_says_what_columns_were_taken_for(table, capsys):
    people(ROWS).assign(same=1, y=0.5).rename(columns={"secret": "target"}).to_csv("people.csv", index=False)
    assert run("fit", "people.csv", "--exclude", "kind", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Columns taken as number: 'number', 'height', 'target', 'weight'; category: 'city';" in said
    assert "constant, left out: 'same', 'y'." in said
    assert "'target' and 'y'" in said or "'target', 'y' is an input like the others" in said


def test_an_open_quote_does_not_swallow_rows(table, capsys):
    Path("quote.csv").write_text('a,b\n1,x\n2,"oops\n3,y\n4,z\n')
    assert run("fit", "quote.csv", *QUICK) == 2
    assert "'quote.csv' must close every quoted cell; got a cell that opens with" in capsys.readouterr().err
    inches = "".join(f'{i},pipe of {i % 3}"\n' for i in range(31))
    Path("inches.csv").write_text('a,b\n1,"two\nlines, ""quoted"""\n' + inches)
    assert run("fit", "inches.csv", *QUICK) == 0


def test_a_read_only_run_is_judged_all_the_same(table, capsys, monkeypatch):
    fitted()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    capsys.readouterr()
    assert run("evaluate", "runs/people") == 0
    said = capsys.readouterr().out
    assert "vicreg" in said
    assert "The scores are not in a file: " in said


def test_help_on_all_of_it_is_there_at_once(capsys):
    code = "import sys; from vicreg.cli import main\ntry: main(['-h'])\nfinally: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("\nFalse\n")
    assert run("--help") == 0
    assert shown.startswith(capsys.readouterr().out)
    for name in ("demo", "fit", "tune", "embed", "evaluate", "report", "diagnose", "export"):
        assert f"  vicreg {name} " in shown
        assert run(name, "--help") == 0


def test_ids_that_come_many_times_may_be_those_of_signals(table, capsys):
    rows = pd.DataFrame({"walk": np.repeat(["a", "b", "c"], 20), "x": np.random.default_rng(0).normal(size=60)})
    rows.to_csv("steps.csv", index=False)
    assert run("fit", "steps.csv", "--id", "walk", *QUICK) == 0
    said = "'walk' has 3 ids in 60 rows: if each is a signal, --id walk --time COLUMN learns from signals."
    assert said in capsys.readouterr().out
    assert run("fit", "people.csv", "--id", "number", *QUICK) == 0
    assert "--time" not in capsys.readouterr().out
