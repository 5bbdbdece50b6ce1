"""Runs on sounds and other signals: settings, feeds, networks, losses, resuming; and what is kept of them."""

import io
import re
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
import yaml
from pyarrow import parquet
from torch import nn

from vicreg import VICRegLoss, load, runs
from vicreg.data import Corrupt, CorruptSignal, GivenSignals, SignalSpec, read_signals
from vicreg.inference import SignalEmbedder, load_as
from vicreg.inference.image import ImageEmbedder
from vicreg.inference.signal import SignalPart, window_starts
from vicreg.training.collection import Deal, Partners
from vicreg.training.config import CONFIGS
from vicreg.training.engine import machine
from vicreg.training.feed import Order, full_batches
from vicreg.training.pair_config import PairConfig
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.training.sides import signal_side
from vicreg.training.signal import faults_in_words, short_in_words, signal_run, view_length, windows_of
from vicreg.training.signal_config import SignalConfig
from vicreg.training.signals import OpenedSignals, ResidentSignals
from vicreg.views import Mel, SignalView, SpectrogramView, log_mel, signal_views

RATE = 1000
TINY = SignalConfig(
    width=4, expander=(16,), length=200, mels=8, hop_ms=20.0, batch_size=6, steps=4, learning_rate=0.02, device="cpu"
)
CPU = torch.device("cpu")


def sounds(count=8, seed=0):
    """Noise of 150 to 290 samples."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.1, 150 + 20 * k).astype(np.float32) for k in range(count)]


def given(count=8, **settings):
    return GivenSignals(sounds(count), **({"rate": RATE, "sound": True} | settings))


def series(count=8, channels=2, time=64):
    return GivenSignals(np.random.default_rng(1).normal(5, 3, (count, channels, time)))


def wav(signal, rate=RATE):
    memory = io.BytesIO()
    soundfile.write(memory, signal.T, rate, format="WAV", subtype="FLOAT")
    return memory.getvalue()


@pytest.fixture
def folder(tmp_path):
    for index, sound in enumerate(sounds()):
        path = tmp_path / f"kind{index // 4}" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wav(sound))
    return tmp_path


def prepared(source, config=TINY, **settings):
    return signal_run(config, source, machine("cpu"), **settings)


def weights(run):
    return {name: value.clone() for name, value in run.state.model.state_dict().items()}


# Settings


def refused(said, **settings):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **settings).check()


def test_settings_out_of_their_range_are_refused():
    refused("encoder must be one of 'resnet18'.*; got 'vit_tiny'", encoder="vit_tiny")
    refused("views must be one of .*same-folder.*sound.*; got 'paper'", views="paper")
    refused("objective must be one of .*; got 'vic'", objective="vic")
    refused("length must be left out where seconds are given; got 200", seconds=1.0)
    refused("length must be at least 2; got 1", length=1)
    refused("seconds must be a finite number above 0; got 0", seconds=0.0, length=None)
    refused("hop_ms must be a finite number above 0; got 0", hop_ms=0.0)
    for name in ("width", "mels", "epochs", "steps", "devices", "nodes", "workers"):
        refused(f"{name} must be at least 1; got 0", **{name: 0})
    refused("batch_size must be a multiple of devices . nodes = 4, at least twice that; got 6", devices=4)
    refused("accumulate must be at most half of batch_size = 6; got 4", accumulate=4)
    refused("max_corrupt must be a finite number of at least 0 and at most 1; got 1.5", max_corrupt=1.5)
    refused("seed must lie between 0 and .*; got -1", seed=-1)
    refused("device must be auto, cpu, cuda, cuda:N or mps; got 'tpu'", device="tpu")
    refused("each width in expander must be at least 1; got 0", expander=(8, 0))


def test_branches_that_do_not_go_are_refused():
    refused("branches must be two, one for each view; got 3. As in wave,mel", branches=("wave", "mel", "mel"))
    refused("each branch must be wave, mel or one of resnet18-1d, .*; got 'picture'", branches=("wave", "picture"))
    refused("each branch must be of the form", branches=("wave/a-b", "mel"))
    with pytest.raises(ValueError, match=r"branches must give embeddings of one width; got \[8, 16\]"):
        prepared(given(), replace(TINY, branches=("wave/8", "mel")))
    for source in (GivenSignals(sounds(), sound=True), GivenSignals(sounds(), rate=50)):
        with pytest.raises(ValueError, match="branches must be wave for signals without a rate of 1000 a second"):
            prepared(source, replace(TINY, branches=("wave", "mel")))
    with pytest.raises(ValueError, match="seconds must be left out where the rate is unknown; got 1.0. Give length"):
        prepared(series(), replace(TINY, length=None, seconds=1.0))


def test_forms():
    def found(*branches, sound=True, **settings):
        return [tuple(form) for form in SignalConfig(branches=branches, **settings).check().forms(sound=sound)]

    assert found() == [("wave", "resnet18-1d", None), ("mel", "resnet18-mel", None)]
    assert found(sound=False) == [("wave", "resnet18-1d", None)]
    assert found(sound=False, shared=False) == [("wave", "resnet18-1d", None)] * 2
    assert found("mel", "mel", encoder="resnet34") == [("mel", "resnet34-mel", None)]
    assert found("mel", "resnet34-mel/8-4") == [("mel", "resnet18-mel", None), ("mel", "resnet34-mel", (8, 4))]
    assert found("wave/none", "resnet18-1d/none") == [("wave", "resnet18-1d", ())]


@pytest.mark.parametrize("config", [TINY, SignalConfig(), replace(TINY, branches=("wave/32-16", "mel"))])
def test_settings_survive_yaml(config):
    assert CONFIGS["signal"] is SignalConfig
    assert from_mapping(yaml.safe_load(yaml.safe_dump(to_mapping(config.check()))), SignalConfig) == config


def test_views_are_as_long_as_they_may():
    usual = replace(TINY, length=None)
    second = GivenSignals([np.ones(900), np.ones(5000), np.ones(6000)], rate=4000)
    assert view_length(usual, second) == 4000
    assert view_length(usual, GivenSignals([np.ones(900), np.ones(800), np.ones(6000)], rate=4000)) == 900
    assert [windows_of(second, length) for length in (10, 2000, 6000, 9000)] == [8, 3, 1, 1]
    assert view_length(usual, GivenSignals([np.ones(900)], rate=4000)) == 900
    assert view_length(replace(usual, seconds=0.5), second) == 2000
    assert view_length(replace(usual, seconds=0.5), GivenSignals(np.ones((2, 9)), rate=100)) == 50
    assert view_length(usual, GivenSignals(np.ones((2, 5000)))) == 2048
    assert view_length(usual, series()) == 64
    assert view_length(TINY, series()) == 200


# Feeds


def deal(n=8, rank=0, count=1, partners=None):
    return Deal(Order(full_batches(n, 6), n, 0), rank, count, partners)


def feeds(source, views, **settings):
    """The same signals kept and opened."""
    lengths = np.array([source.length(row) for row in range(len(source))])
    array = np.full((len(source), source.channels, lengths.max()), np.nan, np.float32)  # beyond the end nobody looks
    for row, length in enumerate(lengths):
        array[row, :, :length] = source.read(row)
    labels = torch.arange(len(source))
    kept = ResidentSignals(torch.from_numpy(array), torch.from_numpy(lengths), views, deal(**settings), labels)
    return kept, OpenedSignals(source, views, deal(**settings), 9, CPU, Corrupt(of=len(source)), 2, labels)


@pytest.mark.parametrize("partners", [None, Partners(np.arange(8) // 4)])
def test_signals_kept_and_opened_are_the_same_numbers(folder, partners):
    source = read_signals(folder)
    kept, opened = feeds(source, signal_views("identity", 200, ("wave", "mel"), Mel.at(RATE, 8, 20)), partners=partners)
    for step in range(3):
        a, b = kept.draw(step), opened.draw(step)
        assert torch.equal(a.labels, b.labels)
        rows = deal(partners=partners).rows(step, 2)
        for view, one, other in zip(kept.views, a.views, b.views, strict=True):
            torch.testing.assert_close(one, other)
            assert one.shape == ((6, 1, 200) if isinstance(view, SignalView) else (6, 1, 8, 11))
        for row, wave in zip(rows[0].tolist(), a.views[0], strict=True):
            signal = sounds()[row]
            room = abs(len(signal) - 200) // 2
            if len(signal) >= 200:
                np.testing.assert_array_equal(wave[0], signal[room : room + 200])
            else:
                np.testing.assert_array_equal(wave[0, room : room + len(signal)], signal)
                assert wave[0].count_nonzero() == len(signal)
    opened.close()


def test_signals_kept_and_opened_are_cropped_alike(folder):
    kept, opened = feeds(read_signals(folder), signal_views("crop", 120, ("wave", "wave")))
    first, second = (feed.draw(1) for feed in (kept, opened))
    for one, other in zip(first.views, second.views, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(*first.views)
    opened.close()


def test_corrupt_recordings_give_way_to_the_next(folder):
    (folder / "kind0" / "2.wav").write_bytes(b"nothing")
    source = read_signals(folder)
    ledger = Corrupt(0.2, of=8)
    views = signal_views("identity", 200)
    feed = OpenedSignals(source, views, deal(), 9, CPU, ledger, 2, torch.arange(8))
    for step in range(3):
        wanted = [3 if row == 2 else row for row in deal().rows(step, 1)[0].tolist()]
        assert feed.draw(step).labels.tolist() == wanted
    assert ledger.names == ["kind0/2.wav"]
    assert feed.position() == {"corrupt": ledger.state()}
    feed.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("vicreg-signals")]


# Runs


@pytest.mark.parametrize("branches", [("wave", "mel"), ("mel", "mel"), ("wave", "resnet34-1d/16")])
def test_a_run_is_plain_pytorch_on_the_same_views(branches):
    """The first step's loss against its definition: networks called one by one on the feed's views."""
    config = replace(TINY, branches=branches, steps=1)
    run, other = (prepared(given(), config) for _ in range(2))
    drawn, each = other.feed.draw(0), list(other.state.model.train().branches)
    each = each * (2 // len(each))
    z = [branch.expander(branch.encoder(view)) for branch, view in zip(each, drawn.views, strict=True)]
    assert run.train().history()["total"] == pytest.approx([VICRegLoss()(*z).item()], rel=1e-5)
    assert not run.state.model.training


def test_spectrograms_are_scaled_by_those_of_the_signals():
    config = replace(TINY, length=120, views="crop")
    quiet, loud = (
        prepared(GivenSignals([scale * one for one in sounds()], rate=RATE, sound=True), config) for scale in (1, 8)
    )
    assert loud.views[1].mean - quiet.views[1].mean == pytest.approx(2 * np.log(8), abs=1e-3)
    assert loud.views[1].std == pytest.approx(quiet.views[1].std, rel=1e-3)
    drawn = torch.cat([quiet.feed.draw(step).views[1] for step in range(8)])
    assert abs(float(drawn.mean())) < 0.2
    assert 0.8 < float(drawn.std()) < 1.2
    assert quiet.views[0].std == (1.0,)


def test_series_are_standardised():
    source = series(channels=3)
    run = prepared(source, replace(TINY, length=None, views="crop"))
    assert [type(view) for view in run.views] == [SignalView, SignalView]
    assert len(run.state.model.branches) == 1
    whole = np.stack([source.read(row) for row in range(8)])
    np.testing.assert_allclose(run.spec.mean, whole.mean((0, 2)), rtol=1e-5)
    wanted = (whole - whole.mean((0, 2))[:, None]) / whole.std((0, 2))[:, None]
    shown = run.feed.deal.rows(0, 1)[0]
    np.testing.assert_allclose(run.feed.draw(0).views[0], wanted[shown], rtol=1e-4, atol=1e-4)
    assert run.train().step == 4


@pytest.mark.parametrize("objective", ["barlow_twins", "simclr", "byol", "vicregl"])
def test_objectives_by_name(objective):
    run = prepared(given(), replace(TINY, objective=objective, steps=2))
    assert np.isfinite(run.train().history()["total"]).all()


def test_a_run_learns_to_tell_sounds_apart():
    """Tones in noise: the loss falls, and new ones are nearest to those of the same pitch."""
    pitch = np.tile([60, 100, 160, 250], 8)

    def noisy(seed):
        rng = np.random.default_rng(seed)
        t = np.arange(300) / RATE
        tones = [np.sin(2 * np.pi * (hertz * t + rng.uniform())) for hertz in pitch]
        return GivenSignals([(tone + rng.normal(0, 0.3, 300)).astype(np.float32) for tone in tones], rate=RATE)

    config = replace(TINY, branches=("mel", "mel"), steps=40, batch_size=32, learning_rate=0.08)
    source = noisy(1)
    source.sound = True
    run = prepared(source, config)
    total = run.train().history()["total"]
    assert np.mean(total[-5:]) < 0.8 * np.mean(total[:5])
    embedder = SignalEmbedder.of(run.parts, run.spec, run.windows)
    known, new = (
        torch.from_numpy(embedder.transform([one.read(row)[0] for row in range(32)])) for one in map(noisy, (1, 2))
    )
    nearest = torch.cdist(new, known).argmin(1)
    assert float((pitch[nearest] == pitch).mean()) > 0.9


CASES = [
    ("kept", {}),
    ("kept", {"branches": ("mel", "mel"), "accumulate": 2}),
    ("opened", {"optimizer": "larc", "learning_rate": 0.3}),
    ("opened", {"views": "same-folder", "precision": "bf16-mixed"}),
]


@pytest.mark.parametrize(("where", "settings"), CASES)
def test_a_run_that_goes_on_is_bit_identical(folder, monkeypatch, where, settings):
    if where == "opened":
        monkeypatch.setattr("vicreg.training.preparing.MOST_BYTES", 10)
    config, kept = replace(TINY, **settings), {}

    def keep(state):
        if state.step == 2:
            kept.update(tensors={k: v.clone() for k, v in state.tensors().items()}, plain=state.plain())

    source = read_signals(folder)
    whole = signal_run(config, source, machine("cpu", precision=config.precision))
    assert isinstance(whole.feed, OpenedSignals if where == "opened" else ResidentSignals)
    whole.train([keep])
    again = signal_run(config, source, machine("cpu", precision=config.precision))
    again.state.restore(kept["tensors"], yaml.safe_load(yaml.safe_dump(kept["plain"])))
    again.train()
    assert torch.equal(whole.state.terms, again.state.terms)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
    assert torch.isfinite(whole.state.terms).all()


class Pooled(nn.Module):
    """A user's encoder."""

    def __init__(self, dims):
        super().__init__()
        self.layer = (nn.Conv1d if dims == 1 else nn.Conv2d)(1, 5, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x)).flatten(2).mean(2)


def test_encoders_of_ones_own():
    wave, mel = Pooled(1), Pooled(2)
    before = {name: value.clone() for name, value in wave.state_dict().items()}
    run = prepared(given(), encoders=[wave, mel])
    run.train()
    assert all(torch.equal(before[name], value) for name, value in wave.state_dict().items())
    assert [type(encoder) for encoder, _ in run.parts] == [Pooled, Pooled]
    shared = prepared(given(), replace(TINY, branches=("mel", "mel"), shared=False), encoders=[mel])
    assert len(shared.state.model.branches) == 2
    with pytest.raises(ValueError, match="encoder must be one module for each of 2 branches; got 1 modules"):
        prepared(given(), encoders=[wave])
    said = r"encoder must give one vector for each sample, \(2, width\); got \(2, 3, 198\). Pool its maps."
    with pytest.raises(ValueError, match=said):
        prepared(given(), replace(TINY, branches=("wave", "wave")), encoders=[nn.Conv1d(1, 3, 3)])


def test_bad_recordings_are_left_out_and_told(folder):
    (folder / "kind0" / "1.wav").write_bytes(b"")
    (folder / "kind0" / "2.wav").write_bytes(wav(np.zeros(300, np.float32)))
    (folder / "kind0" / "3.wav").write_bytes(wav(np.clip(50 * sounds()[3], -1, 1)))
    (folder / "kind1" / "4.wav").write_bytes(wav(sounds()[4], 2 * RATE))
    config = replace(TINY, max_corrupt=0.2)
    run = prepared(read_signals(folder), config, codes=np.arange(8))
    assert run.ledger.names == ["kind0/1.wav"]
    assert len(run.feed.array) == 7
    assert set(run.feed.labels.tolist()) == {0, 2, 3, 4, 5, 6, 7}
    assert run.notes == (
        "Resampled to 1,000 samples a second, as most have: of 7 recordings looked at, 1 has 2,000.",
        "Of 7 signals looked at, 1 is silent: there is nothing to learn from them.",
        "Of 7 signals looked at, 1 is clipped: over 1 % of the samples at full scale.",
        "Of 7 signals looked at, 2 are shorter than a view of 200 samples: their means surround them.",
    )
    assert np.isfinite(run.train().history()["total"]).all()
    with pytest.raises(ValueError, match=r"corrupt signals must be at most 0.05 of all \(--max-corrupt\); got 1 of 8"):
        prepared(read_signals(folder))


def test_a_side_of_a_pair_tells_the_same_of_its_recordings(folder):
    (folder / "kind0" / "0.wav").write_bytes(wav(np.repeat(sounds()[0], 2), 2 * RATE))
    (folder / "kind0" / "1.wav").write_bytes(wav(np.zeros((2, 300))))
    side = signal_side(PairConfig(width=4, device="cpu"), read_signals(folder), None, None)
    assert [re.sub("^.* looked at, ", "", note) for note in side.notes] == [
        "1 has 2,000.",
        "1 is silent: there is nothing to learn from them.",
        "1 has 2 channels: their mean is taken.",
        "4 are shorter than a view of 250 samples: their means surround them.",
    ]


def test_too_few_signals_are_refused():
    with pytest.raises(ValueError, match="the signals must be at least 2 to learn from; got 1"):
        prepared(given(1))
    with pytest.raises(ValueError, match="views must be others for signals without folders; got same-folder"):
        prepared(given(), replace(TINY, views="same-folder"))


def together(rank, world):
    """A run on one of several processes: its terms and weights."""
    settings = {"views": "identity", "branches": ("wave", "wave"), "optimizer": "larc", "learning_rate": 0.5}
    config = replace(TINY, batch_size=8, steps=3, warmup_epochs=0.0, **settings)
    place = machine("cpu", devices=world) if world > 1 else machine("cpu")
    torch.manual_seed(0)
    run = signal_run(config, given(), place, encoders=[Pooled(1)])
    state = run.train()
    return state.terms.tolist(), {name: value.tolist() for name, value in state.model.state_dict().items()}


def test_two_processes_learn_what_one_would(pools):
    alone = together(0, 1)
    terms, found = zip(*pools(2).run(together, 2), strict=True)
    assert terms[0] == terms[1]
    torch.testing.assert_close(torch.tensor(terms[0]), torch.tensor(alone[0]), rtol=1e-4, atol=1e-5)
    for name, wanted in alone[1].items():
        torch.testing.assert_close(torch.tensor(found[0][name]), torch.tensor(wanted), rtol=1e-3, atol=1e-5)


# What is kept


@pytest.mark.parametrize(
    ("branches", "kept"),
    [(("wave", "mel"), ["wave", "mel"]), (("mel", "mel"), ["mel"]), (("wave", "resnet34-1d"), ["wave"])],
)
def test_what_branches_saw_decides_which_encoders_are_kept(tmp_path, branches, kept):
    run = prepared(given(), replace(TINY, branches=branches, steps=1))
    run.train()
    embedder = SignalEmbedder.of(run.parts, run.spec, run.windows)
    assert [part.eats for part in embedder.parts] == kept
    embedder.save(tmp_path)
    found = load(tmp_path)
    assert isinstance(found, SignalEmbedder)
    assert (found.spec, found.windows, found.length) == (run.spec, run.windows, 200)
    assert [part.view for part in found.parts] == [view.still() for view in run.views[: len(kept)]]
    h = embedder.transform(given())
    assert h.shape == (8, found.width) == (8, 32 * len(kept))
    np.testing.assert_array_equal(found.transform(sounds()), h)
    parts = [found.part(eats).transform(sounds()) for eats in kept]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), h, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="a part must be one of .*; got 'picture'"):
        found.part("picture")
    with pytest.raises(ValueError, match="must be a run on pictures; got one on signals"):
        load_as(ImageEmbedder, tmp_path)


def embedder(windows=1, length=100, channels=1, **settings):
    torch.manual_seed(0)
    spec = SignalSpec(channels, float(RATE), True, (0.0,) * channels, (1.0,) * channels)
    view = SpectrogramView(SignalView(length), Mel.at(RATE, 8, 20)).still()
    return SignalEmbedder(
        (SignalPart(Pooled(1), SignalView(length).still()), SignalPart(Pooled(2), view)), spec, windows
    )


def test_an_embedding_is_the_mean_over_crops():
    found = embedder(3)
    signal = sounds()[5]
    crops = torch.from_numpy(np.stack([signal[start : start + 100] for start in (0, 75, 150)]))[:, None]
    wave, mel = found.parts
    with torch.no_grad():
        h = torch.cat([wave.encoder(crops), mel.encoder((log_mel(crops, mel.view.mel) + 10) / 5)], dim=1)
    np.testing.assert_allclose(found.transform([signal])[0], h.mean(0), rtol=1e-4, atol=1e-5)
    assert window_starts(250, 100, 3) == [0, 75, 150]
    np.testing.assert_allclose(found.encode(crops), h, rtol=1e-4, atol=1e-5)
    assert found.encoder(crops[None].requires_grad_()).requires_grad


@pytest.mark.parametrize("time", [2, 99, 100, 101, 250, 3000])
@pytest.mark.parametrize("windows", [1, 2, 5])
def test_crops_are_those_of_the_whole(time, windows):
    signal = np.random.default_rng(time).normal(size=time).astype(np.float32)
    found = embedder(windows).crops(GivenSignals([signal], rate=RATE).opened(0))
    padded = np.pad(signal, 100)
    wanted = [padded[100 + start : 200 + start] for start in window_starts(time, 100, windows)]
    np.testing.assert_array_equal(found[:, 0], wanted)


def test_an_embedding_does_not_depend_on_others_or_threads():
    found, source = embedder(2), given()
    alone = np.concatenate([found.transform([one]) for one in sounds()])
    np.testing.assert_allclose(found.transform(source), alone, rtol=1e-4, atol=1e-5)
    rows = np.array([5, 0, 7])
    ((shown, h),) = found.stream(source, rows, workers=3)
    assert shown.tolist() == rows.tolist()
    np.testing.assert_allclose(h, alone[rows], rtol=1e-4, atol=1e-5)


def test_recordings_by_their_paths_are_resampled(folder):
    found = embedder()
    paths = sorted(map(str, folder.rglob("*.wav")))
    h = found.transform(folder)
    np.testing.assert_array_equal(found.transform(paths), h)
    np.testing.assert_allclose(found.transform(paths[3])[0], h[3], rtol=1e-5, atol=1e-6)
    (folder / "kind0" / "0.wav").write_bytes(wav(np.repeat(sounds()[0], 2), 2 * RATE))
    assert found.transform(folder).shape == h.shape
    np.save(folder / "all.npy", np.zeros((3, 150), np.float32))
    assert found.transform(folder / "all.npy").shape == (3, 10)
    (folder / "kind0" / "0.wav").write_bytes(b"")
    with pytest.raises(CorruptSignal, match="'kind0/0.wav' must be one of wav, .*; got an empty file"):
        found.transform(folder)
    ledger = Corrupt(0.5, of=8)
    rows = np.concatenate([rows for rows, _ in found.stream(read_signals(folder), ledger=ledger)])
    assert (rows.tolist(), ledger.names) == (list(range(1, 8)), ["kind0/0.wav"])


def test_files_say_themselves_whether_they_are_recordings(tmp_path):
    (tmp_path / "lists").mkdir()
    parquet.write_table(pa.table({"wave": sounds()}), tmp_path / "lists" / "0.parquet")
    twice = [wav(np.stack([np.repeat(sound, 2)] * 2), 2 * RATE) for sound in sounds()]
    parquet.write_table(pa.table({"audio": twice}), tmp_path / "twice.parquet")
    h = embedder().transform(sounds())
    np.testing.assert_array_equal(embedder().transform(tmp_path / "lists"), h)
    found = embedder().transform(tmp_path / "twice.parquet")
    assert np.corrcoef(found.ravel(), h.ravel())[0, 1] > 0.9  # the same sounds, but for what resampling changed


def test_signals_unlike_those_of_the_fit_are_refused():
    with pytest.raises(ValueError, match="signals must have 1 channel; got 2"):
        embedder().transform(np.zeros((3, 2, 200)))
    with pytest.raises(ValueError, match="signals must have 1000 samples a second; got 8000"):
        embedder().transform(given(rate=8000))
    with pytest.raises(ValueError, match="signals must be sounds, as those of the fit; got series that are no sounds"):
        embedder().transform(given(sound=False))


def test_encoders_of_ones_own_are_loaded_with_their_classes(tmp_path):
    found = embedder()
    found.save(tmp_path)
    h = found.transform(sounds())
    np.testing.assert_array_equal(load(tmp_path, encoder=[Pooled(1), Pooled(2)]).transform(sounds()), h)
    said = r"got one of your own class Pooled. Pass one by load\(folder, encoder=\[..., ...\]\)"
    with pytest.raises(ValueError, match=said):
        load(tmp_path)
    found.part("mel").save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path, encoder=Pooled(2)).transform(sounds()), h[:, 5:])
    with pytest.raises(ValueError, match="encoder must be as many modules as the run kept of your own class, 1; got 2"):
        load(tmp_path, encoder=[Pooled(1), Pooled(2)])


@pytest.mark.parametrize("plain", [{"windows": 0}, {"views": [{"length": 5}] * 2}, {"signals": {}}, {"views": []}])
def test_damaged_descriptions_are_told(tmp_path, plain):
    embedder().save(tmp_path)
    tensors, kept = runs.read_tensors(tmp_path / runs.ENCODER)
    runs.write_tensors(tmp_path / runs.ENCODER, tensors, kept | plain)
    with pytest.raises(ValueError, match="a description that does not fit"):
        load(tmp_path, encoder=[Pooled(1), Pooled(2)])
    runs.write_tensors(tmp_path / runs.ENCODER, {}, kept | {"parts": {}})
    with pytest.raises(ValueError, match="encoder.safetensors' must be as vicreg wrote it; got parts that are none"):
        load(tmp_path)


def test_only_what_has_a_full_scale_can_be_clipped():
    wave = np.clip(4 * np.sin(np.arange(4000)), -1, 1)
    clipped = ["Of 1 sounds looked at, 1 is clipped: over 1 % of the samples at full scale."]
    for given, said in (
        (wave, clipped),
        (np.round(wave * 32767).astype(np.int16), clipped),
        (np.float32(3.0) * wave, []),  # numbers of any scale
        (np.round(wave * 32767).astype(np.float32), []),
    ):
        found = faults_in_words(GivenSignals([given], rate=8000))
        assert [line.replace("signals", "sounds") for line in found] == said


def test_signals_shorter_than_a_view_are_told():
    source = GivenSignals([np.arange(size, dtype=float) for size in (50, 60, 200)], rate=50)
    assert short_in_words(source, 50) == []
    run = signal_run(SignalConfig(length=100, width=4, expander=(8,), steps=1, device="cpu"), source, machine("cpu"))
    said = "Of 3 signals looked at, 2 are shorter than a view of 100 samples: their means surround them."
    assert run.notes == (said,)


def test_an_embedder_says_what_it_takes_in_one_line():
    pool = nn.Sequential(nn.Conv1d(2, 5, 9), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    spec = SignalSpec(2, 50.0, False, (0.0, 0.0), (1.0, 1.0), ("ax", "ay"))
    embedder = SignalEmbedder((SignalPart(pool, SignalView(100).still()),), spec)
    assert repr(embedder) == "SignalEmbedder(wave, signals of 2 channels at 50 samples a second to 5 numbers)"
    assert (embedder.rate, embedder.channels) == (50.0, 2)
    with pytest.raises(TypeError, match="signals must be all paths or all arrays; got both in one list"):
        embedder.transform(["a.wav", np.zeros((2, 50))])
    with pytest.raises(ValueError, match="signals must have 2 channels; got 1. They are 'ax', 'ay', in this order."):
        embedder.transform([np.zeros(50)])
