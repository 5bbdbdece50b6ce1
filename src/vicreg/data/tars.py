"""One tar of pictures, as WebDataset lays them out: read in order, from a file or any URL that fsspec knows."""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from vicreg._checks import message, require, shown
from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import PICTURES, Opened, open_picture

SHARDS = (".tar", ".tar.gz", ".tgz")
LABEL = "cls"
MOST_SHARDS = 10**6
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
DAMAGE = (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What the reading of a damaged tar raises; whatever else is raised is about reaching it."""


@dataclass(frozen=True)
class Sample:
    """A picture of a shard.

    Attributes:
        name: The shard's and, after a slash, the picture's in it.
        data: The encoded picture.
        written: What the file ``.cls`` beside it says, None if there is none.
    """

    name: str
    data: bytes
    written: bytes | None = None

    @property
    def label(self) -> int | None:
        """The class, None if there is none.

        Raises:
            ValueError: What is written is no whole number.
        """
        if self.written is None:
            return None
        digits = self.written.strip()
        right = re.fullmatch(rb"-?[0-9]{1,18}", digits) is not None
        got = shown(digits.decode(errors="replace"))
        require(right, f"the label (.{LABEL}) of {shown(self.name)}", "be a whole number", got)
        return int(digits)

    def opened(self) -> Opened:
        """The picture, its header read.

        Raises:
            CorruptImage: It cannot be read.
        """
        return open_picture(self.data, self.name)


class Tar:
    """The pictures of one shard, in their order.

    Files that follow each other and whose names agree up to the first dot after the last slash are one sample; the
    first of them that is a picture by its name is the picture. Samples without one are passed over, and so are links.

    Args:
        url: A path or URL. Whether it is compressed, its first bytes say.

    Raises:
        OSError: It is not there or cannot be reached.
        CorruptImage: It is no tar.
        ImportError: fsspec, or what it needs for such a URL, is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._ahead: tuple[str, str, tarfile.TarInfo] | None = None
        self._file = _open(url)
        # A plain tar on a disk is read by leaps, all else as it comes.
        leaps = not is_url(url) and url.lower().endswith(".tar")
        try:
            with _reading(url):
                self._tar = tarfile.open(fileobj=self._file, mode="r:" if leaps else "r|*")  # noqa: SIM115  # close() closes it
                self._ahead = self._next_file()
        except BaseException:
            self._file.close()
            raise

    def next(self, wanted: bool = True) -> Sample | None:
        """The next picture, without its bytes unless it is wanted; None at the end.

        Raises:
            OSError: The shard cannot be reached any more.
            CorruptImage: It is damaged from here on.
        """
        while self._ahead is not None:
            key, picture, written = self._ahead[0], None, None
            while self._ahead is not None and self._ahead[0] == key:
                _, suffix, member = self._ahead
                with _reading(self._url):
                    if picture is None and f".{suffix.rpartition('.')[2]}" in PICTURES:
                        picture = member.name, self._read(member) if wanted else b""
                    elif suffix == LABEL and wanted:
                        written = self._read(member)
                    self._ahead = self._next_file()
            if picture is not None:
                return Sample(f"{self._url}/{picture[0]}", picture[1], written)
        return None

    def close(self) -> None:
        """Close the file."""
        self._tar.close()
        self._file.close()

    def _next_file(self) -> tuple[str, str, tarfile.TarInfo] | None:
        """The next file, with what its name says: sample and suffix."""
        while (member := self._tar.next()) is not None:
            self._tar.members = []  # type: ignore[attr-defined]  # it would remember them all
            folder, slash, last = member.name.rpartition("/")
            stem, _, suffix = last.partition(".")
            if member.isreg() and stem and suffix:
                return folder + slash + stem, suffix.lower(), member
        return None

    def _read(self, member: tarfile.TarInfo) -> bytes:
        file = self._tar.extractfile(member)
        data = b"" if file is None else file.read()
        if len(data) < member.size:
            raise EOFError("unexpected end of data")
        return data


def every_sample(url: str) -> Iterator[Sample]:
    """The pictures of one shard, in their order, once: to embed them.

    Raises:
        OSError: The shard is not there or cannot be reached.
        CorruptImage: It is no tar, or damaged from here on.
    """
    tar = Tar(url)
    try:
        while (sample := tar.next()) is not None:
            yield sample
    finally:
        tar.close()


def is_url(text: str) -> bool:
    """Whether this names something by a URL, not by a path.

    Example:
        >>> is_url("s3://bucket/a.tar"), is_url("a.tar")
        (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.:-]*://", text) is not None


def is_shard(name: str) -> bool:
    """Whether a file of this name is a tar.

    Example:
        >>> is_shard("train-000.tar"), is_shard(".tar"), is_shard("train.csv")
        (True, False, False)
    """
    return name.lower().endswith(SHARDS) and not name.startswith(".")


def expanded(pattern: str) -> list[str]:
    """All names that a pattern in braces stands for, as a shell would expand it, in its order.

    Args:
        pattern: With ``{000..146}`` for numbers (of as many digits as the first, at least) or ``{a,b}`` for
            alternatives; braces of any other content stay.

    Raises:
        ValueError: They are more than a million.

    Example:
        >>> expanded("{train,val}-{08..10}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar', 'val-09.tar', 'val-10.tar']
    """
    names = [""]
    rest = pattern
    while (found := BRACES.search(rest)) is not None:
        choices = _choices(pattern, found[1])
        before = rest[: found.start()]
        count = len(names) * len(choices)
        require(count <= MOST_SHARDS, _pattern(pattern), f"mean at most {MOST_SHARDS:,} shards", f"{count:,}")
        names = [name + before + choice for name in names for choice in choices]
        rest = rest[found.end() :]
    return [name + rest for name in names]


def _choices(pattern: str, inside: str) -> list[str]:
    ends = RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(ends[1]), int(ends[2])
    require(abs(last - first) < MOST_SHARDS, _pattern(pattern), f"mean at most {MOST_SHARDS:,} shards", shown(inside))
    padded = any(end.startswith("0") and end != "0" for end in ends.groups())
    digits = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [str(number).zfill(digits) for number in range(first, last + step, step)]


def _pattern(pattern: str) -> str:
    return f"the pattern {shown(pattern)}"


def _open(url: str) -> IO[bytes]:
    if not is_url(url):
        with _reaching(url):
            return Path(url).open("rb")
    try:
        import fsspec
    except ImportError as error:
        raise ImportError("Shards by URL need fsspec: pip install 'vicreg[image]'.") from error
    with _reaching(url):
        return cast(IO[bytes], fsspec.open(url, "rb").open())


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Tell a damaged shard, which is passed over, from one out of reach, which stops the run."""
    with _reaching(url):
        try:
            yield
        except DAMAGE as error:
            raise CorruptImage(url, _said(error), "be a whole .tar of pictures", what="shard") from error


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    what = f"the shard {shown(url)}"
    fix = "Nothing is lost: bring it back and go on from the last checkpoint."
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(message(what, "exist", "no such file", fix)) from error
    except (CorruptImage, ImportError):
        raise
    except Exception as error:  # every file system has errors of its own
        raise OSError(message(what, "be readable", _said(error), fix)) from error


def _said(error: Exception) -> str:
    return shown(str(error).strip().split("\n", 1)[0] or type(error).__name__)
