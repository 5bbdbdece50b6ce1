"""From the bytes of a picture to its pixels. The one file that needs Pillow and simplejpeg (``vicreg[image]``).

What a picture is, its first bytes say, not its name. JPEG goes through simplejpeg, which lets go of the interpreter's
lock meanwhile; what simplejpeg declines (CMYK, files with oddities, or because it is absent) and all other formats go
through Pillow, of which only the decoders listed here are used. Pictures come upright, as RGB, 8 bits a channel:

- grey is repeated, a palette is looked up, CMYK is converted;
- of 16 bits a channel the high byte is kept, so their whole range becomes 0 to 255;
- what is transparent is laid on white;
- of several frames the first counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import shown
from vicreg.data.corrupt import CorruptImage

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
"""A picture, (h, w, 3), RGB."""

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""How the names of pictures end, in any case of letters."""

MOST_PIXELS = 2 * (1024**3 // 4 // 3)
"""Larger pictures (179 million pixels; Pillow's own limit) are refused on the word of their header, before decoding."""

REDUCTIONS = (8, 4, 2)
"""A JPEG can be decoded at these parts of its size; the ones between take longer than its full size does."""

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "webp": (b"RIFF",),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[:, ::-1].transpose(1, 0, 2),
}
"""What turns a picture upright, by its orientation in EXIF; 1 is upright."""
ORIENTATION = 0x0112
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of an EXIF entry that an orientation can have."""
START_OF_SCAN, APP1 = 0xDA, 0xE1


@dataclass(frozen=True)
class Opened:
    """A picture whose size is known and whose pixels may still have to be decoded.

    Attributes:
        name: What it is called in errors.
        height: In pixels, upright.
        width: Likewise.
        decode: Gives its pixels (see ``pixels``), of a part of its size and exactly or not.
    """

    name: str
    height: int
    width: int
    decode: Callable[[int, bool], Pixels]

    def pixels(self, part: int = 1, exact: bool = True) -> Pixels:
        """Decode it.

        Args:
            part: 2, 4 or 8 for a half, a quarter or an eighth of its size, rounded up. Only a JPEG can be decoded so;
                all others come at full size.
            exact: As other decoders do it. If not, the colour of a JPEG that stores it at half the resolution is not
                smoothed, which takes a tenth less time and differs by about one level on average.

        Raises:
            CorruptImage: It cannot be decoded.
        """
        return self.decode(part, exact)

    def at_least(self, side: int | None) -> Pixels:
        """The pixels, reduced as far as the shorter side keeps so many; at full size if None."""
        shorter = min(self.height, self.width)
        fits = [part for part in REDUCTIONS if side is not None and -(-shorter // part) >= side]
        return self.pixels(fits[0] if fits else 1)


def open_picture(data: bytes, name: str) -> Opened:
    """Read a picture's header, and decode all but a JPEG.

    Args:
        data: The file's content: JPEG, PNG, WebP, BMP, TIFF or GIF.
        name: What to call it in errors.

    Returns:
        The picture, whose pixels are had from ``.pixels(1)``.

    Raises:
        CorruptImage: It is none of these formats, damaged, of more than 179 million pixels, or of 32 bits a channel.
        ImportError: Pillow is not installed.

    Example:
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("L", (40, 30), 200).save(file, "JPEG")
        >>> opened = open_picture(file.getvalue(), "grey.jpg")
        >>> opened.height, opened.width, opened.pixels(2).shape, opened.pixels(1)[0, 0].tolist()
        (30, 40, (15, 20, 3), [200, 200, 200])
    """
    kind = format_of(data)
    if kind is None:
        known = ", ".join(SIGNATURES)
        got = "an empty file" if not data else f"bytes that begin {shown(data[:8])}"
        raise CorruptImage(name, got, f"be one of {known}")
    if kind != "jpeg":
        return as_opened(_decoded(data, kind, name), name)
    quick = _open_quickly(data, name)
    return quick or _open_jpeg(data, name)


def open_image(image: Image, name: str) -> Opened:
    """A Pillow image: its pixels are those that a file of it would give.

    Args:
        image: Of any mode; it may be one whose file is not read yet.
        name: What to call it in errors.

    Raises:
        CorruptImage: Its file is damaged, or it has 32 bits a channel.

    Example:
        >>> from PIL import Image
        >>> open_image(Image.new("CMYK", (40, 30)), "white").pixels(1)[0, 0].tolist()
        [255, 255, 255]
    """
    _check_size(image.height, image.width, name)
    _check_bits(image, name)
    try:
        image.load()
        pixels = _as_rgb(image)
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception as error:
        raise CorruptImage(name, _said(error)) from error
    return as_opened(_upright(pixels, turn), name)


def as_opened(pixels: Pixels, name: str) -> Opened:
    """Pixels that are there already."""
    return Opened(name, pixels.shape[0], pixels.shape[1], lambda _part, _exact: pixels)


def format_of(data: bytes) -> str | None:
    """A picture's format by its first bytes, None if they are of none that can be read.

    Example:
        >>> format_of(b"GIF89a..."), format_of(b"hello")
        ('gif', None)
    """
    kind = next((kind for kind, starts in SIGNATURES.items() if data.startswith(starts)), None)
    return None if kind == "webp" and data[8:12] != b"WEBP" else kind


def orientation_in(exif: bytes) -> int:
    r"""The orientation (1 to 8) that EXIF data gives; 1 if it gives none, or is damaged.

    Args:
        exif: The data, from its byte order (``II`` or ``MM``) on.

    Example:
        >>> orientation_in(b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0")
        6
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == ORIENTATION:
                if kind not in WHOLE_NUMBERS:
                    return 1
                (value,) = struct.unpack_from(order + WHOLE_NUMBERS[kind], exif, entry + 8)
                return value if value in UPRIGHT else 1
    except struct.error:
        pass
    return 1


def _jpeg_orientation(data: bytes) -> int:
    """The orientation in a JPEG's EXIF segment, which stands before its pixels."""
    at = 2
    while data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == START_OF_SCAN:
            break
        if marker == APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return orientation_in(data[at + 10 : at + 2 + length])
        at += 1 if marker == 0xFF else 2 + length  # markers may be padded
    return 1


def _open_quickly(data: bytes, name: str) -> Opened | None:
    """A JPEG by simplejpeg; None if that declines."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space not in ("YCbCr", "RGB", "Gray"):
        return None
    _check_size(height, width, name)
    turn = _jpeg_orientation(data)

    def decode(part: int, exact: bool) -> Pixels:
        least = {"min_height": -(-height // part), "min_width": -(-width // part)} if part > 1 else {}
        try:
            decoded = simplejpeg.decode_jpeg(data, fastupsample=not exact, **least)
        except ValueError:
            return _decoded(data, "jpeg", name, part)
        return _upright(decoded, turn)

    return _turned(name, height, width, turn, decode)


def _open_jpeg(data: bytes, name: str) -> Opened:
    """A JPEG by Pillow."""
    image = _opened(data, "jpeg", name)

    def decode(part: int, _exact: bool) -> Pixels:
        return _decoded(data, "jpeg", name, part)

    return _turned(name, image.height, image.width, _jpeg_orientation(data), decode)


def _turned(name: str, height: int, width: int, turn: int, decode: Callable[[int, bool], Pixels]) -> Opened:
    lying = turn > 4  # orientations 5 to 8 exchange the sides
    return Opened(name, width if lying else height, height if lying else width, decode)


def _upright(pixels: Pixels, turn: int) -> Pixels:
    return np.ascontiguousarray(UPRIGHT[turn](pixels)) if turn in UPRIGHT else pixels


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MOST_PIXELS:
        got = f"{height} x {width} = {height * width:,}"
        raise CorruptImage(name, got, f"have at most {MOST_PIXELS:,} pixels", "Make it smaller or cut it up.")


def _check_bits(image: Image, name: str) -> None:
    if image.mode in ("I", "F"):
        raise CorruptImage(name, f"32 (mode {image.mode})", "have 8 or 16 bits a channel")


def _opened(data: bytes, kind: str, name: str) -> Image:
    """A picture by Pillow, its header read and its size found fit.

    The decoders are called themselves: ``PIL.Image.open`` tries all that are registered, and warns of large pictures.
    """
    reader = _readers()[kind]
    try:
        image = reader(BytesIO(data))
    except Exception as error:
        raise CorruptImage(name, _said(error)) from error
    _check_size(image.height, image.width, name)
    return image


def _decoded(data: bytes, kind: str, name: str, part: int = 1) -> Pixels:
    """The upright pixels by Pillow.

    Decoders fed with arbitrary bytes raise nearly anything (also MemoryError, for a header that claims too much), hence
    the wide net.
    """
    image = _opened(data, kind, name)
    _check_bits(image, name)
    try:
        if part > 1:
            image.draft(image.mode, (max(1, image.width // part), max(1, image.height // part)))
        image.load()
        # Pillow itself turns a TIFF upright; a PNG may give its orientation after its pixels.
        exif = b"" if kind == "tiff" else image.info.get("exif", b"")
        pixels = _as_rgb(image)
    except Exception as error:
        raise CorruptImage(name, _said(error)) from error
    turn = _jpeg_orientation(data) if kind == "jpeg" else orientation_in(exif.removeprefix(b"Exif\0\0"))
    return _upright(pixels, turn)


def _as_rgb(image: Image) -> Pixels:
    if image.mode.startswith("I;16"):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.array(image.convert("RGBA"))
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    for row, share in zip(colour, alpha.astype(np.uint16), strict=True):  # by rows, to need no second picture
        row[:] = (row * share + 255 * (255 - share) + 127) // 255
    return np.ascontiguousarray(colour)


def _said(error: Exception) -> str:
    return shown(str(error).strip().split("\n", 1)[0] or type(error).__name__)


@cache
def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


@cache
def _readers() -> dict[str, Callable[[BytesIO], Image]]:
    try:
        from PIL.BmpImagePlugin import BmpImageFile
        from PIL.GifImagePlugin import GifImageFile
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile
        from PIL.TiffImagePlugin import TiffImageFile
        from PIL.WebPImagePlugin import WebPImageFile
    except ImportError as error:
        raise ImportError("Pictures need Pillow and simplejpeg: pip install 'vicreg[image]'.") from error
    return {
        "jpeg": JpegImageFile,
        "png": PngImageFile,
        "webp": WebPImageFile,
        "gif": GifImageFile,
        "bmp": BmpImageFile,
        "tiff": TiffImageFile,
    }
