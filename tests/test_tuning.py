"""Tuning as users do it: an estimator, a table in a file, pictures, sounds, the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_wine

import vicreg
from vicreg import VICReg
from vicreg.cli.entry import main
from vicreg.runs import Run
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.signal_config import SignalConfig
from vicreg.tuning import Choice, Float, Integer, tune
from vicreg.views import Mask
from vicreg.workflows import Reading

X, Y = load_wine(return_X_y=True)
FEW = TableConfig(n_components=3, steps=4, encoder=(8,), expander=(8,), decoder=(8,), device="cpu")
SPACE = {"learning_rate": Float(1e-4, 1e-2, log=True)}
START = VICReg(n_components=3, steps=4, encoder=(8,), expander=(8,), decoder=(8,), random_state=0, device="cpu")


def silent(text: str) -> None:
    """Nothing is said."""


@pytest.fixture
def table(tmp_path):
    frame = pd.DataFrame(X, columns=[f"c{k}" for k in range(13)])
    frame["kind"] = [f"k{y}" for y in Y]
    path = tmp_path / "wine.csv"
    frame.to_csv(path, index=False)
    return path


def test_an_estimator_comes_back_fitted_with_the_best_settings():
    said = []
    tuned = tune(START, X, space=SPACE, trials=3, say=said.append)
    assert isinstance(tuned.best, VICReg)
    assert tuned.best.transform(X).shape == (178, 3)
    assert tuned.best.get_params()["learning_rate"] == tuned.config.learning_rate
    assert tuned.best.get_params()["random_state"] == 0
    assert said[0] == "Trials learn from 142 rows and are chosen by 36 others."
    assert len(tuned.study.trials) == 3
    assert "tuning" in str(tuned).lower()


def test_labels_are_chosen_by_on_some_rows_and_judged_by_on_others():
    tuned = tune(START, X, labels=Y, space=SPACE, trials=2, say=silent)
    assert tuned.score == "linear"
    assert "Judged by the labels on 36 rows that nothing was chosen on: linear probe" in tuned.words
    tuned = tune(START, X, labels=Y, score="rankme", space=SPACE, trials=2, say=silent)
    assert tuned.score == "rankme"


def test_objects_of_an_estimator_stay_and_are_not_searched():
    start = START.set_params(views=(Mask(0.2), Mask(0.4)))
    try:
        tuned = tune(start, X, trials=2, say=silent)
        assert tuned.best.views == (Mask(0.2), Mask(0.4))
        assert "views" not in tuned.trials[0].values
        with pytest.raises(ValueError, match="leave out what the estimator has an object for; got 'view_rate'"):
            tune(start, X, space={"view_rate": Float(0.1, 0.2)}, say=silent)
    finally:
        START.set_params(views="neighbors")


def test_a_file_leaves_a_study_whose_best_is_a_run(table, tmp_path):
    out = tmp_path / "study"
    tuned = tune(FEW, table, labels="kind", space=SPACE, trials=3, out=out, say=silent)
    assert Run(out / "best").finished()
    assert vicreg.load(out / "best").transform(pd.read_csv(table).drop(columns="kind")).shape == (178, 3)
    assert tuned.best.width == 3
    about = yaml.safe_load((out / "about.yaml").read_text())
    assert about["score"] == "linear"
    assert about["columns"]["labels"] == "kind"
    assert yaml.safe_load((out / "space.yaml").read_text())["learning_rate"]["log"] is True
    assert len(pd.read_csv(out / "trials.csv")) == 3
    assert (out / "answer.txt").read_text() == tuned.words + "\n"
    if Run(out / "default").exists():
        held = [np.load(out / name / "split.npy") for name in ("best", "default")]
        assert np.array_equal(*held)
    again = tune(FEW, table, labels="kind", space=SPACE, trials=3, out=out, say=silent)
    assert again.words == tuned.words
    with pytest.raises(ValueError, match=r"must be on the same 'score'; got score: 'knn', where it has 'linear'"):
        tune(FEW, table, labels="kind", score="knn", space=SPACE, trials=3, out=out, say=silent)


def test_a_winner_that_is_another_makes_way(table, tmp_path):
    out = tmp_path / "study"
    tune(FEW, table, space=SPACE, trials=1, out=out, say=silent)
    first = (out / "best" / "config.yaml").read_text()
    tuned = tune(FEW, table, space=SPACE, trials=4, score=None, out=out, say=silent)
    if tuned.config != FEW:
        assert (out / "earlier-1" / "config.yaml").read_text() == first
    assert Run(out / "best").read_config()["settings"]["learning_rate"] == tuned.config.learning_rate


def test_bad_input_is_said_before_anything(table, tmp_path):
    frame = pd.read_csv(table)
    frame["one"] = "same"
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match="labels must have at least two classes of two rows or more"):
        tune(FEW, table, labels="one", out=tmp_path / "a", say=silent)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="trials must be at least 1; got 0"):
        tune(FEW, table, trials=0, out=tmp_path / "a", say=silent)
    with pytest.raises(ValueError, match=r"must be new, empty, or the folder of a study; got other files"):
        tune(FEW, table, out=tmp_path, say=silent)
    with pytest.raises(TypeError, match="model must be a VICReg or settings; got int"):
        tune(7, X)
    with pytest.raises(TypeError, match="data must be a path where settings are tuned; got ndarray"):
        tune(FEW, X)
    with pytest.raises(ValueError, match="rows must be at least 8 to learn from some and to choose by others; got 5"):
        tune(START, X[:5])


def test_few_labels_are_enough_to_choose_by(table, tmp_path):
    frame = pd.read_csv(table)
    frame.loc[::3, "kind"] = None
    frame.to_csv(table, index=False)
    said = []
    tuned = tune(FEW, table, labels="kind", score="knn", space=SPACE, trials=2, out=tmp_path / "s", say=said.append)
    assert all(row.state == "complete" for row in tuned.trials)
    assert "more, on which the winner is judged, are out of all this" in said[0]


@pytest.fixture
def photos(tmp_path):
    draw = np.random.default_rng(0)
    for kind in range(2):
        (tmp_path / "photos" / str(kind)).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(120 * kind, 120 * kind + 100, size=(12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / str(kind) / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("score", ["stability", "rankme-embedding", "lidar", "neighbors", "knn"])
def test_pictures_are_tuned_on_what_a_fit_does_not_see(photos, tmp_path, score):
    start = ImageConfig(width=4, image_size=8, expander=(8,), steps=2, batch_size=8, warmup_epochs=0.0, device="cpu")
    labels = "folder" if score == "knn" else None
    space = {"learning_rate": Float(0.01, 0.1, log=True), "steps": Integer(1, 3), "views": Choice(("crop", "cifar"))}
    how = {"labels": labels, "score": score, "space": space, "trials": 2, "out": tmp_path / "study", "say": silent}
    tuned = tune(start, photos, **how)
    assert [row.state for row in tuned.trials] == ["complete"] * 2, tuned.trials
    assert tuned.best.transform([next(photos.rglob("*.png"))]).shape[0] == 1
    assert ("Judged by the labels" in tuned.words) == (score == "knn")


def test_columns_are_of_tables(photos, tmp_path):
    start = ImageConfig(width=4, image_size=8, expander=(8,), steps=2, batch_size=8, warmup_epochs=0.0, device="cpu")
    with pytest.raises(ValueError, match="a score by columns must be for a table; got pictures or signals"):
        tune(start, photos, score="columns", trials=1, out=tmp_path / "study", say=silent)


def test_signals_are_tuned_too(tmp_path):
    waves = np.random.default_rng(0).normal(size=(30, 2, 64)).astype(np.float32)
    np.savez(tmp_path / "waves.npz", x=waves, kind=np.arange(30) % 2)
    start = SignalConfig(width=4, expander=(8,), steps=2, batch_size=8, warmup_epochs=0.0, device="cpu")
    how = {"labels": "kind", "score": "stability", "trials": 2, "out": tmp_path / "study", "say": silent}
    tuned = tune(start, tmp_path / "waves.npz", space=SPACE, reading=Reading(), **how)
    assert [row.state for row in tuned.trials] == ["complete"] * 2, tuned.trials


def test_the_command_does_the_same(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-4, high: 1e-2, log: true}\nsteps: 3\n")
    words = ["tune", "wine.csv", "--labels", "kind", "--space", "space.yaml", "--trials", "2", "--device", "cpu"]
    main([*words, "--n-components", "3"])
    said = capsys.readouterr().out
    assert "2 trials in all, by the score 'linear', over 'learning_rate'." in said
    assert "The winner is refitted and saved: studies/wine/best is a run" in said
    assert json.loads((tmp_path / "studies/wine/best/encoder.json").read_text())
    assert Run(tmp_path / "studies/wine/best").read_config()["settings"]["steps"] == 3


def test_the_command_says_what_is_wrong_and_exits_2(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["--score", "nonsense"], "score must be one of"),
        (["--space", "none.yaml"], "must exist; got no such file"),
        (["--storage", "sqlite:////nowhere/at/all.db"], "must be reachable"),
        (["--labels", "nothing"], "--labels must name columns of the table"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["tune", "wine.csv", *words])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["tune", "wine.csv", "wine.csv"])
    assert "the source of vicreg tune must be one; got 2 of them" in capsys.readouterr().err
