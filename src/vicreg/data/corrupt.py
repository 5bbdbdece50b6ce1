"""Samples that cannot be read: the error that names one, and the ledger that counts them and stops a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol, TypeVar

from vicreg._checks import check_number, message, require, shown

Item = TypeVar("Item", covariant=True)
T = TypeVar("T")

MAX_CORRUPT = 0.05
"""A run goes on past so large a share of corrupt samples and stops beyond it."""
MOST_TOLD = 5
"""So many are told of by name; of others the number."""
FEWEST = 1000
"""The share is of so many samples at least where nobody knows how many there are, lest the first few decide."""


class CorruptImage(ValueError):  # noqa: N818  # what it is, as the ledger and the log call it
    """A picture, or another sample, that cannot be read.

    Args:
        name: What its source calls it.
        got: What is wrong with it.
        rule: What it should have been.
        fix: What to do about it, where something can be.
        what: What it is; a shard of pictures can be corrupt as well.

    Attributes:
        name: The same.
        what: The same.

    Example:
        >>> raise CorruptImage("cat.jpg", "an empty file")
        Traceback (most recent call last):
        vicreg.data.corrupt.CorruptImage: the picture 'cat.jpg' must be readable; got an empty file.
    """

    def __init__(self, name: str, got: object, rule: str = "be readable", fix: str = "", what: str = "picture") -> None:
        super().__init__(message(f"the {what} {shown(name)}", rule, got, fix))
        self.name = name
        self.what = what


class Corrupt:
    """Counts samples that could not be read, and stops the run when they are too many. Threads may share one.

    A sample counts once, however often it is met. The share is of all samples where their number is known, so that
    the order in which they are met decides nothing; of a stream, whose length is not, it is of those met so far, or of
    1000 if fewer were.

    Args:
        max_corrupt: The largest share that a run goes on with, 0 to 1.
        of: Number of samples; None for a stream.

    Raises:
        ValueError: ``max_corrupt`` is no share.

    Example:
        >>> ledger = Corrupt(max_corrupt=0.5, of=3)
        >>> ledger.add(CorruptImage("a.jpg", "an empty file"))
        >>> ledger.names, ledger.news()
        (['a.jpg'], ["the picture 'a.jpg' must be readable; got an empty file."])
    """

    def __init__(self, max_corrupt: float = MAX_CORRUPT, of: int | None = None) -> None:
        self.max_corrupt = check_number("max_corrupt", max_corrupt, 0, 1)
        self.of = of
        self._seen = 0
        self._names: dict[str, None] = {}
        self._told: list[str] = []
        self._news: list[str] = []
        self._lock = Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @property
    def names(self) -> list[str]:
        """The corrupt samples, in the order in which they were met."""
        with self._lock:
            return list(self._names)

    def good(self, count: int = 1) -> None:
        """So many more samples were read."""
        with self._lock:
            self._seen += count

    def add(self, error: CorruptImage) -> None:
        """One could not be.

        Raises:
            ValueError: That is one too many.
        """
        with self._lock:
            if error.name not in self._names:
                self._seen += 1
                self._names[error.name] = None
                if len(self._told) < MOST_TOLD:
                    self._told.append(str(error).removesuffix("."))
                    self._news.append(str(error))
            bad, seen, told = len(self._names), self._seen, list(self._told)
        enough = bad <= self.max_corrupt * (self.of or max(seen, FEWEST))
        more = [f"{bad - len(told):,} more"] if bad > len(told) else []
        got = f"{bad:,} of {self.of or seen:,}: {'; '.join([*told, *more])}"
        rule = f"be at most {self.max_corrupt:g} of all (--max-corrupt)"
        nouns = "signals" if error.what == "signal" else "pictures"
        require(enough, f"corrupt {nouns}", rule, got, "Mend or remove them, or raise --max-corrupt.")

    def news(self) -> list[str]:
        """What is wrong with those of the first few that were added since the last call, for the log."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def in_all(self, nouns: str) -> list[str]:
        """How many could not be read, in words; nothing where all could.

        Args:
            nouns: What they are called.

        Example:
            >>> ledger = Corrupt(of=30)
            >>> ledger.add(CorruptImage("a.jpg", "an empty file"))
            >>> ledger.in_all("pictures")
            ['left out in all: 1 of 30 pictures, which could not be read.']
        """
        bad = len(self.names)
        of = f" of {self.of:,}" if self.of else ""
        return [f"left out in all: {bad:,}{of} {nouns}, which could not be read."] if bad else []

    def state(self) -> dict[str, Any]:
        """All that was counted, as JSON can hold it."""
        with self._lock:
            return {"seen": self._seen, "names": list(self._names)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        with self._lock:
            self._seen = int(state["seen"])
            self._names = dict.fromkeys(state["names"])


class Collection(Protocol[Item]):
    """Samples with random access."""

    what: str
    names: Sequence[str]

    def __len__(self) -> int:
        """How many there are."""

    def opened(self, index: int) -> Item:
        """One of them; may raise CorruptImage."""


def readable(source: Collection[Item], index: int, work: Callable[[Item], T], ledger: Corrupt) -> tuple[int, T]:
    """Work on a sample; on the next one that can be read, in the source's order, if it cannot.

    Which one that is depends on the samples alone, so that a run that goes on after an interruption sees what it
    would have seen.

    Args:
        source: The samples.
        index: Which of them.
        work: What to do. May raise CorruptImage.
        ledger: Counts those that cannot be read.

    Returns:
        The index of the sample worked on, and what came of it.

    Raises:
        ValueError: Too many are corrupt for the ledger, or all of them.
    """
    for step in range(len(source)):
        at = (index + step) % len(source)
        if source.names[at] in ledger:
            continue
        try:
            result = work(source.opened(at))
        except CorruptImage as error:
            ledger.add(error)
        else:
            ledger.good()
            return at, result
    raise ValueError(message(source.what, "be readable, one at least", "none that is"))
