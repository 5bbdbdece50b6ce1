"""From the bytes of recordings to samples: values, rates, channels, parts, and whatever is damaged."""

import struct
from io import BytesIO

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from vicreg.data import signal_decode
from vicreg.data.signal_decode import open_sound, resampled_length, sound_format
from vicreg.data.signal_source import CorruptSignal

FORMS = {"WAV": "PCM_16", "FLAC": "PCM_16", "OGG": "VORBIS", "AIFF": "PCM_16", "MP3": None}


def tones(time=4000, rate=8000, channels=1):
    """Sines well below half the rate, a tenth of full scale."""
    t = np.arange(time) / rate
    return np.stack([0.1 * np.sin(2 * np.pi * (200 + 150 * c) * t) for c in range(channels)]).astype(np.float32)


def encoded(samples, rate=8000, form="WAV", subtype=None):
    file = BytesIO()
    soundfile.write(file, samples.T, rate, format=form, subtype=subtype or FORMS[form])
    return file.getvalue()


# What is read


@pytest.mark.parametrize(("dtype", "offset", "scale"), [("int16", 0, 2**15), ("int32", 0, 2**31), ("uint8", 128, 2**7)])
def test_whole_numbers_are_scaled_by_their_range(dtype, offset, scale):
    info = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(info.min, info.max, (50, 2), dtype=dtype, endpoint=True)
    values[:2] = [[info.min, info.max], [offset, offset]]
    file = BytesIO()
    wavfile.write(file, 8000, values)  # SciPy's
    found = open_sound(file.getvalue(), "a.wav", channels=2).whole()
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, (values.T.astype(np.float64) - offset) / scale, atol=1e-7)
    assert found.min() == -1


def test_floating_point_comes_as_it_is():
    x = tones(channels=2) * 30
    np.testing.assert_array_equal(open_sound(encoded(x, subtype="FLOAT"), "a", channels=2).whole(), x)


@pytest.mark.parametrize(
    ("form", "error"), [("WAV", 1e-4), ("FLAC", 1e-4), ("AIFF", 1e-4), ("OGG", 0.02), ("MP3", 0.02)]
)
def test_formats_and_their_parts(form, error):
    x = tones()
    data = encoded(x, form=form)
    assert sound_format(data) == form.lower()
    opened = open_sound(data, "a")
    whole = opened.whole()
    assert (opened.channels, opened.length) == (1, 4000)
    np.testing.assert_allclose(whole, x, atol=error)
    for start, length in [(1234, 500), (0, 1), (3999, 1), (100, 700), (3500, 500)]:
        np.testing.assert_allclose(opened.part(start, length), whole[:, start : start + length], atol=1e-6)
    np.testing.assert_allclose(open_sound(data, "a").part(3000, 1000), whole[:, 3000:], atol=1e-6)
    assert opened.part(-5, 8).shape == (1, 3)
    assert opened.part(3990, 100).shape == (1, 10)
    assert opened.part(4000, 5).shape == opened.part(-10, 10).shape == opened.part(0, 0).shape == (1, 0)


def test_far_into_a_lossy_file_the_place_is_about_right(monkeypatch):
    monkeypatch.setattr(signal_decode, "BLOCK", 1000)
    # A rising whistle tells where one is.
    t = np.arange(40000) / 8000
    x = 0.3 * np.sin(2 * np.pi * (200 + 150 * t) * t)[None].astype(np.float32)
    for form in ("OGG", "MP3"):
        part = open_sound(encoded(x, form=form), "a").part(20000, 2000)
        assert part.shape == (1, 2000)
        peak = np.abs(np.fft.rfft(part[0] * np.hanning(2000))).argmax() * 4
        assert abs(peak - (200 + 300 * 21000 / 8000)) < 60


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "a b.flac"
    path.write_bytes(encoded(tones(), form="FLAC"))
    np.testing.assert_allclose(open_sound(str(path), "a").whole(), tones(), atol=1e-4)


def test_blocks_do_not_matter(monkeypatch):
    data = encoded(tones(channels=2), form="FLAC")
    whole = open_sound(data, "a", channels=2).whole()
    monkeypatch.setattr(signal_decode, "BLOCK", 333)
    np.testing.assert_array_equal(open_sound(data, "a", channels=2).whole(), whole)


# Channels


def test_channels():
    x = tones(channels=2)
    data = encoded(x, subtype="FLOAT")
    np.testing.assert_allclose(open_sound(data, "a").whole(), x.mean(0, keepdims=True), atol=1e-7)
    assert open_sound(data, "a", channels=None).whole().shape == (2, 4000)
    mono = encoded(x[:1], subtype="FLOAT")
    np.testing.assert_array_equal(open_sound(mono, "a", channels=3).whole(), np.repeat(x[:1], 3, axis=0))
    with pytest.raises(CorruptSignal, match="the signal 'a' must have 1 or 3 channels; got 2. Mix it down"):
        open_sound(data, "a", channels=3)


# Rates


@pytest.mark.parametrize(("before", "after"), [(44100, 16000), (8000, 16000), (22050, 22051), (48000, 8000)])
def test_a_tone_stays_a_tone_at_another_rate(before, after):
    x = tones(before // 4, before, channels=2)
    opened = open_sound(encoded(x, before, subtype="FLOAT"), "a", after, channels=2)
    whole = opened.whole()
    assert opened.length == whole.shape[1] == round(before // 4 * after / before)
    expected = tones(whole.shape[1], after, channels=2)
    inside = slice(after // 40, -after // 40)
    np.testing.assert_allclose(whole[:, inside], expected[:, inside], atol=1e-4)


@pytest.mark.parametrize(("before", "after"), [(44100, 16000), (16000, 44100), (8000, 8001), (48000, 8000)])
def test_a_part_at_another_rate_is_that_of_the_whole(before, after):
    noise = np.random.default_rng(0).standard_normal((1, before)).astype(np.float32) * 0.1
    opened = open_sound(encoded(noise, before, subtype="FLOAT"), "a", after)
    whole = opened.whole()
    for start in (0, 1, 777, after // 2, after - 900):
        part = opened.part(start, 900)
        assert part.shape == (1, 900)
        # The filter's far ends are cut off.
        np.testing.assert_allclose(part, whole[:, start : start + 900], atol=2e-5)


def test_what_is_above_half_the_new_rate_goes():
    high = 0.5 * np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000)[None].astype(np.float32)
    found = open_sound(encoded(high, 16000, subtype="FLOAT"), "a", 8000).whole()
    assert np.abs(found[:, 200:-200]).max() < 1e-3


@given(st.integers(1, 10**6), st.integers(1, 200000), st.integers(1, 200000))
def test_lengths_at_other_rates(frames, before, after):
    assert abs(resampled_length(frames, before, after) - frames * after / before) <= 0.5


def test_very_short_recordings_at_other_rates():
    for frames in range(2, 12):
        for before, after in [(44100, 16000), (8000, 44100), (3, 2)]:
            data = encoded(tones(frames), before)
            expected = resampled_length(frames, before, after)
            if expected < 2:
                continue
            assert open_sound(data, "a", after).whole().shape == (1, expected)


# What cannot be read


def test_what_is_no_recording():
    for data, got in [
        (b"", "got an empty file"),
        (b"hello, world", "be one of wav, flac, ogg, aiff, mp3; got bytes that begin b'hello, w'"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "got bytes that begin b'RIFF"),
        (b"RIFF\0\0\0\0WAVE", "be readable; got"),
        (b"fLaC" + bytes(50), "be readable; got"),
    ]:
        with pytest.raises(CorruptSignal, match=f"the signal 'x.wav' must .*{got}"):
            open_sound(data, "x.wav")
    with pytest.raises(CorruptSignal, match="'x' must be readable; got No such file or directory"):
        open_sound("/nowhere/x.wav", "x")


@pytest.mark.parametrize("time", [0, 1])
def test_too_short(time):
    data = encoded(tones(time))
    with pytest.raises(CorruptSignal, match=f"the signal 'a' must have 2 samples at least; got {time}"):
        open_sound(data, "a")


def test_silence_is_a_recording():
    assert (open_sound(encoded(tones() * 0), "a", 16000).whole() == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(bad):
    x = tones(channels=2)
    x[1, 2000] = bad
    opened = open_sound(encoded(x, subtype="FLOAT"), "a", channels=2)
    with pytest.raises(CorruptSignal, match=f"'a' must hold finite numbers; got {bad} at sample 2000 of channel 1"):
        opened.part(1500, 1000)
    assert opened.part(0, 2000).shape == (2, 2000)  # the rest is sound


def test_large_finite_samples_are_finite():
    x = np.full((1, 10), 3e38, np.float32)
    np.testing.assert_array_equal(open_sound(encoded(x, subtype="FLOAT"), "a").whole(), x)


def test_a_wav_that_was_cut_off_is_what_is_there():
    data = encoded(tones())
    cut = open_sound(data[:4044], "a").whole()
    np.testing.assert_allclose(cut, tones()[:, :2000], atol=1e-4)


def test_a_flac_that_was_cut_off_is_corrupt():
    data = encoded(np.random.default_rng(0).standard_normal((1, 20000)).astype(np.float32) * 0.1, form="FLAC")
    opened = open_sound(data[: len(data) // 2], "a.flac")
    assert opened.part(0, 2000).shape == (1, 2000)
    with pytest.raises(CorruptSignal, match="'a.flac' must"):
        opened.whole()


def test_a_stream_without_a_length():
    data = bytearray(encoded(tones(), form="FLAC"))
    start = data.index(b"fLaC") + 8 + 10
    (word,) = struct.unpack_from(">Q", data, start)
    struct.pack_into(">Q", data, start, word >> 36 << 36)
    with pytest.raises(CorruptSignal, match="must give its length in its header; got none. Encode it again"):
        open_sound(bytes(data), "a")


def test_a_header_that_claims_too_much():
    data = bytearray(encoded(tones(), form="FLAC"))
    start = data.index(b"fLaC") + 8 + 10
    (word,) = struct.unpack_from(">Q", data, start)
    struct.pack_into(">Q", data, start, word | (2**36 - 1))
    with pytest.raises(CorruptSignal, match="must"):
        open_sound(bytes(data), "a").whole()


def read_or_refused(data):
    try:
        opened = open_sound(data, "x", 6000)
        found = opened.part(0, 500)
    except CorruptSignal as error:
        assert str(error).startswith("the signal 'x' must ")
        assert str(error).isprintable()
    else:
        assert found.shape == (1, min(500, opened.length))
        assert np.isfinite(found).all()


STARTS = (
    b"RIFF\xff\0\0\0WAVEfmt \x10\0\0\0\1\0",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"FORM\0\0\0\xffAIFFCOMM\0\0\0\x12",
    b"",
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_random_bytes(start, data):
    read_or_refused(start + data)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["WAV", "FLAC", "OGG", "AIFF"]),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_cut_and_changed_files(form, kept, changes):
    data = bytearray(FILES[form])
    for place, value in changes:
        # Beginnings matter most: half of the changes lie in the first 200 bytes.
        data[int(place * 2 * 199) if place < 0.5 else int(place * (len(data) - 1))] = value
    read_or_refused(bytes(data[: int(kept * len(data))]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_chunks_of_any_length(length):
    """Some send the decoder to before the file's beginning."""
    for form, place, order in (("WAV", 40, "little"), ("AIFF", 16, "big")):
        data = bytearray(FILES[form])
        data[place : place + 4] = length.to_bytes(4, order)
        read_or_refused(bytes(data))


FILES = {form: encoded(tones(1500), form=form) for form in ("WAV", "FLAC", "OGG", "AIFF")}
