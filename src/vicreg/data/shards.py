"""A stream of pictures from many tars, in shuffled epochs, that can stop anywhere and go on there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vicreg._checks import check_integer, listed, require, shown
from vicreg.data.corrupt import Corrupt, CorruptImage
from vicreg.data.tars import Sample, Tar, expanded, is_shard, is_url

Place = tuple[int, int, int]
TOGETHER = 4
SHUFFLED = 1024


def shard_urls(where: str | Path | Sequence[str]) -> list[str]:
    """All shards that a path, folder, URL, pattern or list of these means.

    Args:
        where: ``train.tar``, a folder with such files, ``s3://bucket/train-{000..146}.tar``, or a list of these.

    Returns:
        Paths and URLs, in order.

    Raises:
        FileNotFoundError: A path does not exist. Whether a URL does, its opening shows.
        ValueError: There are none, or one stands twice.

    Example:
        >>> shard_urls("memory://cats-{0..1}.tar")
        ['memory://cats-0.tar', 'memory://cats-1.tar']
    """
    if not isinstance(where, str | Path):
        urls = [url for one in where for url in shard_urls(one)]
    elif Path(where).is_dir() and not is_url(str(where)):
        urls = sorted(str(path) for path in Path(where).iterdir() if is_shard(path.name))
    else:
        urls = [str(where)] if not is_url(str(where)) and Path(where).exists() else expanded(str(where))
    missing = [url for url in urls if not is_url(url) and not Path(url).is_file()]
    what = f"the shards {shown(where if isinstance(where, list) else str(where))}"
    require(not missing, what, "exist", f"no files {listed(missing)}", error=FileNotFoundError)
    require(len(urls) > 0, what, "be one .tar at least", "none")
    twice = [url for url, count in Counter(urls).items() if count > 1]
    require(not twice, what, "be named once each", f"{listed(twice)} more than once")
    return urls


class Shards:
    """An endless stream of a process's share of the pictures.

    In every epoch the shards are put into an order of the seed and the epoch's, the same for all processes, of which
    each takes every ``world``-th shard: so every shard is read by one process. A process reads some of its shards at a
    time, one picture of each in turn, and shuffles them a block at a time. Shards should hold about as many pictures
    each: a process that is through with its own begins its next epoch without waiting for others.

    Args:
        where: What :func:`shard_urls` takes.
        seed: Of the shuffles, 0 or more.
        rank: The process's number.
        world: How many processes there are.
        together: So many shards are open at a time.
        shuffled: Pictures of a block: those, encoded, are in memory.
        ledger: Counts shards that turn out damaged, each as one picture, and then goes on with the next. Pictures that
            turn out damaged are for the caller to count, and to draw another for.

    Raises:
        FileNotFoundError: A shard is not there.
        ValueError: There are fewer shards than processes.

    Example:
        >>> import io, tarfile, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with tarfile.open(Path(folder, "cats.tar"), "w") as tar:
        ...         for name in ("1.jpg", "1.cls", "2.jpg"):
        ...             info = tarfile.TarInfo(name)
        ...             info.size = 1
        ...             tar.addfile(info, io.BytesIO(b"7"))
        ...     stream = Shards(folder)
        ...     drawn = [next(stream) for _ in range(3)]
        ...     stream.close()
        >>> sorted((sample.name[-5:], sample.label) for sample in drawn[:2]), stream.position()
        ([('1.jpg', 7), ('2.jpg', None)], {'epoch': 1, 'group': 0, 'sample': 1})
    """

    def __init__(
        self,
        where: str | Path | Sequence[str],
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        together: int = TOGETHER,
        shuffled: int = SHUFFLED,
        ledger: Corrupt | None = None,
    ) -> None:
        self.urls = shard_urls(where)
        self._seed = check_integer("seed", seed, 0)
        self._world = check_integer("world", world, 1)
        self._rank = check_integer("rank", rank, 0, world - 1)
        self._together = check_integer("together", together, 1)
        self._shuffled = check_integer("shuffled", shuffled, 1)
        fix = "Cut them smaller, or use fewer processes."
        require(len(self.urls) >= world, "shards", f"be at least as many as processes ({world})", len(self.urls), fix)
        self.ledger = Corrupt() if ledger is None else ledger
        self._place = (0, 0, 0)
        self._samples = self._from(*self._place)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        """The next picture.

        Raises:
            OSError: A shard is not there, or cannot be reached any more.
            ValueError: Too many are damaged, or none holds a picture.
        """
        place, sample = next(self._samples)
        self._place = place
        return sample

    def position(self) -> dict[str, int]:
        """Where the next picture is, as JSON can hold it: epoch, group of shards, and number in the group."""
        return dict(zip(("epoch", "group", "sample"), self._place, strict=True))

    def seek(self, position: dict[str, Any]) -> None:
        """Go to where the stream stood; the same pictures then follow as did.

        The group's shards are gone through anew from their beginning: by leaps where they are plain files, in full
        where they come over a network.

        Raises:
            ValueError: It is no position.
        """
        fields = ("epoch", "group", "sample")
        require(set(position) == set(fields), "a stream's position", f"have {listed(fields)}", shown(position))
        epoch, group, sample = (check_integer(field, position[field], 0) for field in fields)
        self.close()
        self._place = (epoch, group, sample)
        self._samples = self._from(epoch, group, sample)

    def close(self) -> None:
        """Close the shards that are open."""
        self._samples.close()

    def _from(self, epoch: int, group: int, skip: int) -> Generator[tuple[Place, Sample], None, None]:
        """The pictures from a place on, each with the place after it."""
        while True:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self.urls))[self._rank :: self._world]
            found = skip > 0 or group > 0
            for number in range(group, -(-len(order) // self._together)):
                chosen = order[number * self._together : (number + 1) * self._together]
                for count, sample in self._of_group((epoch, self._rank, number), [self.urls[i] for i in chosen], skip):
                    found = True
                    yield (epoch, number, count), sample
                skip = 0
            require(found, "the shards", "hold pictures", f"none in {listed(self.urls)}")
            epoch, group = epoch + 1, 0

    def _of_group(self, which: Place, urls: list[str], skip: int) -> Iterator[tuple[int, Sample]]:
        """Shuffled pictures of a few shards, each with the number of those up to it."""
        block: list[Sample] = []
        first = skip - skip % self._shuffled
        count = 0
        for sample in self._in_turn(urls, first):
            count += 1
            if count > first:
                block.append(sample)
            if len(block) == self._shuffled:
                yield from self._mixed(which, count - len(block), block, skip)
                block = []
        yield from self._mixed(which, count - len(block), block, skip)

    def _mixed(self, which: Place, begin: int, block: list[Sample], skip: int) -> Iterator[tuple[int, Sample]]:
        order = np.random.default_rng((self._seed, *which, begin)).permutation(len(block))
        for number, index in enumerate(order, begin + 1):
            if number > skip:
                yield number, block[index]

    def _in_turn(self, urls: list[str], unread: int) -> Iterator[Sample]:
        """One picture of each shard in turn, the first so many without their bytes, until all are through."""
        tars: list[Tar] = []
        count = 0
        try:
            for url in urls:
                try:
                    tars.append(Tar(url))
                except CorruptImage as error:
                    self.ledger.add(error)
            while tars:
                for tar in list(tars):
                    sample = self._next_of(tar, wanted=count >= unread)
                    if sample is None:
                        tars.remove(tar)
                        tar.close()
                    else:
                        count += 1
                        yield sample
        finally:
            for tar in tars:
                tar.close()

    def _next_of(self, tar: Tar, wanted: bool) -> Sample | None:
        try:
            return tar.next(wanted)
        except CorruptImage as error:
            self.ledger.add(error)
            return None


def fingerprint_shards(urls: Sequence[str]) -> str:
    """A hash that recognises shards wherever they lie: of their names, and the sizes of those that are files.

    Args:
        urls: As :func:`shard_urls` gives them.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).
    """
    digest = hashlib.blake2b(digest_size=16)
    for url in urls:
        size = None if is_url(url) else Path(url).stat().st_size
        digest.update(repr((url.replace("\\", "/").rpartition("/")[2], size)).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
