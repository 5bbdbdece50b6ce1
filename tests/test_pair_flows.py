"""Runs on pairs of any two kinds: fitted, resumed, embedded with, judged."""

import os
import shutil
import signal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from PIL import Image
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits

import vicreg
from vicreg import PairEmbedder, runs
from vicreg.evaluation import retrieval
from vicreg.runs import Run
from vicreg.training.pair_config import PairConfig
from vicreg.workflows import (
    Interrupted,
    Pairing,
    Reading,
    embed_pair,
    evaluate_pair,
    fit_pair,
    kind_of_run,
    resume_pair,
)
from vicreg.workflows.pair_about import held_out
from vicreg.workflows.pair_judging import retrieval_in_words

N = 60
TINY = PairConfig(
    n_components=3, branches=(), width=4, steps=4, batch_size=16, decoder=(8,), expander=None, device="cpu", workers=1
)
TABLES = PairConfig(n_components=3, branches=("8", "8"), steps=6, batch_size=16, device="cpu")
BY_ID = Pairing(key="id", labels="y")


def silent(text):
    """Nobody listens."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Digits as two tables in different orders, as pictures, and as sounds, all of which have the same keys."""
    folder = tmp_path_factory.mktemp("pairs")
    digits = load_digits()
    x, y = digits.data[:N], digits.target[:N] % 3
    upper = pd.DataFrame(x[:, 8:32]).add_prefix("u").assign(id=[f"d{i}" for i in range(N)])
    lower = pd.DataFrame(x[:, 32:56]).add_prefix("l").assign(id=[f"d{i}" for i in range(N)], y=y)
    upper.to_csv(folder / "upper.csv", index=False)
    lower.sample(frac=1, random_state=0).to_parquet(folder / "lower.parquet")
    (folder / "pictures").mkdir()
    (folder / "sounds").mkdir()
    rng = np.random.default_rng(0)
    for i in range(N):
        Image.fromarray((x[i].reshape(8, 8) * 15).astype(np.uint8)).save(folder / "pictures" / f"d{i}.png")
        tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * y[i]) * np.arange(600) / 2000) + 0.01 * rng.normal(size=600)
        soundfile.write(folder / "sounds" / f"d{i}.wav", tone, 2000)
    np.savez(folder / "series.npz", x=rng.normal(size=(N, 2, 40)).astype(np.float32), y=y)
    return folder


@pytest.fixture(scope="module")
def fitted(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tables"
    judged = fit_pair(str(place / "upper.csv"), str(place / "lower.parquet"), folder, BY_ID, TABLES, say=silent)
    return folder, judged


def test_two_tables_by_a_key(place, fitted):
    folder, judged = fitted
    assert kind_of_run(folder) == "pair"
    assert set(judged.retrieval) == {"vicreg", "cca"}
    assert judged.retrieval["vicreg"].count == N // 5
    assert set(judged.sides) == {"a", "b"}
    assert list(judged.sides["a"].widths) == ["raw", "pca", "cca", "vicreg"]
    assert "recall@10 median rank" in judged.in_words()
    loaded = vicreg.load(folder)
    assert isinstance(loaded, PairEmbedder)
    assert loaded.a.spec.names == tuple(f"u{i}" for i in range(24))
    assert loaded.b.spec.names == tuple(f"l{i}" for i in range(24))  # neither the key nor the labels
    held = runs.read_array(Run(folder).split)
    upper = pd.read_csv(place / "upper.csv")
    lower = pd.read_parquet(place / "lower.parquet").set_index("id").loc[upper.id].reset_index()
    a, b = loaded.transform(upper.drop(columns="id")), loaded.transform(lower.drop(columns=["id", "y"]), side="b")
    assert retrieval(a[held], b[held]).recall == judged.retrieval["vicreg"].recall
    kept = pd.read_parquet(folder / "b" / "embeddings.parquet").set_index("id").loc[upper.id]
    np.testing.assert_allclose(kept.to_numpy(), b, atol=1e-5)  # of the same rows in another order
    scores = pd.read_csv(folder / "scores-retrieval.csv")
    found = scores.query("representation == 'vicreg' and direction == 'both' and metric == 'recall@5'").value
    assert found.item() == judged.retrieval["vicreg"].recall[5]


def test_judged_again_and_on_new_pairs(place, fitted, tmp_path):
    folder, judged = fitted
    assert evaluate_pair(folder).retrieval == judged.retrieval
    upper, lower = pd.read_csv(place / "upper.csv"), pd.read_parquet(place / "lower.parquet")
    some = upper.id[:30]
    upper[upper.id.isin(some)].to_csv(tmp_path / "new.csv", index=False)
    lower[lower.id.isin(some)].drop(columns="y").to_csv(tmp_path / "other.csv", index=False)
    new = evaluate_pair(folder, str(tmp_path / "new.csv"), str(tmp_path / "other.csv"))
    assert new.retrieval["vicreg"].count == 30
    assert (folder / "scores-retrieval-new-other.csv").exists()
    assert set(new.readings) == {"a", "b"}
    assert new.sides == {}
    with pytest.raises(ValueError, match="--labels must name labels that a side has"):
        evaluate_pair(folder, str(tmp_path / "new.csv"), str(tmp_path / "other.csv"), Pairing(labels="z"))
    again = evaluate_pair(folder, str(place / "upper.csv"), str(place / "lower.parquet"))
    assert "has learnt from these pairs" in " ".join(again.notes)
    with pytest.raises(ValueError, match="LEFT and RIGHT must come together"):
        evaluate_pair(folder, str(place / "upper.csv"))
    with pytest.raises(ValueError, match="be a table, as the run's right side; got pictures"):
        evaluate_pair(folder, str(place / "upper.csv"), str(place / "pictures"), Pairing(key="id"))


def test_embedding_one_side(place, fitted, tmp_path):
    folder, _ = fitted
    out = tmp_path / "out.parquet"
    embed_pair(folder, str(place / "lower.parquet"), out, "b", say=silent)
    np.testing.assert_array_equal(pq.read_table(out), pq.read_table(folder / "b" / "embeddings.parquet"))
    with pytest.raises(ValueError, match=r"--side must say which side .* There are a \(table\) and b \(table\)"):
        embed_pair(folder, str(place / "lower.parquet"), out, None)
    with pytest.raises(ValueError, match="--side must be one of 'a', 'b'; got 'c'"):
        embed_pair(folder, str(place / "lower.parquet"), out, "c")
    with pytest.raises(ValueError, match="be a table, as the run's left side; got pictures"):
        embed_pair(folder, str(place / "pictures"), out, "a")
    with pytest.raises(ValueError, match="also 'u1'"):
        embed_pair(folder, str(place / "lower.parquet"), out, "a")


@pytest.mark.parametrize(
    ("left", "right", "aligned", "pairing"),
    [
        ("pictures", "lower.parquet", None, BY_ID),
        ("pictures", "lower.parquet", True, Pairing(key="id")),
        ("pictures", "pictures", True, Pairing()),
        ("sounds", "lower.parquet", None, BY_ID),
        ("sounds", "pictures", True, Pairing(key="name")),
        ("series.npz", "upper.csv", None, Pairing(labels="y", exclude=("id",))),
    ],
)
def test_pairs_of_any_two_kinds(place, tmp_path, left, right, aligned, pairing):
    config = TINY if aligned is None else PairConfig(**{**vars(TINY), "aligned": aligned})
    said = []
    folder = tmp_path / "run"
    judged = fit_pair(str(place / left), str(place / right), folder, pairing, config, say=said.append)
    assert bool(judged.retrieval) == bool(aligned)
    assert bool(judged.sides) == (pairing.labels is not None)
    assert bool(judged.readings) == (pairing.labels is None)
    assert "cca" not in judged.retrieval
    embedder = vicreg.load(folder)
    assert embedder.aligned == bool(aligned)
    if aligned:
        assert (embedder.a.width, embedder.b.width) == (3, 3)
    else:
        assert "cannot be compared" in judged.in_words()
    embed_pair(folder, str(place / left), tmp_path / "a.parquet", "a", say=silent)
    assert pq.read_table(tmp_path / "a.parquet").num_rows == N
    assert evaluate_pair(folder).retrieval == judged.retrieval
    assert any("the sides are" in text for text in said)


def test_no_two_sides_are_cut_alike(place, tmp_path):
    """Two sides of the same pictures, whose views would be equal if they had the same seed."""
    seen = []
    config = PairConfig(**{**vars(TINY), "aligned": True, "steps": 1})
    where = str(place / "pictures")
    fit_pair(where, where, tmp_path / "run", Pairing(), config, callbacks=[lambda s: seen.append(s.drawn)], say=silent)
    a, b = seen[0].views
    assert a.shape == b.shape
    assert not any(np.allclose(one, other) for one, other in zip(a, b, strict=True))


def interrupt_at(step):
    def callback(state):
        if state.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


@pytest.mark.slow
@pytest.mark.parametrize(("left", "right"), [("upper.csv", "lower.parquet"), ("pictures", "lower.parquet")])
def test_resumed_is_uninterrupted(place, tmp_path, left, right):
    config = PairConfig(**{**vars(TINY), "steps": 6})
    sources = str(place / left), str(place / right)
    whole = fit_pair(*sources, tmp_path / "whole", BY_ID, config, say=silent)
    with pytest.raises(Interrupted, match="stopped and saved at step 3 of 6"):
        fit_pair(*sources, tmp_path / "cut", BY_ID, config, callbacks=[interrupt_at(3)], say=silent)
    with pytest.raises(ValueError, match="with --resume, settings must be those of the run"):
        resume_pair(*sources, tmp_path / "cut", Pairing(), PairConfig(steps=7), say=silent)
    with pytest.raises(ValueError, match="be the source that the run was fitted on"):
        resume_pair(sources[1], sources[1], tmp_path / "cut", Pairing(), PairConfig(), say=silent)
    resumed = resume_pair(None, None, tmp_path / "cut", Pairing(), PairConfig(), say=silent)
    assert resumed.retrieval == whole.retrieval
    for side in "ab":
        one, other = (runs.read_tensors(tmp_path / name / side / runs.ENCODER)[0] for name in ("whole", "cut"))
        assert all(bool((one[name] == other[name]).all()) for name in one)
    with pytest.raises(ValueError, match="be an unfinished run; got a finished one"):
        resume_pair(*sources, tmp_path / "cut", Pairing(), PairConfig(), say=silent)


def test_what_cannot_be_read_goes_with_its_partner(place, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in (place / "pictures").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("d3.png", "d50.png"):
        (folder / name).write_bytes(b"no picture")
    said = []
    config = PairConfig(**{**vars(TINY), "aligned": True})
    judged = fit_pair(str(folder), str(place / "lower.parquet"), tmp_path / "run", BY_ID, config, say=said.append)
    left_out = sum("left out, and its partner" in text for text in said)
    not_judged = sum("of which a side could not be read" in note for note in judged.notes)
    assert left_out + not_judged >= 1
    learnt = [line for line in said if "steps" in line]
    assert learnt
    strict = PairConfig(**{**vars(config), "max_corrupt": 0.0})
    with pytest.raises(ValueError, match="be at most 0 of all"):
        fit_pair(str(folder), str(place / "lower.parquet"), tmp_path / "other", BY_ID, strict, say=silent)
    assert not (tmp_path / "other").exists()


def test_opened_by_threads_the_same_pictures_are_paired(place, tmp_path, monkeypatch):
    seen = {}
    for most in (2**31, 0):
        monkeypatch.setattr("vicreg.training.preparing.MOST_BYTES", most)
        config = PairConfig(**{**vars(TINY), "steps": 1, "views": ("identity", "identity")})
        sources = str(place / "pictures"), str(place / "lower.parquet")
        drawn = []
        folder = tmp_path / str(most)
        fit_pair(*sources, folder, BY_ID, config, callbacks=[lambda s, to=drawn: to.append(s.drawn)], say=silent)
        seen[most] = drawn[0].views
    for one, other in zip(*seen.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05)


def test_bad_input_is_told_before_anything_is_written(place, tmp_path):
    upper = pd.read_csv(place / "upper.csv")
    upper[:50].to_csv(tmp_path / "short.csv", index=False)
    upper.assign(id=upper.id.where(upper.index > 0, "d7")).to_csv(tmp_path / "twice.csv", index=False)
    upper.assign(id=upper.id.where(upper.index > 1)).to_csv(tmp_path / "gaps.csv", index=False)
    upper.assign(u9=np.inf).to_csv(tmp_path / "infinite.csv", index=False)
    lower = str(place / "lower.parquet")
    for name, pairing, said in (
        ("short.csv", Pairing(), "two sources must have as many rows; got 50 and 60. Name the column"),
        ("short.csv", Pairing(key="id"), "got 10 of the key 'id' on the right alone .*Leave out what has no partner"),
        ("twice.csv", Pairing(key="id"), "'id' on the left must have every key once; got 1 key more than once .'d7'"),
        (
            "gaps.csv",
            Pairing(key="id"),
            "'id' on the left .* key in every row; got none in 2 rows .row 0, 1, counted from 0.",
        ),
        ("upper.csv", Pairing(key="name"), "--key must name a column of .*upper.csv"),
        ("upper.csv", Pairing(labels="yy"), "--labels must name labels that a side has; got 'yy', .* Is 'y' meant"),
        ("upper.csv", Pairing(exclude=("z",)), "--exclude must name columns of either table"),
        ("upper.csv", Pairing(id=("vicreg0",)), "--id must name columns other than vicreg0"),
        ("upper.csv", Pairing(left=Reading(rate=8.0)), "the table .*upper.csv' must be read as it is"),
        ("upper.csv", Pairing(left=Reading(labels="y")), "labels of one side must be those of the pair"),
        ("infinite.csv", Pairing(key="id", labels="y"), "'u9'"),
    ):
        where = place / name if (place / name).exists() else tmp_path / name
        with pytest.raises(ValueError, match=said):
            fit_pair(str(where), lower, tmp_path / "run", pairing, TABLES, say=silent)
    for settings, said in (
        ({"views": ("same-folder", "identity")}, "views must be of the item itself in a pair"),
        ({"views": ("identity", "crop")}, "views must be one of"),
        ({"branches": ("resnet9", "8")}, "encoder must be one of"),
        ({"branches": ("resnet18", "resnet18")}, "each branch's encoder must be widths with dashes, as 128-128"),
    ):
        config = PairConfig(**{**vars(TINY), **settings})
        with pytest.raises(ValueError, match=said):
            fit_pair(str(place / "pictures"), lower, tmp_path / "run", Pairing(key="id"), config, say=silent)
    with pytest.raises(FileNotFoundError, match="no such file"):
        fit_pair(str(place / "nowhere.csv"), lower, tmp_path / "run", Pairing(), TABLES, say=silent)
    assert not (tmp_path / "run").exists()
    fit_pair(str(place / "upper.csv"), lower, tmp_path / "run", BY_ID, TABLES, say=silent)
    with pytest.raises(ValueError, match="hold no run yet"):
        fit_pair(str(place / "upper.csv"), lower, tmp_path / "run", BY_ID, TABLES, say=silent)


def test_gaps_in_a_series_and_in_a_table(place, tmp_path):
    series = np.load(place / "series.npz")["x"].copy()
    series[5, 0, 3] = np.nan
    series[20:40] = 1
    np.savez(tmp_path / "series.npz", x=series, y=np.zeros(N))
    upper = pd.read_csv(place / "upper.csv")
    upper.loc[::7, "u9"] = np.nan
    upper.to_csv(tmp_path / "upper.csv", index=False)
    said = []
    config = PairConfig(**{**vars(TINY), "max_corrupt": 0.1})
    pairing = Pairing(exclude=("id",))
    fit_pair(
        str(tmp_path / "series.npz"), str(tmp_path / "upper.csv"), tmp_path / "run", pairing, config, say=said.append
    )
    assert np.isfinite(vicreg.load(tmp_path / "run").transform(upper.drop(columns="id"), side="b")).all()
    assert sum("are constant: there is nothing to learn" in text for text in said) == 1


def test_too_few_pairs_to_hold_any_out(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pd.DataFrame(rng.normal(size=(14, 3))).to_csv(tmp_path / f"{name}.csv", index=False)
    judged = fit_pair(str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), tmp_path / "run", Pairing(), TABLES, say=silent)
    assert judged.notes[0].startswith("The run cannot be judged")
    assert Run(tmp_path / "run").finished()
    assert not runs.read_array(Run(tmp_path / "run").split).any()  # so that none is held out in vain


@pytest.mark.parametrize("damaged", [1, 4, 12])
def test_held_out_pairs_that_cannot_be_read_are_no_end(place, tmp_path, damaged):
    """Few of all pairs, though many of the twelve held out."""
    pictures = tmp_path / "pictures"
    shutil.copytree(place / "pictures", pictures)
    held = np.flatnonzero(held_out(N, None))
    for row in held[:damaged]:
        sorted(pictures.iterdir())[row].write_bytes(b"no picture")
    most = 0.05 if damaged < 12 else 0.5
    config = PairConfig(**{**vars(TINY), "aligned": True, "steps": 1, "max_corrupt": most})
    sources = str(pictures), str(place / "upper.csv")
    judged = fit_pair(*sources, tmp_path / "run", Pairing(key="id"), config, say=silent)
    assert Run(tmp_path / "run").finished()
    assert evaluate_pair(tmp_path / "run").notes == judged.notes
    told = {
        1: "1 pairs are left out, of which a side could not be read.",
        4: "The run cannot be judged because corrupt pictures must be at most 0.05 of all",
        12: f"The run cannot be judged because '{pictures}' must hold pictures that can be read; got none.",
    }
    assert judged.notes[0].startswith(told[damaged])


def test_new_recordings_are_read_as_those_of_the_fit(place, tmp_path):
    pairing = Pairing(key="id", left=Reading(channels=2))
    config = PairConfig(**{**vars(TINY), "aligned": True, "steps": 1})
    fit_pair(str(place / "sounds"), str(place / "upper.csv"), tmp_path / "run", pairing, config, say=silent)
    faster = tmp_path / "faster"
    faster.mkdir()
    for path in sorted((place / "sounds").iterdir())[:20]:
        samples, rate = soundfile.read(path)
        soundfile.write(faster / path.name, np.repeat(samples, 2), rate * 2)
    upper = pd.read_csv(place / "upper.csv")
    upper[upper.id.isin([path.stem for path in faster.iterdir()])].to_csv(tmp_path / "upper.csv", index=False)
    sources = str(faster), str(tmp_path / "upper.csv")
    as_before = evaluate_pair(tmp_path / "run", *sources)
    assert as_before.retrieval["vicreg"].count == 20
    named = evaluate_pair(tmp_path / "run", *sources, Pairing(left=Reading(rate=2000.0)))
    assert named.retrieval == as_before.retrieval
    with pytest.raises(ValueError, match="be signals, as the run's left side; got pictures"):
        evaluate_pair(tmp_path / "run", str(place / "pictures"), sources[1])


def test_new_tables_are_judged_as_they_are_transformed(tmp_path):
    """A column of text whose new cells look like numbers; and the run's columns to leave out, which new rows lack."""
    rng = np.random.default_rng(0)
    left = pd.DataFrame({"id": range(N), "code": [("1.0", "2.0", "x")[i % 3] for i in range(N)]})
    left = left.assign(a=rng.normal(size=N), b=rng.normal(size=N), junk=0.5)
    right = pd.DataFrame({"id": range(N), "c": left.a, "d": np.arange(N) % 3 + 0.1 * left.b})
    right = right.assign(kind=np.where(left.a > 0, "high", "low"))
    left.to_csv(tmp_path / "left.csv", index=False)
    right.to_csv(tmp_path / "right.csv", index=False)
    new = {"left": left[left.code != "x"].drop(columns="junk"), "right": right[left.code != "x"]}
    for name, frame in new.items():
        frame.to_csv(tmp_path / f"new-{name}.csv", index=False)
    fitted, fresh = ([str(tmp_path / f"{start}{name}.csv") for name in ("left", "right")] for start in ("", "new-"))
    run = tmp_path / "run"
    fit_pair(*fitted, run, Pairing(key="id", exclude=("junk", "kind")), TABLES, say=silent)
    judged = evaluate_pair(run, *fresh, Pairing(labels="kind"))
    assert set(judged.sides) == {"a", "b"}
    rows = [frame.drop(columns=["id", "kind"], errors="ignore") for frame in new.values()]
    z = [vicreg.load(run).transform(frame, side=side) for frame, side in zip(rows, "ab", strict=True)]
    assert judged.retrieval["vicreg"] == retrieval(*z)
    with pytest.raises(ValueError, match="--exclude must name columns of either table .*; got 'junk'"):
        evaluate_pair(run, *fresh, Pairing(exclude=("junk",)))


def test_processes_that_nobody_asked_for_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    sources = str(place / "upper.csv"), str(place / "lower.parquet")
    with pytest.raises(ValueError, match="the 2 processes that torchrun started; got 1. Pairs .* leave torchrun out"):
        fit_pair(*sources, tmp_path / "run", BY_ID, TABLES, say=silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"left": {"kind": "foo", "source": "x", "fingerprint": "y"}}, "left: .*foo"),
        ({"kind": "signal"}, "must be a run on a pair; got one of the kind 'signal'"),
        ({"kind": "pair", "left": None}, "left: None"),
    ],
)
def test_a_configuration_that_is_none_of_a_pair(fitted, tmp_path, change, said):
    found = Run(fitted[0]).read_config() | change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(found))
    for again in (evaluate_pair, lambda folder: resume_pair(None, None, folder, Pairing(), PairConfig())):
        with pytest.raises(ValueError, match=said):
            again(tmp_path)


@pytest.mark.slow
def test_pictures_and_their_columns_find_each_other(tmp_path):
    """Trained in earnest, a picture of a digit finds the row of its lower half's columns far above chance."""
    digits = load_digits()
    np.savez(tmp_path / "pictures.npz", images=(digits.images * 15).astype(np.uint8))
    pd.DataFrame(digits.data).add_prefix("p").to_parquet(tmp_path / "columns.parquet")
    config = PairConfig(
        aligned=True,
        width=16,
        views=("identity", "identity"),
        epochs=30,
        batch_size=128,
        learning_rate=3e-3,
        device="cpu",
    )
    sources = str(tmp_path / "pictures.npz"), str(tmp_path / "columns.parquet")
    found = fit_pair(*sources, tmp_path / "run", Pairing(), config, say=silent).retrieval["vicreg"]
    assert found.count == 359
    assert found.recall[1] > 0.3
    assert "chance                 .003" in retrieval_in_words({"vicreg": found})


@pytest.mark.slow
def test_by_the_command_lines_defaults_tables_beat_scikit_learns_cca(tmp_path):
    x = load_digits().data
    left, right = x[:, :32], x[:, 32:]
    np.save(tmp_path / "left.npy", left)
    np.save(tmp_path / "right.npy", right)
    sources = str(tmp_path / "left.npy"), str(tmp_path / "right.npy")
    judged = fit_pair(*sources, tmp_path / "run", Pairing(), PairConfig(device="cpu"), say=silent)
    held = runs.read_array(Run(tmp_path / "run").split)
    cca = CCA(16).fit(left[~held], right[~held])
    theirs = retrieval(*cca.transform(left[held], right[held]), metric="cosine")
    ours, ridged = (judged.retrieval[name].recall[1] for name in ("vicreg", "cca"))
    assert ours > 1.3 * max(ridged, theirs.recall[1])
