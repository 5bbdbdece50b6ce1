"""Views of signals by name: for branches that eat the waveform, its log-mel spectrogram, or one of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vicreg._checks import check_choice, message, require
from vicreg.views.signal import SignalView
from vicreg.views.signal_mel import SpectrogramView
from vicreg.views.spectrogram import Mel

ViewOfSignal = SignalView | SpectrogramView

WAVE, MEL = "wave", "mel"
BRANCHES = (WAVE, MEL)
"""What a branch eats: the waveform, or its log-mel spectrogram."""

SIGNAL_RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "sound": {
        WAVE: {"gain": (-6.0, 6.0), "polarity": 0.5, "noise": 0.5, "masks": 1, "mask": 0.1},
        MEL: {"mix": 0.2, "resize": (0.7, 1.3), "bands": 1, "band": 0.2, "masks": 1, "mask": 0.2},
    },
    "byol-a": {WAVE: {}, MEL: {"mix": 0.4, "resize": (0.6, 1.5)}},
    "specaugment": {
        WAVE: {"masks": 2, "mask": 0.2},
        MEL: {"bands": 2, "band": 15 / 80, "masks": 2, "mask": 0.2},
    },
    "series": {
        WAVE: {"shift": 0.1, "gain": (-3.0, 3.0), "noise": 0.8, "masks": 1, "mask": 0.2},
        MEL: {"masks": 1, "mask": 0.2},
    },
    "crop": {WAVE: {}, MEL: {}},
    "identity": {WAVE: {"centre": True}, MEL: {}},
}
"""By name what is done to the waveform of one branch and to the spectrogram of another, after a crop at random.

"sound" is ours. "byol-a" is that of BYOL-A (arXiv:2103.06695), but that its resizing is bicubic and that it mixes with
sounds of earlier batches, too. "specaugment" is SpecAugment's policy SM (arXiv:1904.08779) without warping, the masks
over time as shares of the crop. "series" has the scaling and jitter of Um et al. (arXiv:1706.00527) and a mask, for
signals that are no sounds. "crop" does no more, and "identity" takes the middle."""


def signal_views(
    name: str,
    length: int,
    branches: Sequence[str] = (WAVE, WAVE),
    mel: Mel | None = None,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> tuple[ViewOfSignal, ...]:
    """A view for each branch, by the name of a recipe.

    Args:
        name: A name in ``SIGNAL_RECIPES``.
        length: Samples of a crop.
        branches: "wave" or "mel" for each.
        mel: Settings of the spectrograms; needed where a branch is "mel". Their mean and deviation are had from
            ``SpectrogramView.scaled``.
        mean: Of each channel of the signals.
        std: Of each channel of the signals.

    Raises:
        ValueError: An unknown name, or no settings of the spectrograms.

    Example:
        >>> wave, mel = signal_views("sound", 8000, ("wave", "mel"), Mel.at(8000))
        >>> type(wave).__name__, type(mel).__name__, mel.wave.noise
        ('SignalView', 'SpectrogramView', 0.0)
    """
    recipe = SIGNAL_RECIPES[check_choice("views", name, SIGNAL_RECIPES)]
    require(len(branches) > 0, "branches", "be one at least", "none")
    scale: dict[str, Any] = {"mean": tuple(mean), "std": tuple(std)}
    views: list[ViewOfSignal] = []
    for branch in branches:
        if check_choice("a branch", branch, BRANCHES) == WAVE:
            views.append(SignalView(length, **recipe[WAVE], **scale))
        elif mel is None:
            raise ValueError(message("mel", "be given for branches of spectrograms", None, "Pass Mel.at(rate)."))
        else:
            wave = SignalView(length, centre=recipe[WAVE].get("centre", False), **scale)
            views.append(SpectrogramView(wave, mel, **recipe[MEL]))
    return tuple(views)
