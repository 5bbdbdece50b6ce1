"""Log-mel spectrograms: librosa's numbers, SciPy's transform, silence, short signals, and their views."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from scipy.signal import stft

from vicreg.views.signal import SignalView
from vicreg.views.signal_mel import SpectrogramView
from vicreg.views.signal_steps import mixed_powers, stretched
from vicreg.views.spectrogram import Mel, hertz_to_mel, log_mel, mel_filters, mel_to_hertz, power_spectrogram

# librosa 0.11.0, filters.mel(sr=8000, n_fft=32, n_mels=4, ...): bins 0 to 10 or 3 to 14 of the four bands.
HTK = [
    [0, 0.770494, 0.630352, 0.103887, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0.369648, 0.896113, 0.71126, 0.351536, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0.28874, 0.648464, 0.994405, 0.748613, 0.50282, 0.257027, 0.011234],
    [0, 0, 0, 0, 0, 0, 0.005595, 0.251387, 0.49718, 0.742973, 0.988766],
]
SLANEY = [
    [7.786730e-04, 2.076461e-03, 1.182571e-03, 0, 0, 0, 0, 0, 0],
    [0, 0, 9.639020e-04, 1.924531e-03, 1.028332e-03, 1.321340e-04, 0, 0, 0],
    [0, 0, 0, 5.518500e-05, 6.767840e-04, 1.298383e-03, 1.053267e-03, 6.582660e-04, 2.632650e-04],
    [0, 0, 0, 0, 0, 0, 2.141010e-04, 4.652270e-04, 7.163540e-04],
]
# Its log(feature.melspectrogram(...)) of half a sine of 440 Hz, 160 samples, a hop of 40, HTK's filters above.
TONE = [
    [1.7763, 2.71642, 2.72498, 2.72498, 1.5686],
    [1.06, 1.95338, 1.94865, 1.94865, 1.56619],
    [-1.94805, -5.78212, -5.6386, -5.6386, -0.03693],
    [-3.77628, -10.98402, -10.41659, -10.41659, -0.74036],
]
TINY = Mel(8000, n_mels=4, n_fft=32, hop=40, low=0.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def test_filters_are_librosas():
    np.testing.assert_allclose(mel_filters(TINY)[:, :11], HTK, atol=1e-6)
    slaney = replace(TINY, low=100.0, high=3800.0, scale="slaney", norm="slaney")
    np.testing.assert_allclose(mel_filters(slaney)[:, 1:10], SLANEY, atol=1e-9)


def test_values_are_librosas():
    tone = torch.sin(2 * math.pi * 440 * torch.arange(160, dtype=torch.float64) / 8000) / 2
    np.testing.assert_allclose(log_mel(tone.float()[None, None], TINY)[0, 0], TONE, atol=2e-4)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_scales(scale):
    hertz = np.linspace(0, 20000, 201)
    mels = hertz_to_mel(hertz, scale)
    np.testing.assert_allclose(mel_to_hertz(mels, scale), hertz, atol=1e-8)
    if scale == "htk":
        expected = [2595 * math.log10(1 + f / 700) for f in hertz]
    else:
        expected = [3 * f / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4) for f in hertz]
    np.testing.assert_allclose(mels, expected, atol=1e-9)


def test_triangles_have_a_peak_or_an_area_of_one():
    fine = Mel(16000, n_mels=8, n_fft=2**16, low=100.0)
    bin_width = 16000 / 2**16
    np.testing.assert_allclose(mel_filters(fine).max(1), 1, atol=0.01)
    np.testing.assert_allclose(mel_filters(replace(fine, norm="slaney")).sum(1) * bin_width, 1, atol=1e-4)
    # Between the middles of the first and last band neighbours add up to 1.
    total = mel_filters(fine).sum(0)
    first, last = (int(mel_filters(fine)[band].argmax()) for band in (0, -1))
    np.testing.assert_allclose(total[first + 1 : last], 1, atol=1e-9)


@pytest.mark.parametrize(("n_fft", "window", "hop"), [(64, None, 16), (128, 50, 30), (62, 62, 7)])
def test_powers_are_scipys(n_fft, window, hop):
    x = noise(2, 333)
    mel = Mel(8000, n_mels=4, n_fft=n_fft, hop=hop, window=window)
    length = window or n_fft
    hann = np.zeros(n_fft)
    left = (n_fft - length) // 2
    hann[left : left + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    # SciPy divides by the window's sum, and hops from the beginning of what is padded.
    padded = np.pad(x.double().numpy(), ((0, 0), (n_fft // 2, n_fft // 2)))
    _, _, z = stft(padded, window=hann, nperseg=n_fft, noverlap=n_fft - hop, boundary=None, padded=False)
    expected = (np.abs(z) * hann.sum()) ** 2
    found = power_spectrogram(x, mel).transpose(1, 2).numpy()
    assert found.shape == expected.shape == (2, n_fft // 2 + 1, mel.frames(333))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_channels_chunks_and_types_do_not_matter(monkeypatch):
    mel = Mel.at(8000, n_mels=20)
    x = noise(5, 3, 900) * 0.1
    whole = log_mel(x, mel)
    assert whole.shape == (5, 3, 20, mel.frames(900))
    monkeypatch.setattr("vicreg.views.spectrogram.IN_CACHE", 1)
    torch.testing.assert_close(log_mel(x, mel), whole)
    torch.testing.assert_close(log_mel(x[2:3, 1:2], mel)[0, 0], whole[2, 1])
    torch.testing.assert_close(log_mel(x.double(), mel), whole)
    with torch.autocast("cpu", torch.bfloat16):
        cast = log_mel(x, mel)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, whole)
    assert log_mel(x[:0], mel).shape == (0, 3, 20, mel.frames(900))


@pytest.mark.parametrize("time", [1, 2, 31, 511, 513])
def test_short_and_silent_signals_are_finite(time):
    mel = Mel.at(8000)
    assert torch.isfinite(log_mel(noise(2, 1, time), mel)).all()
    silent = log_mel(torch.zeros(2, 1, time), mel)
    torch.testing.assert_close(silent, torch.full_like(silent, math.log(1e-7)))
    assert torch.isfinite(log_mel(torch.ones(1, 1, time), mel)).all()


def test_a_tone_is_loudest_in_its_band():
    mel = Mel(16000, n_mels=40)
    ends = hertz_to_mel([60.0, 8000.0], "htk")
    middles = mel_to_hertz(np.linspace(*ends, 42)[1:-1], "htk")
    for frequency in (300.0, 1000.0, 5000.0):
        tone = torch.sin(2 * math.pi * frequency * torch.arange(8000) / 16000)
        band = int(log_mel(tone[None, None], mel)[0, 0, :, 20].argmax())
        assert band == np.abs(middles - frequency).argmin()


def test_settings_that_do_not_go():
    for changes, match in [
        ({"scale": "bark"}, "scale must be one of 'htk', 'slaney'; got 'bark'"),
        ({"norm": "l2"}, "norm must be one of 'none', 'slaney'"),
        ({"low": 9000.0}, "low must be below high, 8000 Hz; got 9000"),
        ({"high": 9000.0}, "high must be a finite number above 0 and at most 8000; got 9000"),
        ({"window": 2000}, "window must lie between 1 and 1024; got 2000"),
        ({"n_fft": 63}, "n_fft must be even; got 63"),
        ({"hop": 0}, "hop must be at least 1; got 0"),
        ({"floor": 0.0}, "floor must be a finite number above 0; got 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            Mel(**changes)
    for shape in ((2, 100), (2, 1, 0)):
        with pytest.raises(ValueError, match=r"signals must have shape \(b, channels, time\); got"):
            log_mel(torch.zeros(shape), Mel())


# Views of spectrograms


def test_mixing_adds_powers():
    x, y = noise(3, 1, 4, 5), noise(3, 1, 4, 5, seed=1)
    share = torch.tensor([0.0, 0.3, 0.9])
    expected = ((1 - share.view(3, 1, 1, 1)) * x.exp() + share.view(3, 1, 1, 1) * y.exp()).log()
    torch.testing.assert_close(mixed_powers(x, y, share), expected)


def test_stretching_is_linear_interpolation():
    x = noise(1, 2, 8, 12)
    same = stretched(x, torch.ones(1, 2), torch.zeros(1, 2))
    torch.testing.assert_close(same, x, atol=1e-5, rtol=1e-5)
    # The middle half in time, twice as wide: SciPy's interpolation with pixels as areas.
    half = stretched(x, torch.tensor([[1.0, 0.5]]), torch.zeros(1, 2))[0, 0]
    expected = zoom(x[0, 0, :, 2:10].double().numpy(), (1, 1.5), order=1, grid_mode=True, mode="nearest")
    assert expected.shape == (8, 12)
    wide = stretched(x, torch.tensor([[1.0, 8 / 12]]), torch.zeros(1, 2))[0, 0]
    np.testing.assert_allclose(wide[:, 1:-1], expected[:, 1:-1], atol=1e-5)
    assert half.shape == (8, 12)
    # One and a half widths, to the right: a third of it is beyond the end and 0.
    beyond = stretched(x + 10, torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]))[0, 0]
    assert (beyond[:, 7:] == 0).all()
    torch.testing.assert_close(beyond[:, :6], x[0, 0, :, 6:] + 10, atol=1e-4, rtol=1e-4)


FULL = SpectrogramView(
    SignalView(1000, gain=(-3.0, 3.0), noise=1.0),
    Mel.at(8000, n_mels=16),
    mix=0.3,
    resize=(0.6, 1.5),
    bands=2,
    band=0.2,
    masks=1,
    mask=0.3,
)


def test_a_view_is_deterministic_finite_and_picklable():
    x = noise(6, 2, 1500)
    first, again = (FULL(x, seeded(3)) for _ in range(2))
    assert first.shape == (6, 2, 16, FULL.mel.frames(1000))
    assert first.dtype == torch.float32
    assert torch.isfinite(first).all()
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, FULL(x, seeded(4)))
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert torch.isfinite(FULL(torch.zeros(3, 1, 20), seeded())).all()
    assert FULL(x[:1], seeded()).shape[0] == 1
    assert FULL.finish(x[:0, :, :1000], seeded()).shape == (0, 2, 16, FULL.mel.frames(1000))


def test_masks_alone_change_nothing_else():
    wave = SignalView(1000, centre=True)
    plain = SpectrogramView(wave, Mel.at(8000, n_mels=20))
    masked = replace(plain, bands=1, band=0.5, masks=1, mask=0.25)
    x = noise(40, 1, 1000)
    expected, found = plain.finish(x), masked.finish(x, seeded())
    changed = found != expected
    assert (found[changed] == 0).all()
    frames = plain.mel.frames(1000)
    bands_hit, frames_hit = changed.all(3).sum(2), changed.all(2).sum(2)
    assert bands_hit.max() == 10
    assert frames_hit.max() == frames // 4
    assert (bands_hit == 0).any()


def test_scale_and_evaluation():
    crops = noise(8, 1, 1000) * 0.01
    scaled = FULL.scaled(crops)
    still = scaled.still()
    assert not still.finishes_at_random
    assert FULL.finishes_at_random
    out = still.finish(crops)
    assert abs(float(out.mean())) < 1e-4
    assert abs(float(out.std()) - 1) < 1e-3
    torch.testing.assert_close(still(noise(2, 1, 3000), seeded(0)), still(noise(2, 1, 3000), seeded(1)))
    assert still.still(4000).length == 4000
    silent = FULL.scaled(torch.zeros(2, 1, 1000))
    assert silent.std == 1.0


def test_view_settings_that_do_not_go():
    with pytest.raises(ValueError, match="mix must be a finite number of at least 0 and at most 0.999; got 1"):
        replace(FULL, mix=1.0)
    with pytest.raises(ValueError, match="resize must rise from least to greatest"):
        replace(FULL, resize=(2.0, 1.0))
    with pytest.raises(ValueError, match="bands must be at least 0; got -1"):
        replace(FULL, bands=-1)
    with pytest.raises(ValueError, match="std must be a finite number above 0; got 0"):
        replace(FULL, std=0.0)
    for changes in ({"mix": 0.2}, {"resize": (0.5, 1.0)}, {"bands": 1}, {"masks": 1}):
        view = replace(SpectrogramView(SignalView(100), Mel.at(8000)), **changes)
        with pytest.raises(ValueError, match="generator must be given to a view that draws; got None"):
            view.finish(torch.zeros(2, 1, 100))
