"""What runs leave for their report: of every kind of source, whatever happens to them on their way."""

import csv
import json
import signal
from pathlib import Path

import images
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sounds
import yaml
from commands import QUICK, ROWS, people, run
from scipy.spatial.distance import cdist

import vicreg
from vicreg import runs
from vicreg.training import progress
from vicreg.workflows import checkpoints, demo, free_folder, portraying, recording

HOSTILE = "<script>alert(1)</script>"
TABLE = ["people.csv", "--labels", "kind", "--id", "number", *QUICK[2:], "--steps", "60"]
FILES = ["start.safetensors", "end.safetensors", "map.parquet", "neighbors.npy", "influence.csv"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people(ROWS).rename(columns={"secret": HOSTILE}).to_csv("people.csv", index=False)
    return tmp_path


def portrait(folder="runs/people"):
    return Path(folder, "portrait")


def looks(folder="runs/people"):
    """What was seen, but for the time it took."""
    with Path(folder, "portrait", "looks.csv").open() as file:
        lines = list(csv.DictReader(file))
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "rows_per_second")} for line in lines
    ]


def facts(folder="runs/people"):
    return runs.read_json(Path(folder, "portrait", "facts.json"))


def of_map(folder="runs/people"):
    table = pq.read_table(Path(folder, "portrait", "map.parquet"))
    return table, json.loads(table.schema.metadata[b"vicreg"])


def test_a_table_leaves_a_portrait(capsys):
    assert run("fit", *TABLE) == 0
    assert capsys.readouterr().out.splitlines()[-1] in (
        "The run is in runs/people; its report is runs/people/report.html.",
        "The run is in runs/people.",
    )
    assert {path.name for path in portrait().iterdir()} == {*FILES, "looks.csv", "facts.json"}
    table, plain = of_map()
    assert table["item"].to_pylist() == [str(row) for row in range(ROWS)]
    np.testing.assert_array_equal(table["held_out"], runs.read_array(Path("runs/people/split.npy")))
    assert plain["two_dimensional"]
    assert plain["total"] == ROWS
    source = pd.read_csv("people.csv")
    z = vicreg.load("runs/people").transform(source, ignore=("kind", "number"))
    np.testing.assert_array_equal(np.stack([table["pca_x"], table["pca_y"]], 1), z)
    assert table["colour kind"].to_pylist() == source["kind"].tolist()
    colours = [name.removeprefix("colour ") for name in table.column_names if name.startswith("colour ")]
    assert colours[0] == "kind"
    with (portrait() / "influence.csv").open() as file:
        influence = list(csv.DictReader(file))
    falling = sorted(influence, key=lambda line: -float(line["permutation"]))
    assert colours[1:] == [line["column"] for line in falling]
    assert HOSTILE in colours
    near = runs.read_array(portrait() / "neighbors.npy")
    distance = cdist(z, z) + np.diag([np.inf] * ROWS)
    np.testing.assert_allclose(
        np.take_along_axis(distance, near[0].astype(int), 1), np.sort(distance, 1)[:, :10], rtol=1e-5
    )
    found = facts()
    assert found["kind"] == "table"
    assert found["words"][0].startswith(("vicreg", "There is no", "raw", "pca"))
    assert found["command"].startswith("vicreg fit people.csv --out runs/people --labels kind --id number")
    assert found["resumed_at"] == []


def test_looks_are_those_of_the_monitor():
    assert run("fit", *TABLE, "--steps", "110") == 0
    lines = looks()
    assert [line["step"] for line in lines] == ["1", "50", "100", "110"]
    assert [bool(line["share variance"]) for line in lines] == [False, True, True, False]
    with Path("runs/people/metrics.csv").open() as file:
        metrics = list(csv.DictReader(file))
    for line in lines:
        own = float(metrics[int(line["step"]) - 1]["covariance_a"])
        assert float(line["covariance embedding a"]) == pytest.approx(own, rel=1e-3)
    _, plain = runs.read_tensors(portrait() / "end.safetensors")
    assert plain == {"step": 110, "parts": ["representation", "embedding a", "embedding b"], "rows": 96}


def test_branches_that_differ_have_a_representation_each():
    words = ["--reconstruction", "0", "--branches", "8/8", "4/8"]
    assert run("fit", "people.csv", "--labels", "kind", "--steps", "1", "--n-components", "2", *words) == 0
    first, last = (runs.read_tensors(portrait() / f"{name}.safetensors") for name in ("start", "end"))
    assert first[1] == last[1]  # one step is both
    assert first[1]["parts"] == ["representation a", "representation b", "embedding a", "embedding b"]


def stopped_at(step):
    return lambda state: signal.raise_signal(signal.SIGTERM) if state.step == step else None


def test_resumed_leaves_what_uninterrupted_does(monkeypatch):
    assert run("fit", *TABLE, "--out", "whole", "--logger", "csv") == 0
    more = []
    for step in (23, 51):
        with monkeypatch.context() as patch:
            patch.setattr(progress, "_line_per_tenth", stopped_at(step))
            assert run("fit", *TABLE, "--logger", "csv", *more) == 143
        more = ["--resume"]
        assert len(looks()) == (1 if step == 23 else 2)
    assert run("fit", *TABLE, "--resume", "--logger", "csv") == 0
    for name in FILES:
        assert (portrait() / name).read_bytes() == (portrait("whole") / name).read_bytes(), name
    assert looks() == looks("whole")
    assert facts()["resumed_at"] == [23, 51]
    assert (facts()["began"], facts()["words"]) == (facts()["began"], facts("whole")["words"])
    with Path("runs/people/portrait/looks.csv").open() as file:
        seconds = [float(line["seconds"]) for line in csv.DictReader(file)]
    assert seconds == sorted(seconds)
    logged, other = (pd.read_csv(Path(one, "logs", "metrics.csv")) for one in ("runs/people", "whole"))
    timed = ["seconds", "rows_per_second"]
    pd.testing.assert_frame_equal(logged.drop(columns=timed), other.drop(columns=timed))
    assert logged["step"].tolist() == list(range(1, 61))
    metrics = pd.read_csv("whole/metrics.csv")
    np.testing.assert_allclose(other["invariance"], metrics["invariance"])
    for line in looks("whole"):
        assert float(line["learning_rate"]) == other["learning_rate"][int(line["step"]) - 1]


class Killed(BaseException):
    """Nobody is asked, and nothing is written after it."""


def test_killed_before_any_file_at_the_end_and_resumed(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 1e9)
    command = ["fit", "people.csv", "--labels", "kind", *QUICK]
    assert run(*command, "--out", "whole") == 0
    whole = {path: path.read_bytes() for path in portrait("whole").iterdir()}
    write = runs.write_atomically
    assert run(*command, "--out", "run") == 0
    ends = ["influence.csv", "map.parquet", "neighbors.npy", "facts.json"]
    for name in ends:

        def writes(path, *content, name=name):
            if path.name == name:
                raise Killed
            write(path, *content)

        with monkeypatch.context() as patch:
            patch.setattr(runs, "write_atomically", writes)
            with pytest.raises(Killed):
                run(*command, "--out", f"run-{name}")
        out = Path(f"run-{name}")
        assert (out / "checkpoint" / "last.safetensors").exists()
        assert run(*command, "--out", out, "--resume") == 0
        for path, content in whole.items():
            if path.name not in ("looks.csv", "facts.json"):
                assert (portrait(out) / path.name).read_bytes() == content, path.name
        assert looks(out) == looks("whole")


@pytest.mark.parametrize(
    ("room", "name", "said"),
    [
        (portraying, "write_map", "Could not write the map: no room"),
        (portraying, "nearest", "Could not write the neighbours: no room"),
        (portraying, "write_report", "Could not write the report: no room"),
        (portraying, "write_facts", "Could not write the run in words: no room"),
        (recording, "quick_readings", "Could not write some of what was seen on the way: no room"),
        (recording, "write_snapshots", "Could not write the batch at its start or end: no room"),
        (recording, "write_looks", "Could not write what was seen on the way: no room"),
    ],
)
def test_what_cannot_be_written_is_said_and_the_run_ends_well(monkeypatch, capsys, room, name, said):
    def full(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(room, name, full)
    assert run("fit", "people.csv", "--labels", "kind", *QUICK) == 0
    assert capsys.readouterr().out.count(f"{said}\n") == 1
    assert runs.Run(Path("runs/people")).finished()
    if name not in ("write_facts", "write_report"):
        assert facts()["notes"] == [said]


def test_without_plotly_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(portraying, "write_report", lambda folder: None)
    assert run("fit", "people.csv", "--labels", "kind", *QUICK) == 0
    out = capsys.readouterr().out
    assert "Install vicreg[report] for a page of this run.\n" in out
    assert out.splitlines()[-1] == "The run is in runs/people."


def test_of_many_rows_some_are_shown(monkeypatch):
    monkeypatch.setattr(portraying, "some_rows", portraying.some_rows)
    monkeypatch.setattr(portraying.some_rows, "__defaults__", (50,))
    assert run("fit", "people.csv", "--labels", "kind", *QUICK) == 0
    table, plain = of_map()
    rows = table["row"].to_numpy()
    assert (len(table), plain["total"], len(set(rows.tolist()))) == (50, ROWS, 50)
    assert (np.diff(rows) > 0).all()
    assert table["item"].to_pylist() == list(map(str, rows))
    np.testing.assert_array_equal(table["held_out"], runs.read_array(Path("runs/people/split.npy"))[rows])
    assert table["colour kind"].to_pylist() == pd.read_csv("people.csv")["kind"][rows].tolist()


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"one": [1.0, 2.0]}),
        pd.DataFrame({"one": [1.0, 2.0, 5.0], "gaps": [None] * 3}),
        pd.DataFrame({"one": [1.0, None, None, None], "other": [None, 2.0, 3.0, None]}),
        pd.DataFrame({HOSTILE: ["a", "b"] * 4, 'a,\n"b"': range(8), "día": pd.date_range("2020-01-01", periods=8)}),
    ],
    ids=["one column", "an empty column", "gaps", "names"],
)
def test_small_and_odd_tables(table, capsys):
    table.to_csv("odd.csv", index=False)
    assert run("fit", "odd.csv", *QUICK) == 0
    found, plain = of_map("runs/odd")
    assert len(found) == plain["total"] == len(table)
    assert "Could not" not in capsys.readouterr().out
    near = runs.read_array(portrait("runs/odd") / "neighbors.npy")
    assert near.shape == (2, len(table), 10)
    assert (near.max(axis=(1, 2)) < len(table)).all()
    if HOSTILE in table:
        assert found["colour día"].to_pylist()[0] == pytest.approx(2020, abs=0.01)
        assert found[f"colour {HOSTILE}"].to_pylist() == ["a", "b"] * 4


def test_pictures_have_thumbnails_but_for_those_that_cannot_be_read():
    images.tree("tree", 30)
    assert run("fit", "tree", "--labels", "folder", *images.TINY, "--steps", "2") == 0
    table, plain = of_map("runs/tree")
    assert len(table) == 29
    assert table["item"].to_pylist()[0].endswith(".png")
    assert {one.split("/")[0] for one in table["item"].to_pylist()} == set(table["colour folder"].to_pylist())
    assert plain["what_raw"] == "16 x 16 grey pixels"
    media = pq.read_table(portrait("runs/tree") / "media.parquet")
    assert sorted(media["position"].to_pylist()) == list(range(29))
    assert set(media["mime"].to_pylist()) == {"image/jpeg"}
    assert facts("runs/tree")["kind"] == "image"


def test_a_stream_has_no_map_and_says_so(capsys):
    images.shards("shards")
    assert run("fit", "shards", *images.TINY, "--steps", "3") == 0
    assert "There is no map: a stream's pictures cannot be opened one by one." in capsys.readouterr().out
    assert {path.name for path in portrait("runs/shards").iterdir()} == {
        "start.safetensors",
        "end.safetensors",
        "looks.csv",
        "facts.json",
    }


def test_sounds_can_be_heard_and_other_series_cannot():
    sounds.tree("sounds", 24)
    assert run("fit", "sounds", *sounds.TINY, "--steps", "2") == 0
    media = pq.read_table(portrait("runs/sounds") / "media.parquet")
    assert len(media) == 23
    assert set(media["mime"].to_pylist()) == {"audio/wav"}
    x, kinds = sounds.series(24)
    np.savez("series.npz", x=x, kinds=kinds)
    assert run("fit", "series.npz", "--labels", "kinds", *sounds.TINY, "--steps", "2") == 0
    table, plain = of_map("runs/series")
    assert plain["what_raw"] == "mean, deviation and quantiles of each channel"
    assert table["colour kinds"].to_pylist() == [str(kind) for kind in kinds]
    assert not (portrait("runs/series") / "media.parquet").exists()


def test_thumbnails_weigh_no_more_than_they_may(monkeypatch):
    images.array("array.npz", 30)
    monkeypatch.setattr(portraying, "MOST_BYTES", 3000)
    assert run("fit", "array.npz", *images.TINY, "--steps", "2") == 0
    media = pq.read_table(portrait("runs/array") / "media.parquet")
    sizes = [len(one) for one in media["content"].to_pylist()]
    assert 1 <= len(sizes) < 30
    assert sum(sizes) <= 3000


def test_pairs_have_both_sides_and_examples():
    table = people(ROWS)
    table.drop(columns=["weight"]).to_csv("left.csv", index=False)
    table[["number", "weight", "height"]].to_csv("right.csv", index=False)
    words = ["left.csv", "right.csv", "--key", "number", "--labels", "kind", "--steps", "3", "--n-components", "2"]
    assert run("fit", *words) == 0
    found, plain = of_map("runs/left-right")
    assert {"pca_x", "pca_y", "other_x", "other_y", "colour kind"} <= set(found.column_names)
    assert "raw_x" not in found.column_names
    model = vicreg.load("runs/left-right")
    a = model.transform(table.drop(columns=["weight", "kind", "number"]), side="a")
    b = model.transform(table[["weight", "height"]], side="b")
    np.testing.assert_allclose(found["other_x"], b[:, 0], atol=1e-6)
    assert plain["two_dimensional"]
    read = runs.read_json(portrait("runs/left-right") / "retrieval.json")
    held = np.flatnonzero(found["held_out"])
    assert (read["n"], read["held_out"]) == (len(held), True)
    for one in read["examples"]:
        asked, among = (a, b) if one["query_side"] == "a" else (b, a)
        distance = ((among[held].astype(float) - asked[one["query"]]) ** 2).sum(1)
        assert one["found"] == held[np.argsort(distance)[:5]].tolist()
        assert one["rank"] == 1 + (distance < distance[held.tolist().index(one["query"])]).sum()
    cross = runs.read_array(portrait("runs/left-right") / "cross.npy")
    np.testing.assert_allclose(cross, np.corrcoef(a, b, rowvar=False)[:2, 2:], atol=1e-4)
    assert facts("runs/left-right")["words"][0].startswith("Side a, the left one: ")


def test_pairs_of_pictures_and_a_table_show_the_pictures():
    images.array("array.npz", 30)
    pd.DataFrame({"x": np.arange(30.0), "y": np.arange(30.0) % 7}).to_csv("numbers.csv", index=False)
    assert run("fit", "array.npz", "numbers.csv", "--steps", "2", "--width", "4", "--batch-size", "8") == 0
    media = pq.read_table(portrait("runs/array-numbers") / "media.parquet")
    assert set(media["side"].to_pylist()) == {"a"}
    assert len(media) == 30


def test_only_the_first_process_writes(tmp_path):
    class Looking:
        looks = ()

    recorder = recording.Recorder(runs.Run(tmp_path / "run"), Looking(), recording.Attempts(), 2, first=False)
    recorder(None)
    recorder.write()
    assert not (tmp_path / "run").exists()


def test_a_logger_for_tensorboard(monkeypatch):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert run("fit", "people.csv", "--labels", "kind", *QUICK, "--logger", "tensorboard") == 0
    found = event_accumulator.EventAccumulator("runs/people/logs")
    found.Reload()
    metrics = pd.read_csv("runs/people/metrics.csv")
    for name in ("invariance", "total"):
        np.testing.assert_allclose([one.value for one in found.Scalars(name)], metrics[name], rtol=1e-6)
    assert [one.step for one in found.Scalars("rankme_representation")] == [1, 4]
    assert len(found.Scalars("learning_rate")) == 4


def test_a_logger_that_is_not_installed_is_said_before_anything_is_done(monkeypatch, capsys):
    def missing(*_, **__):
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr("vicreg.training.loggers.TensorBoardLogger", missing)
    assert run("fit", "people.csv", "--labels", "kind", *QUICK, "--logger", "tensorboard") == 2
    said = "tensorboard must be installed to log to it; got no such package. Run pip install 'vicreg[log]', or"
    assert said in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_demo_leaves_a_run_like_any_other():
    said = []
    judged = demo(Path("runs/digits"), steps=3, say=said.append)
    assert judged.comparison is not None
    assert yaml.safe_load(Path("runs/digits/config.yaml").read_text())["labels"] == "digit"
    table, plain = of_map("runs/digits")
    assert plain["total"] == 1797
    assert set(table["colour digit"].to_pylist()) == set("0123456789")
    assert free_folder(Path("runs/digits")) == Path("runs/digits-2")
    assert run("evaluate", "runs/digits") == 0


def test_the_command_line_demonstrates(monkeypatch, capsys):
    monkeypatch.setattr("vicreg.workflows.demo", lambda folder, callbacks, say: demo(folder, steps=2, say=say))
    assert run("demo") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("The run is in runs/digits")
