"""Small pictures and short sounds for a page."""

from __future__ import annotations

import io
import wave
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from vicreg._checks import message

SIDE = 64
"""Longer side of a thumbnail, in pixels."""
QUALITY = 80
RATE, SECONDS = 8000, 2.0
"""Of a sound: browsers play it everywhere, and speech is understood."""

JPEG, WAV = "image/jpeg", "audio/wav"


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """A small JPEG of a picture.

    Args:
        pixels: (h, w, 3) uint8.

    Raises:
        ImportError: Pillow is not installed.
    """
    image = _pillow().fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def sound_clip(samples: NDArray[np.float32], rate: float) -> bytes:
    """The beginning of a sound as a WAV file: one channel, 8,000 samples a second of 8 bits, as loud as that allows.

    Args:
        samples: (channels, time) finite.
        rate: Samples a second.

    Example:
        >>> clip = sound_clip(np.ones((2, 400), np.float32), 4000)
        >>> clip[:4], len(clip) - 44
        (b'RIFF', 800)
    """
    share = Fraction(RATE / rate).limit_denominator(1000)
    mono = samples[:, : int(SECONDS * rate)].mean(0, dtype=np.float64)
    mono = resample_poly(mono, share.numerator, share.denominator) if share != 1 and len(mono) else mono
    loudest = np.abs(mono).max(initial=0)
    levels = np.round(mono / (loudest if loudest > 0 else 1) * 127 + 128).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(RATE)
        file.writeframes(levels.tobytes())
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as missing:
        fix = "Run pip install 'vicreg[image]'."
        raise ImportError(message("Pillow", "be installed for thumbnails", "no such package", fix)) from missing
    return Image
