"""Bytes to pixels: every format against Pillow's own reading, and every way in which bytes can be bad."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vicreg.data import decode
from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import MOST_PIXELS, SIGNATURES, format_of, open_picture, orientation_in


def photo(height=45, width=70, seed=0):
    """Smooth colours with some noise, as photographs have."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 12
    waves = np.stack([np.sin(x + y), np.cos(x - y / 2), np.sin(y)], axis=2)
    return np.clip(128 + 90 * waves + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    file = BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def pillow(data):
    """Pillow's whole way: open, turn upright, convert."""
    return np.array(ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB"))


def pixels(data, part=1):
    opened = open_picture(data, "it")
    found = opened.pixels(part)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    if part == 1:
        assert found.shape == (opened.height, opened.width, 3)
    return found


@pytest.fixture(params=[True, False], ids=["simplejpeg", "pillow alone"])
def with_simplejpeg(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(decode, "_simplejpeg", lambda: None)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(45, 70), (1, 1), (1, 300), (300, 1)])
def test_formats_without_loss_give_back_the_picture(kind, shape):
    picture = photo(*shape)
    np.testing.assert_array_equal(pixels(encoded(picture, kind)), picture)


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("WEBP", {"quality": 80}), ("GIF", {})])
def test_webp_and_gif(kind, options):
    data = encoded(photo(), kind, **options)
    np.testing.assert_array_equal(pixels(data), pillow(data))


@pytest.mark.usefixtures("with_simplejpeg")
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True}]
)
@pytest.mark.parametrize("shape", [(45, 70), (1, 1), (1, 300), (64, 64)])
def test_jpeg_as_pillow_decodes_it(options, shape):
    data = encoded(photo(*shape), "JPEG", quality=90, **options)
    assert np.abs(pixels(data).astype(int) - pillow(data)).max() <= 3  # versions of libjpeg round differently


@pytest.mark.usefixtures("with_simplejpeg")
def test_a_jpeg_of_part_of_its_size_is_the_mean_of_its_pixels():
    data = encoded(photo(96, 160), "JPEG", quality=95)
    whole = pixels(data).astype(float)
    for part in (2, 4, 8):
        means = whole.reshape(96 // part, part, 160 // part, part, 3).mean(axis=(1, 3))
        assert np.abs(pixels(data, part) - means).mean() < 2
    assert [pixels(encoded(photo(45, 70), "JPEG"), part).shape[:2] for part in (2, 4, 8)] == [
        (23, 35),
        (12, 18),
        (6, 9),
    ]
    assert pixels(encoded(photo(), "PNG"), 2).shape == (45, 70, 3)


@pytest.mark.usefixtures("with_simplejpeg")
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(turn, kind):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photo(), kind, exif=exif, **options)
    expected = pillow(data)
    found = pixels(data)
    assert found.shape == expected.shape == ((45, 70, 3) if turn < 5 else (70, 45, 3))
    assert np.abs(found.astype(int) - expected).max() <= 3
    if kind == "JPEG":
        assert pixels(data, 2).shape == ((23, 35, 3) if turn < 5 else (35, 23, 3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_both_byte_orders(order):
    head = b"II*\0" if order == "<" else b"MM\0*"

    def with_tag(tag, kind, value):
        return head + struct.pack(order + "IHHHI", 8, 1, tag, kind, 1) + struct.pack(order + value[0] + "xx", value[1])

    assert orientation_in(with_tag(0x0112, 3, ("H", 6))) == 6
    assert orientation_in(with_tag(0x0112, 3, ("H", 9))) == 1
    assert orientation_in(with_tag(0x0113, 3, ("H", 6))) == 1
    assert orientation_in(b"nonsense") == orientation_in(b"") == 1


@given(st.binary(max_size=60))
def test_damaged_exif_is_upright(tail):
    assert orientation_in(b"II*\0" + tail) in range(1, 9)


def test_a_damaged_exif_segment_does_not_make_a_picture_corrupt():
    plain = encoded(photo(), "JPEG")
    segment = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(pixels(data), pixels(plain))


def test_grey_is_repeated():
    grey = photo()[..., 0]
    for kind in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(pixels(encoded(grey, kind)), np.stack([grey] * 3, axis=2))
    found = pixels(encoded(grey, "JPEG", quality=95))
    assert (found[..., 0] == found[..., 1]).all()
    assert np.abs(found[..., 0].astype(int) - grey).mean() < 3
    bits = grey > 128
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(bits)))[..., 2], bits * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = pixels(encoded(levels, kind))
    np.testing.assert_array_equal(found, np.repeat((levels // 256).astype(np.uint8)[..., None], 3, axis=2))


def test_sixteen_bit_colour():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 65536, (5, 7, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    data = png(7, 5, 16, 2, zlib.compress(rows))
    np.testing.assert_array_equal(pixels(data), levels // 256)


def png(width, height, depth, colour, body):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return SIGNATURES["png"][0] + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_palette_is_looked_up():
    image = Image.fromarray(photo()).quantize(16)
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        np.testing.assert_array_equal(pixels(encoded(image, kind)), np.array(image.convert("RGB")))


def test_what_is_transparent_lies_on_white():
    colour, alpha = photo(), np.linspace(0, 255, 45 * 70).astype(np.uint8).reshape(45, 70, 1)
    expected = colour * (alpha / 255) + 255 * (1 - alpha / 255)
    rgba = np.concatenate([colour, alpha], axis=2)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert np.abs(pixels(encoded(rgba, kind, **options)) - expected).max() <= 0.5
    grey = np.concatenate([colour[..., :1], alpha], axis=2)
    assert np.abs(pixels(encoded(Image.fromarray(grey, "LA")))[..., 1] - expected[..., 0]).max() <= 0.5
    opaque = np.concatenate([colour, np.full_like(alpha, 255)], axis=2)
    np.testing.assert_array_equal(pixels(encoded(opaque)), colour)


def test_a_transparent_entry_of_a_palette_is_white():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        found = pixels(encoded(image, kind, transparency=0))
        assert found.tolist() == [[[255] * 3, [40, 50, 60]], [[40, 50, 60], [255] * 3]]


@pytest.mark.usefixtures("with_simplejpeg")
def test_cmyk():
    data = encoded(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    np.testing.assert_array_equal(pixels(data), pillow(data))
    assert np.abs(pixels(data).astype(int) - photo()).mean() < 5
    assert pixels(data, 2).shape == (23, 35, 3)


def test_of_several_frames_the_first():
    frames = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    for kind, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(pixels(data), photo(seed=0))
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data), pillow(data))


def test_the_bytes_say_what_a_picture_is():
    assert [format_of(encoded(photo(), kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")] == [
        "jpeg", "png", "webp", "gif", "bmp", "tiff",
    ]  # fmt: skip
    assert format_of(b"RIFF....WAVE") is None


@pytest.mark.usefixtures("with_simplejpeg")
def test_20000_pixels():
    wide = np.zeros((3, 20_000, 3), np.uint8)
    for kind in ("JPEG", "PNG"):
        assert pixels(encoded(wide, kind)).shape == (3, 20_000, 3)
    assert open_picture(encoded(wide, "JPEG"), "it").at_least(2).shape == (2, 10_000, 3)


def jpeg_header(height, width):
    """A JPEG's header that claims a size, and no pixels."""
    data = encoded(photo(16, 16), "JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.usefixtures("with_simplejpeg")
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "tiff", "webp"])
def test_a_decompression_bomb_is_refused_by_its_header(kind):
    side = 65_000 if kind != "webp" else 16_383
    data = {
        "jpeg": lambda: jpeg_header(side, side),
        "png": lambda: png(side, side, 8, 2, zlib.compress(bytes(1000))),
        "gif": lambda: b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0)
        + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x08\x01\x00\x00;",
        "bmp": lambda: b"BM" + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        "tiff": lambda: b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 5)
        + b"".join(struct.pack("<HHII", *tag) for tag in
                   ((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)))
        + struct.pack("<I", 0),
        "webp": lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8 " + struct.pack("<I", 10)
        + b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", side, side),
    }[kind]()  # fmt: skip
    assert side * side > MOST_PIXELS
    match = "must have at most 178,956,970 pixels; got" if kind not in ("webp",) else "must be readable; got"
    with pytest.raises(CorruptImage, match=match):
        open_picture(data, "bomb")


@pytest.mark.usefixtures("with_simplejpeg")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_files_are_corrupt(kind, share):
    data = encoded(photo(200, 300), kind)
    with pytest.raises(CorruptImage, match="'it' must be"):
        open_picture(data[: int(share * len(data))], "it").pixels(1)


def test_what_is_no_picture():
    with pytest.raises(CorruptImage, match="the picture 'a.jpg' must be one of jpeg, png, .*; got an empty file"):
        open_picture(b"", "a.jpg")
    with pytest.raises(CorruptImage, match="got bytes that begin b'<html>"):
        open_picture(b"<html><body>", "a.jpg")
    with pytest.raises(CorruptImage, match="must have 8 or 16 bits a channel; got 32"):
        open_picture(encoded(np.ones((3, 3), np.float32), "TIFF"), "a.tif")


def test_simplejpeg_declines_and_pillow_reads():
    """Bytes after the end of the picture that simplejpeg takes for damage are none."""
    data = encoded(photo(), "JPEG")
    at = data.index(b"\xff\xda")
    odd = data[:at] + b"\x00\x00\x00" + data[at:]
    np.testing.assert_array_equal(pixels(odd), pillow(odd))


def test_without_pillow_there_is_a_hint(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.PngImagePlugin", None)
    decode._readers.cache_clear()
    with pytest.raises(ImportError, match="pip install 'vicreg\\[image\\]'"):
        open_picture(encoded(photo()), "a.png")


VALID = [
    encoded(photo(20, 31), "JPEG"),
    encoded(photo(20, 31), "JPEG", progressive=True),
    encoded(Image.fromarray(photo(20, 31)).convert("CMYK"), "JPEG"),
    encoded(photo(20, 31), "PNG"),
    encoded(Image.fromarray(photo(20, 31)).quantize(7), "PNG", transparency=3),
    encoded(photo(20, 31), "WEBP"),
    encoded(photo(20, 31), "GIF"),
    encoded(photo(20, 31), "BMP"),
    encoded(photo(20, 31), "TIFF", compression="tiff_lzw"),
    encoded(photo(20, 31), "TIFF"),
]


def survives(data):
    """It is decoded or called corrupt, at any part of its size; nothing else is raised."""
    try:
        opened = open_picture(data, "it")
        for part in (1, 8):
            assert opened.pixels(part).shape[2] == 3
    except CorruptImage as error:
        assert str(error).startswith("the picture 'it' must ")


quietly = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quietly
@given(st.sampled_from([start for starts in SIGNATURES.values() for start in starts]), st.binary(max_size=300))
def test_random_bytes_after_a_signature(start, tail):
    survives(start + tail)
    survives(tail)


@quietly
@given(st.sampled_from(VALID), st.floats(0, 1))
def test_truncations(data, share):
    survives(data[: int(share * len(data))])


@quietly
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8),
)
def test_flipped_bits(data, flips):
    changed = bytearray(data)
    for place, bit in flips:
        changed[int(place * len(changed))] ^= 1 << bit
    survives(bytes(changed))
