"""What a run on pictures guards: held-out pictures, labels, its checkpoint, and people's addresses."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from commands import run
from images import TINY, array, shards, tree

from vicreg import runs
from vicreg.data.decode import orientation_in
from vicreg.runs import Run
from vicreg.workflows import checkpoints

SHORT = [*TINY, "--steps", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_pairs_of_one_class_would_teach_the_labels(capsys):
    tree(Path("tree"))
    assert run("fit", "tree", "--labels", "folder", "--views", "same-folder", *SHORT) == 2
    said = capsys.readouterr().err
    assert "--labels must tell more than the folders whose pictures are paired; got the same folders. Leave" in said
    assert not Path("runs").exists()
    for index, file in enumerate(sorted(Path("tree").rglob("*.png"))):  # clips of each class
        clip = file.parent / f"clip{index % 2}"
        clip.mkdir(exist_ok=True)
        shutil.move(file, clip / file.name)
    assert run("fit", "tree", "--labels", "folder", "--views", "same-folder", *SHORT) == 0


@pytest.mark.slow
def test_changed_labels_are_noticed_and_the_split_is_the_fits(capsys):
    array("a.npz")
    assert run("fit", "a.npz", "--labels", "labels", *SHORT, "--out", "run") == 0
    capsys.readouterr()
    held = runs.read_array(Run(Path("run")).split)
    assert run("evaluate", "run") == 0
    assert f"Judged on {held.sum()} held-out rows" in capsys.readouterr().out
    with np.load("a.npz") as found:
        images, labels = found["images"], found["labels"]
    np.savez("a.npz", images=images, labels=np.roll(labels, 1))
    assert run("evaluate", "run") == 2
    assert "must be the source that the run was fitted on; got other labels. Fit a new run." in capsys.readouterr().err
    np.savez("a.npz", images=images, labels=labels)
    np.save("run/split.npy", held[1:])
    assert run("evaluate", "run") == 2
    assert "split.npy' must be as vicreg wrote it" in capsys.readouterr().err


def test_judging_on_what_was_learnt_from_says_so(capsys):
    tree(Path("tree"))
    assert run("fit", "tree", *SHORT, "--out", "run") == 0
    assert run("evaluate", "run", "tree") == 0
    assert "The encoder has learnt from the pictures in tree, or most of them" in capsys.readouterr().out


def test_few_labelled_pictures_are_watched_with_fewer_neighbours():
    array("few.npz", count=24)
    assert run("fit", "few.npz", "--labels", "labels", *SHORT, "--out", "run") == 0
    assert "knn" in Path("run/epochs.csv").read_text()


def test_a_source_that_goes_away_leaves_the_checkpoint(monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(checkpoints, "SAVING_TAKES_ONE_IN", 0)
    tree(Path("tree"))
    written = runs.write_tensors

    def then_away(path, tensors, plain):
        written(path, tensors, plain)
        if Path("tree").exists() and plain.get("step") == 2:
            Path("tree").rename("elsewhere")

    monkeypatch.setattr(runs, "write_tensors", then_away)
    words = [*TINY, "--epochs", "4", "--out", "run"]
    assert run("fit", "tree", *words) == 2
    assert "must be at most 0.05 of all (--max-corrupt)" in capsys.readouterr().err
    assert Run(Path("run")).checkpoint.exists()
    Path("elsewhere").rename("tree")
    monkeypatch.setattr(runs, "write_tensors", written)
    assert run("fit", "tree", "--resume", "--out", "run") == 0


def test_shards_by_address(capsys):
    tree(Path("tree"))
    shards(Path("shards"))
    assert run("fit", "tree", *SHORT, "--out", "run") == 0
    address = Path("shards", "0.tar").absolute().as_uri()
    assert address.startswith("file:///")
    assert run("embed", "run", address, "--out", "e.parquet") == 0
    assert "Wrote 20 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [0, 2, 5, 7, 12, 60000])
def test_an_orientation_of_an_odd_type_is_none(kind):
    entry = struct.pack("<HHI4s", 0x0112, kind, 1, b"\x06\0\0\0")
    assert orientation_in(b"II*\0\x08\0\0\0" + b"\x01\0" + entry) == 1
