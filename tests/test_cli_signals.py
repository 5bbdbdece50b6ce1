"""`vicreg fit`, `embed`, `evaluate` and `export` on sounds and other signals, as a user types them."""

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
import yaml
from commands import assert_same_files, run
from pyarrow import parquet
from safetensors.torch import load_file
from sounds import RATE, TINY, long_table, series, tones, tree
from torch import nn

import vicreg
from vicreg.data import SignalSpec
from vicreg.training import progress
from vicreg.views import Mel, log_mel
from vicreg.workflows.signals import described

SHORT = [*TINY, "--steps", "2"]
LONG = ["--id", "walk", "--time", "t"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Signals in all forms, and a run on a folder of recordings."""
    folder = tmp_path_factory.mktemp("made")
    tree(folder / "tree")
    sounds, kinds = tones(30)
    cells = []
    for sound in sounds:
        soundfile.write(folder / "one.flac", sound, RATE)
        cells.append((folder / "one.flac").read_bytes())
    parquet.write_table(pa.table({"audio": cells, "kind": kinds}), folder / "sounds.parquet")
    x, kinds = series(30)
    np.save(folder / "series.npy", x)
    np.savez(folder / "series.npz", x=x, y=kinds)
    waves = np.stack([sound[:800] for sound in sounds])
    np.savez(folder / "waves.npz", wave=waves, sr=RATE, kind=np.arange(30) % 2)
    long_table(folder / "steps.csv")
    assert run("fit", folder / "tree", "--labels", "folder", *SHORT, "--out", folder / "run") == 0
    return folder


@pytest.fixture(autouse=True)
def here(made, tmp_path, monkeypatch):
    """A folder of one's own, beside the same signals."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)


def about(folder):
    return yaml.safe_load(Path(folder, "config.yaml").read_text())


def test_a_run_has_what_the_page_says():
    names = {path.name for path in Path("run").iterdir()}
    assert names == {"config.yaml", "encoder.json", "encoder.safetensors", "epochs.csv", "metrics.csv", "scores.csv",
                     "split.npy", "portrait", "report.html"}  # fmt: skip
    assert np.load("run/split.npy").sum() == 6
    assert (about("run")["kind"], about("run")["signals"]) == ("signal", 30)
    with Path("run/epochs.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert {"rankme", "knn", "online_linear", "signals_per_second"} <= set(line)
    with Path("run/scores.csv").open() as file:
        assert {row["representation"] for row in csv.DictReader(file)} == {"raw", "pca", "random", "vicreg"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sounds.parquet"], "30 signals."),
        (["series.npy", "--rate", "50"], "resnet18-1d of .* on views of 60 samples \\(1.2 seconds\\)."),
        pytest.param(["series.npz", "--labels", "y"], "30 signals, 6 of them held out", marks=pytest.mark.slow),
        (["waves.npz", "--branches", "mel,mel"], "resnet18-mel of .* on views of 800 samples \\(0.2 seconds\\)."),
        pytest.param(
            ["steps.csv", *LONG, "--labels", "kind"], "6 of them held out to judge on.", marks=pytest.mark.slow
        ),
        (
            ["steps.csv", *LONG, "--values", "y", "--branches", "resnet18-1d/16,resnet34-1d/16"],
            "resnet34-1d is the oth",
        ),
    ],
)
def test_every_kind_of_source_is_fitted_and_embedded(words, said, capsys):
    assert run("fit", *words, *SHORT, "--out", "mine") == 0
    out = capsys.readouterr().out
    assert re.search(said, out)
    assert out.endswith("The run is in mine; its report is mine/report.html.\n")
    assert run("embed", "mine", words[0], "--out", "found.parquet") == 0
    assert " numbers to found.parquet." in capsys.readouterr().out


def test_embeddings_are_those_of_load_with_the_signals_names(capsys):
    assert run("embed", "run", "tree", "--out", "found.parquet") == 0
    said = capsys.readouterr().out
    assert "left out: the signal 'kind0/000.wav' must be one of wav, flac," in said
    assert "Wrote 29 signals of 64 numbers to found.parquet." in said
    found = parquet.read_table("found.parquet").to_pandas().set_index("name")
    assert found.index[0] == "kind0/003.wav"
    sound, _ = soundfile.read("tree/kind1/001.wav", dtype="float32")
    by_load = vicreg.load("run").transform([sound])
    np.testing.assert_allclose(by_load[0], found.loc["kind1/001.wav"].to_numpy(), atol=1e-5)


def test_recordings_of_another_rate_come_at_that_of_the_fit(capsys):
    sounds, _ = tones(4)
    Path("fast").mkdir()
    for index, sound in enumerate(sounds):
        doubled = np.interp(np.arange(2 * len(sound)) / 2, np.arange(len(sound)), sound)
        soundfile.write(f"fast/{index}.wav", np.stack([doubled, doubled], 1), 2 * RATE)
    assert run("embed", "run", "fast", "--out", "found.parquet") == 0
    found = parquet.read_table("found.parquet").to_pandas().set_index("name").to_numpy()
    by_load = vicreg.load("run").transform(sounds)
    assert np.corrcoef(found[1], by_load[1])[0, 1] > 0.9  # the same sounds, but for what interpolation changed
    capsys.readouterr()
    assert run("embed", "run", "fast", "--rate", "16000", "--out", "found.parquet") == 2
    assert "--rate must be left out, since the run's is 4000; got 16000." in capsys.readouterr().err


def test_a_long_table_is_embedded_with_the_columns_of_the_fit(capsys):
    assert run("fit", "steps.csv", *LONG, "--values", "x", *SHORT, "--out", "mine") == 0
    assert about("mine")["reading"] == {"id": "walk", "time": "t", "values": ["x"]}
    long_table("new.parquet", count=3, time=80, seed=1)
    Path("facts.csv").write_text("a,b\n1,2\n")
    assert run("embed", "mine", "new.parquet", "--out", "found.parquet") == 0
    found = parquet.read_table("found.parquet").to_pandas()
    assert found["name"].tolist() == ["w0", "w1", "w2"]
    x = np.stack([np.sin(np.arange(80) / (2 + walk)) for walk in range(3)]).astype(np.float32)
    np.save("x.npy", x)
    np.savez("x.npz", x=x[:, None])
    for name in ("x.npy", "x.npz"):
        np.testing.assert_allclose(embedded("mine", name), vicreg.load("mine").transform(x), rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    assert run("embed", "mine", "facts.csv", "--out", "found.parquet") == 2
    assert (
        "a long table must have the columns 'walk', 't', 'x'; got 'a', 'b', without 'walk'" in capsys.readouterr().err
    )
    assert run("evaluate", "mine", "new.parquet") == 2
    said = "--labels must name the labels of 'new.parquet'; got none, and the run had none."
    assert said in capsys.readouterr().err


def embedded(*words):
    assert run("embed", *words, "--out", "found.parquet") == 0
    return parquet.read_table("found.parquet").to_pandas().set_index("name").to_numpy()


def test_arrays_come_at_the_rate_of_the_fit_by_every_door(capsys):
    x = np.stack([np.round(2**15 * sound[:800]).astype(np.int16) for sound in tones(12)[0]])
    np.save("x.npy", x)
    np.savez("told.npz", x=x, sr=2 * RATE)
    assert run("fit", "x.npy", "--rate", str(RATE), "--branches", "wave,wave", *SHORT, "--out", "mine") == 0
    loaded = vicreg.load("mine")
    of_floats = loaded.transform(x / 2.0**15)
    for found in (embedded("mine", "x.npy"), embedded("mine", "x.npy", "--rate", str(RATE)), loaded.transform("x.npy")):
        np.testing.assert_allclose(found, of_floats, rtol=1e-4, atol=1e-5)
    said = "signals must have 4000 samples a second; got 8000."
    with pytest.raises(ValueError, match=said):
        loaded.transform("told.npz")
    capsys.readouterr()
    assert run("embed", "mine", "told.npz", "--out", "x.parquet") == 2
    assert said in capsys.readouterr().err


def test_channels_of_a_long_table_are_known_by_their_names():
    long_table("steps.parquet", count=12)
    table = parquet.read_table("steps.parquet")
    numbered = pa.array([int(kind == "up") for kind in table["kind"].to_pylist()])
    parquet.write_table(table.set_column(2, "kind", numbered), "numbered.parquet")
    parquet.write_table(table.select(["y", "t", "walk", "x"]), "turned.parquet")
    assert run("fit", "numbered.parquet", *LONG, "--labels", "kind", *SHORT, "--out", "mine") == 0
    wanted = vicreg.load("mine").transform(series(12)[0])
    for name in ("numbered.parquet", "turned.parquet"):
        np.testing.assert_allclose(embedded("mine", name), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_evaluate_judges_on_what_was_held_out_on_others_and_by_fine_tuning(capsys, made):
    written = (made / "run" / "scores.csv").read_text()
    assert run("evaluate", "run") == 0
    assert "Judged on 6 held-out rows, probes fitted on 23 other rows; 3 classes." in capsys.readouterr().out
    assert (made / "run" / "scores.csv").read_text() == written
    assert run("evaluate", "run", "sounds.parquet", "--labels", "kind") == 0
    assert "Judged on 6 held-out rows, probes fitted on 24 other rows; 3 classes." in capsys.readouterr().out
    assert run("evaluate", "run", "tree", "--test", "tree", "--augmented", "--shares", "0.5") == 0
    said = capsys.readouterr().out
    assert "Linear probe on augmented signals: accuracy " in said
    assert "labelled signals (0.5 of them)" in said
    assert "The encoder has learnt from the signals in tree" in said


@pytest.mark.slow
def test_a_long_table_is_judged_by_a_column_of_another(capsys):
    assert run("fit", "steps.csv", *LONG, "--values", "x", "y", *SHORT, "--out", "mine") == 0
    long_table("labelled.csv", seed=2)
    capsys.readouterr()
    assert run("evaluate", "mine", "labelled.csv", "--labels", "kind") == 0
    assert "Judged on 6 held-out rows, probes fitted on 24 other rows; 2 classes." in capsys.readouterr().out


def test_export_writes_both_encoders_and_refuses_what_it_cannot(capsys):
    assert run("export", "run", "--format", "safetensors", "--out", "encoder.st") == 0
    names = set(load_file("encoder.st"))
    assert {"wave.conv1.weight", "mel.conv1.weight"} <= names
    assert run("export", "run", "--format", "onnx", "--out", "x.onnx") == 2
    assert "--format must be safetensors for a run on signals; got 'onnx'." in capsys.readouterr().err


def by_hand(samples, rate):
    """Mean and deviation of the log-mel bands, one after the other."""
    bands = log_mel(torch.from_numpy(samples)[None], Mel.at(rate))[0, 0].numpy()
    return np.array([*(band.mean() for band in bands), *(band.std() for band in bands)])


def test_raw_data_beside_the_encoder_are_what_the_page_says():
    sound = tones(1)[0][0][None]
    of_sounds = SignalSpec(1, float(RATE), True, (0.0,), (1.0,))
    np.testing.assert_allclose(described(sound, of_sounds), by_hand(sound, RATE), rtol=1e-4)
    x = series(1)[0][0]
    found = described(x, SignalSpec(2, 50.0, False, (0.0, 0.0), (1.0, 1.0))).reshape(2, 8)
    for channel, numbers in zip(x, found, strict=True):
        ordered = np.sort(channel)
        assert numbers[:2].tolist() == pytest.approx([channel.mean(), channel.std()], rel=1e-4)
        assert ordered[14] <= numbers[3] <= ordered[15]  # a quarter of 60 steps lies below
        assert numbers[4] == pytest.approx(np.median(channel), rel=1e-4)
        assert numbers[7] == pytest.approx(np.std(channel[1:] - channel[:-1]), rel=1e-4)


def folder_of(**sounds):
    Path("some").mkdir()
    for name, (samples, rate) in sounds.items():
        soundfile.write(f"some/{name}.wav", samples, rate)


def test_odd_recordings_are_named_or_taken_as_they_are(capsys):
    sounds, _ = tones(6)
    stereo = np.stack([sounds[0]] * 2, 1)
    loud = np.clip(20 * sounds[1], -1, 1)
    few = {f"plain{index}": (sound, RATE) for index, sound in enumerate(sounds)}
    folder_of(**few, stereo=(stereo, RATE), loud=(loud, RATE), silent=(np.zeros(900), RATE),
              fast=(np.repeat(sounds[2], 2), 2 * RATE), one=(np.zeros(1), RATE), none=(np.zeros(0), RATE))  # fmt: skip
    assert run("fit", "some", *SHORT, "--max-corrupt", "0.2", "--out", "mine") == 0
    out = capsys.readouterr().out
    assert "left out: the signal 'none.wav' must have 2 samples at least; got 0." in out
    assert "left out: the signal 'one.wav' must have 2 samples at least; got 1." in out
    assert "Resampled to 4,000 samples a second, as most have: of 12 recordings looked at, 1 has 8,000." in out
    assert "1 has 2 channels: their mean is taken." in out
    assert "1 is silent: there is nothing to learn from them." in out
    assert "1 is clipped: over 1 % of the samples at full scale." in out
    assert run("fit", "some", *SHORT, "--out", "other") == 2
    err = capsys.readouterr().err
    assert "vicreg: corrupt signals must be at most 0.05 of all (--max-corrupt); got 1 of 12: the signal '" in err
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "tree", "--labels", "colour"], "labels of a folder of recordings must be 'folder'"),
        (["fit", "tree/kind1", "--labels", "folder"], "--labels must name labels that the source has; got 'folder'"),
        (["fit", "tree/kind1/001.wav"], "the signals must be at least 2 to learn from; got 1."),
        (["fit", "tree", "--encoder", "vit_tiny"], "encoder must be one of 'resnet18', "),
        (["fit", "tree", "--branches", "wave"], "branches must be two, one for each view; got 1."),
        (["fit", "tree", "--branches", "wave,tabular"], "each branch must be wave, mel or one of "),
        (["fit", "tree", "--rate", "0"], "rate must be a finite number above 0; got 0."),
        (["fit", "tree", "--channels", "0"], "channels must be at least 1; got 0."),
        (["fit", "tree", "--time", "t"], "id and time must be given together, for a long table; got (None, 't')"),
        (["fit", "steps.csv", "--time", "t"], "id and time must be given together, for a long table; got (None, 't')"),
        (["fit", "steps.csv", "--id", "who", "--time", "t"], "must"),
        (["fit", "steps.csv", *LONG, "--values", "kind"], "column 'kind' must hold numbers; got "),
        (["fit", "series.npy", "--branches", "mel,mel"], "branches must be wave for signals without a rate of 1000"),
        (["fit", "series.npy", "--seconds", "1"], "seconds must be left out where the rate is unknown; got 1.0."),
        (["fit", "series.npy", "--channels", "2"], "channels of an array file must be left out; got 2."),
        (["fit", "tree", "--resume", "--out", "run"], "'run' must be an unfinished run; got a finished one."),
        (["embed", "run", "series.npy", "--out", "x.parquet"], "signals must have 1 channel; got 2."),
        (["embed", "run", "nowhere", "--out", "x.parquet"], "the file 'nowhere' must exist; got no such file"),
        (["embed", "run", "tree", "--out", "tree/x.parquet"], "--out must be apart from the source; got"),
        (["evaluate", "run", "series.npz"], "must"),
        (["evaluate", "run", "--test", "tree"], "--test must come with labelled signals to train on; got 'tree'."),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_nothing_is_lost(words, said, capsys):
    before = set(Path().rglob("*"))
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("vicreg: ")
    assert said in err
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before


def test_gaps_in_a_series_and_series_shorter_than_the_crop(capsys):
    x, _ = series(20)
    x[3, 1, 7] = np.nan
    np.save("gaps.npy", x)
    assert run("fit", "gaps.npy", *SHORT, "--length", "100", "--out", "mine") == 0
    out = capsys.readouterr().out
    assert "left out: the signal '3' must hold finite numbers; got nan at sample 7 of channel 1." in out
    assert "on views of 100 samples." in out
    assert "are shorter than a view of 100 samples: their means surround them." in out
    assert "left out in all: 1 of 20 signals, which could not be read." in out


def raised_at(step, number):
    """In place of progress: somebody who sends this process a signal."""
    return lambda state: signal.raise_signal(number) if state.step == step else None


def lines(folder):
    """What was found at each epoch, but for the time it took."""
    with Path(folder, "epochs.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "signals_per_second"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "words",
    [["tree"], pytest.param(["steps.csv", *LONG, "--labels", "kind"], marks=pytest.mark.slow)],
)
def test_stopped_saves_and_resumed_is_bit_identical(words, capsys, monkeypatch):
    command = ["fit", *words, *TINY, "--epochs", "4"]
    assert run(*command, "--out", "whole") == 0
    capsys.readouterr()
    more = []
    for step, number, status in ((1, signal.SIGTERM, 143), (3, signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            patch.setattr(progress, "_line_per_tenth", raised_at(step, number))
            assert run(*command, "--out", "run2", *more) == status
        assert f"vicreg: stopped and saved at step {step} of " in capsys.readouterr().err
        more = ["--resume"]
    assert run("fit", words[0], "--resume", "--out", "run2", "--rate", "8000") == 2
    said = "with --resume, how the source is read must be as in the run; got {'rate': 8000.0}."
    assert said in capsys.readouterr().err
    assert run("fit", words[0], "--resume", "--out", "run2") == 0
    assert "Going on from step 3 of " in capsys.readouterr().out
    assert_same_files("run2", "whole")
    assert lines("run2") == lines("whole")


EVERY_MOMENT = """
from vicreg.workflows import checkpoints
checkpoints.SECONDS_BETWEEN_CHECKPOINTS = 0.0
checkpoints.SAVING_TAKES_ONE_IN = 0
from vicreg.cli import main
main()
"""


@pytest.mark.slow
def test_killed_in_a_process_of_its_own_and_gone_on_with():
    words = ["fit", "tree", "--labels", "folder", *TINY, "--epochs", "10"]
    assert run(*words, "--out", "whole") == 0
    last, more = Path("run2/checkpoint/last.safetensors"), []
    for _ in range(2):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", EVERY_MOMENT, *words, "--out", "run2", *more])
        end = time.monotonic() + 120
        while (last.stat().st_mtime_ns if last.exists() else 0) == before:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        process.kill()
        process.wait()
        more = ["--resume"]
    assert run(*words, "--out", "run2", "--resume") == 0
    for name in ("encoder.safetensors", "metrics.csv", "scores.csv", "split.npy"):
        assert Path("run2", name).read_bytes() == Path("whole", name).read_bytes(), name
    assert lines("run2") == lines("whole")


def test_pretrain_is_what_fit_does(capsys):
    assert run("fit", "series.npy", "--rate", "50", *SHORT, "--out", "by-command") == 0
    capsys.readouterr()
    said = []
    settings = {"width": 4, "expander": (16,), "batch_size": 8, "device": "cpu", "steps": 2, "say": said.append}
    embedder = vicreg.pretrain("series.npy", "mine", rate=50, **settings)
    assert Path("mine/encoder.safetensors").read_bytes() == Path("by-command/encoder.safetensors").read_bytes()
    assert said[0] == "30 signals."
    assert capsys.readouterr().out == ""
    assert embedder.transform(series(2)[0]).shape == (2, 32)
    embedder = vicreg.pretrain("steps.csv", "long", id="walk", time="t", values=["x"], **settings)
    assert embedder.transform(series(3, channels=1)[0]).shape == (3, 32)


def own(*, dims):
    kinds = {1: (nn.Conv1d, nn.AdaptiveAvgPool1d), 2: (nn.Conv2d, nn.AdaptiveAvgPool2d)}
    convolution, pool = kinds[dims]
    return nn.Sequential(convolution(1, 8, 3, stride=2), nn.ReLU(), pool(1), nn.Flatten())


def test_pretrain_takes_a_module_for_each_branch():
    given = [own(dims=1), own(dims=2)]
    settings = {"expander": (16,), "batch_size": 8, "device": "cpu", "steps": 2, "say": lambda text: None}
    embedder = vicreg.pretrain("tree", "mine", encoder=given, **settings)
    found = embedder.transform(tones(3)[0])
    assert found.shape == (3, 16)
    np.testing.assert_array_equal(vicreg.load("mine", encoder=given).transform(tones(3)[0]), found)
    alike = {"branches": ("wave", "wave"), "shared": False}
    embedder = vicreg.pretrain("tree", "alike", encoder=[own(dims=1), own(dims=1)], **settings | alike)
    assert embedder.transform(tones(3)[0]).shape == (3, 8)  # that of the first branch is kept
    with pytest.raises(ValueError, match="encoder must be one module for each of 2 branches; got 1 modules"):
        vicreg.pretrain("tree", "other", encoder=given[0], **settings)
    with pytest.raises(TypeError, match="encoder must be a name or a module; got"):
        vicreg.pretrain("tree", "other", encoder=[1, 2], **settings)
    assert not Path("other").exists()
