"""Views of signals: each step against NumPy, crops of workers against those of the device, recipes by name."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vicreg.views.signal import SignalView
from vicreg.views.signal_recipes import SIGNAL_RECIPES, signal_views
from vicreg.views.signal_steps import from_decibels, noisy, picked, rolled, sliced, spans, windows
from vicreg.views.spectrogram import Mel


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def clip(signal, start, length):
    """What a source gives for a part that may lie beyond the signal."""
    return signal[:, max(start, 0) : max(start + length, 0)]


# Crops


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 50), st.booleans(), st.integers(0, 2**32))
def test_workers_cut_what_the_device_cuts(lengths, length, centre, seed):
    view = SignalView(length, centre=centre, mean=(1.5, -2.0), std=(1.0, 1.0))
    signals = [np.random.default_rng(seed).standard_normal((2, time)).astype(np.float32) for time in lengths]
    padded = torch.full((len(lengths), 2, max(lengths)), torch.nan)
    for row, signal in enumerate(signals):
        padded[row, :, : signal.shape[1]] = torch.from_numpy(signal)
    u = view.draw(len(lengths), seeded(seed))
    found = view.crop(padded, u, torch.tensor(lengths))
    assert found.shape == (len(lengths), 2, length)
    for row, signal in enumerate(signals):
        start, count = view.span(signal.shape[1], u[row].tolist())
        one = view.crop_one(clip(signal, start, count), start)
        torch.testing.assert_close(one, found[row], rtol=0, atol=0)
        # All of a short signal is there, a long one fills the crop, and the rest is the mean.
        kept = min(length, signal.shape[1])
        assert (one == torch.tensor([[1.5], [-2.0]])).all(0).sum() == length - kept


def test_every_start_is_as_probable():
    view = SignalView(7)
    x = torch.arange(10.0).expand(4000, 1, 10)
    first = view.crop(x, view.draw(4000, seeded()))[:, 0, 0]
    counts = torch.bincount(first.long(), minlength=4)
    assert counts.shape == (4,)
    assert counts.min() > 850


def test_the_middle():
    view = SignalView(4, centre=True)
    assert view.crop(torch.arange(10.0).view(1, 1, 10)).tolist() == [[[3, 4, 5, 6]]]
    assert view.crop(torch.tensor([[[1.0, 2.0]]])).tolist() == [[[0, 1, 2, 0]]]
    assert view.span(10) == (3, 4)
    assert view.span(2) == (-1, 4)


def test_a_worker_may_be_given_nothing():
    assert SignalView(3).crop_one(np.empty((2, 0), np.float32), -1).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("windows", [windows, sliced, picked])
def test_windows_against_a_loop(windows):
    x, starts = noise(5, 2, 9), torch.tensor([-3, 0, 4, 8, -9])
    lengths = torch.tensor([9, 5, 9, 9, 3])
    found = windows(x, starts, 6, lengths, torch.tensor([7.0, 8.0]))
    for b in range(5):
        for c in range(2):
            for t in range(6):
                at = int(starts[b]) + t
                expected = x[b, c, at] if 0 <= at < lengths[b] else [7.0, 8.0][c]
                assert found[b, c, t] == expected


# Steps


def test_shift_is_numpys_roll():
    x, shifts = noise(4, 2, 11), torch.tensor([0, 3, -4, 25])
    for row, shift in enumerate(shifts.tolist()):
        np.testing.assert_array_equal(rolled(x, shifts)[row], np.roll(x[row].numpy(), shift, axis=1))


def test_noise_has_the_ratio_that_was_asked_for():
    x = torch.sin(torch.arange(40000.0) / 5).repeat(3, 2, 1) * torch.tensor([1.0, 0.01])[:, None]
    x[2] = 0
    decibels = torch.tensor([20.0, 3.0, 10.0])
    chosen = torch.tensor([True, True, True])
    added = noisy(x, noise(3, 2, 40000), decibels, chosen) - x
    ratio = 10 * torch.log10(x[:2].square().mean(2) / added[:2].square().mean(2))
    torch.testing.assert_close(ratio, decibels[:2, None].expand(2, 2), atol=0.1, rtol=0)
    assert (added[2] == 0).all()
    torch.testing.assert_close(noisy(x, noise(3, 2, 40000), decibels, ~chosen), x)


def test_decibels():
    np.testing.assert_allclose(
        from_decibels(torch.tensor([-6.0, 0.0, 6.0])), 10 ** (np.array([-6, 0, 6]) / 20), rtol=1e-6
    )


def test_masks_are_uniform_in_width_and_place():
    u = torch.rand(3000, 1, 2, generator=seeded())
    inside = spans(u, 0.3, 20)
    widths = inside.sum(1)
    counts = torch.bincount(widths, minlength=7)
    assert len(counts) == 7
    assert counts.min() > 340
    for row in inside[:200].int():  # one run each
        assert (row.diff() == 1).sum() + int(row[0]) <= 1
    first = inside[widths == 6].int().argmax(1)
    assert torch.bincount(first).shape == (15,)
    both = spans(torch.cat([u[:5], u[5:10]], 1), 0.3, 20)
    assert torch.equal(both, inside[:5] | inside[5:10])
    assert spans(torch.full((1, 1, 2), 0.9999999), 1.0, 5).all()


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"polarity": 1.0}, lambda x, y: torch.equal(y, -x)),
        ({"polarity": 0.5}, lambda x, y: {1.0, -1.0} == set((y / x).flatten().round(decimals=4).tolist())),
        ({"gain": (6.0, 6.0)}, lambda x, y: torch.allclose(y, x * 10 ** (6 / 20))),
        ({"shift": 0.5}, lambda x, y: torch.allclose(y.sort(2).values, x.sort(2).values)),
        ({"masks": 1, "mask": 0.5}, lambda x, y: bool(((y == x) | (y == 0)).all() and (y != x).any())),
        ({"noise": 1.0, "snr": (30.0, 30.0)}, lambda x, y: 0.02 < float((y - x).std() / x.std()) < 0.04),
        ({}, torch.equal),
    ],
)
def test_each_step_alone(changes, holds):
    x = noise(16, 2, 200)
    view = SignalView(200, **changes)
    assert view.finishes_at_random == bool(changes)
    assert holds(x, view.finish(x, seeded() if changes else None))


def test_standardised_first():
    view = SignalView(50, mean=(1.0, -3.0), std=(2.0, 0.5), polarity=1.0)
    x = noise(3, 2, 50) * torch.tensor([[2.0], [0.5]]) + torch.tensor([[1.0], [-3.0]])
    expected = -(x - torch.tensor([[1.0], [-3.0]])) / torch.tensor([[2.0], [0.5]])
    torch.testing.assert_close(view.finish(x, seeded()), expected)
    # What surrounds a short signal is its mean, so 0.
    assert (view.still().finish(view.still().crop(x[..., :20]))[..., :15] == 0).all()


# Recipes


@pytest.mark.parametrize("name", SIGNAL_RECIPES)
def test_recipes(name):
    views = signal_views(name, 400, ("wave", "mel", "wave"), Mel.at(8000, n_mels=10), (0.1,), (2.0,))
    x = noise(5, 2, 600)
    for view, shape in zip(views, [(5, 2, 400), (5, 2, 10, 6), (5, 2, 400)], strict=True):
        first, again = view(x, seeded(1)), view(x, seeded(1))
        assert first.shape == shape
        assert torch.isfinite(first).all()
        torch.testing.assert_close(first, again)
        assert torch.equal(first, view(x, seeded(2))) == (name == "identity")
        assert pickle.loads(pickle.dumps(view)) == view
        assert torch.isfinite(view(torch.zeros(2, 1, 3), seeded())).all()


def test_views_that_do_not_go():
    with pytest.raises(ValueError, match="views must be one of 'byol-a', 'crop'"):
        signal_views("paper", 10)
    with pytest.raises(ValueError, match="a branch must be one of 'mel', 'wave'; got 'image'"):
        signal_views("crop", 10, ("image",))
    with pytest.raises(ValueError, match="mel must be given for branches of spectrograms; got None"):
        signal_views("crop", 10, ("wave", "mel"))
    with pytest.raises(ValueError, match="branches must be one at least; got none"):
        signal_views("crop", 10, ())
    for changes, match in [
        ({"length": 0}, "length must be at least 1; got 0"),
        ({"shift": 0.6}, "shift must be a finite number of at least 0 and at most 0.5; got 0.6"),
        ({"noise": 2.0}, "noise must be a finite number of at least 0 and at most 1; got 2"),
        ({"gain": (3.0, -3.0)}, "gain must rise from least to greatest"),
        ({"snr": (3.0,)}, "snr must be two numbers, least and greatest"),
        ({"mean": (0.0, 1.0)}, "mean and std must be as many numbers as there are channels; got 2 and 1"),
        ({"std": (0.0,)}, "std must be a finite number above 0; got 0"),
        ({"masks": -1}, "masks must be at least 0; got -1"),
    ]:
        with pytest.raises(ValueError, match=match):
            SignalView(**({"length": 10} | changes))


def test_batches_that_do_not_go():
    view = SignalView(5, mean=(0.0, 0.0), std=(1.0, 1.0), polarity=0.5)
    with pytest.raises(ValueError, match=r"signals must have shape \(b, channels, time\); got \(2, 5\)"):
        view.finish(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="signals must have 2 channels, as the view's mean and std; got 3"):
        view.finish(torch.zeros(2, 3, 5), seeded())
    with pytest.raises(ValueError, match="generator must be given to a view that draws; got None"):
        view.finish(torch.zeros(2, 2, 5))
    with pytest.raises(ValueError, match="u must be one number for each signal; got 0. Pass the view's draw"):
        view.crop(torch.zeros(2, 2, 9))
    with pytest.raises(ValueError, match="u must be one number for each signal; got 0"):
        view.span(9)
    with pytest.raises(ValueError, match=r"u must have shape \(2, 1\); got \(3, 1\)"):
        view.crop(torch.zeros(2, 2, 9), torch.zeros(3, 1))
