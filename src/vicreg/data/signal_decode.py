"""From a recording's file to its samples. The one file that needs soundfile and soxr (``vicreg[audio]``).

What a recording is, its first bytes say, not its name. Whole numbers are scaled by their range, so that full scale is
-1 to 1; floating point comes as it is. Only the part that is asked for is decoded. Both libraries let go of the
interpreter's lock meanwhile.

A WAV file that ends before its header says so is as long as what is there of it, since recorders that are cut off
leave such; of an OGG file the whole pages count; a FLAC or MP3 file that is cut off is an error.

A part is the same samples that it would be of the whole, except of OGG and MP3 files beyond their first million frames:
up to there they are decoded from their beginning, but further on libsndfile looks for the place and may miss it by some
hundredths of a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import shown
from vicreg.data.signal_source import SHORTEST, CorruptSignal, OpenedSignal, Signal

SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif")
"""How the names of recordings end, in any case of letters."""

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "wav": (b"RIFF", b"RIFX", b"RF64"),
    "flac": (b"fLaC",),
    "ogg": (b"OggS",),
    "aiff": (b"FORM",),
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2"),
}
FORMS = {"wav": (b"WAVE",), "aiff": (b"AIFF", b"AIFC")}
"""What follows at byte 8."""

BLOCK = 2**20
"""Frames that are decoded at a time: a header that claims too much must not decide how much memory is asked for."""
INEXACT = ("OGG", "MP3")
"""libsndfile does not always find the right sample in these, and soundfile makes it look for the next one after every
reading: so one reading gives all that is to be whole."""
UNKNOWN = 2**62
"""libsndfile gives more frames than this to a stream that does not say how many it has, and cannot seek in it."""
MARGIN = 2048
"""Frames around a part (times the ratio of the rates, if fewer are to come of them) that its resampling looks at."""

Frames = NDArray[np.float32]


def open_sound(file: str | bytes, name: str, rate: int | None = None, channels: int | None = 1) -> OpenedSignal:
    """Read a recording's header.

    Args:
        file: Its path as text, or its content as bytes: WAV, FLAC, OGG (Vorbis, Opus), AIFF or MP3.
        name: What to call it in errors.
        rate: Samples a second to resample to (soxr, "HQ"); None for its own.
        channels: How many it shall have: the mean of all if one, and one channel is repeated; None for its own.

    Returns:
        The recording, whose samples are had from ``.part(start, length)`` and ``.whole()``, at that rate.

    Raises:
        CorruptSignal: It is none of these formats, damaged, of a single sample, or of other channels.
        ImportError: soundfile or soxr is not installed.

    Example:
        >>> import soundfile
        >>> memory = BytesIO()
        >>> soundfile.write(memory, np.full((800, 2), 0.5), 16000, format="WAV")
        >>> opened = open_sound(memory.getvalue(), "half.wav", rate=8000)
        >>> opened.length, opened.part(100, 50).shape
        (400, (1, 50))
    """
    sound = _opened(file, name)
    known = sound.channels
    rule = f"have 1 or {channels} channels"
    if channels not in (None, 1, known) and known != 1:
        raise CorruptSignal(name, known, rule, "Mix it down, or ask for another number of channels.")
    frames = sound.frames
    if frames >= UNKNOWN:
        raise CorruptSignal(name, "none", "give its length in its header", "Encode it again, from a file.")
    length = frames if rate is None else resampled_length(frames, sound.samplerate, rate)
    if length < SHORTEST:
        raise CorruptSignal(name, length, f"have {SHORTEST} samples at least")
    wanted = channels or known

    def decode(begin: int, end: int) -> Signal:
        if rate in (None, sound.samplerate):
            found = mixed(_frames(sound, name, begin, end), wanted)
        else:
            found = _resampled(sound, name, (begin, end), (frames, rate or 0), wanted)
        return np.ascontiguousarray(found.T)

    return OpenedSignal(name, wanted, length, decode, known)


def sound_rate(file: str | bytes, name: str) -> int:
    """Samples a second of a recording, by its header.

    Raises:
        CorruptSignal: It cannot be read.
    """
    return int(_opened(file, name).samplerate)


def sound_format(data: bytes) -> str | None:
    """A recording's format by its first 12 bytes, None if they are of none that can be read.

    Example:
        >>> sound_format(b"RIFF....WAVE"), sound_format(b"RIFF....WEBP"), sound_format(b"hello")
        ('wav', None, None)
    """
    kind = next((kind for kind, starts in SIGNATURES.items() if data.startswith(starts)), None)
    return None if kind in FORMS and data[8:12] not in FORMS[kind] else kind


def resampled_length(frames: int, before: int, after: int) -> int:
    """Samples of so many frames at another rate: the nearest whole number.

    Example:
        >>> resampled_length(1000, 44100, 16000)
        363
    """
    return (2 * frames * after + before) // (2 * before)


def mixed(frames: Frames, channels: int) -> Frames:
    """(time, any) frames with so many channels: the mean where that is one, one repeated where it is several.

    Example:
        >>> mixed(np.array([[1.0, 3.0]], np.float32), 1).tolist()
        [[2.0]]
    """
    if frames.shape[1] == channels:
        return frames
    if channels == 1:
        mean: Frames = frames.mean(axis=1, keepdims=True)
        return mean
    return np.repeat(frames, channels, axis=1)


def _opened(file: str | bytes, name: str) -> Any:
    """A libsndfile handle, which closes itself when nobody holds it any longer."""
    soundfile, _ = _libraries()
    try:
        start = file[:12] if isinstance(file, bytes) else _first_bytes(file)
    except OSError as error:
        raise CorruptSignal(name, error.strerror or type(error).__name__) from error
    if sound_format(start) is None:
        got = "an empty file" if not start else f"bytes that begin {shown(start[:8])}"
        raise CorruptSignal(name, got, f"be one of {', '.join(SIGNATURES)}")
    with _decoding(name):
        return soundfile.SoundFile(_Content(file) if isinstance(file, bytes) else os.fsencode(file))


class _Content(BytesIO):
    """A file in memory that stays where it is when it is sent to before its beginning, as files on a disk do.

    Damaged recordings send it there, from within libsndfile, where an exception could only be printed.
    """

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, if there is such a place."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _first_bytes(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # a Path costs as much as the reading
        return file.read(12)


def _frames(sound: Any, name: str, begin: int, end: int) -> Frames:
    """(time, channels) of a part, which must be there."""
    lossy = sound.format in INEXACT
    first = 0 if lossy and begin <= BLOCK else begin
    at_once = end - first if lossy else BLOCK
    blocks: list[Frames] = []
    with _decoding(name):
        if sound.tell() != first:
            sound.seek(first)
        for start in range(first, end, at_once):
            count = min(at_once, end - start)
            block = sound.read(count, dtype="float32", always_2d=True)
            blocks.append(block)
            if len(block) < count:
                break
    got = first + sum(map(len, blocks))
    if got < end:
        raise CorruptSignal(name, f"{got} of {sound.frames}", "hold as many samples as its header says")
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks))[begin - first :]


def _resampled(sound: Any, name: str, part: tuple[int, int], whole: tuple[int, int], channels: int) -> Frames:
    """A part, in samples of the new rate: as it would be cut out of the whole, but for the ends of a long filter.

    The frames that are read begin at a common multiple of both rates' periods, so that the new samples fall where
    those of the whole recording do.
    """
    (begin, end), (frames, rate) = part, whole
    before = sound.samplerate
    up, down = rate // gcd(before, rate), before // gcd(before, rate)
    margin = MARGIN * max(1, -(-before // rate))
    period = max(0, begin * down // up - margin) // down
    stop = min(frames, -(-end * down // up) + margin)
    _, soxr = _libraries()
    source = mixed(_frames(sound, name, period * down, stop), channels)
    found: Frames = soxr.resample(source, before, rate)[begin - period * up : end - period * up]
    # The last sample may lie beyond what soxr gives for so few frames.
    short = end - begin - len(found)
    return found if short <= 0 else np.pad(found, ((0, short), (0, 0)))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a library says of a damaged file into one form.

    Decoders fed with arbitrary bytes raise nearly anything (also MemoryError, for a header that claims too much), hence
    the wide net; only their calls stand inside.
    """
    try:
        yield
    except Exception as error:
        said = getattr(error, "error_string", None) or str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise CorruptSignal(name, shown(said)) from error


@cache
def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # soundfile without its library raises the latter
        raise ImportError("Recordings need soundfile and soxr: pip install 'vicreg[audio]'.") from error
    return soundfile, soxr
